/** One answer of a model, as the playground asks for it. */
import { ApiError, call, lines } from "./api"

export interface Settings {
  readonly system: string
  readonly temperature: string
  readonly topP: string
  readonly maxTokens: string
  readonly seed: string
  readonly think: string
  readonly tools: string
  readonly schema: string
}

export interface Said {
  readonly role: "user" | "assistant"
  readonly text: string
  readonly images?: ReadonlyArray<string>
}

export interface Answer {
  readonly text: string
  readonly thinking: string
  readonly calls: ReadonlyArray<{ readonly name: string; readonly input: string }>
  readonly state: "waiting" | "streaming" | "done" | "stopped" | "failed"
  readonly error: string
  readonly model: string
  readonly server: string
  readonly reason: string
  readonly attempts: number
  readonly firstToken: number | undefined
  readonly took: number
  readonly promptTokens: number | undefined
  readonly tokens: number | undefined
  readonly finish: string
  /** The session that it was stored in; empty: none. */
  readonly session: string
  /** The session that was asked in is not there any more. */
  readonly lost: boolean
  /** It could not be stored in its session. */
  readonly unstored: boolean
}

/** A question and its answers: one of each model that was asked. */
export interface Turn {
  readonly text: string
  readonly images: ReadonlyArray<string>
  readonly answers: ReadonlyArray<Answer>
}

export const begun: Answer = {
  text: "",
  thinking: "",
  calls: [],
  state: "waiting",
  error: "",
  model: "",
  server: "",
  reason: "",
  attempts: 0,
  firstToken: undefined,
  took: 0,
  promptTokens: undefined,
  tokens: undefined,
  finish: "",
  session: "",
  lost: false,
  unstored: false
}

/** How the gateway reports at the end of a stream that an answer could not be stored. */
const notStored = /^: x-aicortex-warning: .*\bsession_not_stored\b/i

/** A longer answer is not kept, in characters. */
const maxText = 2_000_000

const parsed = (what: string, text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new Error(`${what} is not JSON: ${error instanceof Error ? error.message : error}`)
  }
}

/** The body of `/v1/chat/completions`. Fails where what was typed is not JSON. */
export const bodyOf = (model: string, settings: Settings, said: ReadonlyArray<Said>): Record<string, unknown> => {
  const messages: Array<object> = settings.system.trim() === "" ? [] : [{ role: "system", content: settings.system }]
  for (const { images = [], role, text } of said) {
    messages.push({
      role,
      content:
        images.length === 0
          ? text
          : [{ type: "text", text }, ...images.map((url) => ({ type: "image_url", image_url: { url } }))]
    })
  }
  const number = (text: string) => (text.trim() === "" ? undefined : Number(text))
  const schema = settings.schema.trim() === "" ? undefined : parsed("The JSON schema", settings.schema)
  const tools = settings.tools.trim() === "" ? undefined : parsed("The list of tools", settings.tools)
  const body = {
    model,
    messages,
    stream: true,
    stream_options: { include_usage: true },
    temperature: number(settings.temperature),
    top_p: number(settings.topP),
    max_tokens: number(settings.maxTokens),
    seed: number(settings.seed),
    reasoning_effort: settings.think === "" ? undefined : settings.think,
    tools,
    response_format:
      schema === undefined ? undefined : { type: "json_schema", json_schema: { name: "answer", schema, strict: true } }
  }
  return Object.fromEntries(Object.entries(body).filter(([, value]) => value !== undefined))
}

/**
 * Streams an answer; `tell` is called as it grows, at most once per frame. `headers` say which conversation it belongs
 * to. Gives how it ended.
 */
export const ask = async (
  body: object,
  headers: Record<string, string>,
  signal: AbortSignal,
  tell: (answer: Answer) => void
): Promise<Answer> => {
  let answer = begun
  let planned = false
  const began = performance.now()
  const change = (part: Partial<Answer>) => {
    answer = { ...answer, ...part, took: performance.now() - began }
    if (planned) return
    planned = true
    requestAnimationFrame(() => {
      planned = false
      tell(answer)
    })
  }
  const calls: Array<{ name: string; input: string }> = []
  try {
    const response = await call("/v1/chat/completions", {
      method: "POST",
      body: JSON.stringify(body),
      headers,
      signal
    })
    const header = (name: string) => response.headers.get(`x-aicortex-${name}`) ?? ""
    change({
      server: header("server"),
      reason: header("reason"),
      attempts: Number(header("attempts")),
      session: header("session")
    })
    await lines(response, (line) => {
      if (notStored.test(line)) change({ unstored: true })
      if (!line.startsWith("data: ") || line === "data: [DONE]") return
      const event = JSON.parse(line.slice(6))
      if (event.error !== undefined) throw new Error(event.error.message ?? String(event.error))
      if (typeof event.model === "string") answer = { ...answer, model: event.model }
      if (event.usage) change({ promptTokens: event.usage.prompt_tokens, tokens: event.usage.completion_tokens })
      const [choice] = event.choices ?? []
      if (choice === undefined) return
      const { content, reasoning_content: thinking, tool_calls } = choice.delta ?? {}
      for (const { function: made, index = 0 } of tool_calls ?? []) {
        const known = calls[index] ?? { name: "", input: "" }
        calls[index] = { name: known.name + (made?.name ?? ""), input: known.input + (made?.arguments ?? "") }
      }
      const first =
        content || thinking || tool_calls ? (answer.firstToken ?? performance.now() - began) : answer.firstToken
      if (answer.text.length + answer.thinking.length > maxText)
        throw new Error("The answer is too long for this page.")
      change({
        state: "streaming",
        firstToken: first,
        text: answer.text + (content ?? ""),
        thinking: answer.thinking + (thinking ?? ""),
        calls: calls.filter((one) => one !== undefined).map((one) => ({ ...one })),
        finish: choice.finish_reason ?? answer.finish
      })
    })
    change({ state: "done" })
  } catch (error) {
    if (signal.aborted) change({ state: "stopped" })
    else {
      const lost = error instanceof ApiError && error.status === 404 && "x-aicortex-session" in headers
      change({ state: "failed", lost, error: error instanceof Error ? error.message : String(error) })
    }
  }
  return answer
}

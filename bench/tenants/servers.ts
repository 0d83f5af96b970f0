/**
 * Servers like real ones in what they take at once and how long they take for it, in a process of their own: half of them
 * Ollama, half OpenAI-compatible.
 */
import { createServer, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"

export const model = "m:8b"

/** Requests that a server answers at the same time; the others wait in its line. */
const slots = 4
/** Prompt tokens per second, milliseconds before any first token, and between tokens. */
const prefill = 4_000
const latency = 80
const pace = 20
/** What an answer has in tokens, where the request does not ask for less. */
const length = 24

/** A token is about so many bytes of a body. */
const tokenBytes = 4

/** What a server says to a question: every byte of an answer can be checked. */
export const tokensOf = (question: string): ReadonlyArray<string> =>
  Array.from({ length }, (_, at) => ` ${question.slice(0, 12)}.${at}`)

/** A prompt that begins with this is itself the reply, at once. */
export const echo = "say:"

interface Job {
  readonly question: string
  readonly most: number
  readonly prompt: number
}

/** Runs what is given to it, at most `slots` at once. */
class Line {
  private busy = 0
  private readonly waiting: Array<() => void> = []

  async run(job: () => Promise<void>): Promise<void> {
    if (this.busy >= slots) await new Promise<void>((resolve) => this.waiting.push(resolve))
    else this.busy++
    try {
      await job()
    } finally {
      const next = this.waiting.shift()
      if (next === undefined) this.busy--
      else next()
    }
  }
}

/** Ends early where the client leaves. */
const pause = (response: ServerResponse, time: number): Promise<void> =>
  new Promise((resolve) => {
    if (response.destroyed) return resolve()
    const over = () => {
      clearTimeout(timer)
      response.off("close", over)
      resolve()
    }
    const timer = setTimeout(over, time)
    response.on("close", over)
  })

/** Gives the tokens one by one. */
const answer = async (response: ServerResponse, job: Job, give: (token: string) => void): Promise<number> => {
  if (job.question.startsWith(echo)) {
    const text = job.question.slice(echo.length)
    give(text.slice(0, text.length >> 1))
    give(text.slice(text.length >> 1))
    return 2
  }
  await pause(response, latency + (job.prompt / prefill) * 1_000)
  const tokens = tokensOf(job.question).slice(0, job.most)
  // Servers do not beat in time.
  const own = pace * (0.6 + Math.random() * 0.8)
  for (const token of tokens) {
    if (response.destroyed) break
    give(token)
    await pause(response, own)
  }
  return tokens.length
}

const json = (response: ServerResponse, value: unknown): void => {
  if (response.destroyed) return
  response.setHeader("content-type", "application/json")
  response.end(JSON.stringify(value))
}

const head = { id: "c", created: 1, model }

/** Answers a chat as Ollama does, or as OpenAI's API has it. */
const chat = async (response: ServerResponse, path: string, body: ReturnType<typeof JSON.parse>, prompt: number) => {
  const first = body.messages?.find(({ role }: { readonly role: string }) => role === "user")?.content
  // Asked to mend its reply, it says the same again.
  const says = typeof first === "string" && first.startsWith(echo)
  const last = (says ? first : body.messages?.at(-1)?.content) ?? body.prompt ?? ""
  const question = typeof last === "string" ? last : JSON.stringify(last)
  const most = body.options?.num_predict ?? body.max_tokens ?? body.max_completion_tokens ?? length
  const job = { question, most, prompt }
  const ollama = path.startsWith("/api/")
  const streams = ollama ? body.stream !== false : body.stream === true
  const pieces: Array<string> = []
  const line = (content: string, done: boolean) => ({
    model,
    created_at: "2026-01-01T00:00:00Z",
    ...(path === "/api/generate" ? { response: content } : { message: { role: "assistant", content } }),
    done,
    ...(done ? { done_reason: "stop", prompt_eval_count: prompt, eval_count: pieces.length } : {})
  })
  const event = (delta: object, finish_reason: string | null) =>
    `data: ${JSON.stringify({ ...head, object: "chat.completion.chunk", choices: [{ index: 0, delta, finish_reason }] })}\n\n`
  if (streams) response.setHeader("content-type", ollama ? "application/x-ndjson" : "text/event-stream")
  const count = await answer(response, job, (token) => {
    pieces.push(token)
    if (streams) response.write(ollama ? `${JSON.stringify(line(token, false))}\n` : event({ content: token }, null))
  })
  if (response.destroyed) return
  const usage = { prompt_tokens: prompt, completion_tokens: count, total_tokens: prompt + count }
  if (ollama) {
    if (streams) response.end(`${JSON.stringify(line("", true))}\n`)
    else json(response, line(pieces.join(""), true))
  } else if (streams) {
    const end = `data: ${JSON.stringify({ ...head, object: "chat.completion.chunk", choices: [], usage })}\n\n`
    response.end(`${event({}, "stop")}${end}data: [DONE]\n\n`)
  } else {
    const message = { role: "assistant", content: pieces.join("") }
    const choices = [{ index: 0, message, finish_reason: "stop" }]
    json(response, { ...head, object: "chat.completion", usage, choices })
  }
}

const listen = (): Promise<number> =>
  new Promise((resolve) => {
    const line = new Line()
    const server = createServer((request, response) => {
      const parts: Array<Buffer> = []
      request.on("data", (part: Buffer) => parts.push(part))
      request.on("end", () => {
        const path = request.url ?? ""
        if (path === "/v1/models") return json(response, { object: "list", data: [{ id: model, object: "model" }] })
        if (path === "/api/version") return json(response, { version: "0.13.0" })
        if (path === "/api/ps")
          return json(response, { models: [{ name: model, model, size: 1, size_vram: 1, context_length: 131_072 }] })
        if (path === "/api/tags")
          return json(response, { models: [{ name: model, model, size: 1, digest: "d", details: {} }] })
        if (path === "/api/show") {
          const model_info = { "general.architecture": "llama", "llama.context_length": 131_072 }
          return json(response, { details: {}, model_info, capabilities: ["completion", "tools"] })
        }
        const length = parts.reduce((sum, part) => sum + part.length, 0)
        if (length === 0) {
          response.statusCode = 404
          return response.end()
        }
        const body = JSON.parse(Buffer.concat(parts).toString("utf8"))
        parts.length = 0
        void line.run(() => chat(response, path, body, Math.ceil(length / tokenBytes)))
      })
    })
    server.listen(0, "127.0.0.1", () => resolve((server.address() as AddressInfo).port))
  })

/** Starts `count` servers and tells the parent process where they are. */
export const run = async (count: number): Promise<void> => {
  process.on("disconnect", () => process.exit())
  const ports = await Promise.all(Array.from({ length: count }, listen))
  process.send?.(ports.map((port, at) => `http://127.0.0.1:${port}${at % 2 === 0 ? "" : "/v1"}`))
}

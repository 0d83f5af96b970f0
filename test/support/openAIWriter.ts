import type { Exchange, FakeOptions } from "./harness.js"
import { goJson } from "./ollamaChecks.js"
import type { Flavour, Problem } from "./openAIChecks.js"
import type { Frame } from "./output.js"
import { type Json, likelihood, type Script } from "./script.js"

/** Options of a fake server that speaks the OpenAI API. */
export interface FakeOpenAIOptions extends FakeOptions {
  /** Whose habits it has; "openai" by default. */
  readonly flavour?: Flavour | undefined
  /** Whether it has `/v1/completions` too. True by default. */
  readonly completions?: boolean | undefined
  /** The field of reasoning deltas; `reasoning` for Ollama, else `reasoning_content`. */
  readonly reasoningField?: "reasoning" | "reasoning_content" | undefined
}

/** What the fake says when it fails for no reason of its own. */
export const serverError = "The server had an error while processing your request. Sorry about that!"

const types: Readonly<Record<Flavour, (status: number) => string>> = {
  openai: (status) => (status === 429 ? "requests" : status >= 500 ? "server_error" : "invalid_request_error"),
  llamacpp: (status) =>
    ({
      400: "invalid_request_error",
      401: "authentication_error",
      403: "permission_error",
      404: "not_found_error",
      501: "not_supported_error",
      503: "unavailable_error"
    })[status] ?? "server_error",
  vllm: (status) =>
    ({ 400: "BadRequestError", 401: "Unauthorized", 404: "NotFoundError" })[status] ?? "InternalServerError",
  ollama: (status) => (status === 400 ? "invalid_request_error" : status === 404 ? "not_found_error" : "api_error")
}

/** The body of an error as a flavour writes it. */
export const errorBody = (flavour: Flavour, { status, message, type, param, code, extra }: Problem): Json => {
  const kind = type ?? types[flavour](status)
  if (flavour === "llamacpp") return { error: { code: status, message, type: kind, ...extra } }
  if (flavour === "vllm") return { error: { message, type: kind, param: param ?? null, code: status } }
  const named = code ?? (status === 429 && flavour === "openai" ? "rate_limit_exceeded" : null)
  return { error: { message, type: kind, param: param ?? null, code: named } }
}

/** Writes one answer as a flavour does: the events of a stream, a whole body, or the error inside a stream. */
export function makeWriter(
  x: Exchange<FakeOptions>,
  options: FakeOpenAIOptions,
  flavour: Flavour,
  model: string,
  said: Script,
  loadMs: number
) {
  const encode = flavour === "ollama" ? goJson : (value: Json) => JSON.stringify(value)
  const started = performance.now()
  const id = flavour === "ollama" ? `chatcmpl-${(x.n * 37) % 1000}` : `chatcmpl-${Math.random().toString(36).slice(2)}`
  const created = Math.floor(Date.now() / 1000)
  const reasoning = options.reasoningField ?? (flavour === "ollama" ? "reasoning" : "reasoning_content")
  const finish = said.toolCalls.length > 0 ? "tool_calls" : said.finish
  const usage = {
    prompt_tokens: said.promptTokens,
    completion_tokens: said.completionTokens,
    total_tokens: said.promptTokens + said.completionTokens,
    ...(flavour === "openai" ? { completion_tokens_details: { reasoning_tokens: said.thinking.length } } : {})
  }
  const common = (object: string) => ({
    id,
    object,
    created,
    model,
    ...(flavour === "vllm" ? {} : { system_fingerprint: fingerprints[flavour] }),
    ...(flavour === "openai" ? { service_tier: "default" } : {})
  })
  const timings = () => {
    const predicted_ms = Math.max(performance.now() - started, 0.001)
    const prompt_ms = Math.max(loadMs, 0.001)
    return {
      cache_n: 0,
      prompt_n: said.promptTokens,
      prompt_ms,
      prompt_per_token_ms: prompt_ms / said.promptTokens,
      prompt_per_second: (1000 * said.promptTokens) / prompt_ms,
      predicted_n: said.completionTokens,
      predicted_ms,
      predicted_per_token_ms: predicted_ms / Math.max(1, said.completionTokens),
      predicted_per_second: (1000 * said.completionTokens) / predicted_ms
    }
  }
  const calls = said.toolCalls.map((call, i) => ({
    id: `call_${id.slice(9)}${i}`,
    name: call.name,
    arguments: JSON.stringify(call.arguments)
  }))
  const ended = (index: number, fields: Json, finish_reason: string | null) => ({
    index,
    ...fields,
    ...(flavour === "openai" || flavour === "vllm" ? { logprobs: null } : {}),
    finish_reason,
    ...(flavour === "vllm" && finish_reason !== null ? { stop_reason: said.stoppedBy ?? null } : {})
  })
  const count = (body: Json) => (flavour === "ollama" ? 1 : (body.n ?? 1))

  const frames = (body: Json): ReadonlyArray<Frame> => {
    const out: Array<Frame> = []
    const withUsage = body.stream_options?.include_usage === true
    const event = (choices: ReadonlyArray<Json>, extra: Json = {}, token = false) =>
      out.push({
        text: `data: ${encode({
          ...common("chat.completion.chunk"),
          choices,
          ...(withUsage && flavour === "openai" ? { usage: null } : {}),
          ...extra
        })}\n\n`,
        token
      })
    const each = (delta: Json, token = true) => {
      const full = flavour === "ollama" ? { role: "assistant", content: "", ...delta } : delta
      for (let i = 0; i < count(body); i++) event([ended(i, { delta: full }, null)], {}, token)
    }
    if (flavour === "openai") each({ role: "assistant", content: "", refusal: null }, false)
    if (flavour === "llamacpp") each({ role: "assistant", content: null }, false)
    if (flavour === "vllm") each({ role: "assistant", content: "" }, false)
    for (const thought of said.thinking) each({ [reasoning]: thought })
    for (const token of said.tokens) {
      if (body.logprobs !== true) each({ content: token })
      else {
        const likely = { content: [likelihood(token, body.top_logprobs)] }
        event([{ ...ended(0, { delta: { content: token } }, null), logprobs: likely }], {}, true)
      }
    }
    for (const [index, call] of calls.entries()) {
      const { id, name } = call
      if (flavour === "ollama") {
        each({ tool_calls: [{ id, index, type: "function", function: { name, arguments: call.arguments } }] })
        continue
      }
      each({ tool_calls: [{ index, id, type: "function", function: { name, arguments: "" } }] })
      for (const piece of call.arguments.match(/[\s\S]{1,5}/gu) ?? []) {
        each({ tool_calls: [{ index, function: { arguments: piece } }] })
      }
    }
    const measured = () => (flavour === "llamacpp" ? { timings: timings() } : {})
    for (let i = 0; i < count(body); i++) {
      event([ended(i, { delta: flavour === "vllm" ? { content: "" } : {} }, finish)], withUsage ? {} : measured())
    }
    if (withUsage) event([], { usage, ...measured() })
    out.push({ text: "data: [DONE]\n\n", token: false })
    return out
  }

  /** The body without streaming; with `cutAfter`, as Ollama leaves it when it gives up silently. */
  const whole = (body: Json, cutAfter?: number): Json => {
    const cut = cutAfter !== undefined
    const tokens = cut ? said.tokens.slice(0, cutAfter) : said.tokens
    const content = tokens.length === 0 && calls.length > 0 ? (flavour === "ollama" ? "" : null) : tokens.join("")
    const message = {
      role: "assistant",
      content,
      ...(flavour === "openai" ? { refusal: null, annotations: [] } : {}),
      ...(said.thinking.length > 0 ? { [reasoning]: said.thinking.join("") } : {}),
      ...(calls.length > 0 || flavour === "vllm"
        ? {
            tool_calls: calls.map(({ id, ...called }, index) => ({
              id,
              ...(flavour === "ollama" ? { index } : {}),
              type: "function",
              function: called
            }))
          }
        : {})
    }
    const none = { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 }
    return {
      ...common("chat.completion"),
      choices: Array.from({ length: count(body) }, (_, i) => ended(i, { message }, cut ? null : finish)),
      usage: cut ? none : usage,
      ...(flavour === "llamacpp" ? { timings: timings() } : {})
    }
  }

  /** What the server writes when it fails after the headers. */
  const errorEvent = (message = serverError): string => {
    if (flavour === "ollama") {
      const bogus = { ...common("chat.completion.chunk"), model: "" }
      const delta = { role: "assistant", content: "" }
      return `data: ${encode({ ...bogus, choices: [{ index: 0, delta, finish_reason: null }] })}\n\n`
    }
    const event = `data: ${encode(errorBody(flavour, { status: 500, message }))}\n\n`
    return flavour === "vllm" ? `${event}data: [DONE]\n\n` : event
  }

  return { frames, whole, errorEvent }
}

/** How each flavour says which build has answered. */
export const fingerprints = { openai: "fp_560af6e559", llamacpp: "b6800-5cca254", ollama: "fp_ollama" }

import { checkAnthropicBody, type Rejection, signatureOf, textOfContent } from "./anthropicChecks.js"
import { type Dialect, type Exchange, type FakeOptions, type FakeServer, head, startServer } from "./harness.js"
import { modelsOf } from "./models.js"
import { type Frame, loadModel, sendBody, sendStream } from "./output.js"
import { type Json, type Script, script, trailingAssistant } from "./script.js"

/** Options of a fake server that speaks Anthropic's Messages API. */
export interface FakeAnthropicOptions extends FakeOptions {
  /** Whether its models continue an answer that was begun. True by default, as before Claude 4.6. */
  readonly prefill?: boolean | undefined
  /** Prompt tokens that are read from, and written to, its cache. */
  readonly cached?: { readonly read: number; readonly written: number } | undefined
  /** The stop reason that is told instead of the real one. */
  readonly stopReason?: string | undefined
  /** Whether each event is followed by pings, events, blocks and deltas that no client knows. */
  readonly noisy?: boolean | undefined
  /** Whether events are padded with spaces, as the API does to hide the length of tokens. */
  readonly padded?: boolean | undefined
  /** Whether an answer comes as a whole, though a stream was asked for. */
  readonly whole?: boolean | undefined
  /** The most models on a page of the list. */
  readonly pageSize?: number | undefined
  /** The type of the error that a stream ends with; `overloaded_error` by default. */
  readonly errorType?: string | undefined
  /** Thinking that is sent encrypted, before the answer. */
  readonly redacted?: string | undefined
}

/** Starts a fake server of Anthropic's API. It has the model `claude-sonnet-4-5` unless told otherwise. */
export const startFakeAnthropic = (options: FakeAnthropicOptions = {}): Promise<FakeServer<FakeAnthropicOptions>> =>
  startServer(anthropic, { models: ["claude-sonnet-4-5"], ...options })

type X = Exchange<FakeAnthropicOptions>

const types: Readonly<Record<number, string>> = {
  400: "invalid_request_error",
  401: "authentication_error",
  402: "billing_error",
  403: "permission_error",
  404: "not_found_error",
  413: "request_too_large",
  429: "rate_limit_error",
  500: "api_error",
  504: "timeout_error",
  529: "overloaded_error"
}

const words: Readonly<Record<string, string>> = {
  authentication_error: "invalid x-api-key",
  permission_error: "Your API key does not have permission to use the specified resource.",
  not_found_error: "Not found",
  request_too_large: "Request exceeds the maximum size",
  rate_limit_error: "This request would exceed your organization's rate limit of 50 requests per minute.",
  api_error: "Internal server error",
  overloaded_error: "Overloaded"
}

const requestId = () => `req_${Math.random().toString(36).slice(2)}`

const failWith = (x: X, { status, type, message }: Rejection, headers: Readonly<Record<string, string>> = {}) => {
  const request_id = requestId()
  head(x, status, { "content-type": "application/json", "request-id": request_id, ...headers })
  x.res.end(JSON.stringify({ type: "error", error: { type, message }, request_id }))
}

const anthropic: Dialect<FakeAnthropicOptions> = {
  protocol: "anthropic",
  kindOf: (_, path) =>
    path === "/v1/messages" ? "chat" : path === "/v1/models" ? "tags" : path === "/" ? "discovery" : "other",
  fail: (x, status, headers) => {
    const type = types[status] ?? "api_error"
    failWith(x, { status, type, message: words[type] ?? type }, headers)
  },
  modelNotFound: (x) => noModel(x),
  handle: (x) => handle(x)
}

const noModel = (x: X) =>
  failWith(x, { status: 404, type: "not_found_error", message: `model: ${x.record.body?.model}` })

const handle = async (x: X): Promise<void> => {
  const { method, path, body } = x.record
  const { options } = x
  const { "anthropic-version": version, "x-api-key": key } = x.req.headers
  if (options.apiKey !== undefined && key !== options.apiKey) {
    const message = key === undefined ? "x-api-key header is required" : "invalid x-api-key"
    return failWith(x, { status: 401, type: "authentication_error", message })
  }
  if (path === "/v1/models" && method === "GET") return models(x)
  if (path !== "/v1/messages" || method !== "POST") return anthropic.fail(x, 404)
  if (version !== "2023-06-01") {
    return failWith(x, { status: 400, type: "invalid_request_error", message: "anthropic-version: header is required" })
  }
  if (body === undefined) {
    return failWith(x, { status: 400, type: "invalid_request_error", message: "The request body is not valid JSON" })
  }
  const rejected = checkAnthropicBody(body, options.prefill !== false)
  if (rejected !== undefined) return failWith(x, rejected)
  const model = modelsOf(options).find(({ name }) => name === body.model)
  if (model === undefined) return noModel(x)
  return answer(x, body)
}

/** A page of the list. */
const models = (x: X): Promise<void> => {
  const query = new URLSearchParams(x.record.query)
  const limit = Math.min(Number(query.get("limit") ?? 20), x.options.pageSize ?? 1000)
  const all = modelsOf(x.options)
  const after = query.get("after_id")
  const from = after === null ? 0 : all.findIndex(({ name }) => name === after) + 1
  const page = all.slice(from, from + limit)
  const supported = (capabilities: ReadonlyArray<string>, name: string) => ({ supported: capabilities.includes(name) })
  const data = page.map(({ capabilities, contextLength, name }) => ({
    type: "model",
    id: name,
    display_name: name,
    created_at: "2026-01-01T00:00:00Z",
    lifecycle: "active",
    max_input_tokens: contextLength,
    max_tokens: 64_000,
    capabilities: { image_input: supported(capabilities, "vision"), thinking: supported(capabilities, "thinking") }
  }))
  const has_more = from + limit < all.length
  return sendBody(
    x,
    200,
    "application/json",
    JSON.stringify({ data, has_more, first_id: page[0]?.name ?? null, last_id: page.at(-1)?.name ?? null })
  )
}

const answer = async (x: X, body: Json): Promise<void> => {
  const { options } = x
  const messages = body.messages.map(({ role, content }: Json) => ({ role, content: textOfContent(content) }))
  const said = script(options.reply, { ...body, messages }, x.n, {
    maxTokens: body.max_tokens,
    stop: body.stop_sequences ?? [],
    partial: trailingAssistant(messages),
    continuation: options.continuation ?? "continue",
    trims: options.trims,
    think: body.thinking?.type === "enabled" || body.thinking?.type === "adaptive"
  })
  if (!(await loadModel(x, body.model))) return
  const made = message(x, body, said)
  if (body.stream === true && options.whole !== true) {
    await sendStream(x, "text/event-stream; charset=utf-8", frames(x, made, said), {
      error: (message) => errorEvent(options.errorType, message),
      malformed: 'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"te\n\n'
    })
    return
  }
  x.record.tokensSent = said.completionTokens
  await sendBody(x, 200, "application/json", JSON.stringify(made))
}

const errorEvent = (type = "overloaded_error", message = words[type] ?? type): string =>
  `event: error\ndata: ${JSON.stringify({ type: "error", error: { details: null, type, message }, request_id: requestId() })}\n\n`

/** The whole message; its pieces are taken from the script. */
const message = (x: X, body: Json, said: Script): Json => {
  const { cached, redacted, stopReason } = x.options
  const thinking = said.thinking.join("")
  const { read = 0, written = 0 } = cached ?? {}
  const reason =
    said.toolCalls.length > 0
      ? "tool_use"
      : said.finish === "length"
        ? "max_tokens"
        : said.stoppedBy === undefined
          ? "end_turn"
          : "stop_sequence"
  return {
    model: body.model,
    id: `msg_${x.n}`,
    type: "message",
    role: "assistant",
    content: [
      ...(redacted === undefined ? [] : [{ type: "redacted_thinking", data: redacted }]),
      ...(thinking === "" ? [] : [{ type: "thinking", thinking, signature: signatureOf(thinking) }]),
      ...(said.tokens.length === 0 ? [] : [{ type: "text", text: said.tokens.join("") }]),
      ...said.toolCalls.map((call, i) => ({
        type: "tool_use",
        id: `toolu_${x.n}_${i}`,
        name: call.name,
        input: call.arguments
      }))
    ],
    stop_reason: stopReason ?? reason,
    stop_sequence: said.stoppedBy ?? null,
    stop_details: null,
    usage: {
      input_tokens: said.promptTokens - read - written,
      cache_creation_input_tokens: written,
      cache_read_input_tokens: read,
      cache_creation: { ephemeral_5m_input_tokens: written, ephemeral_1h_input_tokens: 0 },
      output_tokens: said.completionTokens,
      output_tokens_details: { thinking_tokens: said.thinking.length },
      service_tier: "standard"
    }
  }
}

const noise = (index: number): ReadonlyArray<Json> => [
  { type: "ping" },
  { type: "content_block_weather", index, sun: true },
  {
    type: "content_block_delta",
    index,
    delta: { type: "weather_delta", text: "never said", thinking: "never thought" }
  }
]

const frames = (x: X, made: Json, said: Script): ReadonlyArray<Frame> => {
  const out: Array<Frame> = []
  const event = (value: Json, token = false) => {
    const text = JSON.stringify(value)
    const padding = x.options.padded === true ? " ".repeat((out.length * 7) % 11) : ""
    out.push({ text: `event: ${value.type}\ndata: ${text.slice(0, -1)}${padding}}\n\n`, token })
  }
  const { content, stop_reason, stop_sequence, usage, ...rest } = made
  event({
    type: "message_start",
    message: {
      ...rest,
      content: [],
      stop_reason: null,
      stop_sequence: null,
      usage: { ...usage, output_tokens: 1, output_tokens_details: undefined }
    }
  })
  const begin = (index: number, content_block: Json) => {
    event({ type: "content_block_start", index, content_block })
    if (index === 0) out.push({ text: 'event: ping\ndata: {"type": "ping"}\n\n', token: false })
  }
  for (const [index, block] of content.entries()) {
    const delta = (delta: Json, token = true) => {
      event({ type: "content_block_delta", index, delta }, token)
      if (x.options.noisy === true) for (const one of noise(index)) event(one)
    }
    switch (block.type) {
      case "thinking":
        begin(index, { type: "thinking", thinking: "", signature: "" })
        for (const thinking of said.thinking) delta({ type: "thinking_delta", thinking })
        delta({ type: "signature_delta", signature: block.signature }, false)
        break
      case "text":
        begin(index, { type: "text", text: "" })
        for (const text of said.tokens) delta({ type: "text_delta", text })
        break
      case "tool_use":
        begin(index, { ...block, input: {} })
        delta({ type: "input_json_delta", partial_json: "" }, false)
        for (const partial_json of JSON.stringify(block.input).match(/[\s\S]{1,5}/gu) ?? []) {
          delta({ type: "input_json_delta", partial_json })
        }
        break
      default:
        begin(index, block)
    }
    event({ type: "content_block_stop", index })
    if (x.options.noisy === true) {
      const server = { type: "server_tool_use", id: "srvtoolu_1", name: "web_search", input: {} }
      event({ type: "content_block_start", index: 90 + index, content_block: server })
      event({ type: "content_block_stop", index: 90 + index })
    }
  }
  event({ type: "message_delta", delta: { stop_reason, stop_sequence, stop_details: null }, usage })
  event({ type: "message_stop" })
  return out
}

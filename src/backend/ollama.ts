/**
 * Ollama's own API: `POST /api/chat`, streamed as newline-delimited JSON.
 *
 * @since 0.1.0
 */
import type { Backend, Finish, Sink } from "../Backend.js"
import type { Usage } from "../ChatEvent.js"
import type { ChatRequest } from "../ChatRequest.js"
import * as Lines from "../internal/lines.js"
import * as Template from "../internal/template.js"
import * as Message from "../Message.js"
import type { Server } from "../Server.js"
import type { Service as Transport } from "../Transport.js"
import * as Http from "./http.js"
import * as Raw from "./ollamaRaw.js"
import * as Resume from "./resume.js"

// =============================================================================
// request
// =============================================================================

const message = (message: Message.Message): object => {
  switch (message.role) {
    case "system":
    case "developer":
      return { role: "system", content: message.content }
    case "user": {
      const images = Message.images(message)
      return images.length === 0
        ? { role: "user", content: Message.text(message) }
        : {
            role: "user",
            content: Message.text(message),
            images: images.map((image) => ("data" in image ? image.data : ""))
          }
    }
    case "assistant":
      return {
        role: "assistant",
        content: message.content,
        ...(message.thinking === undefined ? {} : { thinking: message.thinking }),
        ...(message.toolCalls === undefined || message.toolCalls.length === 0
          ? {}
          : {
              tool_calls: message.toolCalls.map((call) => ({
                id: call.id,
                function: { name: call.name, arguments: call.arguments }
              }))
            })
      }
    case "tool":
      return { role: "tool", content: message.content, tool_name: message.toolName, tool_call_id: message.toolCallId }
  }
}

/**
 * Ollama's `options` of a request: only what was asked for. The caller's raw `options` win.
 *
 * @since 0.1.0
 * @category constructors
 */
export const options = (request: ChatRequest): { readonly [key: string]: unknown } => ({
  ...(request.temperature === undefined ? {} : { temperature: request.temperature }),
  ...(request.topP === undefined ? {} : { top_p: request.topP }),
  ...(request.maxTokens === undefined ? {} : { num_predict: request.maxTokens }),
  ...(request.stop.length === 0 ? {} : { stop: request.stop }),
  ...(request.seed === undefined ? {} : { seed: request.seed }),
  ...(request.frequencyPenalty === undefined ? {} : { frequency_penalty: request.frequencyPenalty }),
  ...(request.presencePenalty === undefined ? {} : { presence_penalty: request.presencePenalty }),
  ...(request.topK === undefined ? {} : { top_k: request.topK }),
  ...(request.minP === undefined ? {} : { min_p: request.minP }),
  ...(request.repeatPenalty === undefined ? {} : { repeat_penalty: request.repeatPenalty }),
  ...request.options
})

/**
 * The body of `POST /api/chat`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const body = (request: ChatRequest): { readonly [key: string]: unknown } => ({
  model: request.model,
  messages: request.messages.map(message),
  stream: true,
  options: options(request),
  ...(request.format === "text" ? {} : { format: request.format }),
  ...(request.tools.length === 0 || request.toolChoice === "none"
    ? {}
    : {
        tools: request.tools.map((tool) => ({
          type: "function",
          function: {
            name: tool.name,
            ...(tool.description === undefined ? {} : { description: tool.description }),
            parameters: tool.parameters ?? { type: "object", properties: {} }
          }
        }))
      }),
  ...(request.keepAlive === undefined ? {} : { keep_alive: request.keepAlive }),
  ...(request.think === undefined ? {} : { think: request.think })
})

/** A server that does not know how to show its prompt answers instead: then as little as possible. */
const renderBody = (request: ChatRequest): { readonly [key: string]: unknown } => ({
  ...body(request),
  stream: false,
  options: { ...options(request), num_predict: 1 },
  _debug_render_only: true
})

const rawBody = (request: ChatRequest, prompt: string): { readonly [key: string]: unknown } => {
  const images = Raw.images(request)
  return {
    model: request.model,
    prompt,
    raw: true,
    stream: true,
    options: options(request),
    ...(images.length === 0 ? {} : { images }),
    ...(request.keepAlive === undefined ? {} : { keep_alive: request.keepAlive })
  }
}

const unsupported = (request: ChatRequest): ReadonlyArray<string> => {
  const found: Array<string> = []
  if (request.toolChoice === "required" || typeof request.toolChoice === "object") {
    found.push(`toolChoice: Ollama cannot be made to call a tool; use "auto" or "none"`)
  }
  if (request.logitBias !== undefined) found.push("logitBias: Ollama has no such option")
  if (request.messages.some((m) => Message.images(m).some((image) => "url" in image))) {
    found.push("messages: Ollama takes images as base64 data, not as an address")
  }
  return found
}

// =============================================================================
// response
// =============================================================================

const count = (value: unknown): number | undefined => (typeof value === "number" ? value : undefined)

const finish = (line: { readonly [key: string]: unknown }, calledTools: boolean): Finish => {
  const prompt = count(line["prompt_eval_count"])
  const completion = count(line["eval_count"])
  const nanoseconds = count(line["eval_duration"])
  const promptTime = count(line["prompt_eval_duration"])
  const loadTime = count(line["load_duration"])
  const usage: Usage = {
    ...(prompt === undefined ? {} : { promptTokens: prompt }),
    ...(completion === undefined ? {} : { completionTokens: completion }),
    ...(prompt === undefined && completion === undefined ? {} : { totalTokens: (prompt ?? 0) + (completion ?? 0) })
  }
  return {
    // Ollama says "stop" after a tool call too.
    reason: calledTools ? "tool_calls" : line["done_reason"] === "length" ? "length" : "stop",
    usage,
    ...(completion === undefined || nanoseconds === undefined || nanoseconds <= 0
      ? {}
      : { tokensPerSecond: completion / (nanoseconds / 1e9) }),
    ...(promptTime === undefined ? {} : { promptTime: promptTime / 1e6 }),
    ...(loadTime === undefined ? {} : { loadTime: loadTime / 1e6 })
  }
}

let callIds = 0

const toolCall = (call: unknown): Message.ToolCall => {
  const { function: called, id } = (call ?? {}) as { readonly id?: unknown; readonly function?: unknown }
  const { arguments: args, name } = (called ?? {}) as { readonly name?: unknown; readonly arguments?: unknown }
  if (typeof name !== "string" || typeof args !== "object" || args === null || Array.isArray(args)) {
    throw new Http.Malformed(`not a tool call: ${JSON.stringify(call)}`)
  }
  return {
    // Older servers send no id.
    id: typeof id === "string" && id !== "" ? id : `call_${(callIds++).toString(36)}`,
    name,
    arguments: args as { readonly [key: string]: unknown }
  }
}

/**
 * Reads the lines of `/api/chat`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const decoder = (sink: Sink): Http.Decoder => {
  let finished = false
  let calledTools = false
  const template = Template.make()
  const lines = Lines.make((text) => {
    if (finished || text === "") return
    const known = template.match(text)
    if (known !== undefined) {
      if (known !== "") sink.text(known)
      return
    }
    const line = Http.parseJson(text)
    const message = line["message"]
    if (typeof message === "object" && message !== null) {
      const { content, thinking, tool_calls } = message as { readonly [key: string]: unknown }
      if (typeof thinking === "string" && thinking !== "") sink.thinking(thinking)
      if (typeof content === "string") {
        if (content !== "") {
          sink.text(content)
          if (line["done"] === false && thinking === undefined && tool_calls === undefined)
            template.learn(text, content, line["created_at"])
        }
      } else if (content !== undefined && content !== null) throw new Http.Malformed("the content is not a string")
      if (Array.isArray(tool_calls)) {
        for (const call of tool_calls) {
          calledTools = true
          sink.toolCall(toolCall(call))
        }
      }
    } else if (line["error"] !== undefined) {
      throw new Http.Reported(Http.errorText(line) ?? "an error without a message")
    } else if (line["done"] !== true) throw new Http.Malformed(`no message in ${text.slice(0, 200)}`)
    if (line["done"] === true) {
      finished = true
      sink.finish(finish(line, calledTools))
    }
  })
  return {
    feed: lines.feed,
    end: lines.end,
    // The line that ends an answer is its last.
    broke: () => {},
    finished: () => finished
  }
}

/**
 * `now` is the time in milliseconds since the epoch.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (transport: Transport, now: () => number): Backend => {
  const send = (server: Server, path: string, body: object, decoder: Http.Decoder, sink: Sink) =>
    Http.start(
      transport,
      {
        url: `${server.url}${path}`,
        headers: Http.headers(server, "application/x-ndjson"),
        body: JSON.stringify(body)
      },
      decoder,
      sink,
      now
    )
  const chat = (server: Server, request: ChatRequest, sink: Sink) =>
    send(server, "/api/chat", body(request), decoder(sink), sink)

  return {
    unsupported,
    start: chat,
    resume: (server, request, broken, sink, abilities) => {
      const steps = new Resume.Steps()
      const protocol: Resume.Protocol = {
        plain: (request, sink) => chat(server, request, sink),
        open: (request, sink) => chat(server, request, sink)
      }
      const { model } = request
      const goOn = () => Resume.goOn(steps, server, request, broken, sink, protocol, abilities)

      const rendered = (prompt: string | undefined): void => {
        abilities.setRenders(server.url, model, prompt !== undefined)
        if (prompt === undefined) {
          goOn()
          return
        }
        const sent = Resume.wellFormed(broken.text)
        const repeated = Resume.repeats(broken.text, sent)
        const left = Resume.less(request, broken.tokens - repeated)
        const body = rawBody(left, Raw.prompt(prompt, sent, broken.thinking))
        sink.joins(broken.text.slice(sent.length), repeated)
        const guarded = new Resume.Unless(sink, goOn)
        const decoder = Raw.decoder(guarded, (line) => finish(line, false))
        steps.next(() => send(server, "/api/generate", body, decoder, guarded))
      }

      if (Raw.possible(request)) {
        if (abilities.renders(server.url, model) === false) goOn()
        else {
          const rendering = new Raw.Rendering(sink, rendered, goOn)
          steps.next(() => send(server, "/api/chat", renderBody(request), rendering.decoder, rendering))
        }
      } else if (Resume.continuable(request)) goOn()
      else Resume.again(steps, request, broken, sink, protocol)
      return steps
    }
  }
}

/**
 * The OpenAI API as many servers speak it: `POST /v1/chat/completions`, and for texts `/v1/completions`, streamed as
 * server-sent events.
 *
 * @since 0.1.0
 */
import type { Backend, Finish, Sink } from "../Backend.js"
import type { FinishReason, Usage } from "../ChatEvent.js"
import { type ChatRequest, completes } from "../ChatRequest.js"
import * as Sse from "../internal/sse.js"
import * as Template from "../internal/template.js"
import type * as Message from "../Message.js"
import type { Server } from "../Server.js"
import type { Service as Transport } from "../Transport.js"
import { Guard } from "./completion.js"
import * as Embeddings from "./embeddings.js"
import * as Http from "./http.js"
import * as Text from "./openaiText.js"
import * as Resume from "./resume.js"

// =============================================================================
// request
// =============================================================================

const content = (message: Message.UserMessage): unknown =>
  typeof message.content === "string"
    ? message.content
    : message.content.map((part) =>
        part.type === "text"
          ? part
          : {
              type: "image_url",
              image_url: {
                url: "url" in part ? part.url : `data:${part.mediaType};base64,${part.data}`,
                detail: part.detail
              }
            }
      )

const message = (message: Message.Message): object => {
  switch (message.role) {
    case "system":
    case "developer":
      return message
    case "user":
      return { role: "user", content: content(message), name: message.name }
    case "assistant":
      return message.toolCalls === undefined || message.toolCalls.length === 0
        ? { role: "assistant", content: message.content, name: message.name }
        : {
            role: "assistant",
            content: message.content === "" ? null : message.content,
            name: message.name,
            tool_calls: message.toolCalls.map((call) => ({
              id: call.id,
              type: "function",
              function: { name: call.name, arguments: JSON.stringify(call.arguments) }
            }))
          }
    case "tool":
      return { role: "tool", content: message.content, tool_call_id: message.toolCallId }
  }
}

/** OpenAI itself wants the newer name for its reasoning models; most other servers know only the older. */
const isOpenAI = (server: Server): boolean =>
  /(^|\.)(openai\.com|openai\.azure\.com)(:|\/|$)/.test(server.url.replace(/^https?:\/\//, "").split("/")[0] ?? "")

const isObject = (value: unknown): value is { readonly [key: string]: unknown } =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** OpenAI refuses a strict schema in which an object may have other properties, or may lack one. */
const isStrict = (schema: unknown): boolean => {
  if (Array.isArray(schema)) return schema.every(isStrict)
  if (!isObject(schema)) return true
  const { properties, required } = schema
  if (schema["type"] === "object" || isObject(properties)) {
    const names = Object.keys(isObject(properties) ? properties : {})
    if (schema["additionalProperties"] !== false) return false
    if (!names.every((name) => Array.isArray(required) && required.includes(name))) return false
  }
  return Object.values(schema).every(isStrict)
}

const responseFormat = ({ format }: ChatRequest): object | undefined =>
  format === "text"
    ? undefined
    : format === "json"
      ? { type: "json_object" }
      : {
          type: "json_schema",
          json_schema: { name: "answer", schema: format, strict: isStrict(format) ? true : undefined }
        }

/**
 * The body of `POST /v1/chat/completions`. What is `undefined` is not sent.
 *
 * `topK`, `minP` and `repeatPenalty` go out as `top_k`, `min_p`, and both `repeat_penalty` (llama.cpp) and
 * `repetition_penalty` (vLLM); `think: true | false` as `chat_template_kwargs.enable_thinking`, a level as
 * `reasoning_effort`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const body = (server: Server, request: ChatRequest): { readonly [key: string]: unknown } => {
  const { maxTokens, think, toolChoice } = request
  const newer = maxTokens !== undefined && isOpenAI(server)
  return {
    model: request.model,
    messages: request.messages.map(message),
    stream: true,
    stream_options: { include_usage: true },
    temperature: request.temperature,
    top_p: request.topP,
    [newer ? "max_completion_tokens" : "max_tokens"]: maxTokens,
    stop: request.stop.length === 0 ? undefined : request.stop,
    seed: request.seed,
    frequency_penalty: request.frequencyPenalty,
    presence_penalty: request.presencePenalty,
    top_k: request.topK,
    min_p: request.minP,
    repeat_penalty: request.repeatPenalty,
    repetition_penalty: request.repeatPenalty,
    logit_bias: request.logitBias,
    logprobs: request.logprobs === undefined ? undefined : true,
    top_logprobs: request.logprobs === 0 ? undefined : request.logprobs,
    chat_template_kwargs: typeof think === "boolean" ? { enable_thinking: think } : undefined,
    reasoning_effort: typeof think === "string" ? think : undefined,
    response_format: responseFormat(request),
    tools: request.tools.length === 0 ? undefined : request.tools.map(Http.functionTool),
    tool_choice:
      request.tools.length === 0
        ? undefined
        : typeof toolChoice === "object"
          ? { type: "function", function: { name: toolChoice.name } }
          : toolChoice
  }
}

/**
 * The same, but the model goes on with the last message, which is its own, instead of answering it: in the words that
 * llama.cpp and vLLM have for it.
 *
 * @since 0.1.0
 * @category constructors
 */
export const openBody = (server: Server, request: ChatRequest): { readonly [key: string]: unknown } => {
  const last = request.messages.at(-1)
  const thinking = last?.role === "assistant" ? last.thinking : undefined
  return {
    ...body(server, request),
    ...(last === undefined || thinking === undefined
      ? {}
      : {
          messages: [...request.messages.slice(0, -1).map(message), { ...message(last), reasoning_content: thinking }]
        }),
    continue_final_message: true,
    add_generation_prompt: false
  }
}

const unsupported = (request: ChatRequest): ReadonlyArray<string> => {
  const found: Array<string> = []
  if (request.keepAlive !== undefined) found.push("keepAlive: the OpenAI API has no such option")
  if (request.options !== undefined && Object.keys(request.options).length > 0) {
    found.push("options: the OpenAI API does not take Ollama's options")
  }
  return found
}

// =============================================================================
// response
// =============================================================================

const finishReason = (reason: string): FinishReason => {
  switch (reason) {
    case "length":
    case "content_filter":
    case "tool_calls":
      return reason
    case "function_call":
      return "tool_calls"
    default:
      return "stop"
  }
}

const usage = (value: unknown): Usage => {
  if (typeof value !== "object" || value === null) return {}
  const { completion_tokens, prompt_tokens, total_tokens } = value as { readonly [key: string]: unknown }
  if (typeof prompt_tokens === "number" && typeof completion_tokens === "number" && typeof total_tokens === "number") {
    return { promptTokens: prompt_tokens, completionTokens: completion_tokens, totalTokens: total_tokens }
  }
  return {
    ...(typeof prompt_tokens === "number" ? { promptTokens: prompt_tokens } : {}),
    ...(typeof completion_tokens === "number" ? { completionTokens: completion_tokens } : {}),
    ...(typeof total_tokens === "number" ? { totalTokens: total_tokens } : {})
  }
}

interface PartialCall {
  id: string
  name: string
  arguments: string
}

/**
 * Puts the pieces of tool calls together. Pieces belong together by `index`; a new `id` at the same index is a new
 * call all the same, because some servers give every call index 0.
 */
class ToolCalls {
  private readonly calls: Array<PartialCall> = []
  private readonly byIndex = new Map<number, PartialCall>()

  add(piece: unknown): void {
    const { function: called, id, index } = (piece ?? {}) as { readonly [key: string]: unknown }
    const { arguments: args, name } = (called ?? {}) as { readonly [key: string]: unknown }
    const at = typeof index === "number" ? index : this.calls.length
    let call = this.byIndex.get(at)
    const fresh = typeof id === "string" && id !== "" && call !== undefined && call.id !== "" && call.id !== id
    if (call === undefined || fresh) {
      call = { id: "", name: "", arguments: "" }
      this.calls.push(call)
      this.byIndex.set(at, call)
    }
    if (typeof id === "string" && id !== "") call.id = id
    if (typeof name === "string" && call.name === "") call.name = name
    if (typeof args === "string") call.arguments += args
    else if (typeof args === "object" && args !== null) call.arguments = JSON.stringify(args)
  }

  get empty(): boolean {
    return this.calls.length === 0
  }

  take(sink: Sink): void {
    for (const [at, call] of this.calls.entries()) {
      if (call.name === "") throw new Http.Malformed("a tool call without a name")
      sink.toolCall({
        id: call.id === "" ? `call_${at}` : call.id,
        name: call.name,
        arguments: call.arguments.trim() === "" ? {} : Http.parseJson(call.arguments)
      })
    }
    this.calls.length = 0
  }
}

/**
 * Reads the events of `/v1/chat/completions`, or of `/v1/completions` where a text is gone on with (`raw`) or filled in
 * (`suffix`). The answer is complete once a finish reason came and the stream ended,
 * with `[DONE]` or without, or broke off: all that can be missing then is how many tokens it was.
 *
 * @since 0.1.0
 * @category constructors
 */
export const decoder = (sink: Sink, kind: "chat" | "raw" | "suffix" = "chat"): Http.Decoder => {
  let finished = false
  let broken = false
  let reason: FinishReason | undefined
  let counted: Usage = {}
  /** llama.cpp's own figures. */
  let timed: Pick<Finish, "promptEvaluated" | "promptTime" | "tokensPerSecond"> | undefined
  let calls: ToolCalls | undefined
  let bytes = 0
  let events = 0
  const template = Template.make(kind === "chat" ? "content" : "text")

  const complete = (): void => {
    if (finished || reason === undefined) return
    const calledTools = calls !== undefined && !calls.empty
    calls?.take(sink)
    finished = true
    const told = calledTools && reason === "stop" ? "tool_calls" : reason
    const uncounted = broken && counted.completionTokens === undefined
    const finish: Finish = { reason: told, usage: counted }
    sink.finish(
      uncounted || timed !== undefined ? { ...finish, ...(uncounted ? { uncounted } : {}), ...timed } : finish
    )
  }

  const stream = Sse.make((data) => {
    events++
    if (finished || data === "") return
    if (data === "[DONE]") {
      complete()
      return
    }
    const known = template.match(data)
    if (known !== undefined) {
      if (known !== "") sink.text(known)
      return
    }
    const chunk = Http.parseJson(data)
    const choices = chunk["choices"]
    if (Array.isArray(choices)) {
      const choice = choices[0] as
        | {
            readonly delta?: unknown
            readonly text?: unknown
            readonly finish_reason?: unknown
            readonly logprobs?: unknown
          }
        | undefined
      if (choice !== undefined) {
        const { delta, text } = choice
        if (kind !== "chat" && typeof text === "string") {
          if (kind === "raw" && Text.isTemplated(chunk)) throw new Http.Unable(Text.templated)
          if (text !== "") {
            const likely = Text.likelihoods(choice.logprobs)
            if (likely !== undefined) sink.logprobs?.(likely)
            sink.text(text)
            if (choice.finish_reason == null && choice.logprobs == null && chunk["usage"] == null) {
              template.learn(data, text)
            }
          }
        } else if (typeof delta === "object" && delta !== null) {
          const { content, reasoning, reasoning_content, tool_calls } = delta as { readonly [key: string]: unknown }
          const thought = reasoning_content ?? reasoning
          if (typeof thought === "string" && thought !== "") sink.thinking(thought)
          if (typeof content === "string" && content !== "") {
            const likely = choice.logprobs
            if (likely != null) {
              const tokens = isObject(likely) ? likely["content"] : undefined
              if (Array.isArray(tokens)) sink.logprobs?.(tokens)
            }
            sink.text(content)
            // A template may hold nothing else that counts: a finish reason or usage must be read.
            if (
              choice.finish_reason == null &&
              thought == null &&
              tool_calls == null &&
              likely == null &&
              chunk["usage"] == null
            ) {
              template.learn(data, content)
            }
          }
          if (Array.isArray(tool_calls)) {
            calls ??= new ToolCalls()
            for (const piece of tool_calls) calls.add(piece)
            sink.progress?.()
          }
        }
        if (typeof choice.finish_reason === "string") reason = finishReason(choice.finish_reason)
      }
    } else if (chunk["error"] !== undefined && chunk["error"] !== null) {
      throw new Http.Reported(Http.errorText(chunk) ?? "an error without a message")
    } else if (chunk["usage"] === undefined && chunk["timings"] === undefined) {
      throw new Http.Malformed(`no choices in ${data.slice(0, 200)}`)
    }
    if (chunk["usage"] !== undefined && chunk["usage"] !== null) counted = usage(chunk["usage"])
    const timings = chunk["timings"]
    if (typeof timings === "object" && timings !== null) {
      const { predicted_per_second, prompt_ms, prompt_n } = timings as { readonly [key: string]: unknown }
      timed = {
        ...(typeof predicted_per_second === "number" ? { tokensPerSecond: predicted_per_second } : {}),
        ...(typeof prompt_ms === "number" ? { promptTime: prompt_ms } : {}),
        ...(typeof prompt_n === "number" ? { promptEvaluated: prompt_n } : {})
      }
    }
  })
  return {
    feed(read) {
      bytes += read.length
      stream.feed(read)
    },
    end() {
      try {
        stream.end()
      } catch (error) {
        // Only the end of a complete answer was torn off.
        if (reason === undefined) throw error
        broken = true
      }
      complete()
      if (!finished && events === 0 && bytes > 0) throw new Http.Malformed("what came back is not an event stream")
    },
    broke() {
      broken = true
      complete()
    },
    finished: () => finished
  }
}

/**
 * The address of an endpoint: servers are named with or without the trailing `/v1`.
 *
 * @since 0.1.0
 * @category accessors
 */
export const endpoint = (url: string, path: string): string =>
  url.endsWith("/v1") ? `${url}${path}` : `${url}/v1${path}`

/**
 * `now` is the time in milliseconds since the epoch.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (transport: Transport, now: () => number): Backend => {
  const send = (server: Server, body: object, sink: Sink) =>
    Http.start(
      transport,
      {
        url: endpoint(server.url, "/chat/completions"),
        headers: Http.headers(server, "text/event-stream"),
        body: JSON.stringify(body)
      },
      decoder(sink),
      sink,
      now
    )
  const complete = (server: Server, request: ChatRequest, sink: Sink) =>
    Http.start(
      transport,
      {
        url: endpoint(server.url, Text.path),
        headers: Http.headers(server, "text/event-stream"),
        body: JSON.stringify(Text.body(request))
      },
      decoder(sink, request.suffix === undefined ? "raw" : "suffix"),
      new Guard(sink, request, `/v1${Text.path}`),
      now
    )
  return {
    unsupported,
    ...Embeddings.openai(transport, now, (server) => endpoint(server.url, "/embeddings")),
    start: (server, request, sink) =>
      completes(request) ? complete(server, request, sink) : send(server, body(server, request), sink),
    resume: (server, request, broken, sink, abilities) => {
      if (completes(request)) return complete(server, Resume.further(request, broken, sink), sink)
      const steps = new Resume.Steps()
      const protocol: Resume.Protocol = {
        plain: (request, sink) => send(server, body(server, request), sink),
        open: (request, sink) => send(server, openBody(server, request), sink)
      }
      if (Resume.continuable(request)) Resume.goOn(steps, server, request, broken, sink, protocol, abilities)
      else Resume.again(steps, request, broken, sink, protocol)
      return steps
    }
  }
}

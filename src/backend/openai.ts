/**
 * The OpenAI API as implemented by many servers: `POST /v1/chat/completions`, and for text completion
 * `/v1/completions`, streamed as server-sent events.
 */

import type { Backend, Sink } from "../Backend.js"
import { type ChatRequest, completes, type Format } from "../ChatRequest.js"
import type { Unsupported } from "../Errors.js"
import * as ToolArguments from "../internal/toolArguments.js"
import type * as Message from "../Message.js"
import { apiOf, type Server } from "../Server.js"
import type { Exchange, Service as Transport } from "../Transport.js"
import * as Embeddings from "./embeddings.js"
import * as Http from "./http.js"
import { decoder, type Kind } from "./openaiAnswer.js"
import * as Body from "./openaiBody.js"
import * as Choices from "./openaiChoices.js"
import * as OpenAIModels from "./openaiModels.js"
import * as Text from "./openaiText.js"
import * as Resume from "./resume.js"
import { templateMessages } from "./templateMessages.js"
import { CompletionGuard } from "./textCompletion.js"
import { filtered } from "./thinkingFilter.js"

// =============================================================================
// Request
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
              function: { name: call.name, arguments: ToolArguments.objectText(call) }
            }))
          }
    case "tool":
      return { role: "tool", content: message.content, tool_call_id: message.toolCallId }
  }
}

/** OpenAI requires the newer name for its reasoning models; most other servers only know the older one. */
const openAIs = new WeakMap<Server, boolean>()
const isOpenAI = (server: Server): boolean => {
  let known = openAIs.get(server)
  if (known === undefined) {
    known = OpenAIModels.isOpenAI(server.url)
    openAIs.set(server, known)
  }
  return known
}

const isObject = (value: unknown): value is { readonly [key: string]: unknown } =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** OpenAI rejects a strict schema whose objects allow other properties or have optional ones. */
const isStrict = (schema: unknown): boolean => {
  if (Array.isArray(schema)) return schema.every(isStrict)
  if (!isObject(schema)) return true
  const { properties, required } = schema
  if (schema["type"] === "object" || isObject(properties)) {
    const names = Object.keys(isObject(properties) ? properties : {})
    if (schema["additionalProperties"] !== false) return false
    const needed = new Set<unknown>(Array.isArray(required) ? required : [])
    if (!names.every((name) => needed.has(name))) return false
  }
  return Object.values(schema).every(isStrict)
}

const responseFormat = (format: Exclude<Format, "text">): object =>
  format === "json"
    ? { type: "json_object" }
    : {
        type: "json_schema",
        json_schema: { name: "answer", schema: format, strict: isStrict(format) ? true : undefined }
      }

/**
 * The body of `POST /v1/chat/completions`. Undefined fields are not sent.
 *
 * `think: true | false` is sent as `chat_template_kwargs.enable_thinking`, a level as `reasoning_effort`; to OpenAI's own
 * servers each as the latter.
 */
export const body = (server: Server, request: ChatRequest): Body.Body => {
  const { format, logprobs, maxTokens, think, toolChoice, tools } = request
  const own = isOpenAI(server)
  const body = Body.make(request, own)
  body["messages"] = templateMessages(request.messages, !own).map(message)
  if (maxTokens !== undefined) body[own ? "max_completion_tokens" : "max_tokens"] = maxTokens
  if (logprobs !== undefined) {
    body["logprobs"] = true
    if (logprobs > 0) body["top_logprobs"] = logprobs
  }
  if (own) Object.assign(body, OpenAIModels.fields(request))
  else if (typeof think === "boolean") {
    const given = body["chat_template_kwargs"]
    body["chat_template_kwargs"] = isObject(given) ? { ...given, enable_thinking: think } : { enable_thinking: think }
  } else if (think !== undefined) body["reasoning_effort"] = think
  if (format !== "text") body["response_format"] = responseFormat(format)
  if (tools.length > 0) {
    body["tools"] = tools.map(Http.functionTool)
    body["tool_choice"] =
      typeof toolChoice === "object" ? { type: "function", function: { name: toolChoice.name } } : toolChoice
  }
  return body
}

/**
 * The same, but the model continues the last (assistant) message instead of answering it: with the fields of llama.cpp
 * and vLLM for this.
 */
export const openBody = (server: Server, request: ChatRequest): Body.Body => {
  const last = request.messages.at(-1)
  const thinking = last?.role === "assistant" ? last.thinking : undefined
  const made = body(server, request)
  if (thinking !== undefined) {
    const messages = made["messages"] as ReadonlyArray<object>
    made["messages"] = [...messages.slice(0, -1), { ...messages.at(-1), reasoning_content: thinking }]
  }
  return {
    ...made,
    continue_final_message: true,
    add_generation_prompt: false
  }
}

const unsupported = (request: ChatRequest): ReadonlyArray<Unsupported> => {
  const found: Array<Unsupported> = []
  if (request.template !== undefined)
    found.push({ field: "template", reason: "the OpenAI API has no such option, every model uses its own" })
  if (request.lenient === true) return found
  if (request.keepAlive !== undefined) found.push({ field: "keepAlive", reason: "the OpenAI API has no such option" })
  if (request.options !== undefined && Object.keys(request.options).length > 0) {
    found.push({ field: "options", reason: "the OpenAI API does not take Ollama's options" })
  }
  return found
}

const kindOf = (request: ChatRequest): Kind =>
  completes(request) ? (request.suffix === undefined ? "raw" : "suffix") : "chat"

/** The address of an endpoint: see `Server.apiOf`. */
export const endpoint = (server: Server, path: string): string => `${apiOf(server, "openai")}${path}`

/** `now` is the time in milliseconds since the epoch. */
export const make = (transport: Transport, now: () => number): Backend => {
  const send = (server: Server, body: object, sink: Sink, format: Format) =>
    Http.start(
      transport,
      { server, url: endpoint(server, "/chat/completions"), accept: "text/event-stream", body: body },
      decoder(filtered(format, sink)),
      sink,
      now
    )
  const complete = (server: Server, request: ChatRequest, sink: Sink) =>
    Http.start(
      transport,
      { server, url: endpoint(server, Text.path), accept: "text/event-stream", body: Text.body(request) },
      decoder(sink, kindOf(request)),
      new CompletionGuard(sink, request, `/v1${Text.path}`),
      now
    )
  const plain = (server: Server, request: ChatRequest, sink: Sink): Exchange =>
    completes(request) ? complete(server, request, sink) : send(server, body(server, request), sink, request.format)
  const several = new Choices.Gathering({
    plain,
    together: (server, request, n, answers) => {
      const texts = completes(request)
      const url = endpoint(server, texts ? Text.path : "/chat/completions")
      const combined = { ...(texts ? Text.body(request) : body(server, request)), n }
      const listener = texts ? new CompletionGuard(answers, request, `/v1${Text.path}`) : answers
      return Http.start(transport, { server, url, accept: "text/event-stream", body: combined }, answers, listener, now)
    },
    sinkOf: (request, sink) => (completes(request) ? sink : filtered(request.format, sink)),
    kindOf
  })
  return {
    unsupported,
    ...Embeddings.openai(transport, now, (server) => endpoint(server, "/embeddings")),
    start: (server, request, sink, resumeSupport) =>
      request.choice === undefined || resumeSupport === undefined
        ? plain(server, request, sink)
        : several.start(server, request, request.choice, sink, resumeSupport),
    resume: (server, request, partial, sink, resumeSupport) => {
      if (completes(request)) return complete(server, Resume.continuationRequest(request, partial, sink), sink)
      const steps = new Resume.Steps()
      const protocol: Resume.ResumeProtocol = {
        plain: (request, sink) => send(server, body(server, request), sink, request.format),
        open: (request, sink) => send(server, openBody(server, request), sink, "text")
      }
      if (Resume.continuable(request)) Resume.resume(steps, server, request, partial, sink, protocol, resumeSupport)
      else Resume.startAgain(steps, request, partial, sink, protocol)
      return steps
    }
  }
}

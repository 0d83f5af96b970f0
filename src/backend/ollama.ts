/** Ollama's own API: `POST /api/chat`, and for text completion `/api/generate`, streamed as newline-delimited JSON. */
import type { Mutable } from "effect/Types"
import type { Backend, Finish, Sink } from "../Backend.js"
import type { Usage } from "../ChatEvent.js"
import { type ChatRequest, completes, promptOf } from "../ChatRequest.js"
import type { Unsupported } from "../Errors.js"
import * as ExtraParameters from "../internal/extraParameters.js"
import * as Lines from "../internal/lines.js"
import * as Template from "../internal/lineTemplate.js"
import * as ToolArguments from "../internal/toolArguments.js"
import * as Message from "../Message.js"
import { apiOf, type Server } from "../Server.js"
import type { Service as Transport } from "../Transport.js"
import * as Embeddings from "./embeddings.js"
import { finishReason, givenUp } from "./finishReason.js"
import * as Http from "./http.js"
import * as Raw from "./ollamaRaw.js"
import * as Resume from "./resume.js"
import { CompletionGuard } from "./textCompletion.js"
import { filtered } from "./thinkingFilter.js"

// =============================================================================
// Request
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
                function: { name: call.name, arguments: ToolArguments.object(call) }
              }))
            })
      }
    case "tool":
      return { role: "tool", content: message.content, tool_name: message.toolName, tool_call_id: message.toolCallId }
  }
}

/** Ollama's `options` of a request; undefined fields are not sent. The caller's raw `options` win. */
export const options = (request: ChatRequest): { readonly [key: string]: unknown } => {
  const body = {
    temperature: request.temperature,
    top_p: request.topP,
    num_predict: request.maxTokens,
    stop: request.stop.length === 0 ? undefined : request.stop,
    seed: request.seed,
    frequency_penalty: request.frequencyPenalty,
    presence_penalty: request.presencePenalty,
    top_k: request.topK,
    min_p: request.minP,
    repeat_penalty: request.repeatPenalty
  }
  const extra = request.extra === undefined ? undefined : ExtraParameters.forOllama(request.extra)
  return request.options === undefined && extra === undefined ? body : { ...body, ...extra, ...request.options }
}

/** The body of `POST /api/chat`. Undefined fields are not sent. */
export const body = (request: ChatRequest): { readonly [key: string]: unknown } => ({
  model: request.model,
  messages: request.messages.map(message),
  stream: true,
  options: options(request),
  format: request.format === "text" ? undefined : request.format,
  tools: request.tools.length === 0 || request.toolChoice === "none" ? undefined : request.tools.map(Http.functionTool),
  keep_alive: request.keepAlive,
  think: request.think,
  logprobs: request.logprobs === undefined ? undefined : true,
  top_logprobs: request.logprobs === 0 ? undefined : request.logprobs,
  truncate: request.truncate,
  shift: request.shift
})

/** A server without prompt rendering answers instead: this keeps that answer short. */
const renderBody = (request: ChatRequest): { readonly [key: string]: unknown } => ({
  ...(request.template === undefined ? body(request) : templatedBody(request)),
  stream: false,
  options: { ...options(request), num_predict: 1 },
  _debug_render_only: true
})

/**
 * The body of `POST /api/generate`. Undefined fields are not sent. With a suffix the model's template is needed: it
 * puts both texts into the form that the model was trained for.
 */
export const generateBody = (request: ChatRequest, prompt: string): { readonly [key: string]: unknown } => {
  const images = Raw.images(request)
  return {
    model: request.model,
    prompt,
    suffix: request.suffix,
    // A raw prompt has been through it.
    template: request.suffix === undefined ? undefined : request.template,
    raw: request.suffix === undefined ? true : undefined,
    stream: true,
    options: options(request),
    images: images.length === 0 ? undefined : images,
    keep_alive: request.keepAlive,
    logprobs: request.logprobs === undefined ? undefined : true,
    top_logprobs: request.logprobs === 0 ? undefined : request.logprobs,
    truncate: request.truncate,
    shift: request.shift
  }
}

/** The body of `POST /api/generate` where the caller gives the template: it takes one prompt, and one system prompt. */
export const templatedBody = (request: ChatRequest): { readonly [key: string]: unknown } => {
  const { messages: _, ...rest } = body(request)
  const images = Raw.images(request)
  const texts = (system: boolean) =>
    request.messages
      .filter(({ role }) => (role === "system") === system)
      .map(Message.text)
      .join("\n\n")
  return {
    ...rest,
    template: request.template,
    system: texts(true) || undefined,
    prompt: texts(false),
    images: images.length === 0 ? undefined : images
  }
}

const unsupported = (request: ChatRequest): ReadonlyArray<Unsupported> => {
  const found: Array<Unsupported> = []
  if (request.toolChoice === "required" || typeof request.toolChoice === "object") {
    found.push({ field: "toolChoice", reason: `Ollama cannot be made to call a tool; use "auto" or "none"` })
  }
  if (request.logitBias !== undefined) found.push({ field: "logitBias", reason: "Ollama has no such option" })
  if (request.extra !== undefined) found.push(...ExtraParameters.refusals(request.extra, "ollama", "Ollama"))
  if (request.messages.some((m) => Message.images(m).some((image) => "url" in image))) {
    found.push({ field: "messages", reason: "Ollama takes images as base64 data, not as an address" })
  }
  return found
}

// =============================================================================
// Response
// =============================================================================

const count = (value: unknown): number | undefined => (typeof value === "number" ? value : undefined)

const finish = (line: { readonly [key: string]: unknown }, calledTools: boolean): Finish => {
  const prompt = count(line["prompt_eval_count"])
  const completion = count(line["eval_count"])
  const nanoseconds = count(line["eval_duration"])
  const promptTime = count(line["prompt_eval_duration"])
  const loadTime = count(line["load_duration"])
  const cached = count(line["prompt_eval_cached_count"])
  const word = line["done_reason"]
  const reported = typeof word === "string" && word !== "" ? finishReason(word) : "stop"
  if (reported === undefined) throw new Http.Reported(givenUp(String(word)))
  const usage: Mutable<Usage> = {}
  if (prompt !== undefined) usage.promptTokens = prompt
  if (completion !== undefined) usage.completionTokens = completion
  if (prompt !== undefined || completion !== undefined) usage.totalTokens = (prompt ?? 0) + (completion ?? 0)
  if (cached !== undefined) usage.cachedTokens = cached
  const finished: Mutable<Finish> = {
    // Ollama says "stop" after a tool call too.
    reason: calledTools && reported === "stop" ? "tool_calls" : reported,
    usage
  }
  if (completion !== undefined && nanoseconds !== undefined && nanoseconds > 0)
    finished.tokensPerSecond = completion / (nanoseconds / 1e9)
  if (promptTime !== undefined) finished.promptTime = promptTime / 1e6
  // Servers that report cached tokens measure only the rest.
  if (prompt !== undefined && cached !== undefined) finished.promptEvaluated = Math.max(0, prompt - cached)
  if (loadTime !== undefined) finished.loadTime = loadTime / 1e6
  return finished
}

const toolCall = (call: unknown): Message.ToolCall => {
  const { function: called, id } = (call ?? {}) as { readonly id?: unknown; readonly function?: unknown }
  const { arguments: args, name } = (called ?? {}) as { readonly name?: unknown; readonly arguments?: unknown }
  if (typeof name !== "string" || name === "") throw new Http.Malformed(`not a tool call: ${JSON.stringify(call)}`)
  return {
    // Older servers send no id.
    id: typeof id === "string" && id !== "" ? id : Http.callId(),
    name,
    ...ToolArguments.read(args)
  }
}

/** Decodes the lines of `/api/chat`. */
class ChatDecoder implements Http.Decoder {
  private over = false
  private calledTools = false
  private readonly template: Template.Template
  private readonly say = (content: string): void => this.sink.text(content)
  private readonly lines = Lines.within(
    (text, from, to) => this.take(text.slice(from, to)),
    (text, from) => (this.over ? from : this.template.read(text, from, this.say))
  )

  constructor(
    private readonly sink: Sink,
    templates: Template.Memory | undefined,
    model: string
  ) {
    this.template = Template.make("content", templates, model)
  }

  feed(bytes: Uint8Array): void {
    this.lines.feed(bytes)
  }
  end(): void {
    this.lines.end()
  }
  /** The line with `done` is the last. */
  broke(): void {}
  finished(): boolean {
    return this.over
  }

  private take(text: string): void {
    if (this.over || text === "") return
    const line = Http.parseJson(text)
    const message = line["message"]
    if (typeof message === "object" && message !== null) this.message(text, line, message)
    else if (line["error"] !== undefined) {
      throw Http.reported(line)
    } else if (line["done"] !== true) throw new Http.Malformed(`no message in ${text.slice(0, 200)}`)
    if (line["done"] === true) {
      this.over = true
      this.sink.finish(finish(line, this.calledTools))
    }
  }

  private message(text: string, line: { readonly [key: string]: unknown }, message: object): void {
    const { sink } = this
    const { content, thinking, tool_calls } = message as { readonly [key: string]: unknown }
    if (typeof thinking === "string" && thinking !== "") sink.thinking(thinking)
    if (typeof content === "string") {
      if (content !== "") {
        const likely = line["logprobs"]
        if (Array.isArray(likely)) sink.logprobs?.(likely)
        sink.text(content)
        if (line["done"] === false && thinking === undefined && tool_calls === undefined && likely === undefined)
          this.template.learn(`${text}\n`, content, line["created_at"])
      }
    } else if (content !== undefined && content !== null) throw new Http.Malformed("the content is not a string")
    if (Array.isArray(tool_calls)) {
      for (const call of tool_calls) {
        this.calledTools = true
        sink.toolCall(toolCall(call))
      }
    }
  }
}

/** Decodes the lines of `/api/chat`; `templates` are those of earlier answers, by model. */
export const decoder = (sink: Sink, templates?: Template.Memory, model = ""): Http.Decoder =>
  new ChatDecoder(sink, templates, model)

/** `now` is the time in milliseconds since the epoch. */
export const make = (transport: Transport, now: () => number): Backend => {
  const templates = Template.memory()
  const generated = Template.memory()
  const send = (server: Server, path: string, body: object, decoder: Http.Decoder, sink: Http.Listener) =>
    Http.start(
      transport,
      { server, url: `${apiOf(server, "ollama")}${path}`, accept: "application/x-ndjson", body: body },
      decoder,
      sink,
      now
    )
  const chat = (server: Server, request: ChatRequest, sink: Sink) =>
    send(server, "/api/chat", body(request), decoder(filtered(request.format, sink), templates, request.model), sink)

  const templated = (server: Server, request: ChatRequest, sink: Sink) =>
    send(
      server,
      "/api/generate",
      templatedBody(request),
      Raw.decoder(filtered(request.format, sink), (line) => finish(line, false), generated, request.model),
      sink
    )

  const complete = (server: Server, request: ChatRequest, sink: Sink) =>
    send(
      server,
      "/api/generate",
      generateBody(request, promptOf(request)),
      Raw.decoder(sink, (line) => finish(line, false), generated, request.model),
      new CompletionGuard(sink, request)
    )

  return {
    unsupported,
    ...Embeddings.ollama(transport, now),
    start: (server, request, sink) =>
      completes(request)
        ? complete(server, request, sink)
        : request.template === undefined
          ? chat(server, request, sink)
          : templated(server, request, sink),
    resume: (server, request, partial, sink, resumeSupport) => {
      if (completes(request)) return complete(server, Resume.continuationRequest(request, partial, sink), sink)
      const steps = new Resume.Steps()
      const { model, template } = request
      const plain = template === undefined ? chat : templated
      const protocol: Resume.ResumeProtocol = {
        plain: (request, sink) => plain(server, request, sink),
        open: (request, sink) => chat(server, request, sink)
      }
      // A message that is left open needs the model's own template.
      const goOn = () =>
        template === undefined
          ? Resume.resume(steps, server, request, partial, sink, protocol, resumeSupport)
          : Resume.startAgain(steps, request, partial, sink, protocol)

      const rendered = (prompt: string | undefined): void => {
        resumeSupport.setRenders(server.url, model, prompt !== undefined)
        if (prompt === undefined) {
          goOn()
          return
        }
        const sent = Resume.wellFormed(partial.text)
        const repeated = Resume.repeats(partial.text, sent)
        const left = Resume.less(request, partial.tokens - repeated)
        const body = generateBody(left, Raw.prompt(prompt, sent, partial.thinking))
        sink.joins(partial.text.slice(sent.length), repeated, "continues")
        const guarded = new Resume.FallbackSink(sink, goOn)
        const decoder = Raw.decoder(guarded, (line) => finish(line, false), generated, model)
        steps.next(() => send(server, "/api/generate", body, decoder, guarded))
      }

      if (Raw.possible(request)) {
        if (resumeSupport.renders(server.url, model) === false) goOn()
        else {
          const rendering = new Raw.Rendering(sink, rendered, goOn)
          const path = template === undefined ? "/api/chat" : "/api/generate"
          steps.next(() => send(server, path, renderBody(request), rendering.decoder, rendering))
        }
      } else if (Resume.continuable(request)) goOn()
      else Resume.startAgain(steps, request, partial, sink, protocol)
      return steps
    }
  }
}

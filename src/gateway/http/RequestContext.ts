/**
 * One request and its response: bodies in, JSON or a stream out, and whoever leaves before the end is noticed.
 *
 * @since 0.1.0
 */
import { isUtf8 } from "node:buffer"
import type { IncomingMessage, ServerResponse } from "node:http"
import type { Priority } from "../../Fleet.js"
import type { Trace } from "../../Telemetry.js"
import type { TraceContext } from "../../Transport.js"
import { RequestRecord } from "../observability/RequestRecord.js"
import * as OllamaValidation from "../protocols/ollama/validation.js"
import type { RateDemand, RateTicket, TokenUsage } from "../rateLimits.js"
import * as BodyFields from "./body.js"
import * as ErrorResponse from "./errorResponse.js"
import * as FieldPolicy from "./fieldPolicy.js"
import { HeavyWork } from "./heavyWork.js"
import * as Id from "./id.js"
import { Holding, MemoryBudget } from "./memoryBudget.js"
import { RequestBody } from "./requestBody.js"

/**
 * Which API's errors are told.
 *
 * @since 0.1.0
 * @category models
 */
export type ApiProtocol = "openai" | "ollama" | "anthropic"

const requestId = /^[\w.:-]{1,128}$/

/** A body of more bytes, or with more JSON in it (see `bodyCost`), takes so long to read that others have their turn. */
const heavyBytes = 1024 * 1024
const heavyCost = 50_000
const heavyWork = new HeavyWork()

/** So much of a body that nobody wants is read all the same, so that the connection can be used again. */
const maxDrainedBody = 64 * 1024

/** After a refusal, so much of a body is still read, so that the client gets to see the refusal; and for so long. */
const lingerBytes = 64 * 1024 * 1024
const lingerTime = 2_000

const noop = () => {}

const rejectWith = (errorResponse: ErrorResponse.ErrorResponse | undefined): void => {
  if (errorResponse !== undefined) throw new ErrorResponse.RequestRejected(errorResponse)
}

/** What Ollama says, in plain text, where it has no such endpoint or method. */
const ollamaRouteErrors: { readonly [code: string]: string } = {
  unknown_url: "404 page not found",
  method_not_allowed: "405 method not allowed"
}

type Headers = { [name: string]: string | number }

/** What a client has not read yet. */
class Unsent extends Holding {
  constructor(
    owner: string,
    private readonly cutOff: () => void
  ) {
    super(owner)
  }

  evict(): void {
    this.cutOff()
  }
}

/** Answers that clients have not read yet. */
const unsentBudget = new MemoryBudget(256 * 1024 * 1024)

/** So much of an answer may wait for its client, in bytes, while the server goes on: most answers are shorter. */
const maxUnsent = 1024 * 1024

/**
 * @since 0.1.0
 * @category models
 */
export class RequestContext {
  readonly id: string
  readonly began = performance.now()
  protocol: ApiProtocol = "openai"
  route = "other"
  /** Whose API key it is, by the key's name. */
  caller: string | undefined
  /** How the client names the conversation, if it does. */
  conversation: string | undefined
  /** Whether it may do what only an administrator may. */
  admin = false
  /** `batch` where its key or a header says so. */
  priority: Priority = "interactive"
  /** What it takes of that key's limits, where it has any. */
  rateTicket: RateTicket | undefined
  /** A server was asked on its behalf. */
  dispatched = false
  /** The client left before the response was complete. */
  disconnected = false
  /** Time spent in our own code, in milliseconds. */
  ownTime = 0
  status = 0
  readonly headers: Headers
  /** What is to be told of it when it is over. */
  readonly record = new RequestRecord()
  /** Where its spans go; or, where they go nowhere, the trace that it is a part of. */
  trace: Trace | undefined
  traceContext: TraceContext | undefined
  /** What was left out of the request. */
  ignored = new FieldPolicy.IgnoredFields(false)
  private disconnectListeners: Array<() => void> | undefined
  private drainListeners: Array<() => void> | undefined
  private unsent: Holding | undefined
  /** What reads the body: it is told when the connection stands still. */
  reading: { readonly over: boolean; stopped(): void } | undefined

  constructor(
    readonly request: IncomingMessage,
    readonly response: ServerResponse,
    closed: (context: RequestContext) => void
  ) {
    const sent = request.headers["x-request-id"]
    this.id = typeof sent === "string" && requestId.test(sent) ? sent : Id.make("req-")
    this.headers = { "x-request-id": this.id }
    response.on("close", () => {
      this.disconnected = !response.writableFinished
      if (this.disconnected && this.disconnectListeners !== undefined)
        for (const listener of this.disconnectListeners) listener()
      this.disconnectListeners = undefined
      if (this.unsent !== undefined) unsentBudget.release(this.unsent)
      this.resolveDrained()
      closed(this)
    })
    // The connection stands still: nothing of the body arrives, or nothing of the answer is read.
    response.on("timeout", () => {
      if (this.reading?.over === false) this.reading.stopped()
      else if (response.writableLength > 0) this.abort("client_not_reading")
    })
    // A response that cannot be sent is closed, and that is where it is noticed.
    response.on("error", noop)
  }

  /** Has `listener` called when the client leaves. */
  onDisconnect(listener: () => void): void {
    if (this.disconnected) listener()
    else if (this.disconnectListeners === undefined) this.disconnectListeners = [listener]
    else this.disconnectListeners.push(listener)
  }

  /** Takes what it asks for from the limits of its key, or refuses it. */
  reserve(demand: () => RateDemand): Promise<void> | undefined {
    const asked = this.rateTicket?.reserve(demand())
    if (asked instanceof Promise) return asked.then(rejectWith)
    rejectWith(asked)
    return undefined
  }

  /** What it has used; `undefined` where a server was at work that nobody waited for until it could be counted. */
  usage(): TokenUsage | undefined {
    const { completionTokens: completion, promptTokens: prompt } = this.record
    return this.disconnected && this.dispatched && prompt + completion === 0 ? undefined : { prompt, completion }
  }

  /** What a body asks for. What is left out of it is named in a header. */
  decode<A>(decode: (body: BodyFields.Fields, ignored: FieldPolicy.IgnoredFields) => A, body: BodyFields.Fields): A {
    const decoded = decode(body, this.ignored)
    this.reportIgnored()
    return decoded
  }

  /** Names what was left out, as long as the head was not sent. */
  reportIgnored(): void {
    const header = this.ignored.headerValue()
    if (header !== undefined) this.headers[FieldPolicy.header] = header
  }

  get headersSent(): boolean {
    return this.response.headersSent
  }

  /** Leaves out fields of the body that have no effect, or refuses them. */
  ignore(names: ReadonlyArray<string>): void {
    if (names.length === 0) return
    for (const name of names) this.ignored.ignore(name)
    this.reportIgnored()
  }

  private writeHead(status: number, extra: Headers): void {
    this.status = status
    this.response.writeHead(status, Object.assign(this.headers, extra))
  }

  /** Sends the status and headers of a stream. */
  stream(contentType: string): void {
    this.writeHead(200, {
      "content-type": contentType,
      "cache-control": "no-cache, no-transform",
      "x-accel-buffering": "no"
    })
  }

  /** Whose share of what all clients share it uses: its key's, or its address's where there are no keys. */
  get owner(): string {
    return this.caller ?? this.request.socket.remoteAddress ?? ""
  }

  /** Takes out of an error what clients must not see. */
  redactMessage: (text: string) => string = (text) => text

  /** An error as the client is told of it. */
  forClient(errorResponse: ErrorResponse.ErrorResponse): ErrorResponse.ErrorResponse {
    return { ...errorResponse, message: this.redactMessage(errorResponse.message), requestId: this.id }
  }

  private abort(code: string): void {
    this.record.error = code
    this.response.destroy()
  }

  /** `false` where the client is so slow that nothing more is to be written before `drained`. */
  write(text: string): boolean {
    if (this.disconnected || this.response.write(text)) return true
    const { writableLength } = this.response
    this.charge(writableLength)
    return writableLength <= maxUnsent
  }
  /** What was written but not read yet counts for the client, until all of it is read. */
  private charge(bytes: number): void {
    if (this.disconnected) return
    if (this.unsent === undefined) {
      this.unsent = new Unsent(this.owner, () => this.abort("client_too_slow"))
    }
    const { unsent: waiting } = this
    if (waiting.bytes === 0) this.response.once("drain", () => unsentBudget.release(waiting))
    unsentBudget.resize(waiting, bytes)
  }
  /** Also settles when the client leaves. */
  drained(): Promise<void> {
    return new Promise((resolve) => {
      if (this.disconnected || !this.response.writableNeedDrain) resolve()
      else if (this.drainListeners === undefined) {
        this.drainListeners = [resolve]
        this.response.once("drain", () => this.resolveDrained())
      } else this.drainListeners.push(resolve)
    })
  }
  private resolveDrained(): void {
    const waiting = this.drainListeners
    if (waiting === undefined) return
    this.drainListeners = undefined
    for (const resolve of waiting) resolve()
  }

  end(text = ""): void {
    if (this.disconnected) return
    if (text === "") this.response.end()
    else this.response.end(text)
  }

  send(status: number, contentType: string, text: string, extra: Headers = {}): void {
    if (this.disconnected || this.response.headersSent) return
    // What is announced for a stream has no place behind a body of known length.
    delete this.headers["trailer"]
    const length = Buffer.byteLength(text)
    this.writeHead(status, { "content-type": contentType, "content-length": length, ...extra })
    this.response.end(this.request.method === "HEAD" ? undefined : text)
    if (this.response.writableNeedDrain) this.charge(length)
  }
  json(value: unknown, status = 200, extra: Headers = {}): void {
    this.send(status, "application/json; charset=utf-8", JSON.stringify(value), extra)
  }

  /** Refuses the request. A body that has not been read is not waited for. */
  sendError(errorResponse: ErrorResponse.ErrorResponse): void {
    const { attempts } = errorResponse
    this.record.error = errorResponse.code ?? errorResponse.type
    if (attempts !== undefined) this.record.attempts = attempts.length
    if (this.disconnected || this.response.headersSent) return
    const visible = this.forClient(errorResponse)
    const headers: Headers = attempts === undefined ? {} : { "x-aicortex-attempts": attempts.length }
    if (errorResponse.retryAfter !== undefined)
      headers["retry-after"] = Math.max(1, Math.ceil(errorResponse.retryAfter / 1000))
    if (errorResponse.status === 401) headers["www-authenticate"] = "Bearer"
    let { status } = errorResponse
    let body: object
    if (this.protocol === "openai") body = ErrorResponse.openAI(visible)
    else if (this.protocol === "ollama") {
      const text = ollamaRouteErrors[errorResponse.code ?? ""]
      if (text !== undefined) {
        this.send(status, "text/plain", text, headers)
        return
      }
      body = ErrorResponse.ollama(OllamaValidation.ollamaErrorOf(visible, this.route, this.record.model))
    } else {
      body = ErrorResponse.anthropic(visible)
      status = ErrorResponse.anthropicStatus(errorResponse)
      headers["request-id"] = this.id
    }
    if (this.request.complete || (this.isDrainable() && errorResponse.status !== 408)) {
      this.json(body, status, headers)
      return
    }
    this.json(body, status, { ...headers, connection: "close" })
    this.drainRequest()
  }

  /** Whether what may still come of the request is soon read; Node does so when the response is complete. */
  private isDrainable(): boolean {
    const { headers } = this.request
    if (headers["transfer-encoding"] !== undefined || headers.expect !== undefined) return false
    return Number(headers["content-length"] ?? 0) <= maxDrainedBody
  }

  /** Reads what still comes of the request for a while, and then closes the connection. */
  drainRequest(): void {
    const { request } = this
    let bytes = 0
    const over = () => request.destroy()
    const timer = setTimeout(over, lingerTime)
    timer.unref()
    request.on("data", (part: Buffer) => {
      bytes += part.length
      if (bytes > lingerBytes) over()
    })
    request.on("close", () => clearTimeout(timer))
    request.on("error", () => {})
    request.resume()
  }

  /** The body as a JSON object, or a refusal. */
  fields(max: number): Promise<BodyFields.Fields> {
    const type = this.request.headers["content-type"]
    // Ollama takes JSON under any name.
    if (this.protocol !== "ollama" && type !== undefined && !/^application\/([\w.+-]*\+)?json\s*(;|$)/i.test(type)) {
      throw new ErrorResponse.RequestRejected(
        ErrorResponse.make(
          415,
          `The body must be application/json, not ${type.slice(0, 100)}.`,
          "unsupported_media_type"
        )
      )
    }
    const coding = this.request.headers["content-encoding"]
    if (coding !== undefined && coding.toLowerCase() !== "identity") {
      throw new ErrorResponse.RequestRejected(
        ErrorResponse.make(
          415,
          `The body must not be compressed (${coding.slice(0, 100)}).`,
          "unsupported_content_encoding"
        )
      )
    }
    let body: RequestBody
    return new Promise<Buffer>((resolve, reject) => {
      body = new RequestBody(this.owner, this.request, max, resolve, reject)
      this.reading = body
      body.read()
    }).then((bytes) => {
      if (bytes.length > heavyBytes || body.cost > heavyCost) return this.heavy(body, bytes)
      body.release()
      const began = performance.now()
      const fields = this.protocol === "ollama" ? parseOllama(textOf(bytes), this.route) : parse(checkedText(bytes))
      this.ownTime += performance.now() - began
      return fields
    })
  }

  /** Others have a turn between reading the text of a large body and reading what it says. */
  private async heavy(body: RequestBody, bytes: Buffer): Promise<BodyFields.Fields> {
    const piece = <A>(work: () => A): Promise<A> =>
      heavyWork.run(this.owner, () => {
        if (body.refusal !== undefined) throw body.refusal
        if (this.disconnected) throw new ErrorResponse.RequestRejected(ErrorResponse.make(499, "The client has left."))
        const began = performance.now()
        const result = work()
        this.ownTime += performance.now() - began
        return result
      })
    try {
      const ollama = this.protocol === "ollama"
      const text = await piece(() => (ollama ? textOf(bytes) : checkedText(bytes)))
      return await piece(() => (ollama ? parseOllama(text, this.route) : parse(text)))
    } finally {
      body.release()
    }
  }
}

const wrong = (message: string): never => {
  throw new ErrorResponse.RequestRejected(ErrorResponse.make(400, message, "invalid_json"))
}

const textOf = (bytes: Buffer): string => (bytes.length === 0 ? "" : bytes.toString("utf8"))

const checkedText = (bytes: Buffer): string => (isUtf8(bytes) ? textOf(bytes) : wrong("The body is not valid UTF-8."))

const parse = (text: string): BodyFields.Fields => {
  if (text === "") wrong("The body is empty; it must be a JSON object.")
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    const reason = error instanceof Error ? error.message.replace(/,? ?"[\s\S]*$/, "").slice(0, 100) : ""
    wrong(`The body is not JSON: ${reason}`)
  }
  return BodyFields.isObject(value) ? value : wrong("The body must be a JSON object.")
}

/** Refuses in the words of Ollama's own reader. */
const parseOllama = (text: string, path: string): BodyFields.Fields => {
  if (text === "") return wrong("missing request body")
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    return wrong(OllamaValidation.syntaxError(text, error instanceof Error ? error.message : ""))
  }
  return BodyFields.isObject(value) ? value : wrong(OllamaValidation.notAnObject(path, value))
}

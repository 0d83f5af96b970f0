import type { IncomingMessage, ServerResponse } from "node:http"
import type { Priority } from "../../Fleet.js"
import type { Trace } from "../../Telemetry.js"
import type { TraceContext } from "../../Transport.js"
import type { ModelPatterns } from "../keys/modelPatterns.js"
import { RequestRecord } from "../observability/RequestRecord.js"
import * as OllamaValidation from "../protocols/ollama/validation.js"
import type { RateDemand, RateTicket, TokenUsage } from "../rateLimits.js"
import type * as BodyFields from "./body.js"
import * as ErrorResponse from "./errorResponse.js"
import * as FieldPolicy from "./fieldPolicy.js"
import { canFrame, chunkOf, endWith, lastChunk, sharedChunkOf } from "./framing.js"
import { HeavyWork } from "./heavyWork.js"
import * as Id from "./id.js"
import { Holding, MemoryBudget } from "./memoryBudget.js"
import { checkedText, parse, parseOllama, textOf } from "./parseBody.js"
import { RequestBody } from "./requestBody.js"
import type { Transcript } from "./transcript.js"

/** The API whose error format is used. */
export type ApiProtocol = "openai" | "ollama" | "anthropic"

const jsonType = "application/json; charset=utf-8"

const requestId = /^[\w.:-]{1,128}$/

/** A body of more bytes, or with more JSON in it (see `bodyCost`), takes so long to read that others have their turn. */
const heavyBytes = 1024 * 1024
const heavyCost = 50_000
const heavyWork = new HeavyWork()

/** Up to this much of an unwanted body is read, so that the connection can be reused. */
const maxDrainedBody = 64 * 1024

/**
 * After an error, up to this much of the body is still read, for up to this long, so that the client receives the error
 * response.
 */
const lingerBytes = 64 * 1024 * 1024
const lingerTime = 2_000

const noop = () => {}

const rejectWith = (errorResponse: ErrorResponse.ErrorResponse | undefined): void => {
  if (errorResponse !== undefined) throw new ErrorResponse.RequestRejected(errorResponse)
}

/** Ollama's plain-text replies to an unknown path or method. */
const ollamaRouteErrors: { readonly [code: string]: string } = {
  unknown_url: "404 page not found",
  method_not_allowed: "405 method not allowed"
}

type Headers = { [name: string]: string | number }

/** Response data that the client has not read yet. */
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

/** Response data that clients have not read yet. */
const unsentBudget = new MemoryBudget(256 * 1024 * 1024)

/** Bytes of an answer that may be buffered for a slow client while the server continues: most answers are shorter. */
const maxUnsent = 1024 * 1024

export class RequestContext {
  readonly id: string
  readonly began = performance.now()
  protocol: ApiProtocol = "openai"
  route = "other"
  /** The name of the API key. */
  caller: string | undefined
  /** What belongs to the API key is stored under this: its id, or the name of one of the settings. */
  identity: string | undefined
  /** The end user whom the client asks for, if it says so. */
  endUser: string | undefined
  /** A model is asked: it counts in the usage. */
  asksModel = false
  /** Its index among the requests under way; -1: it is none of them. */
  place = -1
  /** The conversation id, if the client sends one. */
  conversation: string | undefined
  /** Whether it has administrator rights. */
  admin = false
  /** Whether it may change models on servers. */
  manages = false
  /** The models that its key may use; `undefined`: all. */
  models: ModelPatterns | undefined
  /** `batch` if its key or a header says so. */
  priority: Priority = "interactive"
  /** Whether only local servers may answer it, because its key or a header says so. */
  private = false
  /** Whether a header alone says so. */
  privateByHeader = false
  /** The session that was begun for it. */
  createdSession: string | undefined
  /** Its bodies, where the request log keeps them. */
  transcript: Transcript | undefined
  /** What it holds of its key's rate limits, if the key has any. */
  rateTicket: RateTicket | undefined
  /** The request was sent to an upstream server. */
  dispatched = false
  /** The client disconnected before the response was complete. */
  disconnected = false
  /** Time spent in the gateway itself, in milliseconds. */
  ownTime = 0
  status = 0
  readonly headers: Headers
  /** What the log, the span and the metrics will say about it. */
  readonly record = new RequestRecord()
  /** Where its spans go; without a tracer, the trace context to pass on. */
  trace: Trace | undefined
  traceContext: TraceContext | undefined
  /** Fields of the request that were ignored. */
  ignored = new FieldPolicy.IgnoredFields(false)
  private disconnectListeners: Array<() => void> | undefined
  private drainListeners: Array<() => void> | undefined
  private unsent: Holding | undefined
  /** The chunks of the response are framed here. */
  private framed = false
  /** What reads the body: it is notified when the connection stalls. */
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
    // The connection stalled: no more of the body arrives, or the client stopped reading.
    response.on("timeout", () => {
      if (this.reading?.over === false) this.reading.stopped()
      else if (response.writableLength > 0) this.abort("client_not_reading")
    })
    // An error on the response is followed by `close`, which is handled above.
    response.on("error", noop)
  }

  /** Calls `listener` when the client disconnects. */
  onDisconnect(listener: () => void): void {
    if (this.disconnected) listener()
    else if (this.disconnectListeners === undefined) this.disconnectListeners = [listener]
    else this.disconnectListeners.push(listener)
  }

  /** Reserves rate limits of the key, or rejects the request. */
  reserve(demand: () => RateDemand): Promise<void> | undefined {
    const reservation = this.rateTicket?.reserve(demand())
    if (reservation instanceof Promise) return reservation.then(rejectWith)
    rejectWith(reservation)
    return undefined
  }

  /** The tokens used; `undefined` if the client disconnected while a server was working and no count is known. */
  usage(): TokenUsage | undefined {
    const { completionTokens: completion, promptTokens: prompt } = this.record
    return this.disconnected && this.dispatched && prompt + completion === 0 ? undefined : { prompt, completion }
  }

  /** Decodes a body, and reports the ignored fields in a header. */
  decode<A>(decode: (body: BodyFields.Fields, ignored: FieldPolicy.IgnoredFields) => A, body: BodyFields.Fields): A {
    const decoded = decode(body, this.ignored)
    this.reportIgnored()
    return decoded
  }

  /** Lists the ignored fields in a header, unless the headers were sent already. */
  reportIgnored(): void {
    const header = this.ignored.headerValue()
    if (header !== undefined) this.headers[FieldPolicy.header] = header
  }

  get headersSent(): boolean {
    return this.response.headersSent
  }

  /** Ignores fields of the body that have no effect, or rejects them in strict mode. */
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
    this.framed = canFrame(this.request, this.response, this.headers)
    if (this.framed) this.headers["transfer-encoding"] = "chunked"
    this.writeHead(200, {
      "content-type": contentType,
      "cache-control": "no-cache, no-transform",
      "x-accel-buffering": "no"
    })
    if (this.framed) this.response.chunkedEncoding = false
  }

  /** Whose share of the shared resources it uses: its key's, or without keys its address's. */
  get owner(): string {
    return this.caller ?? this.request.socket.remoteAddress ?? ""
  }

  /** Removes from an error message what clients must not see. */
  redactMessage: (text: string) => string = (text) => text

  /** An error as the client receives it. */
  forClient(errorResponse: ErrorResponse.ErrorResponse): ErrorResponse.ErrorResponse {
    return { ...errorResponse, message: this.redactMessage(errorResponse.message), requestId: this.id }
  }

  /** An administrator breaks it off. */
  cancel(): void {
    this.abort("cancelled")
  }

  private abort(code: string): void {
    this.record.error = code
    this.response.destroy()
  }

  /** `false` if the client reads too slowly: write nothing more before `drained`. */
  write(text: string): boolean {
    this.transcript?.add(text)
    // An empty chunk would end the response.
    if (this.disconnected || text === "" || this.response.write(this.framed ? chunkOf(text) : text)) return true
    return this.waits()
  }
  /** The same with text that many responses are sent: it is framed once for all. */
  writeShared(text: Buffer): boolean {
    if (this.disconnected || this.response.write(this.framed ? sharedChunkOf(text) : text)) return true
    return this.waits()
  }
  private waits(): boolean {
    const { writableLength } = this.response
    this.charge(writableLength)
    return writableLength <= maxUnsent
  }
  /** Data written but not yet read counts against the client until it has been read. */
  private charge(bytes: number): void {
    if (this.disconnected) return
    if (this.unsent === undefined) {
      this.unsent = new Unsent(this.owner, () => this.abort("client_too_slow"))
    }
    const { unsent: waiting } = this
    if (waiting.bytes === 0) this.response.once("drain", () => unsentBudget.release(waiting))
    unsentBudget.resize(waiting, bytes)
  }
  /** Also resolves when the client disconnects. */
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
    this.transcript?.add(text)
    if (this.disconnected) return
    if (this.framed) endWith(this.response, text === "" ? lastChunk : chunkOf(text) + lastChunk)
    else if (text === "") this.response.end()
    else this.response.end(text)
  }

  send(status: number, contentType: string, text: string, extra: Headers = {}): void {
    if (this.disconnected || this.response.headersSent) return
    // Trailers are only possible after a chunked body.
    if (this.headers["trailer"] !== undefined) delete this.headers["trailer"]
    this.transcript?.add(text)
    const length = Buffer.byteLength(text)
    this.writeHead(status, { "content-type": contentType, "content-length": length, ...extra })
    if (this.request.method === "HEAD") this.response.end()
    else endWith(this.response, text)
    if (this.response.writableNeedDrain) this.charge(length)
  }
  /** A file. */
  sendBytes(contentType: string, bytes: Buffer): void {
    if (this.disconnected || this.response.headersSent) return
    this.writeHead(200, { "content-type": contentType, "content-length": bytes.length })
    this.response.end(this.request.method === "HEAD" ? undefined : bytes)
  }
  json(value: unknown, status = 200, extra: Headers = {}): void {
    this.sendJson(JSON.stringify(value), status, extra)
  }
  /** `text` is JSON. */
  sendJson(text: string, status = 200, extra: Headers = {}): void {
    this.send(status, jsonType, text, extra)
  }

  /** Rejects the request without waiting for a body that was not read. */
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
    if (this.disconnected || this.response.headersSent) return
    const text = JSON.stringify(body)
    const length = Buffer.byteLength(text)
    this.writeHead(status, { "content-type": jsonType, "content-length": length, ...headers, connection: "close" })
    // Node closes the connection when the response has ended: a client that is still sending would not get to read it.
    this.response.write(text)
    this.drainRequest(() => this.response.end())
  }

  /** Whether the rest of the request is short enough to be read after the response, as Node does. */
  private isDrainable(): boolean {
    const { headers } = this.request
    if (headers["transfer-encoding"] !== undefined || headers.expect !== undefined) return false
    return Number(headers["content-length"] ?? 0) <= maxDrainedBody
  }

  /** Reads what still comes of the request for a while, and then closes the connection. */
  drainRequest(done?: () => void): void {
    const { request } = this
    let bytes = 0
    const over = done ?? (() => request.destroy())
    const timer = setTimeout(over, lingerTime)
    timer.unref()
    request.on("data", (part: Buffer) => {
      bytes += part.length
      if (bytes > lingerBytes) over()
    })
    if (done !== undefined) request.on("end", done)
    request.on("close", () => clearTimeout(timer))
    request.on("error", () => {})
    request.resume()
  }

  /** The body as a JSON object, or a rejection. */
  fields(max: number, type = "Request"): Promise<BodyFields.Fields> {
    const contentType = this.request.headers["content-type"]
    // Ollama accepts any content type.
    if (
      this.protocol !== "ollama" &&
      contentType !== undefined &&
      contentType !== "application/json" &&
      !/^application\/([\w.+-]*\+)?json\s*(;|$)/i.test(contentType)
    ) {
      throw new ErrorResponse.RequestRejected(
        ErrorResponse.make(
          415,
          `The body must be application/json, not ${contentType.slice(0, 100)}.`,
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
      if (bytes.length > heavyBytes || body.cost > heavyCost) return this.heavy(body, bytes, type)
      body.release()
      const began = performance.now()
      const fields = this.protocol === "ollama" ? parseOllama(textOf(bytes), type) : parse(checkedText(bytes))
      this.ownTime += performance.now() - began
      return fields
    })
  }

  /** Others have a turn between reading the text of a large body and reading what it says. */
  private async heavy(body: RequestBody, bytes: Buffer, type: string): Promise<BodyFields.Fields> {
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
      return await piece(() => (ollama ? parseOllama(text, type) : parse(text)))
    } finally {
      body.release()
    }
  }
}

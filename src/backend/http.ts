/** What the HTTP backends share: one exchange with a server, and the meaning of its status and error body. */
import type { ServerFailure, Sink } from "../Backend.js"
import type { ToolDefinition } from "../ChatRequest.js"
import type { Unsupported } from "../Errors.js"
import { type Lines, LineTooLong } from "../internal/lines.js"
import * as UnsupportedOptions from "../internal/unsupported.js"
import { headersOf, type Protocol, type Server } from "../Server.js"
import type { Exchange, Service as Transport, TransportFailure, TransportHandler } from "../Transport.js"
import * as Classify from "./errorText.js"
import * as Misaddressed from "./wrongAddress.js"

/**
 * Decodes the body of one successful response. `feed` and `end` throw `Malformed` for violations of the protocol and
 * `Reported` for an error that the server reports inside its answer. `broke` is called instead of `end` if the
 * connection broke: an answer that is complete in spite of it is accepted.
 */
export interface Decoder extends Lines {
  /** Whether the answer was marked complete. (An accessor would give every decoder a hidden class of its own.) */
  finished(): boolean
  broke(): void
}

export class Malformed extends Error {
  override readonly name = "Malformed"
}

export class Reported extends Error {
  override readonly name = "Reported"

  /** `codes`: the `code` and `type` beside the text; `option`: the option that is at fault. */
  constructor(
    message: string,
    readonly codes = "",
    readonly option?: string
  ) {
    super(message)
  }
}

/**
 * The limitation of a server, not an error of the request: another server may support the option that it cannot take.
 */
export class Unable extends Error {
  override readonly name = "Unable"

  constructor(readonly option: Unsupported) {
    super(option.reason)
  }
}

/** An error object in place of a chunk. */
export const reported = (body: object): Reported =>
  new Reported(errorText(body) ?? "an error without a message", Classify.codesOf(body), Classify.optionOf(body))

const maxErrorBytes = 64 * 1024
const decoder = new TextDecoder()

const short = (text: string): string => (text.length > 300 ? `${text.slice(0, 300)}…` : text)

/**
 * The text of a server's error, in any of the usual forms: `{"error": "…"}`, `{"error": {"message": "…"}}`, the same
 * nested as a string, `{"detail": "…"}`, `{"message": "…"}`, or plain text.
 */
export const errorText = (body: unknown, depth = 0): string | undefined => {
  if (depth > 6) return undefined
  if (typeof body === "string") {
    const text = body.trim()
    if (text.startsWith("{")) {
      try {
        return errorText(JSON.parse(text), depth + 1) ?? short(text)
      } catch {
        return short(text)
      }
    }
    return text === "" || /^<(!doctype|html)/i.test(text) ? undefined : short(text)
  }
  if (typeof body !== "object" || body === null) return undefined
  const fields = body as { readonly [key: string]: unknown }
  for (const key of ["error", "message", "detail"]) {
    const text = errorText(fields[key], depth + 1)
    if (text !== undefined) return text
  }
  return undefined
}

/** A Retry-After above one day, in milliseconds, is clamped. */
const longestRest = 86_400_000

/** The wait that a `Retry-After` header (seconds, or a date) asks for, in milliseconds; at most a day. */
export const retryAfter = (header: string | undefined, now: number): number | undefined => {
  if (header === undefined) return undefined
  const retryAfter = Number(header) * 1000
  const rest = Number.isNaN(retryAfter) ? Date.parse(header) - now : retryAfter
  return Number.isNaN(rest) ? undefined : Math.min(longestRest, Math.max(0, rest))
}

/** Default rest of a server whose queue is full, in milliseconds. */
const busyRest = 1_000

/** Default rest of a server that is loading the model, in milliseconds. */
const loadingRest = 1_000

/** An error's JSON, if it is JSON. */
const jsonOf = (body: string): unknown => {
  try {
    return JSON.parse(body)
  } catch {
    return undefined
  }
}

/** Anthropic's API answers 400 where an account has nothing left. */
const isUnpaid = (text: string): boolean =>
  /\bcredit balance is too low\b|\byou have reached your specified .{0,30}usage limits\b/i.test(text)

/** The failure for an HTTP status other than 2xx. */
export const statusFailure = (
  status: number,
  body: string,
  retryAfterHeader: string | undefined,
  now: number
): ServerFailure => {
  const reported = errorText(body)
  const text = reported ?? `HTTP ${status}`
  const json = jsonOf(body)
  const option = Classify.optionOf(json)
  const make = (reason: ServerFailure["reason"], rest?: number): ServerFailure => ({
    reason,
    message: text,
    status,
    ...(rest === undefined ? {} : { retryAfter: rest }),
    ...(option === undefined ? {} : { option })
  })
  const words =
    reported === undefined || status < 400 ? undefined : Classify.classifyByText(text, Classify.codesOf(json), status)
  switch (status) {
    case 400:
      return make(isUnpaid(text) ? "unauthorized" : (words ?? "invalid-request"))
    case 413:
    case 414:
    case 415:
    case 422:
    case 431:
      return make(words ?? "invalid-request")
    case 401:
    case 402:
    case 403:
      return make("unauthorized")
    case 404:
      if (words === "model-failed" || words === "context-length") return make(words)
      return /model/i.test(body) && !Misaddressed.isWrongPath(body, reported)
        ? make("model-not-found")
        : make("server-error")
    case 429:
      return make("rate-limited", retryAfter(retryAfterHeader, now))
    case 529:
      return make("busy", retryAfter(retryAfterHeader, now) ?? busyRest)
    case 501:
      return make("unsupported")
    case 503: {
      const rest = retryAfter(retryAfterHeader, now)
      if (words === "loading") return make(words, rest ?? loadingRest)
      if (rest !== undefined) return make("busy", rest)
      return /server busy/i.test(text) ? make("busy", busyRest) : make(words ?? "server-error")
    }
    default:
      return status >= 500 || status === 408
        ? make(words ?? "server-error")
        : status >= 400
          ? make(words ?? "rejected")
          : { reason: "malformed", message: `unexpected HTTP status ${status}`, status }
  }
}

/** The headers of a chat request to this server. */
export const headers = (
  server: Server,
  accept: string,
  protocol: Protocol | undefined = server.protocol
): { readonly [name: string]: string } =>
  server.headers === undefined && server.authorization === undefined && protocol !== "anthropic"
    ? { "content-type": "application/json", accept }
    : { "content-type": "application/json", accept, ...headersOf(server, protocol) }

/** One request to a server: `url` is an address of its API. `protocol`: if it has headers of its own. */
export interface Request {
  readonly server: Server
  readonly protocol?: Protocol | undefined
  readonly url: string
  readonly accept: string
  readonly body: object
}

/** A tool in the form of both protocols; Ollama ignores `strict`. Undefined fields are not sent. */
export const functionTool = ({ description, name, parameters, strict }: ToolDefinition): object => ({
  type: "function",
  function: { name, description, parameters: parameters ?? { type: "object", properties: {} }, strict }
})

/**
 * An id for a tool call that came without one. It is globally unique, because a conversation may hold calls named by
 * other processes.
 */
export const callId = (): string =>
  `call_${Array.from(globalThis.crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("")}`

/** A native microtask costs more: it carries an asynchronous context. */
const settled = Promise.resolve()

/** How long the body of a complete answer may stay open, in milliseconds. */
const lingerTime = 1_000

/** How long the body of an error may take, in milliseconds: its status is already known. */
const errorTime = 1_000

/** The events of an attempt other than the answer: signs of life, and its failure. */
export type Listener = Pick<Sink, "context" | "connected" | "read" | "flush" | "fail">

/** What an error of a decoder says of the server; any other error is thrown again. */
export const failureOf = (error: unknown): ServerFailure => {
  if (error instanceof Reported) {
    const { codes, message, option } = error
    const reason = Classify.classifyByText(message, codes, undefined) ?? "server-error"
    return option === undefined ? { reason, message } : { reason, message, option }
  }
  if (error instanceof Unable) return UnsupportedOptions.failure([error.option])
  if (error instanceof Malformed || error instanceof LineTooLong) {
    return { reason: "malformed", message: error.message }
  }
  throw error
}

const first = (value: string | ReadonlyArray<string> | undefined): string | undefined =>
  typeof value === "string" ? value : value?.[0]

class HttpAttempt implements TransportHandler, Exchange {
  private status = 0
  private retryAfter: string | undefined
  private location: string | undefined
  /** Until the body begins. */
  private contentType: string | undefined
  private errorBody: Array<Uint8Array> = []
  private errorBytes = 0
  private over = false
  private lingering: ReturnType<typeof setTimeout> | undefined
  private waitTimer: ReturnType<typeof setTimeout> | undefined
  private exchange: Exchange | undefined

  constructor(
    private readonly sink: Listener,
    private readonly decoder: Decoder,
    private readonly request: Request,
    private readonly now: () => number
  ) {}

  begin(exchange: Exchange): void {
    this.exchange = exchange
    if (this.over) exchange.abort()
  }

  connected(): void {
    this.sink.connected()
  }

  head(status: number, headers: { readonly [name: string]: string | ReadonlyArray<string> | undefined }): void {
    this.status = status
    this.contentType = first(headers["content-type"])
    if (status >= 300) {
      this.retryAfter = first(headers["retry-after"])
      this.location = first(headers["location"])
      this.waitTimer = setTimeout(() => this.statusFailed(), errorTime)
    }
  }

  data(bytes: Uint8Array): void {
    if (this.over) return
    if (this.status >= 300) {
      this.errorBytes += bytes.length
      this.errorBody.push(new Uint8Array(bytes))
      if (this.errorBytes > maxErrorBytes) this.statusFailed()
      return
    }
    if (this.contentType !== undefined) {
      const isPage = Misaddressed.isWebPage(this.contentType, bytes)
      this.contentType = undefined
      if (isPage) {
        this.abort()
        this.sink.fail(Misaddressed.webPage)
        return
      }
    }
    this.sink.read()
    try {
      this.decoder.feed(bytes)
    } catch (error) {
      this.decodeFailed(error)
      return
    }
    this.sink.flush()
    if (this.decoder.finished()) void settled.then(() => this.linger())
  }

  /** The answer is complete. The connection is reused if the body ends soon, else closed. */
  private linger(): void {
    if (this.over || this.lingering !== undefined) return
    this.lingering = setTimeout(() => this.abort(), lingerTime)
  }

  end(): void {
    clearTimeout(this.lingering)
    if (this.over) return
    if (this.status >= 300) {
      this.statusFailed()
      return
    }
    this.sink.read()
    try {
      this.decoder.end()
    } catch (error) {
      this.decodeFailed(error)
      return
    }
    this.over = true
    if (this.decoder.finished()) this.sink.flush()
    else this.sink.fail({ reason: "cut", message: "the answer ended before it was complete" })
  }

  error(failure: TransportFailure): void {
    clearTimeout(this.lingering)
    if (this.over) return
    if (this.status >= 300) {
      this.statusFailed()
      return
    }
    const wasFinished = this.decoder.finished()
    if (this.status !== 0 && !wasFinished) {
      try {
        this.decoder.broke()
      } catch (error) {
        this.decodeFailed(error)
        return
      }
    }
    this.over = true
    if (this.decoder.finished()) {
      if (!wasFinished) this.sink.flush()
      return
    }
    this.sink.fail(
      this.status === 0
        ? Misaddressed.explainConnection(failure)
        : failure.reason === "malformed"
          ? failure
          : { reason: "cut", message: `the connection broke in the middle of the answer: ${failure.message}` }
    )
  }

  abort(): void {
    clearTimeout(this.lingering)
    clearTimeout(this.waitTimer)
    this.over = true
    this.exchange?.abort()
  }
  pause(): void {
    this.exchange?.pause()
  }
  resume(): void {
    this.exchange?.resume()
  }

  private statusFailed(): void {
    if (this.over) return
    const body = this.errorBody.map((part) => decoder.decode(part)).join("")
    this.abort()
    const { location, request } = this
    const failed = { address: request.server.url, url: request.url, body, text: errorText(body), location }
    this.sink.fail(
      Misaddressed.explainWrongAddress(statusFailure(this.status, body, this.retryAfter, this.now()), failed)
    )
  }

  private decodeFailed(error: unknown): void {
    if (this.over) return
    this.abort()
    this.sink.fail(failureOf(error))
  }
}

/**
 * Sends one request, and lets `decoder` report to `sink`. It carries the sink's trace context. `now` is the time in
 * milliseconds since the epoch.
 */
export const start = (
  transport: Transport,
  request: Request,
  decoder: Decoder,
  sink: Listener,
  now: () => number
): Exchange => {
  const attempt = new HttpAttempt(sink, decoder, request, now)
  const { context } = sink
  const own = headers(request.server, request.accept, request.protocol)
  attempt.begin(
    transport.send(
      {
        method: "POST",
        url: request.url,
        headers: context === undefined ? own : { ...own, ...context },
        body: JSON.stringify(request.body)
      },
      attempt
    )
  )
  return attempt
}

/** Parses JSON, or throws `Malformed`. */
export const parseJson = (text: string): { readonly [key: string]: unknown } => {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw new Malformed(`not JSON: ${short(text)}`)
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new Malformed(`not an object: ${short(text)}`)
  }
  return value as { readonly [key: string]: unknown }
}

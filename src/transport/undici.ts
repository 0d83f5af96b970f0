/**
 * The transport for Node: undici's dispatcher without the layers above it.
 *
 * @internal
 */

import { existsSync, readFileSync } from "node:fs"
import { maxHeaderSize } from "node:http"
import { rootCertificates } from "node:tls"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { LRUCache } from "lru-cache"
import { Agent, Client, type Dispatcher } from "undici"
import * as Settings from "../Settings.js"
import { type Exchange, Transport, type TransportFailure, type TransportHandler } from "../Transport.js"
import * as Connections from "./connections.js"
import * as ContentEncoding from "./contentEncoding.js"
import { proxyOf } from "./proxies.js"

/**
 * Whether undici is what its name says.
 *
 * @internal
 */
export const isGenuine = [Agent, Client].every(({ prototype }) => typeof prototype?.dispatch === "function")

const aborted = new Error("aborted by the caller")
/** A native microtask costs more: it carries an asynchronous context. */
const settled = Promise.resolve()

const textOf = (error: unknown): string => {
  if (!(error instanceof Error)) return String(error)
  if (error instanceof AggregateError && error.message === "") {
    return error.errors.map((e) => (e instanceof Error ? e.message : String(e))).join("; ")
  }
  return error.message
}

const codeOf = (error: unknown): string | undefined => {
  for (let e = error, depth = 0; e instanceof Error && depth < 4; depth++) {
    const code = (e as NodeJS.ErrnoException).code
    if (typeof code === "string") return code
    e = e instanceof AggregateError ? e.errors[0] : e.cause
  }
  return undefined
}

/** `through` is the proxy that the connection was to go through. */
const failureOf = (error: unknown, through?: string): TransportFailure => {
  const failure = causeOf(error)
  if (through === undefined) return failure
  return { ...failure, message: `${failure.message} (through the proxy ${through})`, proxy: through }
}

const causeOf = (error: unknown): TransportFailure => {
  const code = codeOf(error)
  const message = textOf(error)
  switch (code) {
    case "ECONNREFUSED":
    case "EHOSTUNREACH":
    case "ENETUNREACH":
    case "EADDRNOTAVAIL":
      return { reason: "refused", message, code }
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return { reason: "dns", message, code }
    case "UND_ERR_CONNECT_TIMEOUT":
    case "ETIMEDOUT":
      return { reason: "connect-timeout", message, code }
    case "ECONNRESET":
    case "EPIPE":
    case "UND_ERR_SOCKET":
      return { reason: "reset", message, code }
    case "UND_ERR_HEADERS_OVERFLOW":
      return { reason: "malformed", message: `the headers of the answer are longer than ${maxHeaderSize} bytes`, code }
    default:
      return code !== undefined && /TLS|SSL|CERT|SELF_SIGNED|UNABLE_TO_VERIFY/.test(code)
        ? { reason: "tls", message, code }
        : { reason: "network", message, code }
  }
}

/**
 * What the first answer on a connection shows that is not HTTP: the address leads to something else. A TLS alert is how
 * many servers reject a request without TLS.
 */
const foreignAnswer = (error: unknown): TransportFailure | undefined => {
  if (!(error instanceof Error) || error.name !== "HTTPParserError" || !error.message.includes("Expected HTTP/")) {
    return undefined
  }
  const { data } = error as { readonly data?: unknown }
  return typeof data === "string" && data.startsWith("\u0015\u0003")
    ? { reason: "tls", message: "the answer is a TLS alert", code: "TLS_ALERT" }
    : { reason: "malformed", message: "the answer is not HTTP", code: "NOT_HTTP" }
}

/**
 * How long after a request was written the news may arrive that the server had closed the idle connection, in
 * milliseconds. A later close means that the server received the request and aborted it.
 */
const newsTakes = 3_000

class Handler implements Dispatcher.DispatchHandler, Exchange, Connections.LaneUser {
  lane: Connections.ConnectionLane | undefined
  private controller: Dispatcher.DispatchController | undefined
  private open = true
  private again = false
  private connection: Connections.Connection | undefined
  /** Bytes read on the connection, and the time, when the request started to be written. */
  private bytesBefore = 0
  private beganAt = 0
  /** The chunks of this socket read so far. */
  private first: Uint8Array | undefined
  private more: Array<Uint8Array> | undefined
  /** The receiver of the body: the handler, or the decompressor. */
  private body: Pick<TransportHandler, "data" | "end" | "error">
  private decoding: ContentEncoding.Decoding | undefined

  constructor(
    private readonly handler: TransportHandler,
    /** The address of the proxy, without a password. */
    private readonly proxy: string | undefined,
    private readonly dispatch: (handler: Handler, fresh: boolean) => void
  ) {
    this.body = handler
  }

  begin(): void {
    try {
      this.dispatch(this, this.again)
    } catch (error) {
      this.fail(error)
    }
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    if (!this.open) {
      controller.abort(aborted)
      return
    }
    this.controller = controller
    const connection = this.lane?.take()
    this.connection = connection
    if (connection?.reused === true) {
      this.bytesBefore = connection.socket?.bytesRead ?? 0
      this.beganAt = performance.now()
    }
    this.handler.connected()
  }
  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: { readonly [name: string]: string | Array<string> | undefined }
  ): void {
    if (!this.open || status < 200) return
    const layers = ContentEncoding.layersOf(headers)
    if (layers.length > 0 && !this.decode(layers)) return
    this.handler.head(status, headers)
  }
  /** Whether it can be read. */
  private decode(layers: ReadonlyArray<string>): boolean {
    const failure = ContentEncoding.unreadable(layers)
    if (failure !== undefined) {
      this.abort()
      this.handler.error(failure)
      return false
    }
    const { controller } = this
    const source: Exchange = {
      abort: () => {
        this.open = false
        controller?.abort(aborted)
      },
      pause: () => controller?.pause(),
      resume: () => controller?.resume()
    }
    this.decoding = new ContentEncoding.Decoding(layers, this.handler, source)
    this.body = this.decoding
    return true
  }
  onResponseData(_controller: Dispatcher.DispatchController, chunk: Uint8Array): void {
    if (!this.open) return
    if (this.first === undefined) {
      this.first = chunk
      void settled.then(this.deliver)
    } else if (this.more === undefined) this.more = [this.first, chunk]
    else this.more.push(chunk)
  }
  /** Servers send each piece in a chunk of its own: those of one read are passed on together. */
  private readonly deliver = (): void => {
    const { first, more } = this
    if (first === undefined) return
    this.first = undefined
    this.more = undefined
    if (!this.open) return
    try {
      this.body.data(more === undefined ? first : Buffer.concat(more))
    } catch (error) {
      // An exception in a microtask would be uncaught: it fails this exchange only.
      this.fail(error)
      this.controller?.abort(aborted)
    }
  }
  onResponseEnd(): void {
    this.deliver()
    if (!this.open) return
    this.open = false
    this.body.end()
  }
  onResponseError(_controller: Dispatcher.DispatchController, error: unknown): void {
    this.deliver()
    if (this.open && !this.again && this.wasIdle(error)) {
      this.again = true
      this.begin()
      return
    }
    this.fail(error)
  }

  /** The server closed an idle connection just as it was reused: the request never reached it. */
  private wasIdle(error: unknown): boolean {
    const { connection } = this
    return (
      connection?.reused === true &&
      connection.socket?.bytesRead === this.bytesBefore &&
      performance.now() - this.beganAt < newsTakes &&
      failureOf(error).reason === "reset"
    )
  }

  private fail(error: unknown): void {
    if (!this.open) return
    this.open = false
    const foreign = this.connection?.reused === false ? foreignAnswer(error) : undefined
    this.body.error(foreign ?? failureOf(error, this.controller === undefined ? this.proxy : undefined))
  }
  abort(): void {
    // Decompressed data may still be on its way when the response has ended.
    this.decoding?.abort()
    if (!this.open) return
    this.open = false
    this.controller?.abort(aborted)
  }
  pause(): void {
    if (this.decoding !== undefined) this.decoding.pause()
    else if (this.open) this.controller?.pause()
  }
  resume(): void {
    if (this.decoding !== undefined) this.decoding.resume()
    else if (this.open) this.controller?.resume()
  }
}

/** The relevant part of the settings. */
type Network = Pick<Settings.Settings, "ca" | "proxy">

/**
 * These authorities and those that Node trusts: a custom list replaces Node's default.
 *
 * @internal
 */
export const trusted = (ca: ReadonlyArray<string>): ReadonlyArray<string> => {
  const extra = process.env["NODE_EXTRA_CA_CERTS"]
  const file = extra === undefined || !existsSync(extra) ? [] : [readFileSync(extra, "utf8")]
  return [...rootCertificates, ...file, ...ca]
}

const finalized = (dispatcher: Dispatcher): Effect.Effect<void> => Effect.promise(() => dispatcher.destroy())

/**
 * One shared agent, and one with only fresh connections for retries; and the same for each proxy.
 *
 * @internal
 */
export const make = Effect.fnUntraced(function* ({ ca, proxy }: Network) {
  const tls = ca === undefined || ca.length === 0 ? {} : { ca: [...trusted(ca)] }
  const agent = (kept: boolean) =>
    Effect.acquireRelease(
      Effect.sync(() => Connections.agent(kept, tls)),
      ({ abandon, dispatcher }) => Effect.zipRight(finalized(dispatcher), Effect.sync(abandon))
    )
  const direct: Lanes = [(yield* agent(true)).dispatcher, (yield* agent(false)).dispatcher]
  const proxies = new Map<string, Lanes>()
  yield* Effect.addFinalizer(() => Effect.forEach([...proxies.values()].flat(), finalized, { discard: true }))
  const lanesTo = (through: string | undefined): Lanes => {
    if (through === undefined) return direct
    const lanes: Lanes = proxies.get(through) ?? [
      Connections.proxied(through, true, tls),
      Connections.proxied(through, false, tls)
    ]
    proxies.set(through, lanes)
    return lanes
  }
  const paths = new LRUCache<string, Target>({ max: 4096 })
  return Transport.of({
    send: (request, handler) => {
      let target = paths.get(request.url)
      if (target === undefined) {
        const url = new URL(request.url)
        const { origin } = url
        const through = proxy === undefined ? undefined : proxyOf(proxy, origin)
        const proxyHost = through === undefined ? undefined : new URL(through).origin
        target = { origin, path: url.pathname + url.search, lanes: lanesTo(through), proxy: proxyHost }
        paths.set(request.url, target)
      }
      const { lanes, origin, path } = target
      // What comes in parts cannot be sent once more.
      const once = typeof request.body === "object"
      const exchange = new Handler(handler, target.proxy, (passenger, again) => {
        const options: Connections.LaneOptions = {
          origin,
          path,
          method: request.method,
          headers: { "accept-encoding": "identity", ...request.headers },
          body: (request.body ?? null) as string | null,
          user: passenger
        }
        lanes[again || once ? 1 : 0].dispatch(options, passenger)
      })
      exchange.begin()
      return exchange
    }
  })
})

/** Reused connections, and fresh ones. */
type Lanes = readonly [kept: Dispatcher, fresh: Dispatcher]

/** Where the requests to a URL go. */
interface Target {
  readonly origin: string
  readonly path: string
  readonly lanes: Lanes
  readonly proxy: string | undefined
}

/**
 * Direct connections only.
 *
 * @internal
 */
export const layer: Layer.Layer<Transport> = Layer.scoped(Transport, make({}))

/**
 * According to the settings.
 *
 * @internal
 */
export const layerConfigured: Layer.Layer<Transport, never, Settings.CurrentSettings> = Layer.scoped(
  Transport,
  Effect.flatMap(Settings.CurrentSettings, make)
)

/**
 * Small requests with callbacks instead of Effects: with thousands of servers to ask, the fibers and Effects of each
 * request cost more than the request.
 *
 * @internal
 */
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as HttpIncomingMessage from "@effect/platform/HttpIncomingMessage"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as Option from "effect/Option"
import * as Runtime from "effect/Runtime"
import type { Exchange, Service, Transfer, TransportFailure, TransportHandler } from "../Transport.js"
import { TransferMeter } from "./transfer.js"

/** @internal */
export interface PlainRequest {
  readonly method: "GET" | "POST"
  /** The absolute address. */
  readonly url: string
  readonly headers: { readonly [name: string]: string }
  /** JSON. */
  readonly body: string | undefined
  /** A longer response fails with `tooLong`. */
  readonly maxBytes: number
}

/**
 * A complete response. `transfer` is how its body arrived, where that was measured.
 *
 * @internal
 */
export class PlainResponse {
  constructor(
    readonly status: number,
    readonly text: string,
    /** The header of this name. */
    readonly location: string | undefined,
    readonly transfer: Transfer | undefined
  ) {}
}

/**
 * A request without a complete response. Not an `Error`: the stack of a refused connection is useless, and costs time.
 *
 * @internal
 */
export class RequestFailed {
  constructor(
    /** Whether a response had begun. */
    readonly answered: boolean,
    readonly cause: unknown
  ) {}
}

/**
 * Sends a request. `done` is called once, never at once, and not after the function that is returned, which aborts it.
 *
 * @internal
 */
export type Send = (request: PlainRequest, done: (outcome: PlainResponse | RequestFailed) => void) => () => void

/**
 * The code of the failure of a response that is too long.
 *
 * @internal
 */
export const tooLong = "UND_ERR_RES_EXCEEDED_MAX_SIZE"

const utf8 = new TextDecoder()

const textOf = (first: Uint8Array | undefined, more: ReadonlyArray<Uint8Array>, bytes: number): string => {
  if (first === undefined) return ""
  if (more.length === 0) return utf8.decode(first)
  const all = new Uint8Array(bytes)
  all.set(first)
  let at = first.length
  for (const part of more) {
    all.set(part, at)
    at += part.length
  }
  return utf8.decode(all)
}

class PlainExchange implements TransportHandler {
  exchange: Exchange | undefined
  private open = true
  private status = 0
  private location: string | undefined
  private first: Uint8Array | undefined
  private readonly more: Array<Uint8Array> = []
  private bytes = 0
  private readonly meter = new TransferMeter()

  constructor(
    private readonly maxBytes: number,
    private readonly done: (outcome: PlainResponse | RequestFailed) => void
  ) {}

  connected(): void {
    this.meter.sent()
  }
  head(status: number, headers: { readonly [name: string]: string | ReadonlyArray<string> | undefined }): void {
    this.status = status
    const { location } = headers
    this.location = typeof location === "object" ? location[0] : location
  }
  data(read: Uint8Array): void {
    if (!this.open) return
    this.bytes += read.length
    this.meter.read(read.length)
    if (this.bytes > this.maxBytes) {
      this.exchange?.abort()
      this.settle(new RequestFailed(true, { code: tooLong }))
      return
    }
    // Copied, because the reader may reuse its buffer.
    const part = new Uint8Array(read)
    if (this.first === undefined) this.first = part
    else this.more.push(part)
  }
  end(): void {
    if (!this.open) return
    const text = textOf(this.first, this.more, this.bytes)
    this.settle(new PlainResponse(this.status, text, this.location, this.meter.transfer))
  }
  error(failure: TransportFailure): void {
    this.settle(new RequestFailed(this.status > 0, failure))
  }
  readonly abort = (): void => {
    this.open = false
    this.exchange?.abort()
  }

  private settle(outcome: PlainResponse | RequestFailed): void {
    if (!this.open) return
    this.open = false
    this.done(outcome)
  }
}

const overTransport =
  (transport: Service): Send =>
  ({ body, headers, maxBytes, method, url }, done) => {
    const handler = new PlainExchange(maxBytes, done)
    try {
      handler.exchange = transport.send({ method, url, headers, body }, handler)
    } catch (error) {
      queueMicrotask(() => handler.error({ reason: "network", message: String(error) }))
    }
    return handler.abort
  }

const overClient = (given: HttpClient.HttpClient, runtime: Runtime.Runtime<never>): Send => {
  const client = HttpClient.withTracerDisabledWhen(given, () => true)
  return ({ body, headers, maxBytes, method, url }, done) => {
    const plain = HttpClientRequest.make(method)(url, { headers })
    const request = body === undefined ? plain : HttpClientRequest.bodyText(plain, body, "application/json")
    const fiber = Runtime.runFork(runtime)(
      client.execute(request).pipe(
        Effect.flatMap((response) =>
          Effect.map(
            response.text,
            (text) => new PlainResponse(response.status, text, response.headers["location"], undefined)
          )
        ),
        HttpIncomingMessage.withMaxBodySize(Option.some(maxBytes)),
        Effect.catchAll((error) => Effect.succeed(new RequestFailed(error._tag === "ResponseError", error))),
        // The runtime may be that of a layer, which is built in a part that nothing interrupts.
        Effect.interruptible
      )
    )
    let open = true
    fiber.addObserver((exit) => {
      if (!open) return
      open = false
      done(Exit.isSuccess(exit) ? exit.value : new RequestFailed(false, Cause.squash(exit.cause)))
    })
    return () => {
      open = false
      fiber.unsafeInterruptAsFork(FiberId.none)
    }
  }
}

const transports = new WeakMap<HttpClient.HttpClient, Service>()

/**
 * Remembers that a client does nothing but send over a transport.
 *
 * @internal
 */
export const register = (client: HttpClient.HttpClient, transport: Service): void => {
  transports.set(client, transport)
}

/**
 * How requests are sent that a client would send: over its transport if it is ours, else in a fiber each.
 *
 * @internal
 */
export const of = (client: HttpClient.HttpClient, runtime: Runtime.Runtime<never>): Send => {
  const transport = transports.get(client)
  return transport === undefined ? overClient(client, runtime) : overTransport(transport)
}

/**
 * The same of the client that there is.
 *
 * @internal
 */
export const make: Effect.Effect<Send, never, HttpClient.HttpClient> = Effect.flatMap(HttpClient.HttpClient, (client) =>
  Effect.map(Effect.runtime<never>(), (runtime) => of(client, runtime))
)

/**
 * The transport over `fetch`: for browsers, and for runtimes in which undici is only a name. Connections, proxies and
 * certificates are the runtime's own.
 *
 * @internal
 */
import * as Layer from "effect/Layer"
import { type Exchange, Transport, type TransportHandler, type TransportRequest } from "../Transport.js"
import { failureOf } from "./fetchFailure.js"

/**
 * `fetch` does not say when a connection is made. A connection that is refused fails sooner than this, in milliseconds;
 * one that is silent for longer counts as made, so that a model has the time for a first token that it is allowed.
 */
const connectedAfter = 500

/** A body in parts, which browsers send over HTTP/2 only. */
const streamed = (parts: AsyncIterable<Uint8Array>): ReadableStream<Uint8Array> => {
  const iterator = parts[Symbol.asyncIterator]()
  return new ReadableStream({
    async pull(controller) {
      const next = await iterator.next()
      if (next.done === true) controller.close()
      else controller.enqueue(next.value)
    },
    async cancel() {
      await iterator.return?.()
    }
  })
}

const bodyOf = ({
  body
}: TransportRequest): { readonly body?: string | ReadableStream<Uint8Array>; readonly duplex?: "half" } =>
  body === undefined ? {} : typeof body === "string" ? { body } : { body: streamed(body), duplex: "half" }

class FetchExchange implements Exchange {
  private readonly controller = new AbortController()
  private open = true
  private isConnected = false
  /** Set while it is paused. */
  private resumed: { readonly promise: Promise<void>; readonly resolve: () => void } | undefined
  private readonly timer: ReturnType<typeof setTimeout>

  constructor(
    private readonly request: TransportRequest,
    private readonly handler: TransportHandler,
    private readonly more: object
  ) {
    this.timer = setTimeout(() => this.connected(), connectedAfter)
    void this.run()
  }

  abort(): void {
    if (!this.open) return
    this.close()
    this.controller.abort()
    this.resume()
  }

  pause(): void {
    if (!this.open || this.resumed !== undefined) return
    let resolve = () => {}
    const promise = new Promise<void>((done) => {
      resolve = done
    })
    this.resumed = { promise, resolve }
  }

  resume(): void {
    this.resumed?.resolve()
    this.resumed = undefined
  }

  private async run(): Promise<void> {
    const { headers, method, url } = this.request
    try {
      const response = await fetch(url, {
        method,
        headers: headers as Record<string, string>,
        signal: this.controller.signal,
        // As everywhere in this library: an address that leads elsewhere is a wrong address.
        redirect: "manual",
        ...this.more,
        ...bodyOf(this.request)
      })
      if (!this.open) return
      this.connected()
      if (response.type === "opaqueredirect") {
        this.fail({
          reason: "malformed",
          message: "answered with a redirect, which is not followed: name the address itself"
        })
        this.controller.abort()
        return
      }
      this.handler.head(response.status, Object.fromEntries(response.headers))
      if (response.body !== null) await this.read(response.body.getReader())
      if (!this.open) return
      this.close()
      this.handler.end()
    } catch (error) {
      this.fail(failureOf(error, url))
      this.controller.abort()
    }
  }

  private async read(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<void> {
    while (this.open) {
      const { done, value } = await reader.read()
      if (done || !this.open) return
      this.handler.data(value)
      if (this.resumed !== undefined) await this.resumed.promise
    }
  }

  private connected(): void {
    if (this.isConnected || !this.open) return
    this.isConnected = true
    clearTimeout(this.timer)
    this.handler.connected()
  }

  private fail(failure: Parameters<TransportHandler["error"]>[0]): void {
    if (!this.open) return
    this.close()
    this.handler.error(failure)
  }

  private close(): void {
    this.open = false
    clearTimeout(this.timer)
  }
}

/**
 * The service; `options` are what else `fetch` takes in this runtime for requests to an origin.
 *
 * @internal
 */
export const make = (options: (origin: string) => object) =>
  Transport.of({
    send: (request, handler) => new FetchExchange(request, handler, options(new URL(request.url).origin))
  })

const inBrowser = { cache: "no-store" }

/**
 * For browsers.
 *
 * @internal
 */
export const layer: Layer.Layer<Transport> = Layer.succeed(
  Transport,
  make(() => inBrowser)
)

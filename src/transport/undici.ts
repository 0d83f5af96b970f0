/**
 * The transport for Node: undici's dispatcher without the layers above it.
 *
 * @internal
 */

import type { Socket } from "node:net"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Agent, buildConnector, type Dispatcher, errors } from "undici"
import { type Exchange, Transport, type TransportFailure, type TransportHandler } from "../Transport.js"

const aborted = new Error("aborted by the caller")
/** A microtask of Node's own costs more: it carries an asynchronous context. */
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

const failureOf = (error: unknown): TransportFailure => {
  const code = codeOf(error)
  const message = textOf(error)
  switch (code) {
    case "ECONNREFUSED":
    case "EHOSTUNREACH":
    case "ENETUNREACH":
    case "EADDRNOTAVAIL":
      return { reason: "refused", message }
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return { reason: "dns", message }
    case "UND_ERR_CONNECT_TIMEOUT":
    case "ETIMEDOUT":
      return { reason: "connect-timeout", message }
    case "ECONNRESET":
    case "EPIPE":
    case "UND_ERR_SOCKET":
      return { reason: "reset", message }
    default:
      return code !== undefined && /TLS|SSL|CERT|SELF_SIGNED|UNABLE_TO_VERIFY/.test(code)
        ? { reason: "tls", message }
        : { reason: "network", message }
  }
}

/** The server closed an idle connection just as it was to be used again: the request never reached it. */
const wasIdle = (error: unknown): boolean =>
  error instanceof errors.SocketError && error.socket !== null && (error.socket?.bytesRead ?? 0) > 0

class Handler implements Dispatcher.DispatchHandler, Exchange {
  private controller: Dispatcher.DispatchController | undefined
  private open = true
  private answered = false
  private fresh = false
  /** What this read of the socket has brought so far. */
  private first: Uint8Array | undefined
  private more: Array<Uint8Array> | undefined

  constructor(
    private readonly handler: TransportHandler,
    private readonly dispatch: (handler: Handler) => void
  ) {}

  begin(): void {
    try {
      this.dispatch(this)
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
    this.handler.connected()
  }
  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: { readonly [name: string]: string | Array<string> | undefined }
  ): void {
    if (!this.open || status < 200) return
    this.answered = true
    this.handler.head(status, headers)
  }
  onResponseData(_controller: Dispatcher.DispatchController, chunk: Uint8Array): void {
    if (!this.open) return
    if (this.first === undefined) {
      this.first = chunk
      void settled.then(this.deliver)
    } else if (this.more === undefined) this.more = [this.first, chunk]
    else this.more.push(chunk)
  }
  /** Servers send each piece in a chunk of its own: those that one read has brought are handed on together. */
  private readonly deliver = (): void => {
    const { first, more } = this
    if (first === undefined) return
    this.first = undefined
    this.more = undefined
    if (!this.open) return
    try {
      this.handler.data(more === undefined ? first : Buffer.concat(more))
    } catch (error) {
      // Nobody would catch it in a microtask: it ends this exchange, and nothing else.
      this.fail(error)
      this.controller?.abort(aborted)
    }
  }
  onResponseEnd(): void {
    this.deliver()
    if (!this.open) return
    this.open = false
    this.handler.end()
  }
  onResponseError(_controller: Dispatcher.DispatchController, error: unknown): void {
    this.deliver()
    if (this.open && !this.answered && !this.fresh && wasIdle(error)) {
      this.fresh = true
      this.begin()
      return
    }
    this.fail(error)
  }

  private fail(error: unknown): void {
    if (!this.open) return
    this.open = false
    this.handler.error(failureOf(error))
  }
  abort(): void {
    if (!this.open) return
    this.open = false
    this.controller?.abort(aborted)
  }
  pause(): void {
    if (this.open) this.controller?.pause()
  }
  resume(): void {
    if (this.open) this.controller?.resume()
  }
}

/**
 * Connections that nobody waits for any more must not keep the process, nor outlive the agent, which forgets them. The
 * time limit of whoever does wait keeps it.
 */
const makeConnector = () => {
  const connect: (...args: Parameters<buildConnector.connector>) => unknown = buildConnector({ timeout: 120_000 })
  const under = new Set<Socket>()
  const connector: buildConnector.connector = (options, callback) => {
    const socket = connect(options, (...result) => {
      under.delete(socket)
      socket.ref()
      callback(...result)
    }) as Socket
    under.add(socket)
    socket.unref()
  }
  return {
    connector,
    close: () => {
      for (const socket of under) socket.destroy()
    }
  }
}

/**
 * One shared agent. It sets no time limits of its own beyond that of a connect that nobody waits for any more:
 * each call brings its own.
 *
 * @internal
 */
export const make = Effect.gen(function* () {
  const agent = yield* Effect.acquireRelease(
    Effect.sync(() => {
      const { close, connector } = makeConnector()
      const options = { pipelining: 1, headersTimeout: 0, bodyTimeout: 0, maxResponseSize: -1, connect: connector }
      return Object.assign(new Agent(options), { abandon: close })
    }),
    (agent) => Effect.promise(() => agent.destroy()).pipe(Effect.zipRight(Effect.sync(agent.abandon)))
  )
  const paths = new Map<string, { readonly origin: string; readonly path: string }>()
  return Transport.of({
    send: (request, handler) => {
      let target = paths.get(request.url)
      if (target === undefined) {
        const url = new URL(request.url)
        target = { origin: url.origin, path: url.pathname + url.search }
        if (paths.size >= 4096) paths.clear()
        paths.set(request.url, target)
      }
      const options: Dispatcher.DispatchOptions = {
        origin: target.origin,
        path: target.path,
        method: request.method,
        headers: request.headers,
        body: request.body ?? null
      }
      const exchange = new Handler(handler, (handler) => {
        agent.dispatch(options, handler)
      })
      exchange.begin()
      return exchange
    }
  })
})

/** @internal */
export const layer: Layer.Layer<Transport> = Layer.scoped(Transport, make)

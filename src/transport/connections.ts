/**
 * Connection pools that report to each request which connection it uses, and whether that was used before.
 *
 * @internal
 */

import type { Socket } from "node:net"
import { Agent, buildConnector, Client, type Dispatcher, Pool, ProxyAgent } from "undici"
import { percentDecode } from "../internal/percentDecode.js"

/**
 * The connection of a request. `reused`: an earlier request was answered on it.
 *
 * @internal
 */
export interface Connection {
  readonly socket: Socket | undefined
  readonly reused: boolean
}

/** @internal */
export interface ConnectionLane {
  /** Called once per request, when it starts to be written. */
  take(): Connection
}

/** @internal */
export interface LaneUser {
  lane: ConnectionLane | undefined
}

/** @internal */
export interface LaneOptions extends Dispatcher.DispatchOptions {
  readonly user: LaneUser
}

/**
 * One connection at a time. A request that fails or is aborted closes it, so that a second one always follows an
 * answer.
 */
class ConnectionTracker extends Client implements ConnectionLane {
  private readonly state: { socket: Socket | undefined; reused: boolean }

  constructor(origin: URL | string, options: Client.Options) {
    const state = { socket: undefined as Socket | undefined, reused: false }
    const { connect } = options
    super(
      origin,
      typeof connect !== "function"
        ? options
        : {
            ...options,
            connect: (to, done) => {
              connect(to, (...result) => {
                state.socket = result[1] ?? undefined
                state.reused = false
                done(...result)
              })
            }
          }
    )
    this.state = state
  }

  take(): Connection {
    const { reused, socket } = this.state
    this.state.reused = true
    return { socket, reused }
  }

  override dispatch(options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
    const { user } = options as LaneOptions
    user.lane = this
    return super.dispatch(options, handler)
  }
}

/**
 * For how long a connection stays open that no request uses, unless its server asks for less, in milliseconds.
 *
 * @internal
 */
export const keepAliveTimeout = 4_000

/** Each call has its own timeouts, so the pool has none. */
const unlimited = { headersTimeout: 0, bodyTimeout: 0, maxResponseSize: -1, keepAliveTimeout }

const poolOf =
  (pipelining: number) =>
  (origin: URL | string, options: object): Pool =>
    new Pool(origin, {
      pipelining,
      ...unlimited,
      ...options,
      factory: (origin, options) => new ConnectionTracker(origin, options as Client.Options)
    })

/**
 * A connection attempt that no request waits for any more must neither keep the process alive nor outlive the agent. A
 * waiting call's timeout keeps the process alive.
 */
const makeConnector = (tls: object) => {
  const connect: (...args: Parameters<buildConnector.connector>) => unknown = buildConnector({
    ...tls,
    timeout: 120_000
  })
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
 * An agent without timeouts, except for abandoned connection attempts. `kept`: whether connections are reused; else
 * each request has a fresh one.
 *
 * @internal
 */
export const agent = (
  kept: boolean,
  tls: object
): { readonly dispatcher: Dispatcher; readonly abandon: () => void } => {
  const { close, connector } = makeConnector(tls)
  const pipelining = kept ? 1 : 0
  const dispatcher = new Agent({ pipelining, ...unlimited, connect: connector, factory: poolOf(pipelining) })
  return { dispatcher, abandon: close }
}

const credentials = ({ password, username }: URL): string | undefined => {
  if (username === "" && password === "") return undefined
  const plain = `${percentDecode(username)}:${percentDecode(password)}`
  return `Basic ${btoa(String.fromCharCode(...new TextEncoder().encode(plain)))}`
}

/**
 * The same through a proxy: with CONNECT for HTTPS, with absolute URLs for others.
 *
 * @internal
 */
export const proxied = (address: string, kept: boolean, tls: object): Dispatcher => {
  const url = new URL(address)
  const token = credentials(url)
  // Hides credentials from the agent's messages.
  url.username = ""
  url.password = ""
  const pipelining = kept ? 1 : 0
  return new ProxyAgent({
    uri: url.href,
    ...(token === undefined ? {} : { token }),
    proxyTunnel: false,
    requestTls: tls,
    proxyTls: tls,
    pipelining,
    ...unlimited,
    factory: poolOf(pipelining)
  })
}

/**
 * Pools of connections that tell each request which connection it is written to, and whether that was used before.
 *
 * @internal
 */

import type { Socket } from "node:net"
import { Agent, buildConnector, Client, type Dispatcher, Pool } from "undici"

/**
 * The connection that a request is written to. `reused`: an earlier request was answered on it.
 *
 * @internal
 */
export interface Connection {
  readonly socket: Socket | undefined
  readonly reused: boolean
}

/** @internal */
export interface Lane {
  /** To be called once per request, when it begins to be written. */
  take(): Connection
}

/** @internal */
export interface Passenger {
  lane: Lane | undefined
}

/** @internal */
export interface Options extends Dispatcher.DispatchOptions {
  readonly passenger: Passenger
}

/** One connection at a time. A request that fails or is aborted closes it, so that whoever comes second comes after an answer. */
class Connected extends Client implements Lane {
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
    const { passenger } = options as Options
    passenger.lane = this
    return super.dispatch(options, handler)
  }
}

/**
 * The pool of one server. `connections`: each call has its own time limits, so that a pool sets none.
 *
 * @internal
 */
export const pool = (origin: URL | string, options: object): Pool =>
  new Pool(origin, { ...options, factory: (origin, options) => new Connected(origin, options as Client.Options) })

/**
 * Connections that nobody waits for any more must not keep the process, nor outlive the agent, which forgets them. The
 * time limit of whoever does wait keeps it.
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
 * An agent without time limits of its own beyond that of a connect that nobody waits for any more. `kept`: whether
 * connections are used again; else each request has a fresh one.
 *
 * @internal
 */
export const agent = (
  kept: boolean,
  tls: object
): { readonly dispatcher: Dispatcher; readonly abandon: () => void } => {
  const { close, connector } = makeConnector(tls)
  const dispatcher = new Agent({
    pipelining: kept ? 1 : 0,
    headersTimeout: 0,
    bodyTimeout: 0,
    maxResponseSize: -1,
    connect: connector,
    factory: pool
  })
  return { dispatcher, abandon: close }
}

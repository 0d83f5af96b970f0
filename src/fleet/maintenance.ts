/** What an operator does to a server. */
import type { ChangeFeed } from "./changeFeed.js"
import type { ServerState } from "./state.js"

/** See `Fleet.Service`. */
export interface Maintenance {
  readonly rest: (url: string, milliseconds: number) => void
  readonly drain: (url: string) => void
  readonly wake: (url: string) => void
  readonly drained: () => ReadonlyArray<string>
}

const setDrained = (server: ServerState, drained: boolean, at: number): void => {
  server.drained = drained
  server.drainSetAt = Math.max(at, server.drainSetAt + 1)
}

export const make = (
  servers: ReadonlyMap<string, ServerState>,
  serverState: (url: string) => ServerState,
  now: () => number,
  publish: ChangeFeed["publish"]
): Maintenance => {
  const change = (url: string, apply: (server: ServerState, at: number) => void): ServerState => {
    const server = serverState(url)
    const at = now()
    apply(server, at)
    server.changed()
    publish(server, undefined, at)
    return server
  }
  return {
    rest: (url, milliseconds) => {
      change(url, ({ breaker }, at) => {
        breaker.open(at, at, milliseconds, milliseconds)
        breaker.noteOperator(at)
        breaker.cause = { reason: "rest", message: "an operator lets it rest" }
      })
    },
    drain: (url) => {
      change(url, (server, at) => {
        setDrained(server, true, at)
      })
    },
    wake: (url) => {
      const server = change(url, (server, at) => {
        setDrained(server, false, at)
        for (const { breaker } of [server, ...server.models]) {
          breaker.reset()
          breaker.noteOperator(at)
        }
      })
      server.serveQueues()
    },
    drained: () => [...servers.values()].filter(({ drained }) => drained).map(({ url }) => url)
  }
}

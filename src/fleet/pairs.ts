/** The columns of all pairs of models and servers, kept up to date. */
import type { Host } from "../Server.js"
import { PairColumns } from "./pairColumns.js"
import type { ServerChanges } from "./serverChanges.js"
import type { ModelState, ServerState } from "./state.js"

export interface Pairs {
  /** A model has become known on a server. */
  readonly enter: (state: ModelState) => void
  /** The columns of these pairs, as of now. */
  readonly pairs: (hosts: ReadonlyArray<Host>) => PairColumns
}

export const make = (
  servers: ReadonlyMap<string, ServerState>,
  serverState: (url: string) => ServerState,
  changes: ServerChanges,
  now: () => number
): Pairs => {
  let columns: PairColumns | undefined
  /** Where each pair stands, by server and model. */
  let index = new Map<string, Map<string, number>>()
  /** How many of the changes are written. */
  let written = 0

  const enter = (state: ModelState): void => {
    const at = index.get(state.server.url)?.get(state.model)
    state.pair = at === undefined || columns === undefined ? undefined : { columns, at }
    state.pair?.columns.write(state.pair.at, state)
  }

  /** The pairs of the servers that have changed since the last choice. */
  const catchUp = (): void => {
    const changed = new Set<ServerState>()
    if (!changes.keeps(written)) for (const server of servers.values()) changed.add(server)
    else for (let number = written; number < changes.sequence; number++) changed.add(serverState(changes.at(number)))
    for (const server of changed) {
      for (const state of server.models) state.pair?.columns.write(state.pair.at, state)
    }
    written = changes.sequence
  }

  const pairs = (hosts: ReadonlyArray<Host>): PairColumns => {
    // Every choice passes here: a clock that was set back is noticed before.
    now()
    if (columns?.hosts === hosts) {
      catchUp()
      return columns
    }
    const made = new PairColumns(hosts)
    columns = made
    index = new Map()
    hosts.forEach(({ model, server: { url } }, at) => {
      const known = index.get(url)
      if (known === undefined) index.set(url, new Map([[model, at]]))
      else known.set(model, at)
    })
    // What is in flight on a server counts for each of its models.
    for (const host of hosts) serverState(host.server.url).model(host.model)
    for (const server of servers.values()) for (const state of server.models) enter(state)
    written = changes.sequence
    return made
  }

  return { enter, pairs }
}

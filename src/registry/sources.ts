/** Which servers there are to ask: the configured ones, then those that only registry files name. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Geocoding from "../internal/geocoding.js"
import type { Server } from "../Server.js"
import type { LocalServer } from "../Servers.js"
import type { Catalogue } from "./catalogue.js"
import type { Source } from "./serverEntry.js"

/** `nearest` needs coordinates. An unknown place stays as it was named, and its distance is unknown. */
const withCoordinates = ({ server, ...source }: Source): Effect.Effect<Source> => {
  const { location } = server
  return location === undefined || Geocoding.hasCoordinates(location)
    ? Effect.succeed({ ...source, server })
    : Effect.map(Geocoding.locate(location), (found) => ({
        ...source,
        server: { ...server, coordinates: Either.getOrUndefined(found) }
      }))
}

/**
 * What is configured for a server goes before what the registry files record of it. The engines of this machine come
 * before both.
 */
export const sourcesOf = (
  configured: ReadonlyArray<Server>,
  { servers }: Catalogue,
  local: ReadonlyArray<LocalServer> = []
): Effect.Effect<ReadonlyArray<Source>> => {
  const all = new Map<string, Source>()
  for (const { info, names = [], problem, server } of local) {
    all.set(server.url, { server, own: true, measurements: new Map(), fixed: { info, names, problem } })
  }
  for (const server of configured) {
    const recorded = servers.get(server.url)
    if (all.has(server.url)) continue
    all.set(server.url, {
      server:
        recorded === undefined
          ? server
          : {
              ...server,
              protocol: server.protocol ?? recorded.server.protocol,
              location: server.location ?? recorded.server.location,
              organization: server.organization ?? recorded.server.organization
            },
      own: true,
      measurements: recorded?.models ?? new Map()
    })
  }
  for (const [url, recorded] of servers) {
    if (!all.has(url)) all.set(url, { server: recorded.server, own: false, measurements: recorded.models })
  }
  return Effect.forEach([...all.values()], withCoordinates)
}

/** Keeps the registry and the fleet in step with the servers that come and go. */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type * as Fleet from "../Fleet.js"
import { canonical } from "../Model.js"
import type { Host } from "../Server.js"
import type { LocalServer, Service, Usage } from "../Servers.js"
import type { ModelLists } from "./modelLists.js"

const takesNone = ({ problem, server }: LocalServer): boolean => server.maxInFlight === 0 && problem === undefined

/** Follows the changes until the scope closes. */
export const follow = (servers: Service, lists: ModelLists, fleet: Fleet.Service) => {
  let before = new Map<string, LocalServer>()
  const apply = (all: ReadonlyArray<LocalServer>) =>
    Effect.map(lists.reload, () => {
      for (const one of all) {
        const { info, problem, server } = one
        const last = before.get(server.url)
        // It answers again: what it failed with is no reason to avoid it.
        if (!takesNone(one) && last !== undefined && takesNone(last)) fleet.probed(server.url, true)
        // One that cannot answer is still asked, so that calls that wait for it get its error.
        fleet.limit(server.url, problem === undefined ? server.maxInFlight : undefined)
        if (takesNone(one) && (fleet.snapshot(server.url, info.model_name).queued ?? 0) > 0)
          servers.wanted(info.model_name)
      }
      // Calls that wait for a server that is gone try another one.
      for (const url of before.keys()) if (!all.some(({ server }) => server.url === url)) fleet.limit(url, undefined)
      before = new Map(all.map((one) => [one.server.url, one]))
    })
  const usage = (url: string, model: string): Usage => {
    const { inFlight, queued = 0, tokensPerSecond } = fleet.snapshot(url, model)
    return { inFlight, queued, answered: fleet.contacts(url).reached, tokensPerSecond }
  }
  return Effect.acquireRelease(
    Effect.sync(() => servers.observe(usage)),
    (end) => Effect.sync(end)
  ).pipe(Effect.zipRight(Effect.forkScoped(Effect.interruptible(Stream.runForEach(servers.changes, apply)))))
}

/** Whether a server that comes and goes has the model. */
export const has = (servers: Service, key: string): boolean => {
  const all = servers.now()
  return all.some(({ info, names = [] }) => [info.model_name, ...names].some((name) => canonical(name) === key))
}

/** Has the model loaded where only servers were found that take no request yet. */
export const want = (servers: Service, hosts: ReadonlyArray<Host>): void => {
  if (servers.now().length === 0) return
  const [first] = hosts
  if (first !== undefined && hosts.every(({ server }) => server.maxInFlight === 0)) servers.wanted(first.model)
}

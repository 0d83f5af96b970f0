/** Publishes changes of the fleet while there are watchers: at most twice a second for each server. */
import type { ServerStatus } from "../../Registry.js"
import type { Labels } from "../http/errorResponse.js"
import type { Library } from "../library.js"
import { serverView, statusesOf } from "./fleetState.js"
import type { EventsHub } from "./hub.js"
import { known } from "./upstream.js"
import type { FleetEvent } from "./views.js"

/** Changes within this time are one event, in milliseconds. */
const interval = 500

/** How old the servers' statuses may be, in milliseconds. */
const maxStatusAge = 1_000

/** Gives what stops it. */
export const start = (library: Library, labels: Labels, hub: EventsHub): (() => void) => {
  const dirty = new Map<string, Set<string>>()
  let timer: ReturnType<typeof setTimeout> | undefined
  let stopped = false
  let statuses: ReadonlyArray<ServerStatus> = []
  let readAt = Number.NEGATIVE_INFINITY

  const tell = async (): Promise<void> => {
    const changed = [...dirty]
    dirty.clear()
    if (performance.now() - readAt > maxStatusAge) {
      readAt = performance.now()
      statuses = await statusesOf(library)
    }
    if (stopped) return
    const byUrl = new Map(statuses.map((status) => [status.url, status]))
    for (const [url, models] of changed) {
      const status = byUrl.get(url)
      if (status === undefined) continue
      const view = serverView(library, labels, status, known(library).get(url), models)
      const event: FleetEvent = { at: Date.now(), ...view }
      hub.publish("fleet", event)
    }
  }
  const onTime = () => {
    void tell()
      .catch(() => {})
      .then(() => {
        timer = undefined
        if (dirty.size > 0) schedule()
      })
  }
  const schedule = () => {
    if (timer !== undefined || stopped) return
    timer = setTimeout(onTime, interval)
    timer.unref()
  }
  const stop = library.fleet.onChange((server, model) => {
    const models = dirty.get(server)
    if (models === undefined) dirty.set(server, new Set([model]))
    else models.add(model)
    schedule()
  })
  return () => {
    stopped = true
    clearTimeout(timer)
    stop()
  }
}

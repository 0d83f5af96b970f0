/** Rest, drain and wake of servers, in every process. */
import type { Library } from "../library.js"
import type { EventsHub } from "./hub.js"

export interface ServerAction {
  readonly action: "rest" | "drain" | "wake"
  readonly url: string
  /** How long it rests, in milliseconds. */
  readonly time: number
}

/** From now on actions apply to the servers of this library, and so do those whose effect lasts. */
export const attach = (
  library: Library,
  { drained, events }: { readonly drained: Set<string>; readonly events: EventsHub }
): void => {
  for (const url of drained) library.fleet.drain(url)
  events.actions((data) => {
    const { action, time, url } = JSON.parse(data) as ServerAction
    if (action === "rest") library.fleet.rest(url, time)
    else if (action === "drain") {
      drained.add(url)
      library.fleet.drain(url)
    } else {
      drained.delete(url)
      library.fleet.wake(url)
    }
  })
}

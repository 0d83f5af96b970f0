/** Rest, drain and wake of servers, in every process. */
import type { Library } from "../library.js"
import type { EventsHub } from "./hub.js"

export interface ServerAction {
  readonly action: "rest" | "drain" | "wake"
  readonly url: string
  /** How long it rests, in milliseconds. */
  readonly time: number
}

export class ServerActions {
  private library: Library | undefined

  /** `isTold`: the fleets of all processes tell each other what was done to a server. */
  constructor(
    private readonly events: EventsHub,
    private readonly isTold: boolean
  ) {
    events.actions((data) => this.run(JSON.parse(data) as ServerAction))
  }

  /** From now on actions apply to the servers of this library, and so do those whose effect lasts. */
  attach(library: Library): void {
    for (const url of this.library?.fleet.drained() ?? []) library.fleet.drain(url)
    this.library = library
  }

  act(action: ServerAction): void {
    if (this.isTold) this.run(action)
    else this.events.act(JSON.stringify(action))
  }

  private run({ action, time, url }: ServerAction): void {
    const fleet = this.library?.fleet
    if (action === "rest") fleet?.rest(url, time)
    else if (action === "drain") fleet?.drain(url)
    else fleet?.wake(url)
  }
}

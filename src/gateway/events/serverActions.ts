/** Rest, drain and wake of servers. Where there are several processes, their fleets tell each other. */
import type { Library } from "../library.js"

export interface ServerAction {
  readonly action: "rest" | "drain" | "wake"
  readonly url: string
  /** How long it rests, in milliseconds. */
  readonly time: number
}

export class ServerActions {
  private library: Library | undefined

  /** From now on actions apply to the servers of this library, and so do those whose effect lasts. */
  attach(library: Library): void {
    for (const url of this.library?.fleet.drained() ?? []) library.fleet.drain(url)
    this.library = library
  }

  act({ action, time, url }: ServerAction): void {
    const fleet = this.library?.fleet
    if (action === "rest") fleet?.rest(url, time)
    else if (action === "drain") fleet?.drain(url)
    else fleet?.wake(url)
  }
}

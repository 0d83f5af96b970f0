/** The servers that a call found loading its model. They are waited for until `loadTimeout`. */
import type { Attempt } from "../Errors.js"

export class LoadingServers {
  /** When each was first found so. */
  private readonly since = new Map<string, number>()

  /** `timeout` in milliseconds. */
  constructor(
    private readonly timeout: number,
    private readonly now: () => number
  ) {}

  /** Records that a server is loading the model; returns whether to wait for it. */
  found(server: string): boolean {
    if (!this.since.has(server)) this.since.set(server, this.now())
    return this.isInTime(server)
  }

  /** Whether it is waited for; `last` is what came of it last. */
  has(server: string, last: Attempt | undefined): boolean {
    return last?.reason === "loading" && this.isInTime(server)
  }

  private isInTime(server: string): boolean {
    const since = this.since.get(server)
    return since !== undefined && this.now() - since < this.timeout
  }
}

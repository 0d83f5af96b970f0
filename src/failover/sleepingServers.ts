/**
 * The servers of one call whose machines sleep: they are woken only where no other server is left, and waited for within
 * `loadTimeout`.
 */
import type { ServerFailure } from "../Backend.js"
import type { Attempt } from "../Errors.js"
import { classifyFailure } from "../fleet/failureClass.js"
import { maxTimer } from "../internal/silenceTimer.js"
import type { Host } from "../Server.js"

/** What wakes machines, for all calls. */
export interface Waking {
  /** Whether a server is known to be off, can be woken, and may have the model. */
  readonly asleep: (host: Host) => boolean
  /** Has its machine woken; returns what ends the wait. */
  readonly wake: (
    host: Host,
    waiter: { readonly woken: () => void; readonly failed: (reason: string) => void }
  ) => () => void
}

/** The end of a wait: the server that answers, or those that do not, each with the reason. */
export interface WakeOutcome {
  readonly woken?: Host | undefined
  readonly failed: ReadonlyArray<readonly [host: Host, failure: ServerFailure]>
}

const failure = (message: string): ServerFailure => ({ reason: "asleep", message })

export class SleepingServers {
  /** Those that were waited for, by address: whether they came. */
  private readonly waited = new Map<string, boolean>()
  private since: number | undefined
  private leave: (() => void) | undefined

  constructor(
    private readonly waking: Waking,
    private readonly now: () => number
  ) {}

  get waits(): boolean {
    return this.leave !== undefined
  }

  /** Whether a server had better be asked last: it is known to be off. */
  defers(host: Host): boolean {
    return host.server.wake !== undefined && !this.waited.has(host.server.url) && this.waking.asleep(host)
  }

  /** Those of these servers that may be woken, within the time that is left of `loadTimeout`. */
  private candidates(hosts: ReadonlyArray<Host>, lastOf: (host: Host) => Attempt | undefined): ReadonlyArray<Host> {
    return hosts.filter((host) => {
      if (host.server.wake === undefined || this.waited.get(host.server.url) === false) return false
      const last = lastOf(host)
      return last === undefined ? this.defers(host) : classifyFailure(last).unreachable
    })
  }

  /** Has them woken, and calls `done` at the end of the wait; `false` if there is none, or no time is left. */
  wake(
    hosts: ReadonlyArray<Host>,
    lastOf: (host: Host) => Attempt | undefined,
    loadTimeout: number,
    done: (outcome: WakeOutcome) => void
  ): boolean {
    const now = this.now()
    const asleep = this.candidates(hosts, lastOf)
    if (asleep.length === 0) return false
    this.since ??= now
    const remaining = this.since + loadTimeout - now
    const left = new Map<Host, ServerFailure | undefined>(asleep.map((host) => [host, undefined]))
    const ends: Array<() => void> = []
    const finish = (woken: Host | undefined, otherwise: string) => {
      this.stop()
      const failed = woken === undefined ? asleep : []
      for (const host of failed) this.waited.set(host.server.url, false)
      if (woken !== undefined) this.waited.set(woken.server.url, true)
      done({ woken, failed: failed.map((host) => [host, left.get(host) ?? failure(otherwise)]) })
    }
    const late = `was woken, and did not come within ${loadTimeout / 1000} s`
    const timer = setTimeout(() => finish(undefined, late), Math.max(0, Math.min(remaining, maxTimer)))
    this.leave = () => {
      clearTimeout(timer)
      for (const end of ends) end()
    }
    for (const host of asleep) {
      ends.push(
        this.waking.wake(host, {
          woken: () => finish(host, late),
          failed: (reason) => {
            left.set(host, failure(`sleeps, and could not be woken: ${reason}`))
            if ([...left.values()].every((one) => one !== undefined)) finish(undefined, late)
          }
        })
      )
    }
    return true
  }

  /** Ends the wait. */
  stop(): void {
    this.leave?.()
    this.leave = undefined
  }
}

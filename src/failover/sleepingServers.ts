/**
 * The servers of one call whose machines sleep: they are woken only where no other server is left, and waited for within
 * `loadTimeout`.
 */
import type { Attempt } from "../Errors.js"
import { classifyFailure } from "../fleet/failureClass.js"
import { maxTimer } from "../internal/silenceTimer.js"
import type { Route } from "../Router.js"
import { none } from "../router/pickInput.js"
import type { Host } from "../Server.js"
import type { SelectionClient } from "./selectionClient.js"
import type { Waking } from "./waking.js"

/** The selection of servers that this is a part of. */
export interface WakingSelection {
  readonly route: Route
  lastOf(host: Host): Attempt | undefined
  /** Locates the servers of the model again. */
  withRoute(go: (route: Route | undefined) => void): void
  follow(route: Route): void
  proceed(at: number): void
  next(): void
}

export class SleepingServers {
  /** Those that were waited for, by address: whether they came. */
  private waited: Map<string, boolean> | undefined
  private since: number | undefined
  private leave: (() => void) | undefined

  constructor(
    private readonly selection: WakingSelection,
    private readonly client: Pick<SelectionClient, "call" | "delayed" | "dequeued" | "unable">,
    private readonly dependencies: { readonly waking: Waking; readonly now: () => number }
  ) {}

  get waits(): boolean {
    return this.leave !== undefined
  }

  /** Whether a server had better be asked last: it is known to be off. */
  defers(at: number): boolean {
    const host = this.selection.route.columns.hosts[at]
    return host?.server.wake !== undefined && this.isDeferred(host)
  }

  private isDeferred(host: Host): boolean {
    return this.waited?.has(host.server.url) !== true && this.dependencies.waking.asleep(host)
  }

  /** Those of the servers that may be woken. */
  private candidates(): ReadonlyArray<Host> {
    const { lastOf, route } = this.selection
    return route.columns.hosts.filter((host, at) => {
      if (host.server.wake === undefined || this.waited?.get(host.server.url) === false) return false
      if (route.isExcluded(at)) return false
      const last = lastOf.call(this.selection, host)
      return last === undefined ? this.isDeferred(host) : classifyFailure(last).unreachable
    })
  }

  /** No other server is left: has machines woken that sleep, and waits for the first; `false` if there is none. */
  wake(): boolean {
    const asleep = this.candidates()
    if (asleep.length === 0) return false
    const now = this.dependencies.now()
    const { loadTimeout } = this.client.call.limits
    this.since ??= now
    const failures = new Map<Host, string>()
    const ends: Array<() => void> = []
    const finish = (woken: Host | undefined) => {
      this.stop()
      this.client.dequeued()
      if (woken !== undefined) this.askWoken(woken)
      else this.gaveUp(asleep, failures)
    }
    const timer = setTimeout(finish, Math.max(0, Math.min(this.since + loadTimeout - now, maxTimer)), undefined)
    this.leave = () => {
      clearTimeout(timer)
      for (const end of ends) end()
    }
    for (const host of asleep) {
      ends.push(
        this.dependencies.waking.wake(host, {
          woken: () => finish(host),
          failed: (reason) => {
            failures.set(host, reason)
            if (failures.size === asleep.length) finish(undefined)
          }
        })
      )
    }
    this.client.delayed(true)
    return true
  }

  private gaveUp(asleep: ReadonlyArray<Host>, failures: ReadonlyMap<Host, string>): void {
    const { loadTimeout } = this.client.call.limits
    for (const host of asleep) {
      const reason = failures.get(host)
      const message =
        reason === undefined
          ? `was woken, and did not come within ${loadTimeout / 1000} s`
          : `sleeps, and could not be woken: ${reason}`
      this.remember(host.server.url, false)
      this.client.unable(host, { reason: "asleep", message })
    }
    this.selection.proceed(none)
  }

  /** Asks a server whose machine was woken; its list is known by now. */
  private askWoken(woken: Host): void {
    const { url } = woken.server
    this.remember(url, true)
    this.selection.withRoute((route) => {
      const hosts = route?.columns.hosts ?? []
      if (route === undefined || !hosts.some(({ certain, server }) => certain && server.url === url)) {
        this.client.unable(woken, { reason: "model-not-found", message: "was woken, and does not have the model" })
        this.selection.proceed(none)
        return
      }
      this.selection.follow(route)
      for (const [at, host] of hosts.entries()) if (host.server.url !== url) route.tried[at] = 1
      this.selection.next()
    })
  }

  private remember(url: string, came: boolean): void {
    this.waited ??= new Map()
    this.waited.set(url, came)
  }

  /** Ends the wait. */
  stop(): void {
    this.leave?.()
    this.leave = undefined
  }
}

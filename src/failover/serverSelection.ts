/** Server selection: the path of one call across the servers of its model, with retry rounds, backoff and queueing. */
import type { ServerFailure } from "../Backend.js"
import type { Attempt } from "../Errors.js"
import { classifyFailure } from "../fleet/failureClass.js"
import { limitReason, unpriced } from "../fleet/remoteLimit.js"
import { maxTimer } from "../internal/silenceTimer.js"
import * as UnsupportedOptions from "../internal/unsupported.js"
import { type Route, waitForSlot } from "../Router.js"
import { restingAt } from "../router/pickInput.js"
import { type Host, isLocal, type Protocol } from "../Server.js"
import type { Dependencies, Relocate } from "./call.js"
import { LoadingServers } from "./loadingServers.js"
import * as Retries from "./retryPolicy.js"
import type { SelectionClient } from "./selectionClient.js"
import { SleepingServers } from "./sleepingServers.js"

export type { SelectionClient } from "./selectionClient.js"

/** Polling interval while a server loads the model, in milliseconds. */
const loadingPause = 1_000

/** Default maximum of attempts of a call that keeps progressing. */
const maxDefaultAttempts = 64

/** How often a model that no server had is looked for again. */
const maxModelLooks = 2

/** How often a call looks for servers that were discovered or recovered after it has tried all. */
const maxLooks = 3

export class ServerSelection {
  /** Attempts since the request last changed. */
  tries = 0
  /** Those that only found a server loading the model. */
  private loads = 0
  /** Their number when the answer last grew. */
  private triesAtProgress = 0
  private rounds = 0
  /** When every server had failed. */
  private failedAt: number | undefined
  private loadingServers: LoadingServers | undefined
  private looksLeft = maxLooks
  private over = false
  private backoff: ReturnType<typeof setTimeout> | undefined
  private leaveQueue: (() => void) | undefined
  private readonly sleeping: SleepingServers

  constructor(
    private readonly client: SelectionClient,
    private current: Route,
    private readonly dependencies: Pick<
      Dependencies,
      "exhausted" | "hedges" | "lacksPrice" | "now" | "random" | "waking"
    >,
    private readonly relocate: Relocate
  ) {
    this.sleeping = new SleepingServers(this, client, dependencies)
  }

  get route(): Route {
    return this.current
  }

  /** The servers of the model, as far as they are known. */
  get hosts(): ReadonlyArray<Host> {
    return this.current.columns.hosts
  }

  /** Whether it waits for a slot on a server, or for a machine that sleeps. */
  get queued(): boolean {
    return this.leaveQueue !== undefined || this.sleeping.waits
  }

  next(): void {
    const max = this.client.call.limits.maxAttempts
    if (max !== undefined && this.tries - this.loads >= max) {
      this.client.exhausted()
      return
    }
    this.excludeRemote()
    this.proceed(this.current.next())
  }

  /** Makes every server available again, because the request has changed. */
  restart(): void {
    this.tries = 0
    this.loads = 0
    this.looksLeft = maxLooks
    this.progressed()
    this.current.restart()
  }

  /** The answer got further than before: the servers have shown that they work, and are tried as often as at the beginning. */
  progressed(): void {
    this.triesAtProgress = this.tries - this.loads
    this.rounds = 0
    this.failedAt = undefined
  }

  /** Records that a server is loading the model; returns whether to wait for it. */
  loading(server: string): boolean {
    this.loadingServers ??= new LoadingServers(this.client.call.limits.loadTimeout, this.dependencies.now)
    const waits = this.loadingServers.found(server)
    if (waits) this.loads++
    return waits
  }

  /** Stops the selection. */
  stop(): void {
    this.over = true
    if (this.backoff !== undefined) clearTimeout(this.backoff)
    this.leaveQueue?.()
    this.leaveQueue = undefined
    this.sleeping.stop()
  }

  /** A server for a hedged request; -1 if there is none, or the budget is spent. */
  hedgeTarget(): number {
    const { maxAttempts = 2 } = this.client.call.limits
    const { hedges } = this.dependencies
    // The budget is checked first, because a hedge target counts as tried.
    if (this.over || this.tries > 1 || maxAttempts < 2 || !hedges.allowed()) return -1
    this.excludeRemote()
    const at = this.current.hedgeTarget()
    if (at < 0) return -1
    hedges.spend()
    this.tries++
    return at
  }

  /** Excludes servers whose protocol cannot express the request, and engines that failed; nothing is sent to them. */
  excludeUnable(): void {
    const { attempts } = this.client
    const { hosts, protocols } = this.current.columns
    if (this.current.columns.engineFailures > 0) this.excludeEngines()
    let unable: Map<Protocol, ServerFailure> | undefined
    for (const protocol of protocols) {
      const options = this.client.unsupported(protocol)
      if (!UnsupportedOptions.isSome(options)) continue
      unable ??= new Map()
      unable.set(protocol, UnsupportedOptions.failure(options))
    }
    if (unable === undefined) return
    for (const [at, host] of hosts.entries()) {
      const failure = unable.get(host.protocol)
      if (failure === undefined) continue
      this.current.exclude(at)
      // It may have been recorded in an earlier look.
      if (attempts.some(({ reason, server }) => reason === "unsupported" && server === host.server.url)) continue
      this.client.unable(host, failure)
    }
  }

  /** Excludes engines of this machine that do not run. */
  private excludeEngines(): void {
    for (const [at, host] of this.current.columns.hosts.entries()) {
      const { engineFailure } = host.server
      if (engineFailure === undefined) continue
      this.current.exclude(at)
      if (this.lastOf(host)?.reason === "engine") continue
      this.client.unable(host, { reason: "engine", message: engineFailure.reason })
    }
  }

  /** Excludes remote servers where a ceiling of theirs is reached, or the price of the model is not known. */
  private excludeRemote(): boolean {
    const { exhausted, lacksPrice } = this.dependencies
    const limit = exhausted()
    if (limit === undefined && lacksPrice === undefined) return false
    const { hosts } = this.current.columns
    let found = false
    for (const [at, host] of hosts.entries()) {
      if (isLocal(host.server) || this.current.isExcluded(at)) continue
      if (limit === undefined && lacksPrice?.(host.model) !== true) continue
      found = true
      this.current.exclude(at)
      this.client.unable(host, { reason: "remote-limit", message: limit === undefined ? unpriced : limitReason(limit) })
    }
    return found
  }

  proceed(at: number): void {
    // The ceiling may have been reached while the call waited.
    if (at >= 0 && this.excludeRemote() && this.current.isExcluded(at)) {
      this.proceed(this.current.next())
    } else if (at >= 0 && this.sleeping.defers(at)) {
      this.proceed(this.current.next())
    } else if (at >= 0 && !this.isLeftToOthers(at)) {
      this.tries++
      this.client.found(at)
    } else if (at === waitForSlot) this.queue()
    else if (this.client.once) this.client.exhausted()
    else if (this.sleeping.wake()) return
    else if (this.client.call.limits.maxAttempts === undefined || this.current.able() === 0) this.lookAgain()
    else {
      // Every server was tried: only now is the same one tried again, after a pause.
      const { claimed } = this.client
      const asks = (host: Host): boolean => {
        const last = claimed ? this.lastOf(host) : undefined
        return (last === undefined || classifyFailure(last).retryable) && Retries.mayChange(host, this.client.attempts)
      }
      if (!this.current.columns.hosts.some((host, at) => !this.current.isExcluded(at) && asks(host))) {
        this.client.exhausted()
        return
      }
      const round = Math.max(1, Math.floor((this.tries - this.loads) / this.current.able()))
      const { retryBackoff } = this.client.call.limits
      const pause = this.loadsNow()
        ? loadingPause
        : Retries.pauseBefore(round, retryBackoff, this.dependencies.random())
      this.schedule(pause, () => this.beginRound(asks))
    }
  }

  /** A server that rests is not waited for where another model follows. */
  private isLeftToOthers(at: number): boolean {
    return this.client.once && this.tries > 0 && restingAt(this.current.columns, at, this.dependencies.now())
  }

  private schedule(pause: number, go: () => void): void {
    this.backoff = setTimeout(go, Math.min(pause, maxTimer))
    this.client.delayed(false)
  }

  lastOf({ server }: Host): Attempt | undefined {
    return this.client.attempts.findLast((attempt) => attempt.server === server.url)
  }

  private isLoading(host: Host): boolean {
    return this.loadingServers?.has(host.server.url, this.lastOf(host)) === true
  }

  private loadsNow(): boolean {
    return this.loadingServers !== undefined && this.current.columns.hosts.some((host) => this.isLoading(host))
  }

  /**
   * Every server has failed, and the caller set no number of attempts: retries those that may recover, within limits
   * and after a pause.
   */
  private tryAgain(): void {
    const { dependencies, current, client } = this
    const now = dependencies.now()
    this.failedAt ??= now
    const remaining = Retries.retryWindow - (now - this.failedAt)
    const spent = this.tries - this.loads
    const able = current.able()
    const limit = client.claimed ? 2 * able : Retries.defaultAttempts(able)
    const exhausted =
      remaining <= 0 || spent - this.triesAtProgress >= limit || spent >= Math.max(limit, maxDefaultAttempts)
    const worthRetry = (host: Host): boolean => {
      const last = this.lastOf(host)
      return last === undefined || (Retries.isWorthRetry(last) && Retries.mayChange(host, this.client.attempts))
    }
    // The shortest Retry-After among the servers.
    let requestedPause = Number.POSITIVE_INFINITY
    if (!exhausted) {
      for (const host of current.columns.hosts) {
        if (worthRetry(host) && !this.isLoading(host))
          requestedPause = Math.min(requestedPause, this.lastOf(host)?.retryAfter ?? 0)
      }
    }
    const { began, limits } = client.call
    const inTime = (pause: number) => limits.deadline === undefined || now + pause < began + limits.deadline
    const pause = Math.max(
      requestedPause,
      Retries.defaultPauseBefore(this.rounds + 1, limits.retryBackoff, dependencies.random())
    )
    if (requestedPause <= remaining && inTime(pause)) {
      this.rounds++
      this.schedule(pause, () => this.beginRound((host) => this.isLoading(host) || worthRetry(host)))
    } else if (this.loadsNow() && inTime(loadingPause)) {
      this.schedule(loadingPause, () => this.beginRound((host) => this.isLoading(host)))
    } else client.exhausted()
  }

  /** Starts another round over the model's servers as they are known now. */
  private beginRound(asks: (host: Host) => boolean): void {
    this.withRoute((route) => {
      if (route === undefined) this.current.restart()
      else this.follow(route)
      const { columns: pool, tried } = this.current
      for (const [at, host] of pool.hosts.entries()) if (!asks(host)) tried[at] = 1
      this.next()
    })
  }

  /** Every server was tried, but some may have been discovered or recovered since. They are tried without a pause. */
  private lookAgain(): void {
    if (this.client.attempts.every(({ reason }) => reason === "model-not-found")) {
      this.lookForModel()
      return
    }
    if (this.looksLeft === 0) {
      this.tryAgain()
      return
    }
    this.looksLeft--
    this.withRoute((route) => {
      if (route === undefined || !this.hasMore(route)) {
        this.tryAgain()
        return
      }
      this.follow(route)
      this.next()
    })
  }

  /** No server had the model when it was asked. One whose list still names it is asked again after a pause. */
  private lookForModel(): void {
    const { client, dependencies } = this
    const { began, limits } = client.call
    const round = ++this.rounds
    const pause = Retries.defaultPauseBefore(round, limits.retryBackoff, dependencies.random())
    const inTime = limits.deadline === undefined || dependencies.now() + pause < began + limits.deadline
    if (client.attempts.length === 0 || round > maxModelLooks || !inTime) {
      client.exhausted()
      return
    }
    this.withRoute((route) => {
      if (route === undefined || !route.columns.hosts.some(({ certain }) => certain)) {
        client.exhausted()
        return
      }
      this.schedule(pause, () => {
        this.follow(route)
        this.next()
      })
    })
  }

  withRoute(go: (route: Route | undefined) => void): void {
    this.relocate().then(
      (route) => {
        if (!this.over) go(route)
      },
      (error: unknown) => this.client.defect(error)
    )
  }

  /** Whether a server is new, or has answered another call since it failed here; the others count as tried. */
  private hasMore({ columns: pool, tried }: Route): boolean {
    let more = false
    pool.refresh(this.dependencies.now())
    for (const [at, host] of pool.hosts.entries()) {
      const last = this.lastOf(host)
      const isBack = () => pool.restsUntil[at] === 0 && Retries.mayChange(host, this.client.attempts)
      if (last === undefined || (classifyFailure(last).retryable && isBack())) more = true
      else tried[at] = 1
    }
    return more
  }

  follow(route: Route): void {
    this.current = route
    this.excludeUnable()
  }

  /** Whether the model was being loaded there when the call came, and will not be: any number of requests is let in. */
  private isGone(at: number): boolean {
    const { hosts, places } = this.current.columns
    return hosts[at]?.server.maxInFlight === 0 && places[at] === Number.POSITIVE_INFINITY
  }

  /** The engine that the call waited for is gone: there may be another one. */
  private renew(at: number): void {
    const host = this.current.columns.hosts[at]
    this.withRoute((route) => {
      if (route !== undefined) {
        this.follow(route)
        this.next()
        return
      }
      if (host !== undefined) this.client.unable(host, { reason: "model-not-found", message: "is not there any more" })
      this.client.exhausted()
    })
  }

  /** The model was not loaded anywhere within `loadTimeout`. */
  private notLoaded(): void {
    const { loadTimeout } = this.client.call.limits
    for (const [at, host] of this.current.columns.hosts.entries()) {
      if (this.current.isExcluded(at)) continue
      this.client.unable(host, { reason: "loading", message: `was not loaded within ${loadTimeout / 1_000} s` })
    }
    this.client.exhausted()
  }

  /** Waits for a slot on any server that was not tried yet; for `loadTimeout` where none has loaded the model. */
  private queue(): void {
    let waits = true
    let timer: ReturnType<typeof setTimeout> | undefined
    const remaining = (): void => {
      waits = false
      clearTimeout(timer)
      this.leaveQueue = undefined
      this.client.dequeued()
    }
    const ticket = this.current.queue(
      (at) => {
        remaining()
        if (this.isGone(at)) this.renew(at)
        else this.proceed(at)
      },
      (full) => {
        remaining()
        this.client.overloaded(full)
      }
    )
    if (!waits) return
    if ("leave" in ticket) {
      const { leave } = ticket
      this.leaveQueue = () => {
        clearTimeout(timer)
        leave()
      }
      const { hosts, places } = this.current.columns
      if (hosts.every(({ server }) => server.maxInFlight === 0)) {
        const late = () => {
          if (places.some((some) => some > 0)) return
          leave()
          remaining()
          this.notLoaded()
        }
        timer = setTimeout(late, Math.min(this.client.call.limits.loadTimeout, maxTimer))
      }
      this.client.delayed(true)
    } else this.client.overloaded(ticket)
  }
}

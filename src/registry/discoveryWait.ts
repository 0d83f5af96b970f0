/**
 * Waits for servers that are being asked. Each answer costs a waiter constant time, so that waiting for many servers is
 * linear in their number.
 */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import type { Host } from "../Server.js"
import type { Entry } from "./serverEntry.js"

/** How long to wait for other servers once one is certain to have the model, in milliseconds. */
const defaultGrace = 250

/** The same for a server of a better `priority`: the others are only its substitutes. */
const preferredGrace = 1_000

/** What a waiter is looking for: the servers that have it now, and whether one of them does. */
export interface Goal {
  readonly hosts: (now: number) => ReadonlyArray<Pick<Host, "server">>
  readonly isMetBy: (entry: Entry, now: number) => boolean
}

export interface WaitOptions {
  /** Whether a server is waited for until it has answered or failed; the others only for `grace`. */
  readonly required: (entry: Entry) => boolean
  /** Once it is met, all servers are only waited for briefly. */
  readonly goal?: Goal | undefined
  /** In milliseconds, from when a server was queued. */
  readonly grace?: number | undefined
}

class Waiter {
  private readonly left = new Map<Entry, { readonly required: boolean; readonly healthy: boolean }>()
  /** How many of those left are required, and are of a better priority than those found. */
  private required = 0
  private preferred = 0
  /** The best priority of the servers that meet the goal; infinite: none does. */
  private best = Number.POSITIVE_INFINITY
  private signal = Deferred.unsafeMake<void>(FiberId.none)
  private readonly grace: number

  constructor(
    running: ReadonlyArray<Entry>,
    private readonly options: WaitOptions,
    now: number
  ) {
    this.grace = options.grace ?? defaultGrace
    for (const entry of running) {
      const required = options.required(entry)
      this.left.set(entry, { required, healthy: entry.problem === undefined })
      if (required) this.required++
    }
    this.find(now)
  }

  /** A server has answered or failed. */
  settled(entry: Entry, now: number): void {
    const known = this.left.get(entry)
    let wake = false
    if (known !== undefined) {
      this.left.delete(entry)
      if (known.required && --this.required === 0) wake = true
      if (this.isPreferred(entry, known.healthy) && --this.preferred === 0) wake = true
      if (this.left.size === 0) wake = true
    }
    if (entry.server.priority < this.best && this.options.goal?.isMetBy(entry, now) === true) {
      this.find(now)
      wake = true
    }
    if (!wake) return
    const { signal } = this
    this.signal = Deferred.unsafeMake<void>(FiberId.none)
    Deferred.unsafeDone(signal, Exit.void)
  }

  /** `undefined`: the wait is over; else what to wait for, and for how long. */
  next(now: number): { readonly signal: Deferred.Deferred<void>; readonly milliseconds: number } | undefined {
    if (this.left.size === 0) return undefined
    const { signal } = this
    if (this.best === Number.POSITIVE_INFINITY && this.required > 0) {
      return { signal, milliseconds: Number.POSITIVE_INFINITY }
    }
    let until = 0
    for (const [entry, { healthy }] of this.left) {
      until = Math.max(until, entry.askedAt + (this.isPreferred(entry, healthy) ? preferredGrace : this.grace))
    }
    if (until > now) return { signal, milliseconds: until - now }
    if (this.best === Number.POSITIVE_INFINITY) return undefined
    // A model may have been lost meanwhile.
    this.find(now)
    return this.best === Number.POSITIVE_INFINITY ? this.next(now) : undefined
  }

  private isPreferred(entry: Entry, healthy: boolean): boolean {
    return healthy && this.best < Number.POSITIVE_INFINITY && entry.server.priority < this.best
  }

  private find(now: number): void {
    const found = this.options.goal?.hosts(now) ?? []
    this.best = found.reduce((least, { server }) => Math.min(least, server.priority), Number.POSITIVE_INFINITY)
    this.preferred = 0
    for (const [entry, { healthy }] of this.left) if (this.isPreferred(entry, healthy)) this.preferred++
  }
}

/** Those who wait for servers. */
export const make = () => {
  const waiters = new Set<Waiter>()
  return {
    /** To be called for each server that has answered or failed. */
    settled: (entry: Entry, now: number): void => {
      for (const waiter of waiters) waiter.settled(entry, now)
    },
    /** Waits for those of these servers that are being asked. */
    forAll: Effect.fnUntraced(function* (entries: ReadonlyArray<Entry>, options: WaitOptions) {
      const running = entries.filter((entry) => entry.running)
      if (running.length === 0) return
      const waiter = new Waiter(running, options, yield* Clock.currentTimeMillis)
      waiters.add(waiter)
      yield* Effect.ensuring(
        Effect.gen(function* () {
          while (true) {
            const wait = waiter.next(yield* Clock.currentTimeMillis)
            if (wait === undefined) return
            const changed = Deferred.await(wait.signal)
            yield* wait.milliseconds === Number.POSITIVE_INFINITY
              ? changed
              : Effect.asVoid(Effect.timeoutOption(changed, wait.milliseconds))
          }
        }),
        Effect.sync(() => waiters.delete(waiter))
      )
    })
  }
}

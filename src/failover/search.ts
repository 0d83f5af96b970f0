/**
 * Who is asked next: the way of one call over the servers of its model, with its rounds, its pauses and its waiting for a
 * place.
 *
 * @since 0.1.0
 */
import type { Attempt } from "../Errors.js"
import { maxTimer } from "../internal/watch.js"
import { type Route, wait } from "../Router.js"
import type { Host, Protocol } from "../Server.js"
import { mayRecover, pauseBefore } from "./again.js"
import type { Call, Relocate, Surroundings } from "./call.js"

/**
 * Whom the search is for.
 *
 * - `attempts`: those that failed
 * - `found`: this server is to be asked, `search.tries` counts it
 * - `unable`: this server cannot be asked such a thing
 * - `delayed`: nobody is asked for the time being
 * - `exhausted`: nobody is left
 * - `overloaded`: all are busy, and too many wait already
 * - `crashed`: a bug
 *
 * @since 0.1.0
 * @category models
 */
export interface Seeker {
  readonly attempts: ReadonlyArray<Attempt>
  readonly call: Pick<Call, "limits">
  unsupported(protocol: Protocol): ReadonlyArray<string>
  found(at: number): void
  unable(host: Host, reason: string): void
  delayed(queued: boolean): void
  dequeued(): void
  exhausted(): void
  overloaded(ticket: { readonly retryAfter: number; readonly queued: number }): void
  crashed(error: unknown): void
}

/** How often a call looks for servers that were found or came back after it had tried all it knew. */
const maxLooks = 3

/**
 * @since 0.1.0
 * @category models
 */
export class Search {
  /** How many attempts there were since the request was last another one. */
  tries = 0
  private looks = maxLooks
  private over = false
  private backoff: ReturnType<typeof setTimeout> | undefined
  private leaveQueue: (() => void) | undefined

  constructor(
    private readonly seeker: Seeker,
    private current: Route,
    private readonly around: Pick<Surroundings, "hedges" | "random">,
    private readonly relocate: Relocate
  ) {}

  get route(): Route {
    return this.current
  }

  /** Whether it waits for a place on a server. */
  get queued(): boolean {
    return this.leaveQueue !== undefined
  }

  next(): void {
    const max = this.seeker.call.limits.maxAttempts
    if (max !== undefined && this.tries >= max) {
      this.seeker.exhausted()
      return
    }
    this.go(this.current.next())
  }

  /** Every server may be asked once more, because it is another request. */
  restart(): void {
    this.tries = 0
    this.current.restart()
  }

  /** Nobody is sought any more. */
  stop(): void {
    this.over = true
    if (this.backoff !== undefined) clearTimeout(this.backoff)
    this.leaveQueue?.()
    this.leaveQueue = undefined
  }

  /** A server that can be asked besides the one that is late; -1 where there is none, or it would cost too much. */
  rival(): number {
    const { maxAttempts = 2 } = this.seeker.call.limits
    const { hedges } = this.around
    // Whether it may cost anything comes first: who was named as a rival counts as tried.
    if (this.over || this.tries > 1 || maxAttempts < 2 || !hedges.allowed()) return -1
    const at = this.current.rival()
    if (at < 0) return -1
    hedges.spend()
    this.tries++
    return at
  }

  /** Leaves out the servers whose protocol cannot express the request; nothing is sent to them. */
  excludeUnable(): void {
    const { attempts } = this.seeker
    const { hosts, protocols } = this.current.pool
    let unable: Map<Protocol, string> | undefined
    for (const protocol of protocols) {
      const reasons = this.seeker.unsupported(protocol)
      if (reasons.length === 0) continue
      unable ??= new Map()
      unable.set(protocol, reasons.join("; "))
    }
    if (unable === undefined) return
    for (const [at, host] of hosts.entries()) {
      const message = unable.get(host.protocol)
      if (message === undefined) continue
      this.current.exclude(at)
      // It may be known from the look before.
      if (attempts.some(({ reason, server }) => reason === "unsupported" && server === host.server.url)) continue
      this.seeker.unable(host, message)
    }
  }

  private go(at: number): void {
    if (at >= 0) {
      this.tries++
      this.seeker.found(at)
    } else if (at === wait) this.queue()
    else if (this.seeker.call.limits.maxAttempts === undefined || this.current.able() === 0) this.lookAgain()
    else {
      // Every server has had its turn: only now is the same one tried again, and only now is there a pause.
      const round = Math.floor(this.tries / this.current.able())
      const pause = pauseBefore(round, this.seeker.call.limits.retryBackoff, this.around.random())
      this.backoff = setTimeout(() => this.beginRound(), Math.min(pause, maxTimer))
      this.seeker.delayed(false)
    }
  }

  /** Every server of the model once more, as they are known by now. */
  private beginRound(): void {
    this.relocated((route) => {
      if (route === undefined) this.current.restart()
      else this.follow(route)
      this.next()
    })
  }

  /** Every server has had its turn, and there is no other round: but some may have been found since, or be back. */
  private lookAgain(): void {
    const { seeker } = this
    // Who says that the model is gone has just looked.
    if (this.looks === 0 || seeker.attempts.every(({ reason }) => reason === "model-not-found")) {
      seeker.exhausted()
      return
    }
    this.looks--
    this.relocated((route) => {
      if (route === undefined || !this.hasMore(route)) {
        seeker.exhausted()
        return
      }
      this.follow(route)
      this.next()
    })
  }

  private relocated(go: (route: Route | undefined) => void): void {
    this.relocate().then(
      (route) => {
        if (!this.over) go(route)
      },
      (error: unknown) => this.seeker.crashed(error)
    )
  }

  /** Whether a server is new, or has answered somebody since it failed here; the others count as tried. */
  private hasMore({ pool, tried }: Route): boolean {
    const { attempts } = this.seeker
    let more = false
    for (const [at, { server }] of pool.hosts.entries()) {
      const last = attempts.findLast((attempt) => attempt.server === server.url)
      if (last === undefined || (mayRecover(last) && pool.restsUntil[at] === 0)) more = true
      else tried[at] = 1
    }
    return more
  }

  private follow(route: Route): void {
    this.current = route
    this.excludeUnable()
  }

  /** Waits for a place on any server that was not tried yet. */
  private queue(): void {
    let waits = true
    const left = (): void => {
      waits = false
      this.leaveQueue = undefined
      this.seeker.dequeued()
    }
    const ticket = this.current.queue(
      (at) => {
        left()
        this.go(at)
      },
      (full) => {
        left()
        this.seeker.overloaded(full)
      }
    )
    if (!waits) return
    if ("leave" in ticket) {
      this.leaveQueue = ticket.leave
      this.seeker.delayed(true)
    } else this.seeker.overloaded(ticket)
  }
}

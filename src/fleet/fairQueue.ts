/**
 * A fair queue: who waits for a slot, and in which order they are served.
 *
 * Owners take turns, however many requests each has waiting; within one owner it is first come, first served. Batch
 * requests come after interactive ones, until they have waited long enough to count as such.
 */

/** `batch` requests yield to interactive ones, but not forever. */
export type Priority = "interactive" | "batch"

/** A waiting request. */
export interface Waiter {
  /** Tries to take a slot; returns whether it leaves the queue. Called again until it does. */
  readonly look: () => boolean
  /**
   * Whether it cannot use some of the servers (it failed there, or they do not support it): then it does not block
   * those behind it.
   */
  readonly narrow: () => boolean
  /** The queue is full, and an owner with fewer waiting requests takes its place. */
  readonly displaced?: (() => void) | undefined
  /** On whose behalf it waits; those without one count as one owner. */
  readonly owner?: string | undefined
  /** Whether it lets those of its owner go first (`batch`); default `interactive`. */
  readonly priority?: Priority | undefined
}

/** After this long in the queue, in milliseconds, a batch request counts as interactive. */
const maxBatchWait = 30_000

interface Entry {
  readonly waiter: Waiter
  readonly since: number
}

interface Owner {
  readonly name: string
  readonly interactive: Array<Entry>
  readonly batch: Array<Entry>
  /** Number of turns taken; the owner with the fewest is next. */
  turns: number
}

export class FairQueue {
  /** Requests that had a slot before go first. */
  private readonly front: Array<Waiter> = []
  private readonly owners = new Map<string, Owner>()
  private readonly members = new Map<Waiter, Owner | undefined>()
  /** The turns of the owner served last: a new owner starts with as many. */
  private turns = 0

  /** `now` is in milliseconds. */
  constructor(private readonly now: () => number) {}

  get size(): number {
    return this.members.size
  }

  has(waiter: Waiter): boolean {
    return this.members.has(waiter)
  }

  join(waiter: Waiter, first: boolean): void {
    if (first) {
      this.front.unshift(waiter)
      this.members.set(waiter, undefined)
      return
    }
    const name = waiter.owner ?? ""
    let owner = this.owners.get(name)
    if (owner === undefined) {
      owner = { name, interactive: [], batch: [], turns: this.turns }
      this.owners.set(name, owner)
    }
    owner[waiter.priority ?? "interactive"].push({ waiter, since: this.now() })
    this.members.set(waiter, owner)
  }

  leave(waiter: Waiter): void {
    if (!this.members.has(waiter)) return
    const owner = this.members.get(waiter)
    this.members.delete(waiter)
    if (owner === undefined) {
      this.front.splice(this.front.indexOf(waiter), 1)
      return
    }
    const entries = owner[waiter.priority ?? "interactive"]
    entries.splice(
      entries.findIndex((entry) => entry.waiter === waiter),
      1
    )
    if (owner.interactive.length + owner.batch.length === 0) this.owners.delete(owner.name)
  }

  /** A request has left with a slot: its owner has taken a turn. */
  served(waiter: Waiter): void {
    const owner = this.members.get(waiter)
    if (owner !== undefined) {
      this.turns = Math.max(this.turns, owner.turns)
      owner.turns++
    }
    this.leave(waiter)
  }

  /**
   * The request that a new one of this owner may displace when the queue is full: the newest of the owner with the most
   * waiting, if that is more than this one has; or its own newest batch request, for an interactive one.
   */
  displaceable({ owner: name = "", priority }: Pick<Waiter, "owner" | "priority">): Waiter | undefined {
    const own = this.owners.get(name)
    const waiting = ({ batch, interactive }: Owner) => batch.length + interactive.length
    let most: Owner | undefined
    for (const owner of this.owners.values()) if (most === undefined || waiting(owner) > waiting(most)) most = owner
    if (most !== undefined && most !== own && waiting(most) > (own === undefined ? 0 : waiting(own)) + 1) {
      return (most.batch.at(-1) ?? most.interactive.at(-1))?.waiter
    }
    return priority === "batch" ? undefined : own?.batch.at(-1)?.waiter
  }

  /** In the order of service. Requests that leave meanwhile are skipped; new ones are not included. */
  *order(): Generator<Waiter, void, undefined> {
    for (const waiter of [...this.front]) if (this.members.has(waiter)) yield waiter
    const aged = this.now() - maxBatchWait
    const lanes = [...this.owners.values()].map((owner) => {
      const old = owner.batch.filter(({ since }) => since <= aged)
      const urgent = old.length === 0 ? [...owner.interactive] : [...owner.interactive, ...old]
      if (old.length > 0) urgent.sort((a, b) => a.since - b.since)
      return { urgent, batch: owner.batch.slice(old.length), at: 0, turns: owner.turns }
    })
    for (const which of ["urgent", "batch"] as const) {
      const active = lanes.filter((lane) => lane[which].length > 0)
      for (const lane of active) lane.at = 0
      while (active.length > 0) {
        let next = 0
        for (let i = 1; i < active.length; i++) {
          const [one, best] = [active[i], active[next]]
          if (one === undefined || best === undefined) continue
          const earlier = (one[which][one.at]?.since ?? 0) < (best[which][best.at]?.since ?? 0)
          if (one.turns < best.turns || (one.turns === best.turns && earlier)) next = i
        }
        const lane = active[next]
        const waiter = lane?.[which][lane.at]?.waiter
        if (lane === undefined || waiter === undefined) return
        lane.at++
        lane.turns++
        if (lane.at === lane[which].length) active.splice(next, 1)
        if (this.members.has(waiter)) yield waiter
      }
    }
  }
}

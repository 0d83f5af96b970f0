/** Requests that wait for a slot, and the timer that makes them look again from time to time. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Runtime from "effect/Runtime"
import type { Columns } from "./columns.js"
import type { Waiter } from "./fairQueue.js"
import type { ModelQueue } from "./queue.js"

/**
 * A full queue: how many wait, and after how many milliseconds to retry.
 *
 * @since 0.1.0
 * @category models
 */
export interface QueueFull {
  /** When to retry, in milliseconds. */
  readonly retryAfter: number
  /** How many wait. */
  readonly queued: number
}

/**
 * A place in a queue, or the reason why there is none.
 *
 * @since 0.1.0
 * @category models
 */
export type QueueTicket =
  | {
      /** Gives up the place. */
      readonly leave: () => void
    }
  | QueueFull

/**
 * A request for a place in a queue; `displaced`: an owner with fewer waiting requests took its place.
 *
 * @since 0.1.0
 * @category models
 */
export interface QueuedCall extends Omit<Waiter, "displaced"> {
  /** An owner with fewer waiting requests took its place. */
  readonly displaced: (full: QueueFull) => void
}

/** How often waiting requests look for a slot without any event, in milliseconds. */
const lookInterval = Duration.seconds(1)

const retryAfter = (pool: Columns): number => {
  let busy = 0
  for (let i = 0; i < pool.size; i++) busy += pool.ownInFlight[i] ?? 0
  return Math.ceil((pool.queued * pool.queue.serviceTime) / Math.max(1, busy))
}

/** Puts a request into the queue of the model, with `first` ahead of all others. */
export const make = Effect.gen(function* () {
  const clock = yield* Effect.clock
  const runFork = Runtime.runFork(yield* Effect.runtime<never>())
  const lines = new Set<ModelQueue>()
  let looking: Fiber.RuntimeFiber<void> | undefined

  const look = (): void => {
    looking = undefined
    for (const line of [...lines]) {
      if (line.length > 0) line.serve()
      if (line.length === 0) lines.delete(line)
    }
    if (lines.size > 0) lookLater()
  }
  const lookLater = (): void => {
    looking ??= runFork(Effect.interruptible(Effect.andThen(clock.sleep(lookInterval), Effect.sync(look))))
  }
  const stopLooking = (line: ModelQueue): void => {
    if (line.length > 0) return
    lines.delete(line)
    if (lines.size > 0 || looking === undefined) return
    runFork(Fiber.interruptFork(looking))
    looking = undefined
  }

  return (pool: Columns, { displaced, look, narrow, owner, priority }: QueuedCall, first: boolean): QueueTicket => {
    const { queue: line } = pool
    const full = (): QueueFull => ({ retryAfter: retryAfter(pool), queued: line.length })
    let waits = true
    const end = (): void => {
      waits = false
      pool.waiting--
    }
    const leave = (): void => {
      if (!waits) return
      end()
      line.leave(waiter)
      stopLooking(line)
    }
    const waiter: Waiter = {
      look: () => {
        if (!waits) return true
        if (!look()) return false
        if (waits) {
          end()
          line.served(waiter)
          stopLooking(line)
        }
        return true
      },
      narrow,
      displaced: () => {
        const rejection = full()
        leave()
        displaced(rejection)
      },
      owner,
      priority
    }
    if (!line.hasRoom(waiter)) return full()
    pool.waiting++
    line.join(waiter, first)
    lines.add(line)
    lookLater()
    // One more waiting request may justify another load.
    if (line.length > 1) line.serve()
    return { leave }
  }
})

/**
 * Those who wait for a place, and the clock that has them look from time to time.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Runtime from "effect/Runtime"
import type { Columns } from "./columns.js"
import type { Waiter } from "./fairQueue.js"
import type { ModelQueue } from "./queue.js"

/**
 * A queue that is full: how many wait in it, and after how many milliseconds to try again.
 *
 * @since 0.1.0
 * @category models
 */
export interface QueueFull {
  readonly retryAfter: number
  readonly queued: number
}

/**
 * A place in a queue, or why there is none.
 *
 * @since 0.1.0
 * @category models
 */
export type QueueTicket = { readonly leave: () => void } | QueueFull

/**
 * One that asks for a place in a queue; `displaced`: the place went to an owner who has fewer waiting.
 *
 * @since 0.1.0
 * @category models
 */
export interface QueuedCall extends Omit<Waiter, "displaced"> {
  readonly displaced: (full: QueueFull) => void
}

/** How often those who wait look although nothing was heard. */
const lookInterval = Duration.seconds(1)

const retryAfter = (pool: Columns): number => {
  let busy = 0
  for (let i = 0; i < pool.size; i++) busy += pool.ownInFlight[i] ?? 0
  return Math.ceil((pool.queued * pool.queue.serviceTime) / Math.max(1, busy))
}

/**
 * Puts somebody into the line of a pool's model, `first` before all others.
 *
 * @since 0.1.0
 * @category constructors
 */
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
        const told = full()
        leave()
        displaced(told)
      },
      owner,
      priority
    }
    if (!line.hasRoom(waiter)) return full()
    pool.waiting++
    line.join(waiter, first)
    lines.add(line)
    lookLater()
    // One more that waits may be what makes another load worth it.
    if (line.length > 1) line.serve()
    return { leave }
  }
})

/**
 * Those who wait for a place, and the clock that has them look from time to time.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Runtime from "effect/Runtime"
import type { Line, Waiter } from "./line.js"
import type { Pool } from "./pool.js"

/**
 * A place in a line; or, where the line is full, how many wait in it, and after how many milliseconds to try again.
 *
 * @since 0.1.0
 * @category models
 */
export type Ticket = { readonly leave: () => void } | { readonly retryAfter: number; readonly queued: number }

/** How often those who wait look although nothing was heard. */
const lookInterval = Duration.seconds(1)

const retryAfter = (pool: Pool): number => {
  let busy = 0
  for (let i = 0; i < pool.size; i++) busy += pool.own[i] ?? 0
  return Math.ceil((pool.queued * pool.line.serviceTime) / Math.max(1, busy))
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
  const lines = new Set<Line>()
  let looking: Fiber.RuntimeFiber<void> | undefined

  const look = (): void => {
    looking = undefined
    for (const line of [...lines]) {
      if (line.queued > 0) line.attend()
      if (line.queued === 0) lines.delete(line)
    }
    if (lines.size > 0) lookLater()
  }
  const lookLater = (): void => {
    looking ??= runFork(Effect.interruptible(Effect.andThen(clock.sleep(lookInterval), Effect.sync(look))))
  }
  const stopLooking = (line: Line): void => {
    if (line.queued > 0) return
    lines.delete(line)
    if (lines.size > 0 || looking === undefined) return
    runFork(Fiber.interruptFork(looking))
    looking = undefined
  }

  return (pool: Pool, { look, narrow }: Waiter, first: boolean): Ticket => {
    const { line } = pool
    if (line.full) return { retryAfter: retryAfter(pool), queued: line.queued }
    let waits = true
    const leave = (): void => {
      if (!waits) return
      waits = false
      pool.waiting--
      line.leave(waiter)
      stopLooking(line)
    }
    const waiter: Waiter = {
      look: () => {
        if (!waits) return true
        if (!look()) return false
        leave()
        return true
      },
      narrow
    }
    pool.waiting++
    line.join(waiter, first)
    lines.add(line)
    lookLater()
    // One more that waits may be what makes another load worth it.
    if (line.queued > 1) line.attend()
    return { leave }
  }
})

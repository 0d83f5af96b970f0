/**
 * A queue of servers to ask, and a bounded number of fibers that ask them.
 *
 * There is neither a fiber nor a timer per server: one fiber watches the time of all, because with thousands of servers
 * a race for each costs more than its request.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"

/** What is known of the item that a worker works on; the work sets both as it proceeds. */
export interface Progress<B> {
  /** When the work is given up, in milliseconds since the epoch. */
  deadline: number
  /** The result if it is given up now; `undefined`: it has failed. */
  partial: B | undefined
}

export interface Work<A, B, E> {
  readonly concurrency: number
  /** How long an item may take, in milliseconds, unless the work sets another deadline. */
  readonly timeout: number
  readonly run: (item: A, progress: Progress<B>) => Effect.Effect<B, E>
  readonly onTimeout: () => E
  /** Called once per item. After the scope was closed the exits are interruptions. */
  readonly settle: (item: A, exit: Exit.Exit<B, E>) => void
}

interface Worker<B> extends Progress<B> {
  busy: boolean
  timedOut: boolean
  fiber: Fiber.RuntimeFiber<void> | undefined
}

/** How often the deadlines are checked at least, in milliseconds. */
const tick = 250

/** Returns a function that queues items: they are worked on in order, in fibers that belong to `scope`. */
export const make = <A, B, E>(
  scope: Scope.Scope,
  { concurrency, onTimeout, run, settle, timeout }: Work<A, B, E>
): ((items: ReadonlyArray<A>) => Effect.Effect<void>) => {
  let queue: Array<A> = []
  let next = 0
  const workers = new Set<Worker<B>>()
  let watcher: Fiber.RuntimeFiber<void> | undefined

  const watch = Effect.gen(function* () {
    while (true) {
      const now = yield* Clock.currentTimeMillis
      let pause = Math.min(tick, Math.max(1, timeout / 4))
      for (const worker of workers) {
        if (!worker.busy || worker.timedOut || worker.fiber === undefined) continue
        if (worker.deadline > now) pause = Math.min(pause, worker.deadline - now)
        else {
          worker.timedOut = true
          yield* Fiber.interruptFork(worker.fiber)
        }
      }
      yield* Effect.sleep(pause)
    }
  })

  const workOn = (worker: Worker<B>) =>
    Effect.clockWith((clock) => {
      const item = queue[next] as A
      next++
      if (next === queue.length) {
        queue = []
        next = 0
      }
      worker.busy = true
      worker.partial = undefined
      worker.deadline = clock.unsafeCurrentTimeMillis() + timeout
      return Effect.suspend(() => run(item, worker)).pipe(
        Effect.interruptible,
        Effect.exit,
        Effect.map((exit) => {
          worker.busy = false
          if (!worker.timedOut || !Exit.isInterrupted(exit)) settle(item, exit)
          else settle(item, worker.partial === undefined ? Exit.fail(onTimeout()) : Exit.succeed(worker.partial))
        })
      )
    })

  const loop = (worker: Worker<B>): Effect.Effect<void> =>
    Effect.zipRight(
      // An interrupted fiber cannot ask another server.
      Effect.whileLoop({
        while: () => !worker.timedOut && next < queue.length,
        body: () => workOn(worker),
        step: () => {}
      }),
      Effect.suspend(() => {
        workers.delete(worker)
        if (next < queue.length) return start
        if (workers.size > 0 || watcher === undefined) return Effect.void
        const ended = watcher
        watcher = undefined
        return Fiber.interruptFork(ended)
      })
    )

  const start: Effect.Effect<void> = Effect.suspend(() => {
    if (workers.size >= concurrency || workers.size >= queue.length - next + busy()) return Effect.void
    const worker: Worker<B> = { busy: false, timedOut: false, fiber: undefined, deadline: 0, partial: undefined }
    workers.add(worker)
    return Effect.flatMap(Effect.forkIn(loop(worker), scope), (fiber) => {
      worker.fiber = fiber
      return start
    })
  })
  const busy = (): number => {
    let count = 0
    for (const worker of workers) if (worker.busy) count++
    return count
  }
  const startWatcher = Effect.suspend(() =>
    watcher !== undefined || workers.size === 0
      ? Effect.void
      : Effect.map(Effect.forkIn(Effect.interruptible(watch), scope), (fiber) => {
          watcher = fiber
        })
  )
  return (items) =>
    Effect.suspend(() => {
      for (const item of items) queue.push(item)
      return Effect.uninterruptible(Effect.zipRight(start, startWatcher))
    })
}

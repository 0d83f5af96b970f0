/**
 * A queue of servers to ask, of which so many are asked at once.
 *
 * There is neither a fiber nor a timer per server: the work is plain code, and one fiber watches the time of all,
 * because with thousands of servers a race for each costs more than its request.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Scope from "effect/Scope"

/** What is known of the item that is being worked on; the work sets both as it proceeds. */
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
  /**
   * Starts the work: `done` is called with its result. Returns a function that stops it; `done` is ignored from then
   * on.
   */
  readonly run: (item: A, progress: Progress<B>, done: (exit: Exit.Exit<B, E>) => void) => () => void
  readonly onTimeout: () => E
  /** Called once per item. After the scope was closed the exits are interruptions. */
  readonly settle: (item: A, exit: Exit.Exit<B, E>) => void
}

interface Task<A, B> extends Progress<B> {
  readonly item: A
  stop: () => void
}

/** How often the deadlines are checked at least, in milliseconds. */
const tick = 250

const interrupted = Exit.interrupt(FiberId.none)

/** Returns a function that queues items: they are worked on in order, until `scope` is closed. */
export const make = <A, B, E>(
  scope: Scope.Scope,
  { concurrency, onTimeout, run, settle, timeout }: Work<A, B, E>
): Effect.Effect<(items: ReadonlyArray<A>) => Effect.Effect<void>> => {
  let queue: Array<A> = []
  let next = 0
  const tasks = new Set<Task<A, B>>()
  let watcher: Fiber.RuntimeFiber<void> | undefined
  let starting = false
  let closed = false

  const finish = (task: Task<A, B>, exit: Exit.Exit<B, E>, now: () => number): void => {
    if (!tasks.delete(task)) return
    settle(task.item, exit)
    start(now)
    if (tasks.size > 0 || watcher === undefined) return
    const ended = watcher
    watcher = undefined
    ended.unsafeInterruptAsFork(FiberId.none)
  }

  const start = (now: () => number): void => {
    if (starting) return
    starting = true
    while (next < queue.length && tasks.size < concurrency) {
      const task: Task<A, B> = {
        item: queue[next++] as A,
        deadline: now() + timeout,
        partial: undefined,
        stop: () => {}
      }
      tasks.add(task)
      const stop = run(task.item, task, (exit) => finish(task, exit, now))
      task.stop = stop
    }
    if (next === queue.length) {
      queue = []
      next = 0
    }
    starting = false
  }

  const expire = (task: Task<A, B>, now: () => number): void => {
    const { partial, stop } = task
    stop()
    finish(task, partial === undefined ? Exit.fail(onTimeout()) : Exit.succeed(partial), now)
  }

  const watch = Effect.clockWith((clock) => {
    const now = () => clock.unsafeCurrentTimeMillis()
    return Effect.gen(function* () {
      while (true) {
        let pause = Math.min(tick, Math.max(1, timeout / 4))
        for (const task of [...tasks]) {
          const left = task.deadline - now()
          if (left > 0) pause = Math.min(pause, left)
          else expire(task, now)
        }
        yield* Effect.sleep(pause)
      }
    })
  })

  const close = (): void => {
    closed = true
    const left = queue.slice(next)
    queue = []
    next = 0
    for (const task of tasks) {
      tasks.delete(task)
      task.stop()
      settle(task.item, interrupted)
    }
    for (const item of left) settle(item, interrupted)
  }

  const add = (items: ReadonlyArray<A>): Effect.Effect<void> =>
    Effect.flatMap(Clock.clockWith(Effect.succeed), (clock) => {
      if (closed) {
        for (const item of items) settle(item, interrupted)
        return Effect.void
      }
      for (const item of items) queue.push(item)
      start(() => clock.unsafeCurrentTimeMillis())
      if (watcher !== undefined || tasks.size === 0) return Effect.void
      return Effect.map(Effect.forkIn(Effect.interruptible(watch), scope), (fiber) => {
        if (tasks.size > 0) watcher = fiber
        else fiber.unsafeInterruptAsFork(FiberId.none)
      })
    })

  return Effect.as(Scope.addFinalizer(scope, Effect.sync(close)), (items) => Effect.uninterruptible(add(items)))
}

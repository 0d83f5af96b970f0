/**
 * Effects that can often be run without a fiber: where nothing has to be waited for, a fiber is most of what a call costs.
 *
 * To every program they are Effects like others. Who starts many of them asks `attempt` first, and runs the Effect
 * where that has nothing. An Effect of any other kind, such as one of a service that was replaced, has nothing.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Effectable from "effect/Effectable"
import * as Exit from "effect/Exit"

/**
 * What has begun without a fiber: `work` can be cancelled, and then `result` rejects.
 *
 * @internal
 */
export interface Running<out A> {
  readonly work: {
    cancel(reason?: unknown): void
    onClose(listener: () => void): void
  }
  readonly result: Promise<A>
}

/** @internal */
export type Outcome<A, E> = Exit.Exit<A, E> | Running<A> | undefined

const key: unique symbol = Symbol.for("aicortex/Direct")

class Direct<A, E> extends Effectable.Class<A, E> {
  readonly [key]: () => Outcome<A, E>

  constructor(
    now: () => Outcome<A, E>,
    private readonly later: () => Effect.Effect<A, E>
  ) {
    super()
    this[key] = now
  }

  commit(): Effect.Effect<A, E> {
    return this.later()
  }
}

/** One that another copy of this module has made is one, too. */
const isDirect = <A, E, R>(effect: Effect.Effect<A, E, R>): effect is Effect.Effect<A, E, R> & Direct<A, E> =>
  key in effect

/**
 * `now` runs it without a fiber, if that can be done at the time; `later` is the same in a fiber, whatever `now` gives.
 *
 * @internal
 */
export const make = <A, E>(now: () => Outcome<A, E>, later: () => Effect.Effect<A, E>): Effect.Effect<A, E> =>
  new Direct(now, later)

/**
 * Runs an Effect without a fiber; `undefined` where that cannot be done, and then nothing has happened.
 *
 * @internal
 */
export const attempt = <A, E, R>(effect: Effect.Effect<A, E, R>): Outcome<A, E> =>
  isDirect(effect) ? effect[key]() : Exit.isExit(effect) ? (effect as Exit.Exit<A, E>) : undefined

/** @internal */
export const isRunning = <A, E>(outcome: Outcome<A, E>): outcome is Running<A> =>
  outcome !== undefined && "work" in outcome

/**
 * The value of an Effect, if it has one without a fiber.
 *
 * @internal
 */
export const valueOf = <A, E, R>(effect: Effect.Effect<A, E, R>): A | undefined => {
  const outcome = attempt(effect)
  return outcome !== undefined && !isRunning(outcome) && Exit.isSuccess(outcome) ? outcome.value : undefined
}

/** @internal */
export const map = <A, E, B>(effect: Effect.Effect<A, E>, f: (value: A) => B): Effect.Effect<B, E> =>
  make<B, E>(
    () => {
      const outcome = attempt(effect)
      if (outcome === undefined) return undefined
      if (isRunning(outcome)) return { work: outcome.work, result: outcome.result.then(f) }
      return Exit.isSuccess(outcome) ? Exit.succeed(f(outcome.value)) : Exit.failCause(outcome.cause)
    },
    () => Effect.map(effect, f)
  )

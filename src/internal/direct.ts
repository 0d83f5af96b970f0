/**
 * Effects that can often be run without a fiber: if nothing has to be awaited, the fiber is most of a call's cost.
 *
 * To every program they are ordinary Effects. Callers that run many of them try `attempt` first, and run the Effect if
 * that returns `undefined`. For any other Effect, such as that of a replaced service, it always does.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Effectable from "effect/Effectable"
import * as Exit from "effect/Exit"

/**
 * A result in progress, started without a fiber: after `work` is cancelled, `result` rejects.
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

/** Recognises those made by another copy of this module. */
const isDirect = <A, E, R>(effect: Effect.Effect<A, E, R>): effect is Effect.Effect<A, E, R> & Direct<A, E> =>
  key in effect

/**
 * `now` runs it without a fiber, if possible at the time; `later` runs the same in a fiber.
 *
 * @internal
 */
export const make = <A, E>(now: () => Outcome<A, E>, later: () => Effect.Effect<A, E>): Effect.Effect<A, E> =>
  new Direct(now, later)

/**
 * Runs an Effect without a fiber; `undefined` if that is not possible, and then nothing has happened.
 *
 * @internal
 */
export const attempt = <A, E, R>(effect: Effect.Effect<A, E, R>): Outcome<A, E> =>
  isDirect(effect) ? effect[key]() : Exit.isExit(effect) ? (effect as Exit.Exit<A, E>) : undefined

/** @internal */
export const isRunning = <A, E>(outcome: Outcome<A, E>): outcome is Running<A> =>
  outcome !== undefined && "work" in outcome

/**
 * The value of an Effect, if available without a fiber.
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

/** @internal */
export const suspend = <A, E>(effect: () => Effect.Effect<A, E>): Effect.Effect<A, E> =>
  make<A, E>(() => attempt(effect()), effect)

/** An answer in progress, as an Effect or as a `Stream`. */
import * as Channel from "effect/Channel"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { ChatEvent } from "../ChatEvent.js"
import type { ChatError } from "../Errors.js"
import type { OpenAnswer, Result } from "../Failover.js"
import { isAnswerError } from "../internal/answerError.js"
import type * as Direct from "../internal/direct.js"
import type { OpenEvents } from "./openEvents.js"

const failWith = (error: unknown): Effect.Effect<never, ChatError> =>
  isAnswerError(error) ? Effect.fail(error) : Effect.die(error)

const resultOf = (answer: OpenAnswer): Promise<Result> => answer.result()

/**
 * Waits for the whole answer, read by `read`, and gives what `use` makes of it. Interrupting it stops the server's work.
 */
export const toEffect = <A>(
  start: () => OpenAnswer,
  use: (result: Result) => A | ChatError,
  read: (answer: OpenAnswer) => Promise<Result> = resultOf
): Effect.Effect<A, ChatError> =>
  Effect.async<A, ChatError>((resume) => {
    const answer = start()
    read(answer).then(
      (result) => {
        const value = use(result)
        resume(isAnswerError(value) ? Effect.fail(value) : Effect.succeed(value))
      },
      (error: unknown) => resume(failWith(error))
    )
    return Effect.sync(() => answer.cancel())
  })

/** The same for an answer that has started, without a fiber. */
export const running = <A>(
  answer: OpenAnswer,
  use: (result: Result) => A | ChatError,
  read: (answer: OpenAnswer) => Promise<Result> = resultOf
): Direct.Running<A> => ({
  work: answer,
  result: read(answer).then((result) => {
    const value = use(result)
    if (isAnswerError(value)) throw value
    return value
  })
})

/**
 * Reads one answer: one chunk per network read. It is a channel of its own, because stream combinators cost more.
 * `isFailure` says what is no defect.
 */
export const streamOf = <Event, E, R>(
  open: Effect.Effect<OpenEvents<Event>, E, R>,
  isFailure: (error: unknown) => error is E
): Stream.Stream<Event, E, R> => {
  type Reading = Channel.Channel<Chunk.Chunk<Event>, unknown, E, unknown, unknown>
  const read = (answer: OpenEvents<Event>): Reading => {
    const pull = Effect.async<ReadonlyArray<Event> | undefined, E>((resume) => {
      answer.pull().then(
        (batch) => resume(Effect.succeed(batch)),
        (error: unknown) => resume(isFailure(error) ? Effect.fail(error) : Effect.die(error))
      )
    })
    const next: Reading = Channel.flatMap(Channel.fromEffect(pull), (batch) =>
      batch === undefined ? done : Channel.flatMap(Channel.write(Chunk.unsafeFromArray(batch)), () => next)
    )
    return next
  }
  const done: Reading = Channel.void
  return Stream.fromChannel(
    Channel.acquireUseRelease(Effect.interruptible(open), read, (answer) => Effect.sync(() => answer.cancel()))
  )
}

/** The events of an answer. */
export const toStream = <R>(open: Effect.Effect<OpenAnswer, ChatError, R>): Stream.Stream<ChatEvent, ChatError, R> =>
  streamOf<ChatEvent, ChatError, R>(open, isAnswerError)

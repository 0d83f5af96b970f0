/** Replies that must be JSON: decoded, and asked for once more where the first does not fit. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Runtime from "effect/Runtime"
import type { ChatError, SchemaIssue } from "../Errors.js"
import { SchemaMismatch } from "../Errors.js"
import type { Result } from "../Failover.js"
import * as StructuredOutput from "../StructuredOutput.js"
import { usageOf } from "../sessions/record.js"
import type { Engine, Execution, StreamingEngine } from "./execution.js"
import type { PendingAnswer } from "./pendingAnswer.js"
import { answeredBy, cacheTtlOf, isLikely, type Prepared, readerFor, repairing } from "./prepared.js"
import { StructuredAnswer } from "./structuredStream.js"
import { toEffect } from "./toEffect.js"
import * as ToolLoop from "./toolLoop.js"

/** As much of the engine as structured answers need. */
export interface Calls {
  /** `releases`: whether its place in its session is given up when the answer ends. */
  readonly begin: (
    prepared: Prepared,
    events: boolean,
    commit: boolean,
    releases?: boolean
  ) => Effect.Effect<PendingAnswer, ChatError>
  readonly now: () => number
  readonly withCall: <A, E>(
    execution: Execution,
    keep: boolean,
    use: (prepared: Prepared) => Effect.Effect<A, E | ChatError>
  ) => Effect.Effect<A, E | ChatError>
}

type Decoding<A> = Effect.Effect<A, ReadonlyArray<SchemaIssue>>

/** A check that takes its time is not waited for: the reply may be cached, and is renewed when it turns out not to fit. */
const mayFit = <A>(decoding: Decoding<A>): boolean => !Either.isEither(decoding) || Either.isRight(decoding)

export const makeStructured = ({
  begin,
  now,
  withCall
}: Calls): Pick<StreamingEngine, "structured" | "openStructured"> => {
  /** Only a valid reply is cached, and a cached one that is invalid for this decoder is ignored. */
  const ask = <A>(
    prepared: Prepared,
    decoder: StructuredOutput.AsyncDecoder<A>,
    mustFit: (result: Result) => boolean | ChatError
  ) => {
    // A cached reply is decoded twice: when it is looked up, and when it is returned.
    let last: readonly [text: string, decoding: Decoding<A>] | undefined
    const decode = (text: string) => {
      if (last?.[0] !== text) last = [text, decoder.decode(text)]
      return last[1]
    }
    const once = (cacheOptions: Prepared["cacheOptions"]) =>
      Effect.flatMap(
        begin({ ...prepared, cacheOptions }, isLikely(prepared), false),
        ({ candidate, newMessages, start }) =>
          Effect.flatMap(
            toEffect(
              start,
              (result) => {
                const must = mustFit(result)
                if (typeof must !== "boolean") return must
                prepared.execution.replied?.(result)
                return {
                  result,
                  newMessages: newMessages(),
                  decoding: must ? decode(result.text) : undefined,
                  candidate: candidate()
                }
              },
              readerFor(prepared)
            ),
            ({ candidate, decoding, result, newMessages }) =>
              Effect.map(decoding === undefined ? Effect.succeed(undefined) : Effect.either(decoding), (decoded) => ({
                candidate,
                decoded,
                result,
                newMessages
              }))
          )
      )
    if (cacheTtlOf(prepared) === undefined) return once(undefined)
    const accepts = (result: Result) => mayFit(decode(result.text))
    return Effect.flatMap(once({ ...prepared.cacheOptions, accepts }), (attempt) =>
      attempt.result.cached && attempt.decoded !== undefined && Either.isLeft(attempt.decoded)
        ? once({ ...prepared.cacheOptions, accepts, renew: true })
        : Effect.succeed(attempt)
    )
  }

  const structured: Engine["structured"] = (execution, decoder, mustFit) =>
    withCall(
      execution,
      false,
      Effect.fnUntraced(function* (prepared: Prepared) {
        const first = yield* ask(prepared, decoder, mustFit)
        let { candidate, decoded, result } = first
        if (decoded !== undefined && Either.isLeft(decoded) && StructuredOutput.canRepair(decoded.left)) {
          const again = repairing(answeredBy(prepared, candidate), result.text, decoded.left)
          const second = yield* ask(again, decoder, mustFit)
          candidate = second.candidate
          decoded = second.decoded
          result = second.result
        }
        if (decoded === undefined) return { result, value: undefined }
        if (Either.isLeft(decoded)) {
          return yield* new SchemaMismatch({ model: candidate.model, issues: decoded.left, text: result.text })
        }
        const { turn } = prepared
        if (turn !== undefined) {
          const messages = [...first.newMessages.slice(0, -1), ToolLoop.assistantMessage(result)]
          yield* ToolLoop.store(turn, messages, usageOf(result))
        }
        return { result, value: decoded.right }
      })
    )

  const openStructured: StreamingEngine["openStructured"] = <A>(
    execution: Execution,
    decoder: StructuredOutput.AsyncDecoder<A>,
    mustFit: (result: Result) => boolean | ChatError
  ) =>
    withCall(execution, true, (prepared) => {
      const accepts = (result: Result) => mayFit(decoder.decode(result.text))
      const beginAgain = (attempt: Prepared) => {
        const kept =
          cacheTtlOf(attempt) === undefined
            ? attempt
            : { ...attempt, cacheOptions: { ...attempt.cacheOptions, accepts } }
        return begin(kept, true, false, false)
      }
      return Effect.zipWith(
        Effect.runtime<never>(),
        beginAgain(prepared),
        (runtime, pending) =>
          new StructuredAnswer({
            prepared,
            pending,
            decoder,
            mustFit,
            begin: beginAgain,
            fork: Runtime.runFork(runtime),
            now
          })
      )
    })

  return { structured, openStructured }
}

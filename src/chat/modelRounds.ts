/**
 * The models that may answer a call, asked one after the other: each model of a chain as a call that names it would be;
 * of those that `auto` found each one once, and where all have failed again those that may have recovered.
 */
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import { lacksMemory } from "../backend/errorText.js"
import type { Limits } from "../ChatRequest.js"
import {
  AllServersFailed,
  type Attempt,
  type ChatError,
  DeadlineExceeded,
  type Excluded,
  isChatError
} from "../Errors.js"
import { defaultPauseBefore, isWorthRetry, retryWindow } from "../failover/retryPolicy.js"
import { isAnswerError } from "../internal/answerError.js"
import { type ModelCandidate, mayTryNext, withOthers } from "../modelSelection/candidate.js"
import type { ModelAttempt, PendingAnswer } from "./pendingAnswer.js"

/** How many rounds there are at most, if the caller set no number of attempts. */
const defaultRounds = 3

interface Failure {
  readonly candidate: ModelCandidate
  readonly error: unknown
}

export interface RoundsOptions {
  /** Prepares an answer; `once`: each server is asked once, because others follow. */
  readonly ask: (candidate: ModelCandidate, once: boolean) => Effect.Effect<PendingAnswer, ChatError>
  readonly limits: Limits
  /** Where the deadline counts from, in milliseconds since the epoch. */
  readonly began: number
  readonly now: () => number
}

const isRetryable = (attempt: Attempt): boolean =>
  isWorthRetry(attempt) && attempt.lasting !== true && !lacksMemory(attempt.message)

const attemptsOf = ({ error }: Failure): ReadonlyArray<Attempt> =>
  error instanceof AllServersFailed || error instanceof DeadlineExceeded ? error.attempts : []

/** Why a model was not asked at all, or by no server to the end. */
const reasonOf = (error: unknown): string => {
  if (!isChatError(error)) return String(error)
  switch (error._tag) {
    case "ModelNotFound":
      return "no server is known to have it"
    case "NoServers":
      return "no server has it"
    case "NoLocalServer":
      return "the call is private, and no local server has it"
    case "Overloaded":
      return `all its servers are busy, and ${error.queued} requests are waiting`
    case "InvalidRequest":
      return `${error.field}: ${error.reason}`
    default:
      return error.message
  }
}

export class ModelRounds {
  private readonly failures: Array<Failure> = []
  private all: ReadonlyArray<ModelCandidate>
  /** How many rounds have begun, and when the first one had failed. */
  private rounds = 1
  private failedAt: number | undefined

  constructor(
    candidates: ReadonlyArray<ModelCandidate>,
    private readonly options: RoundsOptions
  ) {
    this.all = candidates
  }

  /** The answer by the first candidate from that index on that can be asked. */
  from(at: number): Effect.Effect<ModelAttempt, ChatError> {
    if (at >= this.all.length) this.all = withOthers(this.all)
    const candidate = this.all[at]
    if (candidate === undefined) return Effect.dieMessage("there is no model to ask")
    const asked = Effect.map(this.options.ask(candidate, candidate.auto && this.all.length > 1), (pending) => ({
      at,
      pending
    }))
    return Effect.catchAll(asked, (error) => this.after(at, error) ?? Effect.fail(this.whole(error)))
  }

  /** What follows a failure before anything was sent to the caller; `undefined`: nothing, the call fails. */
  after(at: number, error: unknown): Effect.Effect<ModelAttempt, ChatError> | undefined {
    const candidate = this.all[at]
    if (candidate === undefined || !isAnswerError(error) || !mayTryNext(error)) return undefined
    this.failures.push({ candidate, error })
    if (at + 1 >= this.all.length) this.all = withOthers(this.all)
    return at + 1 < this.all.length ? Effect.suspend(() => this.from(at + 1)) : this.again(error)
  }

  /** Another round over those that may have recovered, after a pause. */
  private again(error: ChatError): Effect.Effect<ModelAttempt, ChatError> | undefined {
    const { began, limits, now } = this.options
    if (this.all.length === 1) return undefined
    const last = new Map(this.failures.map((failure) => [failure.candidate, failure]))
    const left = this.all.filter((candidate) => {
      const failure = last.get(candidate)
      return candidate.auto && failure !== undefined && attemptsOf(failure).some(isRetryable)
    })
    if (left.length === 0) return undefined
    const time = now()
    this.failedAt ??= time
    const loads = left.some((candidate) => {
      const failure = last.get(candidate)
      return failure !== undefined && attemptsOf(failure).some(({ reason }) => reason === "loading")
    })
    const isOver = loads
      ? time - this.failedAt >= limits.loadTimeout
      : this.rounds >= (limits.maxAttempts ?? defaultRounds) || time - this.failedAt >= retryWindow
    if (isOver) return undefined
    const round = this.rounds++
    return Effect.flatMap(Random.next, (chance) => {
      const pause = defaultPauseBefore(round, limits.retryBackoff, chance)
      if (limits.deadline !== undefined && time + pause >= began + limits.deadline) {
        return Effect.fail(this.whole(error))
      }
      this.all = left
      return Effect.zipRight(
        Effect.sleep(pause),
        Effect.suspend(() => this.from(0))
      )
    })
  }

  /** The error of the call: it lists what was asked and what was not, and why. */
  whole<E>(last: E): E {
    const { failures } = this
    const selection = (failures[0]?.candidate ?? this.all[0])?.selection
    if (selection === undefined) return last
    const excluded: Array<Excluded> = [...selection.excluded]
    const attempts: Array<Attempt> = []
    for (const failure of failures) {
      const { model } = failure.candidate
      const failed = attemptsOf(failure)
      if (failed.length === 0) excluded.push({ model, server: "", reason: reasonOf(failure.error) })
      for (const attempt of failed) attempts.push({ ...attempt, model })
    }
    const { asked } = selection
    if (last instanceof DeadlineExceeded && attempts.length > 0) {
      const { deadline, model, partial } = last
      const own = last.attempts.map((attempt) => ({ ...attempt, model }))
      return new DeadlineExceeded({ model: asked, deadline, partial, attempts: [...attempts, ...own] }) as E &
        DeadlineExceeded
    }
    if (!mayTryNext(last) || attempts.length === 0 || (failures.length === 1 && excluded.length === 0)) return last
    const { unreachable } =
      failures.map(({ error }) => error).findLast((error) => error instanceof AllServersFailed) ?? {}
    return new AllServersFailed({
      model: asked,
      attempts,
      ...(unreachable === undefined ? {} : { unreachable }),
      ...(excluded.length === 0 ? {} : { excluded })
    }) as E & AllServersFailed
  }
}

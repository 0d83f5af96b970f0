/**
 * What every chat goes through, whichever face it came by: the models that may answer, the answers that are kept, the
 * session, the servers, tools, the repair of JSON, and telemetry of all that.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Runtime from "effect/Runtime"
import type { ChatEvent } from "../ChatEvent.js"
import type { ChatRequest } from "../ChatRequest.js"
import { type ChatError, DeadlineExceeded, InvalidRequest } from "../Errors.js"
import { type Call, Failover, type OpenAnswer, type Result } from "../Failover.js"
import * as History from "../History.js"
import * as Direct from "../internal/direct.js"
import type { ModelCandidate } from "../ModelSelection.js"
import { Registry } from "../Registry.js"
import * as ResponseCache from "../ResponseCache.js"
import type { RouteHints } from "../Router.js"
import * as ConversationKey from "../router/conversationKey.js"
import { Sessions, type Turn } from "../Sessions.js"
import * as Telemetry from "../Telemetry.js"
import type { Engine, Execution, Origin, StreamingEngine } from "./execution.js"
import { ModelFallback } from "./modelFallback.js"
import { ModelRounds } from "./modelRounds.js"
import type { PendingAnswer } from "./pendingAnswer.js"
import { asking, cacheTtlOf, firstModel, isLikely, originOf, type Prepared, readerFor, requestFor } from "./prepared.js"
import { makeStructured } from "./structured.js"
import { running, toEffect } from "./toEffect.js"
import * as ToolLoop from "./toolLoop.js"

const unclear = () =>
  new InvalidRequest({
    field: "messages",
    reason:
      "repeat a part of the session, and then differ from it: send the conversation as it is stored, or only what is " +
      "new, or leave out the session"
  })

/** Tokens reserved for the answer when trimming the history, if the caller sets no limit. */
const defaultReserve = 1024

const nothing: ReadonlyArray<ChatEvent> = []

/** Whether the caller named the model: nothing follows it, and its error is that of the call. */
const isNamed = (candidates: ReadonlyArray<ModelCandidate>): boolean =>
  candidates.length === 1 && candidates[0]?.selection === undefined

export const make = Effect.gen(function* () {
  const failover = yield* Failover
  const registry = yield* Registry
  const cache = yield* ResponseCache.ResponseCache
  const sessions = yield* Sessions
  const clock = yield* Effect.clock
  const ownTrace = yield* Effect.withFiberRuntime<Telemetry.Trace | undefined>((fiber) => {
    const trace = Telemetry.traceOf(fiber)
    return Effect.succeed(trace === undefined ? undefined : { ...trace, parent: Option.none() })
  })
  const own: Origin = { trace: ownTrace, context: undefined }

  const now = () => clock.unsafeCurrentTimeMillis()

  const contextLength = (model: string, { options }: ChatRequest) => {
    const configured = options?.["num_ctx"]
    if (typeof configured === "number") return Effect.succeed(configured)
    return registry.modelInfo(model).pipe(
      Effect.map((info) => info.context_length),
      // A model that only the user's server has need not be in the catalogue: its context length is unknown.
      Effect.catchTag("ModelNotFound", () => Effect.succeed(undefined))
    )
  }

  // ---------------------------------------------------------------------------
  // before the answer
  // ---------------------------------------------------------------------------

  /** The call without a session, which needs no waiting. */
  const alone = (
    execution: Execution,
    candidates: ReadonlyArray<ModelCandidate>,
    began: number,
    origin: Origin
  ): Prepared => {
    const candidate = firstModel(candidates)
    const request = requestFor(execution, execution.request, candidate)
    return { execution, request, candidates, candidate, turn: undefined, trimmed: 0, began, origin }
  }

  /**
   * Waits for the call's turn in its session, and adds the session's history. `hold` receives the place at once: a
   * caller that runs this in a race, as for a deadline, may never see its result.
   */
  const join = (
    given: Execution,
    candidates: ReadonlyArray<ModelCandidate>,
    session: string,
    began: number,
    origin: Origin,
    hold: (turn: Turn) => void
  ): Effect.Effect<Prepared, ChatError> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(sessions.begin(session), (turn) => {
        hold(turn)
        return Effect.gen(function* () {
          const candidate = firstModel(candidates)
          const fresh = History.continuation(turn.history, given.request.messages)
          if (fresh === undefined) return yield* unclear()
          const execution =
            fresh === given.request.messages ? given : { ...given, request: { ...given.request, messages: fresh } }
          const modelRequest = requestFor(execution, execution.request, candidate)
          const length = turn.history.length === 0 ? undefined : yield* contextLength(candidate.model, modelRequest)
          const { messages, trimmed } = History.trim(turn.history, modelRequest.messages, {
            contextLength: length,
            reserve: modelRequest.maxTokens ?? Math.min(defaultReserve, Math.floor((length ?? 0) / 4))
          })
          const request = { ...modelRequest, messages }
          return { execution, request, candidates, candidate, turn, trimmed, began, origin } satisfies Prepared
        }).pipe(restore)
      })
    )

  /** A deadline counts from the call's start, including the wait for the session and for discovery. */
  const within = <A>(
    effect: Effect.Effect<A, ChatError>,
    { limits: { deadline }, request: { model } }: Pick<Execution, "limits" | "request">,
    began: number
  ): Effect.Effect<A, ChatError> =>
    deadline === undefined
      ? effect
      : Effect.timeoutFail(effect, {
          duration: Math.max(1, deadline - (now() - began)),
          onTimeout: () => new DeadlineExceeded({ model, deadline, partial: "", attempts: [] })
        })

  /** Within its deadline; a call that ends before its answer has begun is recorded, too. */
  const observed = <A>(
    effect: Effect.Effect<A, ChatError>,
    { limits, request }: Pick<Execution, "limits" | "request">,
    began: number,
    { context, trace }: Origin
  ): Effect.Effect<A, ChatError> =>
    Telemetry.observeUnstarted(
      within(effect, { limits, request }, began),
      () => ({ request, began, events: false, trace, context }),
      now
    )

  /**
   * Runs `use` with the call as it is to be asked; in a session it keeps its place there until `use` is done, or, where
   * `keep` says so and `use` succeeds, longer.
   */
  const withCall = <A, E>(
    execution: Execution,
    keep: boolean,
    use: (prepared: Prepared) => Effect.Effect<A, E | ChatError>
  ): Effect.Effect<A, E | ChatError> =>
    Effect.withFiberRuntime((fiber) => {
      const { models, session } = execution
      const origin = execution.origin ?? originOf(Telemetry.traceOf(fiber), () => Telemetry.incomingContext(fiber))
      const began = execution.began ?? now()
      if (session === undefined) {
        const known = Direct.valueOf(models)
        if (known !== undefined) return use(alone(execution, known, began, origin))
        return Effect.flatMap(observed(models, execution, began, origin), (found) =>
          use(alone(execution, found, began, origin))
        )
      }
      let turn: Turn | undefined
      const { context, trace } = origin
      const inSession = trace === undefined ? origin : { trace: { ...trace, conversation: session }, context }
      const joined = Effect.flatMap(models, (found) =>
        join(execution, found, session, began, inSession, (mine) => {
          turn = mine
        })
      )
      return Effect.flatMap(observed(joined, execution, began, inSession), use).pipe(
        Effect.onExit((exit) =>
          Effect.sync(() => {
            if (!keep || Exit.isFailure(exit)) turn?.release()
          })
        )
      )
    })

  // A session is identified by its id; other conversations by their messages.
  const routeHintsOf = ({ candidate, execution, request }: Prepared): RouteHints => {
    const { session, routeHints } = execution
    if (session === undefined && routeHints.conversation !== undefined) {
      const { accepts, prefers, suits = accepts } = candidate
      return suits === undefined && prefers === undefined ? routeHints : { ...routeHints, only: suits, prefers }
    }
    const conversation = () =>
      session === undefined ? ConversationKey.ofMessages(request.messages) : ConversationKey.named(session)
    const tokens = () => History.estimate(request.messages)
    const { sharedServer, owner, priority, private: localOnly } = routeHints
    const { accepts, prefers, suits: only = accepts } = candidate
    return { conversation, owner, priority, sharedServer, tokens, only, prefers, private: localOnly }
  }

  const serversOf = (call: Prepared) => failover.prepare(call.request.model, call.execution.routing, routeHintsOf(call))

  /** Finds the servers of a call, or a cached or shared answer. */
  const prepare = (call: Prepared): Effect.Effect<(call: Call) => OpenAnswer, ChatError> => {
    const { began, execution, origin, request, cacheOptions } = call
    const { cacheOwner, limits, routing } = execution
    const servers = serversOf(call)
    const ttl = cacheTtlOf(call)
    const start = ttl === undefined ? Direct.valueOf(servers) : undefined
    if (start !== undefined) return Effect.succeed(start)
    const found =
      ttl === undefined
        ? servers
        : cache.prepare(
            { ...cacheOptions, owner: cacheOwner, request, routing, ttl, private: execution.routeHints.private },
            servers
          )
    return observed(found, { limits, request }, began, origin)
  }

  // ---------------------------------------------------------------------------
  // The answer
  // ---------------------------------------------------------------------------

  const callOf = (
    { began, candidate, execution, origin: { context, trace }, request }: Prepared,
    events: boolean,
    preface: ReadonlyArray<ChatEvent>,
    complete: Call["complete"],
    closed: Call["closed"],
    once: boolean
  ): Call => {
    const { limits, listener, routeHints, routing, timed } = execution
    return {
      request,
      limits,
      began,
      events,
      timed,
      preface,
      complete,
      closed,
      candidate,
      routing,
      private: routeHints.private,
      once,
      trace,
      context,
      listener
    }
  }

  const starting =
    ({ candidate, execution }: Prepared, begin: (call: Call) => OpenAnswer, call: Call) =>
    (): OpenAnswer => {
      const answer = begin(call)
      execution.onModel?.(candidate)
      return answer
    }

  /** The answer of a call by one of its models. */
  const beginOne = (
    prepared: Prepared,
    events: boolean,
    commit: boolean,
    closed: (() => void) | undefined,
    once: boolean
  ): Effect.Effect<PendingAnswer, ChatError> => {
    const { candidate, execution, origin, request, trimmed, turn } = prepared
    if (turn === undefined && execution.executors === undefined) {
      const call = callOf(prepared, events, nothing, undefined, closed, once)
      return Effect.map(prepare(prepared), (begin) => ({
        candidate: () => candidate,
        start: starting(prepared, begin, call),
        newMessages: () => execution.request.messages
      }))
    }
    // Tools run with the caller's loggers, annotations and Effect settings.
    return Effect.flatMap(Effect.runtime<never>(), (runtime) => {
      const fork = Runtime.runFork(runtime)
      const runFork = <A, E>(effect: Effect.Effect<A, E>) => fork(Effect.interruptible(effect))
      const rounds = ToolLoop.makeToolLoop(execution, request, commit ? turn : undefined, now, origin.trace, runFork)
      const preface: ReadonlyArray<ChatEvent> =
        trimmed === 0 ? nothing : [{ type: "meta", meta: { type: "trimmed", trimmed }, timestamp: prepared.began }]
      const stop = () => {
        rounds.stop()
        closed?.()
      }
      const call = callOf(prepared, events, preface, rounds.complete, stop, once)
      return Effect.map(prepare(prepared), (begin) => ({
        candidate: () => candidate,
        start: starting(prepared, begin, call),
        newMessages: () => rounds.newMessages
      }))
    })
  }

  /** The same by the first of its models that can be asked; the others follow where one fails. */
  const begin = (
    prepared: Prepared,
    events: boolean,
    commit: boolean,
    releases = events
  ): Effect.Effect<PendingAnswer, ChatError> => {
    const { began, candidates, execution, turn } = prepared
    const closed = releases && turn !== undefined ? () => turn.release() : undefined
    if (isNamed(candidates)) return beginOne(prepared, events, commit, closed, false)
    const ask = (candidate: ModelCandidate, once: boolean) =>
      beginOne(asking(prepared, candidate), events, commit, undefined, once)
    const rounds = new ModelRounds(candidates, { ask, limits: execution.limits, began, now })
    return Effect.zipWith(Effect.runtime<never>(), rounds.from(0), (runtime, first) =>
      ModelFallback.pending(first, {
        rounds,
        fork: Runtime.runFork(runtime),
        closed,
        committed: execution.committed
      })
    )
  }

  /**
   * Starts an answer without a fiber if nothing has to be awaited: no session turn, no cache lookup, no discovery. Its
   * spans have no parent that Effect knows.
   */
  const openNow = (
    execution: Execution,
    events: boolean
  ): { readonly answer: OpenAnswer; readonly prepared: Prepared } | undefined => {
    if (execution.session !== undefined || execution.executors !== undefined) return undefined
    const candidates = Direct.valueOf(execution.models)
    if (candidates === undefined || !isNamed(candidates)) return undefined
    const prepared = alone(execution, candidates, execution.began ?? now(), execution.origin ?? own)
    if (cacheTtlOf(prepared) !== undefined) return undefined
    const start = Direct.valueOf(serversOf(prepared))
    if (start === undefined) return undefined
    const call = callOf(prepared, events || isLikely(prepared), nothing, undefined, undefined, false)
    return { answer: starting(prepared, start, call)(), prepared }
  }

  const open: Engine["open"] = (execution) =>
    Direct.make<OpenAnswer, ChatError>(
      () => {
        const opened = openNow(execution, true)
        return opened === undefined ? undefined : Exit.succeed(opened.answer)
      },
      () => withCall(execution, true, (prepared) => Effect.map(begin(prepared, true, true), ({ start }) => start()))
    )

  const complete: Engine["complete"] = <A>(execution: Execution, use: (result: Result) => A | ChatError) =>
    Direct.make<A, ChatError>(
      () => {
        const opened = openNow(execution, false)
        return opened === undefined ? undefined : running(opened.answer, use, readerFor(opened.prepared))
      },
      () =>
        withCall(execution, false, (prepared) =>
          Effect.flatMap(begin(prepared, isLikely(prepared), true), ({ start }) =>
            toEffect(start, use, readerFor(prepared))
          )
        )
    )

  const engine: StreamingEngine = { open, complete, ...makeStructured({ begin, now, withCall }) }
  return engine
})

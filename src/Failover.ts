/**
 * Runs one request over the servers of its model, in the router's order, until one of them has answered it completely.
 *
 * | failure | what happens |
 * |---|---|
 * | no connection, 5xx, malformed, cut, silence | next server; this one rests |
 * | 429, 503 | next server; this one rests, for this model, as long as it asked |
 * | 503 while the model is loaded | other servers first; then this one every second, within `loadTimeout` |
 * | no connection, and its machine can be woken (`wake`) | other servers first; then it is woken, and waited for within `loadTimeout` |
 * | the model cannot be run there (memory, a runner that crashed) | next server; this one rests, for this model |
 * | 404 model not found | next server; the registry forgets that this one has the model |
 * | 401, 403 | next server |
 * | 400, 413, 422, a prompt that is too long, in whatever status | next server; `InvalidRequest` when that one agrees, or where there is none |
 * | the same 5xx on every server | what rested for it rests no more |
 *
 * Who is at fault for a failure is in one table, `fleet/failureClass`; what a request's failures mean together, in
 * `failover/faultAttribution`. When every server has failed, those that may recover are retried after a pause: see
 * `failover/retryPolicy`.
 *
 * Before the first piece of the answer the caller notices nothing but an `error` event. After it, the next server
 * continues from the same place if it can (see `backend/resume`); else it starts over, the part that the caller already
 * has is held back, and if the new answer differs from it the next server is tried. If none can continue:
 * `StreamInterrupted`. A call without events simply starts over.
 *
 * Across the splice token indices continue, and
 * - usage: prompt tokens are those of the last request; completion tokens those of the caller's answer, with one per
 *   piece of a broken attempt
 * - `maxTokens`: what was sent counts; with nothing left the answer is complete, with the reason `length`
 * - stop sequences also apply across it
 * - tool calls are sent only when complete: an attempt that breaks inside one is resumed from its text
 * - reasoning that was sent is not repeated
 * - JSON is never continued in the middle: it is written again as a whole, and must be the same
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Runtime from "effect/Runtime"
import { Backends } from "./Backend.js"
import { ResumeSupports } from "./backend/resumeSupport.js"
import type { Routing } from "./ChatRequest.js"
import type { Embedded } from "./EmbedRequest.js"
import {
  type ChatError,
  Closed,
  DeadlineExceeded,
  type ModelNotFound,
  NoLocalServer,
  type NoServers
} from "./Errors.js"
import { Fleet } from "./Fleet.js"
import { Answer } from "./failover/answer.js"
import type { Call, Dependencies } from "./failover/call.js"
import { type EmbedCall, Embedding, observed } from "./failover/embedding.js"
import type { OpenAnswer } from "./failover/eventBuffer.js"
import { RejectedRequests } from "./failover/faultAttribution.js"
import { HedgeBudget } from "./failover/hedging.js"
import { isAnswerError } from "./internal/answerError.js"
import * as Direct from "./internal/direct.js"
import { LiveSet } from "./internal/liveSet.js"
import { Registry } from "./Registry.js"
import { type Route, type RouteHints, Router } from "./Router.js"
import { isLocal } from "./Server.js"
import * as Settings from "./Settings.js"
import * as Telemetry from "./Telemetry.js"

export {
  /**
   * @since 0.1.0
   * @category models
   */
  Answer
} from "./failover/answer.js"
export type {
  /**
   * @since 0.1.0
   * @category models
   */
  Call,
  /**
   * @since 0.2.0
   * @category models
   */
  Completion,
  /**
   * @since 0.1.0
   * @category models
   */
  Continuation,
  /**
   * @since 0.1.0
   * @category models
   */
  Result
} from "./failover/call.js"
export type {
  /**
   * @since 0.1.0
   * @category models
   */
  EmbedCall
} from "./failover/embedding.js"
export {
  /**
   * @since 0.1.0
   * @category models
   */
  type Batch,
  /**
   * @since 0.1.0
   * @category models
   */
  EventBuffer,
  /**
   * @since 0.1.0
   * @category models
   */
  type OpenAnswer
} from "./failover/eventBuffer.js"

/**
 * `prepare` finds the servers of a model and gives back a function that begins an answer. Nothing is sent before it is
 * called. `hints` says which conversation the call belongs to.
 *
 * `embed` makes embeddings, by the same table; an interruption cancels the server's work.
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /**
   * Finds the servers of a model and gives a function that begins an answer. Nothing is sent before that is called.
   * `hints` says which conversation the call belongs to.
   */
  readonly prepare: (
    model: string,
    routing: Routing,
    hints?: RouteHints
  ) => Effect.Effect<(call: Call) => OpenAnswer, ModelNotFound | NoServers | NoLocalServer>
  /** Makes embeddings, with the same failover; an interruption cancels the server's work. */
  readonly embed: (call: EmbedCall, routing: Routing, hints?: RouteHints) => Effect.Effect<Embedded, ChatError>
}

/**
 * The tag of the service.
 *
 * @since 0.1.0
 * @category tags
 */
export class Failover extends Context.Tag("aicortex/Failover")<Failover, Service>() {}

/**
 * The service, over those that it needs.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.gen(function* () {
  const backends = yield* Backends
  const resumeSupport = yield* ResumeSupports
  const registry = yield* Registry
  const fleet = yield* Fleet
  const router = yield* Router
  const settings = yield* Effect.serviceOption(Settings.CurrentSettings)
  const clock = yield* Effect.clock
  const random = yield* Effect.random
  const runtime = yield* Effect.runtime<never>()
  const runFork = Runtime.runFork(runtime)
  const runPromise = Runtime.runPromise(runtime)
  const runSync = Runtime.runSync(runtime)
  const now = () => clock.unsafeCurrentTimeMillis()
  const { day, month } = fleet.remoteCosts() ?? {}
  const hasBudget = day?.limit !== undefined || month?.limit !== undefined
  const dependencies: Dependencies = {
    backends,
    resumeSupport,
    now,
    random: () => runSync(random.next),
    maxAnswerBytes: Option.getOrElse(settings, () => Settings.empty).maxAnswerBytes,
    exhausted: fleet.remoteLimit,
    lacksPrice: hasBudget ? fleet.lacksPrice : undefined,
    spend: fleet.spendRemoteTokens,
    hedges: new HedgeBudget(),
    agreements: new RejectedRequests(now),
    waking: registry,
    failed: (host, failure) => {
      if (failure.reason === "model-not-found") runFork(registry.markAbsent(host.model, host.server.url))
      // A server that is back after an outage may be another program.
      if (failure.reason === "refused") resumeSupport.forget(host.server.url)
    },
    missing: (model) => runPromise(Effect.flip(registry.missing(model))),
    unreachable: registry.unreachable,
    observe: (call, model) => Telemetry.observe(call, model, now)
  }

  // Answers must not outlive the services: they would only meet closed connections, and blame the servers.
  const live = new LiveSet<Answer | Embedding>()
  let closed = false
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      closed = true
      // Waiting calls go first: otherwise each free slot would be taken again.
      live.each((answer) => answer.queued && answer.cancel(new Closed()))
      live.each((answer) => answer.cancel(new Closed()))
    })
  )

  const route = (model: string, routing: Routing, hints: RouteHints | undefined) =>
    Effect.map(registry.locate(model), (hosts) => router.plan(hosts, routing, hints))
  /** The servers that have the model by now; `undefined` if none has. */
  const relocate = (model: string, routing: Routing, hints: RouteHints | undefined) =>
    runPromise(Effect.orElseSucceed(route(model, routing, hints), () => undefined))

  /** The servers of a call; one that is private has none that are remote. */
  const locate = (model: string, hints: RouteHints | undefined) =>
    hints?.private !== true
      ? registry.locate(model)
      : Effect.filterOrFail(
          registry.locate(model),
          (hosts) => hosts.some(({ server }) => isLocal(server)),
          (hosts) => new NoLocalServer({ model, servers: hosts.map(({ server }) => server.url) })
        )

  const start = (route: Route, call: Call, routing: Routing, hints: RouteHints | undefined): Answer => {
    const { model } = call.request
    const answer = new Answer(call, route, dependencies, () => relocate(model, routing, hints))
    answer.register(live)
    // Discovery of its servers was still running.
    if (closed) answer.cancel(new Closed())
    return answer
  }

  const embedded = (route: Route, call: EmbedCall, routing: Routing, hints: RouteHints | undefined) =>
    Effect.async<Embedded, ChatError>((resume) => {
      const { model } = call.request
      const embedding = new Embedding(call, route, dependencies, () => relocate(model, routing, hints), {
        done: (embedded) => resume(Effect.succeed(embedded)),
        failed: (error) => resume(isAnswerError(error) ? Effect.fail(error) : Effect.die(error))
      })
      embedding.register(live)
      if (closed) embedding.cancel(new Closed())
      return Effect.sync(() => embedding.cancel())
    })

  return Failover.of({
    embed: (call, routing, hints) => {
      const { began, limits, request } = call
      const { deadline } = limits
      const found = Effect.map(locate(request.model, hints), (hosts) => router.plan(hosts, routing, hints))
      const inTime =
        deadline === undefined
          ? found
          : Effect.timeoutFail(found, {
              duration: Math.max(1, deadline - (now() - began)),
              onTimeout: () => new DeadlineExceeded({ model: request.model, deadline, partial: "", attempts: [] })
            })
      return Effect.flatMap(
        Telemetry.observeUnstarted(inTime, () => observed(call), now),
        (route) => embedded(route, call, routing, hints)
      )
    },
    prepare: (model, routing, hints) =>
      Direct.map(
        locate(model, hints),
        (hosts) => (call: Call) => start(router.plan(hosts, routing, hints), call, routing, hints)
      )
  })
})

/**
 * The service as a layer.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<Failover, never, ResumeSupports | Backends | Registry | Fleet | Router> = Layer.scoped(
  Failover,
  make
)

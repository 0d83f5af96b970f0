/**
 * Runs one request over the servers of its model, in the router's order, until one of them has answered it whole.
 *
 * | failure | what happens |
 * |---|---|
 * | no connection, 5xx, malformed, cut, silence | next server; this one rests |
 * | 429, 503 | next server; this one rests, for this model, as long as it asked |
 * | 404 model not found | next server; the registry forgets that this one has the model |
 * | 401, 403 | next server |
 * | 400, 422 | no other server is tried: `InvalidRequest` |
 *
 * Before the first piece of the answer the caller notices nothing but an `error` event. After it, the next server
 * begins again and what the caller already has is held back; an answer that differs from it ends in
 * `StreamInterrupted`. A call that gives out no events is simply begun anew.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Runtime from "effect/Runtime"
import { Backends } from "./Backend.js"
import type { ChatEvent } from "./ChatEvent.js"
import type { ChatRequest, Limits, Routing } from "./ChatRequest.js"
import type { ModelNotFound, NoServers } from "./Errors.js"
import { Answer, type Continuation, type Plan, type Result } from "./failover/answer.js"
import { Fleet } from "./Fleet.js"
import { Registry } from "./Registry.js"
import { Router } from "./Router.js"

export {
  /**
   * @since 0.1.0
   * @category models
   */
  Answer,
  /**
   * @since 0.1.0
   * @category models
   */
  type Batch,
  /**
   * @since 0.1.0
   * @category models
   */
  type Continuation,
  /**
   * @since 0.1.0
   * @category models
   */
  type Result
} from "./failover/answer.js"

/**
 * A call, as `Chat` hands it over: see `Plan` for the hooks.
 *
 * @since 0.1.0
 * @category models
 */
export interface Call {
  readonly request: ChatRequest
  readonly limits: Limits
  readonly routing: Routing
  readonly events: boolean
  readonly preface: ReadonlyArray<ChatEvent>
  readonly complete: ((result: Result) => Promise<Continuation | undefined>) | undefined
  readonly closed: () => void
}

/**
 * `prepare` finds the servers and gives back a function that begins the answer. Nothing is sent before it is called.
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  readonly prepare: (call: Call) => Effect.Effect<() => Answer, ModelNotFound | NoServers>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class Failover extends Context.Tag("aicortex/Failover")<Failover, Service>() {}

/**
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.gen(function* () {
  const backends = yield* Backends
  const fleet = yield* Fleet
  const registry = yield* Registry
  const router = yield* Router
  const clock = yield* Effect.clock
  const random = yield* Effect.random
  const runtime = yield* Effect.runtime<never>()
  const runFork = Runtime.runFork(runtime)
  const runPromise = Runtime.runPromise(runtime)
  const now = () => clock.unsafeCurrentTimeMillis()

  return Failover.of({
    prepare: (call) =>
      Effect.map(router.order(call.request.model, call.routing), (order) => {
        const plan: Plan = {
          ...call,
          order,
          backends,
          fleet,
          now,
          random: () => Runtime.runSync(runtime)(random.next),
          failed: ({ host }, failure) => {
            if (failure.reason === "model-not-found") runFork(registry.markAbsent(host.model, host.server.url))
          },
          missing: () => runPromise(Effect.flip(registry.missing(call.request.model)))
        }
        return () => new Answer(plan)
      })
  })
})

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<Failover, never, Backends | Fleet | Registry | Router> = Layer.effect(Failover, make)

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
import type { Routing } from "./ChatRequest.js"
import type { ModelNotFound, NoServers } from "./Errors.js"
import { Fleet } from "./Fleet.js"
import { Answer, type Call, type Surroundings } from "./failover/answer.js"
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
  type Call,
  /**
   * @since 0.1.0
   * @category models
   */
  type Continuation,
  /**
   * @since 0.1.0
   * @category models
   */
  type OpenAnswer,
  /**
   * @since 0.1.0
   * @category models
   */
  type Result
} from "./failover/answer.js"

/**
 * `prepare` finds the servers of a model and gives back a function that begins an answer. Nothing is sent before it is
 * called.
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  readonly prepare: (
    model: string,
    routing: Routing
  ) => Effect.Effect<(call: Call) => Answer, ModelNotFound | NoServers>
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
  const runSync = Runtime.runSync(runtime)
  const surroundings: Surroundings = {
    backends,
    fleet,
    now: () => clock.unsafeCurrentTimeMillis(),
    random: () => runSync(random.next),
    failed: ({ host }, failure) => {
      if (failure.reason === "model-not-found") runFork(registry.markAbsent(host.model, host.server.url))
    },
    missing: (model) => runPromise(Effect.flip(registry.missing(model)))
  }

  return Failover.of({
    prepare: (model, routing) =>
      Effect.map(router.order(model, routing), (order) => (call: Call) => new Answer(call, order, surroundings))
  })
})

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<Failover, never, Backends | Fleet | Registry | Router> = Layer.effect(Failover, make)

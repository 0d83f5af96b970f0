/**
 * Texts turned into vectors, over the fleet: with the same discovery, routing and failover as chats.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as CallDefaults from "./CallDefaults.js"
import { defaults } from "./ChatRequest.js"
import * as EmbedRequest from "./EmbedRequest.js"
import type { ChatError } from "./Errors.js"
import { execute } from "./embeddings/execute.js"
import { Failover } from "./Failover.js"
import { ModelSelection } from "./ModelSelection.js"
import { CurrentSettings } from "./Settings.js"
import * as Telemetry from "./Telemetry.js"

export type {
  /**
   * @since 0.1.0
   * @category models
   */
  Embedded,
  /**
   * @since 0.1.0
   * @category models
   */
  Options
} from "./EmbedRequest.js"

/**
 * `embed` returns one vector for each text, in order. An invalid option fails with `InvalidRequest` before anything is
 * sent; otherwise failures are as in a chat: a failing server costs only time, as long as another one has the model. An
 * interruption cancels the server's work.
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /** One vector for each text, in order. An invalid option fails with `InvalidRequest` before anything is sent. */
  readonly embed: (
    input: string | ReadonlyArray<string>,
    options: EmbedRequest.Options
  ) => Effect.Effect<EmbedRequest.Embedded, ChatError>
}

/**
 * The tag of the service.
 *
 * @since 0.1.0
 * @category tags
 */
export class Embeddings extends Context.Tag("aicortex/Embeddings")<Embeddings, Service>() {}

/**
 * The service, over those that it needs.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.gen(function* () {
  const failover = yield* Failover
  const models = yield* ModelSelection
  const settings = yield* CurrentSettings
  const clock = yield* Effect.clock
  return Embeddings.of({
    embed: (input, options) =>
      Effect.withFiberRuntime((fiber) => {
        const began = clock.unsafeCurrentTimeMillis()
        const checked = Either.flatMap(EmbedRequest.decodeOptions(options), (options) =>
          Either.map(EmbedRequest.decodeInput(input), (texts) => ({ options, texts }))
        )
        if (Either.isLeft(checked)) return Effect.fail(checked.left)
        const { texts } = checked.right
        const given = CallDefaults.forEmbedding(checked.right.options, settings.defaults)
        const trace = Telemetry.traceOf(fiber)
        const context = trace === undefined ? Telemetry.incomingContext(fiber) : undefined
        const request = EmbedRequest.make(given, texts)
        const embedded = execute(models, failover, {
          request,
          limits: EmbedRequest.limits(given),
          routing: given.routing ?? defaults.routing,
          owner: given.owner,
          priority: given.priority,
          private: given.private,
          began,
          trace,
          context
        })
        return Effect.map(embedded, ({ candidate: _, ...rest }): EmbedRequest.Embedded => rest)
      })
  })
})

/**
 * The service as a layer.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<Embeddings, never, Failover | ModelSelection | CurrentSettings> = Layer.effect(
  Embeddings,
  make
)

/**
 * The vectors of one text, or of several.
 *
 * @example
 * import { Embeddings } from "aicortex"
 * import { Effect } from "effect"
 *
 * const near = Effect.map(
 *   Embeddings.embed(["a cat", "a dog"], { model: "nomic-embed-text" }),
 *   ({ embeddings }) => embeddings.length
 * )
 *
 * @since 0.1.0
 * @category accessors
 */
export const embed = (
  input: string | ReadonlyArray<string>,
  options: EmbedRequest.Options
): Effect.Effect<EmbedRequest.Embedded, ChatError, Embeddings> =>
  Effect.flatMap(Embeddings, (embeddings) => embeddings.embed(input, options))

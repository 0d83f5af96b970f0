/**
 * Talking to a model: text, events, or a value of a known shape.
 *
 * ```ts
 * import { Chat, Cortex } from "aicortex"
 * import { Effect, Schema } from "effect"
 *
 * const program = Effect.gen(function* () {
 *   const text = yield* Chat.text("Why is the sky blue?", { model: "llama3.2:3b", routing: "fastest" })
 *   const { capital } = yield* Chat.json("The capital of France?", Schema.Struct({ capital: Schema.String }))
 * }).pipe(Effect.provide(Cortex.layer({ servers: ["http://gpu-1:11434"] })))
 * ```
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { identity } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import type * as Stream from "effect/Stream"
import type { ChatEvent } from "./ChatEvent.js"
import type * as ChatRequest from "./ChatRequest.js"
import { withEngine } from "./chat/capability.js"
import { checkCall, type Options, type Prompt } from "./chat/check.js"
import * as Engine from "./chat/engine.js"
import type { Execution } from "./chat/execution.js"
import * as TestModel from "./chat/testModel.js"
import { toStream } from "./chat/toEffect.js"
import * as ToolLoop from "./chat/toolLoop.js"
import type { ChatError, SchemaMismatch } from "./Errors.js"
import type { Failover, OpenAnswer, Result } from "./Failover.js"
import * as Direct from "./internal/direct.js"
import { ModelSelection } from "./ModelSelection.js"
import type { Registry } from "./Registry.js"
import type * as ResponseCache from "./ResponseCache.js"
import type { Sessions } from "./Sessions.js"
import { CurrentSettings, type Settings } from "./Settings.js"
import * as StructuredOutput from "./StructuredOutput.js"

export type {
  /**
   * @since 0.1.0
   * @category models
   */
  Options,
  /**
   * @since 0.1.0
   * @category models
   */
  Prompt
} from "./chat/check.js"
export type {
  /**
   * @since 0.1.0
   * @category models
   */
  Tool
} from "./chat/execution.js"
export type {
  /**
   * @since 0.1.0
   * @category models
   */
  Reply,
  /**
   * @since 0.1.0
   * @category models
   */
  Script
} from "./chat/testModel.js"
export {
  /**
   * @since 0.1.0
   * @category accessors
   */
  textOf
} from "./chat/toolLoop.js"

// =============================================================================
// Models
// =============================================================================

/**
 * Asks a model. Every option is checked before anything is sent: what is wrong fails with `InvalidRequest`.
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /**
   * The answer as a plain pull of events, for callers that iterate it themselves; it must be pulled to its end or
   * cancelled.
   */
  readonly open: (prompt: Prompt, options?: Options) => Effect.Effect<OpenAnswer, ChatError>
  /** The events as a `Stream`, one chunk per network read; ending it early cancels the server's work. */
  readonly stream: (prompt: Prompt, options?: Options) => Stream.Stream<ChatEvent, ChatError>
  /** The whole answer with its server, usage, speed and tool calls. */
  readonly complete: (prompt: Prompt, options?: Options) => Effect.Effect<Result, ChatError>
  /** The text of the whole answer. */
  readonly text: (prompt: Prompt, options?: Options) => Effect.Effect<string, ChatError>
  /** JSON that `decoder` accepts, repaired once if the first reply does not match. */
  readonly structured: <A>(
    prompt: Prompt,
    decoder: StructuredOutput.AsyncDecoder<A>,
    options?: Options
  ) => Effect.Effect<A, ChatError | SchemaMismatch>
}

/**
 * The tag of the service.
 *
 * @since 0.1.0
 * @category tags
 */
export class Chat extends Context.Tag("aicortex/Chat")<Chat, Service>() {}

// =============================================================================
// Service
// =============================================================================

/**
 * The service, over those that it needs.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.gen(function* () {
  const engine = yield* Engine.make
  const models = yield* ModelSelection
  const settings = yield* CurrentSettings

  const checked = (
    prompt: Prompt,
    options: Options | undefined,
    format: ChatRequest.Format
  ): Either.Either<Execution, ChatError> => checkCall(prompt, options, format, settings, models)

  /** Checked each time that it is run. */
  const run = <A>(
    prompt: Prompt,
    options: Options | undefined,
    use: (execution: Execution) => Effect.Effect<A, ChatError>
  ): Effect.Effect<A, ChatError> =>
    Direct.suspend(() => {
      const execution = checked(prompt, options, "text")
      return Either.isLeft(execution) ? Effect.fail(execution.left) : use(execution.right)
    })

  const open = (prompt: Prompt, options?: Options) => run(prompt, options, engine.open)

  const service: Service = {
    open,
    stream: (prompt, options) => toStream(open(prompt, options)),
    complete: (prompt, options) => run(prompt, options, (execution) => engine.complete(execution, identity<Result>)),
    text: (prompt, options) => run(prompt, options, (execution) => engine.complete<string>(execution, ToolLoop.textOf)),
    structured: <A>(prompt: Prompt, decoder: StructuredOutput.AsyncDecoder<A>, options?: Options) =>
      Effect.suspend(() => {
        const execution = checked(prompt, options, decoder.jsonSchema ?? "json")
        return Either.isLeft(execution)
          ? Effect.fail(execution.left)
          : Effect.map(engine.structured(execution.right, decoder, lost), ({ value }) => value as A)
      })
  }
  return Chat.of(withEngine(service, engine))
})

/** Every reply must fit; the calls of one that has any would be lost. */
const lost = (result: Result): boolean | ChatError => {
  const text = ToolLoop.textOf(result)
  return typeof text === "string" ? true : text
}

/**
 * The service as a layer.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<
  Chat,
  never,
  Failover | ModelSelection | Registry | ResponseCache.ResponseCache | Sessions | CurrentSettings
> = Layer.effect(Chat, make)

/**
 * `Chat` for tests, with a script in place of servers: validation, sessions, cache, decoding, repair and events are
 * real, and every model exists. Conversations and cached answers are in memory; `settings` may have personas and a
 * default model. Nothing is sent, and neither environment nor files are read.
 *
 * A deadline uses real time; a script that takes time, such as `Effect.delay`, uses its clock.
 *
 * @example
 * import { Chat, ModelNotFound } from "aicortex"
 * import { Effect } from "effect"
 *
 * const program = Chat.text("The capital of France?", { model: "llama3.2:3b" }).pipe(
 *   Effect.catchTag("ModelNotFound", ({ model }) => Effect.succeed(`no ${model}`))
 * )
 * const answer = Effect.provide(program, Chat.layerTest("Paris."))
 * const none = Effect.provide(
 *   program,
 *   Chat.layerTest(({ model }) => new ModelNotFound({ model, suggestions: [] }))
 * )
 *
 * @since 0.1.0
 * @category layers
 */
export const layerTest = (
  script: TestModel.Script,
  settings: Partial<Settings> = {}
): Layer.Layer<Chat | Sessions | ResponseCache.ResponseCache | CurrentSettings> =>
  Layer.provideMerge(layer, TestModel.layer(script, settings))

// =============================================================================
// accessors
// =============================================================================

/**
 * The text of the whole answer.
 *
 * @since 0.1.0
 * @category accessors
 */
export const text = (prompt: Prompt, options?: Options): Effect.Effect<string, ChatError, Chat> =>
  Effect.flatMap(Chat, (chat) => chat.text(prompt, options))

/**
 * The whole answer, with the server that gave it, usage, speed, tool calls and the attempts that failed before.
 *
 * @since 0.1.0
 * @category accessors
 */
export const complete = (prompt: Prompt, options?: Options): Effect.Effect<Result, ChatError, Chat> =>
  Effect.flatMap(Chat, (chat) => chat.complete(prompt, options))

/**
 * The events of the answer as they come, one chunk per network read. Ending the stream early cancels the server's work.
 *
 * @since 0.1.0
 * @category accessors
 */
export const stream = (prompt: Prompt, options?: Options): Stream.Stream<ChatEvent, ChatError, Chat> =>
  toStream(Effect.flatMap(Chat, (chat) => chat.open(prompt, options)))

/** A decoder whose services are those of the caller. */
const provided = <A, R>(
  { decode, jsonSchema }: StructuredOutput.AsyncDecoder<A, R>,
  context: Context.Context<R>
): StructuredOutput.AsyncDecoder<A> => ({
  jsonSchema,
  decode: (text) => Effect.provide(decode(text), context)
})

/**
 * A value of a schema: an Effect schema, a Standard Schema (Zod, Valibot, ArkType, …) or a JSON Schema. The schema is sent
 * to the server, the reply is decoded with it, and a reply that does not match is sent back once for repair; then it
 * fails with `SchemaMismatch`. What is no schema fails with `InvalidRequest` before anything is sent.
 *
 * @example
 * import { Chat } from "aicortex"
 * import { Schema } from "effect"
 *
 * const city = Chat.json("The capital of France?", Schema.Struct({ capital: Schema.String }))
 *
 * @since 0.1.0
 * @category accessors
 */
export const json: {
  /** The type of an Effect schema; the services that it needs are those of the call. */
  <A, I, R>(
    prompt: Prompt,
    schema: Schema.Schema<A, I, R>,
    options?: Options
  ): Effect.Effect<A, ChatError | SchemaMismatch, Chat | R>
  /** The output of a Standard Schema, or what a JSON Schema describes that is given `as const`; else `unknown`. */
  <S extends StructuredOutput.AnySchema>(
    prompt: Prompt,
    schema: S,
    options?: Options
  ): Effect.Effect<StructuredOutput.OutputOf<S>, ChatError | SchemaMismatch, Chat | StructuredOutput.ContextOf<S>>
} = <R>(
  prompt: Prompt,
  schema: StructuredOutput.AnySchema,
  options?: Options
  // biome-ignore lint/suspicious/noExplicitAny: the overloads say what it is.
): Effect.Effect<any, ChatError | SchemaMismatch, Chat | R> =>
  Effect.flatMap(Effect.context<Chat | R>(), (context) => {
    const settings = Context.getOption(context as Context.Context<never>, CurrentSettings)
    const maxBytes = Option.getOrUndefined(settings)?.maxSchemaBytes
    return Effect.flatMap(StructuredOutput.from(schema, { maxBytes }), (decoder) =>
      Context.get(context, Chat).structured(prompt, provided<unknown, R>(decoder, context), options)
    )
  })

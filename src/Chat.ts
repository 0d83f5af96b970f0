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
import * as Stream from "effect/Stream"
import type { ChatEvent, StructuredEvent } from "./ChatEvent.js"
import type * as ChatRequest from "./ChatRequest.js"
import { withEngine } from "./chat/capability.js"
import { checkCall, type Options, type Prompt, type WithTools } from "./chat/check.js"
import * as Engine from "./chat/engine.js"
import type { Execution } from "./chat/execution.js"
import type { OpenEvents } from "./chat/openEvents.js"
import * as TestModel from "./chat/testModel.js"
import { streamOf, toStream } from "./chat/toEffect.js"
import type { AnyTool, ErrorOf, OnToolError, ServicesOf, Tool } from "./chat/tool.js"
import * as Toolkit from "./chat/toolkit.js"
import * as ToolLoop from "./chat/toolLoop.js"
import { type ChatError, type InvalidRequest, SchemaMismatch } from "./Errors.js"
import type { Failover, OpenAnswer, Result } from "./Failover.js"
import { isAnswerError } from "./internal/answerError.js"
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
   * @since 0.2.0
   * @category models
   */
  OpenEvents
} from "./chat/openEvents.js"
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
export type {
  /**
   * @since 0.2.0
   * @category models
   */
  ArgumentsOf,
  /**
   * @since 0.2.0
   * @category models
   */
  ErrorOf,
  /**
   * @since 0.2.0
   * @category models
   */
  OnToolError,
  /**
   * @since 0.2.0
   * @category models
   */
  ServicesOf,
  /**
   * @since 0.1.0
   * @category models
   */
  Tool
} from "./chat/tool.js"
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
  /**
   * The same as a plain pull of events, with the value as it grows, and at the end the value; pulls reject with
   * `SchemaMismatch`, too. It must be pulled to its end or cancelled.
   */
  readonly openStructured: <A>(
    prompt: Prompt,
    decoder: StructuredOutput.AsyncDecoder<A>,
    options?: Options
  ) => Effect.Effect<OpenEvents<StructuredEvent<A>>, ChatError>
}

/**
 * The tag of the service. Programs rather call the functions of this module, which take it from the context: `text`,
 * `complete` and `stream`, and for JSON `json` and `streamJson`, which take a schema of any kind. The service's own
 * `structured` takes a decoder of `StructuredOutput`.
 *
 * @example
 * import { Chat, Cortex } from "aicortex"
 * import { Effect, Schema } from "effect"
 *
 * const City = Schema.Struct({ capital: Schema.String })
 * const answer = Chat.json("The capital of France, as JSON?", City)
 *
 * export const program = Effect.provide(answer, Cortex.layer({ servers: ["http://gpu-1:11434"] }))
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
    format: ChatRequest.Format,
    toolkit: Toolkit.Toolkit
  ): Either.Either<Execution, ChatError> => checkCall(prompt, options, format, settings, models, toolkit)

  /** Checked each time that it is run; without a fiber where no tool has to be compiled. */
  const execution = (
    prompt: Prompt,
    options: Options | undefined,
    format: ChatRequest.Format
  ): Either.Either<Execution, ChatError> | Effect.Effect<Execution, ChatError> => {
    const toolkit = Toolkit.prepare(options?.tools, settings.maxSchemaBytes)
    return Either.isEither(toolkit)
      ? Either.flatMap(toolkit, (ready) => checked(prompt, options, format, ready))
      : Effect.flatMap(toolkit, (ready) => checked(prompt, options, format, ready))
  }

  const run = <A>(
    prompt: Prompt,
    options: Options | undefined,
    use: (execution: Execution) => Effect.Effect<A, ChatError>
  ): Effect.Effect<A, ChatError> =>
    Direct.suspend(() => {
      const ready = execution(prompt, options, "text")
      if (!Either.isEither(ready)) return Effect.flatMap(ready, use)
      return Either.isLeft(ready) ? Effect.fail(ready.left) : use(ready.right)
    })

  const open = (prompt: Prompt, options?: Options) => run(prompt, options, engine.open)

  const service: Service = {
    open,
    stream: (prompt, options) => toStream(open(prompt, options)),
    complete: (prompt, options) => run(prompt, options, (execution) => engine.complete(execution, identity<Result>)),
    text: (prompt, options) => run(prompt, options, (execution) => engine.complete<string>(execution, ToolLoop.textOf)),
    structured: <A>(prompt: Prompt, decoder: StructuredOutput.AsyncDecoder<A>, options?: Options) =>
      Effect.suspend(() =>
        Effect.flatMap(execution(prompt, options, decoder.jsonSchema ?? "json"), (ready) =>
          Effect.map(engine.structured(ready, decoder, lost), ({ value }) => value as A)
        )
      ),
    openStructured: (prompt, decoder, options) =>
      Effect.suspend(() =>
        Effect.flatMap(execution(prompt, options, decoder.jsonSchema ?? "json"), (ready) =>
          engine.openStructured(ready, decoder, lost)
        )
      )
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
 * A tool whose types follow from its `parameters` and its `execute`. It is the same tool: without this function it works
 * as well, with arguments of any type.
 *
 * @example
 * import { Chat } from "aicortex"
 * import { Effect, Schema } from "effect"
 *
 * const weather = Chat.tool({
 *   name: "weather",
 *   parameters: Schema.Struct({ city: Schema.String }),
 *   execute: ({ city }) => Effect.succeed({ city, sky: "clear" })
 * })
 *
 * @since 0.2.0
 * @category constructors
 */
export const tool = <S = unknown, E = never, R = never, const M extends OnToolError = "wrap">(
  definition: Omit<Tool<S, E, R>, "onError"> & { readonly onError?: M | undefined }
): Tool<S, E, R> & { readonly onError: M } => ({ ...definition, onError: definition.onError ?? ("wrap" as M) })

type Tools = ReadonlyArray<AnyTool>

/** The services of tools are those of the fiber that asks. */
const plain = (options: WithTools<Tools> | undefined) => options as Options | undefined

/** What an accessor fails with: with a tool's own failure where the tool says so. */
const withOwnFailures = <A, E, R, T extends Tools>(
  effect: Effect.Effect<A, E, R>,
  options: WithTools<T> | undefined
): Effect.Effect<A, E | ErrorOf<T[number]>, R> =>
  options?.tools === undefined
    ? effect
    : Effect.mapError(effect, (error) => ToolLoop.raised(error) as E | ErrorOf<T[number]>)

/**
 * The text of the whole answer. It needs the services that its tools need, and fails with the failures of those with
 * `onError: "fail"`, too.
 *
 * @since 0.1.0
 * @category accessors
 */
export const text = <const T extends Tools = readonly []>(
  prompt: Prompt,
  options?: WithTools<T>
): Effect.Effect<string, ChatError | ErrorOf<T[number]>, Chat | ServicesOf<T[number]>> =>
  withOwnFailures(
    Effect.flatMap(Chat, (chat) => chat.text(prompt, plain(options))),
    options
  )

/**
 * The whole answer, with the server that gave it, usage, speed, tool calls and the attempts that failed before.
 *
 * @since 0.1.0
 * @category accessors
 */
export const complete = <const T extends Tools = readonly []>(
  prompt: Prompt,
  options?: WithTools<T>
): Effect.Effect<Result, ChatError | ErrorOf<T[number]>, Chat | ServicesOf<T[number]>> =>
  withOwnFailures(
    Effect.flatMap(Chat, (chat) => chat.complete(prompt, plain(options))),
    options
  )

/**
 * The events of the answer as they come, one chunk per network read. Ending the stream early cancels the server's work.
 *
 * @since 0.1.0
 * @category accessors
 */
export const stream = <const T extends Tools = readonly []>(
  prompt: Prompt,
  options?: WithTools<T>
): Stream.Stream<ChatEvent, ChatError | ErrorOf<T[number]>, Chat | ServicesOf<T[number]>> => {
  const events = toStream(Effect.flatMap(Chat, (chat) => chat.open(prompt, plain(options))))
  return options?.tools === undefined
    ? events
    : Stream.mapError(events, (error) => ToolLoop.raised(error) as ChatError | ErrorOf<T[number]>)
}

/** A decoder whose services are those of the caller. */
const provided = <A, R>(
  { decode, jsonSchema }: StructuredOutput.AsyncDecoder<A, R>,
  context: Context.Context<R>
): StructuredOutput.AsyncDecoder<A> => ({
  jsonSchema,
  decode: (text) => Effect.provide(decode(text), context)
})

/** Runs `use` with the decoder of a schema of any kind. */
const withDecoder = <R, A, E>(
  schema: StructuredOutput.AnySchema,
  use: (chat: Service, decoder: StructuredOutput.AsyncDecoder<unknown>) => Effect.Effect<A, E>
): Effect.Effect<A, E | InvalidRequest, Chat | R> =>
  Effect.flatMap(Effect.context<Chat | R>(), (context) => {
    const settings = Context.getOption(context as Context.Context<never>, CurrentSettings)
    const maxBytes = Option.getOrUndefined(settings)?.maxSchemaBytes
    return Effect.flatMap(StructuredOutput.from(schema, { maxBytes }), (decoder) =>
      use(Context.get(context, Chat), provided<unknown, R>(decoder, context))
    )
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
  <A, I, R, const T extends Tools = readonly []>(
    prompt: Prompt,
    schema: Schema.Schema<A, I, R>,
    options?: WithTools<T>
  ): Effect.Effect<A, ChatError | SchemaMismatch | ErrorOf<T[number]>, Chat | R | ServicesOf<T[number]>>
  /** The output of a Standard Schema, or what a JSON Schema describes that is given `as const`; else `unknown`. */
  <S extends StructuredOutput.AnySchema, const T extends Tools = readonly []>(
    prompt: Prompt,
    schema: S,
    options?: WithTools<T>
  ): Effect.Effect<
    StructuredOutput.OutputOf<S>,
    ChatError | SchemaMismatch | ErrorOf<T[number]>,
    Chat | StructuredOutput.ContextOf<S> | ServicesOf<T[number]>
  >
} = <R>(
  prompt: Prompt,
  schema: StructuredOutput.AnySchema,
  options?: WithTools<Tools>
  // biome-ignore lint/suspicious/noExplicitAny: the overloads say what it is.
): Effect.Effect<any, any, Chat | R> =>
  withOwnFailures(
    withDecoder<R, unknown, ChatError | SchemaMismatch>(schema, (chat, decoder) =>
      chat.structured(prompt, decoder, plain(options))
    ),
    options
  )

const isStructuredError = (error: unknown): error is ChatError | SchemaMismatch =>
  isAnswerError(error) || error instanceof SchemaMismatch

/**
 * The same as a stream: the events of the answer with the value as it grows (`partial`), which is not checked, and at the
 * end the value (`value`). A reply that does not match is sent back once for repair (`repair`): what was given out before
 * is then void.
 *
 * @example
 * import { Chat } from "aicortex"
 * import { Console, Schema, Stream } from "effect"
 *
 * const city = Chat.streamJson("The capital of France?", Schema.Struct({ capital: Schema.String })).pipe(
 *   Stream.runForEach((event) => (event.type === "partial" ? Console.log(event.value.capital) : Console.log(event.type)))
 * )
 *
 * @since 0.2.0
 * @category accessors
 */
export const streamJson: {
  /** The type of an Effect schema; the services that it needs are those of the call. */
  <A, I, R, const T extends Tools = readonly []>(
    prompt: Prompt,
    schema: Schema.Schema<A, I, R>,
    options?: WithTools<T>
  ): Stream.Stream<
    StructuredEvent<A, StructuredOutput.DeepPartial<I>>,
    ChatError | SchemaMismatch | ErrorOf<T[number]>,
    Chat | R | ServicesOf<T[number]>
  >
  /** The output of a Standard Schema, or what a JSON Schema describes that is given `as const`; else `unknown`. */
  <S extends StructuredOutput.AnySchema, const T extends Tools = readonly []>(
    prompt: Prompt,
    schema: S,
    options?: WithTools<T>
  ): Stream.Stream<
    StructuredEvent<StructuredOutput.OutputOf<S>, StructuredOutput.DeepPartial<StructuredOutput.InputOf<S>>>,
    ChatError | SchemaMismatch | ErrorOf<T[number]>,
    Chat | StructuredOutput.ContextOf<S> | ServicesOf<T[number]>
  >
} = <R>(
  prompt: Prompt,
  schema: StructuredOutput.AnySchema,
  options?: WithTools<Tools>
  // biome-ignore lint/suspicious/noExplicitAny: the overloads say what it is.
): Stream.Stream<any, any, Chat | R> => {
  const opened = withDecoder<R, OpenEvents<StructuredEvent>, ChatError>(schema, (chat, decoder) =>
    chat.openStructured(prompt, decoder, plain(options))
  )
  const events = streamOf<StructuredEvent, ChatError | SchemaMismatch, Chat | R>(opened, isStructuredError)
  return options?.tools === undefined ? events : Stream.mapError(events, ToolLoop.raised)
}

/** The calls of the Promise facade. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import type * as Benchmark from "../Benchmark.js"
import * as Chat from "../Chat.js"
import { Routing, type ToolDefinition } from "../ChatRequest.js"
import type { PortableServices } from "../Cortex.js"
import type * as EmbedRequest from "../EmbedRequest.js"
import { InvalidRequest } from "../Errors.js"
import type * as Execute from "../Execute.js"
import * as Direct from "../internal/direct.js"
import { decoder, optional, withoutNulls } from "../internal/optionSchemas.js"
import type { Message } from "../Message.js"
import type { PullEvent } from "../ModelStore.js"
import type { Metadata } from "../Sessions.js"
import { CurrentSettings } from "../Settings.js"
import type { AnySchema, DeepPartial, InputOf, OutputOf } from "../StructuredOutput.js"
import * as StructuredOutput from "../StructuredOutput.js"
import { ChatStream, StructuredStream } from "./chatStream.js"

// =============================================================================
// Models
// =============================================================================

/**
 * A prompt, or a whole conversation: `chat("…")`, `chat([{ role: "user", content: "…" }])`, `chat({ messages })`.
 *
 * @since 0.1.0
 * @category models
 */
export type Prompt = Chat.Prompt

/**
 * A tool. With `execute` it is run here and the answer goes on with what it returns; without it the answer ends with
 * `tool_call` events (`stream: true`) or `toolCalls` (`complete`). `S` is the schema of its parameters: `tool` infers
 * it.
 *
 * @since 0.1.0
 * @category models
 */
// biome-ignore lint/suspicious/noExplicitAny: a tool of any parameters.
export interface Tool<S = any> extends Omit<ToolDefinition, "parameters"> {
  /**
   * The schema of its arguments: a Standard Schema (Zod, Valibot, ArkType, …), an Effect schema that needs no services,
   * or a JSON Schema. Default: it takes none.
   */
  readonly parameters?: S | undefined
  /**
   * Runs the tool; it may return a promise. Its arguments fit `parameters`: what does not goes back to the model. What
   * it gives goes back to the model: text as it is, anything else as JSON. Default: the caller runs it.
   */
  readonly execute?: (args: Chat.ArgumentsOf<S>) => unknown
  /**
   * What happens if `execute` throws: `wrap` rejects with `ToolFailed`, whose `cause` it is; `fail` rejects with what
   * was thrown; `return` tells the model, which may call the tool again. Default `wrap`.
   */
  readonly onError?: Chat.OnToolError | undefined
}

/**
 * A tool whose arguments are typed by its `parameters`. It is the same tool: without this function it works as well,
 * with arguments of any type.
 *
 * @example
 * import { chat, tool } from "aicortex/promise"
 *
 * const weather = tool({
 *   name: "weather",
 *   parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] } as const,
 *   execute: ({ city }) => ({ city, sky: "clear" })
 * })
 * await chat("What is the weather in Paris?", { tools: [weather] })
 *
 * @since 0.2.0
 * @category constructors
 */
export const tool = <S = unknown>(definition: Tool<S>): Tool<S> => definition

/**
 * The options of a call. Those that are plain data are described at `ChatRequest.Options`, with ranges and defaults.
 *
 * @since 0.1.0
 * @category models
 */
export interface ChatOptions extends Omit<Chat.Options, "tools" | "session"> {
  /** Events as they come, instead of the whole text; with a `schema` also the value as it grows. */
  readonly stream?: boolean | undefined
  /** `json`: the parsed value instead of text; together with `stream` only with a `schema`. Default `text`. */
  readonly responseFormat?: "text" | "json" | undefined
  /**
   * What the value must fit: a Standard Schema (Zod, Valibot, ArkType, …), an Effect schema that needs no services, or
   * a JSON Schema; asks for JSON. The value is what the schema makes of the reply.
   */
  readonly schema?: AnySchema | undefined
  /** A session or its id. */
  readonly session?: { readonly id: string } | string | undefined
  /** With or without `execute`. */
  readonly tools?: ReadonlyArray<Tool> | undefined
  /** Stops the call, and the server's work. */
  readonly signal?: AbortSignal | undefined
}

/**
 * `chat`, whose Promise follows its options: text, the parsed value, or a stream.
 *
 * @since 0.1.0
 * @category models
 */
export interface ChatFunction {
  /** The events with the value as it grows, and the value at the end. */
  <S extends AnySchema>(
    prompt: Prompt,
    options: ChatOptions & { readonly schema: S; readonly stream: true }
  ): Promise<StructuredStream<OutputOf<S>, DeepPartial<InputOf<S>>>>
  /** The events of the answer as they come. */
  (prompt: Prompt, options: ChatOptions & { readonly stream: true }): Promise<ChatStream>
  /** The output of a schema: `unknown` for a JSON Schema that is not given `as const`. */
  <S extends AnySchema>(
    prompt: Prompt,
    options: ChatOptions & { readonly schema: S; readonly stream?: false | undefined }
  ): Promise<OutputOf<S>>
  /** A parsed value whose type the caller knows. */
  // biome-ignore lint/suspicious/noExplicitAny: a parsed value of a caller's own, as from JSON.parse.
  <A = any>(
    prompt: Prompt,
    options: ChatOptions & ({ readonly responseFormat: "json" } | { readonly schema: object })
  ): Promise<A>
  (
    prompt: Prompt,
    options?: ChatOptions & {
      readonly stream?: false | undefined
      readonly responseFormat?: "text" | undefined
      readonly schema?: undefined
    }
  ): Promise<string>
  (
    prompt: Prompt,
    options: ChatOptions & { readonly responseFormat?: "text" | undefined; readonly schema?: undefined }
  ): Promise<string | ChatStream>
  /** Options that were put together elsewhere: what comes back is known only when they are. */
  (prompt: Prompt, options?: ChatOptions): Promise<unknown>
}

/**
 * The options of `execute`.
 *
 * @since 0.2.0
 * @category models
 */
export interface ExecuteOptions extends Execute.Options {
  /** Stops the call, and the server's work. */
  readonly signal?: AbortSignal | undefined
}

/**
 * The options of `benchmark`, which are described at `Benchmark.Options`.
 *
 * @since 0.3.0
 * @category models
 */
export interface BenchmarkOptions extends Benchmark.Options {
  /** Stops the benchmark, and the servers' work. */
  readonly signal?: AbortSignal | undefined
}

/**
 * The options of `loadTest`, which are described at `Benchmark.LoadOptions`.
 *
 * @since 0.4.0
 * @category models
 */
export interface LoadTestOptions extends Benchmark.LoadOptions {
  /** Hears how far it is. */
  readonly onProgress?: ((progress: Benchmark.LoadProgress) => void) | undefined
  /** Stops the load test, and the server's work. */
  readonly signal?: AbortSignal | undefined
}

/**
 * The options of `embed`, which are described at `EmbedRequest.Options`.
 *
 * @since 0.1.0
 * @category models
 */
export interface EmbedOptions extends EmbedRequest.Options {
  /** Stops the call, and the server's work. */
  readonly signal?: AbortSignal | undefined
}

// =============================================================================
// implementation
// =============================================================================

/** @internal */
export type RunWith<R> = <A, E>(effect: Effect.Effect<A, E, PortableServices | R>, signal?: AbortSignal) => Promise<A>

/** Runs an effect of the services that there are everywhere. */
export type Run = <A, E>(effect: Effect.Effect<A, E, PortableServices>, signal?: AbortSignal) => Promise<A>

const toolOf = (tool: Tool): Chat.Tool => {
  // Anything else is left to the validation of the options, which rejects it.
  if (typeof tool !== "object" || tool === null) return tool
  const { execute, ...definition } = tool
  return typeof execute !== "function"
    ? (tool as Chat.Tool)
    : {
        ...definition,
        execute: (args) =>
          Effect.tryPromise({
            try: async () => execute(args),
            catch: (cause) => cause
          })
      }
}

/** Anything else given as tools is left to the validation of the options, which rejects it. */
const toolsOf = (tools: ReadonlyArray<Tool>): ReadonlyArray<Chat.Tool> =>
  Array.isArray(tools) ? (tools as ReadonlyArray<Tool>).map(toolOf) : (tools as never)

/** @internal */
export const never = (field: string, reason: string): Promise<never> =>
  Promise.reject(new InvalidRequest({ field, reason }))

/** The validated arguments of a call except its prompt, or a failure. @internal */
export const given = <O extends { readonly signal?: AbortSignal | undefined }>(options: O | undefined): O => {
  if (options !== undefined && typeof options !== "object") {
    throw new InvalidRequest({ field: "options", reason: "must be an object" })
  }
  const all: O = withoutNulls(options ?? ({} as O))
  const signal: Partial<AbortSignal> | undefined = all.signal
  if (signal !== undefined && (typeof signal.addEventListener !== "function" || typeof signal.aborted !== "boolean")) {
    throw new InvalidRequest({ field: "signal", reason: "must be an AbortSignal" })
  }
  return all
}

/** Validates a name for the registry. @internal */
export const named = <A>(field: string, name: unknown, use: () => Promise<A>): Promise<A> =>
  typeof name === "string" ? use() : never(field, "must be a text")

/** Checks the options of the functions that have few: an unknown one is an error, never dropped. */
const few = <Fields extends Schema.Struct.Fields>(fields: Fields) => {
  const decode = decoder(Schema.Struct(fields))
  return (options: unknown): Either.Either<Schema.Struct.Type<Fields>, InvalidRequest> =>
    typeof options === "object"
      ? decode(withoutNulls(options ?? {}))
      : Either.left(new InvalidRequest({ field: "options", reason: `must be an object: ${form(fields)}` }))
}

const form = (fields: object): string => `{ ${Object.keys(fields).join(", ")} }`

/** @internal */
export const bestOptions = few({ strategy: optional(Routing) })

/** @internal */
export const modelsOptions = few({ family: optional(Schema.String), available: optional(Schema.Boolean) })

/** @internal */
export const serverInfoOptions = few({ serverUrl: optional(Schema.String) })

/** @internal */
export const sessionOptions = few({
  messages: optional(Schema.Any as Schema.Schema<ReadonlyArray<Message>>),
  private: optional(Schema.Boolean),
  title: optional(Schema.Any as Schema.Schema<string>),
  metadata: optional(Schema.Any as Schema.Schema<Metadata>)
})

/** @internal */
export const pullModelOptions = few({
  name: optional(Schema.String),
  onEvent: optional(Schema.Any as Schema.Schema<(event: PullEvent) => void>),
  signal: optional(Schema.Any as Schema.Schema<AbortSignal>)
})

/** @internal */
export const importModelOptions = few({ name: optional(Schema.String), copy: optional(Schema.Boolean) })

interface Listeners {
  readonly defaultMaxListeners: number
  readonly getMaxListeners: (signal: AbortSignal) => number
  readonly setMaxListeners: (count: number, signal: AbortSignal) => void
}

/** Node and its like warn of signals with many listeners; browsers do not. */
const events: Listeners | undefined = globalThis.process?.getBuiltinModule?.("node:events")

const hasDefaultLimit = (signal: AbortSignal): boolean => {
  try {
    return events !== undefined && events.getMaxListeners(signal) === events.defaultMaxListeners
  } catch {
    // A signal that is not Node's own; or one without a limit, which Node 20 does not recognise.
    return false
  }
}

/** Calls back on abort, also if it has already happened, until it is called off. @internal */
export const onAbort = (signal: AbortSignal, abort: () => void): (() => void) => {
  if (signal.aborted) {
    abort()
    return () => {}
  }
  // One signal may cancel any number of calls: that is no leak, although Node would warn of one.
  if (hasDefaultLimit(signal)) events?.setMaxListeners(Number.POSITIVE_INFINITY, signal)
  signal.addEventListener("abort", abort, { once: true })
  return () => signal.removeEventListener("abort", abort)
}

const cancelOn = (work: Direct.Running<unknown>["work"], signal: AbortSignal | undefined): void => {
  if (signal !== undefined) work.onClose(onAbort(signal, () => work.cancel(signal.reason)))
}

/** The result of an Effect that was run without a fiber. @internal */
export const outcomeOf = <A, E>(
  outcome: NonNullable<Direct.Outcome<A, E>>,
  signal: AbortSignal | undefined
): A | Promise<A> => {
  if (Direct.isRunning(outcome)) {
    cancelOn(outcome.work, signal)
    return outcome.result
  }
  if (Exit.isSuccess(outcome)) return outcome.value
  throw Cause.squash(outcome.cause)
}

/** Converts the facade's options to those of `Chat`. @internal */
export const chatOptions = (
  rest: Omit<ChatOptions, "session" | "tools">,
  session: ChatOptions["session"],
  tools: ChatOptions["tools"]
): Chat.Options =>
  session === undefined && tools === undefined
    ? rest
    : {
        ...rest,
        ...(session === undefined
          ? {}
          : { session: typeof session === "object" && session !== null ? { id: session.id } : session }),
        ...(tools === undefined ? {} : { tools: toolsOf(tools) })
      }

/** Runs `use` with `Chat`, without a fiber if possible. Throws if the call is invalid. @internal */
export type CallRunner = <A, E>(
  use: (chat: Chat.Service) => Effect.Effect<A, E>,
  signal: AbortSignal | undefined
) => A | Promise<A>

type Decoder = StructuredOutput.AsyncDecoder<unknown>

/** @internal */
export const chatWith =
  (run: Run, ask: CallRunner) =>
  async (prompt: Prompt, options?: ChatOptions): Promise<unknown> => {
    const { responseFormat, schema, session, signal, stream, tools, ...rest } = given(options)
    const json = responseFormat === "json" || schema !== undefined
    if (responseFormat !== undefined && responseFormat !== "json" && responseFormat !== "text") {
      return never("responseFormat", `must be "text" or "json"`)
    }
    if (stream !== undefined && typeof stream !== "boolean") return never("stream", "must be true or false")
    if (schema !== undefined && responseFormat === "text") {
      return never("schema", `asks for JSON; leave out responseFormat: "text"`)
    }
    if (json && stream === true && schema === undefined) {
      return never(
        "stream",
        "JSON without a schema is checked as a whole and cannot be streamed: give a schema, or leave out stream or responseFormat"
      )
    }
    if (signal?.aborted) throw signal.reason
    const all = chatOptions(rest, session, tools)
    if (stream === true && !json) {
      const answer = await ask((chat) => chat.open(prompt, all), signal)
      cancelOn(answer, signal)
      return new ChatStream(answer)
    }
    const idle = Array.isArray(tools)
      ? (tools as ReadonlyArray<Tool>).find(
          (tool) => typeof tool === "object" && tool !== null && (tool.execute ?? undefined) === undefined
        )
      : undefined
    if (idle !== undefined) {
      return never("tools", `'${idle.name}' has no execute, so its calls would be lost: use complete() or stream: true`)
    }
    if (json) {
      const decoder: Effect.Effect<Decoder, InvalidRequest, CurrentSettings> =
        schema === undefined
          ? Effect.succeed(StructuredOutput.any)
          : Effect.flatMap(CurrentSettings, ({ maxSchemaBytes }) =>
              StructuredOutput.from(schema as object, { maxBytes: maxSchemaBytes })
            )
      const using = <A, E>(use: (chat: Chat.Service, decoder: Decoder) => Effect.Effect<A, E>) =>
        run(
          Effect.flatMap(decoder, (decoder) => Effect.flatMap(Chat.Chat, (chat) => use(chat, decoder))),
          signal
        )
      if (stream !== true) return using((chat, decoder) => chat.structured(prompt, decoder, all))
      const answer = await using((chat, decoder) => chat.openStructured(prompt, decoder, all))
      cancelOn(answer, signal)
      return new StructuredStream(answer)
    }
    return ask((chat) => chat.text(prompt, all), signal)
  }

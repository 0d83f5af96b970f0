/**
 * The Promise facade: the same fleet for plain TypeScript.
 *
 * ```ts
 * import { chat, Session } from "aicortex/promise"
 *
 * console.log(await chat("Why is the sky blue?"))
 * for await (const event of await chat("Tell me a story.", { stream: true })) {
 *   if (event.type === "token") process.stdout.write(event.content)
 * }
 * ```
 *
 * Whatever fails rejects with the typed error itself: `error._tag === "ModelNotFound"`, and `instanceof` works.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import { identity } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Schema from "effect/Schema"
import * as ApiRequest from "./backend/apiRequest.js"
import * as Chat from "./Chat.js"
import { type JsonObject, type Routing, Routing as RoutingSchema, type ToolDefinition } from "./ChatRequest.js"
import * as Wiring from "./Cortex.js"
import { Closed, InvalidRequest, type RegistryWarning } from "./Errors.js"
import type { OpenAnswer, Result } from "./Failover.js"
import type { Message } from "./Message.js"
import { ChatStream } from "./promise/chatStream.js"
import * as Registry from "./Registry.js"
import * as ResponseCache from "./ResponseCache.js"
import * as Router from "./Router.js"
import type { ServerInfo } from "./Server.js"
import * as Sessions from "./Sessions.js"
import * as StructuredOutput from "./StructuredOutput.js"

export type { ApiRequest, Options as ApiRequestOptions } from "./backend/apiRequest.js"
export type { ChatEvent, FinishReason, Usage } from "./ChatEvent.js"
export type { Routing } from "./ChatRequest.js"
export * from "./Errors.js"
export type { Result } from "./Failover.js"
export type { Message } from "./Message.js"
export { ChatStream } from "./promise/chatStream.js"
export type { LlmParams, ModelInfo, SearchOptions, ServerStatus } from "./Registry.js"
export type { ServerInfo, ServerOptions } from "./Server.js"

// =============================================================================
// models
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
 * `tool_call` events (`stream: true`) or `toolCalls` (`complete`).
 *
 * @since 0.1.0
 * @category models
 */
export interface Tool extends ToolDefinition {
  // biome-ignore lint/suspicious/noExplicitAny: what a tool takes is its author's to say; the schema describes it.
  readonly execute?: (args: any) => unknown
}

/**
 * The options of a call. Those that are plain data are described at `ChatRequest.Options`, with ranges and defaults.
 *
 * - `stream`: events as they come, instead of the whole text
 * - `responseFormat: "json"`: the parsed value instead of text; not together with `stream`
 * - `schema`: a JSON Schema that the value must fit; asks for JSON
 * - `session`: a session or its id
 * - `tools`: with or without `execute`
 * - `signal`: stops the call, and the server's work
 *
 * @since 0.1.0
 * @category models
 */
export interface ChatOptions extends Omit<Chat.Options, "tools" | "session"> {
  readonly stream?: boolean | undefined
  readonly responseFormat?: "text" | "json" | undefined
  readonly schema?: object | undefined
  readonly session?: Session | string | undefined
  readonly tools?: ReadonlyArray<Tool> | undefined
  readonly signal?: AbortSignal | undefined
}

/**
 * `chat`, whose Promise follows its options: text, the parsed value, or a stream.
 *
 * @since 0.1.0
 * @category models
 */
export interface ChatFunction {
  (prompt: Prompt, options: ChatOptions & { readonly stream: true }): Promise<ChatStream>
  // biome-ignore lint/suspicious/noExplicitAny: a parsed value of a caller's own schema, as from JSON.parse.
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
 * @since 0.1.0
 * @category models
 */
export interface CortexOptions extends Wiring.Options {
  /**
   * A layer that sets a tracer, such as one of `@effect/opentelemetry`: every call then makes spans. Default: none, and no
   * call does.
   */
  readonly tracing?: Layer.Layer<never> | undefined
}

/**
 * A fleet of your own, with the same functions as this module.
 *
 * @since 0.1.0
 * @category models
 */
export interface Cortex extends AsyncDisposable {
  readonly chat: ChatFunction
  readonly complete: typeof complete
  readonly Session: SessionFactory
  readonly bestServer: typeof bestServer
  readonly clearServerCache: typeof clearServerCache
  readonly clearResponseCache: typeof clearResponseCache
  readonly families: typeof families
  readonly models: typeof models
  readonly getModelInfo: typeof getModelInfo
  readonly searchModels: typeof searchModels
  readonly listServers: typeof listServers
  readonly listModelServers: typeof listModelServers
  readonly getServerInfo: typeof getServerInfo
  readonly getLlmParams: typeof getLlmParams
  readonly getRandomLlmParams: typeof getRandomLlmParams
  readonly buildApiRequest: typeof buildApiRequest
  readonly registryWarnings: typeof registryWarnings
  /** Stops what is under way and closes every connection. */
  readonly close: () => Promise<void>
}

/**
 * @since 0.1.0
 * @category models
 */
export interface SessionFactory {
  /** A new conversation. */
  readonly create: () => Promise<Session>
  /** A conversation that exists; rejects with `SessionNotFound` at once where there is none. */
  readonly resume: (id: string) => Promise<Session>
}

// =============================================================================
// implementation
// =============================================================================

type Run = <A, E>(effect: Effect.Effect<A, E, Wiring.Services>, signal?: AbortSignal) => Promise<A>

const toolOf = (tool: Tool): Chat.Tool => {
  // Whatever else was given is left for the check of the options to refuse.
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

/** Whatever else was given as tools is left for the check of the options to refuse. */
const toolsOf = (tools: ReadonlyArray<Tool>): ReadonlyArray<Chat.Tool> =>
  Array.isArray(tools) ? (tools as ReadonlyArray<Tool>).map(toolOf) : (tools as never)

const never = (field: string, reason: string): Promise<never> => Promise.reject(new InvalidRequest({ field, reason }))

/** What every call is given besides its prompt, or a failure where that is nothing of the kind. */
const given = <O extends ChatOptions>(options: O | undefined): O => {
  const all: O = options ?? ({} as O)
  if (typeof all !== "object") throw new InvalidRequest({ field: "options", reason: "must be an object" })
  const signal: Partial<AbortSignal> | null | undefined = all.signal
  if (signal !== undefined && (typeof signal?.addEventListener !== "function" || typeof signal.aborted !== "boolean")) {
    throw new InvalidRequest({ field: "signal", reason: "must be an AbortSignal" })
  }
  return all
}

/** A name that the registry is asked about. */
const named = <A>(field: string, name: unknown, use: () => Promise<A>): Promise<A> =>
  typeof name === "string" ? use() : never(field, "must be a text")

/** The text of a whole answer that was begun without waiting for anything. */
const wholeOf = async (answer: OpenAnswer, signal: AbortSignal | undefined): Promise<Result> => {
  if (signal !== undefined) cancelOn(answer, signal)
  return answer.result()
}

const cancelOn = (answer: OpenAnswer, signal: AbortSignal): void => {
  const abort = () => answer.cancel(signal.reason)
  if (signal.aborted) abort()
  else {
    signal.addEventListener("abort", abort, { once: true })
    answer.onClose(() => signal.removeEventListener("abort", abort))
  }
}

/** What `Chat` takes of what the facade was given. */
const chatOptions = (
  rest: Omit<ChatOptions, "session" | "tools">,
  session: ChatOptions["session"],
  tools: ChatOptions["tools"]
): Chat.Options =>
  session === undefined && tools === undefined
    ? rest
    : {
        ...rest,
        ...(session === undefined ? {} : { session: session instanceof Session ? { id: session.id } : session }),
        ...(tools === undefined ? {} : { tools: toolsOf(tools) })
      }

/** Begins an answer where nothing has to be waited for: no fiber is needed then. Throws what is wrong with the call. */
type OpenNow = (prompt: Prompt, options: Chat.Options, events: boolean) => OpenAnswer | undefined

const chatWith =
  (run: Run, openNow: OpenNow) =>
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
    if (json && stream === true) {
      return never(
        "stream",
        `JSON is checked as a whole and cannot be streamed: leave out stream, or responseFormat and schema`
      )
    }
    if (signal?.aborted) throw signal.reason
    const all = chatOptions(rest, session, tools)
    if (stream === true) {
      const answer =
        openNow(prompt, all, true) ??
        (await run(
          Effect.flatMap(Chat.Chat, (chat) => chat.open(prompt, all)),
          signal
        ))
      if (signal !== undefined) cancelOn(answer, signal)
      return new ChatStream(answer)
    }
    const idle = Array.isArray(tools)
      ? (tools as ReadonlyArray<Tool>).find(
          (tool) => typeof tool === "object" && tool !== null && tool.execute === undefined
        )
      : undefined
    if (idle !== undefined) {
      return never("tools", `'${idle.name}' has no execute, so its calls would be lost: use complete() or stream: true`)
    }
    if (json) {
      const decoder =
        schema === undefined
          ? Effect.succeed(StructuredOutput.any)
          : StructuredOutput.fromJsonSchema(schema as JsonObject)
      return run(
        Effect.flatMap(decoder, (decoder) =>
          Effect.flatMap(Chat.Chat, (chat) => chat.structured(prompt, decoder, all))
        ),
        signal
      )
    }
    const answer = openNow(prompt, all, false)
    if (answer === undefined) return run(Chat.text(prompt, all), signal)
    const text = Chat.textOf(await wholeOf(answer, signal))
    if (typeof text !== "string") throw text
    return text
  }

/**
 * A conversation that remembers. Only complete answers are remembered, with their question.
 *
 * @example
 * import { chat, Session } from "aicortex/promise"
 *
 * const session = await Session.create()
 * await chat("My name is Alice.", { session })
 * await chat("What is my name?", { session }) // "Your name is Alice."
 *
 * @since 0.1.0
 * @category models
 */
export class Session {
  private readonly run: Run

  /** @internal */
  constructor(
    readonly id: string,
    run: Run
  ) {
    this.run = run
  }

  /** A new conversation in the default instance. */
  static create(): Promise<Session> {
    return defaultCortex().Session.create()
  }

  /** A conversation of the default instance; rejects with `SessionNotFound` at once where there is none. */
  static resume(id: string): Promise<Session> {
    return defaultCortex().Session.resume(id)
  }

  /** The turns so far: a deeply read-only copy. */
  history(): Promise<ReadonlyArray<Message>> {
    return this.run(Effect.flatMap(Sessions.Sessions, (sessions) => sessions.history(this.id)))
  }

  /** Forgets the turns; the id stays. */
  reset(): Promise<void> {
    return this.run(Effect.flatMap(Sessions.Sessions, (sessions) => sessions.reset(this.id)))
  }

  /** Removes the conversation: from now on its id is unknown. */
  delete(): Promise<void> {
    return this.run(Effect.flatMap(Sessions.Sessions, (sessions) => sessions.remove(this.id)))
  }

  toJSON(): { readonly id: string } {
    return { id: this.id }
  }
}

/** Warnings must not get between what a program itself prints. */
const logging = Logger.replace(Logger.defaultLogger, Logger.withConsoleError(Logger.logfmtLogger))

/**
 * A fleet of your own. What is left out of `options` comes from the environment and the configuration file. A
 * setting that cannot be used makes every call reject with `InvalidConfig`. Warnings (a state file that cannot be read)
 * go to standard error.
 *
 * @example
 * import { createCortex } from "aicortex/promise"
 *
 * await using cortex = createCortex({ servers: ["http://gpu-1:11434", { url: "https://host/v1", apiKey: "…" }] })
 * console.log(await cortex.chat("Hello!", { model: "llama3.2:3b" }))
 *
 * @since 0.1.0
 * @category constructors
 */
export const createCortex = ({ tracing, ...options }: CortexOptions = {}): Cortex => {
  let service: Chat.Service | undefined
  const known = Layer.effectDiscard(
    Effect.map(Chat.Chat, (made) => {
      service = made
    })
  )
  const services = Layer.provideMerge(known, Wiring.layer(options))
  const runtime = ManagedRuntime.make(
    Layer.provideMerge(services, tracing === undefined ? logging : Layer.merge(logging, tracing))
  )
  let closed = false
  const run: Run = async (effect, signal) => {
    if (closed) throw new Closed()
    return runtime.runPromiseExit(effect, signal === undefined ? undefined : { signal }).then((exit) => {
      if (Exit.isSuccess(exit)) return exit.value
      if (Cause.isInterruptedOnly(exit.cause)) throw signal?.aborted ? signal.reason : new Closed()
      throw Cause.squash(exit.cause)
    })
  }
  const close = () => {
    closed = true
    return runtime.dispose()
  }
  const registry = <A, E>(use: (registry: Registry.Service) => Effect.Effect<A, E>): Promise<A> =>
    run(Effect.flatMap(Registry.Registry, use))
  const router = <A, E>(use: (router: Router.Service) => Effect.Effect<A, E>): Promise<A> =>
    run(Effect.flatMap(Router.Router, use))
  const session = (make: (sessions: Sessions.Service) => Effect.Effect<Sessions.Session, unknown>): Promise<Session> =>
    run(Effect.map(Effect.flatMap(Sessions.Sessions, make), ({ id }) => new Session(id, run)))
  const openNow: OpenNow = (prompt, all, events) => {
    if (closed) throw new Closed()
    const opened = service?.openNow(prompt, all, events)
    return opened === undefined ? undefined : Either.getOrThrowWith(opened, identity)
  }
  const chat = chatWith(run, openNow) as ChatFunction
  return {
    chat,
    complete: async (prompt, options) => {
      const { session, signal, tools, ...rest } = given(options)
      if (signal?.aborted) throw signal.reason
      const all = chatOptions(rest, session, tools)
      const answer = openNow(prompt, all, false)
      return answer === undefined ? run(Chat.complete(prompt, all), signal) : wholeOf(answer, signal)
    },
    Session: {
      create: () => session((sessions) => sessions.create()),
      resume: (id) => named("session", id, () => session((sessions) => sessions.resume(id)))
    },
    bestServer: (model, { strategy = "fastest" } = {}) =>
      Schema.is(RoutingSchema)(strategy)
        ? named("model", model, () => router((router) => router.best(model, strategy)))
        : never("strategy", `must be one of ${RoutingSchema.literals.join(", ")}`),
    clearServerCache: () => router((router) => router.clear),
    clearResponseCache: () => run(ResponseCache.clear),
    families: () => registry((registry) => registry.families),
    models: (options) =>
      registry((registry) => registry.models(typeof options === "string" ? { family: options } : options)),
    getModelInfo: (model) => named("model", model, () => registry((registry) => registry.modelInfo(model))),
    searchModels: (query, options) =>
      named("query", query, () => registry((registry) => registry.searchModels(query, options))),
    listServers: () => registry((registry) => registry.servers),
    listModelServers: (model) => named("model", model, () => registry((registry) => registry.listModelServers(model))),
    getServerInfo: (model, { serverUrl } = {}) =>
      named("model", model, () => registry((registry) => registry.serverInfo(model, serverUrl))),
    getLlmParams: (model) => registry((registry) => registry.llmParams(model)),
    getRandomLlmParams: () => registry((registry) => registry.randomLlmParams),
    buildApiRequest: (model, prompt, options) =>
      named("model", model, () =>
        named("prompt", prompt, () =>
          registry((registry) =>
            Effect.zipRight(
              registry.modelInfo(model),
              Effect.suspend(() => ApiRequest.make(model, prompt, options))
            )
          )
        )
      ),
    registryWarnings: () => registry((registry) => Effect.map(registry.warnings, (warnings) => [...warnings])),
    close,
    [Symbol.asyncDispose]: close
  }
}

let instance: Cortex | undefined

/** The instance behind the functions of this module: configured from the environment, at the first use. */
const defaultCortex = (): Cortex => {
  instance ??= createCortex()
  return instance
}

// =============================================================================
// the default instance
// =============================================================================

/**
 * Asks a model. The text of the answer; with `responseFormat: "json"` or a `schema` the parsed value; with
 * `stream: true` the events. Rejects with a `ChatError`, `SchemaMismatch` or `InvalidConfig`.
 *
 * @example
 * import { chat } from "aicortex/promise"
 *
 * const schema = { type: "object", properties: { capital: { type: "string" } }, required: ["capital"] }
 * const text = await chat("The capital of France?")
 * const { capital } = await chat("The capital of France, as JSON?", { schema })
 *
 * @since 0.1.0
 * @category chat
 */
export const chat: ChatFunction = ((prompt: Prompt, options?: ChatOptions & { readonly stream: true }) =>
  defaultCortex().chat(prompt, options as ChatOptions & { readonly stream: true })) as ChatFunction

/**
 * Asks a model, and gives the whole answer: text, thinking, tool calls, server, usage, speed, and the attempts that
 * failed before.
 *
 * @since 0.1.0
 * @category chat
 */
export const complete = (
  prompt: Prompt,
  options?: Omit<ChatOptions, "stream" | "responseFormat" | "schema">
): Promise<Result> => defaultCortex().complete(prompt, options)

/**
 * The server that a call would try first, remembered for five minutes per model and strategy (default `fastest`).
 *
 * @since 0.1.0
 * @category servers
 */
export const bestServer = (model: string, options?: { readonly strategy?: Routing | undefined }): Promise<ServerInfo> =>
  defaultCortex().bestServer(model, options)

/**
 * Forgets which servers failed, which were fast, and which was best.
 *
 * @since 0.1.0
 * @category servers
 */
export const clearServerCache = (): Promise<void> => defaultCortex().clearServerCache()

/**
 * Forgets the answers that were kept for calls with `cache`.
 *
 * @since 0.1.0
 * @category chat
 */
export const clearResponseCache = (): Promise<void> => defaultCortex().clearResponseCache()

/**
 * The model families of the catalogue, sorted.
 *
 * @since 0.1.0
 * @category models
 */
export const families = (): Promise<ReadonlyArray<string>> => defaultCortex().families()

/**
 * The names of all models: the catalogue's and those of your servers; of one family (in any case), or only those
 * that a server of yours has (`{ available: true }`).
 *
 * @since 0.1.0
 * @category models
 */
export const models = (options?: string | Registry.ModelsOptions): Promise<ReadonlyArray<string>> =>
  defaultCortex().models(options)

/**
 * What is known about a model. Rejects with `ModelNotFound`.
 *
 * @since 0.1.0
 * @category models
 */
export const getModelInfo = (model: string): Promise<Registry.ModelInfo> => defaultCortex().getModelInfo(model)

/**
 * The models whose name contains `query`, in any case, the largest first.
 *
 * @example
 * import { searchModels } from "aicortex/promise"
 *
 * const names = await searchModels("llama", { minParams: "8b", maxParams: "70b" })
 *
 * @since 0.1.0
 * @category models
 */
export const searchModels = (query: string, options?: Registry.SearchOptions): Promise<ReadonlyArray<string>> =>
  defaultCortex().searchModels(query, options)

/**
 * Your servers, whether each can be reached, and what it has.
 *
 * @since 0.1.0
 * @category servers
 */
export const listServers = (): Promise<ReadonlyArray<Registry.ServerStatus>> => defaultCortex().listServers()

/**
 * Your servers that have a model; none: an empty list.
 *
 * @since 0.1.0
 * @category servers
 */
export const listModelServers = (model: string): Promise<ReadonlyArray<ServerInfo>> =>
  defaultCortex().listModelServers(model)

/**
 * The first server that has a model, or the one at `serverUrl`. Rejects with `ModelNotFound` or `NoServers`.
 *
 * @since 0.1.0
 * @category servers
 */
export const getServerInfo = (
  model: string,
  options?: { readonly serverUrl?: string | undefined }
): Promise<ServerInfo> => defaultCortex().getServerInfo(model, options)

/**
 * What LangChain's Ollama classes take, for a model and a random server of yours that has it. Rejects with
 * `ModelNotFound` or `NoServers`.
 *
 * @since 0.1.0
 * @category langchain
 */
export const getLlmParams = (model?: string): Promise<Registry.LlmParams> => defaultCortex().getLlmParams(model)

/**
 * The same for a random model of yours. Rejects with `NoServers`.
 *
 * @since 0.1.0
 * @category langchain
 */
export const getRandomLlmParams = (): Promise<Registry.LlmParams> => defaultCortex().getRandomLlmParams()

/**
 * Ollama's JSON payload for a prompt, without sending it. Rejects with `ModelNotFound` or `InvalidRequest`.
 *
 * @since 0.1.0
 * @category langchain
 */
export const buildApiRequest = (
  model: string,
  prompt: string,
  options?: ApiRequest.Options
): Promise<ApiRequest.ApiRequest> => defaultCortex().buildApiRequest(model, prompt, options)

/**
 * What could not be read in the registry files: each names file, record and field.
 *
 * @since 0.1.0
 * @category models
 */
export const registryWarnings = (): Promise<ReadonlyArray<RegistryWarning>> => defaultCortex().registryWarnings()

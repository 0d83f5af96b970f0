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
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as ApiRequest from "./backend/apiRequest.js"
import * as Chat from "./Chat.js"
import type { Routing } from "./ChatRequest.js"
import * as Wiring from "./Cortex.js"
import * as Embeddings from "./Embeddings.js"
import type { Embedded } from "./EmbedRequest.js"
import { Closed, InvalidConfig, type RegistryWarning } from "./Errors.js"
import type { Result } from "./Failover.js"
import * as Direct from "./internal/direct.js"
import { withoutNulls } from "./internal/optionSchemas.js"
import type { Message } from "./Message.js"
import * as ModelSelection from "./ModelSelection.js"
import { withCallSites } from "./promise/callSite.js"
import {
  type Ask,
  bestOptions,
  type ChatFunction,
  type ChatOptions,
  chatOptions,
  chatWith,
  type EmbedOptions,
  given,
  modelsOptions,
  named,
  onAbort,
  outcomeOf,
  type Prompt,
  type Run,
  serverInfoOptions,
  sessionOptions,
  sessionsOptions
} from "./promise/calls.js"
import * as Registry from "./Registry.js"
import * as ResponseCache from "./ResponseCache.js"
import * as Router from "./Router.js"
import type { ServerInfo } from "./Server.js"
import * as Sessions from "./Sessions.js"

export type { ApiRequest, Options as ApiRequestOptions } from "./backend/apiRequest.js"
export type { ChatEvent, FinishReason, Usage } from "./ChatEvent.js"
export type { Routing } from "./ChatRequest.js"
export type { Embedded } from "./EmbedRequest.js"
export type { Attempt, ChatError, FailureReason, Phase, SchemaIssue, Unreachable, Unsupported } from "./Errors.js"
export {
  AllServersFailed,
  Closed,
  DeadlineExceeded,
  EngineUnavailable,
  InvalidConfig,
  InvalidRequest,
  isChatError,
  ModelNotFound,
  NoServers,
  NoSuitableModel,
  Overloaded,
  PersonaNotFound,
  RegistryWarning,
  SavedStateWarning,
  SchemaMismatch,
  SessionNotFound,
  SessionsUnavailable,
  StreamInterrupted,
  ToolFailed,
  TurnNotStored
} from "./Errors.js"
export type { Result } from "./Failover.js"
export type { Message } from "./Message.js"
export type { ChatFunction, ChatOptions, EmbedOptions, Prompt, Tool } from "./promise/calls.js"
export { tool } from "./promise/calls.js"
export { ChatStream } from "./promise/chatStream.js"
export type { LlmParams, ModelInfo, SearchOptions, ServerStatus } from "./Registry.js"
export type { ServerInfo, ServerOptions } from "./Server.js"
export type { Summary as SessionSummary } from "./Sessions.js"

// =============================================================================
// Models
// =============================================================================

/**
 * The settings of a fleet. Those left out come from the environment, the configuration file, or their defaults.
 *
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
  /** Asks a model: the text, or a stream of events. */
  readonly chat: ChatFunction
  /** Asks a model: the whole answer with its server, usage, speed and tool calls. */
  readonly complete: typeof complete
  /** One vector for each text. */
  readonly embed: typeof embed
  /** Conversations. */
  readonly Session: SessionFactory
  /** The server that a call would try first. */
  readonly bestServer: typeof bestServer
  /** Forgets what was learned of servers. */
  readonly clearServerCache: typeof clearServerCache
  /** Deletes all cached answers. */
  readonly clearResponseCache: typeof clearResponseCache
  /** The families of models in the catalogue. */
  readonly families: typeof families
  /** The names of all models: the catalogue, and whatever the servers have. */
  readonly models: typeof models
  /** What is known about a model. */
  readonly getModelInfo: typeof getModelInfo
  /** Models whose name contains a text. */
  readonly searchModels: typeof searchModels
  /** Every server and its state. */
  readonly listServers: typeof listServers
  /** The servers of a model. */
  readonly listModelServers: typeof listModelServers
  /** The first server of a model, or the one with an address. */
  readonly getServerInfo: typeof getServerInfo
  /** What LangChain's Ollama classes take, for a random server of a model. */
  readonly getLlmParams: typeof getLlmParams
  /** The same for any model. */
  readonly getRandomLlmParams: typeof getRandomLlmParams
  /** The body of a request to Ollama; nothing is sent. */
  readonly buildApiRequest: typeof buildApiRequest
  /** What in the registry files could not be used. */
  readonly registryWarnings: typeof registryWarnings
  /** Stops what is under way and closes every connection. */
  readonly close: () => Promise<void>
}

/**
 * How a conversation begins.
 *
 * @since 0.1.0
 * @category models
 */
export interface SessionOptions {
  /** What was said before, such as the `history()` of another session. */
  readonly messages?: ReadonlyArray<Message> | undefined
}

/**
 * Begins, lists and finds conversations.
 *
 * @since 0.1.0
 * @category models
 */
export interface SessionFactory {
  /** A new conversation, or the copy of one: `create({ messages })`. */
  readonly create: (options?: SessionOptions) => Promise<Session>
  /** What conversations there are, the one that was used last first: 50, unless `limit` says otherwise. */
  readonly list: (options?: { readonly limit?: number | undefined }) => Promise<ReadonlyArray<Sessions.Summary>>
  /** A conversation that exists; rejects with `SessionNotFound` at once where there is none. */
  readonly resume: (id: string) => Promise<Session>
}

// =============================================================================
// implementation
// =============================================================================

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
    /** The id by which calls, also of other processes, name it. */
    readonly id: string,
    run: Run
  ) {
    this.run = withCallSites({ run }).run
  }

  /** A new conversation in the default instance, or the copy of one: `Session.create({ messages })`. */
  static create(options?: SessionOptions): Promise<Session> {
    return defaultCortex().Session.create(options)
  }

  /** The conversations of the default instance, the one that was used last first: 50, unless `limit` says otherwise. */
  static list(options?: { readonly limit?: number | undefined }): Promise<ReadonlyArray<Sessions.Summary>> {
    return defaultCortex().Session.list(options)
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

  /** Only the id. */
  toJSON(): {
    /** The id by which calls, also of other processes, name it. */
    readonly id: string
  } {
    return { id: this.id }
  }
}

/** Warnings must not get between what a program itself prints. */
const logging = Logger.replace(Logger.defaultLogger, Logger.withConsoleError(Logger.logfmtLogger))

const noTracing = new InvalidConfig({
  source: "the options",
  field: "tracing",
  reason: "must be a layer of Effect, such as Otlp.layerJson makes"
})

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
export const createCortex = (asked?: CortexOptions): Cortex => {
  const { tracing, ...options } = withoutNulls(asked ?? {})
  let service: Chat.Service | undefined
  const known = Layer.effectDiscard(
    Effect.map(Chat.Chat, (made) => {
      service = made
    })
  )
  const services = Layer.provideMerge(known, Wiring.layer(options))
  const surroundings =
    tracing === undefined
      ? logging
      : Layer.isLayer(tracing as unknown)
        ? Layer.merge(logging, tracing)
        : Layer.fail(noTracing)
  const runtime = ManagedRuntime.make(Layer.provideMerge(services, surroundings))
  let closed = false
  /** They are not a part of the runtime's scope: left alone, they would meet closed connections, and blame the servers. */
  const underWay = new Set<Fiber.RuntimeFiber<unknown, unknown>>()
  const interrupt = (fiber: Fiber.RuntimeFiber<unknown, unknown>) => fiber.unsafeInterruptAsFork(FiberId.none)
  const run: Run = <A, E>(effect: Effect.Effect<A, E, Wiring.Services>, signal?: AbortSignal) =>
    new Promise<A>((resolve, reject) => {
      if (closed) return reject(new Closed())
      const fiber = runtime.runFork(effect)
      underWay.add(fiber)
      const noop = signal === undefined ? undefined : onAbort(signal, () => interrupt(fiber))
      fiber.addObserver((exit) => {
        underWay.delete(fiber)
        noop?.()
        if (Exit.isSuccess(exit)) resolve(exit.value)
        else if (!Cause.isInterruptedOnly(exit.cause)) reject(Cause.squash(exit.cause))
        else reject(signal?.aborted ? signal.reason : new Closed())
      })
    })
  const close = () => {
    closed = true
    for (const fiber of underWay) interrupt(fiber)
    return runtime.dispose()
  }
  const registry = <A, E>(use: (registry: Registry.Service) => Effect.Effect<A, E>): Promise<A> =>
    run(Effect.flatMap(Registry.Registry, use))
  const router = <A, E>(use: (router: Router.Service) => Effect.Effect<A, E>): Promise<A> =>
    run(Effect.flatMap(Router.Router, use))
  const session = (make: (sessions: Sessions.Service) => Effect.Effect<Sessions.Session, unknown>): Promise<Session> =>
    run(Effect.map(Effect.flatMap(Sessions.Sessions, make), ({ id }) => new Session(id, run)))
  const ask: Ask = (use, signal) => {
    if (closed) throw new Closed()
    const outcome = service === undefined ? undefined : Direct.attempt(use(service))
    return outcome === undefined ? run(Effect.flatMap(Chat.Chat, use), signal) : outcomeOf(outcome, signal)
  }
  const chat = chatWith(run, ask) as ChatFunction
  return withCallSites<Cortex>({
    chat,
    complete: async (prompt, options) => {
      const { session, signal, tools, ...rest } = given(options)
      if (signal?.aborted) throw signal.reason
      const all = chatOptions(rest, session, tools)
      return ask((chat) => chat.complete(prompt, all), signal)
    },
    embed: async (input, options) => {
      const { signal, ...rest } = given(options)
      if (signal?.aborted) throw signal.reason
      return run(Embeddings.embed(input, rest), signal)
    },
    Session: {
      create: (options) =>
        session((sessions) => Effect.flatMap(sessionOptions(options ?? {}), (checked) => sessions.create(checked))),
      list: (options) =>
        run(
          Effect.flatMap(Sessions.Sessions, (sessions) =>
            Effect.flatMap(sessionsOptions(options ?? {}), (checked) => sessions.list(checked))
          )
        ),
      resume: (id) => named("session", id, () => session((sessions) => sessions.resume(id)))
    },
    bestServer: (model, options = {}) =>
      named("model", model, () =>
        run(Effect.flatMap(bestOptions(options), ({ strategy }) => ModelSelection.bestServer(model, strategy)))
      ),
    clearServerCache: () => router((router) => router.clear),
    clearResponseCache: () => run(ResponseCache.clear),
    families: () => registry((registry) => registry.families),
    models: (options = {}) =>
      registry((registry) =>
        Effect.flatMap(modelsOptions(typeof options === "string" ? { family: options } : options), registry.models)
      ),
    getModelInfo: (model) => named("model", model, () => registry((registry) => registry.modelInfo(model))),
    searchModels: (query, options) =>
      named("query", query, () => registry((registry) => registry.searchModels(query, options))),
    listServers: () => registry((registry) => registry.servers),
    listModelServers: (model) => named("model", model, () => registry((registry) => registry.listModelServers(model))),
    getServerInfo: (model, options = {}) =>
      named("model", model, () =>
        run(Effect.flatMap(serverInfoOptions(options), ({ serverUrl }) => ModelSelection.serverInfo(model, serverUrl)))
      ),
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
  })
}

let instance: Cortex | undefined

/** The instance behind the functions of this module: configured from the environment, at the first use. */
const defaultCortex = (): Cortex => {
  if (instance === undefined) {
    instance = createCortex()
    // Nobody else closes it, and what it has learned may have to be written.
    process.once("beforeExit", () => {
      const last = instance
      instance = undefined
      void last?.close()
    })
  }
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
 * const schema = { type: "object", properties: { capital: { type: "string" } }, required: ["capital"] } as const
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
 * Turns a text, or several, into vectors: `embeddings` has one for each. Rejects with a `ChatError`.
 *
 * @example
 * import { embed } from "aicortex/promise"
 *
 * const { embeddings } = await embed(["a cat", "a dog"], { model: "nomic-embed-text" })
 *
 * @since 0.1.0
 * @category embeddings
 */
export const embed = (input: string | ReadonlyArray<string>, options: EmbedOptions): Promise<Embedded> =>
  defaultCortex().embed(input, options)

/**
 * The server that a call would try first, remembered for five minutes per model and strategy (default `fastest`). As in a
 * call, the model may be an alias, `provider:model` or `auto`.
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
 * The first server that has a model, or the one at `serverUrl`. As in a call, the model may be an alias, `provider:model`
 * or `auto`. Rejects with `ModelNotFound` or `NoServers`.
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

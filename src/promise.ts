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
import type * as Layer from "effect/Layer"
import type { Report as BenchmarkReport, LoadReport } from "./Benchmark.js"
import type * as ApiRequest from "./backend/apiRequest.js"
import type { Routing } from "./ChatRequest.js"
import * as Wiring from "./Cortex.js"
import type { Embedded } from "./EmbedRequest.js"
import type { RegistryWarning } from "./Errors.js"
import type { Executed } from "./Execute.js"
import type { Result } from "./Failover.js"
import { withoutNulls } from "./internal/optionSchemas.js"
import type { ModelStore, StoredModel } from "./ModelStore.js"
import type {
  BenchmarkOptions,
  ChatFunction,
  ChatOptions,
  EmbedOptions,
  ExecuteOptions,
  LoadTestOptions,
  Prompt,
  RunWith
} from "./promise/calls.js"
import {
  type Cortex,
  cortexOver,
  Session as PlainSession,
  type SessionFactory,
  type SessionOptions
} from "./promise/cortex.js"
import {
  type ImportModelOptions,
  type LocalModels,
  make as localModelsOver,
  type PullModelOptions
} from "./promise/localModels.js"
import { type RegistryFunctions, make as registryOver } from "./promise/registry.js"
import type * as Registry from "./Registry.js"
import type { RegistryPipeline } from "./RegistryPipeline.js"
import type { ServerInfo } from "./Server.js"
import type * as Sessions from "./Sessions.js"

export { RegistryChangeRefused, RegistryFileFailed, RegistryUnanswered, SavedStateWarning } from "./Errors.js"
export type {
  ModelMetadata,
  PullDone,
  PullEvent,
  PullProgress,
  PullResolved,
  PullRetry,
  PullWaiting,
  StoredFile,
  StoredModel
} from "./ModelStore.js"
export type { Session as CortexSession } from "./promise/cortex.js"
export * from "./promise/exports.js"
export * from "./promise/localErrors.js"
export type { LocalCallOptions, LocalDownloadOptions, LocalModelOptions, LocalReply } from "./promise/localModel.js"
export { LocalModel } from "./promise/localModel.js"
export type { ImportModelOptions, LocalModels, PullModelOptions } from "./promise/localModels.js"
export type {
  RegistryCheckOptions,
  RegistryFetchOptions,
  RegistryFunctions,
  RegistryRefreshOptions
} from "./promise/registry.js"
export type {
  Applied as RegistryApplied,
  ApplyOptions as RegistryApplyOptions,
  Change as RegistryChange,
  CheckEvent as RegistryCheckEvent,
  Checked as RegistryChecked,
  Exported as RegistryExported,
  ExportOptions as RegistryExportOptions,
  FetchEvent as RegistryFetchEvent,
  Fetched as RegistryFetched,
  FetchedModels as RegistryFetchedModels,
  ImportOptions as RegistryImportOptions,
  RefreshEvent as RegistryRefreshEvent,
  Rejected as RegistryRejected,
  Resolved as RegistryResolved,
  ResolveOptions as RegistryResolveOptions,
  Restored as RegistryRestored,
  RestoreOptions as RegistryRestoreOptions,
  ServerAnswered as RegistryServerAnswered,
  ServerRejected as RegistryServerRejected,
  ServersAsked as RegistryServersAsked,
  Source as RegistrySourceInput,
  StepDone as RegistryStepDone
} from "./RegistryPipeline.js"
export type { JsonRecord } from "./registry/modelRecord.js"

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
   * A layer that sets a tracer, such as one of `@effect/opentelemetry`: every call then makes spans. Default: none, and
   * no call does.
   */
  readonly tracing?: Layer.Layer<never> | undefined
}

/**
 * A fleet of your own on Node, with the same functions as this module.
 *
 * @since 0.4.0
 * @category models
 */
export interface NodeCortex extends Cortex, LocalModels {
  /** Conversations. */
  readonly Session: SessionFactory<Session>
  /** Makes a folder of registry files, and keeps it true. */
  readonly registry: RegistryFunctions
}

// =============================================================================
// implementation
// =============================================================================

type NodeServices = ModelStore | RegistryPipeline

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
export class Session extends PlainSession {
  /** A new conversation in the default instance, or the copy of one: `Session.create({ messages })`. */
  static create(options?: SessionOptions): Promise<Session> {
    return defaultCortex().Session.create(options)
  }

  /** The conversations of the default instance, the one that was used last first: 50, unless `limit` says otherwise. */
  static list(options?: Sessions.ListOptions): Promise<ReadonlyArray<Sessions.Summary>> {
    return defaultCortex().Session.list(options)
  }

  /** The same with where the list goes on: `next` is the `cursor` of the next page. */
  static page(options?: Sessions.ListOptions): Promise<Sessions.Page<Sessions.Summary>> {
    return defaultCortex().Session.page(options)
  }

  /** The turns in which all words of a text were said, the newest first; case does not matter. */
  static search(text: string, options?: Sessions.SearchOptions): Promise<Sessions.Page<Sessions.Hit>> {
    return defaultCortex().Session.search(text, options)
  }

  /** All conversations as JSON, or those that a filter means, each when it is asked for. */
  static exportAll(options?: Sessions.Filter): AsyncIterable<Sessions.Exported> {
    return defaultCortex().Session.exportAll(options)
  }

  /**
   * Takes conversations of JSON, or of a text of JSON or JSON lines, and returns what it imported and what it refused.
   */
  static importAll(input: unknown, options?: Sessions.ImportOptions): Promise<Sessions.ImportReport> {
    return defaultCortex().Session.importAll(input, options)
  }

  /** Removes conversations that were not used for a time, and returns which; `dryRun` only returns them. */
  static prune(options: Sessions.PruneOptions): Promise<ReadonlyArray<Sessions.Summary>> {
    return defaultCortex().Session.prune(options)
  }

  /** A conversation of the default instance; rejects with `SessionNotFound` at once where there is none. */
  static resume(id: string): Promise<Session> {
    return defaultCortex().Session.resume(id)
  }
}

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
export const createCortex = (userOptions?: CortexOptions): NodeCortex => {
  const { tracing, ...options } = withoutNulls(userOptions ?? {})
  return cortexOver(Wiring.layer(options), tracing, Session, (run: RunWith<NodeServices>) => ({
    ...localModelsOver(run),
    registry: registryOver(run)
  }))
}

let instance: NodeCortex | undefined

/** The instance behind the functions of this module: configured from the environment, at the first use. */
const defaultCortex = (): NodeCortex => {
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
 * failed before. Rejects with a `ChatError` or `InvalidConfig`.
 *
 * @example
 * import { complete } from "aicortex/promise"
 *
 * const { server, text, usage } = await complete("Why is the sky blue?", { model: "llama3.2:3b", timeout: "20 seconds" })
 *
 * @since 0.1.0
 * @category chat
 */
export const complete = (
  prompt: Prompt,
  options?: Omit<ChatOptions, "stream" | "responseFormat" | "schema">
): Promise<Result> => defaultCortex().complete(prompt, options)

/**
 * Asks a model, and gives the answer with everything that is known of it: who answered and why, how fast, and under
 * which conditions. By default the model is chosen (`auto`), and the answer is written to standard output as it comes;
 * with `chat: true` further questions are read from standard input, until its end or `exit`. Rejects with a
 * `ChatError`.
 *
 * @example
 * import { execute } from "aicortex/promise"
 *
 * await execute({ prompt: "What is quantum computing?" })
 * const { metrics, modelId, response } = await execute({ prompt: "The capital of France?", stream: false })
 *
 * @since 0.2.0
 * @category chat
 */
export const execute = (options: ExecuteOptions): Promise<Executed> => defaultCortex().execute(options)

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
 * Measures how fast your servers are: time to first token, prompt and output tokens per second, alone and with several
 * requests at once. Routing goes by it from then on, until it has measured calls of yours. What was left out, and why,
 * is in `skipped`. Rejects with `InvalidRequest`, `ModelNotFound` or `NoServers`.
 *
 * @example
 * import { benchmark } from "aicortex/promise"
 *
 * const { results, skipped } = await benchmark({ model: "llama3.2:3b", maxTime: "30 seconds" })
 *
 * @since 0.3.0
 * @category servers
 */
export const benchmark = (options?: BenchmarkOptions): Promise<BenchmarkReport> => defaultCortex().benchmark(options)

/**
 * Loads one OpenAI-compatible server, which need not be one of yours: requests at a rate or at a concurrency, their
 * latencies, and how many of them kept time limits (goodput). Rejects with `InvalidRequest` before anything is sent. To
 * keep what was measured of one that is aborted, call `report()` of its last progress.
 *
 * @example
 * import { loadTest } from "aicortex/promise"
 *
 * const { steps } = await loadTest({
 *   server: "http://gpu-1:8000",
 *   model: "llama3.2:3b",
 *   rate: 5,
 *   duration: "30 seconds",
 *   slo: { ttft: 200, itl: 50 },
 *   onProgress: ({ ended, sent }) => console.log(`${ended} of ${sent} have ended`)
 * })
 * for (const { goodput, ttft } of steps) console.log(ttft.p95, goodput?.attainment)
 *
 * @since 0.4.0
 * @category servers
 */
export const loadTest = (options: LoadTestOptions): Promise<LoadReport> => defaultCortex().loadTest(options)

/**
 * The server that a call would try first, remembered for five minutes per model and strategy (default `fastest`). As in
 * a call, the model may be an alias, `provider:model` or `auto`. Rejects with `ModelNotFound` or `NoServers`.
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
 * What is known about a model. As in a call, it may be named by an alias, `provider:model` or `auto`. Rejects with
 * `ModelNotFound` or `NoServers`.
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
 * Your servers, whether each can be reached, and what it has. Servers that were never asked are waited for; of the
 * others an outdated state is refreshed in the background, and `checkedAt` tells its age.
 *
 * @since 0.1.0
 * @category servers
 */
export const listServers = (): Promise<ReadonlyArray<Registry.ServerStatus>> => defaultCortex().listServers()

/**
 * Your servers as in `listServers`, each as soon as its state is known: those whose state is fresh at once, the others
 * when they have answered or failed. Ends after the last one.
 *
 * @example
 * import { streamServers } from "aicortex/promise"
 *
 * for await (const { problem, url } of streamServers()) console.log(url, problem ?? "answers")
 *
 * @since 0.3.0
 * @category servers
 */
export const streamServers = (): AsyncIterable<Registry.ServerStatus> => defaultCortex().streamServers()

/**
 * Your servers that have a model; none: an empty list. As in a call, the model may be an alias, `provider:model` or
 * `auto`.
 *
 * @since 0.1.0
 * @category servers
 */
export const listModelServers = (model: string): Promise<ReadonlyArray<ServerInfo>> =>
  defaultCortex().listModelServers(model)

/**
 * The first server that has a model, or the one at `serverUrl`. As in a call, the model may be an alias,
 * `provider:model` or `auto`. Rejects with `ModelNotFound` or `NoServers`.
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
 * Where the registry comes from (the setting `registry`): each folder, file and address with what it holds, how old
 * that is, and why it could not be read, where it could not.
 *
 * @since 0.3.0
 * @category models
 */
export const registrySources = (): Promise<ReadonlyArray<Registry.RegistrySource>> => defaultCortex().registrySources()

/**
 * What could not be read in the registry files: each names file, record and field.
 *
 * @since 0.1.0
 * @category models
 */
export const registryWarnings = (): Promise<ReadonlyArray<RegistryWarning>> => defaultCortex().registryWarnings()

/**
 * Gets a model from a hub or another web server, as a GGUF file, or brings it up to date: `owner/repo`,
 * `owner/repo:Q4_K_M`, an address, a path. What was downloaded is kept where it fails or is aborted. Rejects with
 * `InvalidModelReference`, `ModelDownloadFailed`, `InvalidModelFile`, `ModelNameTaken`, `InsufficientDiskSpace` or
 * `ModelStoreUnavailable`.
 *
 * @since 0.3.0
 * @category local models
 */
export const pullModel = (name: string, options?: PullModelOptions): Promise<StoredModel> =>
  defaultCortex().pullModel(name, options)

/**
 * The models of this machine, by name. Rejects with `ModelStoreUnavailable`.
 *
 * @since 0.3.0
 * @category local models
 */
export const localModels = (): Promise<ReadonlyArray<StoredModel>> => defaultCortex().localModels()

/**
 * The model of this machine that a name or a path means; `undefined` where there is none. Rejects with
 * `InvalidModelReference`, `InvalidModelFile` or `ModelStoreUnavailable`.
 *
 * @since 0.3.0
 * @category local models
 */
export const localModel = (name: string): Promise<StoredModel | undefined> => defaultCortex().localModel(name)

/**
 * Makes a GGUF file a model of this machine. Rejects with `InvalidModelFile`, `ModelNameTaken`, `InvalidModelReference`
 * or `ModelStoreUnavailable`.
 *
 * @since 0.3.0
 * @category local models
 */
export const importModel = (path: string, options?: ImportModelOptions): Promise<StoredModel> =>
  defaultCortex().importModel(path, options)

/**
 * Deletes a model of this machine; a file that was imported without a copy stays. Rejects with `ModelNotStored`.
 *
 * @since 0.3.0
 * @category local models
 */
export const removeModel = (name: string): Promise<void> => defaultCortex().removeModel(name)

/**
 * Makes a folder of registry files, and keeps it true: `check`, `fetch`, `resolve` and `apply` are the steps, `refresh`
 * is all of them; `importFrom`, `backups` and `restore` belong to it. What one step gives, the next one takes, as plain
 * JSON.
 *
 * @example
 * import { registry } from "aicortex/promise"
 *
 * const { changes, rejected } = await registry.refresh({
 *   registry: "./models",
 *   sources: ["http://gpu-1:11434", "addresses.txt"],
 *   onEvent: (event) => {
 *     if (event.type === "rejected") console.log(`${event.server} ${event.reason}`)
 *   }
 * })
 * for (const { change, model, server } of changes) console.log(change, model, server)
 *
 * @since 0.4.0
 * @category registry
 */
export const registry: RegistryFunctions = {
  check: (options) => defaultCortex().registry.check(options),
  fetch: (options) => defaultCortex().registry.fetch(options),
  resolve: (options) => defaultCortex().registry.resolve(options),
  apply: (options) => defaultCortex().registry.apply(options),
  refresh: (options) => defaultCortex().registry.refresh(options),
  importFrom: (options) => defaultCortex().registry.importFrom(options),
  exportAs: (options) => defaultCortex().registry.exportAs(options),
  backups: (options) => defaultCortex().registry.backups(options),
  restore: (options) => defaultCortex().registry.restore(options)
}

/**
 * Makes a folder of registry files, and keeps it true: servers are checked, their models fetched, joined with what the
 * files say, and the files replaced. Each step works alone, over plain JSON: what one gives, the next one takes.
 *
 * ```ts
 * import { Cortex, RegistryPipeline } from "aicortex"
 * import { Console, Effect } from "effect"
 *
 * const program = RegistryPipeline.refresh({ registry: "./models", sources: ["http://gpu-1:11434"] }).pipe(
 *   Effect.flatMap(({ changes }) => Console.log(changes)),
 *   Effect.provide(Cortex.layer())
 * )
 * ```
 *
 * @since 0.4.0
 */
import type * as FileSystem from "@effect/platform/FileSystem"
import type * as HttpClient from "@effect/platform/HttpClient"
import type * as Path from "@effect/platform/Path"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type {
  InvalidRequest,
  RegistryChangeRefused,
  RegistryFileFailed,
  RegistrySourceFailed,
  RegistryUnanswered
} from "./Errors.js"
import type { StoreHost } from "./modelStore/host.js"
import type { Applied } from "./registry/pipeline/apply.js"
import type { AskEvent } from "./registry/pipeline/ask.js"
import type { Exported } from "./registry/pipeline/exporting.js"
import * as Exporting from "./registry/pipeline/exporting.js"
import type { Restored } from "./registry/pipeline/importing.js"
import * as Importing from "./registry/pipeline/importing.js"
import type {
  ApplyOptions,
  CheckOptions,
  ExportOptions,
  FetchOptions,
  ImportOptions,
  RefreshOptions,
  ResolveOptions,
  RestoreOptions
} from "./registry/pipeline/options.js"
import type { Resolved } from "./registry/pipeline/resolve.js"
import type { Checked, FetchedModels, ServersAsked, StepDone } from "./registry/pipeline/steps.js"
import * as Steps from "./registry/pipeline/steps.js"
import type { CurrentSettings } from "./Settings.js"

export type { Applied } from "./registry/pipeline/apply.js"
export type { AskEvent, Asked, ServerAnswered, ServerRejected } from "./registry/pipeline/ask.js"
export type { Exported } from "./registry/pipeline/exporting.js"
export type { Restored } from "./registry/pipeline/importing.js"
export {
  /**
   * @since 0.4.0
   * @category models
   */
  ApplyOptions,
  /**
   * @since 0.4.0
   * @category models
   */
  CheckOptions,
  /**
   * @since 0.4.0
   * @category constants
   */
  defaults,
  /**
   * @since 0.4.0
   * @category models
   */
  ExportOptions,
  /**
   * @since 0.4.0
   * @category models
   */
  FetchOptions,
  /**
   * @since 0.4.0
   * @category models
   */
  ImportOptions,
  /**
   * @since 0.4.0
   * @category models
   */
  RefreshOptions,
  /**
   * @since 0.4.0
   * @category models
   */
  ResolveOptions,
  /**
   * @since 0.4.0
   * @category models
   */
  RestoreOptions,
  /**
   * @since 0.4.0
   * @category models
   */
  Source
} from "./registry/pipeline/options.js"
export type { Change } from "./registry/pipeline/plan.js"
export type { Rejected } from "./registry/pipeline/record.js"
export type { Fetched, Resolved } from "./registry/pipeline/resolve.js"
export type { Checked, FetchedModels, ServersAsked, StepDone } from "./registry/pipeline/steps.js"

// =============================================================================
// Models
// =============================================================================

/**
 * What happens while servers are checked; the last one is `done`.
 *
 * @since 0.4.0
 * @category models
 */
export type CheckEvent = AskEvent | StepDone<Checked>

/**
 * What happens while models are fetched; the last one is `done`.
 *
 * @since 0.4.0
 * @category models
 */
export type FetchEvent = AskEvent | StepDone<FetchedModels>

/**
 * What happens while a registry is refreshed; the last one is `done`.
 *
 * @since 0.4.0
 * @category models
 */
export type RefreshEvent = AskEvent | ServersAsked | StepDone<Applied>

/**
 * What reading sources can fail with: an option or a source that cannot be used, before any server is asked.
 *
 * @since 0.4.0
 * @category errors
 */
export type SourceError = InvalidRequest | RegistryFileFailed | RegistrySourceFailed

/**
 * What changing a registry can fail with: its files are as they were.
 *
 * @since 0.4.0
 * @category errors
 */
export type ChangeError = InvalidRequest | RegistryFileFailed | RegistryChangeRefused

/**
 * The steps that keep a registry true. Only addresses that the sources, the registry or the settings name are asked.
 *
 * @since 0.4.0
 * @category models
 */
export interface Service {
  /**
   * Asks servers for their models, and tells the addresses of those that answer with such a list; each server as soon
   * as it has answered or failed. Fails with `RegistryUnanswered` where none does.
   */
  readonly check: (options?: CheckOptions) => Stream.Stream<CheckEvent, SourceError | RegistryUnanswered>
  /** The same with the models that servers list. */
  readonly fetch: (options: FetchOptions) => Stream.Stream<FetchEvent, SourceError | RegistryUnanswered>
  /**
   * Joins fetched models with a registry: one record for each server and model, with the identifier, the date and the
   * measurement that it had. Nothing is written.
   */
  readonly resolve: (options: ResolveOptions) => Effect.Effect<Resolved, InvalidRequest | RegistryFileFailed>
  /**
   * Replaces the family files of a registry by these records, each file whole or not at all. Fails with
   * `RegistryChangeRefused` where none, or less than half, would be left.
   */
  readonly apply: (options: ApplyOptions) => Effect.Effect<Applied, ChangeError>
  /**
   * All of it: asks the servers of a registry and of the sources, and brings the files up to date. An interruption
   * leaves each file whole, the old one or the new one.
   */
  readonly refresh: (
    options?: RefreshOptions
  ) => Stream.Stream<RefreshEvent, SourceError | ChangeError | RegistryUnanswered>
  /**
   * Adds servers and models of other files to a registry, without asking a server. What the registry says already
   * stays; what it leaves open is filled.
   */
  readonly importFrom: (options: ImportOptions) => Effect.Effect<Applied, SourceError | ChangeError>
  /** What a registry holds, in a form that others read, as texts. Nothing is written, and no server is asked. */
  readonly exportAs: (options?: ExportOptions) => Effect.Effect<Exported, InvalidRequest | RegistryFileFailed>
  /** The backups of a registry, the newest first: when each was made. */
  readonly backups: (options?: {
    /** The folder of the registry. Default: the first of the settings. */
    readonly registry?: string | undefined
  }) => Effect.Effect<ReadonlyArray<string>, InvalidRequest | RegistryFileFailed>
  /** Brings back the files of a backup. The present ones are backed up first. */
  readonly restore: (options?: RestoreOptions) => Effect.Effect<Restored, InvalidRequest | RegistryFileFailed>
}

/**
 * The tag of the service.
 *
 * @since 0.4.0
 * @category tags
 */
export class RegistryPipeline extends Context.Tag("aicortex/RegistryPipeline")<RegistryPipeline, Service>() {}

// =============================================================================
// implementation
// =============================================================================

/** What the steps need. */
type Needs = CurrentSettings | FileSystem.FileSystem | HttpClient.HttpClient | Path.Path | StoreHost

/**
 * The service, over those that it needs.
 *
 * @since 0.4.0
 * @category constructors
 */
export const make: Effect.Effect<Service, never, Needs> = Effect.map(Effect.context<Needs>(), (context) =>
  RegistryPipeline.of({
    check: (options = {}) => Stream.provideContext(Steps.check(options), context),
    fetch: (options) => Stream.provideContext(Steps.fetch(options), context),
    resolve: (options) => Effect.provide(Steps.resolve(options), context),
    apply: (options) => Effect.provide(Steps.apply(options), context),
    refresh: (options = {}) => Stream.provideContext(Steps.refresh(options), context),
    importFrom: (options) => Effect.provide(Importing.importFrom(options), context),
    exportAs: (options = {}) => Effect.provide(Exporting.exportAs(options), context),
    backups: (options = {}) => Effect.provide(Importing.backups(options), context),
    restore: (options = {}) => Effect.provide(Importing.restore(options), context)
  })
)

/**
 * The service as a layer. `Cortex.layer` has it over Node's files.
 *
 * @since 0.4.0
 * @category layers
 */
export const layer: Layer.Layer<RegistryPipeline, never, Needs> = Layer.effect(RegistryPipeline, make)

/** What a step comes to. */
const resultOf = <A, E, R>(
  events: Stream.Stream<{ readonly type: string } | StepDone<A>, E, R>
): Effect.Effect<A, E, R> =>
  Effect.flatMap(Stream.runLast(events), (last) =>
    Option.isSome(last) && "result" in last.value
      ? Effect.succeed(last.value.result)
      : Effect.dieMessage("a step of the pipeline without an end")
  )

/**
 * Asks servers, and emits the outcome of each as soon as it is known; see `Service.check`.
 *
 * @since 0.4.0
 * @category accessors
 */
export const checkProgress = (
  options?: CheckOptions
): Stream.Stream<CheckEvent, SourceError | RegistryUnanswered, RegistryPipeline> =>
  Stream.unwrap(Effect.map(RegistryPipeline, ({ check }) => check(options)))

/**
 * The addresses of those servers that answer with a list of models.
 *
 * @since 0.4.0
 * @category accessors
 */
export const check = (
  options?: CheckOptions
): Effect.Effect<Checked, SourceError | RegistryUnanswered, RegistryPipeline> => resultOf(checkProgress(options))

/**
 * Asks servers for their models, and emits the list of each as soon as it is there; see `Service.fetch`.
 *
 * @since 0.4.0
 * @category accessors
 */
export const fetchProgress = (
  options: FetchOptions
): Stream.Stream<FetchEvent, SourceError | RegistryUnanswered, RegistryPipeline> =>
  Stream.unwrap(Effect.map(RegistryPipeline, ({ fetch }) => fetch(options)))

/**
 * The models of servers.
 *
 * @since 0.4.0
 * @category accessors
 */
export const fetch = (
  options: FetchOptions
): Effect.Effect<FetchedModels, SourceError | RegistryUnanswered, RegistryPipeline> => resultOf(fetchProgress(options))

/**
 * Joins fetched models with a registry; see `Service.resolve`.
 *
 * @since 0.4.0
 * @category accessors
 */
export const resolve = (
  options: ResolveOptions
): Effect.Effect<Resolved, InvalidRequest | RegistryFileFailed, RegistryPipeline> =>
  Effect.flatMap(RegistryPipeline, ({ resolve }) => resolve(options))

/**
 * Takes records into a registry; see `Service.apply`.
 *
 * @example
 * import { Cortex, RegistryPipeline } from "aicortex"
 * import { Console, Effect } from "effect"
 *
 * const program = Effect.gen(function* () {
 *   const { endpoints } = yield* RegistryPipeline.check({ sources: ["addresses.txt"], timeout: "2 seconds" })
 *   const { fetched } = yield* RegistryPipeline.fetch({ sources: endpoints })
 *   const { records } = yield* RegistryPipeline.resolve({ fetched, registry: "./models" })
 *   const { changes } = yield* RegistryPipeline.apply({ records, registry: "./models", dryRun: true })
 *   yield* Console.log(changes)
 * }).pipe(Effect.provide(Cortex.layer()))
 *
 * @since 0.4.0
 * @category accessors
 */
export const apply = (options: ApplyOptions): Effect.Effect<Applied, ChangeError, RegistryPipeline> =>
  Effect.flatMap(RegistryPipeline, ({ apply }) => apply(options))

/**
 * Refreshes a registry, and emits its progress; see `Service.refresh`.
 *
 * @example
 * import { Cortex, RegistryPipeline } from "aicortex"
 * import { Console, Effect, Stream } from "effect"
 *
 * const program = RegistryPipeline.refreshProgress({ registry: "./models", sources: ["http://gpu-1:11434"] }).pipe(
 *   Stream.runForEach((event) =>
 *     event.type === "rejected" ? Console.log(event.server, event.reason) : Console.log(event.type)
 *   ),
 *   Effect.provide(Cortex.layer())
 * )
 *
 * @since 0.4.0
 * @category accessors
 */
export const refreshProgress = (
  options?: RefreshOptions
): Stream.Stream<RefreshEvent, SourceError | ChangeError | RegistryUnanswered, RegistryPipeline> =>
  Stream.unwrap(Effect.map(RegistryPipeline, ({ refresh }) => refresh(options)))

/**
 * Refreshes a registry: what became of it.
 *
 * @since 0.4.0
 * @category accessors
 */
export const refresh = (
  options?: RefreshOptions
): Effect.Effect<Applied, SourceError | ChangeError | RegistryUnanswered, RegistryPipeline> =>
  resultOf(refreshProgress(options))

/**
 * Adds servers and models of other files to a registry; see `Service.importFrom`.
 *
 * @since 0.4.0
 * @category accessors
 */
export const importFrom = (
  options: ImportOptions
): Effect.Effect<Applied, SourceError | ChangeError, RegistryPipeline> =>
  Effect.flatMap(RegistryPipeline, ({ importFrom }) => importFrom(options))

/**
 * What a registry holds, in a form that others read; see `Service.exportAs`.
 *
 * @example
 * ```ts
 * import { RegistryPipeline } from "aicortex"
 * import { Effect } from "effect"
 *
 * const addresses = Effect.map(
 *   RegistryPipeline.exportAs({ registry: "./models", format: "urls" }),
 *   ({ files }) => files.map(({ text }) => text).join("")
 * )
 * ```
 *
 * @since 0.4.0
 * @category accessors
 */
export const exportAs = (
  options?: ExportOptions
): Effect.Effect<Exported, InvalidRequest | RegistryFileFailed, RegistryPipeline> =>
  Effect.flatMap(RegistryPipeline, ({ exportAs }) => exportAs(options))

/**
 * The backups of a registry, the newest first.
 *
 * @since 0.4.0
 * @category accessors
 */
export const backups = (options?: {
  /** The folder of the registry. Default: the first of the settings. */
  readonly registry?: string | undefined
}): Effect.Effect<ReadonlyArray<string>, InvalidRequest | RegistryFileFailed, RegistryPipeline> =>
  Effect.flatMap(RegistryPipeline, ({ backups }) => backups(options))

/**
 * Brings back the files of a backup; see `Service.restore`.
 *
 * @since 0.4.0
 * @category accessors
 */
export const restore = (
  options?: RestoreOptions
): Effect.Effect<Restored, InvalidRequest | RegistryFileFailed, RegistryPipeline> =>
  Effect.flatMap(RegistryPipeline, ({ restore }) => restore(options))

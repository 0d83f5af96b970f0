/** The registry's pipeline, as Promise functions. */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { InvalidRequest } from "../Errors.js"
import * as Pipeline from "../RegistryPipeline.js"
import { given, type RunWith } from "./calls.js"

/** What a step hears and obeys. */
interface Listening<Event> {
  /** Hears what becomes of each server, as soon as that is known. */
  readonly onEvent?: ((event: Event) => void) | undefined
  /** Ends it. Each file is left whole, the old one or the new one. */
  readonly signal?: AbortSignal | undefined
}

/**
 * How servers are checked; see `RegistryPipeline.CheckOptions`.
 *
 * @since 0.4.0
 * @category models
 */
export interface RegistryCheckOptions extends Pipeline.CheckOptions, Listening<Pipeline.CheckEvent> {}

/**
 * How models of servers are fetched; see `RegistryPipeline.FetchOptions`.
 *
 * @since 0.4.0
 * @category models
 */
export interface RegistryFetchOptions extends Pipeline.FetchOptions, Listening<Pipeline.FetchEvent> {}

/**
 * How a registry is refreshed; see `RegistryPipeline.RefreshOptions`.
 *
 * @since 0.4.0
 * @category models
 */
export interface RegistryRefreshOptions extends Pipeline.RefreshOptions, Listening<Pipeline.RefreshEvent> {}

/**
 * The steps that make a folder of registry files and keep it true. What one gives, the next one takes, as plain JSON. Each
 * rejects with `InvalidRequest`, `RegistryFileFailed`, `RegistrySourceFailed`, `RegistryUnanswered` or
 * `RegistryChangeRefused`.
 *
 * @since 0.4.0
 * @category models
 */
export interface RegistryFunctions {
  /** The addresses of those servers that answer with a list of models; 20 at once, 5 seconds each. */
  readonly check: (options?: RegistryCheckOptions) => Promise<Pipeline.Checked>
  /** The models of servers: `[{ source_url, models }]`; 10 at once, 10 seconds each. */
  readonly fetch: (options: RegistryFetchOptions) => Promise<Pipeline.FetchedModels>
  /** Joins fetched models with a registry: one record for each server and model. Nothing is written. */
  readonly resolve: (options: Pipeline.ResolveOptions) => Promise<Pipeline.Resolved>
  /** Replaces the family files of a registry by these records, each file whole or not at all. */
  readonly apply: (options: Pipeline.ApplyOptions) => Promise<Pipeline.Applied>
  /** All of it: asks the servers of a registry and of the sources, and brings the files up to date. */
  readonly refresh: (options?: RegistryRefreshOptions) => Promise<Pipeline.Applied>
  /** Adds servers and models of other files to a registry, without asking a server. */
  readonly importFrom: (options: Pipeline.ImportOptions) => Promise<Pipeline.Applied>
  /**
   * What a registry holds, as texts: AI Cortex's families, one `servers.json` (the default), or addresses. Nothing is
   * written, and no server is asked.
   */
  readonly exportAs: (options?: Pipeline.ExportOptions) => Promise<Pipeline.Exported>
  /** The backups of a registry, the newest first: when each was made. */
  readonly backups: (options?: {
    /** The folder of the registry. Default: the first of the settings. */
    readonly registry?: string | undefined
  }) => Promise<ReadonlyArray<string>>
  /** Brings back the files of a backup, by default the newest one. The present ones are backed up first. */
  readonly restore: (options?: Pipeline.RestoreOptions) => Promise<Pipeline.Restored>
}

/** The functions over a pipeline. */
export const make = (run: RunWith<Pipeline.RegistryPipeline>): RegistryFunctions => {
  /** Runs a step to its end, whose listener may be given with its options. */
  const listened = async <Event extends { readonly type: string }, A, E, Options extends Listening<Event>>(
    options: Options | undefined,
    step: (
      options: Omit<Options, "onEvent" | "signal">
    ) => Stream.Stream<Event | Pipeline.StepDone<A>, E, Pipeline.RegistryPipeline>
  ): Promise<A> => {
    const { onEvent, signal, ...rest } = given(options)
    if (signal?.aborted) throw signal.reason
    if (onEvent !== undefined && typeof onEvent !== "function") {
      throw new InvalidRequest({ field: "onEvent", reason: "must be a function" })
    }
    let result: { readonly value: A } | undefined
    const events = Stream.runForEachChunk(step(rest), (chunk) =>
      Effect.sync(() => {
        for (const event of chunk) {
          if ("result" in event) result = { value: event.result }
          onEvent?.(event as Event)
        }
      })
    )
    await run(events, signal)
    if (result === undefined) throw new Error("a step of the pipeline without an end")
    return result.value
  }
  return {
    check: (options) =>
      listened<Pipeline.CheckEvent, Pipeline.Checked, unknown, RegistryCheckOptions>(options, Pipeline.checkProgress),
    fetch: (options) =>
      listened<Pipeline.FetchEvent, Pipeline.FetchedModels, unknown, RegistryFetchOptions>(
        options,
        Pipeline.fetchProgress
      ),
    resolve: (options) => run(Pipeline.resolve(options)),
    apply: (options) => run(Pipeline.apply(options)),
    refresh: (options) =>
      listened<Pipeline.RefreshEvent, Pipeline.Applied, unknown, RegistryRefreshOptions>(
        options,
        Pipeline.refreshProgress
      ),
    importFrom: (options) => run(Pipeline.importFrom(options)),
    exportAs: (options) => run(Pipeline.exportAs(options)),
    backups: (options) => run(Pipeline.backups(options)),
    restore: (options) => run(Pipeline.restore(options))
  }
}

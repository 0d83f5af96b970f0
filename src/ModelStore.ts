/**
 * The models on this machine: GGUF files that engines run, in a folder, each with a name.
 *
 * ```ts
 * import { Cortex, ModelStore } from "aicortex"
 * import { Effect } from "effect"
 *
 * const program = Effect.flatMap(ModelStore.ModelStore, (store) => store.list).pipe(
 *   Effect.provide(Cortex.layer({}))
 * )
 * ```
 *
 * @since 0.3.0
 */
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Mailbox from "effect/Mailbox"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import {
  InvalidModelFile,
  InvalidModelReference,
  type ModelDownloadFailed,
  type ModelNameTaken,
  ModelNotStored,
  ModelStoreUnavailable
} from "./Errors.js"
import { LocalMemory } from "./modelSelection/memory.js"
import * as Catalogue from "./modelStore/catalogue.js"
import type { PullEvent } from "./modelStore/events.js"
import { inspectAll, joined } from "./modelStore/files.js"
import { StoreHost } from "./modelStore/host.js"
import { canonicalName, isModelName, keptName, stemOf } from "./modelStore/names.js"
import type { PullError } from "./modelStore/pull.js"
import * as Pull from "./modelStore/pull.js"
import type { Quantisation } from "./modelStore/quantisation.js"
import * as Quantisations from "./modelStore/quantisations.js"
import { isAmbiguous, type ModelReference, parseReference } from "./modelStore/reference.js"
import { CurrentSettings } from "./Settings.js"
import { Transport } from "./Transport.js"

export type { StoredFile, StoredModel } from "./modelStore/catalogue.js"
export type {
  PullAmount,
  PullDone,
  PullEvent,
  PullProgress,
  PullResolved,
  PullRetry,
  PullWaiting
} from "./modelStore/events.js"
export type { ModelMetadata } from "./modelStore/gguf.js"
export { type Hash, type Host, type Owner, StoreHost } from "./modelStore/host.js"
export type { PullError } from "./modelStore/pull.js"
export type { Quantisation } from "./modelStore/quantisation.js"
export type {
  CortexReference,
  FileReference,
  HubReference,
  ModelReference,
  OllamaReference,
  UrlReference
} from "./modelStore/reference.js"

// =============================================================================
// Models
// =============================================================================

/**
 * How a file becomes a model of the store.
 *
 * @since 0.3.0
 * @category models
 */
export interface ImportOptions {
  /** The name; default: that of the file, without `.gguf`. */
  readonly name?: string | undefined
  /** Whether the store keeps a copy. Default `false`: the file stays where it is, and yours. */
  readonly copy?: boolean | undefined
}

/**
 * How a model is got.
 *
 * @since 0.3.0
 * @category models
 */
export interface PullOptions {
  /** The name that it gets; default: that of the repository with its quantisation, or of the file. */
  readonly name?: string | undefined
}

/**
 * What finding a model can fail with.
 *
 * @since 0.3.0
 * @category errors
 */
export type FindError = InvalidModelReference | InvalidModelFile | ModelStoreUnavailable

/**
 * The models on this machine.
 *
 * @since 0.3.0
 * @category models
 */
export interface Service {
  /**
   * What a name means: an alias, then by its form. Fails with `InvalidModelReference` where it means nothing; nothing is
   * sent.
   */
  readonly parse: (name: string) => Effect.Effect<ModelReference, InvalidModelReference>
  /**
   * The model that a name means, if it is on this machine. A repository without a quantisation is any that is stored of it.
   * A path is the file itself, stored or not. Fails with `InvalidModelFile` where its file is gone or is no model.
   */
  readonly find: (name: string) => Effect.Effect<Option.Option<Catalogue.StoredModel>, FindError>
  /** The models on this machine, by name. */
  readonly list: Effect.Effect<ReadonlyArray<Catalogue.StoredModel>, ModelStoreUnavailable>
  /** Makes a file of this machine a model of the store. All parts of a model that has several are taken. */
  readonly importFile: (
    path: string,
    options?: ImportOptions
  ) => Effect.Effect<Catalogue.StoredModel, FindError | ModelNameTaken>
  /**
   * Gets a model from a hub or another web server, or brings it up to date. Events are handed out as they happen; the last
   * one is `done`. Whatever ends the stream earlier leaves what was downloaded, and the next pull goes on with it. Where
   * another process downloads the same model, this one waits for it, and downloads nothing twice.
   */
  readonly pull: (name: string, options?: PullOptions) => Stream.Stream<PullEvent, PullError>
  /** The forms that a repository has of its model, the smallest first. */
  readonly quantisations: (
    name: string
  ) => Effect.Effect<ReadonlyArray<Quantisation>, InvalidModelReference | ModelDownloadFailed>
  /**
   * Removes a model; the files of one that was imported without a copy stay. What was downloaded of one that is not
   * complete goes too. Fails with `ModelNotStored` where there is nothing.
   */
  readonly remove: (name: string) => Effect.Effect<void, InvalidModelReference | ModelNotStored | ModelStoreUnavailable>
}

/**
 * The tag of the models on this machine.
 *
 * @since 0.3.0
 * @category tags
 */
export class ModelStore extends Context.Tag("aicortex/ModelStore")<ModelStore, Service>() {}

// =============================================================================
// implementation
// =============================================================================

const defaultHub = "https://huggingface.co"

/** How many aliases may stand for another. */
const maxAliases = 8

/** Whether a name is that of a repository, of which several models may be stored. */
const isWhole = (reference: ModelReference): boolean =>
  (reference.kind === "hub" && reference.quantisation === undefined && reference.file === undefined) ||
  (reference.kind === "cortex" && reference.branch === undefined)

const home = Effect.orElseSucceed(Config.string("HOME"), () => undefined)

/**
 * The models in the folder that the settings name (`models.folder`), made when it is first needed.
 *
 * @since 0.3.0
 * @category constructors
 */
export const make = Effect.gen(function* () {
  const { models } = yield* CurrentSettings
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const context = yield* Effect.context<FileSystem.FileSystem | Path.Path>()
  const within = Effect.provide(context)
  const transport = yield* Transport
  const host = yield* StoreHost
  const endpoint = (models.hub ?? defaultHub).replace(/\/+$/, "")
  const { parallel = 4, rangeBytes = 64 * 1024 * 1024, retries = 5, retryBackoff = 500, stallTimeout = 30_000 } = models
  const token = models.token === undefined ? undefined : { origin: new URL(endpoint).origin, value: models.token }
  const environment: Pull.Environment = {
    host,
    transport,
    hub: { transport, endpoint, token, stallTimeout },
    settings: { parallel, rangeBytes, stallTimeout, retries, backoff: retryBackoff },
    availableMemory: yield* LocalMemory
  }
  const aliases = new Map(Object.entries(models.aliases ?? {}).map(([name, to]) => [canonicalName(name), to]))

  const catalogue = Effect.suspend(() =>
    models.folder === undefined
      ? Effect.fail(new ModelStoreUnavailable({ reason: "there is no folder for them: set models.folder" }))
      : within(Catalogue.make(path.resolve(models.folder)))
  )

  const absolute = (file: string) =>
    /^~[\\/]/.test(file)
      ? Effect.map(home, (folder = "~") => path.join(folder, file.slice(2)))
      : Effect.succeed(path.resolve(file))

  const parse = Effect.fnUntraced(function* (name: string): Effect.fn.Return<ModelReference, InvalidModelReference> {
    let meant = name.trim()
    for (let i = 0; aliases.has(canonicalName(meant)); i++) {
      meant = aliases.get(canonicalName(meant)) ?? meant
      if (i >= maxAliases) {
        return yield* new InvalidModelReference({ reference: name, reason: "its aliases stand for each other" })
      }
    }
    if (isAmbiguous(meant) && (yield* Effect.orElseSucceed(fs.exists(path.resolve(meant)), () => false))) {
      return { kind: "file", name: stemOf(meant.split("/").at(-1) ?? ""), path: meant }
    }
    return yield* parseReference(meant)
  })

  const checkedName = (name: string) =>
    isModelName(name)
      ? Effect.succeed(name)
      : Effect.fail(
          new InvalidModelReference({
            reference: name,
            reason: "a name has letters, digits, '.', '_' and '-', perhaps parts between '/', and one ':'"
          })
        )

  /** The model that a file is, without it being stored. */
  const loose = Effect.fnUntraced(function* (file: string) {
    const files = yield* inspectAll(file)
    const [{ path: first }] = files
    return {
      name: stemOf(path.basename(file)),
      path: first,
      size: files.reduce((sum, { size }) => sum + size, 0),
      source: first,
      files: files.map(({ path, size }) => ({ path, size })),
      kept: false,
      metadata: joined(files),
      addedAt: 0
    } satisfies Catalogue.StoredModel
  })

  const find = Effect.fnUntraced(function* (name: string) {
    const reference = yield* parse(name)
    if (reference.kind === "file") {
      const file = yield* absolute(reference.path)
      const stored = models.folder === undefined ? [] : yield* Effect.flatMap(catalogue, ({ list }) => list)
      const known = stored.find((one) => one.problem === undefined && one.files.some((each) => each.path === file))
      return Option.some(known ?? (yield* loose(file)))
    }
    const { get, list } = yield* catalogue
    // A name that was given to a model comes before what it would mean otherwise.
    const own = isModelName(name.trim()) ? yield* get(name.trim()) : undefined
    const found = own ?? (yield* get(reference.name))
    if (found !== undefined) return Option.some(yield* Catalogue.usable(found))
    if (!isWhole(reference)) return Option.none()
    const prefix = canonicalName(`${reference.name}:`)
    const some = (yield* list).filter((one) => canonicalName(one.name).startsWith(prefix) && one.problem === undefined)
    // The one that was added last.
    return Option.fromNullable(some.sort((a, b) => b.addedAt - a.addedAt)[0])
  }, within)

  const importFile = Effect.fnUntraced(function* (given: string, { copy = false, name }: ImportOptions = {}) {
    const file = yield* absolute(given)
    const chosen = yield* checkedName(name ?? stemOf(path.basename(file)))
    const { add, free, prepare } = yield* catalogue
    const files = yield* inspectAll(file)
    const [{ path: source }] = files
    yield* free(chosen, source)
    const directory = yield* prepare(chosen)
    const taken = yield* Effect.forEach(files, ({ path: from, size }) =>
      Effect.gen(function* () {
        if (!copy) return { file: from, size }
        const kept = keptName(path.basename(from))
        const target = path.join(directory, kept)
        const part = `${target}.part`
        yield* fs.copyFile(from, part).pipe(
          Effect.zipRight(fs.rename(part, target)),
          Effect.onError(() => Effect.ignore(fs.remove(part))),
          Effect.mapError(Catalogue.unavailable)
        )
        return { file: kept, size }
      })
    )
    const now = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
    const [first, ...others] = taken
    if (first === undefined) return yield* new InvalidModelFile({ file, reason: "there is no such file" })
    const added = { name: chosen, source, kept: copy, metadata: joined(files), files: [first, ...others] as const }
    return yield* add(added, now)
  }, within)

  const remove = Effect.fnUntraced(function* (name: string) {
    const { list, remove } = yield* catalogue
    const given = name.trim()
    const reference = yield* parse(given)
    const all = yield* list
    const file = reference.kind === "file" ? yield* absolute(reference.path) : undefined
    const known =
      all.find((one) => Catalogue.same(one.name, given)) ??
      all.find((one) => (file === undefined ? Catalogue.same(one.name, reference.name) : one.source === file))
    if (known === undefined && isWhole(reference)) {
      const some = all.filter(({ name }) => canonicalName(name).startsWith(canonicalName(`${reference.name}:`)))
      if (some.length > 1) {
        const reason = `it may be ${some.map(({ name }) => name).join(", ")}: name one of them`
        return yield* new InvalidModelReference({ reference: given, reason })
      }
      for (const { name } of some) if (yield* remove(name)) return
    }
    const names = known === undefined ? [given, reference.name].filter(isModelName) : [known.name]
    for (const one of names) if (yield* remove(one)) return
    return yield* new ModelNotStored({ model: given, stored: all.slice(0, 20).map((one) => one.name) })
  }, within)

  const list = Effect.flatMap(catalogue, ({ list }) => list)

  const events = (name: string, options: PullOptions, emit: (event: PullEvent) => void) =>
    within(
      Effect.gen(function* () {
        const reference = yield* parse(name)
        const own = options.name === undefined ? undefined : yield* checkedName(options.name)
        if (reference.kind === "file") {
          const model = yield* importFile(reference.path, own === undefined ? {} : { name: own })
          return emit({ type: "done", model, fresh: true })
        }
        yield* Pull.pull(environment, yield* catalogue, reference, own, emit)
      })
    )

  const pull = (name: string, options: PullOptions = {}) =>
    Stream.unwrapScoped(
      Effect.gen(function* () {
        const mailbox = yield* Mailbox.make<PullEvent, PullError>()
        const clock = yield* Effect.clock
        const emit = Pull.sparing(
          (event) => mailbox.unsafeOffer(event),
          () => clock.unsafeCurrentTimeMillis()
        )
        yield* Effect.forkScoped(Mailbox.into(events(name, options, emit), mailbox))
        return Mailbox.toStream(mailbox)
      })
    )

  const quantisations = Effect.fnUntraced(function* (name: string) {
    const reference = yield* parse(name)
    return yield* Quantisations.list(environment, reference)
  })

  return ModelStore.of({ parse, find, list, importFile, pull, quantisations, remove })
})

/**
 * The models in the folder that the settings name.
 *
 * @since 0.3.0
 * @category layers
 */
export const layer: Layer.Layer<
  ModelStore,
  never,
  CurrentSettings | FileSystem.FileSystem | Path.Path | StoreHost | Transport
> = Layer.effect(ModelStore, make)

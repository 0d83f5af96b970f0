/** The models in the folder of the store: those that are there, adding one, removing one. */
import type { PlatformError } from "@effect/platform/Error"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { InvalidModelFile, ModelNameTaken, ModelStoreUnavailable } from "../Errors.js"
import { makeFolder } from "../internal/makeFolder.js"
import type { FoundFile } from "./files.js"
import type { ModelMetadata } from "./gguf.js"
import { decodeManifest, encodeManifest, type Manifest, manifestFile } from "./manifest.js"
import { canonicalName, folderOf, isModelFolder } from "./names.js"

/**
 * A file of a stored model.
 *
 * @since 0.3.0
 * @category models
 */
export interface StoredFile {
  /** Where it is, absolute. */
  readonly path: string
  /** In bytes. */
  readonly size: number
  /** Its checksum, where the place that it came from says it: 64 digits. */
  readonly sha256?: string
}

/**
 * A model on this machine.
 *
 * @since 0.3.0
 * @category models
 */
export interface StoredModel {
  /** The name that it answers to. */
  readonly name: string
  /** Its file, or the first of its parts, absolute: what an engine loads. */
  readonly path: string
  /** Of all files, in bytes. */
  readonly size: number
  /** The checksum of its only file, where it is known. */
  readonly sha256?: string
  /** Where it came from: `hf:owner/repo/FILE.gguf`, an address, or a path. */
  readonly source: string
  /** The commit of the repository that it came from. */
  readonly revision?: string
  /** Its files, in their order. */
  readonly files: ReadonlyArray<StoredFile>
  /** Whether the store keeps the files. If not, they are the user's, and removing the model leaves them alone. */
  readonly kept: boolean
  /** What its file says of it. */
  readonly metadata: ModelMetadata
  /** When it was added, in milliseconds since 1970. */
  readonly addedAt: number
  /** Why it cannot be used: a file is gone, or has another size. */
  readonly problem?: string
}

/** What is added to the store. */
export interface Added {
  readonly name: string
  readonly source: string
  readonly revision?: string | undefined
  readonly kept: boolean
  readonly metadata: ModelMetadata
  readonly files: readonly [AddedFile, ...ReadonlyArray<AddedFile>]
}

interface AddedFile extends Pick<FoundFile, "size"> {
  /** A name in the folder of the model, or a path where the files are not kept. */
  readonly file: string
  readonly sha256?: string | undefined
}

/** Turns what the file system says into the error of the store. */
export const unavailable = (error: PlatformError | ModelStoreUnavailable): ModelStoreUnavailable =>
  error._tag === "ModelStoreUnavailable" ? error : new ModelStoreUnavailable({ reason: error.message })

const gone = <A, R>(effect: Effect.Effect<A, PlatformError, R>) =>
  Effect.catchIf(
    effect,
    (error) => error._tag === "SystemError" && error.reason === "NotFound",
    () => Effect.succeed(undefined)
  )

/** The models under a folder. */
export const make = Effect.fnUntraced(function* (folder: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path

  const at = (name: string) => path.join(folder, folderOf(name))

  const stored = Effect.fnUntraced(function* (directory: string, manifest: Manifest) {
    const files: Array<StoredFile> = []
    let problem: string | undefined
    for (const { file, sha256, size } of manifest.files) {
      const where = manifest.kept ? path.join(directory, file) : file
      const stat = yield* gone(fs.stat(where))
      if (stat === undefined) problem ??= `the file ${where} is gone`
      else if (Number(stat.size) !== size)
        problem ??= `the file ${where} has changed: it has ${stat.size} bytes, not ${size}`
      files.push({ path: where, size, ...(sha256 === undefined ? {} : { sha256 }) })
    }
    const [first] = files
    const { addedAt, kept, metadata, name, revision, source } = manifest
    return {
      name,
      path: first?.path ?? directory,
      size: files.reduce((sum, { size }) => sum + size, 0),
      ...(files.length === 1 && first?.sha256 !== undefined ? { sha256: first.sha256 } : {}),
      source,
      ...(revision === undefined ? {} : { revision }),
      files,
      kept,
      metadata,
      addedAt,
      ...(problem === undefined ? {} : { problem })
    } satisfies StoredModel
  })

  /** The model in a folder of the store: `undefined` where there is none, or none that is complete. */
  const load = Effect.fnUntraced(function* (directory: string) {
    const text = yield* gone(fs.readFileString(path.join(directory, manifestFile)))
    if (text === undefined) return undefined
    const manifest = decodeManifest(text)
    if (Either.isLeft(manifest)) {
      return yield* new ModelStoreUnavailable({ reason: `${path.join(directory, manifestFile)} is damaged: remove it` })
    }
    return yield* stored(directory, manifest.right)
  })

  const get = (name: string) => Effect.mapError(load(at(name)), unavailable)

  const list = Effect.gen(function* () {
    const folders = ((yield* gone(fs.readDirectory(folder))) ?? []).filter(isModelFolder)
    const found = yield* Effect.forEach(
      folders,
      (one) =>
        Effect.catchTag(load(path.join(folder, one)), "ModelStoreUnavailable", (error) =>
          Effect.as(Effect.logWarning(`left out: ${error.reason}`), undefined)
        ),
      { concurrency: 8 }
    )
    return found
      .filter((one) => one !== undefined)
      .sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }))
  }).pipe(Effect.mapError(unavailable))

  /**
   * The folder of a model, made if there is none. What stands in its place and leads out of the store is refused.
   */
  const prepare = Effect.fnUntraced(function* (name: string) {
    const directory = at(name)
    yield* makeFolder(folder, { mode: 0o700 })
    yield* makeFolder(directory, { mode: 0o700 })
    const root = yield* fs.realPath(folder)
    const real = yield* fs.realPath(directory)
    if (real !== path.join(root, folderOf(name))) {
      return yield* new ModelStoreUnavailable({ reason: `${directory} leads out of the folder of the models` })
    }
    return directory
  }, Effect.mapError(unavailable))

  /** Writes down that a model is there. Its files are. */
  const add = Effect.fnUntraced(function* (added: Added, now: number) {
    const { files, revision, ...others } = added
    const directory = yield* prepare(added.name)
    const [first, ...rest] = files.map(({ file, sha256, size }) => ({
      file,
      size,
      ...(sha256 === undefined ? {} : { sha256 })
    }))
    if (first === undefined) return yield* new ModelStoreUnavailable({ reason: "a model has no files" })
    const manifest: Manifest = {
      ...others,
      ...(revision === undefined ? {} : { revision }),
      version: 1,
      addedAt: now,
      files: [first, ...rest]
    }
    const target = path.join(directory, manifestFile)
    const temporary = `${target}.new`
    yield* Effect.scoped(
      Effect.gen(function* () {
        const file = yield* fs.open(temporary, { flag: "w", mode: 0o600 })
        yield* file.writeAll(new TextEncoder().encode(encodeManifest(manifest)))
        yield* file.sync
      })
    )
    yield* fs.rename(temporary, target)
    return yield* stored(directory, manifest)
  }, Effect.mapError(unavailable))

  /** Fails where another model has the name. */
  const free = Effect.fnUntraced(function* (name: string, source: string) {
    const there = yield* get(name)
    if (there !== undefined && there.source !== source) {
      return yield* new ModelNameTaken({ model: there.name, source: there.source })
    }
    return there
  })

  /** Removes a model with its files, or what was downloaded of it; false where there is nothing. */
  const remove = (name: string) =>
    Effect.gen(function* () {
      const directory = at(name)
      if ((yield* gone(fs.stat(directory))) === undefined) return false
      // First, so that a model that is half removed is none.
      yield* gone(fs.remove(path.join(directory, manifestFile)))
      yield* fs.remove(directory, { recursive: true, force: true })
      return true
    }).pipe(Effect.uninterruptible, Effect.mapError(unavailable))

  /** Removes what a finished model has no use for: journals, and the files of an earlier version. */
  const tidy = (directory: string, files: ReadonlyArray<string>) =>
    Effect.gen(function* () {
      for (const one of yield* fs.readDirectory(directory)) {
        if (one.startsWith(".") || one === manifestFile || files.includes(one)) continue
        yield* fs.remove(path.join(directory, one), { recursive: true, force: true })
      }
    }).pipe(Effect.mapError(unavailable))

  return { at, get, list, prepare, add, free, remove, tidy }
})

/** Fails where a model cannot be used. */
export const usable = (model: StoredModel): Effect.Effect<StoredModel, InvalidModelFile> =>
  model.problem === undefined
    ? Effect.succeed(model)
    : Effect.fail(new InvalidModelFile({ file: model.path, reason: model.problem }))

/** Whether two names are one. */
export const same = (one: string, other: string): boolean => canonicalName(one) === canonicalName(other)

/** Changes the configuration file: one process at a time, whole or not at all, and only to what can be read again. */
import type { PlatformError } from "@effect/platform/Error"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"
import { decodeText, type File, readFile, reasonOf, unusable } from "../../config/file.js"
import { replaceFile, target } from "../../cortex/writeFile.js"
import { InvalidConfig } from "../../Errors.js"
import { makeFolder } from "../../internal/makeFolder.js"

/** So long another process is waited for, and so old is a lock that a process left behind, in milliseconds. */
const timeout = 5_000
const stale = 10_000

/** One process at a time changes a file: what two read and then write, only the later one would have written. */
const lock = Effect.fnUntraced(function* (file: string) {
  const path = yield* Path.Path
  const real = yield* target(file)
  yield* makeFolder(path.dirname(real), { mode: 0o700 })
  return yield* Effect.tryPromise({
    try: async () => {
      // A CommonJS module that is bundled has nothing but this.
      const { lock } = (
        (await import("proper-lockfile")) as unknown as { readonly default: typeof import("proper-lockfile") }
      ).default
      const pause = 20
      const retries = { retries: timeout / pause, factor: 1, minTimeout: pause, maxTimeout: pause }
      return lock(real, { realpath: false, stale, retries })
    },
    catch: (cause) => {
      const error = cause as NodeJS.ErrnoException
      const reason =
        error.code === "ELOCKED" ? `another process is changing it; if none is, delete ${real}.lock` : error.message
      return new InvalidConfig({ source: file, field: "file", reason })
    }
  })
})

/** What stands in the file, as it stands there. */
export type Content = { readonly [name: string]: unknown }

/** The text of a configuration file. */
export const textOf = (content: Content): string => `${JSON.stringify(content, undefined, 2)}\n`

/** Writes the whole text, unless it could not be read again. `expected` is the text that it replaces. */
export const writeText = Effect.fnUntraced(function* (file: string, text: string, expected?: string) {
  yield* decodeText(text, file)
  return yield* locked(
    file,
    Effect.gen(function* () {
      const now = yield* currentText(file)
      if (expected !== undefined && now !== expected) {
        return yield* new InvalidConfig({ source: file, field: "file", reason: "another process has changed it since" })
      }
      yield* replaceFile(file, text)
    })
  )
})

/** The text of the file; that of an empty one where there is none. */
export const currentText = Effect.fnUntraced(function* (file: string) {
  const fs = yield* FileSystem.FileSystem
  return (yield* fs.exists(file)) ? yield* fs.readFileString(file) : "{}"
})

const locked = <A, E, R>(file: string, write: Effect.Effect<A, E, R>) =>
  Effect.acquireUseRelease(
    lock(file),
    () => Effect.uninterruptible(write),
    // A process that took it for stale holds it now.
    (release) => Effect.promise(() => release().catch(() => {}))
  ).pipe(
    Effect.mapError((error) => {
      if (!isPlatform(error)) return error
      return new InvalidConfig({ source: file, field: "file", reason: `it cannot be written: ${reasonOf(error)}` })
    })
  )

const isPlatform = (error: unknown): error is PlatformError =>
  typeof error === "object" &&
  error !== null &&
  "_tag" in error &&
  (error._tag === "SystemError" || error._tag === "BadArgument")

/**
 * Changes what stands in the file, and nothing else of it. `change` gives the new content, `undefined` to leave the file
 * as it is, or what is wrong. `false` where nothing was changed.
 */
export const editFile = Effect.fnUntraced(function* (
  file: string,
  change: (content: Content, decoded: File) => Content | undefined
) {
  const changed = Effect.map(Effect.zip(currentText(file), readFile(file)), ([text, decoded]) =>
    change(JSON.parse(text.replace(/^\uFEFF/, "")), decoded)
  )
  const unlocked = yield* Effect.mapError(changed, (error) => (isPlatform(error) ? unusable(file, error) : error))
  if (unlocked === undefined) return false
  yield* decodeText(textOf(unlocked), file)
  return yield* locked(
    file,
    Effect.gen(function* () {
      // Another process may have changed it since.
      const content = yield* changed
      if (content === undefined) return false
      const text = textOf(content)
      yield* decodeText(text, file)
      yield* replaceFile(file, text)
      return true
    })
  )
})

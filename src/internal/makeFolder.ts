/**
 * Makes a folder and those above it. Not `recursive: true`: with it Node never ends where a folder is there and takes no
 * other, as below `/proc`.
 *
 * @internal
 */
import type { PlatformError } from "@effect/platform/Error"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"

const isMissing = (error: PlatformError): boolean => error._tag === "SystemError" && error.reason === "NotFound"

/**
 * Makes a folder where there is none, with those above it.
 *
 * @internal
 */
export const makeFolder = Effect.fnUntraced(function* (
  folder: string,
  options: FileSystem.MakeDirectoryOptions = {}
): Effect.fn.Return<void, PlatformError, FileSystem.FileSystem | Path.Path> {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const isFolder = (at: string) =>
    Effect.match(fs.stat(at), { onFailure: () => false, onSuccess: ({ type }) => type === "Directory" })
  const one = (at: string) =>
    Effect.catchAll(fs.makeDirectory(at, options), (error) =>
      isMissing(error)
        ? Effect.fail(error)
        : Effect.flatMap(isFolder(at), (is) => (is ? Effect.void : Effect.fail(error)))
    )
  const all = (at: string): Effect.Effect<void, PlatformError> =>
    Effect.catchIf(one(at), isMissing, (error) => {
      const above = path.dirname(at)
      return above === at ? Effect.fail(error) : Effect.zipRight(all(above), one(at))
    })
  yield* all(folder)
})

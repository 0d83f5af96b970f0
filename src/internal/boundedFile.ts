/**
 * Reads files that others may have put there: only regular files are opened, and reading is bounded.
 *
 * @internal
 */
import { type PlatformError, SystemError } from "@effect/platform/Error"
import type * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"

const kinds: { readonly [T in FileSystem.File.Type]: string } = {
  File: "a file",
  Directory: "a folder",
  SymbolicLink: "a symbolic link",
  FIFO: "a pipe",
  Socket: "a socket",
  CharacterDevice: "a device",
  BlockDevice: "a device",
  Unknown: "something unknown"
}

const refused = (method: string, path: string, reason: "BadResource" | "InvalidData", description: string) =>
  new SystemError({ module: "FileSystem", method, reason, pathOrDescriptor: path, description })

const tooLarge = (path: string, maxBytes: number) =>
  refused("readFileString", path, "InvalidData", `it is larger than ${maxBytes} bytes, the limit of such a file`)

/**
 * The text of a file of at most this many bytes. A device or pipe is rejected before it is opened, because reading
 * might never end; unless `pipes` allows it, for a shell's `<(command)`.
 *
 * @internal
 */
export const readText = (
  fs: FileSystem.FileSystem,
  path: string,
  maxBytes: number,
  pipes = false
): Effect.Effect<string, PlatformError> =>
  Effect.flatMap(fs.stat(path), ({ size, type }) => {
    if (type === "File") return size > maxBytes ? Effect.fail(tooLarge(path, maxBytes)) : fs.readFileString(path)
    if (pipes && type === "FIFO") {
      return Effect.filterOrFail(
        fs.readFileString(path),
        ({ length }) => length <= maxBytes,
        () => tooLarge(path, maxBytes)
      )
    }
    return Effect.fail(refused("readFileString", path, "BadResource", `it is ${kinds[type]} and no regular file`))
  })

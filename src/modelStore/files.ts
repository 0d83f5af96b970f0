/** Looks into the files of models. */
import type { PlatformError } from "@effect/platform/Error"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import { InvalidModelFile } from "../Errors.js"
import { type ModelMetadata, maxHeaderBytes, readHeader } from "./gguf.js"
import { maxParts, splitName, splitOf } from "./names.js"

/** How much is read at first, in bytes: of most models that is enough. */
const firstRead = 1024 * 1024

/** Reads at one place of a file. Less comes back only at its end. */
export const readAt = (file: FileSystem.File, offset: number, length: number) =>
  Effect.gen(function* () {
    yield* file.seek(FileSystem.Size(offset), "start")
    const parts: Array<Uint8Array> = []
    let left = length
    while (left > 0) {
      const read = yield* file.readAlloc(FileSystem.Size(left))
      if (Option.isNone(read) || read.value.length === 0) break
      parts.push(read.value)
      left -= read.value.length
    }
    return parts.length === 1 && parts[0] !== undefined ? parts[0] : concat(parts)
  })

export const concat = (parts: ReadonlyArray<Uint8Array>): Uint8Array => {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0))
  let at = 0
  for (const one of parts) {
    whole.set(one, at)
    at += one.length
  }
  return whole
}

/** A file of a model on the disk. */
export interface FoundFile {
  readonly path: string
  readonly size: number
  readonly metadata: ModelMetadata
}

/** What a file is and says. `shown` is what errors call it. */
export const inspect = Effect.fnUntraced(function* (path: string, shown = path) {
  const fs = yield* FileSystem.FileSystem
  const fail = (reason: string) => new InvalidModelFile({ file: shown, reason })
  const stat = yield* Effect.mapError(fs.stat(path), (error) => fail(reasonOf(error)))
  if (stat.type !== "File") return yield* fail("it is a folder, or something else that is no file")
  const size = Number(stat.size)
  return yield* Effect.scoped(
    Effect.gen(function* () {
      const file = yield* Effect.mapError(fs.open(path, { flag: "r" }), (error) => fail(reasonOf(error)))
      for (let length = firstRead; ; length *= 4) {
        const bytes = yield* Effect.mapError(readAt(file, 0, Math.min(length, maxHeaderBytes)), (error) =>
          fail(reasonOf(error))
        )
        const header = readHeader(bytes, size)
        if (Either.isRight(header)) return { path, size, metadata: header.right } satisfies FoundFile
        if (!header.left.more) return yield* fail(header.left.reason)
        if (bytes.length >= size) return yield* fail("it is incomplete: it ends in its header")
        if (bytes.length >= maxHeaderBytes) return yield* fail("its header is too long")
      }
    })
  )
})

/** All parts of the model that a file belongs to, in their order: of most models it is the only one. */
export const inspectAll = Effect.fnUntraced(function* (file: string) {
  const path = yield* Path.Path
  const split = splitOf(path.basename(file))
  const first = yield* inspect(file)
  if (split === undefined) return [first] as const
  const { base, count } = split
  if (count < 1 || count > maxParts || split.part < 1 || split.part > count) {
    return yield* new InvalidModelFile({ file, reason: `its name says that it is part ${split.part} of ${count}` })
  }
  const names = Array.from({ length: count }, (_, i) => path.join(path.dirname(file), splitName(base, i + 1, count)))
  const [head, ...others] = names
  if (head === undefined) return [first] as const
  return [yield* inspect(head), ...(yield* Effect.forEach(others, (one) => inspect(one)))] as const
})

/** What the parts of a model say together. */
export const joined = (files: ReadonlyArray<FoundFile>): ModelMetadata => {
  const parameters = files.reduce((sum, { metadata }) => sum + (metadata.parameters ?? 0), 0)
  const metadata = files[0]?.metadata ?? { version: 0, chatTemplate: false }
  return parameters === 0 ? metadata : { ...metadata, parameters }
}

/** Why a file cannot be read, in a few words. */
export const reasonOf = (error: PlatformError): string => {
  if (error._tag === "BadArgument") return error.message
  switch (error.reason) {
    case "NotFound":
      return "there is no such file"
    case "PermissionDenied":
      return "it may not be read"
    default:
      return error.message
  }
}

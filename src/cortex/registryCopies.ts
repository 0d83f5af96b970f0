/** Keeps the last good copies of registries by address in a folder, one file each, which other users cannot read. */
import { createHash } from "node:crypto"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { reasonOf } from "../config/file.js"
import * as BoundedFile from "../internal/boundedFile.js"
import { RegistryCopies } from "../registry/registryCopies.js"
import { CurrentSettings } from "../Settings.js"
import { replaceFile } from "./writeFile.js"

/** Times are in milliseconds since the epoch. The file's own time is when the source last confirmed it. */
const Copy = Schema.Struct({
  version: Schema.Literal(1),
  url: Schema.String,
  etag: Schema.optional(Schema.String),
  lastModified: Schema.optional(Schema.String),
  readAt: Schema.Number,
  text: Schema.String
})

const decode = Schema.decodeUnknownEither(Schema.parseJson(Copy))

/** What JSON makes of a text is longer than it. */
const room = (maxBytes: number): number => 2 * maxBytes + 64 * 1024

export const layer: Layer.Layer<never, never, CurrentSettings | FileSystem.FileSystem | Path.Path> = Layer.unwrapEffect(
  Effect.gen(function* () {
    const { registryCopies: folder } = yield* CurrentSettings
    if (folder === undefined) return Layer.empty
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const context = yield* Effect.context<FileSystem.FileSystem | Path.Path>()
    const fileOf = (url: string) => path.join(folder, `${createHash("sha256").update(url).digest("hex")}.json`)
    let told = false
    const tell = (reason: string) =>
      Effect.suspend(() => {
        if (told) return Effect.void
        told = true
        return Effect.logWarning(`Copies of registries cannot be kept in ${folder}: ${reason}`)
      })
    const setTime = (file: string, at: number) => fs.utimes(file, at / 1000, at / 1000)
    return Layer.succeed(RegistryCopies, {
      conditional: true,
      read: (url, maxBytes) =>
        Effect.gen(function* () {
          const file = fileOf(url)
          const text = yield* BoundedFile.readText(fs, file, room(maxBytes))
          const copy = decode(text)
          if (Either.isLeft(copy) || copy.right.url !== url) return undefined
          const { mtime } = yield* fs.stat(file)
          const { etag, lastModified, readAt, text: content } = copy.right
          const checkedAt = Option.match(mtime, { onNone: () => readAt, onSome: (date) => date.getTime() })
          return { text: content, etag, lastModified, readAt, checkedAt }
        }).pipe(Effect.orElseSucceed(() => undefined)),
      write: (url, { checkedAt, etag, lastModified, readAt, text }) =>
        Effect.suspend(() => {
          const file = fileOf(url)
          const content = JSON.stringify({ version: 1, url, etag, lastModified, readAt, text })
          return Effect.zipRight(replaceFile(file, content), setTime(file, checkedAt))
        }).pipe(
          Effect.catchAll((error) => tell(reasonOf(error))),
          Effect.uninterruptible,
          Effect.provide(context)
        ),
      confirm: (url, checkedAt) => Effect.ignore(setTime(fileOf(url), checkedAt))
    })
  })
)

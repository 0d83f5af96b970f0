/** Writes files whole. */
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"
import { makeFolder } from "../internal/makeFolder.js"

/** Where a file is written: a symbolic link stays one. */
export const target = Effect.fnUntraced(function* (file: string) {
  const fs = yield* FileSystem.FileSystem
  return yield* Effect.orElseSucceed(fs.realPath(file), () => file)
})

let writes = 0

/** Writes a file whole or not at all, readable only by its user: it may hold keys. */
export const replaceFile = Effect.fnUntraced(function* (file: string, text: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const real = yield* target(file)
  const temporary = `${real}.${process.pid}.${writes++}.tmp`
  yield* makeFolder(path.dirname(real), { mode: 0o700 })
  yield* fs.writeFileString(temporary, text, { mode: 0o600 }).pipe(
    Effect.zipRight(fs.chmod(temporary, 0o600)),
    Effect.zipRight(fs.rename(temporary, real)),
    Effect.onError(() => Effect.ignore(fs.remove(temporary)))
  )
})

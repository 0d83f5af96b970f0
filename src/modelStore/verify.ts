/** Checks a file that was downloaded, and sees to it that it is on the disk. */
import * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { unavailable } from "./catalogue.js"
import type { Host } from "./host.js"
import { Trouble } from "./trouble.js"

/** How much is read at once, in bytes. */
const readSize = 1024 * 1024

/** Reads a file once, where its checksum is known, and compares. `done` receives the progress, in bytes. */
export const verify = Effect.fnUntraced(function* (
  host: Host,
  path: string,
  size: number,
  sha256: string | undefined,
  done: (bytes: number) => void
) {
  const fs = yield* FileSystem.FileSystem
  const actual = yield* Effect.scoped(
    Effect.gen(function* () {
      const file = yield* fs.open(path, { flag: "r+" })
      yield* file.truncate(FileSystem.Size(size))
      yield* file.sync
      const { size: there } = yield* file.stat
      if (Number(there) !== size) return undefined
      if (sha256 === undefined) return ""
      const hash = host.sha256()
      yield* file.seek(FileSystem.Size(0), "start")
      for (let at = 0; ; ) {
        const bytes = yield* file.readAlloc(FileSystem.Size(readSize))
        if (Option.isNone(bytes)) break
        hash.update(bytes.value)
        at += bytes.value.length
        done(at)
      }
      return hash.digest()
    })
  ).pipe(Effect.mapError(unavailable))
  if (actual === undefined) {
    return yield* new Trouble({ reason: "size-mismatch", detail: `it has not ${size} bytes`, passing: false })
  }
  if (sha256 !== undefined && actual !== sha256) {
    const detail = `its checksum is ${actual}, and not ${sha256} as the hub says. It was deleted: try again`
    return yield* new Trouble({ reason: "hash-mismatch", detail, passing: false })
  }
})

/** Sees to it that the name of a file is on the disk too, where the system can do that. */
export const sync = (path: string) =>
  Effect.flatMap(FileSystem.FileSystem, (fs) =>
    Effect.ignore(
      Effect.scoped(Effect.flatMap(fs.open(path.replace(/[\\/][^\\/]*$/, ""), { flag: "r" }), (folder) => folder.sync))
    )
  )

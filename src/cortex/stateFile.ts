/**
 * Keeps what was learned of the servers in a file, for the next run.
 *
 * The file is read when the services are made, and written once a minute and at the end, where anything was learned. It
 * is replaced as a whole, so that it is never half written; what another process has learned meanwhile is kept. A file
 * that cannot be used is a warning, and replaced. The wait for the next minute does not keep a process alive.
 */
import * as FileSystem from "@effect/platform/FileSystem"
import type * as Path from "@effect/platform/Path"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { reasonOf } from "../config/file.js"
import { SavedStateWarning } from "../Errors.js"
import * as Fleet from "../Fleet.js"
import * as Background from "../internal/background.js"
import { CurrentSettings } from "../Settings.js"
import { replaceFile } from "./writeFile.js"

const interval = Duration.minutes(1)

const off = "AICORTEX_STATE names another file, and off none"

/** Larger files are none of ours. */
const maxBytes = 64 * 1024 * 1024

const warn = (warning: SavedStateWarning) => Effect.logWarning(warning.message)

/** Nothing where there is no file, or none that can be used; the latter with a warning. */
const read = Effect.fnUntraced(function* (file: string) {
  const fs = yield* FileSystem.FileSystem
  const text = Effect.gen(function* () {
    const { size } = yield* fs.stat(file)
    if (size > maxBytes) return yield* new SavedStateWarning({ source: file, reason: "it is too large" })
    return yield* fs.readFileString(file)
  })
  const found = yield* text.pipe(
    Effect.asSome,
    Effect.catchTags({
      SystemError: (error) =>
        error.reason === "NotFound"
          ? Effect.succeedNone
          : Effect.fail(new SavedStateWarning({ source: file, reason: reasonOf(error) })),
      BadArgument: (error) => Effect.fail(new SavedStateWarning({ source: file, reason: error.message }))
    })
  )
  return Option.isNone(found) ? undefined : yield* Fleet.decodeSaved(found.value, file)
})

export const layer: Layer.Layer<never, never, Fleet.Fleet | CurrentSettings | FileSystem.FileSystem | Path.Path> =
  Layer.scopedDiscard(
    Effect.gen(function* () {
      const { stateFile: file } = yield* CurrentSettings
      if (file === undefined) return
      const fleet = yield* Fleet.Fleet
      const context = yield* Effect.context<FileSystem.FileSystem | Path.Path>()
      const found = Effect.provide(read(file), context)
      const before = yield* Effect.catchAll(found, (warning) => Effect.as(warn(warning), undefined))
      if (before !== undefined) yield* fleet.restore(before)

      const learned = Effect.map(fleet.saved, (saved) => JSON.stringify([saved.servers, saved.remoteTokens]))
      let last = yield* learned
      const keep = Effect.gen(function* () {
        const now = yield* learned
        if (now === last) return
        const ours = yield* fleet.saved
        // What cannot be read is replaced.
        const theirs = yield* Effect.orElseSucceed(found, () => undefined)
        yield* replaceFile(file, Fleet.encodeSaved(theirs === undefined ? ours : Fleet.mergeSaved(ours, theirs)))
        // What other processes have counted meanwhile.
        if (theirs !== undefined) yield* fleet.restore({ ...theirs, servers: [] })
        last = yield* learned
      }).pipe(
        Effect.catchAll((error) =>
          warn(new SavedStateWarning({ source: file, reason: `it cannot be written: ${reasonOf(error)}; ${off}` }))
        ),
        Effect.uninterruptible,
        Effect.provide(context)
      )
      yield* Effect.addFinalizer(() => keep)
      // It ends with the scope, also where that was made in a part that nothing interrupts.
      yield* Effect.forkScoped(Effect.interruptible(Effect.forever(Effect.zipRight(Background.pause(interval), keep))))
    })
  )

/** The results of benchmarks, in a file beside what was learned of the servers. */
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { decodeResults, encodeResults, type Result } from "../../Benchmark.js"
import * as History from "../../benchmark/history.js"
import { reasonOf } from "../../config/file.js"
import { replaceFile } from "../../cortex/writeFile.js"
import { CurrentSettings } from "../../Settings.js"
import * as Output from "../output.js"

/** The results by model and server. */
export interface EarlierResults {
  readonly find: (result: Result) => Result | undefined
}

/** `undefined` where nothing is to be kept. */
const place = Effect.gen(function* () {
  const path = yield* Path.Path
  const { stateFile } = yield* CurrentSettings
  return stateFile === undefined ? undefined : path.join(path.dirname(stateFile), History.fileName)
})

const read = Effect.fnUntraced(function* (file: string) {
  const fs = yield* FileSystem.FileSystem
  const unusable = (reason: string) =>
    Effect.as(Output.notice(`${file} cannot be used, and is replaced: ${reason}`), [] as ReadonlyArray<Result>)
  const text = Effect.flatMap(fs.stat(file), ({ size }) =>
    size > History.maxBytes ? Effect.succeed(undefined) : fs.readFileString(file)
  )
  return yield* text.pipe(
    Effect.flatMap((text) =>
      text === undefined
        ? unusable("it is too large")
        : Either.match(decodeResults(text), { onLeft: unusable, onRight: Effect.succeed })
    ),
    Effect.catchTag("SystemError", (error) =>
      error.reason === "NotFound" ? Effect.succeed<ReadonlyArray<Result>>([]) : unusable(reasonOf(error))
    )
  )
})

/** What was found before. */
export const load = Effect.gen(function* () {
  const file = yield* place
  const results = file === undefined ? [] : yield* read(file)
  const found = History.latest(results)
  return { find: (result) => History.same(found, result) } satisfies EarlierResults
})

/** Adds results to those that are kept. */
export const save = Effect.fnUntraced(function* (results: ReadonlyArray<Result>) {
  const file = yield* place
  if (file === undefined || results.length === 0) return
  // Another process may have written meanwhile.
  const before = yield* read(file)
  yield* Effect.catchAll(replaceFile(file, encodeResults(History.added(before, results))), (error) =>
    Output.notice(`${file} cannot be written: ${reasonOf(error)}`)
  )
})

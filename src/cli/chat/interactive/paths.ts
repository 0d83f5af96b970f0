/** Completes the names of files. */
import { readdir } from "node:fs/promises"
import { dirname } from "node:path"
import * as Effect from "effect/Effect"
import { pathOf } from "./transcript.js"

/** The files and folders whose names begin so. */
export const complete = (begun: string): Effect.Effect<ReadonlyArray<string>> => {
  const folder = begun.slice(0, begun.lastIndexOf("/") + 1)
  const name = begun.slice(folder.length)
  const from = folder === "" ? "." : dirname(`${pathOf(folder)}x`)
  return Effect.orElseSucceed(
    Effect.map(
      Effect.tryPromise(() => readdir(from, { withFileTypes: true })),
      (entries) =>
        entries
          .filter((entry) => entry.name.startsWith(name) && (name !== "" || !entry.name.startsWith(".")))
          .map((entry) => `${folder}${entry.name}${entry.isDirectory() ? "/" : ""}`)
          .sort()
    ),
    () => []
  )
}

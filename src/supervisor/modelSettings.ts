/** How models are started where a request does not say: in a file, by name. */
import { readFileSync, renameSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { ModelStoreUnavailable } from "../Errors.js"
import { decodeStartOptions, type StartOptions } from "../LocalModels.js"
import { canonical } from "../Model.js"

/** A file of another form says nothing. */
const read = (file: string): Map<string, StartOptions> => {
  const all = new Map<string, StartOptions>()
  try {
    const value: unknown = JSON.parse(readFileSync(file, "utf8"))
    if (typeof value !== "object" || value === null) return all
    for (const [name, options] of Object.entries(value)) {
      if (Either.isRight(decodeStartOptions(options))) all.set(name, options)
    }
  } catch {
    // Nothing was set yet.
  }
  return all
}

/** The settings in a folder. */
export const make = (folder: string) => {
  const file = join(folder, "models.json")
  const all = read(file)
  const write = Effect.try({
    try: () => {
      writeFileSync(`${file}.tmp`, JSON.stringify(Object.fromEntries(all)), { mode: 0o600 })
      renameSync(`${file}.tmp`, file)
    },
    catch: (cause) => new ModelStoreUnavailable({ reason: `${file} cannot be written: ${String(cause)}` })
  })
  return {
    /** Those of a model. */
    of: (model: string): StartOptions => all.get(canonical(model)) ?? {},
    /** Changes some; `null` is the default again. Returns all that hold. */
    change: (model: string, changes: { readonly [name: string]: unknown }) =>
      Effect.gen(function* () {
        const merged = { ...all.get(canonical(model)), ...changes }
        const kept = Object.fromEntries(Object.entries(merged).filter(([, value]) => value !== null))
        yield* decodeStartOptions(kept)
        all.set(canonical(model), kept)
        yield* write
        return kept
      }),
    /** Forgets those of a model. */
    forget: (model: string) => (all.delete(canonical(model)) ? write : Effect.void)
  }
}

export type ModelSettings = ReturnType<typeof make>

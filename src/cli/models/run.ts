/** Runs `aicortex models`. */
import type * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import { Registry } from "../../Registry.js"
import { CommandFailed, refused } from "../errors.js"
import * as Fleet from "../knownLayer.js"
import { reached } from "../manage/servers.js"
import * as Output from "../output.js"
import * as Table from "../table.js"
import type { options } from "./flags.js"

const list = Effect.fnUntraced(function* (json: boolean) {
  const registry = yield* Registry
  const families = yield* Effect.forEach(yield* registry.families, (family) =>
    Effect.map(registry.models({ family }), (models) => ({ family, models: models.length }))
  )
  yield* json
    ? Output.writeJson(families)
    : Output.write(
        Table.table(
          ["Family", "Models"],
          families.map(({ family, models }) => [family, String(models)])
        )
      )
})

const find = Effect.fnUntraced(function* (flags: Command.Command.ParseConfig<typeof options>) {
  const registry = yield* Registry
  const { json, search, ...filters } = flags
  const family = filters.family?.trim().toLowerCase()
  const families = yield* registry.families
  if (family !== undefined && !families.includes(family)) {
    return yield* new CommandFailed({
      message: `there is no family '${filters.family}'; there are ${families.join(", ")}`
    })
  }
  const sized = filters.minParams ?? filters.maxParams ?? filters.generation
  const names = yield* search === undefined && sized === undefined
    ? registry.models({ family, available: filters.available })
    : Effect.mapError(registry.searchModels(search ?? "", filters), (error) => refused("models", error))
  if (filters.available && names.length === 0) yield* reached(yield* registry.servers)
  if (json) return yield* Output.writeJson(names)
  if (names.length === 0) return yield* Output.notice("no model fits")
  yield* Output.writeLine(names.map((name) => `${name}\n`).join(""))
})

export const run = (flags: Command.Command.ParseConfig<typeof options>) => {
  const { json, ...filters } = flags
  const some = Object.values(filters).some((value) => value !== undefined && value !== false)
  return Effect.provide(some ? find(flags) : list(json), Fleet.layer)
}

/** Runs `aicortex engines`. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as EngineSystem from "../../cortex/engineSystem.js"
import * as Engines from "../../Engines.js"
import * as Output from "../output.js"
import * as Table from "../table.js"

export const run = Effect.fnUntraced(
  function* ({ json }: { readonly json: boolean }) {
    const { list } = yield* Engines.Engines
    const engines = yield* list
    if (json) {
      return yield* Output.writeJson(
        engines.map(({ about, install, name, program, reason }) => ({
          engine: name,
          about,
          installed: program !== undefined,
          program: program?.split("\0").join(" ") ?? null,
          missing: reason ?? null,
          install: install ?? null
        }))
      )
    }
    yield* Output.write(
      Table.table(
        ["Engine", "Installed", "What it is"],
        engines.map(({ about, name, program }) => [name, program === undefined ? "no" : "yes", about]),
        "What it is"
      )
    )
    for (const { install = "", name, program, reason = "" } of engines) {
      if (program === undefined) yield* Output.notice(`${name}: ${reason}. ${install}`)
    }
  },
  Effect.provide(Layer.provide(Engines.layer, EngineSystem.layer))
)

/** Runs `aicortex status`. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { Engine } from "../../LocalModels.js"
import * as Client from "../../supervisor/client.js"
import * as Units from "../manage/units.js"
import * as Output from "../output.js"
import * as Table from "../table.js"
import { baseUrl } from "./names.js"

/** What people want to know of an engine; `-` is unknown. */
export const cellsOf = (engine: Engine, now: number): ReadonlyArray<string> => [
  engine.model,
  engine.state,
  engine.engine ?? "-",
  engine.memory === null ? "-" : Units.bytes(engine.memory),
  engine.readyAt === null ? "-" : Units.seconds((now - engine.readyAt) / 1000),
  engine.tokensPerSecond === null ? "-" : engine.tokensPerSecond.toFixed(1),
  engine.state === "stopped" ? "-" : engine.url
]

export const head = ["Model", "State", "Engine", "Memory", "Uptime", "Tokens/s", "Address"] as const

export const run = Effect.fnUntraced(function* ({ json }: { readonly json: boolean }) {
  const { status } = yield* Client.client
  const found = yield* Effect.either(status)
  if (found._tag === "Left") {
    if (found.left.reason !== "no supervisor runs") return yield* found.left
    return yield* json ? Output.writeJson({ running: false }) : Output.notice("no model runs, and nothing holds any")
  }
  const { models, pid, startedAt, url } = found.right
  if (json) return yield* Output.writeJson({ running: true, ...found.right })
  const now = yield* Clock.currentTimeMillis
  yield* Output.write(`${baseUrl({ url })}  process ${pid}, since ${Units.seconds((now - startedAt) / 1000)}\n`)
  const engines = models.flatMap(({ engines }) => engines)
  if (engines.length === 0) return
  yield* Output.write(
    `\n${Table.table(
      [...head],
      engines.map((engine) => cellsOf(engine, now))
    )}`
  )
  for (const { model, problem } of engines) if (problem !== null) yield* Output.notice(`${model}: ${problem}`)
})

/** Runs `aicortex stop`. */
import * as Effect from "effect/Effect"
import * as Client from "../../supervisor/client.js"
import { CommandFailed, UsageError } from "../errors.js"
import * as Output from "../output.js"
import { nameOf } from "./names.js"

export interface Flags {
  readonly models: ReadonlyArray<string>
  readonly all: boolean
  readonly json: boolean
}

export const run = Effect.fnUntraced(function* ({ all, json, models }: Flags) {
  const [model] = models
  if (model !== undefined && all) {
    return yield* new UsageError({ message: "give either MODEL or --all", command: ["stop"] })
  }
  if (model === undefined) {
    const stopped = yield* Client.shutdown
    return yield* json
      ? Output.writeJson({ stopped })
      : Output.notice(stopped ? "all models are stopped" : "no model runs")
  }
  const { status, stop } = yield* Client.client
  const known = yield* Effect.orElseSucceed(status, () => undefined)
  const name = known?.models.some((one) => one.name === model) === true ? model : nameOf(model)
  const stopped = known === undefined ? false : yield* stop(name)
  if (!stopped) {
    const running = known?.models.filter(({ engines }) => engines.some(({ state }) => state !== "stopped")) ?? []
    const others =
      running.length === 0
        ? "none does"
        : `${running.map(({ name }) => name).join(", ")} ${running.length === 1 ? "does" : "do"}`
    return yield* new CommandFailed({ message: `the model '${name}' does not run on this machine: ${others}` })
  }
  return yield* json ? Output.writeJson({ stopped, model: name }) : Output.notice(`${name} is stopped`)
})

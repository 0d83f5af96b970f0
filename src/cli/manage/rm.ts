/** Runs `aicortex rm`. */
import * as Effect from "effect/Effect"
import { canonical } from "../../Model.js"
import { remove } from "../../management/models.js"
import { withModel } from "../../management/targets.js"
import { Registry } from "../../Registry.js"
import { Transport } from "../../Transport.js"
import { UsageError } from "../errors.js"
import * as Fleet from "../fleetLayer.js"
import * as Output from "../output.js"
import * as Engines from "./engines.js"
import * as Local from "./local.js"
import * as Servers from "./servers.js"

const what = "delete models"

interface Flags {
  readonly model: string
  readonly server: ReadonlyArray<string>
  readonly all: boolean
  readonly json: boolean
}

/** The servers to delete it from: the only one that has it, or the named ones. */
const targets = Effect.fnUntraced(function* (model: string, { all, server }: Flags) {
  const registry = yield* Registry
  const chosen = yield* Servers.chosen(yield* Servers.servers, server)
  const able = yield* Servers.able(chosen, what)
  // Servers that have the model but no way to delete it would keep answering with it.
  const left = withModel(chosen, model).filter(({ ollama, reachable }) => reachable && !ollama)
  const have = withModel(able, model)
  if (have.length === 0) {
    return left.length > 0 ? yield* Servers.noneCan(left, what) : yield* registry.missing(model)
  }
  if (have.length > 1 && !all && server.length === 0) {
    const urls = have.map(({ url }) => url).join(", ")
    const message = `${have.length} servers have '${model}' (${urls}): say --server URL, or --all`
    return yield* new UsageError({ message, command: ["rm"] })
  }
  // Named servers must succeed; for others a notice says that they may still have it.
  const silent = chosen.filter(({ ollama, reachable }) => !reachable || (server.length > 0 && !ollama))
  const failed: Array<Servers.Outcome> = []
  for (const one of new Set([...left, ...silent])) {
    const message = Servers.unable(one, what)
    if (server.length === 0) yield* Output.notice(`${one.url} ${message}`)
    else failed.push({ server: one.url, status: "failed", message })
  }
  return { chosen: server.length === 0 ? have : able, failed }
})

export const run = (flags: Flags) =>
  Effect.gen(function* () {
    yield* Servers.exclusive("rm", flags.server, flags.all)
    const transport = yield* Transport
    if (flags.server.length === 0 && !flags.all && (yield* Engines.released(flags.model, Local.remove(flags.model)))) {
      const outcome = { server: Local.thisMachine, status: "done" }
      return flags.json
        ? yield* Output.writeJson({ model: flags.model, servers: [outcome] })
        : yield* Output.write(`Deleted ${flags.model} from ${Local.thisMachine}.\n`)
    }
    const model = yield* Servers.modelName("rm", flags.model)
    const { chosen, failed } = yield* targets(model, flags)
    const deleted = yield* Effect.forEach(
      chosen,
      ({ models, server, url }) => {
        const name = models.find((one) => canonical(one) === canonical(model)) ?? model
        return Effect.match(
          Servers.request(() => remove(transport, server, name)),
          {
            onSuccess: (): Servers.Outcome => ({ server: url, status: "done" }),
            onFailure: ({ message }): Servers.Outcome => ({ server: url, status: "failed", message })
          }
        )
      },
      { concurrency: "unbounded" }
    )
    const outcomes = [...deleted, ...failed]
    if (flags.json) yield* Output.writeJson({ model, servers: outcomes })
    const done = outcomes.filter(({ status }) => status === "done").map(({ server }) => server)
    if (!flags.json && done.length > 0) yield* Output.write(`Deleted ${model} from ${done.join(", ")}.\n`)
    yield* Servers.settled(outcomes, "it is deleted from", `${model} could not be deleted`)
  }).pipe(Effect.provide(Fleet.layer))

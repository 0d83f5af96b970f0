/** Runs `aicortex pull`. */
import * as Effect from "effect/Effect"
import { ModelStore } from "../../ModelStore.js"
import { follow } from "../../management/models.js"
import { mostRoom, withModel } from "../../management/targets.js"
import { CurrentSettings } from "../../Settings.js"
import { Transport } from "../../Transport.js"
import { UsageError } from "../errors.js"
import * as Fleet from "../fleetLayer.js"
import * as Output from "../output.js"
import * as Local from "./local.js"
import { Progress } from "./progress.js"
import * as Servers from "./servers.js"

const what = "download models"

interface Flags {
  readonly model: string
  readonly server: ReadonlyArray<string>
  readonly all: boolean
  readonly json: boolean
  readonly name: string | undefined
  readonly copy: boolean
  readonly list: boolean
}

/** The servers to download to, and the results of named servers that cannot. */
const targets = Effect.fnUntraced(function* (model: string, { all, server }: Flags) {
  const transport = yield* Transport
  const candidates = yield* Servers.chosen(yield* Servers.servers, server)
  const able = yield* Servers.able(candidates, what)
  if (server.length === 0 && !all) {
    const have = withModel(able, model)
    const chosen = have.length > 0 ? have : [yield* Effect.promise(() => mostRoom(transport, able))]
    return { chosen, failed: [] }
  }
  const failed: Array<Servers.Outcome> = []
  for (const one of candidates) {
    if (one.ollama) continue
    // With --all, a server that cannot pull is not a failure, but one that is down is.
    if (all && one.reachable) yield* Output.notice(`${one.url} ${Servers.unable(one, what)}`)
    else failed.push({ server: one.url, status: "failed", message: Servers.unable(one, what) })
  }
  return { chosen: able, failed }
})

/** Ollama's error does not say which side is at fault. */
const explained = (message: string, model: string): string =>
  /manifest: file does not exist/.test(message)
    ? `${message} (where this server downloads from, there is no model '${model}')`
    : message

export const run = (flags: Flags) =>
  Effect.gen(function* () {
    yield* Servers.exclusive("pull", flags.server, flags.all)
    const toServers = flags.server.length > 0 || flags.all
    if (!toServers && !(yield* CurrentSettings).aliases.has(flags.model)) {
      const store = yield* ModelStore
      const reference = yield* store.parse(flags.model)
      if (reference.kind !== "ollama") return yield* Local.pull(reference, flags)
    }
    for (const flag of ["name", "copy", "list"] as const) {
      if (flags[flag] === undefined || flags[flag] === false) continue
      const why = toServers ? "with --server or --all" : `with '${flags.model}', which Ollama's servers download`
      const message = `--${flag} is for models of this machine, and cannot be used ${why}`
      return yield* new UsageError({ message, command: ["pull"] })
    }
    const transport = yield* Transport
    const model = yield* Servers.modelName("pull", flags.model)
    const { chosen, failed } = yield* targets(model, flags)
    const progress = new Progress(chosen.map(({ url }) => url))
    const ended = new Map<string, Servers.Outcome>()
    const download = ({ server, url }: Servers.ManagedServer) =>
      Servers.request((stop) =>
        follow(transport, server, {
          path: "/api/pull",
          body: { model },
          stop,
          progress: (line) => progress.tell(url, line)
        })
      ).pipe(
        Effect.match({
          onSuccess: (): Servers.Outcome => ({ server: url, status: "done" }),
          onFailure: ({ message }): Servers.Outcome => ({
            server: url,
            status: "failed",
            message: explained(message, model)
          })
        }),
        Effect.tap((outcome) =>
          Effect.sync(() => {
            ended.set(url, outcome)
            progress.end(url, outcome.status)
          })
        )
      )
    const whatIsLeft = Effect.suspend(() => {
      progress.close()
      const left = chosen.filter(({ url }) => !ended.has(url))
      const lines = chosen.map(({ url }) => {
        const outcome = ended.get(url)
        return `\n  - ${url}: ${outcome === undefined ? `stopped at ${progress.describe(url)}` : (outcome.message ?? "done")}`
      })
      const again = left.map(({ url }) => ` --server ${url}`).join("")
      return left.length === 0
        ? Effect.void
        : Output.notice(
            `stopped before ${model} was there:${lines.join("")}\n  What was downloaded is kept: \`aicortex pull ${model}${again}\` goes on.`
          )
    })
    const outcomes = [
      ...(yield* Effect.onInterrupt(Effect.forEach(chosen, download, { concurrency: "unbounded" }), () => whatIsLeft)),
      ...failed
    ]
    if (flags.json) yield* Output.writeJson({ model, servers: outcomes })
    const done = outcomes.filter(({ status }) => status === "done").map(({ server }) => server)
    if (!flags.json && done.length > 0) yield* Output.write(`${model} is on ${done.join(", ")}.\n`)
    yield* Servers.settled(outcomes, "it is on", `${model} could not be downloaded`)
  }).pipe(Effect.provide(Fleet.layer))

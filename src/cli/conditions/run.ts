/** Runs `aicortex conditions`. */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Conditions from "../../Conditions.js"
import { amountOf } from "../../fleet/remoteLimit.js"
import { isLocal } from "../../Server.js"
import { CurrentSettings } from "../../Settings.js"
import * as Fleet from "../fleetLayer.js"
import * as Output from "../output.js"
import * as Table from "../table.js"

const percent = (value: number | undefined): string => (value === undefined ? "unknown" : `${Math.round(value)} %`)

const milliseconds = (value: number | undefined): string => (value === undefined ? "-" : `${Math.round(value)} ms`)

const machine = (resources: Conditions.Resources | undefined): string => {
  if (resources === undefined) return "This machine: not read yet\n"
  const { cpu, gpu, load, memory, reason, state } = resources
  const values = [
    `CPU ${percent(cpu)}`,
    `memory ${percent(memory)}`,
    `load ${load === undefined ? "unknown" : `${load.toFixed(2)} per core`}`,
    `GPU ${percent(gpu)}`
  ]
  return `This machine: ${state}${reason === "" ? "" : ` (${reason})`}\n  ${values.join(", ")}\n`
}

const lineRow = ({ latency, loss, reason, server, state, throughput }: Conditions.Line) => [
  server,
  state,
  milliseconds(latency),
  percent(loss),
  throughput === undefined ? "unknown" : `${throughput.toFixed(1)} Mbps`,
  reason === "" ? "-" : reason
]

/** Days are those of UTC. */
const tokensOf = (tokens: Conditions.Snapshot["remoteTokens"]): string => {
  if (tokens === undefined) return ""
  const { limit, resetsAt, used } = tokens
  const ceiling = limit === undefined ? "no ceiling" : `ceiling ${limit}${used >= limit ? ", REACHED" : ""}`
  return `Tokens of remote servers today: ${used} (${ceiling}; counted until ${new Date(resetsAt).toISOString()})\n`
}

const periods = [
  ["day", "today"],
  ["month", "this month"]
] as const

const costsOf = (costs: Conditions.Snapshot["remoteCosts"]): string =>
  costs === undefined
    ? ""
    : periods
        .map(([period, words]) => {
          const { limit, resetsAt, spent } = costs[period]
          const ceiling =
            limit === undefined
              ? "no budget"
              : `budget ${amountOf(limit, costs.currency)}${spent >= limit ? ", REACHED" : ""}`
          const until = new Date(resetsAt).toISOString()
          return `Cost of remote servers ${words}: ${amountOf(spent, costs.currency)} (${ceiling}; counted until ${until})\n`
        })
        .join("")

const textOf = ({ lines, remoteCosts, remoteTokens, resources }: Conditions.Snapshot, remote: number): string => {
  const tokens = tokensOf(remoteTokens) + costsOf(remoteCosts)
  const wait = remote > lines.length ? "The lines to remote servers: not checked yet\n" : ""
  const none = remote === 0 ? "No server is remote.\n" : wait
  return lines.length === 0
    ? `${machine(resources)}${none}${tokens}`
    : `${machine(resources)}${Table.table(["Remote server", "State", "Round trip", "Loss", "Throughput", "Why"], lines.map(lineRow), "Why")}${wait}${tokens}`
}

/** `null` is what is not known. Times in ISO 8601. */
const jsonOf = ({ lines, remoteCosts, remoteTokens, resources }: Conditions.Snapshot) => ({
  resources:
    resources === undefined
      ? null
      : {
          state: resources.state,
          reason: resources.reason,
          cpu: resources.cpu ?? null,
          memory: resources.memory ?? null,
          load: resources.load ?? null,
          gpu: resources.gpu ?? null,
          at: new Date(resources.at).toISOString()
        },
  lines: lines.map(({ at, latency, loss, reason, server, state, throughput }) => ({
    server,
    state,
    reason,
    latency: latency ?? null,
    loss,
    throughput: throughput ?? null,
    at: new Date(at).toISOString()
  })),
  remoteTokens:
    remoteTokens === undefined
      ? null
      : {
          used: remoteTokens.used,
          limit: remoteTokens.limit ?? null,
          resetsAt: new Date(remoteTokens.resetsAt).toISOString()
        },
  remoteCosts:
    remoteCosts === undefined
      ? null
      : {
          currency: remoteCosts.currency,
          ...Object.fromEntries(
            periods.map(([period]) => {
              const { limit, resetsAt, spent } = remoteCosts[period]
              return [period, { spent, limit: limit ?? null, resetsAt: new Date(resetsAt).toISOString() }]
            })
          )
        }
})

/** Everything but the figures: off a terminal, only a change of these is worth one. */
const statesOf = ({ lines, remoteCosts, remoteTokens, resources }: Conditions.Snapshot): string =>
  [
    resources?.state,
    ...periods.map(
      ([period]) => (remoteCosts?.[period].spent ?? 0) >= (remoteCosts?.[period].limit ?? Number.POSITIVE_INFINITY)
    ),
    remoteTokens?.limit !== undefined && remoteTokens.used >= remoteTokens.limit,
    ...lines.map(({ server, state }) => `${server} ${state}`)
  ].join(" ")

const follow = (json: boolean, remote: number) =>
  Effect.suspend(() => {
    const redraws = !json && Output.isTerminal(process.stdout)
    let drawn = 0
    let before = ""
    return Stream.runForEach(Conditions.changes, (snapshot) => {
      if (json) return Output.writeLine(`${JSON.stringify(jsonOf(snapshot))}\n`)
      const text = textOf(snapshot, remote)
      if (redraws) {
        const back = drawn === 0 ? "" : `\x1b[${drawn}A\x1b[J`
        drawn = text.split("\n").length - 1
        return Output.write(`${back}${text}`)
      }
      const states = statesOf(snapshot)
      if (states === before) return Effect.void
      before = states
      return Output.write(text)
    })
  })

export const run = (watch: boolean, json: boolean) =>
  Effect.gen(function* () {
    const { servers } = yield* CurrentSettings
    const remote = servers.filter((server) => !server.implicit && !isLocal(server)).length
    if (watch) return yield* follow(json, remote)
    const snapshot = yield* Conditions.snapshot
    yield* json ? Output.writeJson(jsonOf(snapshot)) : Output.write(textOf(snapshot, remote))
  }).pipe(Effect.provide(Fleet.layer))

/** What `aicortex servers` lists. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Live from "../../Fleet.js"
import { measure } from "../../management/models.js"
import { Registry } from "../../Registry.js"
import type { ServerInfo } from "../../Server.js"
import { Transport } from "../../Transport.js"
import { addServer } from "../errors.js"
import * as Fleet from "../fleetLayer.js"
import * as Servers from "../manage/servers.js"
import * as Output from "../output.js"
import * as Table from "../table.js"

/** Registries contain all kinds of speeds: anything but a number counts as unknown. */
const speed = (value: unknown): string => (typeof value === "number" && Number.isFinite(value) ? value.toFixed(1) : "-")

const isLoaded = ({ residentUntil = 0 }: Live.Snapshot, now: number): boolean =>
  residentUntil > now && Number.isFinite(residentUntil)

/** Whether its breaker is open, and whether it has the model loaded, as far as known. */
const state = (snapshot: Live.Snapshot, now: number): string => {
  const { breaker, restsUntil } = snapshot
  if (breaker === "open") return `rests for ${Math.ceil((restsUntil - now) / 1_000)} s`
  return breaker === "half-open" ? "has rested" : isLoaded(snapshot, now) ? "loaded" : "-"
}

const row = ({ location, tokens_per_second, url }: ServerInfo, snapshot: Live.Snapshot, now: number) => [
  url,
  location.city ?? "-",
  location.country ?? "-",
  speed(tokens_per_second),
  snapshot.firstTokenTime === undefined ? "-" : `${Math.round(snapshot.firstTokenTime)} ms`,
  state(snapshot, now)
]

/** What was learned in this run and earlier ones; durations in milliseconds, times in ISO 8601. */
const learned = (snapshot: Live.Snapshot, now: number) => {
  const { breaker, firstTokenTime, places, promptTokensPerSecond, restsUntil, roundTrip } = snapshot
  return {
    breaker,
    rests_until: breaker === "open" ? new Date(restsUntil).toISOString() : null,
    loaded: isLoaded(snapshot, now),
    first_token_time: firstTokenTime ?? null,
    prompt_tokens_per_second: promptTokensPerSecond ?? null,
    round_trip: roundTrip ?? null,
    places: places !== undefined && Number.isFinite(places) ? places : null
  }
}

/** The servers of a model. */
export const listOf = (model: string, json: boolean) =>
  Effect.gen(function* () {
    const registry = yield* Registry
    const servers = yield* registry.listModelServers(model)
    if (servers.length === 0) return yield* registry.missing(model)
    const fleet = yield* Live.Fleet
    const now = yield* Clock.currentTimeMillis
    // Each server has its own name for it.
    const hosts = yield* Effect.orElseSucceed(registry.locate(model), () => [])
    const known = servers.map((info) => {
      const name = hosts.find(({ server }) => server.url === info.url)?.model ?? model
      return { info, snapshot: fleet.snapshot(info.url, name) }
    })
    if (json) {
      return yield* Output.writeJson(known.map(({ info, snapshot }) => ({ ...info, learned: learned(snapshot, now) })))
    }
    yield* Output.write(
      Table.table(
        ["URL", "City", "Country", "TPS", "First token", "State"],
        known.map(({ info, snapshot }) => row(info, snapshot, now))
      )
    )
  }).pipe(Effect.provide(Fleet.layer))

/** For how long calls avoid a server for its models, in milliseconds. */
const resting = (snapshots: ReadonlyArray<Live.Snapshot>, now: number): number =>
  snapshots.reduce((most, { breaker, restsUntil }) => Math.max(most, breaker === "open" ? restsUntil - now : 0), 0)

const stateOf = (reachable: boolean, rests: number) => (!reachable ? "down" : rests > 0 ? "resting" : "up")

const colours = { up: Output.green, resting: Output.yellow, down: Output.red }

/** The user's servers, each asked now. */
export const listAll = (json: boolean) =>
  Effect.gen(function* () {
    const registry = yield* Registry
    const transport = yield* Transport
    const fleet = yield* Live.Fleet
    const statuses = yield* registry.servers
    if (statuses.length === 0) {
      return json ? yield* Output.writeJson([]) : yield* Output.notice(`no server is known; add one with ${addServer}`)
    }
    const managed = yield* Servers.servers
    const now = yield* Clock.currentTimeMillis
    const all = yield* Effect.forEach(
      statuses,
      (status) => {
        const one = managed.find(({ own, url }) => own && url === status.url)
        const snapshots = status.models.map((model) => fleet.snapshot(status.url, model))
        const rests = resting(snapshots, now)
        const known = {
          status,
          rests,
          state: stateOf(status.reachable, rests),
          loaded: status.models.filter((_, i) => snapshots[i] !== undefined && isLoaded(snapshots[i], now))
        } as const
        // What only registry files name is asked for its list alone.
        return one?.reachable !== true
          ? Effect.succeed({ ...known, latency: undefined, version: undefined })
          : Effect.map(
              Effect.promise(() => measure(transport, one)),
              (measured) => ({ ...known, ...measured })
            )
      },
      { concurrency: 32 }
    )
    if (json) {
      return yield* Output.writeJson(
        all.map(({ latency, state, status, version }) => ({
          ...status,
          state,
          latency: latency === undefined ? null : Math.round(latency * 10) / 10,
          version: version ?? null
        }))
      )
    }
    const rows = all.map(({ latency, loaded, rests, status, version }) => {
      const { api, headers, models, problem, protocol, reachable, url } = status
      return [
        url,
        protocol ?? "-",
        version ?? "-",
        latency === undefined ? "-" : `${Math.max(1, Math.round(latency))} ms`,
        reachable ? String(models.length) : "-",
        loaded.join(", ") || "-",
        [
          reachable ? "reachable" : (problem ?? "cannot be reached"),
          ...(rests > 0 ? [`rests for ${Math.ceil(rests / 1_000)} s`] : []),
          ...(reachable && api !== undefined ? [`at ${api}`] : []),
          ...(headers === undefined ? [] : [`with ${headers.join(", ")}`])
        ].join(" ")
      ]
    })
    yield* Output.write(
      Table.table(["URL", "Protocol", "Version", "Latency", "Models", "Loaded", "Status"], rows, "Status", {
        Status: (text, row) => colours[all[row]?.state ?? "up"](text, process.stdout)
      })
    )
  }).pipe(Effect.provide(Fleet.layer))

/** What `aicortex servers` lists. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as Live from "../../Fleet.js"
import { measure } from "../../management/models.js"
import { Registry, type ServerStatus } from "../../Registry.js"
import type { ServerInfo } from "../../Server.js"
import { CurrentSettings } from "../../Settings.js"
import { Transport } from "../../Transport.js"
import { addServer } from "../errors.js"
import * as Fleet from "../knownLayer.js"
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

const head = ["URL", "Protocol", "Version", "Latency", "Models", "Loaded", "Status"]

/** How wide columns are at least when rows are printed one after another. */
const columns = [0, 9, 8, 7, 6, 12, 0]

/** A listing that takes longer than this, in milliseconds, is printed row by row on a terminal. */
const tableWithin = 1_000

interface Listed {
  readonly status: ServerStatus
  readonly rests: number
  readonly state: keyof typeof colours
  readonly loaded: ReadonlyArray<string>
  readonly latency: number | undefined
  readonly version: string | undefined
}

const cells = ({ latency, loaded, rests, status, version }: Listed): ReadonlyArray<string> => {
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
}

const coloured = (one: Listed | undefined) => (text: string) => colours[one?.state ?? "up"](text, process.stdout)

const asJson = ({ latency, state, status: { checkedAt, ...status }, version }: Listed) => ({
  ...status,
  checked_at: checkedAt === undefined ? null : new Date(checkedAt).toISOString(),
  state,
  latency: latency === undefined ? null : Math.round(latency * 10) / 10,
  version: version ?? null
})

/** Prints rows as they come, once the listing has taken long enough. */
const makeRows = (urls: Iterable<string>) => {
  const widths = columns.map((least, i) => Math.max(least, head[i]?.length ?? 0))
  for (const url of urls) widths[0] = Math.max(widths[0] ?? 0, url.length)
  const line = (one: Listed) => Table.line(cells(one), widths, { Status: coloured(one) }, head)
  let held: Array<Listed> | undefined = []
  return {
    add: (one: Listed) =>
      Effect.suspend(() => {
        if (held === undefined) return Output.write(line(one))
        held.push(one)
        return Effect.void
      }),
    begin: Effect.suspend(() => {
      const rows = held ?? []
      held = undefined
      return Output.write(
        `${Output.bold(Table.line(head, widths).trimEnd(), process.stdout)}\n${rows.map(line).join("")}`
      )
    }),
    hasBegun: () => held === undefined
  }
}

/** The user's servers, each asked now. */
export const listAll = (json: boolean) =>
  Effect.gen(function* () {
    const registry = yield* Registry
    const transport = yield* Transport
    const fleet = yield* Live.Fleet
    const { servers } = yield* CurrentSettings
    const managed = yield* Servers.managed
    const now = yield* Clock.currentTimeMillis
    const listed = registry.serverStream.pipe(
      Stream.mapEffect(
        (status) => {
          const one = managed(status)
          const snapshots = status.models.map((model) => fleet.snapshot(status.url, model))
          const rests = resting(snapshots, now)
          const known = {
            status,
            rests,
            state: stateOf(status.reachable, rests),
            loaded: status.models.filter((_, i) => snapshots[i] !== undefined && isLoaded(snapshots[i], now))
          } as const
          // What only registry files name is asked for its list alone.
          const measured =
            one.own && one.reachable
              ? Effect.promise(() => measure(transport, one))
              : Effect.succeed({ latency: undefined, version: undefined })
          return Effect.map(measured, (measured): Listed => ({ ...known, ...measured }))
        },
        { concurrency: 20, unordered: true }
      )
    )
    const rows = makeRows(servers.map(({ url }) => url))
    const isLive = !json && Output.isTerminal(process.stdout)
    const timer = isLive ? yield* Effect.fork(Effect.delay(rows.begin, tableWithin)) : undefined
    const all: Array<Listed> = []
    yield* Stream.runForEach(listed, (one) => {
      all.push(one)
      return isLive ? rows.add(one) : Effect.void
    })
    if (timer !== undefined) yield* rows.hasBegun() ? Fiber.join(timer) : Fiber.interrupt(timer)
    if (rows.hasBegun()) return
    if (all.length === 0) {
      return json ? yield* Output.writeJson([]) : yield* Output.notice(`no server is known; add one with ${addServer}`)
    }
    const places = new Map(servers.map(({ url }, i) => [url, i]))
    const place = ({ status }: Listed) => places.get(status.url) ?? servers.length
    all.sort((a, b) => place(a) - place(b) || (a.status.url < b.status.url ? -1 : 1))
    if (json) return yield* Output.writeJson(all.map(asJson))
    yield* Output.write(
      Table.table(head, all.map(cells), "Status", { Status: (text, row) => coloured(all[row])(text) })
    )
  }).pipe(Effect.provide(Fleet.layer))

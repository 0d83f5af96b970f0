/** Runs `aicortex ps`. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { Engine } from "../../LocalModels.js"
import { type Fields, listAll } from "../../management/models.js"
import { Transport } from "../../Transport.js"
import { CommandFailed } from "../errors.js"
import * as Fleet from "../knownLayer.js"
import * as Output from "../output.js"
import * as Table from "../table.js"
import * as Engines from "./engines.js"
import * as Servers from "./servers.js"
import * as Units from "./units.js"

const what = "tell what is loaded"

/** Ollama reports a later expiry, in milliseconds from now, for models that stay loaded. */
const forever = 10 * 365 * 86_400_000

/** A loaded model; sizes in bytes, the context in tokens. */
interface Loaded {
  readonly model: string
  readonly server: string
  readonly size: number | null
  /** The part in GPU memory. */
  readonly size_vram: number | null
  readonly context_length: number | null
  /** ISO 8601; `null` if it stays. */
  readonly expires_at: string | null
  /** Of an engine of this machine: its program, since when it answers (ISO 8601), and how fast it writes. */
  readonly engine?: string | null
  readonly state?: string
  readonly started_at?: string | null
  readonly tokens_per_second?: number | null
  /** Why it does not run, if it should. */
  readonly problem?: string | null
}

const fromEngine = (engine: Engine): Loaded => ({
  model: engine.model,
  server: engine.url,
  size: engine.memory,
  size_vram: null,
  context_length: null,
  expires_at: null,
  engine: engine.engine,
  state: engine.state,
  started_at: engine.readyAt === null ? null : new Date(engine.readyAt).toISOString(),
  tokens_per_second: engine.tokensPerSecond,
  problem: engine.problem
})

const loadedOf = (server: string, item: Fields, now: number): ReadonlyArray<Loaded> => {
  const model = Units.textOf(item["name"] ?? item["model"])
  if (model === undefined) return []
  const until = Date.parse(String(item["expires_at"]))
  return [
    {
      model,
      server,
      size: Units.numberOf(item["size"]) ?? null,
      size_vram: Units.numberOf(item["size_vram"]) ?? null,
      context_length: Units.numberOf(item["context_length"]) ?? null,
      expires_at: Number.isNaN(until) || until > now + forever ? null : new Date(until).toISOString()
    }
  ]
}

/** Where the model runs: layers that do not fit into GPU memory run on the CPU. */
const processor = ({ size, size_vram: vram }: Loaded): string => {
  if (size === null || vram === null || size <= 0) return "-"
  const share = Math.round((100 * Math.min(vram, size)) / size)
  return share === 0 ? "CPU" : share === 100 ? "GPU" : `${share}% GPU, ${100 - share}% CPU`
}

const untilWhen = ({ expires_at: until }: Loaded, now: number): string => {
  if (until === null) return "it is unloaded"
  const left = Date.parse(until) - now
  return left <= 0 ? "stopping" : `in ${Units.seconds(left / 1000)}`
}

/** Columns that only engines of this machine fill. */
const more = ["Uptime", "Tokens/s"]

const moreOf = ({ started_at: since, tokens_per_second: speed }: Loaded, now: number): ReadonlyArray<string> => [
  typeof since === "string" ? Units.seconds((now - Date.parse(since)) / 1000) : "-",
  typeof speed === "number" ? speed.toFixed(1) : "-"
]

export const run = ({ json, server }: { readonly json: boolean; readonly server: ReadonlyArray<string> }) =>
  Effect.gen(function* () {
    const transport = yield* Transport
    const urls = yield* Engines.engineUrls
    const engines = server.length > 0 ? [] : yield* Engines.engines
    const all = yield* engines.length === 0 ? Servers.servers : Effect.orElseSucceed(Servers.servers, () => [])
    const chosen = yield* Servers.chosen(
      all.filter(({ url }) => !urls.has(url)),
      server
    )
    const able = engines.length === 0 ? yield* Servers.able(chosen, what) : chosen.filter(({ ollama }) => ollama)
    for (const one of chosen) if (!one.ollama) yield* Output.notice(`${one.url} ${Servers.unable(one, what)}`)
    const lists = yield* Effect.promise(() => listAll(transport, able, "/api/ps"))
    const failed = lists.flatMap(({ known, problem }) => (problem === undefined ? [] : [`${known.url}: ${problem}`]))
    if (engines.length === 0 && failed.length === lists.length) {
      return yield* new CommandFailed({ message: `no server reports its loaded models: ${failed.join("; ")}` })
    }
    for (const one of failed) yield* Output.notice(one)
    const now = yield* Clock.currentTimeMillis
    const rows = [
      ...engines.map(fromEngine),
      ...lists.flatMap(({ known, models = [] }) => models.flatMap((item) => loadedOf(known.url, item, now)))
    ]
    for (const { model, problem } of engines) if (problem !== null) yield* Output.notice(`${model}: ${problem}`)
    if (json) return yield* Output.writeJson(rows)
    if (rows.length === 0) return yield* Output.notice("no model is loaded")
    const local = engines.length > 0
    yield* Output.write(
      Table.table(
        [
          "Model",
          ...(local ? ["Engine"] : []),
          "Server",
          "Memory",
          "Processor",
          "Context",
          ...(local ? more : []),
          "Until"
        ],
        rows.map((row) => [
          row.model,
          ...(local ? [row.engine ?? "ollama"] : []),
          row.server,
          row.size === null ? "-" : Units.bytes(row.size),
          processor(row),
          row.context_length === null ? "-" : String(row.context_length),
          ...(local ? moreOf(row, now) : []),
          row.state === undefined || row.state === "ready" ? untilWhen(row, now) : row.state
        ])
      )
    )
  }).pipe(Effect.provide(Fleet.layer))

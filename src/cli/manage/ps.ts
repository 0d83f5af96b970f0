/** Runs `aicortex ps`. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { type Fields, listAll } from "../../management/models.js"
import { Transport } from "../../Transport.js"
import { CommandFailed } from "../errors.js"
import * as Fleet from "../fleetLayer.js"
import * as Output from "../output.js"
import * as Table from "../table.js"
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
}

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

export const run = ({ json, server }: { readonly json: boolean; readonly server: ReadonlyArray<string> }) =>
  Effect.gen(function* () {
    const transport = yield* Transport
    const chosen = yield* Servers.chosen(yield* Servers.servers, server)
    const able = yield* Servers.able(chosen, what)
    for (const one of chosen) if (!one.ollama) yield* Output.notice(`${one.url} ${Servers.unable(one, what)}`)
    const lists = yield* Effect.promise(() => listAll(transport, able, "/api/ps"))
    const failed = lists.flatMap(({ known, problem }) => (problem === undefined ? [] : [`${known.url}: ${problem}`]))
    if (failed.length === lists.length) {
      return yield* new CommandFailed({ message: `no server reports its loaded models: ${failed.join("; ")}` })
    }
    for (const one of failed) yield* Output.notice(one)
    const now = yield* Clock.currentTimeMillis
    const rows = lists.flatMap(({ known, models = [] }) => models.flatMap((item) => loadedOf(known.url, item, now)))
    if (json) return yield* Output.writeJson(rows)
    if (rows.length === 0) return yield* Output.notice("no model is loaded")
    yield* Output.write(
      Table.table(
        ["Model", "Server", "Memory", "Processor", "Context", "Until"],
        rows.map((row) => [
          row.model,
          row.server,
          row.size === null ? "-" : Units.bytes(row.size),
          processor(row),
          row.context_length === null ? "-" : String(row.context_length),
          untilWhen(row, now)
        ])
      )
    )
  }).pipe(Effect.provide(Fleet.layer))

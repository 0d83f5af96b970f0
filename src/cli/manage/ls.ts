/** Runs `aicortex ls`. */
import * as Effect from "effect/Effect"
import { isObject } from "../../internal/isObject.js"
import { canonical } from "../../Model.js"
import type { StoredModel } from "../../ModelStore.js"
import { type Fields, listAll } from "../../management/models.js"
import { type Offer, Registry } from "../../Registry.js"
import { Transport } from "../../Transport.js"
import * as Fleet from "../fleetLayer.js"
import * as Output from "../output.js"
import * as Table from "../table.js"
import * as Engines from "./engines.js"
import * as Local from "./local.js"
import * as Servers from "./servers.js"
import * as Units from "./units.js"

/** A model, in one version, and the servers that have it. */
interface Row {
  readonly model: string
  /** In bytes. */
  readonly size: number | null
  readonly parameters: string | null
  readonly quantization: string | null
  readonly digest: string | null
  readonly servers: Array<string>
  /** Why a model of this machine cannot be used. */
  readonly problem?: string
}

const fromTags = (item: Fields): Omit<Row, "servers"> | undefined => {
  const model = Units.textOf(item["name"] ?? item["model"])
  const details = isObject(item["details"]) ? item["details"] : {}
  return model === undefined
    ? undefined
    : {
        model,
        size: Units.numberOf(item["size"]) ?? null,
        parameters: Units.textOf(details["parameter_size"]) ?? null,
        quantization: Units.textOf(details["quantization_level"]) ?? null,
        digest: Units.textOf(item["digest"]) ?? null
      }
}

const fromOffer = (model: string, offer: Offer | undefined): Omit<Row, "servers"> => ({
  model,
  size: null,
  parameters: offer?.info.parameter_size ?? null,
  quantization: offer?.info.quantization_level ?? null,
  digest: null
})

const fromStore = ({ metadata, name, problem, sha256, size }: StoredModel): Omit<Row, "servers"> => ({
  model: name,
  size,
  parameters: metadata.parameters === undefined ? null : Local.parameterSize(metadata.parameters),
  quantization: metadata.quantisation ?? null,
  digest: sha256 ?? null,
  ...(problem === undefined ? {} : { problem })
})

/** Each version of each model once, in the order of names. */
const merged = (all: ReadonlyArray<readonly [url: string, row: Omit<Row, "servers">]>): ReadonlyArray<Row> => {
  const rows = new Map<string, Row>()
  for (const [url, row] of all) {
    const key = `${canonical(row.model)} ${row.digest ?? ""}`
    const before = rows.get(key)
    if (before === undefined) rows.set(key, { ...row, servers: [url] })
    else before.servers.push(url)
  }
  return [...rows.values()].sort((a, b) => a.model.localeCompare(b.model, "en", { numeric: true }))
}

export const run = ({ json, server }: { readonly json: boolean; readonly server: ReadonlyArray<string> }) =>
  Effect.gen(function* () {
    const registry = yield* Registry
    const transport = yield* Transport
    const local = server.length === 0 ? yield* Local.list : []
    const urls = yield* Engines.engineUrls
    const running = server.length === 0 ? yield* Engines.models : []
    const some = local.length + running.length > 0
    const known = yield* some ? Effect.orElseSucceed(Servers.servers, () => []) : Servers.servers
    const chosen = yield* Servers.chosen(
      known.filter(({ url }) => !urls.has(url)),
      server
    )
    if (!some) yield* Servers.reached(chosen)
    for (const { problem, reachable, url } of chosen) if (!reachable) yield* Output.notice(`${url} ${problem}`)
    const there = chosen.filter(({ reachable }) => reachable)
    const lists = yield* Effect.promise(() => listAll(transport, there, "/api/tags"))
    const offers = new Map((yield* registry.offers).map((offer) => [canonical(offer.model), offer]))
    const found: Array<readonly [string, Omit<Row, "servers">]> = local.map((one) => [
      Local.thisMachine,
      fromStore(one)
    ])
    const stored = new Set(local.map(({ name }) => canonical(name)))
    for (const { model_name: model, size = null } of running) {
      // A file that runs without being stored.
      if (stored.has(canonical(model))) continue
      found.push([Local.thisMachine, { model, size, parameters: null, quantization: null, digest: null }])
    }
    for (const { known, models, problem } of lists) {
      if (problem !== undefined) yield* Output.notice(`${known.url} does not tell the sizes of its models: ${problem}`)
      const rows = models?.map(fromTags) ?? known.models.map((model) => fromOffer(model, offers.get(canonical(model))))
      for (const row of rows) if (row !== undefined) found.push([known.url, row])
    }
    const rows = merged(found)
    if (json) return yield* Output.writeJson(rows)
    if (rows.length === 0) {
      return yield* Output.notice("your servers have no models; download one with `aicortex pull llama3.2:3b`")
    }
    yield* Output.write(
      Table.table(
        ["Model", "Size", "Parameters", "Quantization", "Servers"],
        rows.map(({ model, parameters, problem, quantization, servers, size }) => [
          model,
          size === null ? "-" : Units.bytes(size),
          parameters ?? "-",
          quantization ?? "-",
          problem === undefined ? servers.join(", ") : `${servers.join(", ")}: ${problem}`
        ])
      )
    )
  }).pipe(Effect.provide(Fleet.layer))

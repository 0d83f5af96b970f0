import * as Effect from "effect/Effect"
import { version } from "../../../internal/version.js"
import { canonical, demoInfo, demoModel } from "../../../Model.js"
import { isAuto, linked, named } from "../../../modelSelection/candidate.js"
import type { House } from "../../GatewayContext.js"
import type * as Fields from "../../http/body.js"
import { make, Refusal } from "../../http/errorResponse.js"
import type { Exchange } from "../../http/RequestContext.js"
import * as Selection from "../../pipeline/modelSelection.js"
import * as Models from "../../pipeline/models.js"
import * as Control from "../../pipeline/upstreamControl.js"
import * as Describe from "./describe.js"
import { failed, fromAll, infoOf, listTimeout, nameOf, servers } from "./servers.js"
import * as Wire from "./validation.js"

/** The oldest version of Ollama whose API this is. */
const apiVersion = "0.12.0"

/**
 * `GET /api/tags`: every model once, with the servers that have it; and the aliases, each as the first of its models that
 * is there.
 *
 * @since 0.1.0
 * @category handlers
 */
export const tags = async (house: House, exchange: Exchange): Promise<void> => {
  const known = await Models.statuses(house, exchange)
  const all = await servers(house)
  const models = new Map<string, { readonly item: object; readonly servers: Array<string> }>()
  for (const { known, models: listed } of await fromAll(house, all, "/api/tags")) {
    const items =
      listed ?? (await Promise.all(known.models.map(async (name) => Describe.entry(name, await infoOf(house, name)))))
    for (const item of items as ReadonlyArray<Fields.Fields>) {
      const name = item["name"] ?? item["model"]
      if (typeof name !== "string") continue
      const key = canonical(name)
      const before = models.get(key)
      if (before === undefined) models.set(key, { item, servers: [known.label] })
      else before.servers.push(known.label)
    }
  }
  if (known.length === 0) {
    models.set(demoModel, { item: Describe.entry(demoModel, demoInfo), servers: ["embedded"] })
  }
  const listed = [...models.values()].map(({ item, servers }) => ({ ...item, servers }))
  for (const [name, chain] of house.aliases) {
    const first = chain.map((one) => models.get(canonical(named(one).model))).find((one) => one !== undefined)
    if (first !== undefined) listed.push({ ...first.item, ...{ name, model: name }, servers: first.servers })
  }
  if (models.size > 0) {
    const labels = new Set([...models.values()].flatMap(({ servers }) => servers))
    listed.push({ ...Describe.entry("auto", undefined), servers: [...labels] })
  }
  exchange.json({ models: listed })
}

/**
 * `GET /api/ps`: what is in memory, and where. Where no server answers, that is said: nothing in memory is something else.
 *
 * @since 0.1.0
 * @category handlers
 */
export const ps = async (house: House, exchange: Exchange): Promise<void> => {
  const statuses = await Models.statuses(house, exchange)
  const found = await fromAll(house, await servers(house), "/api/ps")
  const failed = found.flatMap(({ known, problem }) =>
    problem === undefined ? [] : [{ url: known.server.url, reason: problem }]
  )
  Models.tellFailed(house, exchange, statuses, failed)
  exchange.json({
    models: found.flatMap(({ known, models }) => (models ?? []).map((item) => ({ ...item, server: known.label })))
  })
}

/**
 * `GET /api/version`: the oldest of the servers' versions, because clients read from it what they may send.
 *
 * @since 0.1.0
 * @category handlers
 */
export const versions = async (house: House, exchange: Exchange): Promise<void> => {
  const all = (await servers(house)).filter(({ ollama }) => ollama)
  const known = await Promise.all(
    all.map(async ({ server }) => {
      try {
        const body = await Control.json(house.library.transport, server, {
          method: "GET",
          path: "/api/version",
          timeout: listTimeout
        })
        return typeof body["version"] === "string" ? body["version"] : undefined
      } catch (error) {
        if (error instanceof Control.ControlFailed) return undefined
        throw error
      }
    })
  )
  const versions = known.filter((one) => one !== undefined)
  versions.sort((a, b) => a.localeCompare(b, "en", { numeric: true }))
  exchange.json({ version: versions[0] ?? apiVersion, aicortex: version })
}

/**
 * The model that a name stands for now: of a chain, the first that a server has.
 *
 * @since 0.1.0
 * @category accessors
 */
export const meant = async (house: House, named: string): Promise<string> => {
  const { library } = house
  const policy = Selection.policyOf(house)
  const chain = Selection.chainOf(house, named) ?? [named]
  for (const one of chain) {
    if (isAuto(one)) {
      const [suitable] = await library.run(library.models.select(one, undefined, policy)).result
      if (suitable !== undefined) return suitable.model
    }
    const { model } = linked(one)
    const hosts = await library.run(Effect.orElseSucceed(library.locate(model), () => [])).result
    if (hosts.length > 0) return model
  }
  return linked(chain[0] ?? named).model
}

/**
 * `POST /api/show`: what a server says of its model.
 *
 * @since 0.1.0
 * @category handlers
 */
export const show = async (house: House, exchange: Exchange, body: Fields.Fields): Promise<void> => {
  Wire.check("ShowRequest", body)
  const named = nameOf(body, "model is required")
  if (!Wire.isName(named)) Wire.refuse(400, "invalid model name", null, "model")
  exchange.account.model = named
  const name = await meant(house, named)
  const hosts = await house.library.run(house.library.locate(name)).result
  let problem: Control.ControlFailed | undefined
  for (const host of hosts) {
    if (host.protocol !== "ollama") continue
    try {
      const reply = await Control.json(house.library.transport, host.server, {
        method: "POST",
        path: "/api/show",
        body: { ...body, model: host.model, name: undefined },
        timeout: listTimeout
      })
      exchange.headers["x-aicortex-server"] = house.labels.label(host.server.url)
      exchange.json(reply)
      return
    } catch (error) {
      if (!(error instanceof Control.ControlFailed)) throw error
      problem = error
    }
  }
  const info = await infoOf(house, name)
  if (info === undefined || hosts.every((host) => host.protocol === "ollama")) {
    throw problem === undefined
      ? new Refusal(make(404, Wire.notFound("/api/show", named), "model_not_found", "model"))
      : new Refusal(failed(house, problem))
  }
  exchange.json(Describe.shown(info.model_name, info))
}

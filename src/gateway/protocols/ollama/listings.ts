import * as Effect from "effect/Effect"
import { version } from "../../../internal/version.js"
import { canonical } from "../../../Model.js"
import * as Management from "../../../management/models.js"
import * as UpstreamControl from "../../../management/upstreamControl.js"
import { candidateOf, isAuto, linked } from "../../../modelSelection/candidate.js"
import type { GatewayContext } from "../../GatewayContext.js"
import type * as BodyFields from "../../http/body.js"
import { make, RequestRejected } from "../../http/errorResponse.js"
import type { RequestContext } from "../../http/RequestContext.js"
import * as ModelAccess from "../../keys/modelAccess.js"
import * as ModelSelection from "../../pipeline/modelSelection.js"
import * as Models from "../../pipeline/models.js"
import * as Describe from "./describe.js"
import * as Go from "./goFields.js"
import { infoOf, nameOf, serverError, servers } from "./servers.js"
import * as Validation from "./validation.js"

/** The oldest Ollama version with this API. */
const apiVersion = "0.12.0"

const nameIn = (item: object): string => {
  const { model, name = model } = item as { readonly name?: unknown; readonly model?: unknown }
  return String(name)
}

/**
 * `GET /api/tags`: every model once, with its servers; and the aliases, each as the first of its models that is
 * available.
 */
export const tags = async (gateway: GatewayContext, context: RequestContext): Promise<void> => {
  const known = await Models.statuses(gateway, context)
  const all = await servers(gateway)
  const models = new Map<string, { readonly item: object; readonly servers: Array<string> }>()
  for (const { known, models: listed } of await Management.listAll(gateway.library.transport, all, "/api/tags")) {
    const items =
      listed ?? (await Promise.all(known.models.map(async (name) => Describe.entry(name, await infoOf(gateway, name)))))
    for (const item of items as ReadonlyArray<BodyFields.Fields>) {
      const name = item["name"] ?? item["model"]
      if (typeof name !== "string") continue
      const key = canonical(name)
      const before = models.get(key)
      if (before === undefined) models.set(key, { item, servers: [known.label] })
      else before.servers.push(known.label)
    }
  }
  if (known.length === 0) {
    const info = gateway.library.registry.embedded.info()
    models.set(canonical(info.model_name), { item: Describe.entry(info.model_name, info), servers: ["embedded"] })
  }
  const listed = [...models.values()].map(({ item, servers }) => ({ ...item, servers }))
  for (const [name, chain] of gateway.aliases) {
    const first = chain.map((one) => models.get(canonical(candidateOf(one).model))).find((one) => one !== undefined)
    if (first !== undefined) listed.push({ ...first.item, ...{ name, model: name }, servers: first.servers })
  }
  if (models.size > 0 && !gateway.library.registry.embedded.dedicated) {
    const labels = new Set([...models.values()].flatMap(({ servers }) => servers))
    listed.push({ ...Describe.entry("auto", undefined), servers: [...labels] })
  }
  const names = new Set(ModelAccess.visible(gateway, context, listed.map(nameIn)))
  context.json({ models: listed.filter((item) => names.has(nameIn(item))) })
}

/**
 * `GET /api/ps`: what is in memory, and where. Where no server answers, that is said: nothing in memory is something else.
 */
export const ps = async (gateway: GatewayContext, context: RequestContext): Promise<void> => {
  const statuses = await Models.statuses(gateway, context)
  const found = await Management.listAll(gateway.library.transport, await servers(gateway), "/api/ps")
  const failed = found.flatMap(({ known, problem: errorResponse }) =>
    errorResponse === undefined ? [] : [{ url: known.server.url, reason: errorResponse }]
  )
  Models.tellFailed(gateway, context, statuses, failed)
  const asked = found.flatMap(({ known, models = [] }) => models.map((item) => ({ ...item, server: known.label })))
  const local = gateway.library.local
    .now()
    .flatMap(({ info, server }) =>
      server.protocol === "ollama" || server.maxInFlight === 0
        ? []
        : [{ ...Describe.loaded(info.model_name, info), server: gateway.labels.label(server.url) }]
    )
  context.json({ models: [...local, ...asked] })
}

/** `GET /api/version`: the oldest version among the servers, because clients infer supported features from it. */
export const versions = async (gateway: GatewayContext, context: RequestContext): Promise<void> => {
  const all = (await servers(gateway)).filter(({ ollama }) => ollama)
  const known = await Promise.all(all.map(({ server }) => Management.version(gateway.library.transport, server)))
  const versions = known.filter((one) => one !== undefined)
  versions.sort((a, b) => a.localeCompare(b, "en", { numeric: true }))
  context.json({ version: versions[0] ?? apiVersion, aicortex: version })
}

/** Resolves a name to a model: of a chain, the first that a server has. */
export const resolveModel = async (gateway: GatewayContext, named: string): Promise<string> => {
  const { library } = gateway
  const policy = ModelSelection.policyOf(gateway)
  const chain = ModelSelection.chainOf(gateway, named) ?? [named]
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

/** The body of `/api/show`. */
export const showBody = Go.body("ShowRequest", {
  ...Go.named,
  verbose: Go.flag(),
  system: Go.text(),
  template: Go.text(),
  options: Go.options
})

/** `POST /api/show`: what a server reports of its model. */
export const show = async (
  gateway: GatewayContext,
  context: RequestContext,
  body: BodyFields.Fields
): Promise<void> => {
  showBody.check(body)
  const named = nameOf(body, "model is required")
  if (!Validation.isName(named)) Validation.refuse(400, "invalid model name", null, "model")
  context.record.model = named
  ModelAccess.check(gateway, context, named)
  const name = await resolveModel(gateway, named)
  const hosts = await gateway.library.run(gateway.library.locate(name)).result
  let errorResponse: UpstreamControl.UpstreamFailed | undefined
  for (const host of hosts) {
    if (host.protocol !== "ollama") continue
    try {
      const upstreamBody = { ...body, model: host.model, name: undefined }
      const reply = await Management.show(gateway.library.transport, host.server, upstreamBody)
      context.headers["x-aicortex-server"] = gateway.labels.label(host.server.url)
      context.json(reply)
      return
    } catch (error) {
      if (!(error instanceof UpstreamControl.UpstreamFailed)) throw error
      errorResponse = error
    }
  }
  const info = await infoOf(gateway, name)
  if (info === undefined || hosts.every((host) => host.protocol === "ollama")) {
    throw errorResponse === undefined
      ? new RequestRejected(make(404, Validation.notFound("/api/show", named), "model_not_found", "model"))
      : new RequestRejected(serverError(gateway, errorResponse))
  }
  context.json(Describe.shown(info.model_name, info))
}

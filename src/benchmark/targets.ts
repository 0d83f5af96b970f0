/** Which models on which servers are measured. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { InvalidRequest } from "../Errors.js"
import type * as Fleet from "../Fleet.js"
import * as Model from "../Model.js"
import { completes } from "../modelSelection/suitable.js"
import type * as Registry from "../Registry.js"
import { type Host, normalizeUrl, redactUserInfo } from "../Server.js"
import type { CheckedOptions } from "./options.js"
import type { Skipped } from "./report.js"

export interface Targets {
  readonly hosts: ReadonlyArray<Host>
  readonly skipped: ReadonlyArray<Skipped>
}

const addressOf = (url: string): string =>
  Either.match(normalizeUrl(url), {
    onLeft: () => redactUserInfo(url),
    onRight: (normal) => redactUserInfo(normal.href).replace("//…@", "//").replace(/\/+$/, "")
  })

/** The servers that are asked for: they must be known, because nothing else says how to speak to them. */
const wantedOf = (
  servers: ReadonlyArray<string> | undefined,
  known: ReadonlyArray<string>
): Effect.Effect<ReadonlyArray<string>, InvalidRequest> => {
  if (servers === undefined) return Effect.succeed(known)
  const wanted = servers.map(addressOf)
  const missing = wanted.find((url) => !known.includes(url))
  if (missing === undefined && wanted.length > 0) return Effect.succeed([...new Set(wanted)])
  const there = known.length === 0 ? "no server is known" : `there are ${known.join(", ")}`
  const reason =
    missing === undefined ? "names no server" : `${missing} is not one of the servers of the settings: ${there}`
  return Effect.fail(new InvalidRequest({ field: "servers", reason }))
}

/** Whether a server has the model loaded, as far as it reports. Only Ollama unloads models. */
export const isResident = (fleet: Fleet.Service, host: Host, now: number): boolean =>
  host.protocol !== "ollama" || (fleet.snapshot(host.server.url, host.model).residentUntil ?? 0) > now

const coldMessage = "the model is not in the server's memory"

export const select = Effect.fnUntraced(function* (
  registry: Registry.Service,
  fleet: Fleet.Service,
  defaultModel: string,
  now: () => number,
  { all = false, cold = false, model, servers }: CheckedOptions
) {
  if (all && model !== undefined) {
    return yield* new InvalidRequest({ field: "all", reason: "cannot be combined with a model" })
  }
  const statuses = yield* registry.servers
  const embedded = model !== undefined && Model.canonical(model) === Model.canonical(Model.demoModel)
  const wanted = embedded
    ? []
    : yield* wantedOf(
        servers,
        statuses.map(({ url }) => url)
      )
  const skipped: Array<Skipped> = []
  const reached: Array<string> = []
  for (const url of wanted) {
    const { problem = "did not answer", reachable = false } = statuses.find((status) => status.url === url) ?? {}
    if (reachable) reached.push(url)
    else skipped.push({ server: url, reason: "unreachable", message: `the server ${problem}` })
  }
  const hosts: Array<Host> = []
  const add = (host: Host): void => {
    if (cold || isResident(fleet, host, now())) hosts.push(host)
    else skipped.push({ server: host.server.url, model: host.model, reason: "cold", message: coldMessage })
  }
  if (model !== undefined) {
    const having = (yield* registry.locate(model)).filter(({ certain }) => certain)
    for (const host of having) if (embedded || reached.includes(host.server.url)) add(host)
    if (servers !== undefined) {
      for (const url of reached.filter((url) => !having.some(({ server }) => server.url === url))) {
        skipped.push({ server: url, model, reason: "absent", message: `the server does not have ${model}` })
      }
    }
    return { hosts, skipped }
  }
  const offers = (yield* registry.offers).filter(({ info }) => completes(info))
  const found: Array<Host> = []
  for (const offer of offers) {
    const there = yield* Effect.orElseSucceed(registry.locate(offer.model), () => [])
    found.push(...there.filter(({ certain, server }) => certain && reached.includes(server.url)))
  }
  for (const url of reached) {
    const there = found.filter(({ server }) => server.url === url).sort((a, b) => (a.model < b.model ? -1 : 1))
    if (all) {
      for (const host of there) add(host)
      continue
    }
    const key = Model.canonical(defaultModel)
    const preferred = there.filter((host) => Model.canonical(host.model) === key)
    const host =
      (cold ? preferred[0] : undefined) ??
      [...preferred, ...there].find((host) => isResident(fleet, host, now())) ??
      (cold ? there[0] : undefined)
    if (host !== undefined) add(host)
    else if (there.length === 0)
      skipped.push({ server: url, reason: "absent", message: "the server has no model that chats" })
    else
      skipped.push({
        server: url,
        reason: "cold",
        message: "the server has no model in its memory"
      })
  }
  return { hosts, skipped } satisfies Targets
})

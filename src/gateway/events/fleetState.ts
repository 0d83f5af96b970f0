/** The state of the fleet, as `GET /fleet`, `GET /servers` and the events `fleet` show it. */
import type { ServerStatus } from "../../Registry.js"
import { isLocal } from "../../Server.js"
import type { Labels } from "../http/errorResponse.js"
import type { Library } from "../library.js"
import * as FailureTexts from "./failureTexts.js"
import { lookUp, type Upstream } from "./upstream.js"
import type { BreakerView, ModelView, ServerView } from "./views.js"

/** So many models of a server are listed: those in use first. */
const maxListed = 200

/** How long is waited for servers that were never asked, in milliseconds. */
const statusTimeout = 1_000

/** JSON has no infinity. */
const finite = (value: number | undefined): number | null =>
  value === undefined || !Number.isFinite(value) ? null : value
const rounded = (value: number | undefined): number | null =>
  value === undefined || !Number.isFinite(value) ? null : Math.round(value * 10) / 10

const breakerOf = (library: Library, labels: Labels, url: string, model: string): BreakerView => {
  const { breaker, restsBecause, restsSince, restsUntil } = library.fleet.snapshot(url, model)
  if (breaker === "closed") return { state: "closed", since: null, rests_until: null, reason: null, why: null }
  return {
    state: breaker,
    since: restsSince ?? null,
    rests_until: finite(restsUntil),
    reason: restsBecause?.reason ?? null,
    why: restsBecause === undefined ? null : labels.redact(FailureTexts.ofFailure(restsBecause.reason))
  }
}

const modelView = (
  library: Library,
  labels: Labels,
  url: string,
  model: string,
  upstream: Upstream | undefined,
  now: number
): ModelView => {
  const snapshot = library.fleet.snapshot(url, model)
  const resident = upstream?.loaded.get(model)
  const until = snapshot.residentUntil ?? 0
  return {
    model,
    ...breakerOf(library, labels, url, model),
    loaded: upstream?.listsLoaded === true ? resident !== undefined || until > now : until > now,
    loaded_until: finite(Math.max(until, resident?.until ?? 0)) || null,
    size: resident?.size ?? upstream?.sizes.get(model) ?? null,
    memory: resident?.memory ?? null,
    gpu_memory: resident?.gpuMemory ?? null,
    in_flight: snapshot.modelInFlight ?? 0,
    places: finite(snapshot.places),
    queued: snapshot.queued ?? 0,
    tokens_per_second: rounded(snapshot.tokensPerSecond),
    prompt_tokens_per_second: rounded(snapshot.promptTokensPerSecond),
    first_token_ms: rounded(snapshot.firstTokenTime)
  }
}

const best = (all: ReadonlyArray<number | null>, choose: (...values: Array<number>) => number): number | null => {
  const known = all.filter((value) => value !== null)
  return known.length === 0 ? null : choose(...known)
}

/** `only` are the models to list; default: all. */
export const serverView = (
  library: Library,
  labels: Labels,
  status: ServerStatus,
  upstream: Upstream | undefined,
  only?: ReadonlySet<string>
): ServerView => {
  const now = Date.now()
  const { url } = status
  const whole = library.fleet.snapshot(url, "")
  const configured = library.settings.servers.find((server) => server.url === url)
  const names = [...new Set([...status.models, ...(upstream?.loaded.keys() ?? [])])]
  const models = names.map((model) => modelView(library, labels, url, model, upstream, now))
  models.sort(
    (a, b) => Number(b.loaded) - Number(a.loaded) || b.in_flight - a.in_flight || a.model.localeCompare(b.model, "en")
  )
  const loaded = models.filter((model) => model.loaded && model.places !== null)
  const places =
    configured?.maxInFlight ?? (loaded.length === 0 ? null : loaded.reduce((sum, m) => sum + (m.places ?? 0), 0))
  return {
    server: labels.label(url),
    protocol: status.protocol ?? configured?.protocol ?? null,
    version: upstream?.version ?? null,
    local: isLocal(configured ?? { url, protocol: status.protocol }),
    reachable: status.reachable,
    problem: status.problem === undefined ? null : labels.redact(status.problem),
    checked_at: status.checkedAt ?? null,
    draining: whole.drained === true,
    ...breakerOf(library, labels, url, ""),
    in_flight: whole.inFlight,
    in_flight_elsewhere: whole.inFlightElsewhere ?? 0,
    places,
    queued: models.reduce((sum, { queued }) => sum + queued, 0),
    round_trip_ms: rounded(whole.roundTrip),
    tokens_per_second: best(
      models.map(({ tokens_per_second }) => tokens_per_second),
      Math.max
    ),
    first_token_ms: best(
      models.map(({ first_token_ms }) => first_token_ms),
      Math.min
    ),
    model_count: models.length,
    models: (only === undefined ? models : models.filter(({ model }) => only.has(model))).slice(0, maxListed)
  }
}

const unknownStatus = (url: string): ServerStatus => ({
  url,
  protocol: undefined,
  reachable: false,
  problem: "has not answered yet",
  models: [],
  checkedAt: undefined
})

/** Every server's status; without waiting for those that do not answer. */
export const statusesOf = async (library: Library): Promise<ReadonlyArray<ServerStatus>> => {
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<ReadonlyArray<ServerStatus>>((resolve) => {
    timer = setTimeout(() => resolve(library.settings.servers.map(({ url }) => unknownStatus(url))), statusTimeout)
  })
  const found = await Promise.race([library.run(library.registry.servers).result, late])
  clearTimeout(timer)
  if (found.length > 0) return found
  // Without any server, the built-in model answers.
  const { model_name } = library.registry.embedded.info()
  return [
    {
      url: "embedded:",
      protocol: "embedded",
      reachable: true,
      problem: undefined,
      models: [model_name],
      checkedAt: Date.now()
    }
  ]
}

/** Every server. */
export const serversOf = async (library: Library, labels: Labels): Promise<ReadonlyArray<ServerView>> => {
  const statuses = await statusesOf(library)
  const upstreams = await lookUp(library, statuses)
  return statuses.map((status) => serverView(library, labels, status, upstreams.get(status.url)))
}

/**
 * The library's metrics in Prometheus form: with Prometheus names and units, and servers labelled as in everything else
 * that the gateway reports.
 */
import * as MetricState from "effect/MetricState"
import { isLocal } from "../../Server.js"
import * as Telemetry from "../../Telemetry.js"
import type { GatewayContext } from "../GatewayContext.js"
import type { Labels } from "../http/errorResponse.js"
import * as Prometheus from "./prometheus.js"

/** Unit suffixes of metric names. Counts have none. */
const suffixes: { readonly [unit: string]: string } = { s: "_seconds" }

const plain = (name: string): string => name.replace(/\W/g, "_")

/** Labels of servers by host and port. Servers that differ only in their path are reported together. */
const namesOf = (labels: Labels, urls: Iterable<string>): ReadonlyMap<string, string> => {
  const names = new Map<string, string>()
  for (const url of urls) {
    const { both } = Telemetry.addressOf(url)
    const before = names.get(both)
    names.set(both, before === undefined ? labels.label(url) : `${before},${labels.label(url)}`)
  }
  return names
}

/**
 * The labels of a series; `undefined` if it concerns a server that is gone or not ours. Contains no address if
 * addresses must not be shown.
 */
const labelsOf = (
  tags: ReadonlyArray<{ readonly key: string; readonly value: string }>,
  servers: ReadonlyMap<string, string>,
  expose: boolean
): string | undefined => {
  const all: Array<readonly [string, string]> = []
  let host: string | undefined
  let port: string | undefined
  let server: string | undefined
  for (const { key, value } of tags) {
    if (key === "server") server = value
    else if (key === "server.address") host = value
    else if (key === "server.port") port = value
    else if (key !== "unit") all.push([plain(key), value])
  }
  if (host !== undefined) {
    server = port === undefined ? host : `${host}:${port}`
    if (expose) {
      all.push(["server_address", host])
      if (port !== undefined) all.push(["server_port", port])
    }
  }
  if (server !== undefined) {
    const name = servers.get(server)
    if (name === undefined) return undefined
    all.unshift(["server", name])
  }
  return Prometheus.labels(all)
}

/** The library's metrics of these servers, and those without a server. */
export const families = (labels: Labels, urls: Iterable<string>): ReadonlyArray<Prometheus.Family> => {
  const servers = namesOf(labels, urls)
  const all = new Map<string, Prometheus.Family>()
  for (const { metricKey, metricState } of Telemetry.snapshot()) {
    const { description, name, tags } = metricKey
    const series = labelsOf(tags, servers, labels.expose)
    if (series === undefined) continue
    const unit = tags.find(({ key }) => key === "unit")?.value ?? ""
    const full = `${plain(name)}${suffixes[unit] ?? ""}`
    const kind = MetricState.isHistogramState(metricState)
      ? "histogram"
      : MetricState.isCounterState(metricState)
        ? "counter"
        : "gauge"
    let family = all.get(full)
    if (family === undefined) {
      family = Prometheus.family(full, kind, description._tag === "Some" ? description.value : full)
      all.set(full, family)
    }
    if (MetricState.isHistogramState(metricState)) {
      Prometheus.addHistogram(family, series, metricState.buckets, metricState.count, metricState.sum)
    } else if (MetricState.isCounterState(metricState)) Prometheus.add(family, series, Number(metricState.count))
    else if (MetricState.isGaugeState(metricState)) Prometheus.add(family, series, Number(metricState.value))
  }
  return [...all.values()]
}

const breakers = { closed: 0, "half-open": 1, open: 2 } as const

/** The current state of the servers. */
const standing = (
  { labels, library }: GatewayContext,
  statuses: ReadonlyArray<{ readonly url: string; readonly reachable: boolean; readonly models: ReadonlyArray<string> }>
): ReadonlyArray<Prometheus.Family> => {
  const up = Prometheus.family("aicortex_server_up", "gauge", "Whether a server answers.")
  const models = Prometheus.family("aicortex_server_models", "gauge", "Models that a server has.")
  const breaker = Prometheus.family(
    "aicortex_breaker_state",
    "gauge",
    "The circuit breaker of a server, or of a model on it that was asked for: 0 closed, 1 half-open, 2 open."
  )
  for (const status of statuses) {
    const { reachable, url } = status
    const server: readonly [string, string] = ["server", labels.label(url)]
    const own = Prometheus.labels([server])
    Prometheus.add(up, own, reachable ? 1 : 0)
    Prometheus.add(models, own, status.models.length)
    Prometheus.add(breaker, own, breakers[library.fleet.snapshot(url, "").breaker])
    for (const model of status.models) {
      const { breaker: state, places } = library.fleet.snapshot(url, model)
      if (places !== undefined) Prometheus.add(breaker, Prometheus.labels([server, ["model", model]]), breakers[state])
    }
  }
  if (library.settings.servers.every(isLocal)) return [up, models, breaker]
  const { limit, used } = library.fleet.remoteTokens()
  const today = Prometheus.family(
    "aicortex_remote_tokens_today",
    "gauge",
    "Tokens of prompts and answers of remote servers on this day (UTC)."
  )
  Prometheus.add(today, "", used)
  const ceiling = Prometheus.family(
    "aicortex_remote_tokens_limit",
    "gauge",
    "How many tokens remote servers may have on a day."
  )
  if (limit !== undefined) Prometheus.add(ceiling, "", limit)
  const costs = library.fleet.remoteCosts()
  const spent = Prometheus.family(
    "aicortex_remote_cost",
    "gauge",
    "What remote servers cost in this day or month (UTC)."
  )
  const budget = Prometheus.family(
    "aicortex_remote_cost_limit",
    "gauge",
    "What remote servers may cost in a day or a month."
  )
  if (costs === undefined) return [up, models, breaker, today, ceiling]
  for (const period of ["day", "month"] as const) {
    const own = Prometheus.labels([
      ["period", period],
      ["currency", costs.currency]
    ])
    const { limit, spent: cost } = costs[period]
    Prometheus.add(spent, own, cost)
    if (limit !== undefined) Prometheus.add(budget, own, limit)
  }
  return [up, models, breaker, today, ceiling, spent, budget]
}

/** The `/metrics` text of this process. */
export const text = async (gateway: GatewayContext): Promise<string> => {
  const { labels, library, metrics, replicas, storedKeys } = gateway
  const statuses = await library.run(library.registry.servers).result
  const urls = new Set([
    ...library.settings.servers.map(({ url }) => url),
    ...statuses.map(({ url }) => url),
    "embedded:"
  ])
  const store = Prometheus.family("aicortex_store_up", "gauge", "Whether the store answers.")
  if (storedKeys !== undefined) Prometheus.add(store, "", storedKeys.available && replicas?.available !== false ? 1 : 0)
  const group = Prometheus.family(
    "aicortex_replicas",
    "gauge",
    "Gateways that use the store, as far as they are heard."
  )
  if (replicas !== undefined) Prometheus.add(group, "", replicas.size)
  return Prometheus.write([
    ...metrics.families(),
    ...(storedKeys === undefined ? [] : [store, group]),
    ...standing(gateway, statuses),
    ...families(labels, urls)
  ])
}

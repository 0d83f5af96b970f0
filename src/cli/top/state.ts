/** What is known of a gateway: read once, and kept up to date by its events. All of it is bounded. */
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import * as Wire from "./wire.js"

/** Number of requests that are kept. */
const maxRequests = 1_000

/** Number of points of a sparkline, one each second. */
const maxPoints = 60

/** Tokens of answers that ended within this time are counted as the speed of the fleet, in milliseconds. */
const tokenWindow = 10_000

const decodeServer = Schema.decodeUnknownEither(Wire.Server)
const decodeRequest = Schema.decodeUnknownEither(Wire.RequestEvent)

/** The connection to the gateway. */
export type Connection =
  | { readonly state: "connecting" }
  | { readonly state: "live" }
  | { readonly state: "lost"; readonly why: string; readonly retryAt: number }

export class TopState {
  connection: Connection = { state: "connecting" }
  fleet: Wire.Fleet | undefined
  /** By id, the oldest first. */
  readonly requests = new Map<string, Wire.Request>()
  /** The requests in flight of each server, one a second, the latest last. */
  readonly loads = new Map<string, ReadonlyArray<number>>()
  /** The gateway's clock less this machine's, in milliseconds. */
  private skew = 0
  private tokens: Array<{ readonly at: number; readonly count: number }> = []

  /** The gateway's time. */
  now(): number {
    return Date.now() + this.skew
  }

  /** Completion tokens per second of the answers that ended lately. */
  get tokensPerSecond(): number {
    const from = Date.now() - tokenWindow
    this.tokens = this.tokens.filter(({ at }) => at > from)
    return (this.tokens.reduce((sum, { count }) => sum + count, 0) * 1_000) / tokenWindow
  }

  setFleet(fleet: Wire.Fleet): void {
    this.skew = fleet.at - Date.now()
    this.fleet = fleet
  }

  setRequests({ recent, running }: Wire.Requests): void {
    this.requests.clear()
    for (const request of recent.toReversed()) this.requests.set(request.id, request)
    for (const request of running.toReversed()) this.add(request)
  }

  /** An event of the gateway; `false` where it says that others are missing. */
  take(type: string, data: unknown): boolean {
    if (type === "gap") return false
    if (type === "fleet") {
      const server = decodeServer(data)
      if (Either.isRight(server)) this.onServer(server.right)
    } else if (type === "request") {
      const event = decodeRequest(data)
      if (Either.isRight(event)) this.onRequest(event.right)
    }
    return true
  }

  /** Once a second. */
  tick(): void {
    const { fleet, loads } = this
    if (fleet === undefined) return
    const names = new Set(fleet.servers.map(({ server }) => server))
    for (const name of loads.keys()) if (!names.has(name)) loads.delete(name)
    for (const { in_flight, server } of fleet.servers) {
      loads.set(server, [...(loads.get(server) ?? []), in_flight].slice(-maxPoints))
    }
  }

  private onServer(changed: Wire.Server): void {
    const { fleet } = this
    if (fleet === undefined) return
    const servers = fleet.servers.map((before) => {
      if (before.server !== changed.server) return before
      // An event has only those models that have changed.
      const models = new Map(before.models.map((model) => [model.model, model]))
      for (const model of changed.models) models.set(model.model, model)
      return { ...changed, models: [...models.values()].slice(0, 200) }
    })
    this.fleet = { ...fleet, servers, in_flight: servers.reduce((sum, { in_flight }) => sum + in_flight, 0) }
  }

  private onRequest({ attempt, kind, ...fields }: Wire.RequestEvent): void {
    const known = this.requests.get(fields.id)
    if (known === undefined) {
      if (kind === "begin" || kind === "end") this.add(fields)
    } else if (kind === "attempt" && attempt !== undefined) {
      const attempts = (known.attempts ?? []).filter((one) => one.attempt !== attempt.attempt)
      attempts.push(attempt)
      this.requests.set(fields.id, { ...known, attempts: attempts.sort((a, b) => a.attempt - b.attempt) })
    } else this.requests.set(fields.id, { ...known, ...fields })
    if (kind === "end") this.tokens.push({ at: Date.now(), count: fields.completion_tokens ?? 0 })
  }

  private add(request: Wire.Request): void {
    const { requests } = this
    requests.set(request.id, request)
    if (requests.size <= maxRequests) return
    for (const { id, status } of requests.values()) {
      if (status === undefined) continue
      requests.delete(id)
      return
    }
    const [oldest] = requests.keys()
    if (oldest !== undefined) requests.delete(oldest)
  }
}

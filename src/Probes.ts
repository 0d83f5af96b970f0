/**
 * Active probes: every now and then each of the user's servers is asked something small, so that a request need not
 * find out that a server is out of reach, or what it holds in memory. Off unless `Settings.probeInterval` says so.
 *
 * Ollama is asked for `/api/ps`, all others for their list of models. Only the user's servers are asked. Each has its
 * own schedule (the interval, a quarter more or less), and no request waits for a probe.
 *
 * The breaker of an unreachable server opens; one that was open because the server was unreachable closes. Otherwise an
 * open breaker is left to real requests: a server whose model hangs still answers probes.
 *
 * @since 0.1.0
 */
import * as HttpClient from "@effect/platform/HttpClient"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import { Fleet } from "./Fleet.js"
import * as Background from "./internal/background.js"
import * as Discovery from "./registry/discovery.js"
import type { Server } from "./Server.js"
import { CurrentSettings } from "./Settings.js"
import * as Telemetry from "./Telemetry.js"
import * as Transfers from "./transport/transfer.js"

/** Jitter of the interval: servers are not all asked at once. */
const jitter = 0.25

/**
 * Asks one server once. Gives whether it was reached (`undefined`: it may only be busy), and how long that took, in
 * milliseconds.
 *
 * @since 0.1.0
 * @category combinators
 */
export const probe = Effect.fnUntraced(function* (client: HttpClient.HttpClient, server: Server) {
  const fleet = yield* Fleet
  const { client: watched, longest } = Transfers.metered(client)
  let began = yield* Clock.currentTimeMillis
  const loaded =
    server.protocol === "openai" || server.protocol === "anthropic"
      ? undefined
      : yield* Discovery.loaded(watched, server)
  const answered = yield* Clock.currentTimeMillis
  if (loaded === undefined) began = answered
  // Servers that do not report loaded models, or speak another protocol, are asked for their list.
  const reached = loaded !== undefined || (yield* Discovery.answers(watched, server))
  Telemetry.probed(server.url, reached)
  const transfer = longest()
  const took = Transfers.roundTripOf((yield* Clock.currentTimeMillis) - began, transfer)
  // A server that does not answer may only be busy.
  if (reached === undefined) return { reached, took }
  if (reached) fleet.roundTrip(server.url, took)
  if (transfer !== undefined) fleet.transferred(server.url, transfer)
  if (loaded !== undefined) {
    fleet.resident(server.url, new Map([...loaded].map(([model, { until }]) => [model, until])))
  }
  fleet.probed(server.url, reached)
  return { reached, took }
})

/**
 * Asks each configured server at every `probeInterval` whether it is there; without that setting it does nothing.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<never, never, Fleet | CurrentSettings | HttpClient.HttpClient> = Layer.scopedDiscard(
  Effect.gen(function* () {
    const { probeInterval, servers } = yield* CurrentSettings
    if (probeInterval === undefined) return
    const client = HttpClient.withTracerDisabledWhen(yield* HttpClient.HttpClient, () => true)
    const pause = Effect.flatMap(Random.nextRange(1 - jitter, 1 + jitter), (factor) =>
      Background.pause(probeInterval * factor)
    )
    for (const server of servers.filter(({ implicit }) => !implicit)) {
      // It ends with the scope, also where that was made in a part that nothing interrupts.
      yield* Effect.forkScoped(Effect.interruptible(Effect.forever(Effect.zipRight(pause, probe(client, server)))))
    }
  })
)

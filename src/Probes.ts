/**
 * Active probes: every now and then each of the user's servers is asked something small, so that a request need not
 * find out that a server is out of reach, or what it holds in memory. Off unless `Settings.probeInterval` says so.
 *
 * Ollama is asked for `/api/ps`, everybody else for its list of models. Nobody is asked whom the user did not name. The
 * servers are asked at times of their own (the interval, a quarter more or less), and no request waits for it.
 *
 * A server that cannot be reached rests; one that rested because it could not be reached is in use again. A breaker that
 * opened for another reason is left to real requests: a server whose model hangs answers small requests all the same.
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

/** A probe comes earlier or later by up to this share of the interval: servers are not all asked at once. */
const jitter = 0.25

/**
 * Asks one server once.
 *
 * @since 0.1.0
 * @category combinators
 */
export const probe = Effect.fnUntraced(function* (client: HttpClient.HttpClient, server: Server) {
  const fleet = yield* Fleet
  const began = yield* Clock.currentTimeMillis
  const loaded = server.protocol === "openai" ? undefined : yield* Discovery.loaded(client, server)
  // Whoever does not tell what it holds, or speaks something else, is asked for its list.
  const reached =
    loaded !== undefined ||
    (yield* Effect.match(Discovery.list(client, server), {
      onFailure: ({ answered, silent }) => (answered ? true : silent === true ? undefined : false),
      onSuccess: () => true
    }))
  Telemetry.probed(server.url, reached)
  // Who is silent may only be busy.
  if (reached === undefined) return
  if (reached) fleet.roundTrip(server.url, (yield* Clock.currentTimeMillis) - began)
  if (loaded !== undefined) {
    fleet.resident(server.url, new Map([...loaded].map(([model, { until }]) => [model, until])))
  }
  fleet.probed(server.url, reached)
})

/**
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

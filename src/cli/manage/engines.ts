/** The engines that run on this machine, for the commands about the models on servers. */
import * as Effect from "effect/Effect"
import type { Engine } from "../../LocalModels.js"
import { Servers } from "../../Servers.js"
import * as Client from "../../supervisor/client.js"

/** The addresses of engines of this machine: the supervisor reports what they run. */
export const engineUrls = Effect.map(Servers, (servers) => new Set(servers.now().map(({ server }) => server.url)))

/** The models that have an engine, with their sizes. */
export const models = Effect.map(Servers, (servers) => servers.now().map(({ info }) => info))

/** The engines that run; none where there is no supervisor. */
export const engines: Effect.Effect<ReadonlyArray<Engine>, never, Client.Needs> = Effect.flatMap(
  Client.client,
  ({ status }) =>
    Effect.match(status, {
      onFailure: () => [],
      onSuccess: ({ models }) => models.flatMap(({ engines }) => engines.filter(({ state }) => state !== "stopped"))
    })
)

/** Stops a model before its files are removed, and has the supervisor look at the store again. */
export const released = <A, E, R>(model: string, remove: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const { refresh, stop } = yield* Client.client
    yield* Effect.ignore(stop(model))
    const removed = yield* remove
    yield* Effect.ignore(refresh)
    return removed
  })

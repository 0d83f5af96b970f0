/** The supervisor, and a model that it runs. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { StartOptions } from "../../LocalModels.js"
import { ModelStore } from "../../ModelStore.js"
import * as Client from "../../supervisor/client.js"
import { defaultPort } from "../../supervisor/port.js"
import { CommandFailed } from "../errors.js"
import * as Fleet from "../fleetLayer.js"
import { pull } from "../manage/local.js"
import { absolute, baseUrl } from "./names.js"

/** The supervisor that runs, or one that is started with this port. */
export const supervisor = Effect.fnUntraced(function* (port: number | undefined, host?: string) {
  const status = yield* Client.ensure([
    "--port",
    String(port ?? defaultPort),
    ...(host === undefined ? [] : ["--host", host])
  ])
  if (port !== undefined && port !== 0 && Number(new URL(status.url).port) !== port) {
    return yield* new CommandFailed({
      message: `the models of this machine are at ${baseUrl(status)} already; end that with \`aicortex stop\` to have them elsewhere`
    })
  }
  return status
})

/** Downloads a model that is not on this machine. What only Ollama has is left to the engine. */
export const download = (model: string) =>
  Effect.gen(function* () {
    const store = yield* ModelStore
    const found = yield* store.find(model)
    if (Option.isSome(found)) return
    const reference = yield* store.parse(model)
    if (reference.kind === "ollama" || reference.kind === "file") return
    yield* pull(reference, { model, name: undefined, copy: false, list: false, json: false, quiet: true })
  }).pipe(Effect.provide(Fleet.layer))

/** Starts a model and waits until it answers. Returns its name. */
export const started = Effect.fnUntraced(function* (model: string, options: StartOptions) {
  const { start } = yield* Client.client
  return yield* start(absolute(model), options)
})

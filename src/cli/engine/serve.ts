/** Serves a model that is being loaded, until it is stopped. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Runtime from "effect/Runtime"
import type { Engine } from "../../backend/embeddedEngine.js"
import type { EngineOptions } from "../../backend/embeddedEngineOptions.js"
import type { CallDefaults } from "../../CallDefaults.js"
import * as Cortex from "../../Cortex.js"
import type { Settings } from "../../config/gatewaySettings.js"
import * as Lifecycle from "../../gateway/lifecycle.js"
import type { ModelInfo } from "../../Model.js"
import { defaultSlots, EmbeddedModel } from "../../registry/embeddedModel.js"
import { CommandFailed } from "../errors.js"
import * as Output from "../output.js"

/** What is served, and how. */
export interface Served {
  readonly name: string
  readonly file: string
  readonly options: EngineOptions
  /** What holds for requests that say nothing else. */
  readonly defaults: CallDefaults
  readonly loading: Promise<Engine>
  readonly settings: Settings
  readonly stdinGuard: boolean
}

const log = (text: string): void => {
  process.stderr.write(`aicortex: ${Output.withoutControls(text)}\n`)
}

/** Ends when standard input does: then the parent process has ended. */
const inputEnded = Effect.async<void>((resume) => {
  const ended = () => resume(Effect.void)
  process.stdin.once("end", ended).once("close", ended).once("error", ended)
  process.stdin.resume()
  return Effect.sync(() => process.stdin.off("end", ended).off("close", ended).off("error", ended).pause())
})

/** Prints the address as soon as it listens, and again, as ready, when the model is loaded. */
export const serve = Effect.fnUntraced(function* (served: Served) {
  const { defaults, file, loading, name, options, settings, stdinGuard } = served
  const { embeddings = false, parallel: slots = defaultSlots } = options
  const failed = yield* Deferred.make<never, CommandFailed>()
  const loaded = yield* Deferred.make<void>()
  const runFork = Runtime.runFork(yield* Effect.runtime<never>())
  let state: string | undefined = `the model ${name} is being loaded`
  let info: ModelInfo = {
    model_name: name,
    family: "others",
    format: "gguf",
    capabilities: [embeddings ? "embedding" : "completion"]
  }
  const backends = Cortex.layerBackends({
    ...options,
    modelPath: file,
    preload: {
      engine: loading,
      loaded: (model) => {
        info = { ...info, ...model }
        state = undefined
        runFork(Deferred.succeed(loaded, undefined))
      },
      failed: ({ message }) => {
        runFork(Deferred.fail(failed, new CommandFailed({ message })))
      }
    }
  })
  const services = Cortex.layer<never, never>({ configFile: false, servers: [], defaults }, { backends }).pipe(
    Layer.provide(Layer.succeed(EmbeddedModel, { info: () => info, slots, dedicated: true }))
  )
  const { url } = yield* Lifecycle.make({ plan: Effect.succeed({ settings, services }), log, starting: () => state })
  yield* Output.write(`${JSON.stringify({ url, model: name })}\n`)
  const ready = Effect.zipRight(
    Deferred.await(loaded),
    // The process that reads the address may not read further output.
    Effect.ignore(Output.write(`${JSON.stringify({ url, model: name, ready: true })}\n`))
  )
  yield* Effect.raceFirst(
    Effect.raceFirst(Deferred.await(failed), stdinGuard ? inputEnded : Effect.never),
    Effect.zipRight(ready, Effect.never)
  )
})

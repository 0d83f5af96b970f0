/** Runs `aicortex engine`. */
import { open } from "node:fs/promises"
import { basename } from "node:path"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Runtime from "effect/Runtime"
import type { EmbeddedModel as Loaded } from "../../backend/embedded.js"
import * as Cortex from "../../Cortex.js"
import * as Settings from "../../config/gatewaySettings.js"
import { environment } from "../../cortex/environment.js"
import type * as Gateway from "../../Gateway.js"
import * as Lifecycle from "../../gateway/lifecycle.js"
import type { ModelInfo } from "../../Model.js"
import { defaultSlots, EmbeddedModel } from "../../registry/embeddedModel.js"
import { CommandFailed, refused } from "../errors.js"
import * as Output from "../output.js"

/** The parsed flags. */
export interface Flags {
  readonly file: string
  readonly gateway: Gateway.Options
  readonly name: string | undefined
  readonly contextSize: number | undefined
  readonly gpuLayers: number | undefined
  readonly threads: number | undefined
  readonly parallel: number | undefined
  readonly embeddings: boolean
  readonly stdinGuard: boolean
}

/** Requests must have this key. Not the one of the gateway, which may be the process that starts this one. */
const keyVariable = "AICORTEX_ENGINE_KEY"

/** Whoever started it decides how long requests may take; a prompt may be long, and this machine slow. */
const silence = 3_600_000

/** How long requests may still take when it stops, in milliseconds. */
const drain = 3_000

const log = (text: string): void => {
  process.stderr.write(`aicortex: ${Output.withoutControls(text)}\n`)
}

const nameOf = (file: string): string => basename(file).replace(/\.gguf$/i, "")

/** Letters, version, and two counts. */
const headerBytes = 24

/** A wrong file is found before the engine is loaded, which takes a second. */
const checkFile = Effect.fnUntraced(function* (path: string) {
  const start = yield* Effect.tryPromise({
    try: async () => {
      const file = await open(path)
      try {
        const { buffer, bytesRead } = await file.read(Buffer.alloc(headerBytes), 0, headerBytes, 0)
        return buffer.subarray(0, bytesRead)
      } finally {
        await file.close()
      }
    },
    catch: (cause) =>
      new CommandFailed({
        message:
          cause instanceof Error && "code" in cause && cause.code === "ENOENT"
            ? `there is no file ${path}`
            : `${path} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`
      })
  })
  if (start.toString("latin1", 0, 4) !== "GGUF") {
    return yield* new CommandFailed({ message: `${path} is not a model: it is no GGUF file` })
  }
  if (start.length < headerBytes || start.readUInt32LE(4) === 0) {
    return yield* new CommandFailed({ message: `${path} is not a model: it is cut off` })
  }
})

/** Ends when standard input does: then whoever started this process is gone. */
const inputEnded = Effect.async<void>((resume) => {
  const ended = () => resume(Effect.void)
  process.stdin.once("end", ended).once("close", ended).once("error", ended)
  process.stdin.resume()
  return Effect.sync(() => process.stdin.off("end", ended).off("close", ended).off("error", ended).pause())
})

export const run = Effect.fnUntraced(function* (flags: Flags) {
  const { embeddings, file, parallel: slots = defaultSlots } = flags
  const name = flags.name ?? nameOf(file)
  const key = environment(keyVariable)
  const variable = (name: string) => (name === "HOST" || name === "PORT" ? environment(name) : undefined)
  const settings = yield* Either.mapLeft(
    Settings.resolve(
      {
        ...flags.gateway,
        ...(key === undefined ? {} : { keys: Settings.keysOf(key, undefined) }),
        defaultModel: name,
        timeout: silence,
        firstTokenTimeout: silence,
        loadTimeout: silence,
        maxRetries: 1,
        drain
      },
      { variable, file: {}, path: "" }
    ),
    ({ field, reason }) =>
      refused("engine", {
        field,
        reason: reason.replace("--api-key (AICORTEX_API_KEY)", `one as ${keyVariable}`)
      })
  )
  yield* checkFile(file)

  const failed = yield* Deferred.make<never, CommandFailed>()
  const runFork = Runtime.runFork(yield* Effect.runtime<never>())
  let state: string | undefined = `the model ${name} is being loaded`
  let info: ModelInfo = {
    model_name: name,
    family: "others",
    format: "gguf",
    capabilities: [embeddings ? "embedding" : "completion"]
  }
  const backends = Cortex.layerBackends({
    modelPath: file,
    contextSize: flags.contextSize,
    gpuLayers: flags.gpuLayers ?? -1,
    threads: flags.threads ?? -1,
    parallel: slots,
    embeddings,
    preload: {
      loaded: (model: Loaded) => {
        info = { ...info, ...model }
        state = undefined
      },
      failed: ({ message }) => {
        runFork(Deferred.fail(failed, new CommandFailed({ message })))
      }
    }
  })
  const services = Cortex.layer<never, never>({ configFile: false, servers: [] }, { backends }).pipe(
    Layer.provide(Layer.succeed(EmbeddedModel, { info: () => info, slots, dedicated: true }))
  )
  const { url } = yield* Lifecycle.make({ plan: Effect.succeed({ settings, services }), log, starting: () => state })
  yield* Output.write(`${JSON.stringify({ url, model: name })}\n`)
  yield* Effect.raceFirst(Deferred.await(failed), flags.stdinGuard ? inputEnded : Effect.never)
}, Effect.scoped)

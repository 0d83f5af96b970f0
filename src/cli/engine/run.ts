/** Runs `aicortex engine`: checks what is wrong, begins to load the model, and serves it. */
import { open } from "node:fs/promises"
import { basename } from "node:path"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { loadEngine } from "../../backend/embeddedEngine.js"
import type { EngineOptions } from "../../backend/embeddedEngineOptions.js"
import * as Settings from "../../config/gatewaySettings.js"
import { environment } from "../../cortex/environment.js"
import type * as Gateway from "../../Gateway.js"
import { CommandFailed, refused } from "../errors.js"

/** The parsed flags. */
export interface Flags {
  readonly file: string
  readonly gateway: Gateway.Options
  readonly name: string | undefined
  readonly contextSize: number | undefined
  readonly gpuLayers: number | undefined
  readonly threads: number | undefined
  readonly parallel: number | undefined
  readonly temperature: number | undefined
  readonly maxTokens: number | undefined
  readonly embeddings: boolean
  readonly stdinGuard: boolean
}

/** Requests must have this key. Not the one of the gateway, which may be the process that starts this one. */
const keyVariable = "AICORTEX_ENGINE_KEY"

/** The client decides how long requests may take; a prompt may be long, and this machine slow. */
const silence = 3_600_000

/** How long requests may still take when it stops, in milliseconds. */
const drain = 3_000

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

export const run = Effect.fnUntraced(function* (flags: Flags) {
  const { file } = flags
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

  const options: EngineOptions = {
    contextSize: flags.contextSize,
    gpuLayers: flags.gpuLayers ?? -1,
    threads: flags.threads ?? -1,
    parallel: flags.parallel,
    embeddings: flags.embeddings
  }
  // The library tries its binary in another process meanwhile, so the gateway is imported after it.
  const loading = loadEngine(file, options, false)
  loading.catch(() => {})
  const { serve } = yield* Effect.promise(() => import("./serve.js"))
  const { maxTokens = 0, stdinGuard, temperature } = flags
  const defaults = {
    ...(temperature === undefined ? {} : { temperature }),
    ...(maxTokens === 0 ? {} : { maxTokens })
  }
  yield* serve({ name, file, options, defaults, loading, settings, stdinGuard })
}, Effect.scoped)

/**
 * The models that this machine runs until they are stopped: which there are, and how they are started and stopped.
 * A supervisor, a process of its own, holds them; every process of the user can ask it.
 *
 * @since 0.3.0
 */
import type { Effect } from "effect/Effect"
import * as Schema from "effect/Schema"
import {
  EngineFailed,
  EngineNotInstalled,
  InvalidModelFile,
  InvalidModelReference,
  InvalidRequest,
  LocalModelError,
  ModelNotStored,
  ModelStoreUnavailable
} from "./Errors.js"
import { type Availability, EngineName } from "./engines/engine.js"
import { decoder, type InputOf, keptFor, milliseconds, optional, range, wholeFrom } from "./internal/optionSchemas.js"

/**
 * How a model is started. Zero is what was said, and never replaced by a default.
 *
 * @since 0.3.0
 * @category models
 */
export const StartOptions = Schema.Struct({
  /** The program that runs it; default: the first installed one that takes the model. */
  engine: optional(EngineName),
  /** The size of the context in tokens; default 0, which is as the model says. */
  contextSize: optional(wholeFrom(0)),
  /** Layers that are put on the GPU; default -1, which is all that fit. */
  gpuLayers: optional(wholeFrom(-1)),
  /** Threads of the CPU; default -1, which is all. */
  threads: optional(wholeFrom(-1)),
  /** Requests that are answered at once; default: the engine's own, 4. */
  parallel: optional(wholeFrom(1)),
  /** Whether it makes vectors of texts instead of answers; default `false`. */
  embeddings: optional(Schema.Boolean),
  /** The image of a container to run it in. */
  baseImage: optional(Schema.NonEmptyTrimmedString),
  /** The temperature of requests that name none; default: the engine's. */
  temperature: optional(range(0, 2)),
  /** How many engines run it side by side; default 1. */
  replicas: optional(wholeFrom(1)),
  /** How long an engine may take until it answers, in milliseconds or as a duration; default 30 seconds. */
  timeout: optional(milliseconds),
  /**
   * How long it stays loaded after its last request, in milliseconds or as a duration: 0 is no longer than it is used,
   * negative is until it is stopped, the default.
   */
  keepAlive: optional(keptFor)
})
/**
 * @since 0.3.0
 * @category models
 */
export interface StartOptions extends InputOf<typeof StartOptions.fields> {}

/**
 * Options that were checked.
 *
 * @since 0.3.0
 * @category models
 */
export type CheckedOptions = typeof StartOptions.Type

/**
 * Checks options; an unknown one is an error.
 *
 * @since 0.3.0
 * @category constructors
 */
export const decodeStartOptions = decoder(StartOptions)

/**
 * What an engine is doing: `stopped` is loaded at the first request; `restarting` comes after an engine ended by
 * itself; `failed` is not tried any more.
 *
 * @since 0.3.0
 * @category models
 */
export const State = Schema.Literal("stopped", "loading", "ready", "restarting", "failed")
/**
 * @since 0.3.0
 * @category models
 */
export type State = typeof State.Type

const nullable = <A, I>(schema: Schema.Schema<A, I>) => Schema.NullOr(schema)

/**
 * One engine of a model. Sizes are in bytes, times in milliseconds since 1970.
 *
 * @since 0.3.0
 * @category models
 */
export const Engine = Schema.Struct({
  /** The name of the model. */
  model: Schema.String,
  /** What it is doing. */
  state: State,
  /** The program that runs it; `null` where it was never started. */
  engine: nullable(EngineName),
  /** Its address. */
  url: Schema.String,
  /** What it speaks. */
  protocol: Schema.Literal("openai", "ollama"),
  /** Its process; `null` while there is none. */
  pid: nullable(Schema.Number),
  /** When that process started, as the system says it. */
  processStart: nullable(Schema.String),
  /** The memory of its processes. */
  memory: nullable(Schema.Number),
  /** Since when it answers. */
  readyAt: nullable(Schema.Number),
  /** How fast it wrote lately, in tokens per second. */
  tokensPerSecond: nullable(Schema.Number),
  /** Requests that it is at. */
  inFlight: Schema.Number,
  /** Requests that it takes at once; `null`: any number. */
  slots: nullable(Schema.Number),
  /** How often it was started again. */
  restarts: Schema.Number,
  /** Why it does not run, if it should. */
  problem: nullable(Schema.String),
  /** The last lines that it wrote, where it cannot be run. */
  log: Schema.optionalWith(Schema.Array(Schema.String), { default: () => [] })
})
/**
 * @since 0.3.0
 * @category models
 */
export type Engine = typeof Engine.Type

/**
 * A model of this machine, loaded or not.
 *
 * @since 0.3.0
 * @category models
 */
export const Model = Schema.Struct({
  /** The name that requests ask for. */
  name: Schema.String,
  /** Other names that requests may ask for: aliases, and that of a repository without its quantisation. */
  names: Schema.optionalWith(Schema.Array(Schema.String), { default: () => [] }),
  /** Its file; `null` for a model that Ollama keeps. */
  path: nullable(Schema.String),
  /** Of its files. */
  size: Schema.Number,
  /** The size of its context in tokens. */
  contextSize: nullable(Schema.Number),
  /** Its architecture, such as `llama`. */
  family: Schema.String,
  /** Whether it makes vectors of texts instead of answers. */
  embeddings: Schema.Boolean,
  /** Its engines. */
  engines: Schema.Array(Engine)
})
/**
 * @since 0.3.0
 * @category models
 */
export type Model = typeof Model.Type

/**
 * A supervisor, and what it holds.
 *
 * @since 0.3.0
 * @category models
 */
export const Status = Schema.Struct({
  /** Its process. */
  pid: Schema.Number,
  /** When that process started, as the system says it. */
  processStart: nullable(Schema.String),
  /** The version of this package that it is of. */
  version: Schema.String,
  /** The base address for OpenAI clients, such as `http://127.0.0.1:39281/v1`. */
  url: Schema.String,
  /** Since when it runs. */
  startedAt: Schema.Number,
  /** The models. */
  models: Schema.Array(Model)
})
/**
 * @since 0.3.0
 * @category models
 */
export type Status = typeof Status.Type

/**
 * What starting a model can fail with.
 *
 * @since 0.3.0
 * @category errors
 */
export const StartError = Schema.Union(
  EngineFailed,
  EngineNotInstalled,
  InvalidRequest,
  InvalidModelFile,
  InvalidModelReference,
  ModelNotStored,
  ModelStoreUnavailable
)
/**
 * @since 0.3.0
 * @category errors
 */
export type StartError = typeof StartError.Type

// =============================================================================
// Managing
// =============================================================================

/**
 * A download that goes on in the background; amounts are in bytes.
 *
 * @since 0.3.0
 * @category models
 */
export const PullTask = Schema.Struct({
  /** Its id. */
  id: Schema.String,
  /** The name that the model gets. */
  model: Schema.String,
  /** Whether it goes on, or how it ended. */
  state: Schema.Literal("running", "done", "failed", "cancelled"),
  /** What it is at. */
  phase: Schema.String,
  /** How much is there. */
  completed: Schema.Number,
  /** How much there is to come in all, where that is known. */
  total: nullable(Schema.Number),
  /** The name under which it was stored. */
  stored: nullable(Schema.String),
  /** Why it failed. */
  error: nullable(Schema.String)
})
/**
 * @since 0.3.0
 * @category models
 */
export type PullTask = typeof PullTask.Type

/**
 * What this machine has for models; amounts are in bytes.
 *
 * @since 0.3.0
 * @category models
 */
export interface Hardware {
  /** Its processors. */
  readonly cpu: { readonly arch: string; readonly cores: number; readonly model: string | null }
  /** Its operating system. */
  readonly os: { readonly name: string; readonly version: string }
  /** Its memory. */
  readonly ram: { readonly total: number; readonly available: number }
  /** The disk of the folder of models; `null` where that is not known. */
  readonly storage: { readonly total: number; readonly available: number } | null
  /**
   * Its graphics cards, as the system and their drivers tell; what they do not tell is `null`, such as the memory of
   * those that share that of the machine. They are asked at most once a minute.
   */
  readonly gpus: ReadonlyArray<{
    /** Its place in this list. */
    readonly id: string
    /** What it is called. */
    readonly name: string | null
    /** Who made it. */
    readonly vendor: string | null
    /** The version of its driver. */
    readonly driver_version: string | null
    /** Its memory. */
    readonly total_vram: number | null
    /** How much of that is free. */
    readonly free_vram: number | null
  }>
}

/**
 * What can be done with the models of this machine.
 *
 * @since 0.3.0
 * @category models
 */
export type Operation =
  | "start"
  | "stop"
  | "pull"
  | "cancelPull"
  | "import"
  | "remove"
  | "configure"
  | "settings"
  | "quantisations"

/**
 * What that can fail with.
 *
 * @since 0.3.0
 * @category errors
 */
export const OperationError = Schema.Union(...LocalModelError.members, InvalidRequest)
/**
 * @since 0.3.0
 * @category errors
 */
export type OperationError = typeof OperationError.Type

/**
 * Manages the models of this machine, for a gateway.
 *
 * @since 0.3.0
 * @category models
 */
export interface Control {
  /** The models, loaded or not, as they are now. */
  readonly models: () => ReadonlyArray<Model>
  /** The downloads that go on, and the latest that ended. */
  readonly tasks: () => ReadonlyArray<PullTask>
  /** Calls the listener at each step of a download; returns a function that ends that. */
  readonly observe: (told: (task: PullTask) => void) => () => void
  /** Does something; body and answer are JSON. */
  readonly run: (operation: Operation, body: object) => Effect<unknown, OperationError>
  /** What the machine has. */
  readonly hardware: Effect<Hardware>
  /** The engines, and whether they are installed. */
  readonly engines: Effect<
    ReadonlyArray<
      Availability & {
        /** Its name. */
        readonly name: EngineName
        /** What it is. */
        readonly about: string
      }
    >
  >
}

/**
 * The programs that run models on this machine. Each is started as a child process and is an ordinary server: it speaks
 * `/v1` or Ollama's API, so that failover, queues, breakers and metrics treat it like any other.
 *
 * @since 0.2.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { type EngineFailed, EngineNotInstalled, InvalidRequest } from "./Errors.js"
import * as Aicortex from "./engines/aicortex.js"
import * as Container from "./engines/container.js"
import type { Availability, Command, Engine, EngineName, EngineOptions, LocalSource } from "./engines/engine.js"
import * as LlamaServer from "./engines/llamaServer.js"
import * as Ollama from "./engines/ollama.js"

export {
  /**
   * @since 0.2.0
   * @category models
   */
  type Availability,
  /**
   * @since 0.2.0
   * @category models
   */
  type Command,
  /**
   * @since 0.2.0
   * @category models
   */
  type Engine,
  /**
   * @since 0.2.0
   * @category models
   */
  EngineName,
  /**
   * @since 0.2.0
   * @category models
   */
  type EngineOptions,
  /**
   * @since 0.2.0
   * @category models
   */
  type LocalSource
} from "./engines/engine.js"

// =============================================================================
// The system
// =============================================================================

/**
 * A running child process.
 *
 * @since 0.2.0
 * @category models
 */
export interface Child {
  /** Its process id. */
  readonly pid: number
  /** Settles when it has ended, with how: `exit code 1` or `signal SIGKILL`. */
  readonly ended: Effect.Effect<string>
  /** How it ended, at once; `undefined` while it runs. */
  readonly end: () => string | undefined
  /** The last lines that it wrote, at most 80. */
  readonly log: () => ReadonlyArray<string>
}

/**
 * What engines need of the system. Node's is in `Cortex`.
 *
 * @since 0.2.0
 * @category models
 */
export interface SystemService {
  /** The path of a program on `PATH`; `undefined` if there is none. */
  readonly find: (program: string) => Effect.Effect<string | undefined>
  /** How this package's own command line is started; `undefined` where it was not built. */
  readonly self: Effect.Effect<{ readonly file: string; readonly args: ReadonlyArray<string> } | undefined>
  /** Whether a package can be imported. */
  readonly hasPackage: (name: string) => Effect.Effect<boolean>
  /**
   * Starts a program. It is stopped with the scope: SIGTERM, then SIGKILL after 5 s; and it ends when this process
   * does, however that ends. `line` receives each line that it writes.
   */
  readonly spawn: (
    command: Command,
    line?: (text: string) => void
  ) => Effect.Effect<Child, { readonly reason: string }, Scope.Scope>
  /** A free TCP port of the loopback interface, reserved within this process until the scope ends. */
  readonly freePort: Effect.Effect<number, { readonly reason: string }, Scope.Scope>
}

/**
 * The tag of what engines need of the system.
 *
 * @since 0.2.0
 * @category tags
 */
export class System extends Context.Tag("aicortex/Engines/System")<System, SystemService>() {}

// =============================================================================
// Models
// =============================================================================

/**
 * An engine and whether it can be used here.
 *
 * @since 0.2.0
 * @category models
 */
export interface Status extends Availability {
  /** Its name. */
  readonly name: EngineName
  /** What it is, in a sentence. */
  readonly about: string
}

/**
 * The engines of this machine.
 *
 * @since 0.2.0
 * @category models
 */
export interface Service {
  /** Every engine, and whether it is installed. */
  readonly list: Effect.Effect<ReadonlyArray<Status>>
  /**
   * The engine for a model: the one named, else the first installed one that takes the model and its options. Fails
   * with `EngineNotInstalled` where it is missing, and with `InvalidRequest` where it does not take an option.
   */
  readonly select: (
    source: LocalSource,
    options: EngineOptions,
    name?: EngineName
  ) => Effect.Effect<{ readonly engine: Engine; readonly program: string }, EngineNotInstalled | InvalidRequest>
}

/**
 * The tag of the service.
 *
 * @since 0.2.0
 * @category tags
 */
export class Engines extends Context.Tag("aicortex/Engines")<Engines, Service>() {}

/**
 * What starting an engine can fail with.
 *
 * @since 0.2.0
 * @category errors
 */
export type StartError = EngineNotInstalled | EngineFailed | InvalidRequest

// =============================================================================
// implementation
// =============================================================================

/** In the order in which they are chosen. */
const engines: ReadonlyArray<Engine> = [Aicortex.engine, LlamaServer.engine, Ollama.engine, Container.engine]

/**
 * The service, over what it needs of the system.
 *
 * @since 0.2.0
 * @category constructors
 */
export const make = Effect.gen(function* () {
  const system = yield* System

  const list = Effect.forEach(engines, (engine) =>
    Effect.map(engine.available(system), (found): Status => ({ name: engine.name, about: engine.about, ...found }))
  )

  const installed = Effect.fnUntraced(function* (engine: Engine) {
    const found = yield* engine.available(system)
    if (found.program !== undefined) return { engine, program: found.program }
    const { install = "", reason = "it was not found" } = found
    return yield* new EngineNotInstalled({ engine: engine.name, reason, install })
  })

  const select: Service["select"] = Effect.fnUntraced(function* (source, options, name) {
    if (options.baseImage !== undefined && name !== undefined && name !== "container") {
      const reason = `is the image of a container, and the engine ${name} is none`
      return yield* new InvalidRequest({ field: "baseImage", reason })
    }
    const wanted = name ?? (options.baseImage === undefined ? undefined : "container")
    if (wanted !== undefined) {
      const engine = engines.find((one) => one.name === wanted) ?? Aicortex.engine
      const refused = engine.refusal(source, options)
      if (refused !== undefined) return yield* new InvalidRequest(refused)
      return yield* installed(engine)
    }
    const fitting = engines.filter((engine) => engine.refusal(source, options) === undefined)
    for (const engine of fitting) {
      const found = yield* engine.available(system)
      if (found.program !== undefined) return { engine, program: found.program }
    }
    const [first] = fitting
    if (first !== undefined) return yield* installed(first)
    return yield* new InvalidRequest(
      engines[0]?.refusal(source, options) ?? { field: "model", reason: "no engine takes it" }
    )
  })

  return Engines.of({ list, select })
})

/**
 * The service as a layer.
 *
 * @since 0.2.0
 * @category layers
 */
export const layer: Layer.Layer<Engines, never, System> = Layer.effect(Engines, make)

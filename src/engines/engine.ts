/** What an engine is: a program that serves one model, how it is started and when it is ready. */
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

/**
 * `aicortex` is this package's own engine; `container` runs llama.cpp in an image through `podman` or `docker`.
 *
 * @since 0.2.0
 * @category models
 */
export const EngineName = Schema.Literal("aicortex", "llama-server", "ollama", "container")
/**
 * @since 0.2.0
 * @category models
 */
export type EngineName = typeof EngineName.Type

/**
 * How a model is to be run. Zero is what was said, and never replaced by a default.
 *
 * @since 0.2.0
 * @category models
 */
export interface EngineOptions {
  /** In tokens; 0: as the model says. */
  readonly contextSize: number
  /** Layers on the GPU; -1: all that fit. */
  readonly gpuLayers: number
  /** Threads of the CPU; -1: all. */
  readonly threads: number
  /** Requests at once; `undefined`: the engine's default, 4. */
  readonly parallel?: number | undefined
  /** The temperature of requests that name none; `undefined`: the engine's default. */
  readonly temperature?: number | undefined
  /** The longest answer of requests that name none, in tokens; 0: unlimited. */
  readonly maxTokens?: number | undefined
  /** Whether it makes vectors instead of text. */
  readonly embeddings?: boolean | undefined
  /** The image of a container. */
  readonly baseImage?: string | undefined
}

/**
 * What is to be run: a file (the first one of a split model), or the name of a model of Ollama's.
 *
 * @since 0.2.0
 * @category models
 */
export interface LocalSource {
  /** The name that requests ask for. */
  readonly name: string
  /** The GGUF file, absolute; `undefined` for a model that Ollama keeps. */
  readonly path: string | undefined
}

/**
 * A program to start.
 *
 * @since 0.2.0
 * @category models
 */
export interface Command {
  /** The program. */
  readonly file: string
  /** Its arguments. */
  readonly args: ReadonlyArray<string>
  /** Variables on top of this process's. */
  readonly env: { readonly [name: string]: string }
  /**
   * Whether it ends by itself when its standard input does. If not, it is started by a guard that ends it then, so that
   * it never outlives the process that started it.
   */
  readonly guardsItself: boolean
  /** A program that is run before it starts and after it has ended, such as one that removes a container. */
  readonly cleanup?: { readonly file: string; readonly args: ReadonlyArray<string> } | undefined
}

/**
 * Whether an engine is installed: the path of its program, or what is missing and how to get it.
 *
 * @since 0.2.0
 * @category models
 */
export interface Availability {
  /** The path of its program; `undefined` if it is not installed. */
  readonly program: string | undefined
  /** What is missing. */
  readonly reason?: string | undefined
  /** How to get it. */
  readonly install?: string | undefined
}

/** What `available` asks the system. */
export interface Lookup {
  readonly find: (program: string) => Effect.Effect<string | undefined>
  readonly self: Effect.Effect<{ readonly file: string; readonly args: ReadonlyArray<string> } | undefined>
  readonly hasPackage: (name: string) => Effect.Effect<boolean>
}

/**
 * A program that serves one model.
 *
 * @since 0.2.0
 * @category models
 */
export interface Engine {
  /** Its name. */
  readonly name: EngineName
  /** What it is, in a sentence. */
  readonly about: string
  /** What it speaks. */
  readonly protocol: "openai" | "ollama"
  /** Whether it is installed. */
  readonly available: (system: Lookup) => Effect.Effect<Availability>
  /** The first option or source that it does not take, and why. */
  readonly refusal: (
    source: LocalSource,
    options: EngineOptions
  ) => { readonly field: string; readonly reason: string } | undefined
  /** How it is started, to listen at a port of the loopback interface. */
  readonly command: (program: string, source: LocalSource, options: EngineOptions, port: number) => Command
  /**
   * What a line that it writes says of where it listens, and whether it answers already. An engine that has this says
   * so itself, and is not asked.
   */
  readonly announced?: (line: string) => { readonly url: string; readonly ready: boolean } | undefined
  /** Where it answers 200 when it is ready, and where it lists its models. */
  readonly health: { readonly ready: string; readonly models: string }
}

/** Only a file can be run by this engine. */
export const needsFile = ({ name, path }: LocalSource) =>
  path === undefined ? { field: "model", reason: `'${name}' is no file: only the engine ollama can run it` } : undefined

/** Only a container has an image. */
export const refusesImage = (name: string, { baseImage }: EngineOptions) =>
  baseImage === undefined
    ? undefined
    : { field: "baseImage", reason: `is the image of a container, and the engine ${name} is none` }

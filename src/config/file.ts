/**
 * The configuration file: what may stand in it, where it is, and how it is read and changed; and where the command line
 * keeps what it does not configure.
 */
import type { PlatformError } from "@effect/platform/Error"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import type * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import { visit } from "jsonc-parser"
import { InvalidConfig } from "../Errors.js"
import * as BoundedFile from "../internal/boundedFile.js"
import { describe } from "../internal/issues.js"
import { fleet } from "./fleet.js"
import { type GatewayFile, gateway } from "./gateway.js"
import type { FileServer } from "./server.js"
import { type Setting, type Settings, sectionOf } from "./setting.js"

const section = <S extends Settings>(settings: S) =>
  sectionOf(settings) as { readonly [K in FileNames<S>]: OptionalField<S[K]> }

type FileNames<S> = { [K in keyof S]: S[K] extends { readonly file: false } ? never : K }[keyof S]
type OptionalField<T> = T extends Setting<infer A, infer _> ? Schema.optional<Schema.Schema<A, unknown>> : never

/**
 * The configuration file. What is decoded has the form that a program would give: times in milliseconds. Only servers
 * and keys still name the variables that hold their secrets.
 */
export const File = Schema.Struct({
  $schema: Schema.optional(
    Schema.String.annotations({
      description: "Where the JSON Schema of this file is, for editors only."
    })
  ),
  ...section(fleet),
  gateway: Schema.optional(
    Schema.Struct(section(gateway)).annotations({ description: "The settings of the gateway, `aicortex serve`." })
  )
})
export type File = Omit<typeof File.Type, "servers" | "gateway"> & {
  readonly servers?: ReadonlyArray<string | FileServer> | undefined
  readonly gateway?: GatewayFile | undefined
}

/** `null` means that a setting is not given. */
function withoutNull(this: unknown, _: string, value: unknown): unknown {
  return value === null && !Array.isArray(this) ? undefined : value
}

const makeDecoder = () =>
  Schema.decodeUnknownEither(Schema.parseJson(File, { reviver: withoutNull }), {
    onExcessProperty: "error",
    errors: "all"
  })

/** Making it takes longer than all else here, and many commands read no file. */
let decoder: ReturnType<typeof makeDecoder> | undefined
const decodeFile = (text: string) => {
  decoder ??= makeDecoder()
  return decoder(text)
}

/** What the system says of a file, without the names of the functions that asked it. */
export const reasonOf = (error: PlatformError): string =>
  error._tag === "SystemError" ? (error.description ?? error.message) : error.message

/** A file that cannot be read or written. */
export const unusable = (file: string, error: PlatformError): InvalidConfig =>
  new InvalidConfig({ source: file, field: "file", reason: reasonOf(error) })

/** Where a text stops being JSON; what stands there may be a secret. */
const whereOf = (text: string): string => {
  let where = ""
  try {
    visit(
      text,
      {
        onError: (_error, _offset, _length, line, character) => {
          if (where === "") where = ` (line ${line + 1}, column ${character + 1})`
        }
      },
      { disallowComments: true, allowTrailingComma: false }
    )
  } catch (error) {
    // The parser is recursive: a text that is nested too deeply for it has no position.
    if (!(error instanceof RangeError)) throw error
  }
  return where
}

/** What is wrong with a text that is no JSON, or no object of settings. */
const misfit = (error: ParseResult.ParseError, text: string): { readonly field: string; readonly reason: string } => {
  const { field, reason } = describe(error)
  return field === ""
    ? { field: "content", reason: `is not a JSON object of settings${whereOf(text)}` }
    : { field, reason }
}

/** What stands in the text of a configuration file, or what is wrong with it. */
export const decodeText = (text: string, file: string): Either.Either<File, InvalidConfig> =>
  Either.mapLeft(
    decodeFile(text) as Either.Either<File, ParseResult.ParseError>,
    (error) => new InvalidConfig({ source: file, ...misfit(error, text) })
  )

/** A variable of the environment; `undefined` where it is not set or blank. */
export const optionalString = (name: string) =>
  Effect.orElseSucceed(
    Effect.map(Config.string(name), (value) => (value.trim() === "" ? undefined : value.trim())),
    () => undefined
  )

const home = Effect.gen(function* () {
  return (yield* optionalString("HOME")) ?? (yield* optionalString("USERPROFILE")) ?? "."
})

const variable = "AICORTEX_CONFIG"

/** Where the configuration file is. */
export const filePath = Effect.gen(function* () {
  const path = yield* Path.Path
  const named = yield* optionalString(variable)
  if (named !== undefined) return named
  const base = yield* optionalString("XDG_CONFIG_HOME")
  if (base !== undefined) return path.join(base, "aicortex", "config.json")
  return path.join(yield* home, ".config", "aicortex", "config.json")
})

/** Where the command line keeps answers: `aicortex/responses` under `XDG_CACHE_HOME` or `~/.cache`. */
export const cacheFolder = Effect.gen(function* () {
  const path = yield* Path.Path
  const base = (yield* optionalString("XDG_CACHE_HOME")) ?? path.join(yield* home, ".cache")
  return path.join(base, "aicortex", "responses")
})

const inState = (name: string) =>
  Effect.gen(function* () {
    const path = yield* Path.Path
    const base = (yield* optionalString("XDG_STATE_HOME")) ?? path.join(yield* home, ".local", "state")
    return path.join(base, "aicortex", name)
  })

/**
 * Where the command line keeps what it has learned of the servers: `aicortex/fleet.json` under `XDG_STATE_HOME` or
 * `~/.local/state`.
 */
export const stateFile = inState("fleet.json")

/**
 * Where the command line keeps conversations, and a gateway its keys, usage and responses: `aicortex/store.db` beside
 * it.
 */
export const storeFile = inState("store.db")

/** Where older versions kept conversations: `aicortex/sessions` beside it. */
export const sessionFolder = inState("sessions")

/** Where the models of this machine are kept: `aicortex/models` beside it. */
export const modelFolder = inState("models")

/** Where copies of registries by address are kept: `aicortex/registry` beside it. */
export const registryFolder = inState("registry")

/** Where what runs on this machine is noted: `aicortex/local` beside it. */
export const localFolder = inState("local")

/** Where the interactive chat keeps what was typed: `aicortex/chat-history.jsonl` beside it. */
export const chatHistory = inState("chat-history.jsonl")

/**
 * The configuration file of a program, which may have named one: where it is, and whether it was named, there or by
 * `AICORTEX_CONFIG`: then it must be there.
 */
export const place = Effect.fnUntraced(function* (given: string | undefined) {
  if (given !== undefined) return { path: given, named: true }
  return { path: yield* filePath, named: (yield* optionalString(variable)) !== undefined }
})

/** A larger file holds no settings, in bytes. */
const maxFileBytes = 16 * 1024 * 1024

/**
 * Reads the configuration file: a regular file, or a pipe, of at most 16 MiB. One that is not there is empty, unless it
 * is `needed`; one that cannot be used is an error, because going on without it would lose the user's servers.
 */
export const readFile = Effect.fnUntraced(function* (
  file: string,
  needed = false
): Effect.fn.Return<File, InvalidConfig, FileSystem.FileSystem> {
  const fs = yield* FileSystem.FileSystem
  const text = yield* BoundedFile.readText(fs, file, maxFileBytes, true).pipe(
    Effect.map(Option.some),
    Effect.catchTag("SystemError", (error) =>
      error.reason === "NotFound" ? Effect.succeed(Option.none<string>()) : Effect.fail(error)
    ),
    Effect.mapError((error) => unusable(file, error))
  )
  if (Option.isNone(text)) {
    if (!needed) return {}
    if (file === (yield* optionalString(variable))) {
      const reason = `there is no file ${file}`
      return yield* new InvalidConfig({ source: "the environment", field: variable, reason })
    }
    return yield* new InvalidConfig({ source: file, field: "file", reason: "there is no such file" })
  }
  return yield* decodeText(text.value, file)
})

/**
 * The configuration file: what may stand in it, where it is, and how it is read and changed; and where the command line
 * keeps what it does not configure.
 *
 * @since 0.1.0
 */
import type { PlatformError } from "@effect/platform/Error"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import { InvalidConfig } from "../Errors.js"
import * as BoundedFile from "../internal/boundedFile.js"
import { nearest } from "../Model.js"
import * as Server from "../Server.js"
import * as Gateway from "./gateway.js"

/** An API key, or the value of a header, in the file: itself, or the environment variable that holds it. */
const Secret = Schema.Union(Schema.NonEmptyString, Schema.Struct({ env: Schema.NonEmptyString }))

/**
 * A server in the configuration file.
 *
 * @since 0.1.0
 * @category models
 */
export const FileServer = Schema.Struct({
  url: Schema.NonEmptyString,
  protocol: Schema.optional(Schema.Literal("ollama", "openai")),
  apiKey: Schema.optional(Secret),
  headers: Schema.optional(Schema.Record({ key: Schema.String, value: Secret })),
  location: Schema.optional(Server.GivenLocation),
  organization: Schema.optional(Schema.String),
  weight: Schema.optional(Schema.Number),
  priority: Schema.optional(Schema.Number),
  maxInFlight: Schema.optional(Schema.Number)
})
/**
 * @since 0.1.0
 * @category models
 */
export type FileServer = typeof FileServer.Type

const Count = Schema.Number.pipe(
  Schema.filter((n) => (Number.isSafeInteger(n) && n > 0 ? undefined : "must be a whole number from 1"))
)

/**
 * The configuration file.
 *
 * @since 0.1.0
 * @category models
 */
export const File = Schema.Struct({
  servers: Schema.optional(Schema.Array(Schema.Union(Schema.NonEmptyString, FileServer))),
  model: Schema.optional(Schema.NonEmptyString),
  personas: Schema.optional(Schema.Record({ key: Schema.String, value: Schema.String })),
  location: Schema.optional(Server.GivenLocation),
  registry: Schema.optional(Schema.Union(Schema.String, Schema.Array(Schema.String))),
  /** In seconds. */
  cacheTtl: Schema.optional(Schema.Positive),
  stateFile: Schema.optional(Schema.Union(Schema.NonEmptyString, Schema.Literal(false))),
  /** In seconds. */
  probeInterval: Schema.optional(Schema.Number.pipe(Schema.greaterThanOrEqualTo(1))),
  maxQueued: Schema.optional(Schema.NonNegativeInt),
  maxSchemaBytes: Schema.optional(Count),
  maxAnswerBytes: Schema.optional(Count),
  hedge: Schema.optional(Schema.Union(Schema.Boolean, Schema.Struct({ after: Schema.Positive }))),
  /** Times in seconds; checked where they are put together. */
  defaults: Schema.optional(Schema.Record({ key: Schema.String, value: Schema.Unknown })),
  /** `ttl` in seconds. */
  cache: Schema.optional(
    Schema.Union(
      Schema.Boolean,
      Schema.Struct({
        ttl: Schema.optional(Schema.Positive),
        maxEntries: Schema.optional(Count),
        maxBytes: Schema.optional(Count),
        shared: Schema.optional(Schema.Boolean)
      })
    )
  ),
  /** `ttl` in seconds. */
  sessions: Schema.optional(
    Schema.Struct({
      folder: Schema.optional(Schema.Union(Schema.NonEmptyString, Schema.Literal(false))),
      maxSessions: Schema.optional(Count),
      maxBytes: Schema.optional(Count),
      ttl: Schema.optional(Schema.Positive)
    })
  ),
  proxy: Schema.optional(
    Schema.Union(
      Schema.Literal(false),
      Schema.NonEmptyString,
      Schema.Struct({
        http: Schema.optional(Schema.NonEmptyString),
        https: Schema.optional(Schema.NonEmptyString),
        no: Schema.optional(Schema.String),
        loopback: Schema.optional(Schema.Boolean)
      })
    )
  ),
  ca: Schema.optional(Schema.Union(Schema.NonEmptyString, Schema.Array(Schema.NonEmptyString))),
  gateway: Schema.optional(Gateway.File)
})
/**
 * @since 0.1.0
 * @category models
 */
export type File = typeof File.Type

/** `null` means that a setting is not given. */
function withoutNull(this: unknown, _: string, value: unknown): unknown {
  return value === null && !Array.isArray(this) ? undefined : value
}

const decodeFile = Schema.decodeUnknownEither(Schema.parseJson(File, { reviver: withoutNull }), {
  onExcessProperty: "error",
  errors: "all"
})

/**
 * What the system says of a file, without the names of the functions that asked it.
 *
 * @since 0.1.0
 * @category accessors
 */
export const reasonOf = (error: PlatformError): string =>
  error._tag === "SystemError" ? (error.description ?? error.message) : error.message

/**
 * A file that cannot be read or written.
 *
 * @since 0.1.0
 * @category constructors
 */
export const unusable = (file: string, error: PlatformError): InvalidConfig =>
  new InvalidConfig({ source: file, field: "file", reason: reasonOf(error) })

/** Where a text is no JSON, as far as the engine tells; not what stands there. */
const whereOf = (text: string): string => {
  try {
    JSON.parse(text)
    return ""
  } catch (error) {
    const position = / at position (\d+)/.exec(error instanceof Error ? error.message : "")?.[1]
    if (position === undefined) return ""
    const lines = text.slice(0, Number(position)).split("\n")
    return ` (line ${lines.length}, column ${(lines.at(-1)?.length ?? 0) + 1})`
  }
}

/** What the schema says, in words. */
const words = (message: string, field: string): string => {
  const [, names] = /^is unexpected, expected: (.*)$/.exec(message) ?? []
  if (names !== undefined) {
    const known = [...names.matchAll(/"([^"]+)"/g)].map(([, name = ""]) => name)
    const near = nearest(field, known, 1)[0]
    return `is not known${near === undefined ? `; there are ${known.join(", ")}` : `; did you mean '${near}'?`}`
  }
  return message.startsWith("Expected ReadonlyArray<") ? "must be a list" : message
}

/**
 * What is wrong, without what stands there: it may be a key. Of the ways in which a union does not fit, the deepest
 * is the one that was meant. `text`: the JSON that it stands in.
 *
 * @since 0.1.0
 * @category combinators
 */
export const describe = (
  error: ParseResult.ParseError,
  text?: string
): { readonly field: string; readonly reason: string } => {
  const issues = ParseResult.ArrayFormatter.formatErrorSync(error)
  const issue = issues.reduce((a, b) => (b.path.length > a.path.length ? b : a))
  if (issue.path.length === 0) {
    return { field: "content", reason: `is not a JSON object of settings${text === undefined ? "" : whereOf(text)}` }
  }
  const message = issue.message.replace(/,? actual [\s\S]*$/, "").replace(/\s+/g, " ")
  return { field: issue.path.join("."), reason: words(message, String(issue.path.at(-1))) }
}

/**
 * A variable of the environment; `undefined` where it is not set or blank.
 *
 * @since 0.1.0
 * @category accessors
 */
export const optionalString = (name: string) =>
  Effect.orElseSucceed(
    Effect.map(Config.string(name), (value) => (value.trim() === "" ? undefined : value.trim())),
    () => undefined
  )

const home = Effect.gen(function* () {
  return (yield* optionalString("HOME")) ?? (yield* optionalString("USERPROFILE")) ?? "."
})

const variable = "AICORTEX_CONFIG"

/**
 * Where the configuration file is.
 *
 * @since 0.1.0
 * @category accessors
 */
export const filePath = Effect.gen(function* () {
  const path = yield* Path.Path
  const named = yield* optionalString(variable)
  if (named !== undefined) return named
  const base = yield* optionalString("XDG_CONFIG_HOME")
  if (base !== undefined) return path.join(base, "aicortex", "config.json")
  return path.join(yield* home, ".config", "aicortex", "config.json")
})

/**
 * Where the command line keeps answers: `aicortex/responses` under `XDG_CACHE_HOME` or `~/.cache`.
 *
 * @since 0.1.0
 * @category accessors
 */
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
 *
 * @since 0.1.0
 * @category accessors
 */
export const stateFile = inState("fleet.json")

/**
 * Where the command line keeps conversations: `aicortex/sessions` beside it.
 *
 * @since 0.1.0
 * @category accessors
 */
export const sessionFolder = inState("sessions")

/**
 * The configuration file of a program, which may have named one: where it is, and whether it was named, there or by
 * `AICORTEX_CONFIG`: then it must be there.
 *
 * @since 0.1.0
 * @category accessors
 */
export const place = Effect.fnUntraced(function* (given: string | undefined) {
  if (given !== undefined) return { path: given, named: true }
  return { path: yield* filePath, named: (yield* optionalString(variable)) !== undefined }
})

/** A larger file holds no settings, in bytes. */
const maxFileBytes = 16 * 1024 * 1024

/**
 * Reads the configuration file: a regular file, or a pipe, of at most 16 MiB. One that is not there is empty, unless it is
 * `needed`; one that cannot be used is an error, because going on without it would lose the user's servers.
 *
 * @since 0.1.0
 * @category constructors
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
  return yield* Either.mapLeft(decodeFile(text.value), (error) => {
    return new InvalidConfig({ source: file, ...describe(error, text.value) })
  })
})

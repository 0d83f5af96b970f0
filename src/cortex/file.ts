/**
 * The configuration file: what may stand in it, where it is, and how it is read and changed; and where the command line
 * keeps what it does not configure.
 *
 * @since 0.1.0
 */
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import { InvalidConfig } from "../Errors.js"
import * as Gateway from "../gateway/settings.js"
import * as Server from "../Server.js"

/** An API key in the file: the key, or the environment variable that holds it. */
const ApiKey = Schema.Union(Schema.NonEmptyString, Schema.Struct({ env: Schema.NonEmptyString }))

/**
 * A server in the configuration file.
 *
 * @since 0.1.0
 * @category models
 */
export const FileServer = Schema.Struct({
  url: Schema.NonEmptyString,
  protocol: Schema.optional(Schema.Literal("ollama", "openai")),
  apiKey: Schema.optional(ApiKey),
  location: Schema.optional(Server.Location),
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
  location: Schema.optional(Server.Location),
  registry: Schema.optional(Schema.Union(Schema.String, Schema.Array(Schema.String))),
  /** In seconds. */
  cacheTtl: Schema.optional(Schema.Positive),
  stateFile: Schema.optional(Schema.Union(Schema.NonEmptyString, Schema.Literal(false))),
  /** In seconds. */
  probeInterval: Schema.optional(Schema.Number.pipe(Schema.greaterThanOrEqualTo(1))),
  hedge: Schema.optional(Schema.Union(Schema.Boolean, Schema.Struct({ after: Schema.Positive }))),
  /** `ttl` in seconds. */
  cache: Schema.optional(
    Schema.Union(
      Schema.Boolean,
      Schema.Struct({
        ttl: Schema.optional(Schema.Positive),
        maxEntries: Schema.optional(Count),
        maxBytes: Schema.optional(Count)
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
  gateway: Schema.optional(Gateway.File)
})
/**
 * @since 0.1.0
 * @category models
 */
export type File = typeof File.Type

const decodeFile = Schema.decodeUnknownEither(Schema.parseJson(File), { onExcessProperty: "error", errors: "all" })

/**
 * What is wrong, without what stands there: it may be a key. Of the ways in which a union does not fit, the deepest
 * is the one that was meant.
 */
const describeFile = (error: ParseResult.ParseError): { readonly field: string; readonly reason: string } => {
  const issues = ParseResult.ArrayFormatter.formatErrorSync(error)
  const issue = issues.reduce((a, b) => (b.path.length > a.path.length ? b : a))
  if (issue.path.length === 0) return { field: "content", reason: "is not a JSON object of settings" }
  return { field: issue.path.join("."), reason: issue.message.replace(/,? actual [\s\S]*$/, "").replace(/\s+/g, " ") }
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

/**
 * Where the configuration file is.
 *
 * @since 0.1.0
 * @category accessors
 */
export const filePath = Effect.gen(function* () {
  const path = yield* Path.Path
  const named = yield* optionalString("AICORTEX_CONFIG")
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
 * Reads the configuration file. One that is not there is empty, unless it is `needed`; one that cannot be used is an
 * error, because going on without it would lose the user's servers.
 *
 * @since 0.1.0
 * @category constructors
 */
export const readFile = Effect.fnUntraced(function* (
  file: string,
  needed = false
): Effect.fn.Return<File, InvalidConfig, FileSystem.FileSystem> {
  const fs = yield* FileSystem.FileSystem
  const text = yield* fs.readFileString(file).pipe(
    Effect.map(Option.some),
    Effect.catchTag("SystemError", (error) =>
      error.reason === "NotFound" ? Effect.succeed(Option.none<string>()) : Effect.fail(error)
    ),
    Effect.mapError((error) => new InvalidConfig({ source: file, field: "file", reason: error.message }))
  )
  if (Option.isNone(text)) {
    if (!needed) return {}
    return yield* new InvalidConfig({ source: file, field: "file", reason: "there is no such file" })
  }
  return yield* Either.mapLeft(decodeFile(text.value), (error) => {
    return new InvalidConfig({ source: file, ...describeFile(error) })
  })
})

// =============================================================================
// writing
// =============================================================================

/** Servers are the same if their addresses are, however they are written. */
const address = (server: string | { readonly url: string }): string => {
  const url = typeof server === "string" ? server : server.url
  return Either.match(Server.fromOptions(url, ""), { onLeft: () => url.trim(), onRight: (server) => server.url })
}

/** A symbolic link stays one: what it points to is written. */
const target = Effect.fnUntraced(function* (file: string) {
  const fs = yield* FileSystem.FileSystem
  return yield* Effect.orElseSucceed(fs.realPath(file), () => file)
})

/**
 * Writes a file whole or not at all, and readable by nobody else: it may hold keys.
 *
 * @since 0.1.0
 * @category combinators
 */
export const replaceFile = Effect.fnUntraced(function* (file: string, text: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const real = yield* target(file)
  const temporary = `${real}.${process.pid}.tmp`
  yield* fs.makeDirectory(path.dirname(real), { recursive: true, mode: 0o700 })
  yield* fs.writeFileString(temporary, text, { mode: 0o600 }).pipe(
    Effect.zipRight(fs.chmod(temporary, 0o600)),
    Effect.zipRight(fs.rename(temporary, real)),
    Effect.onError(() => Effect.ignore(fs.remove(temporary)))
  )
})

type Entry = string | typeof FileServer.Encoded

/**
 * Changes the servers in the configuration file, and nothing else in it. `change` gives the new ones, or `undefined`
 * to leave the file as it is.
 */
const edit = Effect.fnUntraced(function* (
  file: string,
  change: (servers: ReadonlyArray<Entry>) => ReadonlyArray<Entry> | undefined
) {
  const fs = yield* FileSystem.FileSystem
  const { servers = [] } = yield* readFile(file)
  const changed = change(servers)
  if (changed === undefined) return false
  yield* Effect.gen(function* () {
    const text = (yield* fs.exists(file)) ? yield* fs.readFileString(file) : "{}"
    const content = { ...JSON.parse(text), servers: changed }
    yield* replaceFile(file, `${JSON.stringify(content, undefined, 2)}\n`)
  }).pipe(
    Effect.uninterruptible,
    Effect.mapError((error) => new InvalidConfig({ source: file, field: "file", reason: error.message }))
  )
  return true
})

/**
 * Adds a server to the configuration file, which is made where there is none. `false` if it names the server already.
 *
 * @since 0.1.0
 * @category combinators
 */
export const addServer = (file: string, server: typeof FileServer.Encoded) => {
  const { url, ...rest } = server
  const entry = Object.values(rest).some((value) => value !== undefined) ? server : url
  return edit(file, (servers) =>
    servers.some((other) => address(other) === address(server)) ? undefined : [...servers, entry]
  )
}

/**
 * Removes a server from the configuration file. `false` if it does not name the server.
 *
 * @since 0.1.0
 * @category combinators
 */
export const removeServer = (file: string, url: string) =>
  edit(file, (servers) => {
    const left = servers.filter((other) => address(other) !== address(url))
    return left.length === servers.length ? undefined : left
  })

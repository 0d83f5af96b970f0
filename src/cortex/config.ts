/**
 * Where settings come from: what the program gives, then the environment, then the configuration file.
 *
 * | setting | environment | file |
 * |---|---|---|
 * | servers | `AICORTEX_SERVERS` (separated by commas or blanks), `OLLAMA_HOST` | `servers` |
 * | default model | `AICORTEX_MODEL` | `model` |
 * | rest after a failure, seconds | `AICORTEX_CACHE_TTL` | `cacheTtl` |
 * | folders of registry files | `AICORTEX_REGISTRY` (separated by commas) | `registry` |
 * | where you are | `AICORTEX_LOCATION` (`latitude,longitude`) | `location` |
 * | reusable system prompts | | `personas` |
 *
 * The file is `AICORTEX_CONFIG`, else `aicortex/config.json` under `XDG_CONFIG_HOME` or `~/.config`.
 *
 * @since 0.1.0
 */
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { defaults } from "../ChatRequest.js"
import { InvalidConfig } from "../Errors.js"
import * as Server from "../Server.js"
import * as Settings from "../Settings.js"

/**
 * What a program may set. Whatever is left out comes from the environment, the configuration file, and the defaults.
 *
 * - `servers`: yours; an empty list means none, not even the local one
 * - `model`: where a call names none; default `gpt-oss:20b`
 * - `personas`: reusable system prompts by name
 * - `location`: where you are, for `nearest`
 * - `registry`: folders of registry files of your own
 * - `cacheTtl`, `bestServerTtl`, `discoveryTtl`: in milliseconds; defaults 60,000, 300,000 and 300,000
 * - `defaultModel`: the model where nobody names one; default `gpt-oss:20b`
 * - `configFile`: instead of the usual place; `false` reads neither file nor environment
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  readonly servers?: ReadonlyArray<string | Server.ServerOptions> | undefined
  readonly model?: string | undefined
  readonly personas?: { readonly [name: string]: string } | undefined
  readonly location?: Server.Location | undefined
  readonly registry?: string | ReadonlyArray<string> | undefined
  readonly cacheTtl?: number | undefined
  readonly bestServerTtl?: number | undefined
  readonly discoveryTtl?: number | undefined
  readonly defaultModel?: string | undefined
  readonly configFile?: string | false | undefined
}

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
  cacheTtl: Schema.optional(Schema.Positive)
})
/**
 * @since 0.1.0
 * @category models
 */
export type File = typeof File.Type

const decodeFile = Schema.decodeUnknownEither(Schema.parseJson(File), { onExcessProperty: "error", errors: "first" })

const optionalString = (name: string) =>
  Effect.orElseSucceed(
    Effect.map(Config.string(name), (value) => (value.trim() === "" ? undefined : value.trim())),
    () => undefined
  )

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
  const home = (yield* optionalString("HOME")) ?? (yield* optionalString("USERPROFILE")) ?? "."
  return path.join(home, ".config", "aicortex", "config.json")
})

/**
 * Reads the configuration file. One that is not there is empty; one that cannot be used is an error, because going
 * on without it would lose the user's servers.
 *
 * @since 0.1.0
 * @category constructors
 */
export const readFile = Effect.fnUntraced(function* (
  file: string
): Effect.fn.Return<File, InvalidConfig, FileSystem.FileSystem> {
  const fs = yield* FileSystem.FileSystem
  const text = yield* fs.readFileString(file).pipe(
    Effect.map(Option.some),
    Effect.catchTag("SystemError", (error) =>
      error.reason === "NotFound" ? Effect.succeed(Option.none<string>()) : Effect.fail(error)
    ),
    Effect.mapError((error) => new InvalidConfig({ source: file, field: "file", reason: error.message }))
  )
  if (Option.isNone(text)) return {}
  return yield* Either.mapLeft(
    decodeFile(text.value),
    (error) => new InvalidConfig({ source: file, field: "content", reason: error.message })
  )
})

const fromFile = Effect.fnUntraced(function* (server: string | FileServer, source: string) {
  if (typeof server === "string") return yield* Server.fromOptions(server, source)
  const { apiKey } = server
  if (typeof apiKey !== "object") return yield* Server.fromOptions({ ...server, apiKey }, source)
  const name = apiKey.env
  const key: Redacted.Redacted = yield* Effect.mapError(
    Config.redacted(name),
    () => new InvalidConfig({ source, field: "servers.apiKey", reason: `the environment variable ${name} is not set` })
  )
  return yield* Server.fromOptions({ ...server, apiKey: key }, source)
})

const positive = (value: number | undefined, field: string, source: string) =>
  value === undefined || (Number.isFinite(value) && value > 0)
    ? Effect.succeed(value)
    : Effect.fail(new InvalidConfig({ source, field, reason: `${value} must be a number above 0` }))

const parseLocation = (text: string) => {
  const [latitude, longitude, ...rest] = text.split(",").map((part) => Number(part.trim()))
  const location = Schema.decodeUnknownEither(Server.Location)({ latitude, longitude })
  return Either.isRight(location) && rest.length === 0 && latitude !== undefined && longitude !== undefined
    ? Effect.succeed(location.right)
    : Effect.fail(
        new InvalidConfig({
          source: "the environment",
          field: "AICORTEX_LOCATION",
          reason: `'${text}' must be a latitude and a longitude in degrees, such as 52.52,13.40`
        })
      )
}

/** Where Ollama listens unless told otherwise: used only if it answers. */
const localOllama: Server.Server = {
  ...Server.embedded,
  url: "http://127.0.0.1:11434",
  protocol: "ollama",
  implicit: true
}

/**
 * The servers of the environment, or `undefined` where it names none.
 *
 * @since 0.1.0
 * @category constructors
 */
const environmentServers = Effect.gen(function* () {
  const list = yield* optionalString("AICORTEX_SERVERS")
  if (list !== undefined) {
    const urls = list.split(/[\s,]+/).filter((url) => url !== "")
    return yield* Effect.forEach(urls, (url) => Server.fromOptions(url, "AICORTEX_SERVERS"))
  }
  const host = yield* optionalString("OLLAMA_HOST")
  if (host === undefined) return undefined
  const server = yield* Server.fromOptions(host, "OLLAMA_HOST")
  return [server.protocol === undefined ? { ...server, protocol: "ollama" as const } : server]
})

const unique = (servers: ReadonlyArray<Server.Server>, source: string) => {
  const seen = new Set<string>()
  for (const { url } of servers) {
    if (seen.has(url)) {
      return Effect.fail(new InvalidConfig({ source, field: "servers", reason: `${url} is named twice` }))
    }
    seen.add(url)
  }
  return Effect.succeed(servers)
}

/**
 * The settings that hold, or what is wrong with them.
 *
 * @since 0.1.0
 * @category constructors
 */
export const settings = Effect.fnUntraced(function* (
  options: Options
): Effect.fn.Return<Settings.Settings, InvalidConfig, FileSystem.FileSystem | Path.Path> {
  const given = "the options"
  const alone = options.configFile === false
  const path = alone ? "" : (options.configFile ?? (yield* filePath))
  const file = alone ? {} : yield* readFile(path)
  const env = <A>(effect: Effect.Effect<A, InvalidConfig>) => (alone ? Effect.succeed(undefined) : effect)

  let servers: ReadonlyArray<Server.Server>
  let source = given
  if (options.servers !== undefined) {
    servers = yield* Effect.forEach(options.servers, (server) => Server.fromOptions(server, given))
  } else {
    const named = yield* env(environmentServers)
    source = named === undefined ? path : "the environment"
    servers = named ?? (yield* Effect.forEach(file.servers ?? [], (server) => fromFile(server, path)))
    if (servers.length === 0 && !alone) servers = [localOllama]
  }

  const chosen = options.model ?? (yield* env(optionalString("AICORTEX_MODEL"))) ?? file.model
  const model = chosen ?? options.defaultModel ?? defaults.model
  if (typeof model !== "string" || model.trim() === "") {
    return yield* new InvalidConfig({ source: given, field: "model", reason: "must be the name of a model" })
  }
  const ttl = yield* env(optionalString("AICORTEX_CACHE_TTL"))
  const seconds = yield* positive(
    ttl === undefined ? file.cacheTtl : Number(ttl),
    "AICORTEX_CACHE_TTL",
    ttl === undefined ? path : "the environment"
  )
  const place = yield* env(optionalString("AICORTEX_LOCATION"))
  const folders = yield* env(optionalString("AICORTEX_REGISTRY"))
  const registry = options.registry ?? folders?.split(",").map((folder) => folder.trim()) ?? file.registry ?? []
  return {
    model: model.trim(),
    modelNamed: chosen !== undefined,
    servers: yield* unique(servers, source),
    registry: typeof registry === "string" ? [registry] : registry,
    personas: options.personas ?? file.personas ?? {},
    location: options.location ?? (place === undefined ? file.location : yield* parseLocation(place)),
    cacheTtl:
      (yield* positive(options.cacheTtl, "cacheTtl", given)) ??
      (seconds === undefined ? Settings.empty.cacheTtl : seconds * 1000),
    bestServerTtl: (yield* positive(options.bestServerTtl, "bestServerTtl", given)) ?? Settings.empty.bestServerTtl,
    discoveryTtl: (yield* positive(options.discoveryTtl, "discoveryTtl", given)) ?? Settings.empty.discoveryTtl
  }
})

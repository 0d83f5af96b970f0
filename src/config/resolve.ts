/**
 * Where settings come from: what the program gives, then the environment, then the configuration file.
 *
 * | setting | environment | file |
 * |---|---|---|
 * | servers | `AICORTEX_SERVERS` (separated by commas or blanks), `OLLAMA_HOST` | `servers` |
 * | default model | `AICORTEX_MODEL` | `model` |
 * | rest after a failure, seconds | `AICORTEX_CACHE_TTL` | `cacheTtl` |
 * | folders of registry files | `AICORTEX_REGISTRY` (separated by commas) | `registry` |
 * | what was learned of the servers | `AICORTEX_STATE` (a file, or `off`) | `stateFile` |
 * | conversations | `AICORTEX_SESSIONS` (a folder, or `off`) | `sessions` |
 * | whether servers can be reached, asked every so many seconds | `AICORTEX_PROBE_INTERVAL` | `probeInterval` |
 * | how many calls may wait for a model | | `maxQueued` |
 * | how long a JSON Schema may be, bytes | `AICORTEX_MAX_SCHEMA_BYTES` | `maxSchemaBytes` |
 * | how long an answer may be, bytes | `AICORTEX_MAX_ANSWER_BYTES` | `maxAnswerBytes` |
 * | proxies | `AICORTEX_PROXY` (an address, or `off`), `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY` | `proxy` |
 * | further authorities | `NODE_EXTRA_CA_CERTS` (read by Node) | `ca` |
 * | where you are | `AICORTEX_LOCATION` (`52.52,13.40`, `Berlin, DE`) | `location` |
 * | reusable system prompts | | `personas` |
 * | options of calls that name none | `AICORTEX_DEFAULTS` (JSON, as in the file) | `defaults` |
 * | whether, and how, answers are kept | | `cache` |
 * | the gateway: see `config/gateway` | `HOST`, `PORT`, `DEFAULT_MODEL`, `AICORTEX_API_KEY` | `gateway` |
 * | whether a second server is asked where the first is late | | `hedge` |
 *
 * The file is `AICORTEX_CONFIG`, else `aicortex/config.json` under `XDG_CONFIG_HOME` or `~/.config`.
 *
 * @since 0.1.0
 */
import type * as FileSystem from "@effect/platform/FileSystem"
import type * as Path from "@effect/platform/Path"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Record from "effect/Record"
import * as Schema from "effect/Schema"
import type { CallDefaults } from "../CallDefaults.js"
import { defaults } from "../ChatRequest.js"
import { InvalidConfig } from "../Errors.js"
import { withoutNulls } from "../internal/options.js"
import * as Places from "../internal/places.js"
import * as Server from "../Server.js"
import * as Settings from "../Settings.js"
import * as Defaults from "./callDefaults.js"
import { describe, type File, type FileServer, optionalString, place as placeOf, readFile } from "./file.js"
import * as Forms from "./forms.js"
import * as Network from "./network.js"
import type { CacheOptions, SessionOptions } from "./policies.js"
import * as Policies from "./policies.js"

/**
 * @since 0.1.0
 * @category models
 */
export type { CacheOptions, SessionOptions } from "./policies.js"

/**
 * What a program may set. Whatever is left out comes from the environment, the configuration file, and the defaults.
 *
 * - `servers`: yours; an empty list means none, not even the local one
 * - `model`: where a call names none; default `gpt-oss:20b`
 * - `personas`: reusable system prompts by name
 * - `location`: where you are, for `nearest`: coordinates, the names of a city and a country, or a text such as `Berlin, DE`
 * - `registry`: folders of registry files of your own
 * - `cacheTtl`, `bestServerTtl`, `discoveryTtl`: in milliseconds; defaults 60,000, 300,000 and 300,000
 * - `sessions`: how many conversations are kept (`maxSessions`), for how long (`ttl`, in milliseconds), and how much they
 *   may hold (`maxBytes`): see `Sessions.MemoryOptions`. With a `folder` they are kept there, outlive the process,
 *   and are shared with every process that has the same folder: see `SessionFolder`; `folder: false` means memory
 * - `defaultSessionFolder`: the folder where nobody names one, nor says `false`
 * - `stateFile`: a file in which what is learned of the servers is kept for the next run; default `false`: nowhere. See
 *   `Fleet.Saved`
 * - `maxQueued`: how many calls may wait for a place where all servers of a model are full; 0: none; default 512, or 4 per
 *   server where that is more. One more ends with `Overloaded`
 * - `maxSchemaBytes`: how long a JSON Schema may be, of an answer or of the arguments of a tool, in bytes of JSON; default
 *   262,144. A longer one is `InvalidRequest`, before anything is sent
 * - `maxAnswerBytes`: how long an answer of a server may be: its text, its reasoning and the arguments of its tools
 *   together, or the vectors of texts as they come; default 67,108,864 (64 MiB). One that goes on is cut off, and the
 *   server counts as failed (`malformed`)
 * - `probeInterval`: every so many milliseconds each of your servers is asked a small thing, at least 1,000; default:
 *   never. See `Probes`
 * - `defaultStateFile`: the file where nobody names one, nor says `false`
 * - `defaults`: options of calls that hold where a call does not say, such as `timeout`, `maxRetries` and `temperature`: see
 *   `CallDefaults`. Those that are left out come from the environment and the file, one by one
 * - `hedge`: whether a second server is asked where the first is late and a call does not say: see `ChatRequest.Options`;
 *   default `false`
 * - `cache`: whether answers are kept where a call does not say, and how: `ttl` in milliseconds (default 3,600,000),
 *   `maxEntries` (1,000), `maxBytes` (64 MiB), `shared`: whether an answer that was kept for one `owner` of calls (in the
 *   gateway: for one API key) answers another (`false`); default `false`. See `ResponseCache`
 * - `defaultModel`: the model where nobody names one; default `gpt-oss:20b`
 * - `proxy`: through which proxy servers are reached; `false`: none. Default: `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`.
 *   This machine itself is reached without
 * - `ca`: files of certificates (PEM), or their text, of authorities that are trusted besides those that Node trusts
 * - `configFile`: instead of the usual place, and then it must be there, as must one that `AICORTEX_CONFIG` names; `false`
 *   reads neither file nor environment
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  readonly servers?: ReadonlyArray<string | Server.ServerOptions> | undefined
  readonly model?: string | undefined
  readonly personas?: { readonly [name: string]: string } | undefined
  readonly location?: string | Server.Location | undefined
  readonly registry?: string | ReadonlyArray<string> | undefined
  readonly cacheTtl?: number | undefined
  readonly bestServerTtl?: number | undefined
  readonly discoveryTtl?: number | undefined
  readonly sessions?: SessionOptions | undefined
  readonly defaultSessionFolder?: string | undefined
  readonly stateFile?: string | false | undefined
  readonly defaultStateFile?: string | undefined
  readonly maxQueued?: number | undefined
  readonly maxSchemaBytes?: number | undefined
  readonly maxAnswerBytes?: number | undefined
  readonly probeInterval?: number | undefined
  readonly hedge?: boolean | { readonly after: number } | undefined
  readonly defaults?: CallDefaults | undefined
  readonly cache?: boolean | CacheOptions | undefined
  readonly defaultModel?: string | undefined
  readonly configFile?: string | false | undefined
  readonly proxy?: Network.ProxyOption | undefined
  readonly ca?: string | ReadonlyArray<string> | undefined
}

const secret = (given: string | { readonly env: string }, source: string, field: string) =>
  typeof given === "string"
    ? Effect.succeed(given)
    : Effect.mapError(
        Config.redacted(given.env),
        () => new InvalidConfig({ source, field, reason: `the environment variable ${given.env} is not set` })
      )

const fromFile = Effect.fnUntraced(function* (server: string | FileServer, source: string) {
  if (typeof server === "string") return yield* Server.fromOptions(server, source)
  const { apiKey, headers } = server
  return yield* Server.fromOptions(
    {
      ...server,
      apiKey: apiKey === undefined ? undefined : yield* secret(apiKey, source, "servers.apiKey"),
      headers:
        headers === undefined
          ? undefined
          : yield* Effect.all(Record.map(headers, (value, name) => secret(value, source, `servers.headers.${name}`)))
    },
    source
  )
})

/**
 * A place as users give it: `52.52,13.40`, `Berlin, DE`, or an object. `source` and `field` are where it stands, for the
 * error.
 *
 * @since 0.1.0
 * @category constructors
 */
export const parseLocation = (
  location: string | Server.Location,
  source: string,
  field: string
): Either.Either<Server.Location, InvalidConfig> =>
  Either.mapLeft(
    decodeLocation(location),
    (error) => new InvalidConfig({ source, field, reason: describe(error).reason })
  )

const decodeLocation = Schema.decodeUnknownEither(Server.GivenLocation)

/** Where Ollama listens unless told otherwise: used only if it answers. */
const localOllama: Server.Server = {
  ...Server.embedded,
  url: "http://127.0.0.1:11434",
  protocol: "ollama",
  implicit: true
}

interface Named {
  readonly source: string
  readonly servers: ReadonlyArray<Server.Server>
}

/** The servers of the environment, or `undefined` where it names none. */
const environmentServers: Effect.Effect<Named | undefined, InvalidConfig> = Effect.gen(function* () {
  const list = yield* optionalString("AICORTEX_SERVERS")
  // Files of variables that no shell reads keep the quotes.
  const urls = (list ?? "")
    .replace(/["']/g, " ")
    .split(/[\s,]+/)
    .filter((url) => url !== "")
  if (urls.length > 0) {
    const servers = yield* Effect.forEach(urls, (url) => Server.fromOptions(url, "AICORTEX_SERVERS"))
    return { source: "AICORTEX_SERVERS", servers }
  }
  const host = yield* optionalString("OLLAMA_HOST")
  if (host === undefined) return undefined
  const server = yield* Server.fromOptions(host, "OLLAMA_HOST")
  const protocol = server.protocol ?? "ollama"
  return { source: "OLLAMA_HOST", servers: [{ ...server, protocol }] }
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
 * The settings that hold, and where each comes from: `the options`, the name of an environment variable, `the file`,
 * or `default`. `file` is where the configuration file is or would be, `undefined` where none is read.
 *
 * @since 0.1.0
 * @category models
 */
export interface Resolved {
  readonly settings: Settings.Settings
  readonly origins: {
    readonly [K in
      | "servers"
      | "model"
      | "location"
      | "registry"
      | "personas"
      | "cacheTtl"
      | "cache"
      | "stateFile"
      | "sessions"
      | "hedge"
      | "probeInterval"
      | "maxQueued"
      | "maxSchemaBytes"
      | "maxAnswerBytes"]: string
  }
  /** Where each of the defaults of calls comes from. */
  readonly defaultOrigins: { readonly [name: string]: string }
  readonly file: string | undefined
}

/** The first that is given, with its origin. */
const first = <A>(
  ...candidates: ReadonlyArray<readonly [origin: string, value: A | undefined]>
): { readonly origin: string; readonly value: A | undefined } => {
  for (const [origin, value] of candidates) if (value !== undefined) return { origin, value }
  return { origin: "default", value: undefined }
}

const optionKeys = new Set([
  "servers",
  "model",
  "personas",
  "location",
  "registry",
  "cacheTtl",
  "bestServerTtl",
  "discoveryTtl",
  "defaultModel",
  "configFile",
  "proxy",
  "ca",
  "sessions",
  "defaultSessionFolder",
  "demoModel",
  "cache",
  "cacheFolder",
  "stateFile",
  "defaultStateFile",
  "hedge",
  "defaults",
  "probeInterval",
  "maxQueued",
  "maxSchemaBytes",
  "maxAnswerBytes"
])

/**
 * The settings that hold with where they come from, or what is wrong with them.
 *
 * @since 0.1.0
 * @category constructors
 */
export const resolve = Effect.fnUntraced(function* (
  asked: Options
): Effect.fn.Return<Resolved, InvalidConfig, FileSystem.FileSystem | Path.Path> {
  const given = "the options"
  const options = withoutNulls(asked ?? {}, ["sessions", "cache", "proxy", "location"])
  const unknown = Object.keys(options).find((key) => !optionKeys.has(key))
  if (unknown !== undefined) {
    const reason = `there is no such option; there are ${[...optionKeys].join(", ")}`
    return yield* new InvalidConfig({ source: given, field: unknown, reason })
  }
  yield* Forms.check(options, given)
  const alone = options.configFile === false
  const place = options.configFile === false ? { named: false, path: "" } : yield* placeOf(options.configFile)
  const { path } = place
  const file: File = alone ? {} : yield* readFile(path, place.named)
  const env = <A>(effect: Effect.Effect<A, InvalidConfig>) => (alone ? Effect.succeed(undefined) : effect)
  const variable = (name: string) => env(optionalString(name))

  let servers: ReadonlyArray<Server.Server>
  let serversFrom = given
  if (options.servers !== undefined) {
    servers = yield* Effect.forEach(options.servers, (server) => Server.fromOptions(server, given))
  } else {
    const named = yield* env(environmentServers)
    if (named !== undefined) {
      servers = named.servers
      serversFrom = named.source
    } else if (file.servers !== undefined) {
      servers = yield* Effect.forEach(file.servers, (server) => fromFile(server, path))
      serversFrom = "the file"
    } else {
      servers = alone ? [] : [localOllama]
      serversFrom = "default"
    }
  }

  const model = first(
    [given, options.model],
    ["AICORTEX_MODEL", yield* variable("AICORTEX_MODEL")],
    ["the file", file.model]
  )
  const name = model.value ?? options.defaultModel ?? defaults.model
  if (typeof name !== "string" || name.trim() === "") {
    return yield* new InvalidConfig({ source: given, field: "model", reason: "must be the name of a model" })
  }
  const seconds = (value: number | undefined) => (value === undefined ? undefined : value * 1000)
  const ttl = yield* variable("AICORTEX_CACHE_TTL")
  const parallel = yield* variable("OLLAMA_NUM_PARALLEL")
  const cacheTtl = first(
    [given, yield* Policies.positive(options.cacheTtl, "cacheTtl", given)],
    ["AICORTEX_CACHE_TTL", seconds(yield* Policies.positiveText(ttl, "AICORTEX_CACHE_TTL"))],
    ["the file", seconds(file.cacheTtl)]
  )
  const state = yield* variable("AICORTEX_STATE")
  const stateFile = first<string | false>(
    [given, options.stateFile],
    ["AICORTEX_STATE", Policies.isOff(state) ? false : state],
    ["the file", file.stateFile]
  )
  if (stateFile.value !== undefined && stateFile.value !== false && !Policies.isPath(stateFile.value)) {
    return yield* new InvalidConfig({
      source: stateFile.origin,
      field: "stateFile",
      reason: "must be a file, or false"
    })
  }
  const named = yield* variable("AICORTEX_SESSIONS")
  const sessionFolder = first<string | false>(
    [given, options.sessions?.folder],
    ["AICORTEX_SESSIONS", Policies.isOff(named) ? false : named],
    ["the file", file.sessions?.folder],
    ["default", options.defaultSessionFolder]
  )
  const interval = yield* variable("AICORTEX_PROBE_INTERVAL")
  const probeInterval = first(
    [given, yield* Policies.atLeastASecond(options.probeInterval, "probeInterval", given)],
    [
      "AICORTEX_PROBE_INTERVAL",
      yield* Policies.atLeastASecond(
        seconds(yield* Policies.positiveText(interval, "AICORTEX_PROBE_INTERVAL")),
        "AICORTEX_PROBE_INTERVAL",
        "the environment"
      )
    ],
    ["the file", seconds(file.probeInterval)]
  )
  const maxQueued = first(
    [given, yield* Policies.wholeFromZero(options.maxQueued, "maxQueued", given)],
    ["the file", file.maxQueued]
  )
  const bytes = Effect.fnUntraced(function* (name: "maxSchemaBytes" | "maxAnswerBytes", variableName: string) {
    const text = yield* Policies.positiveText(yield* variable(variableName), variableName)
    return first(
      [given, yield* Policies.wholeAboveZero(options[name], name, given)],
      [variableName, yield* Policies.wholeAboveZero(text, variableName, "the environment")],
      ["the file", file[name]]
    )
  })
  const maxSchemaBytes = yield* bytes("maxSchemaBytes", "AICORTEX_MAX_SCHEMA_BYTES")
  const maxAnswerBytes = yield* bytes("maxAnswerBytes", "AICORTEX_MAX_ANSWER_BYTES")
  const fileHedge = typeof file.hedge === "object" ? { after: file.hedge.after * 1000 } : file.hedge
  const hedge = first<boolean | { readonly after: number }>([given, options.hedge], ["the file", fileHedge])
  if (hedge.value !== undefined && !Policies.isHedge(hedge.value)) {
    return yield* new InvalidConfig({
      source: hedge.origin,
      field: "hedge",
      reason: "must be true, false or { after } with a number of milliseconds above 0"
    })
  }
  const callDefaults = yield* Defaults.resolve([
    { origin: given, source: given, field: "defaults", value: options.defaults },
    yield* Defaults.fromVariable(yield* variable("AICORTEX_DEFAULTS")),
    { origin: "the file", source: path, field: "defaults", value: file.defaults, seconds: true }
  ])
  const location = first<string | Server.Location>(
    [given, options.location],
    ["AICORTEX_LOCATION", yield* variable("AICORTEX_LOCATION")],
    ["the file", file.location]
  )
  const where =
    location.origin === "AICORTEX_LOCATION"
      ? { source: "the environment", field: location.origin }
      : { source: location.origin === "the file" ? path : given, field: "location" }
  const here =
    location.value === undefined ? undefined : yield* parseLocation(location.value, where.source, where.field)
  const coordinates = here === undefined ? undefined : yield* Places.locate(here)
  if (coordinates !== undefined && Either.isLeft(coordinates)) {
    return yield* new InvalidConfig({ ...where, reason: coordinates.left })
  }
  const folders = (yield* variable("AICORTEX_REGISTRY"))?.split(",").map((folder) => folder.trim())
  const registry = first<string | ReadonlyArray<string>>(
    [given, options.registry],
    ["AICORTEX_REGISTRY", folders],
    ["the file", file.registry]
  )
  const personas = first([given, options.personas], ["the file", file.personas])
  const fileCache = typeof file.cache === "object" ? { ...file.cache, ttl: seconds(file.cache.ttl) } : file.cache
  const cache = first<boolean | CacheOptions>([given, options.cache], ["the file", fileCache])
  return {
    settings: {
      model: name.trim(),
      modelNamed: model.value !== undefined,
      servers: yield* unique(servers, serversFrom === "the file" ? path : serversFrom),
      registry: typeof registry.value === "string" ? [registry.value] : (registry.value ?? []),
      personas: personas.value ?? {},
      location: here,
      coordinates: here === undefined || Places.hasCoordinates(here) ? undefined : coordinates?.right,
      cacheTtl: cacheTtl.value ?? Settings.empty.cacheTtl,
      bestServerTtl:
        (yield* Policies.positive(options.bestServerTtl, "bestServerTtl", given)) ?? Settings.empty.bestServerTtl,
      parallel: yield* Policies.positiveText(parallel, "OLLAMA_NUM_PARALLEL"),
      stateFile: (stateFile.value ?? options.defaultStateFile) || undefined,
      probeInterval: probeInterval.value,
      maxQueued: maxQueued.value,
      maxSchemaBytes: maxSchemaBytes.value ?? Settings.empty.maxSchemaBytes,
      maxAnswerBytes: maxAnswerBytes.value ?? Settings.empty.maxAnswerBytes,
      discoveryTtl:
        (yield* Policies.positive(options.discoveryTtl, "discoveryTtl", given)) ?? Settings.empty.discoveryTtl,
      hedge: hedge.value ?? Settings.empty.hedge,
      defaults: callDefaults.defaults,
      proxy: yield* Network.proxy(options.proxy, file.proxy, path, alone),
      ca:
        options.ca === undefined
          ? yield* Network.authorities(file.ca, path)
          : yield* Network.authorities(options.ca, given),
      cache: yield* Policies.cachePolicy(cache.value ?? false, cache.origin),
      sessions: yield* Policies.sessionPolicy(
        options.sessions ?? {},
        { ...file.sessions, ttl: seconds(file.sessions?.ttl) },
        sessionFolder,
        path
      )
    },
    origins: {
      servers: serversFrom,
      model: model.origin,
      location: location.origin,
      registry: registry.origin,
      personas: personas.origin,
      cacheTtl: cacheTtl.origin,
      cache: cache.origin,
      stateFile: stateFile.origin,
      sessions: sessionFolder.origin === "default" && file.sessions !== undefined ? "the file" : sessionFolder.origin,
      hedge: hedge.origin,
      probeInterval: probeInterval.origin,
      maxQueued: maxQueued.origin,
      maxSchemaBytes: maxSchemaBytes.origin,
      maxAnswerBytes: maxAnswerBytes.origin
    },
    defaultOrigins: callDefaults.origins,
    file: alone ? undefined : path
  }
})

/**
 * The settings that hold, or what is wrong with them.
 *
 * @since 0.1.0
 * @category constructors
 */
export const settings = (
  options: Options
): Effect.Effect<Settings.Settings, InvalidConfig, FileSystem.FileSystem | Path.Path> =>
  Effect.map(resolve(options), (resolved) => resolved.settings)

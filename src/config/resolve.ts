/**
 * The settings of a fleet that hold: what the program gives, then the environment, then the configuration file, then
 * the defaults. Which there are, and where each may stand, is in `config/fleet`.
 *
 * The file is `AICORTEX_CONFIG`, else `aicortex/config.json` under `XDG_CONFIG_HOME` or `~/.config`.
 */
import type * as FileSystem from "@effect/platform/FileSystem"
import type * as Path from "@effect/platform/Path"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Record from "effect/Record"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { InvalidConfig } from "../Errors.js"
import * as Locations from "../internal/geocoding.js"
import { describe } from "../internal/issues.js"
import { withoutNulls } from "../internal/optionSchemas.js"
import * as Aliases from "../modelSelection/aliases.js"
import { automatic } from "../modelSelection/candidate.js"
import * as ResponseCache from "../ResponseCache.js"
import * as Server from "../Server.js"
import * as Settings from "../Settings.js"
import { type Collected, collect, type Place, unknownOption } from "./collect.js"
import { type File, modelFolder, optionalString, place as placeOf, readFile, registryFolder } from "./file.js"
import { type CacheOptions, fleet, ownDefaults } from "./fleet.js"
import * as Network from "./network.js"
import * as Registries from "./registry.js"
import type { FileServer, Secret } from "./server.js"
import type { AnySetting, OptionsOf } from "./setting.js"

/**
 * What a program may set. Whatever is left out comes from the environment, the configuration file, and the defaults.
 * Times are in milliseconds.
 */
export interface ConfigOptions extends OptionsOf<typeof fleet>, OptionsOf<typeof ownDefaults> {
  /** Another name of `serverCooldown`, which AI Cortex has for it. */
  readonly cacheTtl?: ConfigOptions["serverCooldown"]
}

const secret = (given: Secret, { field, source }: Place, name: string) =>
  typeof given === "string"
    ? Effect.succeed(given)
    : Effect.mapError(
        Config.redacted(given.env),
        () =>
          new InvalidConfig({
            source,
            field: `${field}.${name}`,
            reason: `the environment variable ${given.env} is not set`
          })
      )

const fromFile = Effect.fnUntraced(function* (server: string | FileServer, place: Place) {
  if (typeof server === "string") return yield* Server.fromOptions(server, place.source)
  const { apiKey, headers, ...rest } = server
  return yield* Server.fromOptions(
    {
      ...rest,
      apiKey: apiKey === undefined ? undefined : yield* secret(apiKey, place, "apiKey"),
      headers:
        headers === undefined
          ? undefined
          : yield* Effect.all(Record.map(headers, (value, name) => secret(value, place, `headers.${name}`)))
    },
    place.source
  )
})

/**
 * A place as users give it: `52.52,13.40`, `Berlin, DE`, or an object. `source` and `field` are where it stands, for
 * the error.
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

const decodeLocation = Schema.decodeUnknownEither(Server.LocationInput)

/** Ollama's default address: used only if it answers. */
const localOllama: Server.Server = {
  ...Server.embedded,
  url: "http://127.0.0.1:11434",
  protocol: "ollama",
  implicit: true
}

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

/** The servers that were given, or the local one if none was named and the environment counts. */
const serversOf = Effect.fnUntraced(function* (
  given: ReadonlyArray<string | Server.ServerOptions | FileServer> | undefined,
  place: Place | undefined,
  alone: boolean
) {
  if (given === undefined || place === undefined) return alone ? [] : [localOllama]
  // A variable has no fields: it is what the user knows these by.
  const at = place.source === "the environment" ? { ...place, source: place.origin, field: "servers" } : place
  const servers =
    place.origin === "the file"
      ? yield* Effect.forEach(given as ReadonlyArray<string | FileServer>, (server) => fromFile(server, at))
      : yield* Effect.forEach(given as ReadonlyArray<string | Server.ServerOptions>, (server) =>
          Server.fromOptions(server, at.source)
        )
  const spoken =
    place.origin === "OLLAMA_HOST"
      ? servers.map((server) => ({ ...server, protocol: server.protocol ?? ("ollama" as const) }))
      : servers
  return yield* unique(spoken, at.source)
})

const cacheOf = (cache: boolean | CacheOptions): Settings.CachePolicy | undefined => {
  if (cache === false) return undefined
  const { maxBytes, maxEntries, shared = false, ttl } = cache === true ? {} : cache
  const { defaults } = ResponseCache
  return {
    ttl: ttl ?? defaults.ttl,
    maxEntries: maxEntries ?? defaults.maxEntries,
    maxBytes: maxBytes ?? defaults.maxBytes,
    shared
  }
}

/**
 * The settings that hold, and where each comes from: `the options`, the name of an environment variable, `the file`,
 * or `default`. `file` is where the configuration file is or would be, `undefined` where none is read; `content` is
 * what stands there.
 */
export interface Resolved {
  readonly settings: Settings.Settings
  readonly places: Collected<typeof fleet>["places"]
  readonly members: Collected<typeof fleet>["members"]
  readonly file: string | undefined
  readonly content: File
}

const optionsName = "the options"
const optionNames = [...Object.keys(fleet), ...Object.keys(ownDefaults)]
const aliasNames = Object.values<AnySetting>(fleet).flatMap(({ aliases = [] }) => aliases)

/** The variables that settings may be given by, as far as they are set. */
const readVariables = Effect.gen(function* () {
  const names = Object.values(fleet).flatMap(({ env }) => env ?? [])
  const values = new Map<string, string>()
  for (const name of names) {
    const value = yield* optionalString(name)
    if (value !== undefined) values.set(name, value)
  }
  return values
})

/** The settings that hold with where they come from, or what is wrong with them. */
export const resolve = Effect.fnUntraced(function* (
  configOptions: ConfigOptions
): Effect.fn.Return<Resolved, InvalidConfig, FileSystem.FileSystem | Path.Path> {
  const options = withoutNulls(configOptions ?? {})
  yield* unknownOption(options, optionNames, optionsName, aliasNames)
  const alone = options.configFile === false
  const nothing = { variable: () => undefined, file: {}, path: "" }
  const own = yield* collect(ownDefaults, { ...nothing, name: optionsName, options: pickOwn(options) })
  const given = Record.filter(
    options as Record<string, unknown>,
    (_, name) => name in fleet || aliasNames.includes(name)
  ) as OptionsOf<typeof fleet>
  // What names the file cannot come from it.
  const { values: where } = yield* collect(
    { configFile: fleet.configFile },
    { ...nothing, name: optionsName, options: { configFile: options.configFile } }
  )
  const { named, path } = where.configFile === false ? { named: false, path: "" } : yield* placeOf(where.configFile)
  const content: File = alone ? {} : yield* readFile(path, named)
  const variables = alone ? new Map<string, string>() : yield* readVariables
  const { members, places, values } = yield* collect(fleet, {
    options: given,
    name: optionsName,
    variable: (name) => variables.get(name),
    file: content as OptionsOf<typeof fleet>,
    path
  })
  const { defaultSessionFolder, defaultStateFile, defaultStore } = own.values
  const placeOfSetting = (name: keyof typeof fleet): Place =>
    places[name] ?? { origin: "default", source: optionsName, field: name }

  const here =
    values.location === undefined
      ? undefined
      : yield* parseLocation(values.location, placeOfSetting("location").source, placeOfSetting("location").field)
  const coordinates = here === undefined ? undefined : yield* Locations.locate(here)
  if (coordinates !== undefined && Either.isLeft(coordinates)) {
    const { field, source } = placeOfSetting("location")
    return yield* new InvalidConfig({ source, field, reason: coordinates.left })
  }
  for (const name of ["remoteCostPerDay", "remoteCostPerMonth"] as const) {
    if (values[name] === undefined || values.prices !== undefined) continue
    const { field, source } = placeOfSetting(name)
    return yield* new InvalidConfig({ source, field, reason: "needs prices: without them no cost is known" })
  }
  const fromFile = places.aliases === undefined || places.aliases.origin === "the file"
  const names = fromFile ? { ...content.gateway?.aliases, ...values.aliases } : values.aliases
  const aliases = Aliases.decode(names ?? {})
  if (Either.isLeft(aliases)) {
    const { field, source } = places.aliases ?? { source: path, field: "gateway.aliases" }
    return yield* new InvalidConfig({ source, field, reason: aliases.left })
  }
  const store = values.store === false ? undefined : (values.store ?? defaultStore)
  const isDefaultStore = store !== undefined && values.store === undefined
  const { folder = store === undefined ? undefined : defaultSessionFolder, ...bounds } = values.sessions ?? {}
  if (store === undefined && typeof values.sessions?.folder === "string") {
    const { field, origin, source } = members.sessions?.["folder"] ?? placeOfSetting("sessions")
    return yield* new InvalidConfig({
      source,
      field: origin === "AICORTEX_SESSIONS" ? field : `${field}.folder`,
      reason:
        "is where earlier versions kept conversations, which are taken into a store: let `store` (AICORTEX_STORE) name " +
        "one too, such as file:PATH, or leave the folder out"
    })
  }
  const stateFile = values.stateFile ?? defaultStateFile
  return {
    settings: {
      ...Settings.directSettings(values),
      model: (values.model ?? automatic).trim(),
      aliases: aliases.right,
      servers: yield* serversOf(values.servers, places.servers, alone),
      registry: yield* Registries.sourcesOf(values.registry, placeOfSetting("registry"), secret),
      registryCopies:
        values.registryCopies === false
          ? undefined
          : (values.registryCopies ?? (alone ? undefined : yield* registryFolder)),
      location: here,
      coordinates: here === undefined || Locations.hasCoordinates(here) ? undefined : coordinates?.right,
      stateFile: stateFile === false ? undefined : stateFile,
      cache: cacheOf(values.cache),
      store: redacted(store),
      ...(isDefaultStore ? { isDefaultStore } : {}),
      sessions: {
        ...bounds,
        folder: folder === false ? undefined : folder,
        ...(folder === false && isDefaultStore ? { inMemory: true } : {})
      },
      models: {
        ...values.models,
        folder: values.models.folder ?? (alone ? undefined : yield* modelFolder),
        token: redacted(values.models.token)
      },
      proxy: yield* Network.proxy(values.proxy, placeOfSetting("proxy"), alone),
      ca: yield* Network.authorities(values.ca, placeOfSetting("ca"))
    },
    places,
    members,
    file: alone ? undefined : path,
    content
  }
})

const redacted = (token: string | Redacted.Redacted | undefined): Redacted.Redacted | undefined => {
  const text = Redacted.isRedacted(token) ? Redacted.value(token) : token?.trim()
  return text === undefined || text === "" ? undefined : Redacted.make(text)
}

const pickOwn = (options: ConfigOptions): OptionsOf<typeof ownDefaults> =>
  Record.filter(options as Record<string, unknown>, (_, name) => name in ownDefaults) as OptionsOf<typeof ownDefaults>

/** The settings that hold, or what is wrong with them. */
export const settings = (
  options: ConfigOptions
): Effect.Effect<Settings.Settings, InvalidConfig, FileSystem.FileSystem | Path.Path> =>
  Effect.map(resolve(options), (resolved) => resolved.settings)

/**
 * What `aicortex config` does.
 *
 * @since 0.1.0
 */
import * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import { inSeconds, isTime } from "../../config/callDefaults.js"
import * as ConfigFile from "../../config/file.js"
import * as Config from "../../config/resolve.js"
import type { Location, Server } from "../../Server.js"
import type { SessionPolicy } from "../../Settings.js"
import * as Fleet from "../fleet.js"
import * as Output from "../output.js"

const describe = ({ authorization, headers, implicit, url }: Server): string =>
  `${url}${authorization === undefined ? "" : " (with a key)"}${headers === undefined ? "" : ` (with ${Object.keys(headers).join(", ")})`}${implicit ? " (if it answers)" : ""}`

/** The place as it was given, and where that is. */
const placeOf = (location: Location, coordinates: Location | undefined): string => {
  const { latitude, longitude } = coordinates ?? location
  const name = [location.city, location.country ?? location.countryName].filter((part) => part !== undefined).join(", ")
  const degrees = `${latitude},${longitude}`
  if (coordinates !== undefined) return `${name} (about ${degrees})`
  return name === "" ? degrees : `${name} (${degrees})`
}

/** Where conversations are kept, and within which bounds, if any were set. */
const kept = ({ folder = "in memory", maxBytes, maxSessions, ttl }: SessionPolicy): string => {
  const bounds = [
    ...(maxSessions === undefined ? [] : [`${maxSessions}`]),
    ...(maxBytes === undefined ? [] : [`${maxBytes} bytes`]),
    ...(ttl === undefined ? [] : [`${ttl / 1000} s`])
  ]
  return bounds.length === 0 ? folder : `${folder} (at most ${bounds.join(", ")})`
}

/**
 * @since 0.1.0
 * @category constructors
 */
export const run = Effect.fnUntraced(function* (json: boolean) {
  const fs = yield* FileSystem.FileSystem
  const {
    file = "",
    defaultOrigins,
    origins,
    settings
  } = yield* Config.resolve({
    defaultModel: Fleet.defaultModel,
    defaultStateFile: yield* ConfigFile.stateFile,
    defaultSessionFolder: yield* ConfigFile.sessionFolder
  })
  const exists = yield* Effect.orElseSucceed(fs.exists(file), () => false)
  const {
    cache,
    cacheTtl,
    coordinates,
    defaults,
    location,
    maxAnswerBytes,
    maxQueued,
    maxSchemaBytes,
    model,
    personas,
    probeInterval,
    registry,
    servers,
    sessions,
    stateFile
  } = settings
  if (json) {
    return yield* Output.writeJson({
      file,
      exists,
      settings: {
        servers: servers.map(({ authorization, headers = {}, implicit, url, ...server }) => ({
          url,
          key: authorization !== undefined,
          headers: Object.keys(headers),
          onlyIfItAnswers: implicit,
          ...server
        })),
        model,
        cacheTtl: cacheTtl / 1000,
        stateFile: stateFile ?? false,
        sessions: {
          folder: sessions.folder ?? false,
          maxSessions: sessions.maxSessions ?? null,
          maxBytes: sessions.maxBytes ?? null,
          ttl: sessions.ttl === undefined ? null : sessions.ttl / 1000
        },
        probeInterval: probeInterval === undefined ? null : probeInterval / 1000,
        maxQueued: maxQueued ?? null,
        maxSchemaBytes,
        maxAnswerBytes,
        cache: cache === undefined ? false : { ...cache, ttl: cache.ttl / 1000 },
        defaults: inSeconds(defaults),
        registry,
        location: location ?? null,
        // Of the place that is named, where it was given without.
        coordinates: coordinates ?? null,
        personas
      },
      origins: { ...origins, defaults: defaultOrigins }
    })
  }
  const place = location === undefined ? "-" : placeOf(location, coordinates)
  const list = (items: ReadonlyArray<string>) => (items.length === 0 ? ["-"] : items)
  const rows = [
    ["file", file, exists ? "" : "not there"],
    ["model", model, origins.model],
    ...list(servers.map(describe)).map((server, i) => [
      i === 0 ? "servers" : "",
      server,
      i === 0 ? origins.servers : ""
    ]),
    ["cacheTtl", `${cacheTtl / 1000} s`, origins.cacheTtl],
    ["stateFile", stateFile ?? "off", origins.stateFile],
    ["sessions", kept(sessions), origins.sessions],
    ["probeInterval", probeInterval === undefined ? "off" : `${probeInterval / 1000} s`, origins.probeInterval],
    ["maxQueued", maxQueued === undefined ? "512, or 4 per server" : String(maxQueued), origins.maxQueued],
    ["maxSchemaBytes", String(maxSchemaBytes), origins.maxSchemaBytes],
    ["maxAnswerBytes", String(maxAnswerBytes), origins.maxAnswerBytes],
    ["cache", cache === undefined ? "off" : `answers for ${cache.ttl / 1000} s`, origins.cache],
    ...Object.entries(inSeconds(defaults)).map(([name, value]) => [
      `defaults.${name}`,
      `${typeof value === "object" ? JSON.stringify(value) : String(value)}${isTime(name) ? " s" : ""}`,
      defaultOrigins[name] ?? ""
    ]),
    ["location", place, origins.location],
    ...list(registry).map((folder, i) => [i === 0 ? "registry" : "", folder, i === 0 ? origins.registry : ""]),
    ["personas", list(Object.keys(personas)).join(", "), origins.personas]
  ]
  yield* Output.write(Output.table(["Setting", "Value", "From"], rows))
})

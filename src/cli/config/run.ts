/** Runs `aicortex config`. */
import * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import * as ConfigFile from "../../config/file.js"
import { fleet } from "../../config/fleet.js"
import type { GatewayOptions } from "../../config/gateway.js"
import { resolvePlaces } from "../../config/gatewaySettings.js"
import * as ConfigReport from "../../config/report.js"
import * as Config from "../../config/resolve.js"
import { type AnySetting, defaultOf, inFileForm, unitOf } from "../../config/setting.js"
import { environment } from "../../cortex/environment.js"
import type * as Server from "../../Server.js"
import type { SessionPolicy } from "../../Settings.js"
import * as Output from "../output.js"
import * as Table from "../table.js"
import { type Key, memberOf } from "./key.js"

const describe = ({ authorization, headers, implicit, url }: Server.Server): string =>
  `${url}${authorization === undefined ? "" : " (with a key)"}${headers === undefined ? "" : ` (with ${Object.keys(headers).join(", ")})`}${implicit ? " (if it answers)" : ""}`

/** The location as given, and its coordinates. */
const placeOf = (location: Server.Location, coordinates: Server.Location | undefined): string => {
  const { latitude, longitude } = coordinates ?? location
  const name = [location.city, location.country ?? location.countryName].filter((part) => part !== undefined).join(", ")
  const degrees = `${latitude},${longitude}`
  if (coordinates !== undefined) return `${name} (about ${degrees})`
  return name === "" ? degrees : `${name} (${degrees})`
}

/** Where conversations are stored, and the limits, if any were set. */
const kept = ({ folder, inMemory, maxBytes, maxSessions, ttl }: SessionPolicy, hasStore: boolean): string => {
  const where = hasStore && inMemory !== true ? "in the store" : (folder ?? "in memory")
  const bounds = [
    ...(maxSessions === undefined ? [] : [`${maxSessions}`]),
    ...(maxBytes === undefined ? [] : [`${maxBytes} bytes`]),
    ...(ttl === undefined ? [] : [`${ttl / 1000} s`])
  ]
  return bounds.length === 0 ? where : `${where} (at most ${bounds.join(", ")})`
}

const aliasOf = ([name, models]: readonly [string, ReadonlyArray<string>]): string => `${name}: ${models.join(", ")}`

type Origins = { readonly [name: string]: string }

/** A setting that holds, in words. */
export interface Shown extends ConfigReport.ShownSetting {
  readonly lines: ReadonlyArray<string>
}

const lineOf = (setting: AnySetting, value: unknown): string => {
  if (value === undefined) return defaultOf(setting) ?? "-"
  if (Array.isArray(value)) return value.length === 0 ? "-" : value.join(", ")
  if (typeof value === "object" && value !== null) {
    return Object.keys(value).length === 0 ? "-" : JSON.stringify(value)
  }
  if (value === false) return "off"
  return unitOf(setting) === "ms" ? `${value} s` : String(value)
}

const shownValue = (value: unknown): string => (typeof value === "object" ? JSON.stringify(value) : String(value))

/** The settings of the fleet; `own` are the words for those that have a form of their own. */
export const fleetRows = (resolved: Config.Resolved): ReadonlyArray<Shown> => {
  const { aliases, ca, cache, coordinates, location, models, personas, proxy, registry, registryCopies } =
    resolved.settings
  const { servers, sessions, stateFile, store } = resolved.settings
  const list = (items: ReadonlyArray<string>) => (items.length === 0 ? ["-"] : items)
  const own: { readonly [name: string]: ReadonlyArray<string> } = {
    servers: list(servers.map(describe)),
    location: [location === undefined ? "-" : placeOf(location, coordinates)],
    registry: list(registry.map((source) => (typeof source === "string" ? source : source.name))),
    registryCopies: [registryCopies ?? "off"],
    aliases: list([...aliases].map(aliasOf)),
    personas: [list(Object.keys(personas)).join(", ")],
    stateFile: [stateFile ?? "off"],
    store: [ConfigReport.storeOf(store) || "off"],
    sessions: [kept(sessions, store !== undefined)],
    models: [
      Object.entries(ConfigReport.modelFields(models))
        .map(([name, value]) => `${name}: ${shownValue(value)}`)
        .join(", ")
    ],
    cache: [cache === undefined ? "off" : `answers for ${cache.ttl / 1000} s`],
    proxy: [ConfigReport.proxyOf(proxy) || "off"],
    ca: [`${ca?.length ?? 0} certificate files`]
  }
  return ConfigReport.fleetShown(resolved).map((shown) => {
    const { inSeconds, name, setting, value } = shown
    if (inSeconds === undefined) return { ...shown, lines: own[name] ?? [lineOf(setting, value)] }
    return { ...shown, lines: [typeof value === "object" ? JSON.stringify(value) : `${value}${inSeconds ? " s" : ""}`] }
  })
}

/** The settings of the gateway. Keys are shown by name. */
export const gatewayRows = Effect.fnUntraced(function* (
  { content, file = "" }: Config.Resolved,
  options: GatewayOptions
) {
  const { keys: fileKeys = [], ...section } = content.gateway ?? {}
  // The variables that hold its keys may be set only where it runs.
  const { places, settings } = yield* resolvePlaces(options, { variable: environment, file: section, path: file })
  const fromVariables = settings.keys.map(({ name }) => name)
  const keys =
    fromVariables.length > 0
      ? { names: fromVariables, origin: places.keys?.origin ?? "default" }
      : { names: fileKeys.map(({ name }) => name), origin: fileKeys.length > 0 ? "the file" : "default" }
  return ConfigReport.gatewayShown(settings, places, keys).map((shown) => ({
    ...shown,
    lines: [lineOf(shown.setting, shown.value)]
  }))
})

/** The settings that hold, and the file. */
const settingsNow = Effect.gen(function* () {
  const fs = yield* FileSystem.FileSystem
  const resolved = yield* Config.resolve({
    defaultStateFile: yield* ConfigFile.stateFile,
    defaultStore: yield* ConfigFile.storeFile,
    defaultSessionFolder: yield* ConfigFile.sessionFolder
  })
  const { file = "" } = resolved
  const exists = yield* Effect.orElseSucceed(fs.exists(file), () => false)
  const fleetShown = fleetRows(resolved)
  const gatewayShown = yield* gatewayRows(resolved, { insecure: true })
  return { resolved, file, exists, fleetShown, gatewayShown }
})

/** The value of a setting that holds, as the file would give it; `undefined` where there is none. */
export const valueNow = Effect.fnUntraced(function* ({ members, names: [name], section, setting }: Key) {
  const { fleetShown, gatewayShown, resolved } = yield* settingsNow
  if (section === undefined && name === "defaults") {
    return memberOf(inFileForm(setting, resolved.settings.defaults), members)
  }
  const shown = (section === "gateway" ? gatewayShown : fleetShown).find((one) => one.name === name)
  return memberOf(shown?.value, members)
})

export const run = Effect.fnUntraced(function* (json: boolean) {
  const { exists, file, fleetShown, gatewayShown, resolved } = yield* settingsNow
  const { members } = resolved
  const { coordinates, defaults } = resolved.settings
  if (json) {
    const valuesOf = (all: ReadonlyArray<Shown>) =>
      Object.fromEntries(all.filter(({ name }) => !name.includes(".")).map(({ name, value }) => [name, value ?? null]))
    const originsOf = (all: ReadonlyArray<Shown>): Origins =>
      Object.fromEntries(all.filter(({ name }) => !name.includes(".")).map(({ name, origin }) => [name, origin]))
    return yield* Output.writeJson({
      file,
      exists,
      settings: {
        ...valuesOf(fleetShown),
        // Coordinates of the named place, if given without.
        coordinates: coordinates ?? null,
        defaults: inFileForm(fleet.defaults, defaults),
        gateway: valuesOf(gatewayShown)
      },
      origins: {
        ...originsOf(fleetShown),
        defaults: Object.fromEntries(
          Object.entries(members.defaults ?? {}).map(([name, place]) => [name, place.origin])
        ),
        gateway: originsOf(gatewayShown)
      }
    })
  }
  const row =
    (prefix: string) =>
    ({ lines, name, origin }: Shown) =>
      lines.map((line, i) => (i === 0 ? [`${prefix}${name}`, line, origin] : ["", line, ""]))
  const rows = [
    ["file", file, exists ? "" : "not there"],
    ...fleetShown.flatMap(row("")),
    ...gatewayShown.flatMap(row("gateway."))
  ]
  yield* Output.write(Table.table(["Setting", "Value", "From"], rows))
})

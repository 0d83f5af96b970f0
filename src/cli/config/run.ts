/** Runs `aicortex config`. */
import * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { Place } from "../../config/collect.js"
import * as ConfigFile from "../../config/file.js"
import { fleet } from "../../config/fleet.js"
import { type GatewayOptions, gateway } from "../../config/gateway.js"
import { resolvePlaces } from "../../config/gatewaySettings.js"
import * as Config from "../../config/resolve.js"
import { type AnySetting, defaultOf, inFileForm, type Settings, unitOf } from "../../config/setting.js"
import { environment } from "../../cortex/environment.js"
import * as Server from "../../Server.js"
import type { ModelPolicy, Proxy, RegistryUrl, SessionPolicy } from "../../Settings.js"
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
const kept = ({ folder = "in memory", maxBytes, maxSessions, ttl }: SessionPolicy): string => {
  const bounds = [
    ...(maxSessions === undefined ? [] : [`${maxSessions}`]),
    ...(maxBytes === undefined ? [] : [`${maxBytes} bytes`]),
    ...(ttl === undefined ? [] : [`${ttl / 1000} s`])
  ]
  return bounds.length === 0 ? folder : `${folder} (at most ${bounds.join(", ")})`
}

const aliasOf = ([name, models]: readonly [string, ReadonlyArray<string>]): string => `${name}: ${models.join(", ")}`

/** A proxy without what may be a password. */
const proxyOf = (proxy: Proxy | undefined): string | false => {
  const addresses = [proxy?.http, proxy?.https].flatMap((one) => (one === undefined ? [] : [Redacted.value(one)]))
  return addresses.length === 0 ? false : [...new Set(addresses.map(Server.redactUserInfo))].join(", ")
}

/** The address of the store without what may be a password; false where there is none. */
const storeOf = (store: Redacted.Redacted | undefined): string | false =>
  store === undefined ? false : Server.redactUserInfo(Redacted.value(store))

type Origins = { readonly [name: string]: string }

/** A setting that holds. */
export interface Shown {
  readonly name: string
  readonly setting: AnySetting
  /** As the configuration file would say it; `undefined` where nothing holds. */
  readonly value: unknown
  readonly lines: ReadonlyArray<string>
  readonly origin: string
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

/** How models are kept and downloaded, as the file would say it: without the token. */
const inFileFields = ({ token: _, ...models }: ModelPolicy) => inFileForm(fleet.models, models) as object

/** A registry by address, as the file would say it: without what is secret. */
const registryUrl = ({ acceptSmaller, headers, maxBytes, name, timeout, ttl }: RegistryUrl) => ({
  url: name,
  headers: Object.keys(headers),
  ttl: ttl / 1000,
  timeout: timeout / 1000,
  maxBytes,
  acceptSmaller
})

const shownValue = (value: unknown): string => (typeof value === "object" ? JSON.stringify(value) : String(value))

const originOf = (place: Place | undefined): string => place?.origin ?? "default"

/** The settings of the fleet; `own` are the words for those that have a form of their own. */
export const fleetRows = ({ members, places, settings }: Config.Resolved): ReadonlyArray<Shown> => {
  const ofSessions = members.sessions ?? {}
  const sessionsFrom = originOf(ofSessions["folder"] ?? Object.values(ofSessions)[0])
  const { cache, coordinates, location, models, proxy, registry, registryCopies, servers, sessions, stateFile, store } =
    settings
  const list = (items: ReadonlyArray<string>) => (items.length === 0 ? ["-"] : items)
  const own: { readonly [name: string]: { readonly value: unknown; readonly lines: ReadonlyArray<string> } } = {
    servers: {
      value: servers.map(({ authorization, headers = {}, implicit, url, ...server }) => ({
        url,
        key: authorization !== undefined,
        headers: Object.keys(headers),
        onlyIfItAnswers: implicit,
        ...server
      })),
      lines: list(servers.map(describe))
    },
    location: { value: location, lines: [location === undefined ? "-" : placeOf(location, coordinates)] },
    registry: {
      value: registry.map((source) => (typeof source === "string" ? source : registryUrl(source))),
      lines: list(registry.map((source) => (typeof source === "string" ? source : source.name)))
    },
    registryCopies: { value: registryCopies ?? false, lines: [registryCopies ?? "off"] },
    aliases: { value: Object.fromEntries(settings.aliases), lines: list([...settings.aliases].map(aliasOf)) },
    personas: { value: settings.personas, lines: [list(Object.keys(settings.personas)).join(", ")] },
    stateFile: { value: stateFile ?? false, lines: [stateFile ?? "off"] },
    store: { value: storeOf(store), lines: [storeOf(store) || "off"] },
    sessions: {
      value: {
        folder: sessions.folder ?? false,
        maxSessions: sessions.maxSessions ?? null,
        maxBytes: sessions.maxBytes ?? null,
        ttl: sessions.ttl === undefined ? null : sessions.ttl / 1000
      },
      lines: [kept(sessions)]
    },
    models: {
      value: { ...inFileFields(models), token: models.token !== undefined },
      lines: [
        Object.entries(inFileFields(models))
          .map(([name, value]) => `${name}: ${shownValue(value)}`)
          .join(", ")
      ]
    },
    cache: {
      value: cache === undefined ? false : inFileForm(fleet.cache, cache),
      lines: [cache === undefined ? "off" : `answers for ${cache.ttl / 1000} s`]
    },
    proxy: { value: proxyOf(proxy), lines: [proxyOf(proxy) || "off"] },
    ca: { value: settings.ca?.length ?? 0, lines: [`${settings.ca?.length ?? 0} certificate files`] }
  }
  return Object.entries(fleet as Settings).flatMap(([name, setting]) => {
    if (setting.file === false) return []
    const origin = name === "sessions" ? sessionsFrom : originOf(places[name as keyof typeof places])
    const known = own[name]
    if (known !== undefined) return [{ name, setting, origin, ...known }]
    const given = (settings as unknown as { readonly [name: string]: unknown })[name]
    const value = inFileForm(setting, given)
    if (name !== "defaults") return [{ name, setting, origin, value, lines: [lineOf(setting, value)] }]
    const all = value as { readonly [member: string]: unknown }
    const units = Object.fromEntries(
      Object.keys(all).map((member) => [
        member,
        (given as { readonly [name: string]: unknown })[member] !== all[member]
      ])
    )
    return Object.entries(all).map(([member, one]) => ({
      name: `defaults.${member}`,
      setting,
      value: one,
      lines: [typeof one === "object" ? JSON.stringify(one) : `${one}${units[member] ? " s" : ""}`],
      origin: originOf(members.defaults?.[member])
    }))
  })
}

/** The settings of the gateway. Who may use it is told by name. */
export const gatewayRows = Effect.fnUntraced(function* (
  { content, file = "" }: Config.Resolved,
  options: GatewayOptions
) {
  const { keys: fileKeys = [], ...section } = content.gateway ?? {}
  // The variables that hold its keys may be set only where it runs.
  const { places, settings } = yield* resolvePlaces(options, { variable: environment, file: section, path: file })
  const fromVariables = settings.keys.map(({ name }) => name)
  const keys = fromVariables.length > 0 ? fromVariables : fileKeys.map(({ name }) => name)
  return Object.entries(gateway as Settings).flatMap(([name, setting]): ReadonlyArray<Shown> => {
    if (setting.file === false) return []
    if (name === "keys") {
      const origin = fromVariables.length > 0 ? originOf(places.keys) : fileKeys.length > 0 ? "the file" : "default"
      return [{ name, setting, value: keys, lines: [lineOf(setting, keys)], origin }]
    }
    const given = (settings as unknown as { readonly [name: string]: unknown })[name]
    const plain = given instanceof Map ? Object.fromEntries(given) : given
    const value = name === "responses" && plain === undefined ? false : inFileForm(setting, plain)
    return [
      { name, setting, value, lines: [lineOf(setting, value)], origin: originOf(places[name as keyof typeof places]) }
    ]
  })
})

/** The settings that hold, and the file. */
const settingsNow = Effect.gen(function* () {
  const fs = yield* FileSystem.FileSystem
  const resolved = yield* Config.resolve({
    defaultStateFile: yield* ConfigFile.stateFile,
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

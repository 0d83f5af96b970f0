/**
 * The settings that hold, as the configuration file would say them, each with where it comes from. What is secret is
 * left out, or only marked as set.
 */
import * as Redacted from "effect/Redacted"
import * as Server from "../Server.js"
import type { ModelPolicy, Proxy, RegistryUrl } from "../Settings.js"
import type { Place } from "./collect.js"
import { fleet } from "./fleet.js"
import { gateway } from "./gateway.js"
import type { Settings as GatewaySettings, resolvePlaces } from "./gatewaySettings.js"
import type { Resolved } from "./resolve.js"
import { type AnySetting, inFileForm, type Settings } from "./setting.js"

/** One setting. `defaults` of the fleet are listed one by one: `defaults.timeout`. */
export interface ShownSetting {
  readonly name: string
  readonly setting: AnySetting
  /** As the configuration file would say it; `undefined` where nothing holds. */
  readonly value: unknown
  /** `default`, `the file`, the name of an environment variable, or what the options of a program are called. */
  readonly origin: string
  /** Whether the value is in seconds, as that of a member of `defaults` may be. */
  readonly inSeconds?: boolean
}

const originOf = (place: Place | undefined): string => place?.origin ?? "default"

/** A proxy without what may be a password; `false`: none. */
export const proxyOf = (proxy: Proxy | undefined): string | false => {
  const addresses = [proxy?.http, proxy?.https].flatMap((one) => (one === undefined ? [] : [Redacted.value(one)]))
  return addresses.length === 0 ? false : [...new Set(addresses.map(Server.redactUserInfo))].join(", ")
}

/** The address of the store without what may be a password; `false`: none. */
export const storeOf = (store: Redacted.Redacted | undefined): string | false =>
  store === undefined ? false : Server.redactUserInfo(Redacted.value(store))

/** How models are kept and downloaded, as the file would say it: without the token. */
export const modelFields = ({ token: _, ...models }: ModelPolicy): object => inFileForm(fleet.models, models) as object

/** A registry by address, as the file would say it: without what is secret. */
const registryUrl = ({ acceptSmaller, headers, maxBytes, name, timeout, ttl }: RegistryUrl) => ({
  url: name,
  headers: Object.keys(headers),
  ttl: ttl / 1000,
  timeout: timeout / 1000,
  maxBytes,
  acceptSmaller
})

/** Those of the fleet. */
export const fleetShown = ({ members, places, settings }: Resolved): ReadonlyArray<ShownSetting> => {
  const { cache, location, models, proxy, registry, registryCopies, servers, sessions, stateFile, store } = settings
  const ofSessions = members.sessions ?? {}
  const own: { readonly [name: string]: unknown } = {
    servers: servers.map(({ authorization, headers = {}, implicit, url, ...server }) => ({
      url,
      key: authorization !== undefined,
      headers: Object.keys(headers),
      onlyIfItAnswers: implicit,
      ...server
    })),
    location,
    registry: registry.map((source) => (typeof source === "string" ? source : registryUrl(source))),
    registryCopies: registryCopies ?? false,
    aliases: Object.fromEntries(settings.aliases),
    personas: settings.personas,
    stateFile: stateFile ?? false,
    store: storeOf(store),
    sessions: {
      folder: store === undefined || sessions.inMemory === true ? (sessions.folder ?? false) : null,
      maxSessions: sessions.maxSessions ?? null,
      maxBytes: sessions.maxBytes ?? null,
      ttl: sessions.ttl === undefined ? null : sessions.ttl / 1000
    },
    models: { ...modelFields(models), token: models.token !== undefined },
    cache: cache === undefined ? false : inFileForm(fleet.cache, cache),
    proxy: proxyOf(proxy),
    ca: settings.ca?.length ?? 0
  }
  return Object.entries(fleet as Settings).flatMap(([name, setting]): ReadonlyArray<ShownSetting> => {
    if (setting.file === false) return []
    // Each member of it may come from another place.
    const place =
      name === "sessions" ? (ofSessions["folder"] ?? Object.values(ofSessions)[0]) : places[name as keyof typeof places]
    const origin = originOf(place)
    if (name in own) return [{ name, setting, origin, value: own[name] }]
    const given = (settings as unknown as { readonly [name: string]: unknown })[name]
    const value = inFileForm(setting, given)
    if (name !== "defaults") return [{ name, setting, origin, value }]
    const all = value as { readonly [member: string]: unknown }
    return Object.entries(all).map(([member, one]) => ({
      name: `defaults.${member}`,
      setting,
      value: one,
      origin: originOf(members.defaults?.[member]),
      inSeconds: (given as { readonly [name: string]: unknown })[member] !== one
    }))
  })
}

type GatewayPlaces = Extract<ReturnType<typeof resolvePlaces>, { readonly _tag: "Right" }>["right"]["places"]

/** Those of the gateway. `keys` shows names only. */
export const gatewayShown = (
  settings: GatewaySettings,
  places: GatewayPlaces,
  keys: { readonly names: ReadonlyArray<string>; readonly origin: string }
): ReadonlyArray<ShownSetting> =>
  Object.entries(gateway as Settings).flatMap(([name, setting]): ReadonlyArray<ShownSetting> => {
    if (setting.file === false) return []
    if (name === "keys") return [{ name, setting, value: keys.names, origin: keys.origin }]
    const given = (settings as unknown as { readonly [name: string]: unknown })[name]
    const plain = given instanceof Map ? Object.fromEntries(given) : given
    const value = name === "responses" && plain === undefined ? false : inFileForm(setting, plain)
    return [{ name, setting, value, origin: originOf(places[name as keyof typeof places]) }]
  })

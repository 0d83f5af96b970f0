/** The settings of the gateway that hold. */
import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"
import { InvalidConfig } from "../Errors.js"
import { withoutNulls } from "../internal/optionSchemas.js"
import { isPattern } from "../internal/origins.js"
import { type Aliases, decode as decodeAliases } from "../modelSelection/aliases.js"
import { isLoopback } from "../server/address.js"
import { type Collected, collect, unknownOption } from "./collect.js"
import { type ApiKey, type GatewayFile, type GatewayOptions, gateway, type ResponseBounds } from "./gateway.js"
import type { ValuesOf } from "./setting.js"

/** A key as the gateway uses it. */
export interface Access {
  readonly name: string
  readonly secret: Redacted.Redacted
  readonly requestsPerMinute: number
  readonly tokensPerMinute: number
  readonly concurrency: number
  readonly admin: boolean
  readonly priority: "interactive" | "batch"
  readonly private?: boolean | undefined
}

/** The settings that hold. Times are in milliseconds. */
export interface Settings extends Omit<ValuesOf<typeof gateway>, "keys" | "cors" | "hosts" | "aliases" | "responses"> {
  readonly keys: ReadonlyArray<Access>
  readonly cors: ReadonlyArray<string>
  readonly hosts: ReadonlyArray<string>
  readonly aliases: Aliases
  /** `undefined` where none is kept. */
  readonly responses: ResponseBounds | undefined
}

/** Of the responses that are kept. */
const responseBounds: ResponseBounds = { maxEntries: 10_000, maxBytes: 64 * 1024 * 1024, ttl: 86_400_000 }

/** The keys of a gateway that has one for everybody (`default`) and one that may also change models (`admin`). */
export const keysOf = (apiKey: string | undefined, adminKey: string | undefined): ReadonlyArray<ApiKey> => [
  ...(apiKey === undefined ? [] : [{ name: "default", key: apiKey }]),
  ...(adminKey === undefined ? [] : [{ name: "admin", key: adminKey, admin: true }])
]

/** A key with the place where it stands, for errors. */
interface PlacedKey extends ApiKey {
  readonly at: { readonly source: string; readonly field: string }
}

/** The keys that hold, of the first place that names any. */
const placedKeys = (
  given: GatewayOptions,
  { file, path, variable }: From
): Either.Either<ReadonlyArray<PlacedKey>, InvalidConfig> => {
  if (given.keys !== undefined && given.keys !== null) {
    return Either.right(given.keys.map((key) => ({ ...key, at: { source: optionsName, field: "keys" } })))
  }
  const [api, admin] = [variable("AICORTEX_API_KEY"), variable("AICORTEX_ADMIN_KEY")]
  if (api !== undefined || admin !== undefined) {
    return Either.right(
      keysOf(api, admin).map((key) => ({
        ...key,
        at: { source: "the environment", field: key.admin === true ? "AICORTEX_ADMIN_KEY" : "AICORTEX_API_KEY" }
      }))
    )
  }
  const keys: Array<PlacedKey> = []
  for (const { key, ...rest } of file.keys ?? []) {
    const value = typeof key === "string" ? key : variable(key.env)
    if (value === undefined) {
      const reason = `the environment variable ${typeof key === "string" ? "" : key.env} is not set`
      return Either.left(new InvalidConfig({ source: path, field: `gateway.keys.${rest.name}`, reason }))
    }
    keys.push({ ...rest, key: value, at: { source: path, field: "gateway.keys" } })
  }
  return Either.right(keys)
}

/** Whether a key can be sent in a header. */
export const isKey = (value: unknown): value is string =>
  typeof value === "string" && value.length > 0 && !/[^\x21-\x7e]/.test(value)

/** What a key must be. */
export const keyForm = "must be one word of printable characters"

const accessOf = (keys: ReadonlyArray<PlacedKey>): Either.Either<ReadonlyArray<Access>, InvalidConfig> => {
  const all: Array<Access> = []
  for (const one of keys) {
    const { admin, at, concurrency, key, name, priority = "interactive", requestsPerMinute, tokensPerMinute } = one
    const bad = (reason: string) => Either.left(new InvalidConfig({ ...at, reason }))
    const value = Redacted.isRedacted(key) ? Redacted.value(key) : key
    if (!isKey(value)) return bad(`the key '${name}' ${keyForm}`)
    if (one.private !== undefined && typeof one.private !== "boolean") {
      return bad(`private of '${name}' must be true or false`)
    }
    if (priority !== "interactive" && priority !== "batch") {
      return bad(`the priority of '${name}' must be interactive or batch`)
    }
    if (all.some((other) => other.name === name)) return bad(`'${name}' is named twice`)
    const same = all.find((other) => Redacted.value(other.secret) === value)
    if (same !== undefined) return bad(`'${same.name}' and '${name}' are the same key`)
    all.push({
      name,
      secret: Redacted.make(value),
      requestsPerMinute: requestsPerMinute ?? Number.POSITIVE_INFINITY,
      tokensPerMinute: tokensPerMinute ?? Number.POSITIVE_INFINITY,
      concurrency: concurrency ?? Number.POSITIVE_INFINITY,
      admin: admin ?? false,
      priority,
      private: one.private ?? false
    })
  }
  return Either.right(all)
}

const optionsName = "the options of the gateway"

/**
 * Where settings come from that the options leave out: `variable` reads the environment, `file` is the section
 * `gateway` of the configuration file at `path`.
 */
export interface From {
  readonly variable: (name: string) => string | undefined
  readonly file: GatewayFile
  readonly path: string
  /** Whether there are API keys in addition to those of the settings: then no request without a key is accepted. */
  readonly hasStoredKeys?: boolean
}

const nowhere: From = { variable: () => undefined, file: {}, path: "" }

/** The settings that hold, and the places that they come from, or what is wrong with them. */
export const resolvePlaces = (
  gatewayOptions: GatewayOptions,
  from: From = nowhere
): Either.Either<
  { readonly settings: Settings; readonly places: Collected<typeof gateway>["places"] },
  InvalidConfig
> =>
  Either.gen(function* () {
    const options = withoutNulls(gatewayOptions)
    yield* unknownOption(options, Object.keys(gateway), optionsName)
    const { keys: _, ...others } = gateway
    const { places, values } = yield* collect(others, {
      options,
      name: optionsName,
      variable: from.variable,
      file: from.file,
      path: from.path,
      prefix: "gateway."
    })
    const bad = (name: keyof typeof values, reason: string) => {
      const { field, source } = places[name] ?? { source: optionsName, field: name }
      return Either.left(new InvalidConfig({ source, field, reason }))
    }
    const placed = yield* placedKeys(options, from)
    const keys = yield* accessOf(placed)
    const { cors = [], host, responses: kept = true } = values
    const hosts = (values.hosts ?? []).map((name) => name.trim().toLowerCase())
    if (hosts.some((name) => !/^[\w.-]+$/.test(name))) {
      return yield* bad("hosts", "must be names without a port, such as llm.lan")
    }
    if (keys.length === 0 && from.hasStoredKeys !== true && !values.insecure && !isLoopback(host)) {
      return yield* bad(
        "host",
        `${host} can be reached from other machines, and there is no API key: give --api-key (AICORTEX_API_KEY), make one in the store (aicortex keys create), ` +
          "or --insecure if everybody may use your servers"
      )
    }
    const wrong = cors.find((origin) => !isPattern(origin))
    if (wrong !== undefined) {
      return yield* bad("cors", `'${wrong}' must be * or an origin such as https://example.com`)
    }
    const aliases = decodeAliases(values.aliases ?? {})
    if (Either.isLeft(aliases)) return yield* bad("aliases", aliases.left)
    const { maxBytes, maxEntries, ttl } = typeof kept === "object" ? kept : responseBounds
    const settings: Settings = {
      ...values,
      keys,
      cors,
      hosts,
      aliases: aliases.right,
      responses:
        kept === false
          ? undefined
          : {
              maxEntries: maxEntries ?? responseBounds.maxEntries,
              maxBytes: maxBytes ?? responseBounds.maxBytes,
              ttl: ttl ?? responseBounds.ttl
            }
    }
    const [first] = placed
    const keysFrom =
      first === undefined
        ? undefined
        : { ...first.at, origin: first.at.source === from.path ? "the file" : originOf(first.at) }
    return { settings, places: { ...places, ...(keysFrom === undefined ? {} : { keys: keysFrom }) } }
  })

const originOf = ({ field, source }: { readonly source: string; readonly field: string }): string =>
  source === "the environment" ? field : source

/** The settings that hold: what the options leave out comes from the environment, then from the file. */
export const resolve = (options: GatewayOptions, from?: From): Either.Either<Settings, InvalidConfig> =>
  Either.map(resolvePlaces(options, from), ({ settings }) => settings)

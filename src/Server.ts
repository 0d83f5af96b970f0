/**
 * A model server of the user's: where it is, what it speaks, and what the user said about it.
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { InvalidConfig } from "./Errors.js"

/**
 * What a server speaks. `embedded` is the engine inside this process.
 *
 * @since 0.1.0
 * @category models
 */
export const Protocol = Schema.Literal("ollama", "openai", "embedded")
/**
 * @since 0.1.0
 * @category models
 */
export type Protocol = typeof Protocol.Type

/**
 * Where a server stands. `country` is the ISO code (`DE`), `countryName` the name. `latitude` and `longitude`, in
 * degrees, are what `nearest` measures with.
 *
 * @since 0.1.0
 * @category models
 */
export const Location = Schema.Struct({
  city: Schema.optional(Schema.String),
  country: Schema.optional(Schema.String),
  countryName: Schema.optional(Schema.String),
  continent: Schema.optional(Schema.String),
  latitude: Schema.optional(Schema.Number.pipe(Schema.between(-90, 90))),
  longitude: Schema.optional(Schema.Number.pipe(Schema.between(-180, 180)))
})
/**
 * @since 0.1.0
 * @category models
 */
export type Location = typeof Location.Type

/**
 * How fast a server was for a model, in tokens per second, and when that was measured (ISO 8601).
 *
 * @since 0.1.0
 * @category models
 */
export interface Performance {
  readonly tokens_per_second?: number
  readonly last_tested?: string
}

/**
 * A server as the library uses it. `url` is its identity: normalised, without a path's trailing slash and without
 * user information (which moves into `authorization`).
 *
 * @since 0.1.0
 * @category models
 */
export interface Server {
  readonly url: string
  /** `undefined` until the server has been asked what it speaks. */
  readonly protocol: Protocol | undefined
  /** The value of the `Authorization` header. */
  readonly authorization: Redacted.Redacted | undefined
  readonly location: Location | undefined
  readonly organization: string | undefined
  /** Share of the traffic within a priority; 1 unless given. */
  readonly weight: number
  /** Lower is tried first; 0 unless given. */
  readonly priority: number
  /** Requests at once. */
  readonly maxInFlight: number | undefined
  /** Not named by the user: used only if it answers. */
  readonly implicit: boolean
}

/**
 * How a user names a server: its address, or its address and what is known about it.
 *
 * - `url`: `http://gpu-1:11434`, `gpu-1:11434`, `https://host/v1`
 * - `protocol`: found out when it is not given (an address that names a version, such as `/v1`, speaks `openai`)
 * - `apiKey`: sent as `Authorization: Bearer`; a string or a `Redacted`
 * - `location`: for `nearest`
 * - `weight`: share of the traffic within its priority, > 0, default 1
 * - `priority`: lower is tried first, default 0
 * - `maxInFlight`: requests at once; more wait. Default: unlimited, but for an Ollama server 4 per model, or as many
 *   as `OLLAMA_NUM_PARALLEL` says
 *
 * @since 0.1.0
 * @category models
 */
export interface ServerOptions {
  readonly url: string
  readonly protocol?: "ollama" | "openai" | undefined
  readonly apiKey?: string | Redacted.Redacted | undefined
  readonly location?: Location | undefined
  readonly organization?: string | undefined
  readonly weight?: number | undefined
  readonly priority?: number | undefined
  readonly maxInFlight?: number | undefined
}

const knownKeys = new Set([
  "url",
  "protocol",
  "apiKey",
  "location",
  "organization",
  "weight",
  "priority",
  "maxInFlight"
])

const decodeLocation = Schema.decodeUnknownEither(Location, { onExcessProperty: "ignore" })

/**
 * The form of an address that identifies a server: a scheme (http unless given), no trailing slash, no query.
 * A wildcard address (`0.0.0.0`, as in `OLLAMA_HOST`) means this machine; without a scheme the port defaults to
 * Ollama's 11434.
 *
 * @since 0.1.0
 * @category constructors
 */
export const normalizeUrl = (input: string): Either.Either<URL, string> => {
  const trimmed = input.trim()
  if (trimmed === "") return Either.left("an address is missing")
  const bare = !/^[a-z][a-z0-9+.-]*:\/\//i.test(trimmed)
  const withHost = bare && trimmed.startsWith(":") ? `127.0.0.1${trimmed}` : trimmed
  let url: URL
  try {
    url = new URL(bare ? `http://${withHost}` : withHost)
  } catch {
    return Either.left(`'${redactUserInfo(trimmed)}' is not an address such as http://gpu-1:11434`)
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    return Either.left(`'${redactUserInfo(trimmed)}' must begin with http:// or https://`)
  }
  if (url.hostname === "0.0.0.0") url.hostname = "127.0.0.1"
  if (url.hostname === "[::]") url.hostname = "[::1]"
  if (bare && url.port === "" && !/:\d+(\/|$)/.test(withHost)) url.port = "11434"
  if (url.search !== "" || url.hash !== "") {
    return Either.left(`'${redactUserInfo(trimmed)}' must not have a query or a fragment`)
  }
  return Either.right(url)
}

/**
 * An address as an error may show it: without what may be a name and a password.
 *
 * @since 0.1.0
 * @category accessors
 */
export const redactUserInfo = (address: string): string => address.replace(/^([a-z][a-z0-9+.-]*:\/\/)?.*@/is, "$1…@")

const decode = (part: string): string => {
  try {
    return decodeURIComponent(part)
  } catch {
    // A percent sign that stands for itself.
    return part
  }
}

const toBase64 = (text: string): string => btoa(String.fromCharCode(...new TextEncoder().encode(text)))

const positive = (value: unknown): value is number => typeof value === "number" && Number.isFinite(value) && value > 0

/**
 * Makes a `Server` of what a user named, or says which field is wrong. `source` is where it was named, for the
 * error.
 *
 * @since 0.1.0
 * @category constructors
 */
export const fromOptions = (input: string | ServerOptions, source: string): Either.Either<Server, InvalidConfig> => {
  const fail = (field: string, reason: string) => Either.left(new InvalidConfig({ source, field, reason }))
  if (typeof input !== "string" && (typeof input !== "object" || input === null)) {
    return fail("servers", "a server is an address or an object with a url")
  }
  const options: ServerOptions = typeof input === "string" ? { url: input } : input
  for (const key of Object.keys(options)) {
    if (!knownKeys.has(key)) {
      return fail(`servers.${key}`, `there is no such option; there are ${[...knownKeys].join(", ")}`)
    }
  }
  if (typeof options.url !== "string") return fail("servers.url", "an address is missing")
  const parsed = normalizeUrl(options.url)
  if (Either.isLeft(parsed)) return fail("servers.url", parsed.left)
  const url = parsed.right
  let authorization: Redacted.Redacted | undefined
  if (url.username !== "" || url.password !== "") {
    const userInfo = `${decode(url.username)}:${decode(url.password)}`
    authorization = Redacted.make(`Basic ${toBase64(userInfo)}`)
    url.username = ""
    url.password = ""
  }
  const href = url.href.replace(/\/+$/, "")
  if (options.apiKey !== undefined) {
    const key = Redacted.isRedacted(options.apiKey) ? Redacted.value(options.apiKey) : options.apiKey
    if (typeof key !== "string" || key === "" || /[^\x21-\x7e]/.test(key)) {
      return fail("servers.apiKey", `the key of ${href} must be one word of printable characters`)
    }
    authorization = Redacted.make(`Bearer ${key}`)
  }
  const { location, maxInFlight, priority, protocol, weight } = options
  if (protocol !== undefined && protocol !== "ollama" && protocol !== "openai") {
    return fail("servers.protocol", `'${String(protocol)}' of ${href} must be "ollama" or "openai"`)
  }
  if (weight !== undefined && !positive(weight)) {
    return fail("servers.weight", `the weight of ${href} must be a number above 0`)
  }
  if (priority !== undefined && !Number.isInteger(priority)) {
    return fail("servers.priority", `the priority of ${href} must be a whole number`)
  }
  if (maxInFlight !== undefined && !(Number.isInteger(maxInFlight) && maxInFlight > 0)) {
    return fail("servers.maxInFlight", `the limit of ${href} must be a whole number above 0`)
  }
  if (location !== undefined && Either.isLeft(decodeLocation(location))) {
    return fail("servers.location", `the location of ${href} needs a latitude in -90…90 and a longitude in -180…180`)
  }
  return Either.right({
    url: href,
    protocol: protocol ?? (namesVersion(href) ? "openai" : undefined),
    authorization,
    location,
    organization: options.organization,
    weight: weight ?? 1,
    priority: priority ?? 0,
    maxInFlight,
    implicit: false
  })
}

const version = /\/v\d[^/]*(\/|$)/i

/** Whether an address names the version of an API: `/v1`, `/v1beta/openai`. */
const namesVersion = (url: string): boolean => {
  const path = url.indexOf("/", url.indexOf("//") + 2)
  return path !== -1 && version.test(url.slice(path))
}

/**
 * Under which address a server has its OpenAI API: its own, where that names a version (`https://host/v1`,
 * `https://host/v1beta/openai`), else `/v1` below it.
 *
 * @since 0.1.0
 * @category accessors
 */
export const openAIBase = (url: string): string => (namesVersion(url) ? url : `${url}/v1`)

/**
 * The engine inside this process, as a server.
 *
 * @since 0.1.0
 * @category constructors
 */
export const embedded: Server = {
  url: "embedded:",
  protocol: "embedded",
  authorization: undefined,
  location: undefined,
  organization: undefined,
  weight: 1,
  priority: 0,
  maxInFlight: undefined,
  implicit: false
}

/**
 * A server as every listing shows it (`bestServer`, `listModelServers`, `aicortex servers --json`).
 *
 * The speed stands at the top level and under `performance`, as AI Cortex documents the one and returns the
 * other; `country` is the ISO code.
 *
 * @since 0.1.0
 * @category models
 */
export interface ServerInfo {
  readonly url: string
  readonly protocol: Protocol | undefined
  readonly location: Location
  readonly organization: string | undefined
  readonly tokens_per_second: number | undefined
  readonly performance: Performance
}

/**
 * A server that has, or may have, a model.
 *
 * - `protocol`: what it speaks, found out
 * - `model`: the model's name as that server knows it
 * - `certain`: `false` where the server's list could not be read: it is tried last
 * - `performance`: the registry's measured figure
 * - `digest`: the very version of the model that it has, where it says so
 *
 * @since 0.1.0
 * @category models
 */
export interface Host {
  readonly server: Server
  readonly protocol: Protocol
  readonly model: string
  readonly certain: boolean
  readonly performance: Performance | undefined
  readonly digest?: string | undefined
}

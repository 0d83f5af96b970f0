/**
 * A model server of the user's: where it is, what it speaks, and what the user said about it.
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { InvalidConfig } from "./Errors.js"
import { nearestName } from "./internal/issues.js"
import { withoutNulls } from "./internal/optionSchemas.js"
import { percentDecode } from "./internal/percentDecode.js"
import { namesVersion, normalizeUrl, openAIBase } from "./server/address.js"
import * as Anthropic from "./server/anthropic.js"
import type { Location } from "./server/location.js"
import * as Options from "./server/options.js"
import { NetworkProtocol } from "./server/options.js"
import * as Wake from "./server/wake.js"

export { normalizeUrl, openAIBase, redactUserInfo } from "./server/address.js"

export { isLocal } from "./server/locality.js"

export { Location, LocationInput, LocationText } from "./server/location.js"

export { NetworkProtocol } from "./server/options.js"

export type { WakeTarget } from "./server/wake.js"

/**
 * What a server speaks. `embedded` is the engine inside this process.
 *
 * @since 0.1.0
 * @category models
 */
export const Protocol = Schema.Literal("ollama", "openai", "anthropic", "embedded")
/**
 * @since 0.1.0
 * @category models
 */
export type Protocol = typeof Protocol.Type

/**
 * The same as a list.
 *
 * @since 0.2.0
 * @category constants
 */
export const networkProtocols = NetworkProtocol.literals

/**
 * Whether a value is one of them.
 *
 * @since 0.2.0
 * @category guards
 */
export const isNetworkProtocol = Schema.is(NetworkProtocol)

/**
 * How fast a server was for a model, in tokens per second, and when that was measured (ISO 8601).
 *
 * @since 0.1.0
 * @category models
 */
export interface Performance {
  /** Generation speed. */
  readonly tokens_per_second?: number
  /** When that was measured (ISO 8601). */
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
  /** Its identity: normalised, without a trailing slash and without user information. */
  readonly url: string
  /** `undefined` until the server has been asked what it speaks. */
  readonly protocol: Protocol | undefined
  /** The value of the `Authorization` header. */
  readonly authorization: Redacted.Redacted | undefined
  /** More headers of every request, by lower-case name. */
  readonly headers?: Headers | undefined
  /** Under which address its API was found, where that is not where it is looked for first. */
  readonly api?: string | undefined
  /** Where it stands, as it was given. */
  readonly location: Location | undefined
  /** Those of its place, where `location` has none. */
  readonly coordinates?: Location | undefined
  /** Who runs it. */
  readonly organization: string | undefined
  /** Share of the traffic within a priority; 1 unless given. */
  readonly weight: number
  /** Lower is tried first; 0 unless given. */
  readonly priority: number
  /** Requests at once. */
  readonly maxInFlight: number | undefined
  /** Not named by the user: used only if it answers. */
  readonly implicit: boolean
  /** Whether the user counts it as local, or as remote; `undefined`: see `isLocal`. */
  readonly local?: boolean | undefined
  /** How its machine is woken where it sleeps; `undefined`: it is not. */
  readonly wake?: Wake.WakeTarget | undefined
  /** Why an engine of this machine does not run, where it should: nothing is sent to it. */
  readonly engineFailure?: EngineFailure | undefined
}

/**
 * Why an engine of this machine does not run.
 *
 * @since 0.3.0
 * @category models
 */
export interface EngineFailure {
  /** The engine's name. */
  readonly engine: string
  /** What happened. */
  readonly reason: string
  /** The last lines that it wrote. */
  readonly log: ReadonlyArray<string>
}

/**
 * Headers by name. Any may be a secret.
 *
 * @since 0.2.0
 * @category models
 */
export interface Headers {
  readonly [name: string]: Redacted.Redacted
}

/**
 * How a user names a server: its address, or its address and what is known about it.
 *
 * @since 0.1.0
 * @category models
 */
export interface ServerOptions {
  /** `http://gpu-1:11434`, `gpu-1:11434`, `https://host/v1`. */
  readonly url: string
  /**
   * Found out when it is not given (an address that names a version, such as `/v1`, speaks `openai`; `api.anthropic.com`
   * speaks `anthropic`).
   */
  readonly protocol?: NetworkProtocol | undefined
  /** Sent as `Authorization: Bearer`, or as `x-api-key` to a server that speaks `anthropic`; a string or a `Redacted`. */
  readonly apiKey?: string | Redacted.Redacted | undefined
  /**
   * More headers of every request to it, such as a proxy's or a tenant's; values are strings or `Redacted`, and are
   * never shown. What HTTP and the protocols set themselves (`host`, `content-length`, …) is refused.
   */
  readonly headers?: { readonly [name: string]: string | Redacted.Redacted } | undefined
  /**
   * For `nearest`; coordinates, the names of a city and a country, or a text such as `Berlin, DE`. How far away an
   * unknown place is, is not known.
   */
  readonly location?: string | Location | undefined
  /** Who runs it; only shown. */
  readonly organization?: string | undefined
  /** Share of the traffic within its priority, > 0, default 1. */
  readonly weight?: number | undefined
  /** Lower is tried first, default 0. */
  readonly priority?: number | undefined
  /**
   * Requests at once; more wait. Default: unlimited, but for an Ollama server 4 per model, or as many as
   * `OLLAMA_NUM_PARALLEL` says.
   */
  readonly maxInFlight?: number | undefined
  /**
   * Whether it is local: `private` calls stay on local servers, and `auto` may prefer them. Default: whether its address
   * is of this machine. A tunnel to another machine is `false`; a server of your own network may be `true`.
   */
  readonly local?: boolean | undefined
  /**
   * The hardware address of its machine, such as `00:11:22:33:44:55`. Where it does not answer, and a call needs it, a
   * magic packet (wake-on-LAN) is sent, and the call waits for it up to `loadTimeout`. Default: it is not woken.
   */
  readonly wake?: string | undefined
  /** Where that packet is sent (UDP); default `255.255.255.255:9`. */
  readonly wakeAddress?: string | undefined
}

/** Set by HTTP itself: overriding them would break the request. */
const reserved = new Set([
  "accept",
  "accept-encoding",
  "connection",
  "content-encoding",
  "content-length",
  "content-type",
  "expect",
  "host",
  "keep-alive",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade"
])

/** Errors never contain a value: it may be a secret. */
const readHeaders = (given: ServerOptions["headers"], url: string): Either.Either<Headers | undefined, string> => {
  if (given === undefined) return Either.right(undefined)
  const headers: { [name: string]: Redacted.Redacted } = {}
  for (const [name, value] of Object.entries(given)) {
    const key = name.toLowerCase()
    if (!/^[!#$%&'*+.^_`|~0-9a-z-]+$/.test(key))
      return Either.left(`'${name.slice(0, 40)}' of ${url} is no name of a header`)
    if (reserved.has(key)) return Either.left(`${key} of ${url} is set by what sends the request`)
    if (Object.hasOwn(headers, key)) return Either.left(`${key} of ${url} is there twice`)
    const text = Redacted.isRedacted(value) ? Redacted.value(value) : value
    if (!/^[\t\x20-\x7e]*$/.test(text)) {
      return Either.left(`the value of ${key} of ${url} must be a text of printable ASCII characters`)
    }
    headers[key] = Redacted.make(text.trim())
  }
  return Either.right(Object.keys(headers).length === 0 ? undefined : headers)
}

const toBase64 = (text: string): string => btoa(String.fromCharCode(...new TextEncoder().encode(text)))

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
  const options: ServerOptions = typeof input === "string" ? { url: input } : withoutNulls(input, ["location"])
  for (const name of Object.keys(options)) {
    if (Options.names.includes(name)) continue
    const near = nearestName(name, Options.names)
    const meant = near === undefined ? "there" : `did you mean ${near}? There`
    return fail(`servers.${name}`, `there is no such option; ${meant} are ${Options.names.join(", ")}`)
  }
  if (options.url === undefined) return fail("servers.url", "an address is missing")
  if (typeof options.url !== "string") return fail("servers.url", "an address must be a text")
  const parsed = normalizeUrl(options.url)
  if (Either.isLeft(parsed)) return fail("servers.url", parsed.left)
  const url = parsed.right
  let authorization: Redacted.Redacted | undefined
  if (url.username !== "" || url.password !== "") {
    const userInfo = `${percentDecode(url.username)}:${percentDecode(url.password)}`
    authorization = Redacted.make(`Basic ${toBase64(userInfo)}`)
    url.username = ""
    url.password = ""
  }
  const href = url.href.replace(/\/+$/, "")
  const checked = Options.check(options)
  if (Either.isLeft(checked)) {
    const { name, part, reason } = checked.left
    const what = `${part === "" ? name : `${part} in the ${name}`} of ${href}`
    return fail(`servers.${name}`, `${what}${reason.startsWith("must ") ? "" : ":"} ${reason}`)
  }
  const {
    apiKey,
    headers: givenHeaders,
    local,
    location,
    maxInFlight,
    organization,
    priority,
    protocol,
    wake,
    wakeAddress,
    weight
  } = checked.right
  if (apiKey !== undefined) {
    const key = Redacted.isRedacted(apiKey) ? Redacted.value(apiKey) : apiKey
    if (key === "" || /[^\x21-\x7e]/.test(key)) {
      return fail("servers.apiKey", `the key of ${href} must be one word of printable characters`)
    }
    authorization = Redacted.make(`Bearer ${key}`)
  }
  const headers = readHeaders(givenHeaders, href)
  if (Either.isLeft(headers)) return fail("servers.headers", headers.left)
  if (headers.right?.["authorization"] !== undefined && authorization !== undefined) {
    return fail("servers.headers", `${href} has a key already: give either that or the header authorization`)
  }
  if (wake === undefined && wakeAddress !== undefined) {
    return fail("servers.wakeAddress", `of ${href} has no effect without wake`)
  }
  const woken = wake === undefined ? Either.right(undefined) : Wake.parse(wake, wakeAddress)
  if (Either.isLeft(woken)) return fail(`servers.${woken.left.field}`, `of ${href} ${woken.left.reason}`)
  const speaks = protocol ?? (Anthropic.isOwn(href) ? "anthropic" : namesVersion(href) ? "openai" : undefined)
  if (speaks === "anthropic" && apiKey !== undefined && headers.right?.["x-api-key"] !== undefined) {
    return fail("servers.headers", `${href} has a key already: give either that or the header x-api-key`)
  }
  return Either.right({
    url: href,
    protocol: speaks,
    authorization,
    headers: headers.right,
    location,
    organization,
    weight: weight ?? 1,
    priority: priority ?? 0,
    maxInFlight,
    implicit: false,
    ...(local === undefined ? {} : { local }),
    ...(woken.right === undefined ? {} : { wake: woken.right })
  })
}

/**
 * Where a server's API may be, the likeliest first. `http://host/inference` may have `/v1` below it, or be what chats and
 * lists stand under directly; `http://host/api` may be Ollama's own `/api`. Only addresses below the one that was given,
 * and the one that it stands under, are named.
 *
 * @since 0.2.0
 * @category accessors
 */
export const apiBases = ({ protocol, url }: Pick<Server, "protocol" | "url">, of: Protocol): ReadonlyArray<string> => {
  if (of === "ollama") {
    const above = url.replace(/\/(api|v1)$/, "")
    return above === url ? [url] : [url, above]
  }
  if (namesVersion(url)) return [url]
  if (of === "anthropic") return [`${url}/v1`]
  const isPath = url.indexOf("/", url.indexOf("//") + 2) !== -1
  return isPath || protocol === "openai" ? [`${url}/v1`, url] : [`${url}/v1`]
}

/**
 * Under which address a server's API is, in this protocol, as far as is known.
 *
 * @since 0.2.0
 * @category accessors
 */
export const apiOf = ({ api, url }: Server, of: Protocol): string =>
  api ?? (of === "openai" || of === "anthropic" ? openAIBase(url) : url)

/**
 * The headers of a request to a server that the user set, its key, and those that the protocol requires.
 *
 * @since 0.2.0
 * @category accessors
 */
export const headersOf = (
  { authorization, headers, protocol }: Server,
  of: Protocol | undefined = protocol
): { readonly [name: string]: string } => {
  const key = authorization === undefined ? undefined : Redacted.value(authorization)
  const values: { [name: string]: string } = {}
  if (headers !== undefined) for (const [name, value] of Object.entries(headers)) values[name] = Redacted.value(value)
  if (of === "anthropic") return Anthropic.headersOf(values, key)
  if (key !== undefined) values["authorization"] = key
  return values
}

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
  /** The server's address. */
  readonly url: string
  /** What it speaks; `undefined` if that is not known. */
  readonly protocol: Protocol | undefined
  /** Where it stands; empty if that is not known. */
  readonly location: Location
  /** Who runs it. */
  readonly organization: string | undefined
  /** Generation speed for the model; `undefined` if not measured. */
  readonly tokens_per_second: number | undefined
  /** The same, and when it was measured. */
  readonly performance: Performance
}

/**
 * A server that has, or may have, a model.
 *
 * @since 0.1.0
 * @category models
 */
export interface Host {
  /** The server. */
  readonly server: Server
  /** What it speaks, found out. */
  readonly protocol: Protocol
  /** The model's name as that server knows it. */
  readonly model: string
  /** `false` where the server's list could not be read: it is tried last. */
  readonly certain: boolean
  /** The registry's measured figure. */
  readonly performance: Performance | undefined
  /** The very version of the model that it has, where it says so. */
  readonly digest?: string | undefined
}

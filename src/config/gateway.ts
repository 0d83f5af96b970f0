/**
 * What the gateway may be told: by its options, the environment, and `gateway` in the configuration file.
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { Routing } from "../ChatRequest.js"
import { InvalidConfig } from "../Errors.js"
import { withoutNulls } from "../internal/options.js"
import { isPattern } from "../internal/origins.js"

// =============================================================================
// the file
// =============================================================================

const whole = (min: number) =>
  Schema.Number.pipe(
    Schema.filter((n) => (Number.isSafeInteger(n) && n >= min ? undefined : `must be a whole number from ${min}`))
  )
const seconds = Schema.Number.pipe(
  Schema.filter((n) => (Number.isFinite(n) && n > 0 ? undefined : "must be a number of seconds above 0"))
)

/**
 * How requests are logged: not at all, as text (`name=value`), or as a JSON object in each line.
 *
 * @since 0.1.0
 * @category models
 */
export const LogForm = Schema.Literal("off", "text", "json")
/**
 * @since 0.1.0
 * @category models
 */
export type LogForm = typeof LogForm.Type

/** A key in the file: `key` is the key, or the environment variable that holds it. */
const FileKey = Schema.Struct({
  name: Schema.NonEmptyString,
  key: Schema.Union(Schema.NonEmptyString, Schema.Struct({ env: Schema.NonEmptyString })),
  requestsPerMinute: Schema.optional(whole(1)),
  tokensPerMinute: Schema.optional(whole(1)),
  concurrency: Schema.optional(whole(1)),
  admin: Schema.optional(Schema.Boolean),
  priority: Schema.optional(Schema.Literal("interactive", "batch"))
})

/**
 * `gateway` in the configuration file; times in seconds, sizes in bytes.
 *
 * @since 0.1.0
 * @category models
 */
export const File = Schema.Struct({
  host: Schema.optional(Schema.NonEmptyString),
  port: Schema.optional(Schema.Int.pipe(Schema.between(0, 65_535))),
  defaultModel: Schema.optional(Schema.NonEmptyString),
  keys: Schema.optional(Schema.Array(FileKey)),
  cors: Schema.optional(Schema.Array(Schema.NonEmptyString)),
  hosts: Schema.optional(Schema.Array(Schema.NonEmptyString)),
  maxBody: Schema.optional(whole(1)),
  maxConnections: Schema.optional(whole(1)),
  maxContext: Schema.optional(whole(1)),
  maxKeepAlive: Schema.optional(seconds),
  aliases: Schema.optional(
    Schema.Record({
      key: Schema.String,
      value: Schema.Union(Schema.NonEmptyString, Schema.NonEmptyArray(Schema.NonEmptyString))
    })
  ),
  privateImages: Schema.optional(Schema.Boolean),
  routing: Schema.optional(Routing),
  responses: Schema.optional(
    Schema.Union(
      Schema.Boolean,
      Schema.Struct({
        maxEntries: Schema.optional(whole(1)),
        maxBytes: Schema.optional(whole(1)),
        ttl: Schema.optional(seconds)
      })
    )
  ),
  exposeServers: Schema.optional(Schema.Boolean),
  strict: Schema.optional(Schema.Boolean),
  log: Schema.optional(LogForm),
  heartbeat: Schema.optional(Schema.NonNegative),
  drain: Schema.optional(Schema.NonNegative),
  timeout: Schema.optional(seconds),
  firstTokenTimeout: Schema.optional(seconds),
  loadTimeout: Schema.optional(seconds),
  deadline: Schema.optional(seconds),
  maxRetries: Schema.optional(whole(1))
})
/**
 * @since 0.1.0
 * @category models
 */
export type File = typeof File.Type

// =============================================================================
// options
// =============================================================================

/**
 * How much the store of responses holds.
 *
 * - `maxEntries`: so many responses at most
 * - `maxBytes`: so much room for all of them
 * - `ttl`: one that was not used for so long is forgotten, in milliseconds
 *
 * Beyond the first two, whoever holds the most loses the one of its own that it has not used for longest: so nobody whose
 * part is no more than an equal share loses any to another.
 *
 * @since 0.1.0
 * @category models
 */
export interface ResponseBounds {
  readonly maxEntries: number
  readonly maxBytes: number
  readonly ttl: number
}

/**
 * Who may use the gateway. Limits count per minute and at once; each is unlimited where it is left out. `tokens` are
 * those of prompts and answers together. `admin` may also pull, copy, delete and unload models, and is not bound by
 * `maxContext` and `maxKeepAlive`; default `false`. Requests of a key whose `priority` is `batch` let those of
 * others go first where they have to wait for a place; default `interactive`.
 *
 * @since 0.1.0
 * @category models
 */
export interface Key {
  readonly name: string
  readonly key: string | Redacted.Redacted
  readonly requestsPerMinute?: number | undefined
  readonly tokensPerMinute?: number | undefined
  readonly concurrency?: number | undefined
  readonly admin?: boolean | undefined
  readonly priority?: "interactive" | "batch" | undefined
}

/**
 * What a program may set. Whatever is left out comes from the configuration file, and the defaults.
 *
 * - `host`, `port`: where to listen; defaults `127.0.0.1` and `8000`; port 0 takes a free one
 * - `defaultModel`: for requests that name none; default: the library's (`AICORTEX_MODEL`, else `gpt-oss:20b`)
 * - `keys`: who may use it; default: everybody
 * - `cors`: origins of web pages that may, of any scheme (`app://obsidian.md`), `*` for all, or with `*` for a part:
 *   `chrome-extension://*`, `https://*.example.com`, `http://localhost:*`. `null` stands for pages without an origin;
 *   default: none but this machine's
 * - `hosts`: names by which the gateway may be called where there is no key, besides addresses, names without a dot and
 *   this machine's own; default: none
 * - `maxBody`: the longest request body, in bytes; default 32 MiB
 * - `maxConnections`: how many connections clients may have open in each process; beyond it the address that has most loses
 *   its newest; default 4,096
 * - `maxContext`: the longest context (`num_ctx`) that a key without `admin` may ask for, in tokens; default 32,768
 * - `maxKeepAlive`: for how long such a key may have a model kept in memory (`keep_alive`), in milliseconds; default an hour
 * - `aliases`: names for models, or for chains of models: the next is asked where one fails before its first token. A
 *   chain may hold other aliases, and `auto`
 * - `routing`: in which order servers are tried where a request does not say; default: the fleet's `defaults`, else `random`
 * - `privateImages`: whether images may be named by addresses that lead into a private network: servers fetch them; default
 *   `false`
 * - `responses`: how many responses of `/v1/responses` are kept, in how much room (bytes), and for how long after their
 *   last use (ms), in memory; default 10,000, 64 MiB and a day. `false` keeps none
 * - `exposeServers`: whether answers and errors tell the addresses of servers; default `false`
 * - `strict`: whether a request with a parameter that is not known is refused, instead of answered without it; default
 *   `false`
 * - `log`: whether a line is written to standard error for each request, and how: `off`, `text` or `json`; default `off`
 * - `heartbeat`: after how many milliseconds of silence a stream shows that it lives, 0 for never; default 10,000
 * - `drain`: how long requests under way may still take when the gateway stops, in milliseconds; default 30,000
 * - `timeout`, `firstTokenTimeout`, `loadTimeout`, `deadline`: as in `ChatRequest.Options`, for every request. A client
 *   that sends nothing of its body, or reads nothing of its answer, for as long as `timeout` (default 30,000) is cut off
 * - `insecure`: listen beyond this machine although there is no key; default `false`
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  readonly host?: string | undefined
  readonly port?: number | undefined
  readonly defaultModel?: string | undefined
  readonly keys?: ReadonlyArray<Key> | undefined
  readonly cors?: ReadonlyArray<string> | undefined
  readonly hosts?: ReadonlyArray<string> | undefined
  readonly maxBody?: number | undefined
  readonly maxConnections?: number | undefined
  readonly maxContext?: number | undefined
  readonly maxKeepAlive?: number | undefined
  readonly aliases?: { readonly [name: string]: string | ReadonlyArray<string> } | undefined
  readonly privateImages?: boolean | undefined
  readonly routing?: Routing | undefined
  readonly responses?: boolean | { readonly [K in keyof ResponseBounds]?: ResponseBounds[K] | undefined } | undefined
  readonly exposeServers?: boolean | undefined
  readonly strict?: boolean | undefined
  readonly log?: LogForm | undefined
  readonly heartbeat?: number | undefined
  readonly drain?: number | undefined
  readonly timeout?: number | undefined
  readonly firstTokenTimeout?: number | undefined
  readonly loadTimeout?: number | undefined
  readonly deadline?: number | undefined
  /** Attempts of each request in all, as in `ChatRequest.Options`. A client sets it with the header `X-Aicortex-Max-Retries`. */
  readonly maxRetries?: number | undefined
  readonly insecure?: boolean | undefined
}

/**
 * A key as the gateway uses it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Access {
  readonly name: string
  readonly secret: Redacted.Redacted
  readonly requestsPerMinute: number
  readonly tokensPerMinute: number
  readonly concurrency: number
  readonly admin: boolean
  readonly priority: "interactive" | "batch"
}

/**
 * The settings that hold. Times are in milliseconds.
 *
 * @since 0.1.0
 * @category models
 */
export interface Settings {
  readonly host: string
  readonly port: number
  readonly defaultModel: string | undefined
  readonly keys: ReadonlyArray<Access>
  readonly cors: ReadonlyArray<string>
  readonly hosts: ReadonlyArray<string>
  readonly maxBody: number
  readonly maxConnections: number
  readonly maxContext: number
  readonly maxKeepAlive: number
  readonly aliases: ReadonlyMap<string, ReadonlyArray<string>>
  readonly privateImages: boolean
  /** `undefined`: the fleet's own default. */
  readonly routing: Routing | undefined
  /** `undefined` where none is kept. */
  readonly responses: ResponseBounds | undefined
  readonly exposeServers: boolean
  readonly strict: boolean
  readonly log: LogForm
  readonly heartbeat: number
  readonly drain: number
  readonly timeout: number | undefined
  readonly firstTokenTimeout: number | undefined
  readonly loadTimeout: number | undefined
  readonly deadline: number | undefined
  readonly maxRetries: number | undefined
  readonly insecure: boolean
}

/**
 * @since 0.1.0
 * @category constants
 */
export const defaults = {
  host: "127.0.0.1",
  port: 8000,
  maxBody: 32 * 1024 * 1024,
  maxConnections: 4_096,
  maxContext: 32_768,
  maxKeepAlive: 3_600_000,
  responses: { maxEntries: 10_000, maxBytes: 64 * 1024 * 1024, ttl: 86_400_000 },
  log: "off",
  heartbeat: 10_000,
  drain: 30_000
} as const

/**
 * Whether an address is this machine's own, which nobody else can reach.
 *
 * @since 0.1.0
 * @category accessors
 */
export const isLoopback = (host: string): boolean =>
  host === "localhost" || host === "::1" || host === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(host)

const milliseconds = (value: number | undefined): number | undefined => (value === undefined ? undefined : value * 1000)

/**
 * The file's section as options. `variable` reads an environment variable.
 *
 * @since 0.1.0
 * @category constructors
 */
export const fromFile = (
  file: File,
  source: string,
  variable: (name: string) => string | undefined
): Either.Either<Options, InvalidConfig> => {
  const keys: Array<Key> = []
  for (const { key, ...rest } of file.keys ?? []) {
    const value = typeof key === "string" ? key : variable(key.env)
    if (value === undefined || value === "") {
      const reason = `the environment variable ${typeof key === "string" ? "" : key.env} is not set`
      return Either.left(new InvalidConfig({ source, field: `gateway.keys.${rest.name}`, reason }))
    }
    keys.push({ ...rest, key: value })
  }
  const { deadline, drain, firstTokenTimeout, heartbeat, keys: _, loadTimeout, maxKeepAlive, ...others } = file
  const { responses, timeout, ...rest } = others
  return Either.right({
    ...rest,
    responses: typeof responses === "object" ? { ...responses, ttl: milliseconds(responses.ttl) } : responses,
    ...(file.keys === undefined ? {} : { keys }),
    maxKeepAlive: milliseconds(maxKeepAlive),
    heartbeat: milliseconds(heartbeat),
    drain: milliseconds(drain),
    timeout: milliseconds(timeout),
    firstTokenTimeout: milliseconds(firstTokenTimeout),
    loadTimeout: milliseconds(loadTimeout),
    deadline: milliseconds(deadline)
  })
}

/** The models that an alias stands for, where it may name other aliases; `undefined` where it leads to itself. */
const chain = (
  named: ReadonlyMap<string, ReadonlyArray<string>>,
  name: string,
  within: ReadonlyArray<string>
): ReadonlyArray<string> | undefined => {
  if (within.includes(name)) return undefined
  const models = new Set<string>()
  for (const one of named.get(name) ?? []) {
    const under = named.has(one) && one !== name ? chain(named, one, [...within, name]) : [one]
    if (under === undefined) return undefined
    for (const model of under) models.add(model)
  }
  return [...models]
}

const latest = ":latest"

/**
 * The models that a name stands for, where it is an alias. Ollama's clients put `:latest` behind a name without a tag.
 *
 * @since 0.1.0
 * @category accessors
 */
export const chainOf = ({ aliases }: Pick<Settings, "aliases">, name: string): ReadonlyArray<string> | undefined =>
  aliases.get(name) ?? (name.endsWith(latest) ? aliases.get(name.slice(0, -latest.length)) : undefined)

/**
 * The settings that hold, where `given` goes before `file`, or what is wrong with them.
 *
 * @since 0.1.0
 * @category constructors
 */
export const resolve = (asked: Options, file: Options = {}): Either.Either<Settings, InvalidConfig> => {
  const given = withoutNulls(asked)
  const source = "the options of the gateway"
  const bad = (field: string, reason: string) => Either.left(new InvalidConfig({ source, field, reason }))
  const pick = <K extends keyof Options>(name: K): Options[K] => given[name] ?? file[name]
  const host = pick("host") ?? defaults.host
  const port = pick("port") ?? defaults.port
  if (host.trim() === "") return bad("host", "must be an address, such as 127.0.0.1")
  if (!Number.isInteger(port) || port < 0 || port > 65_535) return bad("port", "must be a whole number from 0 to 65535")
  const defaultModel = pick("defaultModel")
  if (defaultModel?.trim() === "") return bad("defaultModel", "must be the name of a model")
  const maxBody = pick("maxBody") ?? defaults.maxBody
  if (!Number.isSafeInteger(maxBody) || maxBody < 1) return bad("maxBody", "must be a number of bytes from 1")
  const maxContext = pick("maxContext") ?? defaults.maxContext
  if (!Number.isSafeInteger(maxContext) || maxContext < 1) return bad("maxContext", "must be a number of tokens from 1")
  const maxConnections = pick("maxConnections") ?? defaults.maxConnections
  if (!Number.isSafeInteger(maxConnections) || maxConnections < 1) {
    return bad("maxConnections", "must be a whole number from 1")
  }
  const hosts = (pick("hosts") ?? []).map((name) => name.trim().toLowerCase())
  if (hosts.some((name) => !/^[\w.-]+$/.test(name)))
    return bad("hosts", "must be names without a port, such as llm.lan")
  for (const name of ["heartbeat", "drain"] as const) {
    const value = pick(name)
    if (value !== undefined && !(Number.isFinite(value) && value >= 0)) {
      return bad(name, "must be a number of milliseconds from 0")
    }
  }
  const maxRetries = pick("maxRetries")
  if (maxRetries !== undefined && (!Number.isSafeInteger(maxRetries) || maxRetries < 1)) {
    return bad("maxRetries", "must be a whole number from 1")
  }
  for (const name of ["timeout", "firstTokenTimeout", "loadTimeout", "deadline", "maxKeepAlive"] as const) {
    const value = pick(name)
    if (value !== undefined && !(Number.isFinite(value) && value > 0)) {
      return bad(name, "must be a number of milliseconds above 0")
    }
  }
  const kept = pick("responses") ?? true
  const own = defaults.responses
  const { maxBytes = own.maxBytes, maxEntries = own.maxEntries, ttl = own.ttl } = typeof kept === "boolean" ? own : kept
  for (const [name, value] of Object.entries({ maxEntries, maxBytes })) {
    if (!Number.isSafeInteger(value) || value < 1) return bad(`responses.${name}`, "must be a whole number from 1")
  }
  if (!(ttl > 0)) return bad("responses.ttl", "must be a number of milliseconds above 0")
  const keys: Array<Access> = []
  for (const one of pick("keys") ?? []) {
    const { admin, concurrency, key, name, priority = "interactive", requestsPerMinute, tokensPerMinute } = one
    const value = Redacted.isRedacted(key) ? Redacted.value(key) : key
    if (typeof value !== "string" || value.length === 0 || /[^\x21-\x7e]/.test(value)) {
      return bad("keys", `the key '${name}' must be one word of printable characters`)
    }
    if (priority !== "interactive" && priority !== "batch") {
      return bad("keys", `the priority of '${name}' must be interactive or batch`)
    }
    if (keys.some((other) => other.name === name)) return bad("keys", `'${name}' is named twice`)
    const same = keys.find((other) => Redacted.value(other.secret) === value)
    if (same !== undefined) return bad("keys", `'${same.name}' and '${name}' are the same key`)
    keys.push({
      name,
      secret: Redacted.make(value),
      requestsPerMinute: requestsPerMinute ?? Number.POSITIVE_INFINITY,
      tokensPerMinute: tokensPerMinute ?? Number.POSITIVE_INFINITY,
      concurrency: concurrency ?? Number.POSITIVE_INFINITY,
      admin: admin ?? false,
      priority
    })
  }
  const insecure = pick("insecure") ?? false
  if (keys.length === 0 && !insecure && !isLoopback(host)) {
    return bad(
      "host",
      `${host} can be reached from other machines, and there is no API key: give --api-key (AICORTEX_API_KEY), ` +
        "or --insecure if everybody may use your servers"
    )
  }
  const log = pick("log") ?? defaults.log
  if (!LogForm.literals.includes(log)) return bad("log", `must be one of ${LogForm.literals.join(", ")}`)
  const cors = pick("cors") ?? []
  for (const origin of cors) {
    if (!isPattern(origin)) return bad("cors", `'${origin}' must be * or an origin such as https://example.com`)
  }
  const named = new Map<string, ReadonlyArray<string>>()
  for (const [name, models] of Object.entries(pick("aliases") ?? {})) {
    if (name === "auto" || name.trim() === "") return bad("aliases", `'${name}' cannot be given to a model`)
    if (models.length === 0) return bad("aliases", `'${name}' must stand for at least one model`)
    named.set(name, typeof models === "string" ? [models] : models)
  }
  const aliases = new Map<string, ReadonlyArray<string>>()
  for (const name of named.keys()) {
    const models = chain(named, name, [])
    if (models === undefined) return bad("aliases", `'${name}' stands for itself`)
    aliases.set(name, models)
  }
  return Either.right({
    host,
    port,
    defaultModel,
    keys,
    cors,
    hosts,
    maxBody,
    maxConnections,
    privateImages: pick("privateImages") ?? false,
    maxContext,
    maxKeepAlive: pick("maxKeepAlive") ?? defaults.maxKeepAlive,
    aliases,
    routing: pick("routing"),
    responses: kept === false ? undefined : { maxEntries, maxBytes, ttl },
    exposeServers: pick("exposeServers") ?? false,
    strict: pick("strict") ?? false,
    log,
    heartbeat: pick("heartbeat") ?? defaults.heartbeat,
    drain: pick("drain") ?? defaults.drain,
    timeout: pick("timeout"),
    firstTokenTimeout: pick("firstTokenTimeout"),
    loadTimeout: pick("loadTimeout"),
    deadline: pick("deadline"),
    maxRetries,
    insecure
  })
}

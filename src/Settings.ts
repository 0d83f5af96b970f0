/**
 * What the user has configured, as plain data that the services read. `Cortex` makes it from options, environment
 * and configuration file.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import type { Redacted } from "effect/Redacted"
import * as Struct from "effect/Struct"
import { fleet } from "./config/fleet.js"
import { defaultsOf, type ValuesOf } from "./config/setting.js"
import { type Aliases, none } from "./modelSelection/aliases.js"
import { automatic } from "./modelSelection/candidate.js"
import type { RegistryUrl } from "./registry/registryUrl.js"
import type { Location, Server } from "./Server.js"

export type {
  /**
   * @since 0.3.0
   * @category models
   */
  RegistryUrl
} from "./registry/registryUrl.js"

/** Those that something is made of before they hold, or that only what makes the services reads. */
const made = [
  "servers",
  "model",
  "registry",
  "registryCopies",
  "aliases",
  "location",
  "stateFile",
  "cache",
  "sessions",
  "store",
  "models",
  "proxy",
  "ca",
  "cacheFolder",
  "demoModel",
  "configFile"
] as const

type Values = ValuesOf<typeof fleet>

/**
 * The settings that hold as they are given.
 *
 * @since 0.2.0
 * @category models
 */
export type DirectSettings = Omit<Values, (typeof made)[number]>

/**
 * The settings that hold as they are given, out of all of them.
 *
 * @since 0.2.0
 * @category accessors
 */
export const directSettings = (values: Values): DirectSettings => Struct.omit(values, ...made)

/**
 * What holds: the settings of a fleet (see `config/fleet`), put together and checked. Times are in milliseconds.
 *
 * @since 0.1.0
 * @category models
 */
export interface Settings extends DirectSettings {
  /** The model of calls that name none; `auto`, the default, is the one that fits best (see `ModelSelection`). */
  readonly model: string
  /** Each with its models; no alias is among them. */
  readonly aliases: Aliases
  /** The user's own. */
  readonly servers: ReadonlyArray<Server>
  /** Registries that come on top of the built-in catalogue: folders, files, addresses. Earlier ones take precedence. */
  readonly registry: ReadonlyArray<string | RegistryUrl>
  /** Where the user is, as it was given; `coordinates` are those of that place, where it has none. */
  readonly location: Location | undefined
  /** Where that place is, if `location` does not say it. */
  readonly coordinates?: Location | undefined
  /** Where the last good copies of registries by address are kept; `undefined`: nowhere. */
  readonly registryCopies: string | undefined
  /** `undefined`: what was learned of the servers is not kept. */
  readonly stateFile: string | undefined
  /** `undefined` where answers are kept only for calls that say so. */
  readonly cache: CachePolicy | undefined
  /** How conversations are kept. */
  readonly sessions: SessionPolicy
  /** The store that outlives the process; `undefined`: there is none. */
  readonly store?: Redacted | undefined
  /** No setting names the store: if none can be opened, all is in memory. */
  readonly isDefaultStore?: true | undefined
  /** The models of this machine. */
  readonly models: ModelPolicy
  /** `undefined`: servers are reached through none. */
  readonly proxy?: Proxy | undefined
  /** Certificates (PEM), read. */
  readonly ca?: ReadonlyArray<string> | undefined
}

/**
 * Through which proxies servers are reached: `http` and `https` for addresses of that kind, `no` the hosts that are
 * reached without (separated by commas, as in `NO_PROXY`), `loopback` whether this machine itself is reached through
 * them too.
 *
 * @since 0.2.0
 * @category models
 */
export interface Proxy {
  /** The proxy for `http:` addresses. */
  readonly http: Redacted | undefined
  /** The proxy for `https:` addresses. */
  readonly https: Redacted | undefined
  /** Hosts that are reached without one, separated by commas, as in `NO_PROXY`. */
  readonly no: string
  /** Whether this machine itself is reached through them too. */
  readonly loopback: boolean
}

/**
 * How many conversations are kept, how many bytes of them, and for how many milliseconds, in the store or in memory.
 * What is left out has the default of either.
 *
 * @since 0.1.0
 * @category models
 */
export interface SessionPolicy {
  /** The folder of an earlier version, whose conversations are taken into the store once; default: none. */
  readonly folder?: string | undefined
  /** In memory, also where there is a store. */
  readonly inMemory?: true | undefined
  /** How many. */
  readonly maxSessions?: number | undefined
  /** How many bytes all of them have together. */
  readonly maxBytes?: number | undefined
  /** How long one is kept after its last use, in milliseconds. */
  readonly ttl?: number | undefined
}

/**
 * Where the models of this machine are kept, and names for them.
 *
 * @since 0.3.0
 * @category models
 */
export interface ModelPolicy {
  /** The folder; `undefined`: there is none, and so no models. */
  readonly folder?: string | undefined
  /** Names of the user's, each with the model that it means. */
  readonly aliases?: { readonly [name: string]: string } | undefined
  /** The address of the hub; default `https://huggingface.co`. */
  readonly hub?: string | undefined
  /** The token for the hub: no other host gets it. */
  readonly token?: Redacted | undefined
  /** How many ranges of a file are downloaded at once; default 4. */
  readonly parallel?: number | undefined
  /** How long a range is, in bytes; default 67,108,864 (64 MiB). */
  readonly rangeBytes?: number | undefined
  /** How long nothing may come before the connection is given up, in milliseconds; default 30,000. */
  readonly stallTimeout?: number | undefined
  /** How many attempts in a row may bring nothing; default 5. */
  readonly retries?: number | undefined
  /** The pause before the second attempt, in milliseconds, which doubles from there; default 500. */
  readonly retryBackoff?: number | undefined
  /** How much memory all of them that run may take, in bytes; `undefined`: 90 % of this machine's. */
  readonly memory?: number | undefined
  /** How long one that was loaded by a request stays after its last one, in milliseconds; `undefined`: five minutes. */
  readonly keepAlive?: number | undefined
}

/**
 * How many answers are kept, how many bytes of them, and for how many milliseconds; `shared`: whether one that was kept
 * for one owner of calls answers another.
 *
 * @since 0.1.0
 * @category models
 */
export interface CachePolicy {
  /** How long an answer is kept, in milliseconds. */
  readonly ttl: number
  /** How many answers. */
  readonly maxEntries: number
  /** How many bytes all of them have together. */
  readonly maxBytes: number
  /** Whether an answer that was kept for one owner answers another. */
  readonly shared: boolean
}

/**
 * The tag of the settings that hold.
 *
 * @since 0.1.0
 * @category tags
 */
export class CurrentSettings extends Context.Tag("aicortex/Settings")<CurrentSettings, Settings>() {}

/**
 * Settings with no server and every default.
 *
 * @since 0.1.0
 * @category constants
 */
export const empty: Settings = {
  ...directSettings(defaultsOf(fleet)),
  model: automatic,
  aliases: none,
  servers: [],
  registry: [],
  registryCopies: undefined,
  location: undefined,
  stateFile: undefined,
  cache: undefined,
  sessions: {},
  models: {}
}

/**
 * These settings, and the defaults of those that are left out.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (settings: Partial<Settings>): Layer.Layer<CurrentSettings> =>
  Layer.succeed(CurrentSettings, { ...empty, ...settings })

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
import { defaults as calls } from "./ChatRequest.js"
import { fleet } from "./config/fleet.js"
import { defaultsOf, type ValuesOf } from "./config/setting.js"
import { type Aliases, none } from "./modelSelection/aliases.js"
import type { Location, Server } from "./Server.js"

/** Those that something is made of before they hold, or that only what makes the services reads. */
const made = [
  "servers",
  "model",
  "registry",
  "aliases",
  "location",
  "stateFile",
  "cache",
  "sessions",
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
export type Plain = Omit<Values, (typeof made)[number]>

/**
 * @since 0.2.0
 * @category accessors
 */
export const plain = (values: Values): Plain => Struct.omit(values, ...made)

/**
 * What holds: the settings of a fleet (see `config/fleet`), put together and checked. Times are in milliseconds.
 *
 * @since 0.1.0
 * @category models
 */
export interface Settings extends Plain {
  readonly model: string
  /** Whether the user chose `model`. */
  readonly modelNamed: boolean
  /** Each with the models that it stands for; no alias is among them. */
  readonly aliases: Aliases
  /** The user's own. */
  readonly servers: ReadonlyArray<Server>
  /** Folders of registry files that come on top of the built-in catalogue. */
  readonly registry: ReadonlyArray<string>
  /** Where the user is, as it was given; `coordinates` are those of that place, where it has none. */
  readonly location: Location | undefined
  readonly coordinates?: Location | undefined
  /** `undefined`: what was learned of the servers is not kept. */
  readonly stateFile: string | undefined
  /** `undefined` where answers are kept only for calls that say so. */
  readonly cache: CachePolicy | undefined
  readonly sessions: SessionPolicy
  /** `undefined`: servers are reached through none. */
  readonly proxy?: Proxy | undefined
  /** Certificates (PEM), read. */
  readonly ca?: ReadonlyArray<string> | undefined
}

/**
 * Through which proxies servers are reached: `http` and `https` for addresses of that kind, `no` the hosts that are reached
 * without (separated by commas, as in `NO_PROXY`), `loopback` whether this machine itself is reached through them too.
 *
 * @since 0.2.0
 * @category models
 */
export interface Proxy {
  readonly http: Redacted | undefined
  readonly https: Redacted | undefined
  readonly no: string
  readonly loopback: boolean
}

/**
 * Where conversations are kept (`folder`; in memory where there is none), how many, how many bytes of them, and for how
 * many milliseconds. What is left out has the default of its store.
 *
 * @since 0.1.0
 * @category models
 */
export interface SessionPolicy {
  readonly folder?: string | undefined
  readonly maxSessions?: number | undefined
  readonly maxBytes?: number | undefined
  readonly ttl?: number | undefined
}

/**
 * How many answers are kept, how many bytes of them, and for how many milliseconds; `shared`: whether one that was kept
 * for one owner of calls answers another.
 *
 * @since 0.1.0
 * @category models
 */
export interface CachePolicy {
  readonly ttl: number
  readonly maxEntries: number
  readonly maxBytes: number
  readonly shared: boolean
}

/**
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
  ...plain(defaultsOf(fleet)),
  model: calls.model,
  modelNamed: false,
  aliases: none,
  servers: [],
  registry: [],
  location: undefined,
  stateFile: undefined,
  cache: undefined,
  sessions: {}
}

/**
 * @since 0.1.0
 * @category layers
 */
export const layer = (settings: Partial<Settings>): Layer.Layer<CurrentSettings> =>
  Layer.succeed(CurrentSettings, { ...empty, ...settings })

/**
 * What the user has configured, as plain data that the services read. `Cortex` makes it from options, environment
 * and configuration file.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import type { Redacted } from "effect/Redacted"
import type { CallDefaults } from "./CallDefaults.js"
import { defaults, type Options } from "./ChatRequest.js"
import type { Location, Server } from "./Server.js"
import { defaultMaxBytes } from "./structuredOutput/bounds.js"

/**
 * - `model`: used where a call names none; `modelNamed` is whether the user chose it
 * - `servers`: the user's own
 * - `registry`: folders of registry files that come on top of the built-in catalogue
 * - `personas`: reusable system prompts by name
 * - `location`: where the user is, for `nearest`, as it was given; `coordinates` are those of that place, where it has none
 * - `cacheTtl`: how long a failed server rests, in milliseconds; default 60,000 (`AICORTEX_CACHE_TTL`, in seconds)
 * - `bestServerTtl`: how long `bestServer` keeps its answer, in milliseconds; default 300,000
 * - `parallel`: how many requests an Ollama server runs at once for one model (`OLLAMA_NUM_PARALLEL`); default 4
 * - `stateFile`: where what was learned of the servers is kept between two runs; `undefined`: nowhere
 * - `probeInterval`: every so many milliseconds a small request finds out whether a server can be reached; `undefined`:
 *   never
 * - `maxQueued`: how many calls may wait for a place on the servers of a model; `undefined`: 512, or 4 per server where that
 *   is more
 * - `maxSchemaBytes`: how long a JSON Schema may be, of an answer or of the arguments of a tool; default 262,144
 * - `maxAnswerBytes`: how long an answer may be, with its reasoning and the arguments of its tools; default 67,108,864 (64 MiB)
 * - `discoveryTtl`: how long a server's list of models is believed, in milliseconds; default 300,000
 * - `proxy`: through which proxies servers are reached; `undefined`: through none
 * - `ca`: certificates (PEM) of authorities that are trusted besides those that Node trusts
 * - `hedge`: whether a second server is asked where the first is late and a call does not say; default no
 * - `defaults`: options of calls that hold where a call does not say; default none
 * - `cache`: how answers are kept where a call does not say; `undefined` where they are kept only if it does
 *
 * @since 0.1.0
 * @category models
 */
export interface Settings {
  readonly model: string
  readonly modelNamed: boolean
  readonly servers: ReadonlyArray<Server>
  readonly registry: ReadonlyArray<string>
  readonly personas: { readonly [name: string]: string }
  readonly location: Location | undefined
  readonly coordinates?: Location | undefined
  readonly cacheTtl: number
  readonly bestServerTtl: number
  readonly discoveryTtl: number
  readonly parallel: number | undefined
  readonly stateFile: string | undefined
  readonly probeInterval: number | undefined
  readonly maxQueued: number | undefined
  readonly maxSchemaBytes: number
  readonly maxAnswerBytes: number
  readonly hedge: Options["hedge"]
  readonly defaults: CallDefaults
  readonly cache: CachePolicy | undefined
  readonly sessions: SessionPolicy
  readonly proxy?: Proxy | undefined
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
  model: defaults.model,
  modelNamed: false,
  servers: [],
  registry: [],
  personas: {},
  location: undefined,
  cacheTtl: 60_000,
  bestServerTtl: 300_000,
  discoveryTtl: 300_000,
  parallel: undefined,
  stateFile: undefined,
  probeInterval: undefined,
  maxQueued: undefined,
  maxSchemaBytes: defaultMaxBytes,
  maxAnswerBytes: 64 * 1024 * 1024,
  hedge: false,
  defaults: {},
  cache: undefined,
  sessions: {}
}

/**
 * @since 0.1.0
 * @category layers
 */
export const layer = (settings: Partial<Settings>): Layer.Layer<CurrentSettings> =>
  Layer.succeed(CurrentSettings, { ...empty, ...settings })

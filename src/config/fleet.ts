/**
 * The settings of a fleet. A new one is declared here, and used where it has an effect: what else there is of it (the
 * option, the file, the environment, the checks, `aicortex config`, the documentation) is made from this.
 *
 * The comments above them are written by `npm run docs:settings`.
 */
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import { CallDefaults, excludedOptions } from "../CallDefaults.js"
import { keptFor, milliseconds, positive, range, secondOrMore, wholeFrom } from "../internal/units.js"
import { demoModel } from "../Model.js"
import * as Server from "../Server.js"
import { Redactable } from "../server/options.js"
import { parse as parseStore } from "../store/address.js"
import { defaultMaxBytes } from "../structuredOutput/limits.js"
import { AliasNames } from "./aliases.js"
import { ConditionsOptions } from "./conditions.js"
import { PriceOptions } from "./prices.js"
import { FileRegistry, RegistryUrlOptions } from "./registry.js"
import { FileServer, text } from "./server.js"
import { setting } from "./setting.js"

/** The text of a variable that turns something off. */
const orOff = (text: string) => Either.right(/^(off|none|false|no|0)$/i.test(text) ? false : text)

/** The same for a store: without one, all is in memory. */
const orMemory = (text: string) => (/^memory$/i.test(text) ? Either.right(false) : orOff(text))

const addresses = (text: string) => {
  // Files of variables that no shell reads keep the quotes.
  const urls = text
    .replace(/["']/g, " ")
    .split(/[\s,]+/)
    .filter((url) => url !== "")
  return Either.right(urls.length === 0 ? undefined : urls)
}

const numberOf = (text: string) => (Number.isNaN(Number(text)) ? text : Number(text))

const jsonObject = (text: string) =>
  Either.try({ try: () => JSON.parse(text) as unknown, catch: () => "is not a JSON object" })

const pathOrOff = (what: string) =>
  Schema.Union(text(what), Schema.Literal(false)).annotations({ message: () => `must be ${what}, or false` })

/** Each is looked at when it is made a server of. */
const servers = Schema.Array(Schema.Unknown).annotations({
  message: () => "must be a list"
}) as unknown as Schema.Schema<ReadonlyArray<string | Server.ServerOptions>>

/** How answers are kept. Whatever is left out has its default. */
export const CacheOptions = Schema.Struct({
  /** How long an answer is kept, in milliseconds; default an hour. */
  ttl: Schema.optional(milliseconds),
  /** How many answers are kept; default 1,000. */
  maxEntries: Schema.optional(wholeFrom(1)),
  /** How much room they may have, in bytes; default 64 MiB. */
  maxBytes: Schema.optional(wholeFrom(1, "bytes")),
  /** Whether an answer that was kept for one owner answers another; default `false`. */
  shared: Schema.optional(Schema.Boolean)
})
export type CacheOptions = typeof CacheOptions.Type

/** How conversations are kept. `folder: false` means memory; whatever is left out has its default. */
export const SessionOptions = Schema.Struct({
  /** Where earlier versions kept conversations; `false` keeps them in memory, unless a store is named. */
  folder: Schema.optional(pathOrOff("a folder")),
  /** How many conversations are kept; default 10,000. */
  maxSessions: Schema.optional(wholeFrom(1)),
  /** How much room they may have, in bytes; default 256 MiB. */
  maxBytes: Schema.optional(wholeFrom(1, "bytes")),
  /** How long a conversation is kept after it was used last, in milliseconds; default for ever. */
  ttl: Schema.optional(milliseconds)
})
export type SessionOptions = typeof SessionOptions.Type

/** A store, as people write it. The message never holds the value, which may have a password. */
const StoreAddress = Schema.Union(
  Schema.Literal(false),
  Redactable.pipe(
    Schema.filter((given) => {
      const address = parseStore(given)
      return Either.isRight(address) ? undefined : address.left
    })
  )
)

const isHubAddress = (value: string): boolean => {
  if (!URL.canParse(value)) return false
  const { hash, password, protocol, search, username } = new URL(value)
  return /^https?:$/.test(protocol) && `${username}${password}${search}${hash}` === ""
}

const HubAddress = Schema.String.pipe(
  Schema.filter(isHubAddress, {
    message: () => "must be the address of a hub, such as https://huggingface.co, without a password",
    jsonSchema: { pattern: "^https?://[^@?#]+$" }
  })
)

/** Where the models of this machine are kept. Whatever is left out has its default. */
export const ModelOptions = Schema.Struct({
  /** The folder that models are kept in; default `~/.local/state/aicortex/models`. */
  folder: Schema.optional(text("a folder")),
  /** Names of yours for models, each with what `aicortex pull` takes. */
  aliases: Schema.optional(Schema.Record({ key: Schema.NonEmptyString, value: Schema.NonEmptyString })),
  /** The address of the hub; default `https://huggingface.co`. */
  hub: Schema.optional(HubAddress),
  /** A token for the hub, which no other host gets. */
  token: Schema.optional(Redactable),
  /** How many ranges of a file are downloaded at once: 1 to 64, default 4. */
  parallel: Schema.optional(range(1, 64).pipe(Schema.int({ message: () => "must be a whole number" }))),
  /** How long a range is, in bytes; default 64 MiB. */
  rangeBytes: Schema.optional(wholeFrom(1024, "bytes")),
  /** How long nothing may come of a download, in milliseconds; default 30,000. */
  stallTimeout: Schema.optional(milliseconds),
  /** How many attempts may fail in a row; default 5. */
  retries: Schema.optional(wholeFrom(0)),
  /** The first pause between attempts, in milliseconds, which doubles; default 500. */
  retryBackoff: Schema.optional(milliseconds),
  /** How much memory all models that run may take, in bytes; default 90 % of what there is. */
  memory: Schema.optional(wholeFrom(1, "bytes")),
  /**
   * How long a model that a request has loaded stays after its last one, in milliseconds; 0: only while it is used,
   * negative: until it is stopped. Default five minutes.
   */
  keepAlive: Schema.optional(keptFor)
})
export type ModelOptions = typeof ModelOptions.Type

/** How `auto` chooses. */
export const AutoOptions = Schema.Struct({
  /**
   * Which servers come first: `local`, `remote`, or `fastest`, which leaves it to the models and the routing. Default
   * `fastest`.
   */
  prefer: Schema.optional(Schema.Literal("local", "remote", "fastest"))
})
export type AutoOptions = typeof AutoOptions.Type

/** Proxies as a program gives them. */
const Proxy = Schema.Union(
  Schema.Literal(false),
  Redactable,
  Schema.Struct({
    /** The proxy of servers with `http:`. */
    http: Schema.optional(Redactable),
    /** The proxy of servers with `https:`. */
    https: Schema.optional(Redactable),
    /** Hosts that are reached without one, as in `NO_PROXY`. */
    no: Schema.optional(Schema.String),
    /** Whether this machine itself is reached through it too; default `false`. */
    loopback: Schema.optional(Schema.Boolean)
  })
)
/**
 * Proxies as a program gives them: one for all, or one for each kind of address. `no` are hosts that are reached
 * without (separated by commas); `loopback`: whether this machine itself is reached through it too, default `false`.
 */
export type ProxyOption = typeof Proxy.Type

export const fleet = {
  /**
   * Your servers: addresses, or objects with an address and more. An empty list means none, not even the local one.
   * Default: the Ollama of this machine, if it answers.
   */
  servers: setting(servers, {
    doc: "Your servers: addresses, or objects with an address and more. An empty list means none, not even the local one.",
    defaultText: "the Ollama of this machine, if it answers",
    env: ["AICORTEX_SERVERS", "OLLAMA_HOST"],
    text: addresses,
    file: Schema.Array(Schema.Union(Schema.NonEmptyString, FileServer))
  }),
  /** The model where a call names none. Default: auto, the one that fits best of those that the servers have. */
  model: setting(text("the name of a model"), {
    doc: "The model where a call names none.",
    defaultText: "auto, the one that fits best of those that the servers have",
    env: ["AICORTEX_MODEL"]
  }),
  /**
   * Names for models, or for chains of models: the next is asked where one fails before its first token. A chain may
   * hold other aliases, and auto. The variable is a JSON object, as in the file. Default: none.
   */
  aliases: setting(AliasNames, {
    doc: "Names for models, or for chains of models: the next is asked where one fails before its first token. A chain may hold other aliases, and auto. The variable is a JSON object, as in the file.",
    defaultText: "none",
    env: ["AICORTEX_ALIASES"],
    text: jsonObject
  }),
  /** Reusable system prompts by name. Default: none. */
  personas: setting(Schema.Record({ key: Schema.String, value: Schema.String }), {
    doc: "Reusable system prompts by name.",
    default: {},
    defaultText: "none"
  }),
  /**
   * Where you are, for the routing strategy nearest: coordinates, the names of a city and a country, or a text such as
   * Berlin, DE or 52.52,13.40.
   */
  location: setting(Server.LocationInput as Schema.Schema<string | Server.Location, unknown>, {
    doc: "Where you are, for the routing strategy nearest: coordinates, the names of a city and a country, or a text such as Berlin, DE or 52.52,13.40.",
    env: ["AICORTEX_LOCATION"]
  }),
  /**
   * Registries of your own (models, servers, measured speeds): folders of registry files, files, and addresses
   * (https://…), each alone or as an object with an url and more. Earlier ones take precedence. In the variable they
   * are separated by commas. Default: none.
   */
  registry: setting(
    Schema.Union(Schema.String, RegistryUrlOptions, Schema.Array(Schema.Union(Schema.String, RegistryUrlOptions))),
    {
      doc: "Registries of your own (models, servers, measured speeds): folders of registry files, files, and addresses (https://…), each alone or as an object with an url and more. Earlier ones take precedence. In the variable they are separated by commas.",
      defaultText: "none",
      env: ["AICORTEX_REGISTRY"],
      file: FileRegistry,
      flag: { name: "registry-source", value: "SOURCE" },
      secret: true
    }
  ),
  /**
   * Where the last good copies of registries by address are kept, for a start while their source is away; false (in the
   * variable off): nowhere. Default: ~/.local/state/aicortex/registry.
   */
  registryCopies: setting(pathOrOff("a folder"), {
    doc: "Where the last good copies of registries by address are kept, for a start while their source is away; false (in the variable off): nowhere.",
    defaultText: "~/.local/state/aicortex/registry",
    env: ["AICORTEX_REGISTRY_COPIES"],
    text: orOff
  }),
  /**
   * How long a server that failed is not asked. Each failed probe doubles it, up to ten times. Default: 60 s. In
   * milliseconds.
   */
  serverCooldown: setting(milliseconds, {
    doc: "How long a server that failed is not asked. Each failed probe doubles it, up to ten times.",
    default: 60_000,
    aliases: ["cacheTtl"],
    env: ["AICORTEX_SERVER_COOLDOWN", "AICORTEX_CACHE_TTL"]
  }),
  /** How long bestServer keeps its answer. Default: 300 s. In milliseconds. */
  bestServerTtl: setting(milliseconds, {
    doc: "How long bestServer keeps its answer.",
    default: 300_000
  }),
  /** How long a server's list of models is believed. Default: 300 s. In milliseconds. */
  discoveryTtl: setting(milliseconds, {
    doc: "How long a server's list of models is believed.",
    default: 300_000
  }),
  /** How long a server is asked for its list of models before it counts as off. Default: 5 s. In milliseconds. */
  discoveryTimeout: setting(milliseconds, {
    doc: "How long a server is asked for its list of models before it counts as off.",
    default: 5_000,
    env: ["AICORTEX_DISCOVERY_TIMEOUT"]
  }),
  /** How many servers are asked for their lists of models at once. Default: 20. */
  discoveryConcurrency: setting(wholeFrom(1), {
    doc: "How many servers are asked for their lists of models at once.",
    default: 20,
    env: ["AICORTEX_DISCOVERY_CONCURRENCY"]
  }),
  /** How many requests an Ollama server runs at once for one model. Default: 4. */
  parallel: setting(wholeFrom(1), {
    doc: "How many requests an Ollama server runs at once for one model.",
    defaultText: "4",
    env: ["OLLAMA_NUM_PARALLEL"],
    // To Ollama it means: as many as fit.
    text: (text: string) => Either.right(text === "0" ? undefined : numberOf(text))
  }),
  /**
   * Conversations: how many are kept (maxSessions), how many bytes of them (maxBytes), and for how long (ttl). They are
   * in the store; folder is where earlier versions kept them, and is taken into the store once. folder: false keeps
   * them in memory, unless a store is named. The variable is the folder, or off. Default: 10,000 conversations, 256 MiB
   * and for ever, in memory, or in the store where there is one.
   */
  sessions: setting(SessionOptions, {
    doc: "Conversations: how many are kept (maxSessions), how many bytes of them (maxBytes), and for how long (ttl). They are in the store; folder is where earlier versions kept them, and is taken into the store once. folder: false keeps them in memory, unless a store is named. The variable is the folder, or off.",
    defaultText: "10,000 conversations, 256 MiB and for ever, in memory, or in the store where there is one",
    env: ["AICORTEX_SESSIONS"],
    text: (text: string) => Either.map(orOff(text), (folder) => ({ folder })),
    join: true
  }),
  /**
   * Where conversations, responses and all else that outlives a process are kept, for any number of processes: a path
   * or file:PATH is a SQLite file, postgres://user:password@host/database a PostgreSQL database, and false (in the
   * variable off, none or memory) none. Default: none; in the terminal and of aicortex serve
   * ~/.local/state/aicortex/store.db.
   */
  store: setting(StoreAddress, {
    doc: "Where conversations, responses and all else that outlives a process are kept, for any number of processes: a path or file:PATH is a SQLite file, postgres://user:password@host/database a PostgreSQL database, and false (in the variable off, none or memory) none.",
    defaultText: "none; in the terminal and of aicortex serve ~/.local/state/aicortex/store.db",
    env: ["AICORTEX_STORE"],
    text: orMemory,
    flag: { name: "store", value: "ADDRESS" },
    secret: true
  }),
  /**
   * The models of this machine: the folder that they are kept in; names of yours for them (aliases), each with what
   * aicortex pull takes; the address of the hub, and a token for it, which no other host gets; and how they are
   * downloaded: ranges at once (parallel) and their length (rangeBytes), how long nothing may come (stallTimeout), how
   * many attempts may fail in a row (retries), and the first pause between them (retryBackoff), which doubles; how much
   * memory all that run may take (memory, in bytes), and how long one that a request has loaded stays after its last
   * one (keepAlive; 0: only while it is used, negative: until it is stopped). AICORTEX_MODELS is the folder,
   * HF_ENDPOINT the hub, HF_TOKEN the token. Default: no aliases, in ~/.local/state/aicortex/models, from
   * https://huggingface.co without a token; 4 ranges of 64 MiB, 30 s, 5 attempts, 0.5 s; 90 % of the memory, five
   * minutes.
   */
  models: setting(ModelOptions, {
    doc: "The models of this machine: the folder that they are kept in; names of yours for them (aliases), each with what aicortex pull takes; the address of the hub, and a token for it, which no other host gets; and how they are downloaded: ranges at once (parallel) and their length (rangeBytes), how long nothing may come (stallTimeout), how many attempts may fail in a row (retries), and the first pause between them (retryBackoff), which doubles; how much memory all that run may take (memory, in bytes), and how long one that a request has loaded stays after its last one (keepAlive; 0: only while it is used, negative: until it is stopped). AICORTEX_MODELS is the folder, HF_ENDPOINT the hub, HF_TOKEN the token.",
    default: {},
    defaultText:
      "no aliases, in ~/.local/state/aicortex/models, from https://huggingface.co without a token; 4 ranges of 64 MiB, 30 s, 5 attempts, 0.5 s; 90 % of the memory, five minutes",
    env: ["AICORTEX_MODELS", "HF_ENDPOINT", "HF_TOKEN"],
    text: (text: string, variable: string) =>
      Either.right(
        variable === "HF_ENDPOINT" ? { hub: text } : variable === "HF_TOKEN" ? { token: text } : { folder: text }
      ),
    join: true,
    secret: true
  }),
  /**
   * Where what was learned of the servers is kept for the next run; false (in the variable off): nowhere. Default:
   * nowhere; in the terminal ~/.local/state/aicortex/fleet.json.
   */
  stateFile: setting(pathOrOff("a file"), {
    doc: "Where what was learned of the servers is kept for the next run; false (in the variable off): nowhere.",
    defaultText: "nowhere; in the terminal ~/.local/state/aicortex/fleet.json",
    env: ["AICORTEX_STATE"],
    text: orOff
  }),
  /** How often each of your servers is asked whether it is there. Default: never. In milliseconds. */
  probeInterval: setting(secondOrMore, {
    doc: "How often each of your servers is asked whether it is there.",
    defaultText: "never",
    env: ["AICORTEX_PROBE_INTERVAL"]
  }),
  /**
   * Where the state of this machine and of the lines to remote servers changes, for auto and aicortex conditions:
   * percent of cpu, memory and gpu, load per core, each with a critical one (cpuCritical, …); latency, loss in percent
   * and throughput in megabits per second of a line; how often a line is checked (interval); and how states are kept
   * from flapping (window: one change in it; margin: in percent, for the way back). The variable is a JSON object, as
   * in the file. Default: cpu 80, memory 85, load 4, gpu 85; critical at 95, 95, 8 and 95; latency 0.2 s, loss 10,
   * throughput 5, interval 30 s, window 30 s, margin 10.
   */
  conditions: setting(ConditionsOptions, {
    doc: "Where the state of this machine and of the lines to remote servers changes, for auto and aicortex conditions: percent of cpu, memory and gpu, load per core, each with a critical one (cpuCritical, …); latency, loss in percent and throughput in megabits per second of a line; how often a line is checked (interval); and how states are kept from flapping (window: one change in it; margin: in percent, for the way back). The variable is a JSON object, as in the file.",
    default: {},
    defaultText:
      "cpu 80, memory 85, load 4, gpu 85; critical at 95, 95, 8 and 95; latency 0.2 s, loss 10, throughput 5, interval 30 s, window 30 s, margin 10",
    env: ["AICORTEX_CONDITIONS"],
    text: jsonObject,
    join: true
  }),
  /**
   * How auto chooses: prefer is local, remote, or fastest, which leaves it to the models and the routing. Where this
   * machine is at its limit, or the lines are bad, that comes first (see conditions). The variable is a JSON object, as
   * in the file. Default: prefer fastest.
   */
  auto: setting(AutoOptions, {
    doc: "How auto chooses: prefer is local, remote, or fastest, which leaves it to the models and the routing. Where this machine is at its limit, or the lines are bad, that comes first (see conditions). The variable is a JSON object, as in the file.",
    default: {},
    defaultText: "prefer fastest",
    env: ["AICORTEX_AUTO"],
    text: jsonObject,
    join: true
  }),
  /**
   * How many tokens of prompts and answers remote servers may have on a day (UTC). From there on only local servers are
   * asked, until midnight; what they cannot answer is RemoteTokensExhausted. Default: as many as wanted.
   */
  remoteTokensPerDay: setting(wholeFrom(1), {
    doc: "How many tokens of prompts and answers remote servers may have on a day (UTC). From there on only local servers are asked, until midnight; what they cannot answer is RemoteTokensExhausted.",
    defaultText: "as many as wanted",
    env: ["AICORTEX_REMOTE_TOKENS_PER_DAY"],
    flag: { name: "remote-tokens-per-day", value: "TOKENS" }
  }),
  /**
   * What models cost: { currency, models }, with the price of a million tokens of each model (names in which * is any
   * text): prompt, completion and, of tokens that a server had in its cache, cached. Usage then tells costs, by the
   * prices that hold when it is asked for. The variable is a JSON object, as in the file. Default: unknown.
   */
  prices: setting(PriceOptions, {
    doc: "What models cost: { currency, models }, with the price of a million tokens of each model (names in which * is any text): prompt, completion and, of tokens that a server had in its cache, cached. Usage then tells costs, by the prices that hold when it is asked for. The variable is a JSON object, as in the file.",
    defaultText: "unknown",
    env: ["AICORTEX_PRICES"],
    text: jsonObject
  }),
  /**
   * How much remote servers may cost on a day (UTC), in the currency of prices. From there on only local servers are
   * asked, until midnight; what they cannot answer is RemoteBudgetExhausted. Remote servers are not asked for a model
   * without a price. Default: as much as wanted.
   */
  remoteCostPerDay: setting(positive, {
    doc: "How much remote servers may cost on a day (UTC), in the currency of prices. From there on only local servers are asked, until midnight; what they cannot answer is RemoteBudgetExhausted. Remote servers are not asked for a model without a price.",
    defaultText: "as much as wanted",
    env: ["AICORTEX_REMOTE_COST_PER_DAY"],
    flag: { name: "remote-cost-per-day", value: "AMOUNT" }
  }),
  /** The same for a month (UTC). Default: as much as wanted. */
  remoteCostPerMonth: setting(positive, {
    doc: "The same for a month (UTC).",
    defaultText: "as much as wanted",
    env: ["AICORTEX_REMOTE_COST_PER_MONTH"],
    flag: { name: "remote-cost-per-month", value: "AMOUNT" }
  }),
  /**
   * How many calls may wait for a place where all servers of a model are full; one more ends with Overloaded. Default:
   * 512, or 4 per server where that is more.
   */
  maxQueued: setting(wholeFrom(0), {
    doc: "How many calls may wait for a place where all servers of a model are full; one more ends with Overloaded.",
    defaultText: "512, or 4 per server where that is more"
  }),
  /**
   * How long a JSON Schema may be, of an answer or of the arguments of a tool. A longer one is InvalidRequest. Default:
   * 262144.
   */
  maxSchemaBytes: setting(wholeFrom(1, "bytes"), {
    doc: "How long a JSON Schema may be, of an answer or of the arguments of a tool. A longer one is InvalidRequest.",
    default: defaultMaxBytes,
    env: ["AICORTEX_MAX_SCHEMA_BYTES"]
  }),
  /**
   * How long an answer of a server may be: text, reasoning and the arguments of tools together, or the vectors of texts
   * as they come. A longer one is cut off at once, and the server counts as failed (malformed); where a stream was
   * given out so far, it is StreamInterrupted. Default: 67108864.
   */
  maxAnswerBytes: setting(wholeFrom(1, "bytes"), {
    doc: "How long an answer of a server may be: text, reasoning and the arguments of tools together, or the vectors of texts as they come. A longer one is cut off at once, and the server counts as failed (malformed); where a stream was given out so far, it is StreamInterrupted.",
    default: 64 * 1024 * 1024,
    env: ["AICORTEX_MAX_ANSWER_BYTES"]
  }),
  /**
   * Whether a second server is asked where the first one's first token is late, for calls that do not say; after sets
   * how late. Default: false.
   */
  hedge: setting(
    Schema.Union(
      Schema.Boolean,
      Schema.Struct({
        /** How long the first server has, in milliseconds. */
        after: milliseconds
      })
    ),
    {
      doc: "Whether a second server is asked where the first one's first token is late, for calls that do not say; after sets how late.",
      default: false
    }
  ),
  /**
   * Options of calls that hold where a call does not say, such as timeout, maxRetries and temperature. The variable is
   * a JSON object, as in the file. Default: none.
   */
  defaults: setting(CallDefaults, {
    doc: "Options of calls that hold where a call does not say, such as timeout, maxRetries and temperature. The variable is a JSON object, as in the file.",
    default: {},
    defaultText: "none",
    env: ["AICORTEX_DEFAULTS"],
    text: jsonObject,
    join: true,
    excluded: excludedOptions
  }),
  /**
   * Whether answers are kept where a call does not say, and how: how long (ttl), how many (maxEntries), how many bytes
   * (maxBytes), and whether one that was kept for one owner answers another (shared). Default: false; where it is true
   * an hour, 1,000 answers and 64 MiB, not shared.
   */
  cache: setting(Schema.Union(Schema.Boolean, CacheOptions), {
    doc: "Whether answers are kept where a call does not say, and how: how long (ttl), how many (maxEntries), how many bytes (maxBytes), and whether one that was kept for one owner answers another (shared).",
    default: false,
    defaultText: "false; where it is true an hour, 1,000 answers and 64 MiB, not shared"
  }),
  /**
   * Through which proxy servers are reached: an address, { http, https, no, loopback }, or false (in the variable off).
   * This machine itself is reached without, unless loopback is true. Default: HTTP_PROXY, HTTPS_PROXY and NO_PROXY.
   */
  proxy: setting(Proxy, {
    doc: "Through which proxy servers are reached: an address, { http, https, no, loopback }, or false (in the variable off). This machine itself is reached without, unless loopback is true.",
    defaultText: "HTTP_PROXY, HTTPS_PROXY and NO_PROXY",
    env: ["AICORTEX_PROXY"],
    text: orOff,
    secret: true
  }),
  /**
   * Files of certificates (PEM), or their text, of authorities that are trusted in addition to those that Node trusts.
   * Default: none (Node itself reads NODE_EXTRA_CA_CERTS).
   */
  ca: setting(Schema.Union(Schema.NonEmptyString, Schema.Array(Schema.NonEmptyString)), {
    doc: "Files of certificates (PEM), or their text, of authorities that are trusted in addition to those that Node trusts.",
    defaultText: "none (Node itself reads NODE_EXTRA_CA_CERTS)"
  }),
  /** A folder for the answers that are kept. Default: in memory; in the terminal ~/.cache/aicortex/responses. */
  cacheFolder: setting(text("a folder"), {
    doc: "A folder for the answers that are kept.",
    defaultText: "in memory; in the terminal ~/.cache/aicortex/responses",
    file: false
  }),
  /** A GGUF file to run as aicortex-demo. Default: the one that ships. */
  demoModel: setting(text("a file"), {
    doc: `A GGUF file to run as ${demoModel}.`,
    defaultText: "the one that ships",
    file: false
  }),
  /**
   * The configuration file. One that is named must be there; false reads neither file nor environment. Default:
   * aicortex/config.json under XDG_CONFIG_HOME or ~/.config.
   */
  configFile: setting(pathOrOff("a file"), {
    doc: "The configuration file. One that is named must be there; false reads neither file nor environment.",
    defaultText: "aicortex/config.json under XDG_CONFIG_HOME or ~/.config",
    env: ["AICORTEX_CONFIG"],
    flag: { name: "config", value: "FILE" },
    file: false
  })
} as const

/** The program's own defaults: the command line has other defaults than the library. */
export const ownDefaults = {
  /** The stateFile if no setting names one. */
  defaultStateFile: setting(text("a file"), { doc: "The stateFile if no setting names one.", file: false }),
  /** The store if no setting names one: a file. */
  defaultStore: setting(text("a file"), { doc: "The store if no setting names one: a file.", file: false }),
  /** The folder of conversations that are taken into the store, if no setting names one. */
  defaultSessionFolder: setting(text("a folder"), {
    doc: "The folder of conversations that are taken into the store, if no setting names one.",
    file: false
  })
} as const

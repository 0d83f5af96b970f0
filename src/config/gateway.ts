/** The settings of the gateway: by its options, the environment, and `gateway` in the configuration file. */
import * as Either from "effect/Either"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { Routing } from "../ChatRequest.js"
import { milliseconds, pause, secondOrMore, wholeFrom } from "../internal/units.js"
import { AliasNames } from "./aliases.js"
import { Secret, text } from "./server.js"
import { type OptionsOf, setting } from "./setting.js"

/** How requests are logged: not at all, as text (`name=value`), or as a JSON object in each line. */
export const LogFormat = Schema.Literal("off", "text", "json")
export type LogFormat = typeof LogFormat.Type

/**
 * How much the store of responses holds.
 *
 * Beyond the first two limits, the owner that holds the most loses its least recently used response: so an owner within
 * an equal share loses none to another.
 */
export interface ResponseBounds {
  /** So many responses at most. */
  readonly maxEntries: number
  /** So much room for all of them. */
  readonly maxBytes: number
  /** One that was not used for so long is forgotten, in milliseconds. */
  readonly ttl: number
}

/**
 * Who may use the gateway. Limits count per minute and at once; each is unlimited where it is left out. `tokens` are
 * those of prompts and answers together. `admin` may also pull, copy, delete and unload models, and is not bound by
 * `maxContext` and `maxKeepAlive`; default `false`. Requests of a key whose `priority` is `batch` let those of
 * others go first where they have to wait for a place; default `interactive`. Requests of a key that is `private` are
 * answered by local servers only; default `false`.
 */
export interface ApiKey {
  /** What it is called in logs, metrics and usage. */
  readonly name: string
  /** What a client sends as `Authorization: Bearer` or `x-api-key`. */
  readonly key: string | Redacted.Redacted
  /** How many requests per minute; default: any number. */
  readonly requestsPerMinute?: number | undefined
  /** How many tokens per minute, of prompts and answers together; default: any number. */
  readonly tokensPerMinute?: number | undefined
  /** How many requests at the same time; default: any number. */
  readonly concurrency?: number | undefined
  /**
   * Whether it may also pull, copy, delete and unload models, without `maxContext` and `maxKeepAlive`; default `false`.
   */
  readonly admin?: boolean | undefined
  /** Whether its requests let those of others go first (`batch`); default `interactive`. */
  readonly priority?: "interactive" | "batch" | undefined
  /** Whether only local servers answer it; default `false`. */
  readonly private?: boolean | undefined
}

const whole = wholeFrom(1)

/** A key in the file. */
const GatewayFileKey = Schema.Struct({
  name: Schema.NonEmptyString,
  key: Secret,
  requestsPerMinute: Schema.optional(whole),
  tokensPerMinute: Schema.optional(whole),
  concurrency: Schema.optional(whole),
  admin: Schema.optional(Schema.Boolean),
  priority: Schema.optional(Schema.Literal("interactive", "batch")),
  private: Schema.optional(Schema.Boolean)
})
type GatewayFileKey = typeof GatewayFileKey.Type

const Keys = Schema.Array(Schema.Unknown).annotations({
  message: () => "must be a list of keys"
}) as unknown as Schema.Schema<ReadonlyArray<ApiKey>>

const ResponseOptions = Schema.Struct({
  /** How many responses are kept. */
  maxEntries: Schema.optional(whole),
  /** How much room they may have, in bytes. */
  maxBytes: Schema.optional(wholeFrom(1, "bytes")),
  /** How long one is kept that is not used, in milliseconds. */
  ttl: Schema.optional(milliseconds)
})

/**
 * The settings of the gateway. A new one is declared here, and used where it has an effect.
 *
 * The comments above them are written by `npm run docs:settings`.
 */
export const gateway = {
  /** Where to listen. Default: 127.0.0.1. */
  host: setting(text("an address, such as 127.0.0.1"), {
    doc: "Where to listen.",
    default: "127.0.0.1",
    env: ["HOST"],
    flag: { name: "host", value: "ADDRESS" }
  }),
  /** 0 takes a free one. Default: 8000. */
  port: setting(
    Schema.Number.pipe(
      Schema.filter((n) => Number.isInteger(n) && n >= 0 && n <= 65_535, {
        message: () => "must be a whole number from 0 to 65535",
        jsonSchema: { type: "integer", minimum: 0, maximum: 65_535 }
      })
    ),
    { doc: "0 takes a free one.", default: 8000, env: ["PORT"], flag: { name: "port", value: "NUMBER", alias: "p" } }
  ),
  /** The model of requests that name none. Default: the fleet's model, if one is set, else whatever fits. */
  defaultModel: setting(text("the name of a model"), {
    doc: "The model of requests that name none.",
    defaultText: "the fleet's model, if one is set, else whatever fits",
    env: ["DEFAULT_MODEL"],
    flag: { name: "default-model", value: "NAME" }
  }),
  /**
   * Who may use the gateway: { name, key, requestsPerMinute, tokensPerMinute, concurrency, admin, priority, private }
   * each; key is a text or, in the file, { "env": "NAME" }. Default: everybody, from this machine.
   */
  keys: setting(Keys, {
    doc: 'Who may use the gateway: { name, key, requestsPerMinute, tokensPerMinute, concurrency, admin, priority, private } each; key is a text or, in the file, { "env": "NAME" }.',
    defaultText: "everybody, from this machine",
    env: ["AICORTEX_API_KEY", "AICORTEX_ADMIN_KEY"],
    file: Schema.Array(GatewayFileKey)
  }),
  /**
   * Origins of web pages that may use the gateway: of any scheme, such as app://obsidian.md; with * for a part, such as
   * https://*.example.com; * for all. Default: those of this machine.
   */
  cors: setting(Schema.Array(Schema.String), {
    doc: "Origins of web pages that may use the gateway: of any scheme, such as app://obsidian.md; with * for a part, such as https://*.example.com; * for all.",
    defaultText: "those of this machine",
    flag: { name: "cors", value: "ORIGIN" }
  }),
  /**
   * Whether aicortex serve serves the models of this machine too, where there are any; read at its start. Default:
   * true.
   */
  localModels: setting(Schema.Boolean, {
    doc: "Whether aicortex serve serves the models of this machine too, where there are any; read at its start.",
    default: true,
    env: ["AICORTEX_LOCAL_MODELS"]
  }),
  /**
   * Names by which a gateway without keys may be called, in addition to addresses, names without a dot and this
   * machine's own. Default: none.
   */
  hosts: setting(Schema.Array(Schema.String), {
    doc: "Names by which a gateway without keys may be called, in addition to addresses, names without a dot and this machine's own.",
    defaultText: "none",
    flag: { name: "allow-host", value: "NAME" }
  }),
  /** The longest request body. Default: 33554432. */
  maxBody: setting(wholeFrom(1, "bytes"), {
    doc: "The longest request body.",
    default: 32 * 1024 * 1024,
    flag: { name: "max-body", value: "BYTES" }
  }),
  /**
   * How many connections clients may have open in each process; beyond it the address that has most loses its newest.
   * Default: 4096.
   */
  maxConnections: setting(whole, {
    doc: "How many connections clients may have open in each process; beyond it the address that has most loses its newest.",
    default: 4_096
  }),
  /** The longest context (num_ctx) that a key without admin may ask for. Default: 32768. */
  maxContext: setting(wholeFrom(1, "tokens"), {
    doc: "The longest context (num_ctx) that a key without admin may ask for.",
    default: 32_768
  }),
  /** For how long such a key may have a model kept in memory (keep_alive). Default: 3600 s. In milliseconds. */
  maxKeepAlive: setting(milliseconds, {
    doc: "For how long such a key may have a model kept in memory (keep_alive).",
    default: 3_600_000
  }),
  /** Names for models in addition to those of the fleet. In the file they hold for every face. Default: none. */
  aliases: setting(AliasNames, {
    doc: "Names for models in addition to those of the fleet. In the file they hold for every face.",
    defaultText: "none"
  }),
  /** Whether images may be named by addresses that lead into a private network: servers fetch them. Default: false. */
  privateImages: setting(Schema.Boolean, {
    doc: "Whether images may be named by addresses that lead into a private network: servers fetch them.",
    default: false
  }),
  /**
   * In which order servers are tried where a request does not say. Default: the fleet's defaults.routing, else random.
   */
  routing: setting(Routing, {
    doc: "In which order servers are tried where a request does not say.",
    defaultText: "the fleet's defaults.routing, else random"
  }),
  /**
   * How many responses of /v1/responses are kept in memory (maxEntries), how many bytes of them (maxBytes), and for how
   * long after their last use (ttl); false keeps none. Default: 10,000, 64 MiB and a day.
   */
  responses: setting(Schema.Union(Schema.Boolean, ResponseOptions), {
    doc: "How many responses of /v1/responses are kept in memory (maxEntries), how many bytes of them (maxBytes), and for how long after their last use (ttl); false keeps none.",
    defaultText: "10,000, 64 MiB and a day"
  }),
  /** How long usage is kept in the store; false: for ever. Default: 400 days. */
  usageRetention: setting(
    Schema.Union(secondOrMore, Schema.Literal(false)).annotations({
      message: () => "must be a time of at least one second, or false"
    }),
    {
      doc: "How long usage is kept in the store; false: for ever.",
      default: 400 * 86_400_000,
      defaultText: "400 days",
      env: ["AICORTEX_USAGE_RETENTION"],
      text: (text) => Either.right(/^(off|never|no|false)$/i.test(text) ? false : Number(text))
    }
  ),
  /** Whether responses and errors contain the addresses of servers. Default: false. */
  exposeServers: setting(Schema.Boolean, {
    doc: "Whether responses and errors contain the addresses of servers.",
    default: false,
    flag: { name: "expose-servers" }
  }),
  /**
   * Whether a request with a parameter that is not known is refused, instead of answered without it. Default: false.
   */
  strict: setting(Schema.Boolean, {
    doc: "Whether a request with a parameter that is not known is refused, instead of answered without it.",
    default: false,
    flag: { name: "strict" }
  }),
  /**
   * Whether a line is written to standard error for each request, never with a prompt or a key, and how. Default: off.
   */
  log: setting(LogFormat, {
    doc: "Whether a line is written to standard error for each request, never with a prompt or a key, and how.",
    default: "off",
    flag: { name: "log", value: "off|text|json" }
  }),
  /**
   * Whether requests to models are logged in the store, with or without their bodies; never with a key. Default: off.
   */
  requestLog: setting(Schema.Literal("off", "metadata", "bodies"), {
    doc: "Whether requests to models are logged in the store, with or without their bodies; never with a key.",
    default: "off",
    env: ["AICORTEX_REQUEST_LOG"],
    flag: { name: "request-log", value: "off|metadata|bodies" }
  }),
  /** How long requests stay in that log. Default: 30 days. In milliseconds. */
  requestLogAge: setting(secondOrMore, {
    doc: "How long requests stay in that log.",
    default: 30 * 86_400_000,
    defaultText: "30 days"
  }),
  /** How long that log may become: the oldest requests go. Default: 1073741824. */
  requestLogBytes: setting(wholeFrom(1, "bytes"), {
    doc: "How long that log may become: the oldest requests go.",
    default: 1024 ** 3
  }),
  /**
   * Fields of bodies that are not logged, such as messages.*.content: names from the outside in, * for any. Default:
   * none.
   */
  requestLogRedact: setting(Schema.Array(Schema.NonEmptyString), {
    doc: "Fields of bodies that are not logged, such as messages.*.content: names from the outside in, * for any.",
    default: [],
    defaultText: "none"
  }),
  /** After how long a silence a stream shows that it lives; 0 for never. Default: 10 s. In milliseconds. */
  heartbeat: setting(pause, {
    doc: "After how long a silence a stream shows that it lives; 0 for never.",
    default: 10_000
  }),
  /** How long requests under way may still take when the gateway stops. Default: 30 s. In milliseconds. */
  drain: setting(pause, {
    doc: "How long requests under way may still take when the gateway stops.",
    default: 30_000,
    flag: { name: "drain", value: "SECONDS" }
  }),
  /**
   * The longest silence of a server in any phase of a request. A client that sends nothing of its body, or reads
   * nothing of its answer, for so long (30 s unless set) is cut off. Default: the fleet's defaults.timeout. In
   * milliseconds.
   */
  timeout: setting(milliseconds, {
    doc: "The longest silence of a server in any phase of a request. A client that sends nothing of its body, or reads nothing of its answer, for so long (30 s unless set) is cut off.",
    defaultText: "the fleet's defaults.timeout"
  }),
  /**
   * From the request to the first token of the answer. Default: the fleet's defaults.firstTokenTimeout. In
   * milliseconds.
   */
  firstTokenTimeout: setting(milliseconds, {
    doc: "From the request to the first token of the answer.",
    defaultText: "the fleet's defaults.firstTokenTimeout"
  }),
  /**
   * The same where the server must load the model first. Default: the fleet's defaults.loadTimeout. In milliseconds.
   */
  loadTimeout: setting(milliseconds, {
    doc: "The same where the server must load the model first.",
    defaultText: "the fleet's defaults.loadTimeout"
  }),
  /** For a whole request with all its attempts. Default: the fleet's defaults.deadline. In milliseconds. */
  deadline: setting(milliseconds, {
    doc: "For a whole request with all its attempts.",
    defaultText: "the fleet's defaults.deadline"
  }),
  /** Total number of attempts. Default: two rounds over the servers, and at least six. */
  maxRetries: setting(whole, {
    doc: "Total number of attempts.",
    defaultText: "two rounds over the servers, and at least six",
    flag: { name: "max-retries", value: "NUMBER" }
  }),
  /** Whether to listen beyond this machine although there is no API key. Default: false. */
  insecure: setting(Schema.Boolean, {
    doc: "Whether to listen beyond this machine although there is no API key.",
    default: false,
    flag: { name: "insecure" },
    file: false
  })
} as const

/**
 * What a program may set. Whatever is left out comes from the configuration file, and the defaults. Times are in
 * milliseconds.
 */
export interface GatewayOptions extends OptionsOf<typeof gateway> {}

/** The section `gateway` of the configuration file, decoded: its keys still name the variables that hold them. */
export interface GatewayFile extends Omit<GatewayOptions, "keys" | "insecure"> {
  readonly keys?: ReadonlyArray<GatewayFileKey> | undefined
}

/**
 * Asks one server which models it has, and finds out what it speaks.
 *
 * @since 0.1.0
 */
import type * as HttpClient from "@effect/platform/HttpClient"
import type * as HttpClientError from "@effect/platform/HttpClientError"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Misaddressed from "../backend/misaddressed.js"
import * as Model from "../Model.js"
import { openAIBase, type Protocol, type Server } from "../Server.js"
import { toInfo } from "./catalogue.js"

// =============================================================================
// models
// =============================================================================

/**
 * What a server answered: what it speaks, and its models and their digests by canonical name.
 *
 * @since 0.1.0
 * @category models
 */
export interface Listing {
  readonly protocol: Protocol
  readonly models: ReadonlyMap<string, Model.ModelInfo>
  readonly digests: ReadonlyMap<string, string>
}

/**
 * Why a server's list could not be read; `reason` completes "the server …".
 *
 * @since 0.1.0
 * @category errors
 */
export class ListingFailed extends Data.TaggedError("ListingFailed")<{
  readonly reason: string
  /** Whether the server answered at all: then another path may be the right one. */
  readonly answered: boolean
  /** Whether it may only have been too slow. */
  readonly silent?: boolean
}> {}

/**
 * How long a server may take to say what it has, in milliseconds.
 *
 * @since 0.1.0
 * @category constants
 */
export const timeout = 5_000

/** How long it may take to say what it holds in memory, in milliseconds. */
const loadedTimeout = 1_000

// =============================================================================
// bodies
// =============================================================================

const isRecord = (value: unknown): value is { readonly [key: string]: unknown } =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const quiet = () => {}

/** What a server allows, under the names of vLLM, OpenRouter, LM Studio and llama.cpp. */
const contextOf = (item: { readonly [key: string]: unknown }): unknown =>
  item["max_model_len"] ??
  item["context_length"] ??
  item["max_context_length"] ??
  (isRecord(item["meta"]) ? (item["meta"]["n_ctx"] ?? item["meta"]["n_ctx_train"]) : undefined)

/** The models of a list, if it is one: some of its entries must name a model, unless it is empty. */
const listing = (protocol: Protocol, list: unknown, nameKey: string): Listing | undefined => {
  if (!Array.isArray(list)) return undefined
  const models = new Map<string, Model.ModelInfo>()
  const digests = new Map<string, string>()
  for (const item of list) {
    if (!isRecord(item)) continue
    const info = toInfo(
      nameKey === "id" ? { ...item, model_name: item["id"], context_length: contextOf(item) } : item,
      undefined,
      quiet
    )
    if (info === undefined) continue
    const key = Model.canonical(info.model_name)
    models.set(key, info)
    const digest = item["digest"]
    if (typeof digest === "string" && digest !== "") digests.set(key, digest)
  }
  return list.length > 0 && models.size === 0 ? undefined : { protocol, models, digests }
}

/**
 * What an answer to `/api/tags` says. llama.cpp's server answers there too, and speaks OpenAI's protocol: its answer
 * is both lists in one.
 */
const readTags = (body: unknown): Listing | undefined => {
  if (!isRecord(body)) return undefined
  if (body["object"] === "list" && Array.isArray(body["data"])) return readOpenAi(body)
  return "models" in body ? listing("ollama", body["models"] ?? [], "name") : undefined
}

const readOpenAi = (body: unknown): Listing | undefined => {
  if (Array.isArray(body)) return listing("openai", body, "id")
  if (!isRecord(body)) return undefined
  return listing("openai", body["data"] ?? (body["object"] === "list" ? [] : undefined), "id")
}

// =============================================================================
// requests
// =============================================================================

const trust = "NODE_EXTRA_CA_CERTS may name a file of more authorities"

const codes: { readonly [code: string]: string } = {
  ECONNREFUSED: "refused the connection",
  ENOTFOUND: "has an address that does not resolve",
  EAI_AGAIN: "has an address that does not resolve",
  ECONNRESET: "reset the connection",
  UND_ERR_SOCKET: "closed the connection",
  EHOSTUNREACH: "cannot be reached",
  ENETUNREACH: "cannot be reached",
  ETIMEDOUT: "did not accept the connection in time",
  UND_ERR_CONNECT_TIMEOUT: "did not accept the connection in time",
  DEPTH_ZERO_SELF_SIGNED_CERT: `has a certificate that it signed itself: ${trust}`,
  SELF_SIGNED_CERT_IN_CHAIN: `has a certificate of an unknown authority: ${trust}`,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: `has a certificate of an unknown authority: ${trust}`,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: `has a certificate of an unknown authority: ${trust}`,
  CERT_HAS_EXPIRED: "has a certificate that has expired",
  ERR_TLS_CERT_ALTNAME_INVALID: "has a certificate for another name",
  ERR_SSL_WRONG_VERSION_NUMBER: "speaks no TLS: its address may begin with http://",
  ERR_SSL_PACKET_LENGTH_TOO_LONG: "speaks no TLS: its address may begin with http://"
}

const transportReason = (error: HttpClientError.HttpClientError): string => {
  let cause: unknown = error
  for (let depth = 0; depth < 5 && isRecord(cause); depth++) {
    const code = cause["code"]
    if (typeof code === "string") return codes[code] ?? `could not be asked (${code})`
    // Its words complete "the server …".
    if (cause["reason"] === "malformed") return String(cause["message"])
    cause = cause["cause"]
  }
  return "could not be asked (the connection failed)"
}

const statusReason = (status: number): string =>
  status === 401 || status === 403
    ? `answered HTTP ${status}: its key is missing or wrong`
    : `answered HTTP ${status} when asked for its models`

/** Some servers answer chats, and have no list of what they serve. */
const unlisted = "; if it serves models without listing them, set its `protocol` in the configuration"

const get = Effect.fnUntraced(function* <A>(
  client: HttpClient.HttpClient,
  server: Server,
  path: string,
  read: (body: unknown) => A | undefined
) {
  const request = HttpClientRequest.get(server.url + path, {
    headers: {
      accept: "application/json",
      ...(server.authorization === undefined ? {} : { authorization: Redacted.value(server.authorization) })
    }
  })
  const [{ headers, status }, text] = yield* client.execute(request).pipe(
    Effect.flatMap((response) => Effect.map(response.text, (text) => [response, text] as const)),
    Effect.mapError(
      (error) => new ListingFailed({ reason: transportReason(error), answered: error._tag === "ResponseError" })
    )
  )
  if (status >= 300 && status < 400 && status !== 304) {
    const reason = Misaddressed.redirect(server.url, request.url, headers["location"])
    return yield* new ListingFailed({ reason, answered: true })
  }
  if (status !== 200) return yield* new ListingFailed({ reason: statusReason(status), answered: true })
  const found = Either.getOrUndefined(Either.try(() => read(JSON.parse(text))))
  if (found === undefined) {
    return yield* new ListingFailed({
      reason: `answered ${path} with something else than a list of models`,
      answered: true
    })
  }
  return found
})

/**
 * A model in a server's memory: until when (milliseconds since the epoch), and how much context it was loaded with, in
 * tokens.
 *
 * @since 0.1.0
 * @category models
 */
export interface Loaded {
  readonly until: number
  readonly contextLength: number | undefined
}

const readLoaded = (body: unknown): ReadonlyMap<string, Loaded> | undefined => {
  const list = isRecord(body) ? body["models"] : undefined
  if (!Array.isArray(list)) return undefined
  const loaded = new Map<string, Loaded>()
  for (const item of list) {
    if (!isRecord(item) || typeof item["name"] !== "string") continue
    const until = Date.parse(String(item["expires_at"]))
    const length = item["context_length"]
    loaded.set(item["name"], {
      until: Number.isNaN(until) ? Number.POSITIVE_INFINITY : until,
      contextLength: typeof length === "number" && length > 0 ? length : undefined
    })
  }
  return loaded
}

/**
 * Asks an Ollama server which models it holds in memory. `undefined`
 * where it does not say, as older servers: it only makes routing better.
 *
 * @since 0.1.0
 * @category constructors
 */
export const loaded = (
  client: HttpClient.HttpClient,
  server: Server
): Effect.Effect<ReadonlyMap<string, Loaded> | undefined> =>
  Effect.timeoutOption(get(client, server, "/api/ps", readLoaded), loadedTimeout).pipe(
    Effect.map(Option.getOrUndefined),
    Effect.orElseSucceed(() => undefined)
  )

/**
 * Asks a server for its models: in its protocol, or first as Ollama and then as OpenAI where that is not known.
 *
 * @since 0.1.0
 * @category constructors
 */
export const list = (client: HttpClient.HttpClient, server: Server): Effect.Effect<Listing, ListingFailed> => {
  const ollama = get(client, server, "/api/tags", readTags)
  const openai = get(client, server, `${openAIBase(server.url).slice(server.url.length)}/models`, readOpenAi)
  const asked =
    server.protocol === "ollama"
      ? ollama
      : server.protocol === "openai"
        ? openai
        : Effect.catchAll(ollama, (first) =>
            first.answered
              ? Effect.mapError(
                  openai,
                  (second) =>
                    new ListingFailed({
                      reason: `${
                        first.reason === second.reason ? first.reason : `${first.reason}, and then ${second.reason}`
                      }${second.answered ? unlisted : ""}`,
                      answered: second.answered
                    })
                )
              : Effect.fail(first)
          )
  return Effect.timeoutFail(asked, {
    duration: timeout,
    onTimeout: () =>
      new ListingFailed({
        reason: `did not say within ${timeout / 1000} s which models it has`,
        answered: false,
        silent: true
      })
  })
}

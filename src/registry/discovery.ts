/** Asks one server for its models, and detects its protocol. */
import type * as HttpClient from "@effect/platform/HttpClient"
import type * as HttpClientError from "@effect/platform/HttpClientError"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as HttpIncomingMessage from "@effect/platform/HttpIncomingMessage"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import { errorText } from "../backend/http.js"
import { isWrongPath, redirect } from "../backend/wrongAddress.js"
import * as Model from "../Model.js"
import { apiBases, apiOf, headersOf, openAIBase, type Protocol, type Server } from "../Server.js"
import * as Anthropic from "./anthropicModels.js"
import { toInfo } from "./catalogue.js"

// =============================================================================
// Models
// =============================================================================

/** A server's protocol, and its models and their digests by canonical name. */
export interface Listing {
  readonly protocol: Protocol
  readonly models: ReadonlyMap<string, Model.ModelInfo>
  readonly digests: ReadonlyMap<string, string>
  /** The address of the API, if not the default one. */
  readonly api?: string | undefined
}

interface ListingProblem {
  readonly reason: string
  /** Whether the server answered at all: then another path may be right. */
  readonly answered: boolean
  /** Whether it may only have been too slow. */
  readonly silent?: boolean
  /** Whether its list may be at another path. */
  readonly misplaced?: boolean
  /** The address at which chats are accepted all the same. */
  readonly api?: string | undefined
  /** Whether the error has the form of Anthropic's API. */
  readonly isAnthropic?: boolean
}

/**
 * Why a server's list could not be read; `reason` completes "the server …". Not an `Error`: many servers may be off, and
 * nobody reads their stack traces.
 */
export class ListingFailed implements ListingProblem {
  readonly _tag = "ListingFailed"
  readonly reason: string
  readonly answered: boolean
  readonly silent: boolean
  readonly misplaced: boolean
  readonly api: string | undefined
  readonly isAnthropic: boolean

  constructor({ answered, api, isAnthropic = false, misplaced = false, reason, silent = false }: ListingProblem) {
    this.reason = reason
    this.answered = answered
    this.silent = silent
    this.misplaced = misplaced
    this.api = api
    this.isAnthropic = isAnthropic
  }
}

/** Timeout for a list of models in `list`, in milliseconds. */
const timeout = 5_000

/** The longest list of models that is read, in bytes: a fleet has many servers, and any of them may send anything. */
const maxListBytes = 4 * 1024 * 1024

/** Timeout for the list of loaded models, in milliseconds. */
export const loadedTimeout = 1_000

// =============================================================================
// Bodies
// =============================================================================

const isRecord = (value: unknown): value is { readonly [key: string]: unknown } =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const quiet = () => {}

/** Context lengths, under the names of vLLM, OpenRouter, LM Studio and llama.cpp. */
const contextOf = (item: { readonly [key: string]: unknown }): unknown =>
  item["max_model_len"] ??
  item["context_length"] ??
  item["max_context_length"] ??
  (isRecord(item["meta"]) ? (item["meta"]["n_ctx"] ?? item["meta"]["n_ctx_train"]) : undefined)

/** The models of a list, if it is one: some entries must name a model, unless it is empty. */
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
 * Reads an answer to `/api/tags`. llama.cpp's server answers there too, although it speaks OpenAI's protocol: its
 * answer contains both lists.
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
// Requests
// =============================================================================

const trust = "NODE_EXTRA_CA_CERTS may name a file of more authorities"

const codes: { readonly [code: string]: string } = {
  ECONNREFUSED: "refused the connection",
  ENOTFOUND: "has an address that does not resolve",
  EAI_AGAIN: "has an address that does not resolve",
  ECONNRESET: "reset the connection",
  UND_ERR_SOCKET: "closed the connection",
  UND_ERR_RES_EXCEEDED_MAX_SIZE: `sent more than ${maxListBytes / 1024 / 1024} MiB when asked for its models`,
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
    // Completes "the server …".
    if (cause["reason"] === "malformed") return String(cause["message"])
    if (cause["reason"] === "blocked") return `could not be asked: ${String(cause["message"])}`
    cause = cause["cause"]
  }
  return "could not be asked (the connection failed)"
}

const statusReason = (status: number): string =>
  status === 401 || status === 403
    ? `answered HTTP ${status}: its key is missing or wrong`
    : `answered HTTP ${status} when asked for its models`

/** Some servers answer chats without listing their models. */
const unlisted = "; if it serves models without listing them, set its `protocol` in the configuration"

const get = Effect.fnUntraced(function* <A>(
  client: HttpClient.HttpClient,
  server: Server,
  url: string,
  read: (body: unknown) => A | undefined,
  protocol?: Protocol
) {
  const request = HttpClientRequest.get(url, {
    headers: { accept: "application/json", ...headersOf(server, protocol) }
  })
  const [{ headers, status }, text] = yield* client.execute(request).pipe(
    Effect.flatMap((response) => Effect.map(response.text, (text) => [response, text] as const)),
    HttpIncomingMessage.withMaxBodySize(Option.some(maxListBytes)),
    Effect.mapError(
      (error) => new ListingFailed({ reason: transportReason(error), answered: error._tag === "ResponseError" })
    )
  )
  if (status >= 300 && status < 400 && status !== 304) {
    const reason = redirect(server.url, request.url, headers["location"])
    return yield* Effect.fail(new ListingFailed({ reason, answered: true }))
  }
  if (status !== 200) {
    const misplaced = status === 404 || status === 405
    const isAnthropic = Anthropic.isError(text)
    return yield* Effect.fail(
      new ListingFailed({ reason: statusReason(status), answered: true, misplaced, isAnthropic })
    )
  }
  const found = Either.getOrUndefined(Either.try(() => read(JSON.parse(text))))
  if (found === undefined) {
    const reason = `answered ${new URL(url).pathname} with something else than a list of models`
    return yield* Effect.fail(new ListingFailed({ reason, answered: true, misplaced: true }))
  }
  return found
})

/** A loaded model: until when (milliseconds since the epoch), and with how much context, in tokens. */
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
 * Asks an Ollama server for its loaded models, without a timeout. `undefined` if unsupported, as in older versions: it
 * only improves routing.
 */
export const attemptLoaded = (
  client: HttpClient.HttpClient,
  server: Server
): Effect.Effect<ReadonlyMap<string, Loaded> | undefined> =>
  Effect.orElseSucceed(get(client, server, `${apiOf(server, "ollama")}/api/ps`, readLoaded), () => undefined)

/** The same within `loadedTimeout`. */
export const loaded = (
  client: HttpClient.HttpClient,
  server: Server
): Effect.Effect<ReadonlyMap<string, Loaded> | undefined> =>
  Effect.map(Effect.timeoutOption(attemptLoaded(client, server), loadedTimeout), Option.getOrUndefined)

// =============================================================================
// Locating the API
// =============================================================================

type Attempted = Either.Either<Listing, ListingFailed>

/** The address found before is tried first. */
const basesOf = (server: Server, protocol: Protocol): ReadonlyArray<string> => {
  const bases = apiBases(server, protocol)
  const { api } = server
  return api === undefined || !bases.includes(api) ? bases : [api, ...bases.filter((base) => base !== api)]
}

/**
 * Whether chats are accepted there. The probe is an empty object, without model and message: a server that has the path
 * rejects it. `undefined` if the answer is inconclusive.
 */
const takesChats = (
  client: HttpClient.HttpClient,
  server: Server,
  base: string
): Effect.Effect<boolean | undefined> => {
  const headers = { accept: "application/json", ...headersOf(server) }
  const request = HttpClientRequest.post(`${base}/chat/completions`, { headers }).pipe(
    HttpClientRequest.bodyText("{}", "application/json")
  )
  return client.execute(request).pipe(
    Effect.flatMap((response) => Effect.map(response.text, (text) => ({ status: response.status, text }))),
    Effect.map(({ status, text }) => {
      if (status >= 500) return status === 500 ? true : undefined
      if (status >= 400) return status !== 405 && !(status === 404 && isWrongPath(text, errorText(text)))
      // Some servers answer every path with a page, or with an error that has a success status.
      return status < 300 && errorText(text) !== undefined && !isWrongPath(text, errorText(text))
    }),
    Effect.orElseSucceed(() => undefined)
  )
}

/** Combines several failures: what each said, and at which address. */
const unlistedAt = (bases: ReadonlyArray<string>, failures: ReadonlyArray<ListingFailed>, api: string | undefined) => {
  const reasons = [...new Set(failures.map(({ reason }) => reason))].join(", and then ")
  const places = bases.map((base) => `${base}/models`).join(" and ")
  const chats = api === undefined ? "" : `; chats go to ${api}`
  return new ListingFailed({ reason: `${reasons} (asked: ${places})${chats}`, answered: true, api })
}

/** Lists and chats need not be at the same base; if it is uncertain, both are probed. */
const openai = Effect.fnUntraced(function* (client: HttpClient.HttpClient, server: Server) {
  const bases = basesOf(server, "openai")
  const tried: Array<readonly [base: string, attempted: Attempted]> = []
  let listing: Listing | undefined
  let listed: string | undefined
  for (const base of bases) {
    const attempted = yield* Effect.either(get(client, server, `${base}/models`, readOpenAi))
    if (Either.isRight(attempted)) {
      listing = attempted.right
      listed = base
      break
    }
    if (attempted.left.misplaced !== true || bases.length === 1) return yield* Effect.fail(attempted.left)
    tried.push([base, attempted])
  }
  const usual = openAIBase(server.url)
  // Below a path either base is possible, and a list is no proof: some serve another kind of list there.
  const certain = listed !== undefined && (bases.length === 1 || listed === server.api || isRoot(listed))
  let api = listed
  if (!certain) {
    const order = listed === undefined ? bases : [listed, ...bases.filter((base) => base !== listed)]
    for (const base of order) {
      const takes = yield* takesChats(client, server, base)
      if (takes !== true) continue
      api = base
      break
    }
  }
  const found = api === usual ? undefined : api
  if (listing !== undefined) return { ...listing, api: found }
  const failures = tried.flatMap(([, attempted]) => (Either.isLeft(attempted) ? [attempted.left] : []))
  return yield* Effect.fail(unlistedAt(bases, failures, api))
})

/** `https://host/v1`, the usual place. */
const isRoot = (base: string): boolean => /^https?:\/\/[^/]+\/v1$/.test(base)

const ollama = Effect.fnUntraced(function* (client: HttpClient.HttpClient, server: Server) {
  let first: ListingFailed | undefined
  for (const base of basesOf(server, "ollama")) {
    const attempted: Attempted = yield* Effect.either(get(client, server, `${base}/api/tags`, readTags))
    if (Either.isRight(attempted)) {
      const { right } = attempted
      return right.protocol === "ollama" && base !== server.url ? { ...right, api: base } : right
    }
    first ??= attempted.left
    if (attempted.left.misplaced !== true) break
  }
  return yield* Effect.fail(first ?? new ListingFailed({ reason: "has no address", answered: false }))
})

/** The list comes in pages. */
const anthropic = Effect.fnUntraced(function* (client: HttpClient.HttpClient, server: Server) {
  const base = apiOf(server, "anthropic")
  const items: Array<unknown> = []
  let after: string | undefined
  for (let page = 0; page < Anthropic.maxPages; page++) {
    const url = Anthropic.pageOf(base, after)
    const { data, next }: Anthropic.Page = yield* get(client, server, url, Anthropic.readPage, "anthropic")
    items.push(...data)
    if (next === undefined || next === after) break
    after = next
  }
  const found = listing("anthropic", items.map(Anthropic.record), "name")
  if (found !== undefined) return found
  return yield* Effect.fail(new ListingFailed({ reason: "names no model in its list of models", answered: true }))
})

/**
 * Asks a server for its models: in its protocol, or, if unknown, first as Ollama and then as OpenAI. One whose errors have
 * the form of Anthropic's API is asked in that. Has no timeout.
 */
export const attempt = (client: HttpClient.HttpClient, server: Server): Effect.Effect<Listing, ListingFailed> =>
  server.protocol === "ollama"
    ? ollama(client, server)
    : server.protocol === "openai"
      ? openai(client, server)
      : server.protocol === "anthropic"
        ? anthropic(client, server)
        : Effect.catchAll(ollama(client, server), (first) =>
            first.isAnthropic === true
              ? anthropic(client, server)
              : first.answered
                ? Effect.mapError(
                    openai(client, server),
                    (second) =>
                      new ListingFailed({
                        reason: `${
                          first.reason === second.reason ? first.reason : `${first.reason}, and then ${second.reason}`
                        }${second.answered && second.api === undefined ? unlisted : ""}`,
                        answered: second.answered,
                        api: second.api
                      })
                  )
                : Effect.fail(first)
          )

/** The failure of a server that has not answered within so many milliseconds. */
export const timedOut = (timeout: number): ListingFailed =>
  new ListingFailed({
    reason: `did not say within ${timeout / 1000} s which models it has`,
    answered: false,
    silent: true
  })

/** The same within five seconds. */
export const list = (client: HttpClient.HttpClient, server: Server): Effect.Effect<Listing, ListingFailed> =>
  Effect.timeoutFail(attempt(client, server), { duration: timeout, onTimeout: () => timedOut(timeout) })

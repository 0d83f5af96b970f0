/** Asks one server for its models, and detects its protocol. */
import type * as HttpClient from "@effect/platform/HttpClient"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { errorText } from "../backend/http.js"
import { expectsTls, isWrongPath, mayExpectTls, notHttp, redirect } from "../backend/wrongAddress.js"
import { isObject } from "../internal/isObject.js"
import { apiBases, apiOf, headersOf, openAIBase, type Protocol, type Server } from "../Server.js"
import type { Transfer } from "../Transport.js"
import * as PlainRequests from "../transport/plainRequests.js"
import * as Anthropic from "./anthropicModels.js"
import { type Listing, ListingFailed, type Loaded, listing, readLoaded, readOpenAi, readTags } from "./listing.js"

/** Timeout for a list of models in `answers`, in milliseconds. */
const timeout = 5_000

/** The longest list of models that is read, in bytes: a fleet has many servers, and any of them may send anything. */
const maxListBytes = 4 * 1024 * 1024

/** Timeout for the list of loaded models, in milliseconds. */
export const loadedTimeout = 1_000

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
  ERR_SSL_PACKET_LENGTH_TOO_LONG: "speaks no TLS: its address may begin with http://",
  TLS_ALERT: expectsTls,
  NOT_HTTP: notHttp
}

/** What a server that expects TLS may do with a request without it, as one that is restarting. */
const closed: ReadonlySet<string | undefined> = new Set([codes["ECONNRESET"], codes["UND_ERR_SOCKET"]])

/** Why a request did not reach a server, as it completes "the server …". */
export const transportReason = (error: unknown): string => {
  let cause: unknown = error
  for (let depth = 0; depth < 5 && isObject(cause); depth++) {
    const { code, proxy } = cause
    if (typeof code === "string") {
      return typeof proxy === "string"
        ? `could not be asked: the proxy ${proxy} ${codes[code] ?? `failed (${code})`}`
        : (codes[code] ?? `could not be asked (${code})`)
    }
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

const accepted = { accept: "application/json" }

/** The requests to one server. After `cancel` nothing is sent any more, and what is awaited stays open for ever. */
export class DiscoveryRequests {
  /** The longest body that came, where that was measured. */
  longest: Transfer | undefined
  private cancelled = false
  private abort: (() => void) | undefined

  constructor(
    private readonly send: PlainRequests.Send,
    readonly server: Server
  ) {}

  cancel(): void {
    this.cancelled = true
    this.abort?.()
  }

  request(
    method: PlainRequests.PlainRequest["method"],
    url: string,
    headers: { readonly [name: string]: string },
    body: string | undefined
  ): Promise<PlainRequests.PlainResponse | PlainRequests.RequestFailed> {
    return new Promise((resolve) => {
      if (this.cancelled) return
      this.abort = this.send({ method, url, headers, body, maxBytes: maxListBytes }, (outcome) => {
        this.abort = undefined
        if (outcome instanceof PlainRequests.PlainResponse) {
          const { transfer } = outcome
          if (transfer !== undefined && transfer.bytes > (this.longest?.bytes ?? 0)) this.longest = transfer
        }
        resolve(outcome)
      })
    })
  }

  async get<A>(url: string, read: (body: unknown) => A | undefined, protocol?: Protocol): Promise<A | ListingFailed> {
    const { server } = this
    const outcome = await this.request("GET", url, { ...accepted, ...headersOf(server, protocol) }, undefined)
    if (outcome instanceof PlainRequests.RequestFailed) {
      const { answered, cause } = outcome
      const reason = transportReason(cause)
      const isClosed = !answered && closed.has(reason) && url.startsWith("http:")
      return new ListingFailed({ reason: isClosed ? `${reason}; ${mayExpectTls}` : reason, answered })
    }
    const { location, status, text } = outcome
    if (status >= 300 && status < 400 && status !== 304) {
      return new ListingFailed({ reason: redirect(server.url, url, location), answered: true })
    }
    if (status !== 200) {
      const misplaced = status === 404 || status === 405
      const isAnthropic = Anthropic.isError(text)
      return new ListingFailed({ reason: statusReason(status), answered: true, misplaced, isAnthropic })
    }
    let found: A | undefined
    try {
      found = read(JSON.parse(text))
    } catch {
      // Not JSON.
    }
    if (found !== undefined) return found
    const reason = `answered ${new URL(url).pathname} with something else than a list of models`
    return new ListingFailed({ reason, answered: true, misplaced: true })
  }
}

/** Runs it with a client. An interruption aborts its request. */
const run = <A>(
  client: HttpClient.HttpClient,
  server: Server,
  ask: (inquiry: DiscoveryRequests) => Promise<A>
): Effect.Effect<A> =>
  Effect.flatMap(Effect.runtime<never>(), (runtime) =>
    Effect.async<A>((resume) => {
      const inquiry = new DiscoveryRequests(PlainRequests.of(client, runtime), server)
      ask(inquiry).then(
        (found) => resume(Effect.succeed(found)),
        (defect) => resume(Effect.die(defect))
      )
      return Effect.sync(() => inquiry.cancel())
    })
  )

/**
 * Asks an Ollama server for its loaded models. `undefined` if unsupported, as in older versions: it only improves
 * routing.
 */
export const askLoaded = async (inquiry: DiscoveryRequests): Promise<ReadonlyMap<string, Loaded> | undefined> => {
  const found = await inquiry.get(`${apiOf(inquiry.server, "ollama")}/api/ps`, readLoaded)
  return found instanceof ListingFailed ? undefined : found
}

/** The same within `loadedTimeout`. */
export const loaded = (
  client: HttpClient.HttpClient,
  server: Server
): Effect.Effect<ReadonlyMap<string, Loaded> | undefined> =>
  Effect.map(Effect.timeoutOption(run(client, server, askLoaded), loadedTimeout), Option.getOrUndefined)

// =============================================================================
// Locating the API
// =============================================================================

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
const takesChats = async (inquiry: DiscoveryRequests, base: string): Promise<boolean | undefined> => {
  const headers = { ...accepted, ...headersOf(inquiry.server), "content-type": "application/json" }
  const outcome = await inquiry.request("POST", `${base}/chat/completions`, headers, "{}")
  if (outcome instanceof PlainRequests.RequestFailed) return undefined
  const { status, text } = outcome
  if (status >= 500) return status === 500 ? true : undefined
  if (status >= 400) return status !== 405 && !(status === 404 && isWrongPath(text, errorText(text)))
  // Some servers answer every path with a page, or with an error that has a success status.
  return status < 300 && errorText(text) !== undefined && !isWrongPath(text, errorText(text))
}

/** Combines several failures: what each said, and at which address. */
const unlistedAt = (bases: ReadonlyArray<string>, failures: ReadonlyArray<ListingFailed>, api: string | undefined) => {
  const reasons = [...new Set(failures.map(({ reason }) => reason))].join(", and then ")
  const places = bases.map((base) => `${base}/models`).join(" and ")
  const chats = api === undefined ? "" : `; chats go to ${api}`
  return new ListingFailed({ reason: `${reasons} (asked: ${places})${chats}`, answered: true, api })
}

/** Lists and chats need not be at the same base; if it is uncertain, both are probed. */
const openai = async (inquiry: DiscoveryRequests): Promise<Listing | ListingFailed> => {
  const { server } = inquiry
  const bases = basesOf(server, "openai")
  const failures: Array<ListingFailed> = []
  let listing: Listing | undefined
  let listed: string | undefined
  for (const base of bases) {
    const found = await inquiry.get(`${base}/models`, readOpenAi)
    if (!(found instanceof ListingFailed)) {
      listing = found
      listed = base
      break
    }
    if (!found.misplaced || bases.length === 1) return found
    failures.push(found)
  }
  const usual = openAIBase(server.url)
  // Below a path either base is possible, and a list is no proof: some serve another kind of list there.
  const certain = listed !== undefined && (bases.length === 1 || listed === server.api || isRoot(listed))
  let api = listed
  if (!certain) {
    const order = listed === undefined ? bases : [listed, ...bases.filter((base) => base !== listed)]
    for (const base of order) {
      if ((await takesChats(inquiry, base)) !== true) continue
      api = base
      break
    }
  }
  const found = api === usual ? undefined : api
  return listing === undefined ? unlistedAt(bases, failures, api) : { ...listing, api: found }
}

/** `https://host/v1`, the usual place. */
const isRoot = (base: string): boolean => /^https?:\/\/[^/]+\/v1$/.test(base)

const ollama = async (inquiry: DiscoveryRequests): Promise<Listing | ListingFailed> => {
  const { server } = inquiry
  let first: ListingFailed | undefined
  for (const base of basesOf(server, "ollama")) {
    const found = await inquiry.get(`${base}/api/tags`, readTags)
    if (!(found instanceof ListingFailed)) {
      return found.protocol === "ollama" && base !== server.url ? { ...found, api: base } : found
    }
    first ??= found
    if (!found.misplaced) break
  }
  return first ?? new ListingFailed({ reason: "has no address", answered: false })
}

/** The list comes in pages. */
const anthropic = async (inquiry: DiscoveryRequests): Promise<Listing | ListingFailed> => {
  const base = apiOf(inquiry.server, "anthropic")
  const items: Array<unknown> = []
  let after: string | undefined
  for (let page = 0; page < Anthropic.maxPages; page++) {
    const found = await inquiry.get(Anthropic.pageOf(base, after), Anthropic.readPage, "anthropic")
    if (found instanceof ListingFailed) return found
    items.push(...found.data)
    if (found.next === undefined || found.next === after) break
    after = found.next
  }
  return (
    listing("anthropic", items.map(Anthropic.record), "name") ??
    new ListingFailed({ reason: "names no model in its list of models", answered: true })
  )
}

const unknownProtocol = async (inquiry: DiscoveryRequests): Promise<Listing | ListingFailed> => {
  const first = await ollama(inquiry)
  if (!(first instanceof ListingFailed)) return first
  if (first.isAnthropic) return anthropic(inquiry)
  if (!first.answered) return first
  const second = await openai(inquiry)
  if (!(second instanceof ListingFailed)) return second
  const reasons = first.reason === second.reason ? first.reason : `${first.reason}, and then ${second.reason}`
  return new ListingFailed({
    reason: `${reasons}${second.answered && second.api === undefined ? unlisted : ""}`,
    answered: second.answered,
    api: second.api
  })
}

/**
 * Asks a server for its models: in its protocol, or, if unknown, first as Ollama and then as OpenAI. One whose errors have
 * the form of Anthropic's API is asked in that. Has no timeout.
 */
export const ask = (inquiry: DiscoveryRequests): Promise<Listing | ListingFailed> => {
  switch (inquiry.server.protocol) {
    case "ollama":
      return ollama(inquiry)
    case "openai":
      return openai(inquiry)
    case "anthropic":
      return anthropic(inquiry)
    default:
      return unknownProtocol(inquiry)
  }
}

/** The first address that its list of models may have. */
const listUrl = (server: Server): string => {
  const { protocol } = server
  switch (protocol) {
    case "openai":
      return `${basesOf(server, protocol)[0]}/models`
    case "anthropic":
      return Anthropic.pageOf(apiOf(server, protocol), undefined)
    default:
      return `${basesOf(server, "ollama")[0]}/api/tags`
  }
}

/**
 * Asks a server for its models and reads none of them: whether it answers at all, with whatever. `undefined` where it has
 * said nothing within five seconds, and may only be busy.
 */
export const answers = (client: HttpClient.HttpClient, server: Server): Effect.Effect<boolean | undefined> => {
  const headers = { ...accepted, ...headersOf(server) }
  return run(client, server, (inquiry) => inquiry.request("GET", listUrl(server), headers, undefined)).pipe(
    Effect.map((outcome) => outcome instanceof PlainRequests.PlainResponse || outcome.answered),
    Effect.timeoutTo({ duration: timeout, onSuccess: (answered) => answered, onTimeout: () => undefined })
  )
}

/** The failure of a server that has not answered within so many milliseconds. */
export const timedOut = (timeout: number): ListingFailed =>
  new ListingFailed({
    reason: `did not say within ${timeout / 1000} s which models it has`,
    answered: false,
    silent: true
  })

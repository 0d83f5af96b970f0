/** Authentication, and the checks of Origin and Host. */
import { createHash, timingSafeEqual } from "node:crypto"
import type { IncomingMessage } from "node:http"
import { isIP } from "node:net"
import { hostname } from "node:os"
import * as Redacted from "effect/Redacted"
import type { Access, Settings } from "../config/gatewaySettings.js"
import * as Origins from "../internal/origins.js"
import { isLoopback } from "../server/address.js"
import * as Session from "./dashboard/session.js"
import * as StoredSessions from "./dashboard/storedSessions.js"
import { type ErrorResponse, make } from "./http/errorResponse.js"
import type { KeyCache } from "./keys/KeyCache.js"
import type { Caller } from "./keys/keyPolicy.js"

// =============================================================================
// API keys
// =============================================================================

const digest = (text: string): Buffer => createHash("sha256").update(text).digest()

const presented = (request: IncomingMessage): string | undefined => {
  const { authorization } = request.headers
  if (authorization !== undefined) return /^bearer /i.test(authorization) ? authorization.slice(7).trim() : undefined
  const other = request.headers["x-api-key"] ?? request.headers["api-key"]
  return typeof other === "string" ? other : undefined
}

const foreign = make(
  403,
  `A request with the cookie of a browser that changes something needs the header ${Session.csrfHeader}.`,
  "missing_csrf_token"
)

/** The key of a browser that is signed in; `undefined` if it is not. */
const bySession = (
  keys: ReadonlyArray<Access>,
  session: string | undefined,
  request: IncomingMessage
): Access | ErrorResponse | undefined => {
  if (session === undefined) return undefined
  const access = Session.accessOf(keys, session, Date.now())
  if (access === undefined) return undefined
  return Session.isOwn(Session.csrfOf(access, session), request) ? access : foreign
}

/** The caller's identity; `undefined` if the gateway needs no key. A promise if the store has to be read. */
export type Authenticated = Caller | ErrorResponse | undefined

const callerOf = ({
  admin,
  concurrency,
  name,
  priority,
  private: local,
  requestsPerMinute,
  tokensPerMinute
}: Access) => ({
  name,
  requestsPerMinute,
  tokensPerMinute,
  concurrency,
  priority,
  private: local,
  admin,
  manages: admin
})

interface Digested {
  readonly access: Access
  readonly hash: Buffer
}

const digested = (keys: ReadonlyArray<Access>): ReadonlyArray<Digested> =>
  keys.map((access) => ({ access, hash: digest(Redacted.value(access.secret)) }))

/** In constant time: digests are compared, and always all of them. */
const matching = (known: ReadonlyArray<Digested>, key: string): Access | undefined => {
  const hash = digest(key)
  let found: Access | undefined
  for (const one of known) if (timingSafeEqual(hash, one.hash)) found = one.access
  return found
}

/** The key of the settings that this text is. */
export const accessOf = (keys: ReadonlyArray<Access>, key: string): Access | undefined => matching(digested(keys), key)

/** Finds the API key of a request: one of the settings, or one of the store, which is named in its text. */
export const authenticator = (
  keys: ReadonlyArray<Access>,
  stored: KeyCache | undefined,
  sessions?: StoredSessions.StoredSessions
): ((request: IncomingMessage) => Authenticated | Promise<Authenticated>) => {
  const known = digested(keys)
  const callers = new Map(keys.map((access) => [access, callerOf(access)]))
  const asCaller = (found: Access | ErrorResponse): Authenticated =>
    "status" in found ? found : (callers.get(found) ?? callerOf(found))
  const names = new Set(keys.map(({ name }) => name))
  const missing = make(
    401,
    "No API key was given. Send it as 'Authorization: Bearer YOUR_KEY' or 'x-api-key: YOUR_KEY'.",
    "missing_api_key"
  )
  const wrong = make(401, "The API key is wrong.", "invalid_api_key")
  // Conversations and limits belong to a name: a key of the store gets none that a key of the settings has.
  const own = (found: Authenticated): Authenticated =>
    found === undefined || "status" in found || !names.has(found.name)
      ? (found ?? wrong)
      : { ...found, name: `${found.name} (store)` }
  return (request) => {
    if (known.length === 0 && stored?.isUsed !== true) return undefined
    const key = presented(request)
    if (key === undefined) {
      const session = Session.cookieOf(request)
      if (session === undefined || sessions === undefined || !StoredSessions.isStored(session)) {
        return asCaller(bySession(keys, session, request) ?? missing)
      }
      if (!Session.isOwn(StoredSessions.csrfOf(session), request)) return foreign
      const holder = sessions.find(session, Date.now())
      return holder instanceof Promise ? holder.then((one) => own(one ?? missing)) : own(holder ?? missing)
    }
    const found = matching(known, key)
    if (found !== undefined || stored === undefined) return asCaller(found ?? wrong)
    const other = stored.find(key)
    return other === undefined ? stored.lookUp(key).then(own) : own(other)
  }
}

// =============================================================================
// Cross-origin requests from web pages
// =============================================================================

/** Host names are case-insensitive and may end with the dot of the root. */
const hostOf = (text: string): string => text.toLowerCase().replace(/:\d+$/, "").replace(/\.$/, "")

/**
 * Whether a web page of this origin may use the gateway: local pages, the gateway's own, and those that the user
 * allowed. Without this check, any page that a user visits could send requests to their machine.
 */
export const allowsOrigin = (settings: Settings, origin: string, host: string | undefined): boolean => {
  if (Origins.allows(settings.cors, origin)) return true
  const place = Origins.placeOf(origin)
  if (place === undefined) return false
  // Its own: where there are no keys, `allowsHost` has refused the names of other sites before.
  return isLoopback(place.name) || place.host === host
}

const ownNames = (): ReadonlyArray<string> => {
  const name = hostname().toLowerCase()
  const [short = name] = name.split(".")
  return [name, short, `${short}.local`]
}

/**
 * Whether the Host header names this gateway. Without API keys this prevents DNS rebinding: a page on the internet has
 * neither an IP address nor a name without a dot as its host.
 */
export const allowsHost = (settings: Settings, needsKey: boolean, host: string | undefined): boolean => {
  if (needsKey || host === undefined || host === "") return true
  const name = hostOf(host)
  if (isLoopback(name) || name.endsWith(".localhost")) return true
  if (name === settings.host.toLowerCase() || settings.hosts.includes(name)) return true
  if (isLoopback(settings.host)) return false
  return isIP(name.replace(/^\[|\]$/g, "")) !== 0 || !name.includes(".") || ownNames().includes(name)
}

/**
 * Who may use the gateway.
 *
 * @since 0.1.0
 */
import { createHash, timingSafeEqual } from "node:crypto"
import type { IncomingMessage } from "node:http"
import { isIP } from "node:net"
import { hostname } from "node:os"
import * as Redacted from "effect/Redacted"
import { type Access, isLoopback, type Settings } from "../config/gatewaySettings.js"
import * as Origins from "../internal/origins.js"
import { type ErrorResponse, make } from "./http/errorResponse.js"

// =============================================================================
// keys
// =============================================================================

const digest = (text: string): Buffer => createHash("sha256").update(text).digest()

const presented = (request: IncomingMessage): string | undefined => {
  const { authorization } = request.headers
  if (authorization !== undefined) return /^bearer /i.test(authorization) ? authorization.slice(7).trim() : undefined
  const other = request.headers["x-api-key"] ?? request.headers["api-key"]
  return typeof other === "string" ? other : undefined
}

/**
 * Finds the key of a request. How long that takes says nothing about the keys: digests are compared, and always all.
 *
 * @since 0.1.0
 * @category constructors
 */
export const authenticator = (
  keys: ReadonlyArray<Access>
): ((request: IncomingMessage) => Access | undefined | ErrorResponse) => {
  const known = keys.map((access) => ({ access, hash: digest(Redacted.value(access.secret)) }))
  const missing = make(
    401,
    "No API key was given. Send it as 'Authorization: Bearer YOUR_KEY' or 'x-api-key: YOUR_KEY'.",
    "missing_api_key"
  )
  const wrong = make(401, "The API key is wrong.", "invalid_api_key")
  return (request) => {
    if (known.length === 0) return undefined
    const key = presented(request)
    if (key === undefined) return missing
    const hash = digest(key)
    let found: Access | undefined
    for (const one of known) if (timingSafeEqual(hash, one.hash)) found = one.access
    return found ?? wrong
  }
}

// =============================================================================
// web pages
// =============================================================================

/** A name says the same in capitals, and with the dot of the root behind it. */
const hostOf = (text: string): string => text.toLowerCase().replace(/:\d+$/, "").replace(/\.$/, "")

/**
 * Whether a web page of this origin may use the gateway: one of this machine, of the gateway itself, or one that the
 * user named. Any page that a user visits can send requests to his own machine.
 *
 * @since 0.1.0
 * @category guards
 */
export const allowsOrigin = (settings: Settings, origin: string, host: string | undefined): boolean => {
  if (Origins.allows(settings.cors, origin)) return true
  const place = Origins.placeOf(origin)
  if (place === undefined) return false
  return isLoopback(place.name) || (place.host === host && settings.keys.length > 0)
}

const ownNames = (): ReadonlyArray<string> => {
  const name = hostname().toLowerCase()
  const [short = name] = name.split(".")
  return [name, short, `${short}.local`]
}

/**
 * Whether the name by which the gateway was called is its own. Without a key, a page whose name was made to point at
 * this gateway would otherwise be taken for one of it. A page in the internet can have neither an address nor a name
 * without a dot for a name.
 *
 * @since 0.1.0
 * @category guards
 */
export const allowsHost = (settings: Settings, host: string | undefined): boolean => {
  if (settings.keys.length > 0 || host === undefined || host === "") return true
  const name = hostOf(host)
  if (isLoopback(name) || name.endsWith(".localhost")) return true
  if (name === settings.host.toLowerCase() || settings.hosts.includes(name)) return true
  if (isLoopback(settings.host)) return false
  return isIP(name.replace(/^\[|\]$/g, "")) !== 0 || !name.includes(".") || ownNames().includes(name)
}

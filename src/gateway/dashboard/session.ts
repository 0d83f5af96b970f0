/**
 * Sessions of browsers: a cookie that proves a key of the settings without holding it. It is signed with the key, so
 * that it holds in every process, and ends when the key is changed or taken away. `storedSessions` has those of other
 * keys.
 */
import { createHash, createHmac, randomBytes, timingSafeEqual } from "node:crypto"
import type { IncomingMessage } from "node:http"
import * as Redacted from "effect/Redacted"
import type { Access } from "../../config/gatewaySettings.js"

export const cookieName = "aicortex_session"

/** The header that a request which changes something must have in addition to the cookie. */
export const csrfHeader = "x-aicortex-csrf"

/** How long a session lasts, in seconds. */
export const lifetime = 12 * 3_600

const sign = (access: Access, text: string): string =>
  createHmac("sha256", createHash("sha256").update(Redacted.value(access.secret)).digest())
    .update(text)
    .digest("base64url")

const equal = (one: string, other: string): boolean => {
  const [a, b] = [one, other].map((text) => createHash("sha256").update(text).digest())
  return a !== undefined && b !== undefined && timingSafeEqual(a, b)
}

/** A session of a key; its text is the value of the cookie. */
export const create = (access: Access, now: number): string => {
  const name = Buffer.from(access.name).toString("base64url")
  const claim = `${name}.${Math.floor(now / 1_000) + lifetime}.${randomBytes(12).toString("base64url")}`
  return `${claim}.${sign(access, `session ${claim}`)}`
}

/** What a page sends along with the cookie, which another site cannot read. */
export const csrfOf = (access: Access, session: string): string => sign(access, `csrf ${session}`)

/** The session of a request's cookie. */
export const cookieOf = ({ headers: { cookie } }: IncomingMessage): string | undefined => {
  if (cookie === undefined || !cookie.includes(cookieName)) return undefined
  for (const part of cookie.split(";")) {
    const at = part.indexOf("=")
    if (part.slice(0, at).trim() === cookieName) return part.slice(at + 1).trim()
  }
  return undefined
}

/** The key of a session, while it lasts. */
export const accessOf = (keys: ReadonlyArray<Access>, session: string, now: number): Access | undefined => {
  const [name = "", ends = "", nonce = "", signature = ""] = session.split(".")
  if (!(Number(ends) * 1_000 > now)) return undefined
  const wanted = Buffer.from(name, "base64url").toString("utf8")
  const access = keys.find((one) => one.name === wanted)
  if (access === undefined) return undefined
  return equal(signature, sign(access, `session ${name}.${ends}.${nonce}`)) ? access : undefined
}

/** Whether a request with the cookie was sent by a page of the gateway, or changes nothing. */
export const isOwn = (csrf: string, { headers, method }: IncomingMessage): boolean => {
  if (method === undefined || method === "GET" || method === "HEAD" || method === "OPTIONS") return true
  const sent = headers[csrfHeader]
  return typeof sent === "string" && equal(sent, csrf)
}

/** The `Set-Cookie` of a session; without one it is taken away. */
export const setCookie = (session: string | undefined, secure: boolean): string =>
  `${cookieName}=${session ?? ""}; Path=/; HttpOnly; SameSite=Strict; Max-Age=${session === undefined ? 0 : lifetime}${secure ? "; Secure" : ""}`

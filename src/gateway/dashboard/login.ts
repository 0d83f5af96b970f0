/** `POST /login`, `POST /logout` and `GET /session`: signing in to the page. */
import type { IncomingMessage } from "node:http"
import type { TLSSocket } from "node:tls"
import type { Access } from "../../config/gatewaySettings.js"
import * as Auth from "../auth.js"
import type { SessionView } from "../events/views.js"
import { type GatewayContext, needsKey } from "../GatewayContext.js"
import type * as BodyFields from "../http/body.js"
import * as Body from "../http/bodyDeclaration.js"
import { type ErrorResponse, make, RequestRejected } from "../http/errorResponse.js"
import type { RequestContext } from "../http/RequestContext.js"
import type { Caller, Role } from "../keys/keyPolicy.js"
import { isLocal } from "../permissions.js"
import * as Session from "./session.js"
import * as StoredSessions from "./storedSessions.js"

/** So many wrong keys of one address are answered within a minute. */
const maxFailures = 10
const window = 60_000

/** Addresses whose failures are remembered. */
const maxAddresses = 10_000
const failures = new Map<string, { count: number; since: number }>()

const address = ({ socket }: IncomingMessage): string => socket.remoteAddress ?? ""

const mustWait = (from: string, now: number): boolean => {
  const known = failures.get(from)
  if (known === undefined) return false
  if (now - known.since > window) failures.delete(from)
  return now - known.since <= window && known.count >= maxFailures
}

const failed = (from: string, now: number): void => {
  const known = failures.get(from)
  if (known !== undefined) known.count++
  else {
    if (failures.size >= maxAddresses) failures.clear()
    failures.set(from, { count: 1, since: now })
  }
}

/** Behind a proxy that ends TLS, the proxy says so. */
const isSecure = ({ headers, socket }: IncomingMessage): boolean =>
  (socket as Partial<TLSSocket>).encrypted === true || headers["x-forwarded-proto"] === "https"

/** The identity that a browser is signed in with. */
interface SignedIn {
  readonly name: string
  readonly admin: boolean
  readonly manages: boolean
  readonly csrf: string
}

/** `role` is what the page may do: `null` where it has to sign in first. */
const described = (keys: boolean, who: SignedIn | undefined, local: boolean): SessionView => {
  const role = who === undefined ? (keys ? null : local ? "admin" : "use") : roleOf(who)
  return {
    keys,
    signed_in: who !== undefined,
    key: who?.name ?? null,
    role,
    admin: role === "admin",
    csrf: who?.csrf ?? null
  }
}

const roleOf = ({ admin, manages }: SignedIn): Role => (admin ? "admin" : manages ? "manage" : "use")

const bySettings = (access: Access, session: string): SignedIn => ({
  name: access.name,
  admin: access.admin,
  manages: access.admin,
  csrf: Session.csrfOf(access, session)
})

const byStore = ({ admin, manages, name }: Caller, session: string): SignedIn => ({
  name,
  admin,
  manages,
  csrf: StoredSessions.csrfOf(session)
})

/** The body of `/login`. */
export const loginBody = Body.struct({ key: Body.needed(Body.text({ doc: "An API key of the gateway." })) })

const { read } = loginBody

/** A new session of this key and whom it is of, why there is none, or `undefined` where the key is wrong. */
const opened = async (
  { pageSessions, settings, storedKeys }: GatewayContext,
  key: string,
  now: number
): Promise<{ readonly session: string; readonly who: SignedIn } | ErrorResponse | undefined> => {
  const access = Auth.accessOf(settings.keys, key)
  if (access !== undefined) {
    const session = Session.create(access, now)
    return { session, who: bySettings(access, session) }
  }
  if (storedKeys === undefined || pageSessions === undefined) return undefined
  const caller = storedKeys.find(key) ?? (await storedKeys.lookUp(key))
  if (caller === undefined || "status" in caller) return caller
  const session = await pageSessions.create(key, now)
  return typeof session === "string" ? { session, who: byStore(caller, session) } : session
}

/** `POST /login`: exchanges a key for a session. */
export const login = async (
  gateway: GatewayContext,
  context: RequestContext,
  body: BodyFields.Fields
): Promise<void> => {
  context.decode((body, ignored) => ignored.check(body, loginBody), body)
  const key = read.key(body)
  if (key === undefined) throw new RequestRejected(make(400, "'key' is missing.", "missing_required_parameter", "key"))
  if (!needsKey(gateway)) {
    context.json(described(false, undefined, isLocal(context.request)))
    return
  }
  const now = Date.now()
  const from = address(context.request)
  if (mustWait(from, now)) {
    const message = "Too many wrong keys came from this address. Try again in a minute."
    throw new RequestRejected(make(429, message, "too_many_logins", null, window))
  }
  const found = (await opened(gateway, key, now)) ?? make(401, "The API key is wrong.", "invalid_api_key")
  if ("status" in found) {
    if (found.status === 401) failed(from, now)
    throw new RequestRejected(found)
  }
  context.headers["set-cookie"] = Session.setCookie(found.session, isSecure(context.request))
  context.headers["cache-control"] = "no-store"
  context.json(described(true, found.who, false))
}

/** `POST /logout`. */
export const logout = async ({ pageSessions }: GatewayContext, context: RequestContext): Promise<void> => {
  const cookie = Session.cookieOf(context.request)
  if (cookie !== undefined && StoredSessions.isStored(cookie)) await pageSessions?.remove(cookie)
  context.headers["set-cookie"] = Session.setCookie(undefined, isSecure(context.request))
  context.json({ signed_in: false })
}

/** Whom the cookie of a request is of, if of anybody. */
const signedIn = async (
  { pageSessions, settings }: GatewayContext,
  cookie: string | undefined
): Promise<SignedIn | undefined> => {
  if (cookie === undefined) return undefined
  if (!StoredSessions.isStored(cookie)) {
    const access = Session.accessOf(settings.keys, cookie, Date.now())
    return access === undefined ? undefined : bySettings(access, cookie)
  }
  const found = await pageSessions?.find(cookie, Date.now())
  if (found === undefined) return undefined
  if (!("status" in found)) return byStore(found, cookie)
  // Whether it is valid is unknown: the page asks again.
  if (found.status === 503) throw new RequestRejected(found)
  return undefined
}

/** `GET /session`: whether the page may be used, and how. */
export const session = async (gateway: GatewayContext, context: RequestContext): Promise<void> => {
  const who = await signedIn(gateway, Session.cookieOf(context.request))
  context.headers["cache-control"] = "no-store"
  context.json(described(needsKey(gateway), who, isLocal(context.request)))
}

/** `POST /login`, `POST /logout` and `GET /session`: signing in to the page. */
import type { IncomingMessage } from "node:http"
import type { TLSSocket } from "node:tls"
import type { Access } from "../../config/gatewaySettings.js"
import * as Auth from "../auth.js"
import { type GatewayContext, needsKey } from "../GatewayContext.js"
import type * as BodyFields from "../http/body.js"
import * as Body from "../http/bodyDeclaration.js"
import { make, RequestRejected } from "../http/errorResponse.js"
import type { RequestContext } from "../http/RequestContext.js"
import * as Secret from "../keys/secret.js"
import { isLocal } from "../permissions.js"
import * as Session from "./session.js"

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

const described = (access: Access | undefined, session: string | undefined, local: boolean): object => ({
  signed_in: access !== undefined,
  key: access?.name ?? null,
  admin: access?.admin ?? local,
  csrf: access === undefined || session === undefined ? null : Session.csrfOf(access, session)
})

/** The body of `/login`. */
export const loginBody = Body.struct({ key: Body.needed(Body.text({ doc: "An API key of the gateway." })) })

const { read } = loginBody

/** `POST /login`: exchanges a key for a session. */
export const login = (gateway: GatewayContext, context: RequestContext, body: BodyFields.Fields): void => {
  const { settings } = gateway
  context.decode((body, ignored) => ignored.check(body, loginBody), body)
  const key = read.key(body)
  if (key === undefined) throw new RequestRejected(make(400, "'key' is missing.", "missing_required_parameter", "key"))
  if (!needsKey(gateway)) {
    context.json({ keys: false, ...described(undefined, undefined, isLocal(context.request)) })
    return
  }
  const now = Date.now()
  const from = address(context.request)
  if (mustWait(from, now)) {
    const message = "Too many wrong keys came from this address. Try again in a minute."
    throw new RequestRejected(make(429, message, "too_many_logins", null, window))
  }
  const found = Auth.accessOf(settings.keys, key)
  if (found === undefined) {
    failed(from, now)
    // What the store has of a key must not be enough to sign a session with.
    if (Secret.idOf(key) !== undefined) {
      const message = "A key of the store does not sign in to the page: use one of the gateway's settings."
      throw new RequestRejected(make(403, message, "stored_key"))
    }
    throw new RequestRejected(make(401, "The API key is wrong.", "invalid_api_key"))
  }
  const session = Session.create(found, now)
  context.headers["set-cookie"] = Session.setCookie(session, isSecure(context.request))
  context.headers["cache-control"] = "no-store"
  context.json({ keys: true, ...described(found, session, false) })
}

/** `POST /logout`. */
export const logout = (_: GatewayContext, context: RequestContext): void => {
  context.headers["set-cookie"] = Session.setCookie(undefined, isSecure(context.request))
  context.json({ signed_in: false })
}

/** `GET /session`: whether the page may be used, and how. */
export const session = (gateway: GatewayContext, context: RequestContext): void => {
  const { settings } = gateway
  const cookie = Session.cookieOf(context.request)
  const access = cookie === undefined ? undefined : Session.accessOf(settings.keys, cookie, Date.now())
  context.headers["cache-control"] = "no-store"
  const keys = needsKey(gateway)
  context.json({ keys, ...described(access, cookie, !keys && isLocal(context.request)) })
}

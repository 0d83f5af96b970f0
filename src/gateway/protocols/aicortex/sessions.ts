/**
 * Stored conversations: `POST` and `GET /v1/sessions`, `GET` and `DELETE /v1/sessions/{id}`, and those that
 * requests name. With API keys, each belongs to the key that created it; to other keys it does not exist.
 */
import { createHash } from "node:crypto"
import { InvalidRequest, SessionNotFound } from "../../../Errors.js"
import { isPrivate } from "../../../Sessions.js"
import type { GatewayContext } from "../../GatewayContext.js"
import * as Query from "../../http/query.js"
import type { RequestContext } from "../../http/RequestContext.js"
import type { GatewayRequest } from "../../pipeline/gatewayRequest.js"
import { agreed, newSession } from "../../pipeline/namedSession.js"

/** The prefix of a key's conversation ids; it does not reveal the key. */
const prefixOf = ({ caller }: RequestContext): string =>
  caller === undefined ? "" : `${createHash("sha256").update(caller).digest("hex").slice(0, 16)}-`

/** The id, if it may belong to the caller. */
const mine = (context: RequestContext, id: string): string => {
  if (!id.startsWith(prefixOf(context))) throw new SessionNotFound({ id })
  return id
}

/** The header that names the session of a request, and of its answer. */
const header = "x-aicortex-session"

const isAllPrivate = ({ library }: GatewayContext, { private: isLocalOnly }: RequestContext): boolean =>
  isLocalOnly || library.settings.defaults.private === true

const createFor = async (gateway: GatewayContext, context: RequestContext): Promise<string> => {
  const options = { prefix: prefixOf(context), private: isAllPrivate(gateway, context) }
  const { id } = await gateway.library.run(gateway.library.sessions.create(options)).result
  return id
}

/** What was said before in a session that is not private may have left already. */
const checkPrivacy = ({ library }: GatewayContext, context: RequestContext, id: string): void => {
  if (!context.privateByHeader || isPrivate(id) || library.settings.defaults.private === true) return
  const reason = "must hold for a whole session: create it with this header"
  throw new InvalidRequest({ field: "X-Aicortex-Private", reason })
}

/** What a private session says stays on local servers. */
const entered = <A extends GatewayRequest>(gatewayRequest: A, context: RequestContext, id: string): A => {
  if (isPrivate(id)) context.private = true
  context.headers[header] = id
  return id === gatewayRequest.session ? gatewayRequest : { ...gatewayRequest, session: id }
}

/**
 * The request with the session that its body or a header names: not every client can add a field. `new` begins one, which
 * is removed if the request fails. The answer names it in the same header.
 */
export const joined = <A extends GatewayRequest>(
  gateway: GatewayContext,
  gatewayRequest: A,
  context: RequestContext
): A | Promise<A> => {
  const sent = context.request.headers[header]
  const id = agreed(gatewayRequest.session, typeof sent === "string" && sent !== "" ? sent : undefined, header)
  if (id === undefined) return gatewayRequest
  if (id === newSession) {
    return createFor(gateway, context).then((made) => {
      context.createdSession = made
      return entered(gatewayRequest, context, made)
    })
  }
  mine(context, id)
  checkPrivacy(gateway, context, id)
  return entered(gatewayRequest, context, id)
}

export const create = async (gateway: GatewayContext, context: RequestContext): Promise<void> => {
  const id = await createFor(gateway, context)
  context.json({ id, object: "session", messages: [] }, 201)
}

/** The caller's most recently used conversations: `limit` of them (1 to 1,000, default 50). */
export const list = async (gateway: GatewayContext, context: RequestContext): Promise<void> => {
  const limit = Query.limit(Query.of(context, ["limit"]), 1_000, 50)
  const all = await gateway.library.run(gateway.library.sessions.list({ prefix: prefixOf(context), limit })).result
  context.json({
    object: "list",
    data: all.map(({ id, messages, opening, usedAt }) => ({
      id,
      object: "session",
      used_at: Math.floor(usedAt / 1000),
      message_count: messages,
      opening: opening ?? null
    }))
  })
}

export const read = async (gateway: GatewayContext, context: RequestContext, id: string): Promise<void> => {
  const messages = await gateway.library.run(gateway.library.sessions.history(mine(context, id))).result
  context.json({ id, object: "session", messages })
}

export const remove = async (gateway: GatewayContext, context: RequestContext, id: string): Promise<void> => {
  await gateway.library.run(gateway.library.sessions.remove(mine(context, id))).result
  context.json({ id, object: "session.deleted", deleted: true })
}

/**
 * Conversations that requests name, `POST /v1/sessions` and `DELETE /v1/sessions/{id}`. With API keys, each belongs to the key that created it; to other keys it does not exist.
 */
import { InvalidRequest } from "../../../Errors.js"
import { isPrivate } from "../../../Sessions.js"
import type { GatewayContext } from "../../GatewayContext.js"
import type { RequestContext } from "../../http/RequestContext.js"
import type { GatewayRequest } from "../../pipeline/gatewayRequest.js"
import { agreed, newSession } from "../../pipeline/namedSession.js"
import { mine, prefixOf } from "./sessionOwner.js"

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

export const remove = async (gateway: GatewayContext, context: RequestContext, id: string): Promise<void> => {
  await gateway.library.run(gateway.library.sessions.remove(mine(context, id))).result
  context.json({ id, object: "session.deleted", deleted: true })
}

/** Whose conversation is whose. */
import { createHash } from "node:crypto"
import { SessionNotFound } from "../../../Errors.js"
import type { RequestContext } from "../../http/RequestContext.js"

/** The prefix of a key's conversation ids; it does not reveal the key. */
export const prefixOf = ({ identity }: RequestContext): string =>
  identity === undefined ? "" : `${createHash("sha256").update(identity).digest("hex").slice(0, 16)}-`

/** The id, if it may belong to the caller. */
export const mine = (context: RequestContext, id: string): string => {
  if (!id.startsWith(prefixOf(context))) throw new SessionNotFound({ id })
  return id
}

/** The stored conversation that a body names. */
import * as BodyFields from "../http/body.js"
import { reject } from "../http/errorResponse.js"

/** Begins a conversation. */
export const newSession = "new"

/** The form of the ids that this gateway gives, perhaps with that of a key before it. */
const ownId = /^([0-9a-f]{16}-)?[0-9a-f]{15}[0-9a-fp]$/

/** Clients put names of their own into the metadata: those only say which requests belong together. */
const inMetadata = (body: BodyFields.Fields): string | undefined => {
  const { metadata } = body
  if (!BodyFields.isObject(metadata)) return undefined
  const id = metadata["session_id"]
  return typeof id === "string" && (ownId.test(id) || id === newSession) ? id : undefined
}

/** Rejects a request that names two. */
export const agreed = (first: string | undefined, second: string | undefined, at: string): string | undefined => {
  if (first === undefined || second === undefined || first === second) return first ?? second
  return reject(at, "names another session than the rest of the request does: name one")
}

/** - `session`, `sessionId`: what the fields of these names say */
export const namedSession = (
  body: BodyFields.Fields,
  session: string | undefined,
  sessionId: string | undefined
): string | undefined => agreed(agreed(session, sessionId, "session_id"), inMetadata(body), "metadata.session_id")

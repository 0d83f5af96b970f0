/** The conversation id that a client sends. */
import type { IncomingHttpHeaders } from "node:http"
import * as BodyFields from "../http/body.js"

const headers = ["x-claude-code-session-id", "x-session-id", "x-session-affinity"] as const

const claimed = (value: unknown): string | undefined => (typeof value === "string" && value !== "" ? value : undefined)

/** Claude Code puts its session into the user id: as JSON, or in older versions after `_session_`. */
const sessionOf = (userId: unknown): string | undefined => {
  if (typeof userId !== "string" || userId.length > 4_096) return undefined
  const old = /_session_([\w-]+)$/.exec(userId)?.[1]
  if (old !== undefined || !userId.startsWith("{")) return old
  try {
    const parsed: unknown = JSON.parse(userId)
    return BodyFields.isObject(parsed) ? claimed(parsed["session_id"]) : undefined
  } catch {
    // An id that happens to start with a brace.
    return undefined
  }
}

/**
 * The conversation id: from a header, `prompt_cache_key`, `metadata.session_id` or the session in `metadata.user_id`,
 * else the user.
 */
export const conversationIdOf = (sent: IncomingHttpHeaders, body: BodyFields.Fields): string | undefined => {
  for (const header of headers) {
    const name = claimed(sent[header])
    if (name !== undefined) return name
  }
  const key = claimed(body["prompt_cache_key"])
  if (key !== undefined) return key
  const metadata = BodyFields.isObject(body["metadata"]) ? body["metadata"] : undefined
  return (
    claimed(metadata?.["session_id"]) ??
    sessionOf(metadata?.["user_id"]) ??
    claimed(body["user"]) ??
    claimed(metadata?.["user_id"])
  )
}

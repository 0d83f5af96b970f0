/** The end user on whose behalf a client asks, for the record of usage. */
import type { IncomingHttpHeaders } from "node:http"
import type * as BodyFields from "../http/body.js"

/** Longer names are clipped. */
const longest = 128

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is removed.
const controls = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g

const headers = ["x-openwebui-user-email", "x-openwebui-user-id", "x-openwebui-user-name"] as const

const textOf = (value: unknown): string | undefined => (typeof value === "string" && value !== "" ? value : undefined)

/** Some clients add the conversation to the user: it would be another user each time. */
const withoutSession = (id: string | undefined): string | undefined => id?.replace(/_session_[0-9a-f-]+$/, "")

/** `user` (OpenAI), `metadata.user_id` (Anthropic), or the headers that Open WebUI can forward. */
export const endUserOf = (given: IncomingHttpHeaders, body: BodyFields.Fields): string | undefined => {
  const { metadata } = body
  const id = typeof metadata === "object" && metadata !== null && "user_id" in metadata ? metadata.user_id : undefined
  let user = textOf(body["user"]) ?? withoutSession(textOf(id))
  for (const name of headers) user ??= textOf(given[name])
  return user?.replace(controls, "").slice(0, longest)
}

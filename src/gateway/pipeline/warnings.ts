/**
 * Reports failures after an answer to the client: in the header `x-aicortex-warning`; if the headers were already sent,
 * in a trailer of that name, and in event streams in a comment.
 */
import type { TurnNotStored } from "../../Errors.js"
import type { RequestContext } from "../http/RequestContext.js"

const header = "x-aicortex-warning"

/** Only a code, because the reason may contain a path. */
const words = { TurnNotStored: "session_not_stored" } as const satisfies {
  readonly [T in TurnNotStored["_tag"]]: string
}

type Warnings = ReadonlyArray<TurnNotStored> | undefined

/** A stream in a session may end with a warning: HTTP requires trailers to be announced in the headers. */
export const announce = ({ headers }: RequestContext): void => {
  headers["trailer"] = header
}

/** Sets the warning header of a complete answer, before it is sent. */
export const tell = ({ record: account, headers }: RequestContext, warnings: Warnings): void => {
  if (warnings === undefined) return
  account.warning = warnings.map(({ _tag }) => words[_tag]).join(", ")
  headers[header] = account.warning
}

/**
 * Sets the trailer of a stream for which `announce` was called, before it ends; returns the text to write into the body.
 */
export const end = ({ record: account, response }: RequestContext, warnings: Warnings, contentType: string): string => {
  if (warnings === undefined) return ""
  account.warning = warnings.map(({ _tag }) => words[_tag]).join(", ")
  response.addTrailers({ [header]: account.warning })
  return contentType.startsWith("text/event-stream") ? `: ${header}: ${account.warning}\n\n` : ""
}

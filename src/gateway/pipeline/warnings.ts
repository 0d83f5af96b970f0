/**
 * What went wrong after an answer, as clients are told: in the header `x-aicortex-warning`, or, where the head was sent
 * before it was known, in a trailer of that name, and in streams of events in a comment.
 */
import type { TurnNotStored } from "../../Errors.js"
import type { RequestContext } from "../http/RequestContext.js"

const header = "x-aicortex-warning"

/** No more than a word: the reason may name a folder. */
const words = { TurnNotStored: "session_not_stored" } as const satisfies {
  readonly [T in TurnNotStored["_tag"]]: string
}

type Warnings = ReadonlyArray<TurnNotStored> | undefined

/** A stream in a session may end with a warning: HTTP wants that to be said before. */
export const announce = ({ headers }: RequestContext): void => {
  headers["trailer"] = header
}

/** Tells of the warnings of a whole answer, before it is sent. */
export const tell = ({ record: account, headers }: RequestContext, warnings: Warnings): void => {
  if (warnings === undefined) return
  account.warning = warnings.map(({ _tag }) => words[_tag]).join(", ")
  headers[header] = account.warning
}

/**
 * Tells of the warnings of a stream that `announce` was called for, before it ends; gives what is to be written besides.
 */
export const end = ({ record: account, response }: RequestContext, warnings: Warnings, contentType: string): string => {
  if (warnings === undefined) return ""
  account.warning = warnings.map(({ _tag }) => words[_tag]).join(", ")
  response.addTrailers({ [header]: account.warning })
  return contentType.startsWith("text/event-stream") ? `: ${header}: ${account.warning}\n\n` : ""
}

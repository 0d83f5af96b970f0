/** What goes wrong while something is downloaded, before it is an error of the model. */
import * as Data from "effect/Data"
import { type DownloadReason, ModelDownloadFailed } from "../Errors.js"

/** `passing`: it may go better a moment later. `after`: not before so many milliseconds. */
export class Trouble extends Data.TaggedError("Trouble")<{
  readonly reason: DownloadReason
  readonly detail: string
  readonly status?: number
  readonly passing: boolean
  readonly after?: number
}> {}

/** As the error of a model. */
export const failed = (model: string, { detail, reason, status }: Trouble): ModelDownloadFailed =>
  new ModelDownloadFailed({ model, reason, detail, ...(status === undefined ? {} : { status }) })

/** The longest pause that a server may ask for, in milliseconds: beyond it the user decides. */
export const longestPause = 600_000

/** How long a server asks to wait, in milliseconds: seconds, or a date. */
export const retryAfter = (value: string | undefined, now: number): number | undefined => {
  if (value === undefined) return undefined
  if (/^\d+$/.test(value.trim())) return Number(value) * 1000
  const date = Date.parse(value)
  return Number.isNaN(date) ? undefined : Math.max(0, date - now)
}

interface ErrorAnswer {
  readonly status: number
  /** `X-Error-Code` of the hub. */
  readonly code: string | undefined
  readonly after: number | undefined
  /** Whose answer it is. */
  readonly host: string
  /** Whether a token was sent. */
  readonly token: boolean
}

/** What the status of an answer means, other than that all is well. */
export const ofStatus = ({ after, code, host, status, token }: ErrorAnswer): Trouble => {
  const final = (reason: DownloadReason, detail: string) => new Trouble({ reason, detail, status, passing: false })
  const pause = after === undefined ? {} : { after }
  if (code === "GatedRepo") {
    return final("gated", "its owner wants the terms to be accepted on its page first, and then a token in HF_TOKEN")
  }
  switch (status) {
    case 401:
      return final(
        "unauthorized",
        token
          ? `${host} refuses the token in HF_TOKEN, or there is no such repository`
          : `there is no such repository on ${host}, or it needs a token: set HF_TOKEN`
      )
    case 403:
      return token
        ? final("unauthorized", `the token in HF_TOKEN may not read it on ${host}`)
        : final("refused", `${host} refuses it (403)`)
    case 404:
    case 410:
      return final("not-found", `${notFound[code ?? ""] ?? "it is not"} on ${host}`)
    case 429:
      return new Trouble({
        reason: "rate-limited",
        detail: `${host} answers that there are too many requests`,
        status,
        passing: true,
        ...pause
      })
    default:
      return status === 408 || status >= 500
        ? new Trouble({
            reason: "server-error",
            detail: `${host} answers with status ${status}`,
            status,
            passing: true,
            ...pause
          })
        : final("refused", `${host} answers with status ${status}`)
  }
}

const notFound: { readonly [code: string]: string } = {
  RepoNotFound: "there is no such repository",
  RevisionNotFound: "there is no such branch or revision",
  EntryNotFound: "there is no such file"
}

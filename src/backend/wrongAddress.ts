/** Responses that show a wrong server address: unknown paths, and redirects. */
import type { ServerFailure } from "../Backend.js"

/** How servers, frameworks and gateways say that they do not have a path, and nothing else. */
const noSuchPath = new RegExp(
  [
    String.raw`^(http )?(404:? ?)?((the )?(requested )?(page|file|route|path|url|endpoint|resource) )?(was )?not found\b[.!]?$`,
    "^404 page not found",
    String.raw`\bcannot (get|post|delete) /`,
    String.raw`\b(invalid|unknown|unrecognized|unexpected|no such) (request )?(url|route|path|page|endpoint)\b`,
    String.raw`\bno route (matched|found|for|exists)\b`,
    String.raw`\b(route|path|url|endpoint) \S+ (was )?not found`,
    String.raw`\bno static resource\b`
  ].join("|"),
  "i"
)

/** Whether a 404 is about the path, and not a model. `text`: the error text, if any. */
export const isWrongPath = (body: string, text: string | undefined): boolean =>
  /^\s*<(!doctype|html|head|body|\?xml)/i.test(body) ||
  (text === undefined ? !/model/i.test(body) : noSuchPath.test(text.trim()))

/** The redirect target without possible secrets; `undefined` if it is not an HTTP address. */
const targetOf = (url: string, location: string): URL | undefined => {
  try {
    const target = new URL(location, url)
    if (target.protocol !== "http:" && target.protocol !== "https:") return undefined
    for (const part of ["username", "password", "search", "hash"] as const) target[part] = ""
    return target
  } catch {
    return undefined
  }
}

/**
 * Describes a redirect, completing "the server …"; it is not followed. `address` is the server's, `url` the request's.
 */
export const redirect = (address: string, url: string, location: string | undefined): string => {
  const target = location === undefined ? undefined : targetOf(url, location)
  if (target === undefined) return "redirects without saying where to: check its address"
  const { href } = target
  const path = url.startsWith(address) ? url.slice(address.length) : ""
  return path !== "" && href.endsWith(path)
    ? `redirects to ${href.slice(0, 300)}: give ${href.slice(0, -path.length).slice(0, 300)} as its address`
    : `redirects to ${href.slice(0, 300)}: give that address, if it is a model server`
}

/** Rewords the failure of a status if the address is wrong: `url` is the request's. `text`: the error text, if any. */
export const explainWrongAddress = (
  failure: ServerFailure,
  failed: {
    readonly address: string
    readonly url: string
    readonly body: string
    readonly text: string | undefined
    readonly location: string | undefined
  }
): ServerFailure => {
  const { address, body, location, text, url } = failed
  const status = failure.status ?? 0
  if (status >= 300 && status < 400 && status !== 304) {
    return { reason: "malformed", message: redirect(address, url, location), status }
  }
  if (status !== 405 && !(status === 404 && isWrongPath(body, text))) return failure
  const detail = text === undefined ? "" : ` (${text})`
  return {
    reason: status === 405 ? failure.reason : "server-error",
    message: `the path is wrong: ${url} answered HTTP ${status}${detail}; check the server's address`,
    status
  }
}

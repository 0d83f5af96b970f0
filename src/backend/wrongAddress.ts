/** Responses and broken connections that show a wrong server address. */
import type { ServerFailure } from "../Backend.js"
import type { TransportFailure } from "../Transport.js"

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

/** How servers say that a request without TLS came to a port that speaks it. */
const wantsTls =
  /\bHTTP request was sent to HTTPS port\b|\bHTTP request to an HTTPS server\b|\bSSL-enabled server port\b/i

/** Of a server that rejects a request because it came without TLS, completing "the server …". */
export const expectsTls = "expects TLS: its address may begin with https://"

/** Of a port that something else than HTTP is spoken at, completing "the server …". */
export const notHttp = "does not speak HTTP: check its address"

/**
 * Said of a connection without TLS that was closed before an answer began. Many servers that expect TLS do just this, but
 * one that is restarting does it too, so it is tried again.
 */
export const mayExpectTls = "if the server expects TLS, its address begins with https://"

const decoder = new TextDecoder()

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
    return { reason: "malformed", message: redirect(address, url, location), status, lasting: true }
  }
  if (status === 400 && wantsTls.test(body)) return { reason: "tls", message: expectsTls, status, lasting: true }
  if (status !== 405 && !(status === 404 && isWrongPath(body, text))) return failure
  const detail = text === undefined ? "" : ` (${text})`
  return {
    reason: status === 405 ? failure.reason : "server-error",
    message: `the path is wrong: ${url} answered HTTP ${status}${detail}; check the server's address`,
    status,
    lasting: true
  }
}

/** Where an answer was expected, in place of an API. */
export const webPage: ServerFailure = {
  reason: "malformed",
  message: "answers with a web page, and not as a model server: check its address",
  lasting: true
}

/** Whether an answer of this type begins as a web page. */
export const isWebPage = (contentType: string | undefined, begins: Uint8Array): boolean =>
  contentType !== undefined && /\bhtml\b/i.test(contentType) && /^\s*</.test(decoder.decode(begins.subarray(0, 64)))

const noTls: ReadonlySet<string | undefined> = new Set([
  "ERR_SSL_WRONG_VERSION_NUMBER",
  "ERR_SSL_PACKET_LENGTH_TOO_LONG"
])

/** Marks and rewords the failure of a connection that shows that the address is wrong. A name may be resolved again. */
export const explainConnection = (failure: TransportFailure): ServerFailure => {
  const { code, message, proxy, reason } = failure
  if (noTls.has(code) && proxy === undefined) {
    return { ...failure, message: "speaks no TLS: its address may begin with http://", lasting: true }
  }
  if (code === "TLS_ALERT") return { ...failure, message: expectsTls, lasting: true }
  if (code === "NOT_HTTP") return { ...failure, message: notHttp, lasting: true }
  const isNameless = reason === "dns" && /ENOTFOUND|\bnot known\b/.test(`${code} ${message}`)
  return isNameless || reason === "tls" ? { ...failure, lasting: true } : failure
}

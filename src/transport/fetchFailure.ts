/**
 * What a failed `fetch` means. Runtimes say it in words of their own; a browser says nothing, so that a page cannot learn
 * of servers that it may not read.
 *
 * @internal
 */
import type { TransportFailure } from "../Transport.js"

/** The page that this runs in; `undefined` outside of browsers. */
const pageOrigin = (): string | undefined => {
  const { document, location } = globalThis as {
    readonly document?: unknown
    readonly location?: { readonly origin?: string }
    readonly WorkerGlobalScope?: unknown
  }
  const inBrowser = document !== undefined || "WorkerGlobalScope" in globalThis
  return inBrowser && !("Deno" in globalThis) && !("Bun" in globalThis) ? location?.origin : undefined
}

const isLoopback = ({ hostname }: URL): boolean =>
  hostname === "localhost" || hostname.endsWith(".localhost") || /^127\.|^\[::1\]$/.test(hostname)

/**
 * Why a browser may not have let a request through, and what to do about it. `page` is the origin of the page.
 *
 * @internal
 */
export const explainBlocked = (page: string, address: string): TransportFailure => {
  const url = new URL(address)
  if (page.startsWith("https:") && url.protocol === "http:" && !isLoopback(url)) {
    return {
      reason: "blocked",
      message:
        `the browser blocks it (mixed content): the page comes from ${page}, over https, and the server's address is ` +
        `${url.origin}, over http. Serve the page over http, or give the server https, as behind a reverse proxy`
    }
  }
  if (url.origin === page) {
    return { reason: "network", message: "the request failed, and the browser does not say why: is the server up?" }
  }
  return {
    reason: "blocked",
    message:
      "the request failed, and the browser does not say why: either the server cannot be reached at " +
      `${url.origin}, or it does not allow pages of ${page} (CORS). To allow them, start Ollama with ` +
      `OLLAMA_ORIGINS=${page}, or a gateway with \`aicortex serve --cors ${page}\``
  }
}

const kinds: ReadonlyArray<readonly [RegExp, TransportFailure["reason"]]> = [
  [/refused|ConnectionRefused|EHOSTUNREACH|ENETUNREACH/i, "refused"],
  [/ENOTFOUND|EAI_AGAIN|dns|resolve|lookup/i, "dns"],
  [/certificate|\btls\b|ssl|CERT_|SELF_SIGNED/i, "tls"],
  [/ETIMEDOUT|timed? ?out/i, "connect-timeout"],
  [/reset|closed|ECONN|EPIPE|broken pipe|unexpected eof|incomplete/i, "reset"]
]

/**
 * The failure that an error of `fetch`, or of reading its body, is.
 *
 * @internal
 */
export const failureOf = (error: unknown, address: string): TransportFailure => {
  const page = pageOrigin()
  if (page !== undefined && error instanceof TypeError) return explainBlocked(page, address)
  const { cause, code } = error as { readonly cause?: unknown; readonly code?: unknown }
  const inner = cause instanceof Error ? cause.message : ""
  const message = error instanceof Error ? error.message : String(error)
  const text = `${typeof code === "string" ? code : ""} ${message} ${inner}`
  const reason = kinds.find(([pattern]) => pattern.test(text))?.[1] ?? "network"
  return { reason, message, ...(typeof code === "string" ? { code } : {}) }
}

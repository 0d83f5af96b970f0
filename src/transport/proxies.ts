/**
 * Which requests go through which proxy.
 *
 * @internal
 */
import * as Redacted from "effect/Redacted"
import type { Proxy } from "../Settings.js"

const isLoopback = (host: string): boolean =>
  host === "localhost" || host.endsWith(".localhost") || /^127\.\d+\.\d+\.\d+$/.test(host) || host === "[::1]"

/** One entry of `NO_PROXY`: a host and its subdomains, optionally with a port; `*` is every host. */
const exempts = (entry: string, host: string, port: string): boolean => {
  if (entry === "*") return true
  const [, name = "", only] = /^(.*?)(?::(\d+))?$/.exec(entry.replace(/^\*?\./, "")) ?? []
  const bare = name.includes(":") && !name.startsWith("[") ? `[${entry}]` : name
  if (only !== undefined && bare === name && only !== port) return false
  return host === bare || host.endsWith(`.${bare}`)
}

/**
 * The proxy for an origin, with its password; `undefined` for a direct connection.
 *
 * @internal
 */
export const proxyOf = (proxy: Proxy, origin: string): string | undefined => {
  const { hostname: host, port: given, protocol } = new URL(origin)
  const secure = protocol === "https:"
  const address = secure ? proxy.https : proxy.http
  if (address === undefined || (isLoopback(host) && !proxy.loopback)) return undefined
  const port = given === "" ? (secure ? "443" : "80") : given
  const entries = proxy.no.toLowerCase().split(/[,\s]+/)
  return entries.some((entry) => entry !== "" && exempts(entry, host, port)) ? undefined : Redacted.value(address)
}

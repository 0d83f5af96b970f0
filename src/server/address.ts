/**
 * The addresses of servers.
 */
import * as Either from "effect/Either"

/**
 * The form of an address that identifies a server: a scheme (http unless given), no trailing slash, no query.
 * A wildcard address (`0.0.0.0`, as in `OLLAMA_HOST`) means this machine; without a scheme the port defaults to
 * Ollama's 11434.
 *
 * @since 0.1.0
 * @category constructors
 */
export const normalizeUrl = (input: string): Either.Either<URL, string> => {
  // Files of variables that no shell reads keep the quotes.
  const unquoted = input
    .trim()
    .replace(/^(["'])(.*)\1$/s, "$2")
    .trim()
  const trimmed = /^[0-9a-f]*:[0-9a-f.:]*:[0-9a-f.:]*$/i.test(unquoted) ? `[${unquoted}]` : unquoted
  if (/^\d+$/.test(trimmed)) return Either.left(`'${trimmed}' is only a number: a port alone is written :${trimmed}`)
  if (trimmed === "") return Either.left("an address is missing")
  const bare = !/^[a-z][a-z0-9+.-]*:\/\//i.test(trimmed)
  const withHost = bare && trimmed.startsWith(":") ? `127.0.0.1${trimmed}` : trimmed
  let url: URL
  try {
    url = new URL(bare ? `http://${withHost}` : withHost)
  } catch {
    return Either.left(`'${redactUserInfo(trimmed)}' is not an address such as http://gpu-1:11434`)
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    return Either.left(`'${redactUserInfo(trimmed)}' must begin with http:// or https://`)
  }
  if (url.hostname === "0.0.0.0") url.hostname = "127.0.0.1"
  if (url.hostname === "[::]") url.hostname = "[::1]"
  if (bare && url.port === "" && !/:\d+(\/|$)/.test(withHost)) url.port = "11434"
  if (url.search !== "" || url.hash !== "") {
    return Either.left(`'${redactUserInfo(trimmed)}' must not have a query or a fragment`)
  }
  return Either.right(url)
}

/**
 * An address as an error may show it: without what may be a name and a password.
 *
 * @since 0.1.0
 * @category accessors
 */
export const redactUserInfo = (address: string): string => address.replace(/^([a-z][a-z0-9+.-]*:\/\/)?.*@/is, "$1…@")

/** Whether the name of a host is this machine's own, which no other machine can reach. */
export const isLoopback = (host: string): boolean =>
  host === "localhost" || host === "::1" || host === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(host)

const version = /\/v\d[^/]*(\/|$)/i

/** Whether an address names the version of an API: `/v1`, `/v1beta/openai`. */
export const namesVersion = (url: string): boolean => {
  const path = url.indexOf("/", url.indexOf("//") + 2)
  return path !== -1 && version.test(url.slice(path))
}

/**
 * Under which address a server has its OpenAI API: its own, where that names a version (`https://host/v1`,
 * `https://host/v1beta/openai`), else `/v1` below it.
 *
 * @since 0.1.0
 * @category accessors
 */
export const openAIBase = (url: string): string => (namesVersion(url) ? url : `${url}/v1`)

/**
 * The labels of servers in metrics and spans.
 */
import type { Protocol } from "../Server.js"

/** Memoises by key. */
export const perKey = <K, A>(make: (key: K) => A): ((key: K) => A) => {
  const known = new Map<K, A>()
  return (key) => {
    let value = known.get(key)
    if (value === undefined) {
      value = make(key)
      known.set(key, value)
    }
    return value
  }
}

/**
 * A server without user information or path: its host, its port, and both.
 *
 * @since 0.1.0
 * @category models
 */
export interface Address {
  /** Its host. */
  readonly name: string
  /** Its port; `undefined` for the engine in this process. */
  readonly port: number | undefined
  /** Host and port. */
  readonly both: string
}

/**
 * What a server's address shows in telemetry.
 *
 * @since 0.1.0
 * @category accessors
 */
export const addressOf: (url: string) => Address = perKey((url) => {
  const { hostname, port, protocol } = new URL(url)
  // The engine in this process has no host.
  if (hostname === "") return { name: protocol.slice(0, -1), port: undefined, both: protocol.slice(0, -1) }
  const number = port === "" ? (protocol === "https:" ? 443 : 80) : Number(port)
  return { name: hostname, port: number, both: `${hostname}:${number}` }
})

/** The provider name of each protocol. Where the conventions have none, it is the program's own. */
export const providers: { readonly [P in Protocol]: string } = {
  ollama: "ollama",
  openai: "openai",
  anthropic: "anthropic",
  embedded: "llama_cpp"
}

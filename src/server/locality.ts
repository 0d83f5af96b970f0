/** Whether a server is here: where nothing leaves the machine, or what the user counts as it. */
import { isLoopback } from "./address.js"

const host = /^https?:\/\/(\[[^\]]*\]|[^/:]*)/i

const known = new WeakMap<object, boolean>()

/**
 * Whether a server is local: what its option `local` says, else whether its address is of this machine.
 *
 * @since 0.2.0
 * @category guards
 */
export const isLocal = (server: {
  /** Its address. */
  readonly url: string
  /** What it speaks; what is `embedded` is local. */
  readonly protocol: string | undefined
  /** What its option says. */
  readonly local?: boolean | undefined
}): boolean => {
  let answer = known.get(server)
  if (answer === undefined) {
    const { local, protocol, url } = server
    answer = local ?? (protocol === "embedded" || isLoopback(host.exec(url)?.[1]?.toLowerCase() ?? ""))
    known.set(server, answer)
  }
  return answer
}

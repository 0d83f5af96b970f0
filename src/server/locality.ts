/** Whether a server is here: where nothing leaves the machine, or what the user counts as it. */
import { isLoopback } from "./address.js"

/** The fields that decide whether a server is local. */
interface Located {
  readonly url: string
  readonly protocol: string | undefined
  readonly local?: boolean | undefined
}

const host = /^https?:\/\/(\[[^\]]*\]|[^/:]*)/i

const known = new WeakMap<Located, boolean>()

/**
 * Whether a server is local: what its option `local` says, else whether its address is of this machine.
 *
 * @since 0.2.0
 * @category guards
 */
export const isLocal = (server: Located): boolean => {
  let answer = known.get(server)
  if (answer === undefined) {
    const { local, protocol, url } = server
    answer = local ?? (protocol === "embedded" || isLoopback(host.exec(url)?.[1]?.toLowerCase() ?? ""))
    known.set(server, answer)
  }
  return answer
}

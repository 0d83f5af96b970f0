/** Whether a server is here: where nothing leaves the machine, or what the user counts as it. */
import { isLoopback } from "./address.js"

/** What tells of a server whether it is local. */
interface Located {
  readonly url: string
  readonly protocol: string | undefined
  readonly local?: boolean | undefined
}

const host = /^https?:\/\/(\[[^\]]*\]|[^/:]*)/i

/**
 * Whether a server is local: what its option `local` says, else whether its address is of this machine.
 *
 * @since 0.2.0
 * @category guards
 */
export const isLocal = ({ local, protocol, url }: Located): boolean =>
  local ?? (protocol === "embedded" || isLoopback(host.exec(url)?.[1]?.toLowerCase() ?? ""))

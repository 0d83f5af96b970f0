/** How a machine that sleeps is woken: by a magic packet with its hardware address (wake-on-LAN). */
import * as Either from "effect/Either"

/**
 * Where the magic packet for a server goes.
 *
 * @since 0.3.0
 * @category models
 */
export interface WakeTarget {
  /** The hardware address: six numbers in hexadecimal, separated by colons. */
  readonly mac: string
  /** The host that the packet is sent to: usually a broadcast address. */
  readonly host: string
  /** The port. */
  readonly port: number
}

/** Where packets go unless a user says otherwise. */
export const defaultAddress = "255.255.255.255:9"

const defaultPort = 9

const mac = (text: string): string | undefined => {
  const digits = text.trim().replace(/[:.-]/g, "").toLowerCase()
  if (!/^[0-9a-f]{12}$/.test(digits) || digits === "000000000000" || digits === "ffffffffffff") return undefined
  return (digits.match(/../g) ?? []).join(":")
}

const address = (text: string): Pick<WakeTarget, "host" | "port"> | undefined => {
  const [, host = "", port] = /^([a-z0-9][a-z0-9.-]*)(?::(\d{1,5}))?$/i.exec(text.trim()) ?? []
  const number = port === undefined ? defaultPort : Number(port)
  return host === "" || number < 1 || number > 65_535 ? undefined : { host, port: number }
}

/** What a user has said of it, or which of the two cannot be used. */
export const parse = (
  given: string,
  where: string = defaultAddress
): Either.Either<WakeTarget, { readonly field: "wake" | "wakeAddress"; readonly reason: string }> => {
  const hardware = mac(given)
  if (hardware === undefined) {
    return Either.left({ field: "wake", reason: "must be a hardware address such as 00:11:22:33:44:55" })
  }
  const target = address(where)
  return target === undefined
    ? Either.left({ field: "wakeAddress", reason: "must be an address and a port such as 192.168.1.255:9" })
    : Either.right({ mac: hardware, ...target })
}

/** The magic packet: six times 255, then the hardware address sixteen times. */
export const packetOf = ({ mac }: Pick<WakeTarget, "mac">): Uint8Array => {
  const hardware = mac.split(":").map((part) => Number.parseInt(part, 16))
  return Uint8Array.from([...Array<number>(6).fill(255), ...Array.from({ length: 16 }, () => hardware).flat()])
}

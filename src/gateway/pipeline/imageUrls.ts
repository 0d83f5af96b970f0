/** Which image URLs are passed on to servers that fetch them: by default none that points into a private network. */
import { BlockList, isIP } from "node:net"
import * as Message from "../../Message.js"
import * as ErrorResponse from "../http/errorResponse.js"

/** Loopback, private, link-local (cloud metadata), shared, and multicast or reserved ranges. */
const closed = new BlockList()
for (const [net, prefix] of [
  ["0.0.0.0", 8],
  ["10.0.0.0", 8],
  ["100.64.0.0", 10],
  ["127.0.0.0", 8],
  ["169.254.0.0", 16],
  ["172.16.0.0", 12],
  ["192.0.0.0", 24],
  ["192.168.0.0", 16],
  ["198.18.0.0", 15],
  ["224.0.0.0", 3]
] as const) {
  closed.addSubnet(net, prefix, "ipv4")
}
for (const [net, prefix] of [
  ["::", 128],
  ["::1", 128],
  ["64:ff9b::", 96],
  ["fc00::", 7],
  ["fe80::", 10],
  ["ff00::", 8]
] as const) {
  closed.addSubnet(net, prefix, "ipv6")
}

/** Host names that only resolve in private networks. */
const privateName = /^(?:[^.]+|.*\.(?:localhost|local|lan|home|internal|intranet|private|corp|home\.arpa))$/

/** Whether a URL points to the public internet, judged by its host alone: names are not resolved. */
export const isPublic = (url: URL): boolean => {
  // URL parsing normalises addresses: 0x7f.1 is 127.0.0.1 here.
  const host = url.hostname.replace(/^\[|\]$/g, "").replace(/\.$/, "")
  switch (isIP(host)) {
    case 4:
      return !closed.check(host, "ipv4")
    case 6:
      // IPv4 addresses embedded in IPv6 are checked as IPv4.
      return !closed.check(host, "ipv6")
    default:
      return !privateName.test(host)
  }
}

/** Rejects images that would be fetched from a private network. */
export const check = (messages: ReadonlyArray<Message.Message>): void => {
  for (const message of messages) {
    if (typeof message.content === "string") continue
    for (const image of Message.images(message)) {
      if (!("url" in image) || image.url.startsWith("data:")) continue
      let url: URL | undefined
      try {
        url = new URL(image.url)
      } catch {
        url = undefined
      }
      if (url !== undefined && /^https?:$/.test(url.protocol) && isPublic(url)) continue
      throw new ErrorResponse.RequestRejected(
        ErrorResponse.make(
          400,
          "An image's address must be one of the internet, over http or https; the gateway's operator may allow others with gateway.privateImages. Send the image itself instead.",
          "invalid_image_url"
        )
      )
    }
  }
}

/** The socket of multicast DNS (RFC 6762) in the local network. */
import * as Effect from "effect/Effect"
import type { MulticastDns } from "multicast-dns"
import { CommandFailed } from "../errors.js"

/** Where multicast DNS is spoken; default: on all interfaces. */
export interface SocketOptions {
  /** The address of this machine on the network. */
  readonly interface?: string | undefined
  /** The port; default 5353, which is that of multicast DNS. */
  readonly port?: number | undefined
}

/** A socket that listens, until the scope closes; `release` runs before. */
export const open = (
  options: SocketOptions,
  release: (socket: MulticastDns) => Effect.Effect<void> = () => Effect.void
) =>
  Effect.acquireRelease(
    Effect.flatMap(
      Effect.promise(() => import("multicast-dns")),
      ({ default: make }) =>
        Effect.async<MulticastDns, CommandFailed>((resume) => {
          const socket = make({
            // Bound to one address, it would not hear what is sent to all.
            bind: "0.0.0.0",
            ...(options.port === undefined ? {} : { port: options.port }),
            ...(options.interface === undefined ? {} : { interface: options.interface })
          })
          // Packets that are none, and interfaces that have no multicast.
          socket.on("warning", () => {})
          socket.once("ready", () => resume(Effect.succeed(socket)))
          socket.on("error", (error: Error) => {
            resume(Effect.fail(new CommandFailed({ message: `multicast DNS cannot be used here: ${error.message}` })))
          })
        })
    ),
    (socket) =>
      Effect.zipRight(
        release(socket),
        Effect.async<void>((resume) => socket.destroy(() => resume(Effect.void)))
      )
  )

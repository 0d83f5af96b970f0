/** Sends datagrams (UDP), to broadcast addresses too. */
import { createSocket } from "node:dgram"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Datagrams } from "../registry/wakeOnLan.js"

const send = (packet: Uint8Array, host: string, port: number): Effect.Effect<void, string> =>
  Effect.async((resume) => {
    const socket = createSocket("udp4")
    const done = (result: Effect.Effect<void, string>) => {
      socket.removeAllListeners("error")
      socket.on("error", () => {})
      socket.close()
      resume(result)
    }
    socket.once("error", (error) => done(Effect.fail(error.message)))
    socket.bind(0, () => {
      socket.setBroadcast(true)
      socket.send(packet, port, host, (error) => done(error === null ? Effect.void : Effect.fail(error.message)))
    })
  })

export const layer: Layer.Layer<never> = Layer.succeed(Datagrams, send)

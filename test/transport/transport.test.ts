import { once } from "node:events"
import { createServer, type Socket } from "node:net"
import { setTimeout as sleep } from "node:timers/promises"
import { Cortex, Transport } from "aicortex"
import * as Effect from "effect/Effect"
import { describe, expect, it } from "vitest"

const head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
const chunk = (text: string): string => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`
const end = "0\r\n\r\n"

/** What a handler is told by a server that answers each request with `answer`; `data` may throw. */
const reasonOf = async (
  answer: (socket: Socket) => unknown,
  data: (text: string, exchange: Transport.Exchange) => void = () => {}
): Promise<ReadonlyArray<string>> => {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on("error", () => {})
    socket.once("data", () => answer(socket))
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  const { port } = server.address() as { readonly port: number }
  const events: Array<string> = []
  const program = Effect.gen(function* () {
    const transport = yield* Transport.Transport
    yield* Effect.async<void>((resume) => {
      const done = () => resume(Effect.void)
      const exchange: Transport.Exchange = transport.send(
        { method: "POST", url: `http://127.0.0.1:${port}/`, headers: {}, body: "{}" },
        {
          connected: () => events.push("connected"),
          head: (status) => events.push(`head ${status}`),
          data: (bytes) => {
            const text = Buffer.from(bytes).toString()
            events.push(`data ${text}`)
            data(text, exchange)
          },
          end: () => {
            events.push("end")
            done()
          },
          error: ({ message }) => {
            events.push(`error ${message}`)
            done()
          }
        }
      )
      const timer = setTimeout(done, 5_000)
      return Effect.sync(() => clearTimeout(timer))
    }).pipe(Effect.timeoutOption(1_000))
  })
  try {
    await Effect.runPromise(Effect.provide(program, Cortex.layerTransport))
  } finally {
    for (const socket of sockets) socket.destroy()
    server.close()
  }
  return events
}

describe("the transport", () => {
  it("forwards each read at once, and the end after it", async () => {
    const all = await reasonOf((socket) => socket.write(head + chunk("a") + chunk("b") + chunk("c") + end))
    expect(all).toEqual(["connected", "head 200", "data abc", "end"])
  })

  it("forwards each read separately", async () => {
    const all = await reasonOf(async (socket) => {
      for (const part of [head, chunk("a") + chunk("b"), chunk("c"), end]) {
        socket.write(part)
        await sleep(50)
      }
    })
    expect(all).toEqual(["connected", "head 200", "data ab", "data c", "end"])
  })

  it("forwards data that arrived before a connection broke", async () => {
    const all = await reasonOf((socket) => socket.end(head + chunk("a") + chunk("b")))
    expect(all.slice(0, 3)).toEqual(["connected", "head 200", "data ab"])
    expect(all[3]).toMatch(/^error /)
    expect(all).toHaveLength(4)
  })

  it("emits nothing after an abort", async () => {
    const all = await reasonOf(
      async (socket) => {
        socket.write(head + chunk("a"))
        await sleep(50)
        socket.write(chunk("b") + end)
      },
      (_, exchange) => exchange.abort()
    )
    expect(all).toEqual(["connected", "head 200", "data a"])
  })

  it.each([
    ["in the middle", head + chunk("a")],
    ["with the end behind it", head + chunk("a") + end]
  ])("a handler that throws ends its own exchange, and nothing else (%s)", async (_, text) => {
    const all = await reasonOf(
      (socket) => socket.write(text),
      () => {
        throw new Error("a defect")
      }
    )
    expect(all).toEqual(["connected", "head 200", "data a", "error a defect"])
  })
})

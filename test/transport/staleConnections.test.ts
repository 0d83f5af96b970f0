import { once } from "node:events"
import { type AddressInfo, createServer, type Socket } from "node:net"
import { Cortex, Transport } from "aicortex"
import * as Effect from "effect/Effect"
import { describe, expect, it } from "vitest"
import { eventsOf, failure, model, textOf, useFleet } from "../support/fleet.js"
import { startGateway } from "../support/gateway.js"

const fleet = useFleet()

type Protocol = "ollama" | "openai"
type End = "fin" | "rst"

interface RawRequest {
  readonly path: string
  /** How many requests this connection had carried before. */
  readonly before: number
}

const json = (body: object): string => {
  const text = JSON.stringify(body)
  return `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(text)}\r\n\r\n${text}`
}
const stream = (type: string, parts: ReadonlyArray<string>): string =>
  `HTTP/1.1 200 OK\r\ncontent-type: ${type}\r\ntransfer-encoding: chunked\r\n\r\n${parts
    .map((part) => `${Buffer.byteLength(part).toString(16)}\r\n${part}\r\n`)
    .join("")}0\r\n\r\n`

const chunk = (delta: object, finish_reason: string | null) =>
  `data: ${JSON.stringify({ choices: [{ index: 0, delta, finish_reason }] })}\n\n`

const answers: { readonly [P in Protocol]: (path: string) => string } = {
  ollama: (path) => {
    if (path === "/api/tags") return json({ models: [{ name: model, model }] })
    if (path === "/api/ps") return json({ models: [] })
    if (path === "/api/embed") return json({ embeddings: [[1, 2]], prompt_eval_count: 1 })
    return stream("application/x-ndjson", [
      `${JSON.stringify({ model, message: { role: "assistant", content: "Hello" }, done: false })}\n`,
      `${JSON.stringify({ model, message: { role: "assistant", content: "" }, done: true, done_reason: "stop" })}\n`
    ])
  },
  openai: (path) => {
    if (path === "/v1/models") return json({ object: "list", data: [{ id: model, object: "model" }] })
    if (path === "/v1/embeddings") return json({ data: [{ index: 0, embedding: [1, 2] }] })
    return stream("text/event-stream", [chunk({ content: "Hello" }, null), chunk({}, "stop"), "data: [DONE]\n\n"])
  }
}

/**
 * A server that keeps connections open, and may close one instead of answering what arrives on it, as one does whose
 * time limit of idle connections ends at that moment. `meets` says how, and after which bytes of an answer.
 */
const startRaw = async (
  protocol: Protocol,
  meets: (request: RawRequest) => { readonly end: End; readonly after?: string } | undefined
) => {
  const requests: Array<RawRequest> = []
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on("error", () => {})
    socket.on("close", () => sockets.delete(socket))
    let buffer = ""
    let before = 0
    socket.setEncoding("latin1").on("data", (part: string) => {
      buffer += part
      for (;;) {
        const end = buffer.indexOf("\r\n\r\n")
        if (end === -1) return
        const length = Number(/content-length: (\d+)/i.exec(buffer.slice(0, end))?.[1] ?? 0)
        if (buffer.length < end + 4 + length) return
        const path = buffer.split(" ")[1] ?? ""
        buffer = buffer.slice(end + 4 + length)
        const one = { path, before: before++ }
        requests.push(one)
        const met = meets(one)
        if (met === undefined) socket.write(answers[protocol](path))
        else if (met.end === "fin") socket.end(met.after ?? "")
        else if (met.after === undefined) socket.resetAndDestroy()
        else socket.write(met.after, () => setTimeout(() => socket.resetAndDestroy(), 20))
      }
    })
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  const close = async () => {
    for (const socket of sockets) socket.destroy()
    server.close()
    await once(server, "close")
  }
  return fleet.keep({
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked: requests,
    work: () => requests.filter(({ path }) => /chat|embed/.test(path)),
    [Symbol.asyncDispose]: close
  })
}

/** A connection can be used again a moment after an answer has ended. */
const idle = () => new Promise<void>((resolve) => setImmediate(resolve))

const isWork = ({ path }: RawRequest): boolean => /chat|embed/.test(path)

/** Closes connections that are used again for work, so many times. */
const stale = (end: End, times = Number.POSITIVE_INFINITY) => {
  let left = times
  return (request: RawRequest) => (request.before > 0 && isWork(request) && left-- > 0 ? { end } : undefined)
}

describe.each(["ollama", "openai"] as const)("a connection that is closed as it is used again (%s)", (protocol) => {
  describe.each(["fin", "rst"] as const)("by %s", (end) => {
    it("does not affect a complete answer", async () => {
      const server = await startRaw(protocol, stale(end))
      const cortex = fleet.cortex([{ url: server.url, protocol }])
      await cortex.listServers()
      await idle()
      const result = await cortex.complete("Hi", { maxRetries: 1 })
      expect(result.text).toBe("Hello")
      expect(result.attempts).toEqual([])
      // Once on the connection of the list, and once on a fresh one.
      expect(server.work().map(({ before }) => before > 0)).toEqual([true, false])
    })

    it("does not affect a stream", async () => {
      const server = await startRaw(protocol, stale(end))
      const cortex = fleet.cortex([{ url: server.url, protocol }])
      await cortex.listServers()
      await idle()
      const events = await eventsOf(await cortex.chat("Hi", { stream: true, maxRetries: 1 }))
      expect(textOf(events)).toBe("Hello")
      expect(events.filter(({ type }) => type === "error")).toEqual([])
    })

    it("does not affect embeddings", async () => {
      const server = await startRaw(protocol, stale(end))
      const cortex = fleet.cortex([{ url: server.url, protocol }])
      await cortex.listServers()
      await idle()
      expect((await cortex.embed("Hi", { model })).embeddings).toEqual([[1, 2]])
      expect(server.work()).toHaveLength(2)
    })

    it.each([true, false])("does not affect a gateway's client (stream: %s)", async (streamed) => {
      const server = await startRaw(protocol, stale(end))
      const gateway = fleet.keep(await startGateway([{ url: server.url }]))
      await gateway.get("/v1/models")
      await idle()
      const messages = [{ role: "user", content: "Hi" }]
      const response = await gateway.post("/v1/chat/completions", { model, messages, stream: streamed })
      expect(response.status).toBe(200)
      expect(await response.text()).toContain("Hello")
      expect(server.work()).toHaveLength(2)
    })

    it("does not affect the list of models", async () => {
      const lists = protocol === "ollama" ? "/api/tags" : "/v1/models"
      const server = await startRaw(protocol, ({ before, path }) =>
        before > 0 && path === lists ? { end } : undefined
      )
      const cortex = fleet.cortex([{ url: server.url, protocol }], { discoveryTtl: 1 })
      await cortex.complete("Hi")
      await idle()
      await cortex.listServers()
      expect(server.asked.filter(({ path }) => path === lists).length).toBeGreaterThan(2)
      expect(await cortex.listServers()).toMatchObject([{ reachable: true }])
    })

    it("is a failure on a fresh connection", async () => {
      const server = await startRaw(protocol, (request) => (isWork(request) ? { end } : undefined))
      const cortex = fleet.cortex([{ url: server.url, protocol }])
      await cortex.listServers()
      await idle()
      const error = await failure(cortex.complete("Hi", { maxRetries: 1 }))
      expect(error.attempts).toMatchObject([{ reason: "reset", phase: "first-token" }])
      // Once more than the connection that was used again, and no oftener.
      expect(server.work().map(({ before }) => before > 0)).toEqual([true, false])
    })

    it("is a failure after a part of the answer", async () => {
      const server = await startRaw(protocol, (request) =>
        isWork(request) ? { end, after: "HTTP/1.1 200 OK\r\ncontent-" } : undefined
      )
      const cortex = fleet.cortex([{ url: server.url, protocol }])
      await cortex.listServers()
      await idle()
      const error = await failure(cortex.complete("Hi", { maxRetries: 1 }))
      expect(error.attempts).toHaveLength(1)
      expect(server.work()).toHaveLength(1)
    })
  })
})

/** What becomes of requests that are sent one after another, each when the one before is over. */
const sendAll = (url: string, count: number): Promise<ReadonlyArray<string>> =>
  Effect.runPromise(
    Effect.provide(
      Effect.gen(function* () {
        const transport = yield* Transport.Transport
        const one = Effect.async<string>((resume) => {
          transport.send(
            { method: "POST", url: `${url}/api/chat`, headers: {}, body: "{}" },
            {
              connected: () => {},
              head: () => {},
              data: () => {},
              end: () => resume(Effect.succeed("end")),
              error: ({ reason }) => resume(Effect.succeed(reason))
            }
          )
        })
        return yield* Effect.all(Array.from({ length: count }, () => Effect.zipLeft(one, Effect.promise(idle))))
      }),
      Cortex.layerTransport
    )
  )

describe("the transport", () => {
  it("does not resend what failed on a fresh connection", async () => {
    const server = await startRaw("ollama", () => ({ end: "rst" }))
    expect(await sendAll(server.url, 2)).toEqual(["reset", "reset"])
    expect(server.asked.map(({ before }) => before)).toEqual([0, 0])
  })

  it("reuses connections after one was closed", async () => {
    const server = await startRaw("ollama", stale("rst", 1))
    expect(await sendAll(server.url, 4)).toEqual(["end", "end", "end", "end"])
    expect(server.asked.map(({ before }) => before)).toEqual([0, 1, 0, 0, 1])
  })

  it("does not resend what the server had for a while before it closed the connection", async () => {
    let late: (() => void) | undefined
    const server = createServer((socket) => {
      socket.on("error", () => {})
      let requests = 0
      socket.on("data", () => {
        requests++
        if (requests === 1) socket.write(json({}))
        else late = () => socket.resetAndDestroy()
      })
    })
    server.listen(0, "127.0.0.1")
    await once(server, "listening")
    const real = performance.now.bind(performance)
    let ahead = 0
    performance.now = () => real() + ahead
    try {
      const done = sendAll(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, 2)
      while (late === undefined) await new Promise((resolve) => setTimeout(resolve, 5))
      ahead = 60_000
      late()
      expect(await done).toEqual(["end", "reset"])
    } finally {
      performance.now = real
      server.close()
    }
  })
})

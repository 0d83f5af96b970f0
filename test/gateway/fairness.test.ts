import { once } from "node:events"
import { connect, type Socket } from "node:net"
import type { Gateway } from "aicortex"
import { afterEach, describe, expect, it } from "vitest"
import { Holding, MemoryBudget } from "../../src/gateway/http/memoryBudget.js"
import { type FakeServer, startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { eventually, rawPost, startGateway } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"

const model = "m:1b"
const messages = [{ role: "user", content: "Hi" }]
const keep = useKeep()
const fakes = { ollama: startFakeOllama, openai: startFakeOpenAI }
const fake = async (protocol: keyof typeof fakes, options: Parameters<typeof startFakeOllama>[0] = {}) =>
  keep(await fakes[protocol]({ models: [model], reply: "Well.", ...options }))
const serve = async (
  servers: ReadonlyArray<FakeServer>,
  options: Gateway.Options = {},
  more: Parameters<typeof startGateway>[2] = {}
) =>
  keep(
    await startGateway(
      servers.map(({ url }) => url),
      options,
      more
    )
  )

const sockets: Array<Socket> = []
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy()
})
const open = async (port: number) => {
  const socket = connect(port, "127.0.0.1")
  socket.on("error", () => {})
  sockets.push(socket)
  await once(socket, "connect")
  return socket
}
const textOf = (socket: Socket) => {
  let text = ""
  socket.on("data", (part) => {
    text += part
  })
  return () => text
}
const head = (length: number, more = "") =>
  `POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: ${length}\r\n${more}\r\n`

describe("memory that clients share", () => {
  class ObservedHolding extends Holding {
    constructor(
      owner: string,
      private readonly tell: (part: Holding) => void
    ) {
      super(owner)
    }
    evict() {
      this.tell(this)
    }
  }
  const part = (owner: string, gone: Array<string>): Holding => new ObservedHolding(owner, () => gone.push(owner))

  it("is taken from the owner that holds most, its largest part first", () => {
    const pool = new MemoryBudget(100)
    const gone: Array<string> = []
    const [good, small, large] = [part("good", gone), part("bad", gone), part("bad", gone)]
    pool.resize(good, 30)
    pool.resize(small, 20)
    pool.resize(large, 40)
    pool.resize(good, 45)
    expect(gone).toEqual(["bad"])
    expect([good.bytes, small.bytes, large.bytes]).toEqual([45, 20, 0])
    pool.resize(part("late", gone), 35)
    expect(gone).toEqual(["bad"])
    pool.release(good)
    pool.resize(small, 65)
    expect(gone).toEqual(["bad"])
  })

  it("never exceeds the limit, and an owner with less than an equal share loses nothing", () => {
    const pool = new MemoryBudget(1_000)
    const held = new Map<Holding, number>()
    let seed = 1
    const random = (n: number) => {
      seed = (seed * 48_271) % 2_147_483_647
      return seed % n
    }
    for (let i = 0; i < 2_000; i++) {
      const total = (owner: string) =>
        [...held].filter(([one]) => one.owner === owner).reduce((sum, [one]) => sum + one.bytes, 0)
      const owner = `o${random(4)}`
      const one: Holding = new ObservedHolding(owner, (part) => {
        held.delete(part)
        expect(total(owner) + 400).toBeGreaterThan(250)
      })
      held.set(one, 0)
      pool.resize(one, random(400))
      const some = [...held.keys()][random(held.size + 1)]
      if (some !== undefined && random(3) === 0) {
        pool.release(some)
        held.delete(some)
      }
      expect([...held.keys()].reduce((sum, { bytes }) => sum + bytes, 0)).toBeLessThanOrEqual(1_000)
    }
  })
})

describe("incomplete bodies", () => {
  it("of one key do not block another", async () => {
    const gateway = await serve([await fake("ollama")], {
      keys: [
        { name: "bad", key: "sk-bad" },
        { name: "good", key: "sk-good" }
      ]
    })
    const half = Buffer.alloc(30 * 1024 * 1024, "a")
    const bad = await Promise.all(
      Array.from({ length: 20 }, async () => {
        const socket = await open(gateway.port)
        const text = textOf(socket)
        socket.write(head(31 * 1024 * 1024, "authorization: Bearer sk-bad\r\n"))
        socket.write(half)
        return text
      })
    )
    await eventually(() => bad.some((text) => text().startsWith("HTTP/1.1 503 ")), "one of them had to go")
    const answer = await gateway.post(
      "/v1/chat/completions",
      { model, messages: [{ role: "user", content: "x".repeat(1024 * 1024) }] },
      { headers: { authorization: "Bearer sk-good" } }
    )
    expect(answer.status).toBe(200)
  })

  it.each([
    ["nothing of it", ""],
    ["some of it", '{"model":']
  ])("are aborted when they stop arriving: %s", async (_, start) => {
    const gateway = await serve([await fake("ollama")], {}, { timeouts: { idleTimeout: 200 } })
    const socket = await open(gateway.port)
    const text = textOf(socket)
    socket.write(head(1_000) + start)
    await once(socket, "close")
    expect(text()).toMatch(/^HTTP\/1\.1 408 /)
    expect(text()).toMatch(/body stalled/)
  })

  it("may take their time as long as they arrive", async () => {
    const gateway = await serve([await fake("ollama")], {}, { timeouts: { idleTimeout: 3_000 } })
    const body = JSON.stringify({ model, messages })
    const socket = await open(gateway.port)
    const text = textOf(socket)
    const [first = "", rest = ""] = rawPost("/v1/chat/completions", body).split("\r\n\r\n")
    socket.write(`${first}\r\n\r\n`)
    for (let at = 0; at < rest.length; at += 4) {
      await new Promise((resolve) => setTimeout(resolve, 250))
      socket.write(rest.slice(at, at + 4))
    }
    await once(socket, "close")
    expect(text()).toMatch(/^HTTP\/1\.1 200 /)
  })
})

describe.each(["ollama", "openai"] as const)("a client that does not read, over an %s server", (protocol) => {
  const piece = "x".repeat(10_000)

  it("is disconnected after a while, and its upstream request is cancelled", async () => {
    const server = await fake(protocol, { reply: Array.from({ length: 5_000 }, () => piece) })
    const gateway = await serve([server], { timeout: 60_000 }, { timeouts: { idleTimeout: 500 } })
    const socket = await open(gateway.port)
    socket.pause()
    socket.write(rawPost("/v1/chat/completions", JSON.stringify({ model, messages, stream: true })))
    await server.waitForChats(1)
    const [request] = server.chatRequests
    expect(await request?.closedByClient).toBeDefined()
    expect(request?.finished).toBe(false)
  })

  it("releases the server's slot as soon as an answer of usual length is written", async () => {
    const server = await fake(protocol, { reply: Array.from({ length: 60 }, () => piece), perToken: "burst" })
    const gateway = await serve([server], { timeout: 60_000 })
    const socket = await open(gateway.port)
    socket.pause()
    socket.write(rawPost("/v1/chat/completions", JSON.stringify({ model, messages, stream: true })))
    await eventually(() => server.chatRequests[0]?.finished === true, "the server has written all of it")
    const text = textOf(socket)
    socket.resume()
    await once(socket, "close")
    expect(text()).toContain("data: [DONE]")
    expect(text().match(/x/g)?.length).toBeGreaterThanOrEqual(600_000)
  })

  it("that reads slowly, but reads, gets all of it", async () => {
    const server = await fake(protocol, { reply: Array.from({ length: 500 }, () => piece) })
    const gateway = await serve([server], { timeout: 60_000 }, { timeouts: { idleTimeout: 2_000 } })
    const socket = await open(gateway.port)
    let length = 0
    let tail = ""
    socket.on("data", (part) => {
      length += part.toString().match(/x/g)?.length ?? 0
      tail = (tail + part).slice(-100)
      socket.pause()
      setTimeout(() => socket.resume(), 2)
    })
    socket.write(rawPost("/v1/chat/completions", JSON.stringify({ model, messages, stream: true })))
    await once(socket, "close")
    expect(tail).toContain("data: [DONE]")
    expect(length).toBeGreaterThanOrEqual(5_000_000)
  })
})

it("an address that opens too many connections loses its newest", async () => {
  const gateway = await serve([await fake("ollama")], { maxConnections: 20 })
  const first = await open(gateway.port)
  const closed: Array<Promise<unknown>> = []
  for (let i = 0; i < 30; i++) {
    const socket = await open(gateway.port)
    closed.push(once(socket, "close"))
  }
  await Promise.all(closed.slice(-10))
  const text = textOf(first)
  first.write("GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
  await once(first, "close")
  expect(text()).toMatch(/^HTTP\/1\.1 200 /)
})

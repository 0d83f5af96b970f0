/** What one client cannot take from others: the event loop, and slots for requests whose clients are gone. */
import { once } from "node:events"
import { connect, type Socket } from "node:net"
import type { Gateway } from "aicortex"
import fc from "fast-check"
import { afterEach, describe, expect, it } from "vitest"
import { CostMeter, maxCost } from "../../src/gateway/http/bodyCost.js"
import { HeavyWork } from "../../src/gateway/http/heavyWork.js"
import { startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { eventually, startGateway } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"

const model = "m:1b"
const keep = useKeep()
const fakes = { ollama: startFakeOllama, openai: startFakeOpenAI }
const fake = async (protocol: keyof typeof fakes, options: Parameters<typeof startFakeOllama>[0] = {}) =>
  keep(await fakes[protocol]({ models: [model], reply: "Well.", ...options }))
const serve = async (urls: ReadonlyArray<string>, options: Gateway.Options = {}) =>
  keep(await startGateway(urls, options))

const sockets: Array<Socket> = []
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy()
})
const open = async (port: number) => {
  const socket = connect(port, "127.0.0.1")
  socket.on("error", () => {})
  sockets.push(socket)
  await once(socket, "connect")
  let text = ""
  socket.on("data", (part) => {
    text += part
  })
  return { socket, text: () => text }
}
const chat = (key = "sk") => {
  const body = JSON.stringify({ model, messages: [{ role: "user", content: "Hi" }] })
  return `POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ${key}\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`
}
const list = "GET /v1/models HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer wrong\r\n\r\n"

describe("pipelined requests", () => {
  it.each([
    ["chats", chat()],
    ["lists with a wrong key", list]
  ])("are answered in order if they are few: %s", async (_, request) => {
    const gateway = await serve([(await fake("ollama")).url], { keys: [{ name: "a", key: "sk" }] })
    const { socket, text } = await open(gateway.port)
    socket.write(request.repeat(10))
    await eventually(() => text().match(/HTTP\/1\.1 /g)?.length === 10, "all of them are answered")
    expect(socket.destroyed).toBe(false)
  })

  it.each([
    ["chats", chat()],
    ["chats with a wrong key", chat("wrong")],
    ["health", "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"]
  ])("close the connection if they are many: %s", async (_, request) => {
    const server = await fake("ollama", { faults: { kind: "hang" } })
    const gateway = await serve([server.url], { keys: [{ name: "a", key: "sk" }] })
    const { socket, text } = await open(gateway.port)
    // The first one is under way all the time.
    socket.write(chat())
    await server.waitForChats(1)
    socket.write(request.repeat(500))
    await eventually(() => socket.destroyed, "it is closed")
    expect(text()).toBe("")
    expect(server.chatRequests.length).toBeLessThanOrEqual(17)
    expect((await gateway.get("/health")).status).toBe(200)
  })

  it.each([
    ["chats over the limit", chat()],
    ["chats with a wrong key", chat("wrong")],
    ["lists with a wrong key", list],
    ["health", "GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"]
  ])("close the connection if they are many, even if each is answered at once: %s", async (_, request) => {
    const server = await fake("ollama")
    const gateway = await serve([server.url], { keys: [{ name: "a", key: "sk", requestsPerMinute: 1 }] })
    await gateway.post("/v1/chat/completions", {}, { headers: { authorization: "Bearer sk" } })
    const { socket, text } = await open(gateway.port)
    socket.write(request.repeat(500))
    await eventually(() => socket.destroyed, "it is closed")
    expect(text().match(/HTTP\/1\.1 /g)?.length ?? 0).toBeLessThan(100)
    expect(server.chatRequests).toEqual([])
  })

  it("sequential requests do not count as pipelined", async () => {
    const gateway = await serve([(await fake("ollama")).url])
    const { socket, text } = await open(gateway.port)
    for (let i = 1; i <= 100; i++) {
      socket.write("GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
      await eventually(() => text().match(/"status":"ok"/g)?.length === i, "it is answered")
    }
    expect(socket.destroyed).toBe(false)
  })

  it.each(["ollama", "openai"] as const)("release their slots when the connection closes (%s)", async (protocol) => {
    const server = await fake(protocol, { faults: [{ kind: "hang" }] })
    const gateway = await serve([server.url], { keys: [{ name: "a", key: "sk", concurrency: 4 }] })
    const { socket } = await open(gateway.port)
    socket.write(chat().repeat(4))
    await server.waitForChats(4)
    const headers = { authorization: "Bearer sk" }
    const ask = () =>
      gateway.post("/v1/chat/completions", { model, messages: [{ role: "user", content: "Hi" }] }, { headers })
    expect((await ask()).status).toBe(429)
    socket.destroy()
    await eventually(async () => {
      const answers = await Promise.all([ask(), ask(), ask(), ask()])
      return answers.every(({ status }) => status === 200)
    }, "all four places are free again")
  })
})

describe("CPU-heavy work", () => {
  const busy = (time: number) => {
    const began = performance.now()
    while (performance.now() - began < time);
    return [began, performance.now()] as const
  }

  it("runs one piece at a time, and yields three times as long after each", async () => {
    const work = new HeavyWork()
    let turns = 0
    const turn = () => {
      turns++
      if (turns < 1_000_000 && !over) setImmediate(turn)
    }
    let over = false
    setImmediate(turn)
    const pieces = await Promise.all(
      Array.from({ length: 4 }, () => work.run("a", () => ({ time: busy(10), turns: turns })))
    )
    over = true
    for (let i = 1; i < pieces.length; i++) {
      const [before, after] = [pieces[i - 1], pieces[i]]
      if (before === undefined || after === undefined) throw new Error("a piece is missing")
      expect(after.time[0] - before.time[1]).toBeGreaterThan(25)
      expect(after.turns).toBeGreaterThan(before.turns)
    }
  })

  it("alternates between owners, with any amount of waiting work", async () => {
    const work = new HeavyWork()
    const order: Array<string> = []
    const run = (owner: string, name: string) => work.run(owner, () => void order.push(name))
    const bad = Array.from({ length: 6 }, (_, i) => run("bad", `bad ${i}`))
    await Promise.all([...bad, run("good", "good 0"), run("good", "good 1"), run("other", "other 0")])
    expect(order.indexOf("good 0")).toBeLessThanOrEqual(2)
    expect(order.indexOf("other 0")).toBeLessThanOrEqual(3)
    expect(order.indexOf("good 1")).toBeLessThanOrEqual(5)
    expect(order.filter((name) => name.startsWith("bad"))).toEqual([0, 1, 2, 3, 4, 5].map((i) => `bad ${i}`))
  })

  it("reports failures, and continues", async () => {
    const work = new HeavyWork()
    const failed = work.run("a", () => {
      throw new Error("no")
    })
    const next = work.run("a", () => 1)
    await expect(failed).rejects.toThrow("no")
    expect(await next).toBe(1)
  })
})

describe("the amount of JSON in a body", () => {
  const cost = (parts: ReadonlyArray<Buffer>) => {
    const meter = new CostMeter()
    for (const part of parts) meter.add(part)
    return meter.cost
  }

  it("is the same for any chunks", () => {
    const piece = fc.constantFrom(
      '"',
      "\\",
      '\\"',
      "{",
      "[",
      ":",
      ",",
      "a",
      "é",
      `${"a".repeat(300)}\\"`,
      "x".repeat(600)
    )
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 60 }), fc.array(fc.nat(), { maxLength: 8 }), (pieces, cuts) => {
        const bytes = Buffer.from(pieces.join(""))
        const at = cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b)
        const parts = [0, ...at].map((start, i) => bytes.subarray(start, at[i] ?? bytes.length))
        expect(cost(parts)).toBe(cost([bytes]))
      }),
      { numRuns: 2_000 }
    )
  })

  it.each([
    ["{}", 8],
    ['{"a":1,"b":[2,"[{,:"]}', 8 + 3 + 1 + 3 + 8 + 1],
    ['"\\"[[[["', 0],
    ['"\\\\"[', 8]
  ])("%s", (text, expected) => {
    expect(cost([Buffer.from(text)])).toBe(expected)
    expect(cost([...Buffer.from(text)].map((byte) => Buffer.from([byte])))).toBe(expected)
  })

  it("is refused as soon as it exceeds the limit, before the whole body is there", async () => {
    const gateway = await serve([(await fake("ollama")).url])
    const { socket, text } = await open(gateway.port)
    socket.write(
      "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 30000000\r\n\r\n"
    )
    socket.write(`{"a":${"[".repeat(maxCost / 8)}`)
    await eventually(() => text().startsWith("HTTP/1.1 413 "), "it is refused")
    expect(text()).toContain(`more than ${maxCost} JSON values`)
  })
})

describe.each(["ollama", "openai"] as const)("a large body, over an %s server", (protocol) => {
  const content = 'é\\n"x" '.repeat(300_000)
  it.each(["/v1/chat/completions", "/api/chat"])("arrives unchanged, at once or in chunks: %s", async (path) => {
    const server = await fake(protocol)
    const gateway = await serve([server.url])
    const bytes = Buffer.from(JSON.stringify({ model, stream: false, messages: [{ role: "user", content }] }))
    expect(bytes.length).toBeGreaterThan(2 * 1024 * 1024)
    const chunks = new ReadableStream({
      start: (controller) => {
        for (let at = 0; at < bytes.length; at += 100_001) controller.enqueue(bytes.subarray(at, at + 100_001))
        controller.close()
      }
    })
    const init = { method: "POST", headers: { "content-type": "application/json" } }
    for (const body of [bytes, chunks]) {
      const response = await gateway.get(path, { ...init, body, duplex: "half" } as RequestInit)
      expect(response.status).toBe(200)
      expect(server.chatRequests.at(-1)?.body.messages.at(-1).content).toBe(content)
    }
  })

  it("that is not JSON, UTF-8 or an object is refused", async () => {
    const gateway = await serve([(await fake(protocol)).url])
    const large = Buffer.alloc(3 * 1024 * 1024, "a")
    const broken = Buffer.concat([Buffer.from('{"model":"'), large, Buffer.from([0xff]), Buffer.from('"}')])
    const text = Buffer.concat([Buffer.from('"'), large, Buffer.from('"')])
    for (const [body, message] of [
      [large, "not JSON"],
      [broken, "not valid UTF-8"],
      [text, "must be a JSON object"]
    ] as const) {
      const init = { method: "POST", headers: { "content-type": "application/json" }, body }
      const response = await gateway.get("/v1/chat/completions", init)
      expect(response.status).toBe(400)
      expect(await response.text()).toContain(message)
    }
  })
})

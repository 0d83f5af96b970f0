import { createSocket } from "node:dgram"
import { once } from "node:events"
import type { AddressInfo } from "node:net"
import { assert, describe, it } from "vitest"
import { createCortex } from "../../src/promise.js"
import type { ServerOptions } from "../../src/Server.js"
import { eventsOf, type Fake, failure, model, textOf, useFleet } from "../support/fleet.js"

const { cortex, keep, ollama, openai } = useFleet()

const mac = "00:11:22:aa:bb:cc"

/** A machine that can be woken: its server listens once a magic packet has come. */
const machine = async (server: Fake, wakes = true) => {
  const packets: Array<Buffer> = []
  const socket = createSocket("udp4")
  socket.on("message", (packet) => {
    packets.push(packet)
    if (packets.length === 1 && wakes) void server.restart()
  })
  socket.bind(0, "127.0.0.1")
  await once(socket, "listening")
  keep({ [Symbol.asyncDispose]: async () => void socket.close() })
  const { port } = socket.address() as AddressInfo
  const options: ServerOptions = { url: server.url, wake: mac, wakeAddress: `127.0.0.1:${port}` }
  return { packets, options }
}

/** One that sleeps. */
const asleep = async (server: Fake, wakes = true) => {
  const made = await machine(server, wakes)
  await server.stop()
  return made
}

describe("a server whose machine sleeps", () => {
  for (const [name, start] of [
    ["ollama", ollama],
    ["openai", openai]
  ] as const) {
    it(`is woken by the first call that needs it, complete (${name})`, async () => {
      const server = await start()
      const { options, packets } = await asleep(server)
      const answer = await cortex([options]).complete("hi")
      assert.strictEqual(answer.server, server.url)
      assert.lengthOf(server.chatRequests, 1)
      assert.lengthOf(packets, 1)
      const bytes = [...(packets[0] ?? [])]
      assert.deepStrictEqual(bytes.slice(0, 6), Array(6).fill(255))
      assert.deepStrictEqual(bytes.slice(6), Array(16).fill([0, 0x11, 0x22, 0xaa, 0xbb, 0xcc]).flat())
    })

    it(`is woken by the first call that needs it, streamed (${name})`, async () => {
      const server = await start({ reply: "I am awake." })
      const { options, packets } = await asleep(server)
      const events = await eventsOf(await cortex([options]).chat("hi", { stream: true }))
      assert.strictEqual(textOf(events), "I am awake.")
      assert.isFalse(events.some(({ type }) => type === "error"))
      assert.lengthOf(packets, 1)
    })
  }

  it("is woken for embeddings", async () => {
    const server = await ollama({ models: [{ name: model, capabilities: ["embedding"] }] })
    const { options, packets } = await asleep(server)
    const { embeddings } = await cortex([options]).embed("hi", { model })
    assert.lengthOf(embeddings, 1)
    assert.lengthOf(packets, 1)
  })

  it("several calls send one packet, and all get answers", async () => {
    const server = await ollama()
    const { options, packets } = await asleep(server)
    const fleet = cortex([options])
    const answers = await Promise.all(Array.from({ length: 12 }, () => fleet.complete("hi")))
    assert.isTrue(answers.every((answer) => answer.server === server.url))
    assert.lengthOf(packets, 1)
  })

  it("is woken if it fell asleep after it had answered", async () => {
    const server = await ollama()
    const other = await openai({ models: ["other:1b"] })
    const { options, packets } = await machine(server)
    const fleet = cortex([options, other])
    assert.strictEqual((await fleet.complete("hi")).server, server.url)
    await server.stop()
    // It is known not to have these.
    assert.strictEqual((await fleet.complete("hi", { model: "other:1b" })).server, other.url)
    assert.strictEqual((await failure(fleet.complete("hi", { model: "none:1b" })))._tag, "ModelNotFound")
    assert.lengthOf(packets, 0)
    assert.strictEqual((await fleet.complete("hi")).server, server.url)
    assert.lengthOf(packets, 1)
  })

  it("that wakes without the model: ModelNotFound lists its models", async () => {
    const server = await ollama({ models: ["else:1b"] })
    const { options, packets } = await asleep(server)
    const error = await failure(cortex([options]).complete("hi"))
    assert.strictEqual(error._tag, "ModelNotFound")
    assert.deepStrictEqual(error.available, ["else:1b"])
    assert.lengthOf(packets, 1)
  })

  it("that does not wake is a typed error within loadTimeout, complete and streamed", async () => {
    const server = await ollama()
    const { options, packets } = await asleep(server, false)
    const fleet = cortex([options])
    const limits = { loadTimeout: 400 }
    const stream = async () => eventsOf(await fleet.chat("hi", { stream: true, ...limits }))
    for (const call of [() => fleet.complete("hi", limits), stream, () => fleet.embed("hi", { model, ...limits })]) {
      const error = await failure(call())
      assert.strictEqual(error._tag, "AllServersFailed")
      const last = error.attempts.at(-1)
      assert.strictEqual(last.reason, "asleep")
      assert.strictEqual(last.server, server.url)
      assert.include(error.message, "was woken, and did not come within 0.4 s")
    }
    assert.isNotEmpty(packets)
  })

  it("an unsendable packet is an error at once", async () => {
    const server = await ollama()
    await server.stop()
    const fleet = cortex([{ url: server.url, wake: mac, wakeAddress: "no-such-host.invalid:9" }])
    const error = await failure(fleet.complete("hi"))
    assert.strictEqual(error.attempts.at(-1).reason, "asleep")
    assert.include(error.message, "could not be woken")
  })

  it.each([false, true])("is not woken if another server can answer (its list is known: %s)", async (known) => {
    const [server, other] = [await ollama(), await openai()]
    const { options, packets } = await machine(server)
    const fleet = cortex([
      { ...options, priority: 0 },
      { url: other.url, priority: 1 }
    ])
    if (known) assert.strictEqual((await fleet.complete("hi")).server, server.url)
    await server.stop()
    for (let i = 0; i < 3; i++) assert.strictEqual((await fleet.complete("hi")).server, other.url)
    assert.lengthOf(packets, 0)
    // The other one fails: now it is needed.
    await other.stop()
    assert.strictEqual((await fleet.complete("hi")).server, server.url)
    assert.lengthOf(packets, 1)
  })

  it("is never woken by a listing", async () => {
    const server = await ollama()
    const { options, packets } = await asleep(server)
    const fleet = cortex([options])
    const [status] = await fleet.listServers()
    assert.isFalse(status?.reachable)
    for await (const one of fleet.streamServers()) assert.isFalse(one.reachable)
    await fleet.models({ available: true })
    await fleet.listModelServers(model)
    await failure(fleet.bestServer("x:1b"))
    await failure(fleet.getLlmParams("x:1b"))
    await fleet.searchModels("m")
    await fleet.registrySources()
    assert.lengthOf(packets, 0)
  })

  it("without its MAC address it is never woken", async () => {
    const server = await ollama()
    const { packets } = await asleep(server)
    const error = await failure(cortex([server.url]).complete("hi", { maxRetries: 1 }))
    assert.strictEqual(error._tag, "AllServersFailed")
    assert.strictEqual(error.attempts[0].reason, "refused")
    assert.lengthOf(packets, 0)
  })

  it("an aborted call waits no longer, and no further packet is sent for it", async () => {
    const server = await ollama()
    const { options, packets } = await asleep(server, false)
    const fleet = cortex([options])
    const controller = new AbortController()
    const call = failure(fleet.complete("hi", { signal: controller.signal }))
    while (packets.length === 0) await new Promise((resolve) => setTimeout(resolve, 5))
    controller.abort()
    await call
    const error = await failure(fleet.complete("hi", { deadline: 100 }))
    assert.strictEqual(error._tag, "DeadlineExceeded")
  })

  it.each([
    [{ wake: "00:11:22:33:44" }, "servers.wake"],
    [{ wake: "zz:11:22:33:44:55" }, "servers.wake"],
    [{ wake: "ff:ff:ff:ff:ff:ff" }, "servers.wake"],
    [{ wake: mac, wakeAddress: "192.168.1.255:99999" }, "servers.wakeAddress"],
    [{ wake: mac, wakeAddress: "http://host" }, "servers.wakeAddress"],
    [{ wakeAddress: "192.168.1.255:9" }, "servers.wakeAddress"]
  ])("%j is refused", async (options, field) => {
    const fleet = keep(createCortex({ configFile: false, servers: [{ url: "http://127.0.0.1:9", ...options }] }))
    const error = await failure(fleet.listServers())
    assert.strictEqual(error._tag, "InvalidConfig")
    assert.strictEqual(error.field, field)
  })
})

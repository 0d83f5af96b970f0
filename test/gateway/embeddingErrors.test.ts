import { describe, expect, it } from "vitest"
import type { Fault } from "../support/fakeServer.js"
import { type Fake, failure, inOrder, useFleet } from "../support/fleet.js"
import { startGateway } from "../support/gateway.js"
import { unusedPort } from "../support/ports.js"
import type { Json } from "../support/script.js"

const fleet = useFleet()
const model = "embedder:1b"
const protocols = ["ollama", "openai"] as const

const start = (protocol: (typeof protocols)[number]): Promise<Fake> =>
  fleet[protocol]({ models: [{ name: model, capabilities: ["embedding"] }] })
const requestsOf = (server: Fake) => server.requests.filter(({ path }) => /embed/.test(path))
/** Only texts of this length befall it. */
const breaks = (server: Fake, fault: Fault, long = true) =>
  server.setBehaviour({
    faultOn: "all",
    faults: (_, body) =>
      body?.input === undefined || (long && JSON.stringify(body.input).length < 100) ? undefined : fault
  })

const long = "word ".repeat(200)
const words = "the input length exceeds the context length of this model (512 tokens)"
const nested = { error: { message: words, type: "invalid_request_error", code: "context_length_exceeded" } }

const tooLong: ReadonlyArray<readonly [name: string, fault: Fault]> = [
  ["400", { kind: "status", code: 400, body: { error: words } }],
  ["500", { kind: "status", code: 500, body: { error: words } }],
  ["500 with an object", { kind: "status", code: 500, body: nested }],
  ["413", { kind: "status", code: 413, body: nested }],
  ["an error within 200", { kind: "status", code: 200, body: nested }],
  ["a text within 200", { kind: "status", code: 200, body: { error: words } }]
]

describe.each(protocols)("texts that are too long to be embedded (%s)", (protocol) => {
  it.each(tooLong)("reported as %s: the caller gets the error, and the servers stay in use", async (_, fault) => {
    const servers = [await start(protocol), await start(protocol)] as const
    for (const server of servers) await breaks(server, fault)
    const cortex = fleet.cortex(inOrder(...servers))
    for (let i = 0; i < 3; i++) {
      const error = await failure(cortex.embed(long, { model, maxRetries: 4, retryBackoff: 1 }))
      expect(error).toMatchObject({ _tag: "InvalidRequest", code: "context_length_exceeded" })
      expect(error.message).toContain("exceeds the context length")
    }
    // Nobody rests for it: the first one still comes first.
    expect(await cortex.embed("short", { model })).toMatchObject({ server: servers[0].url, attempts: [] })
  })

  it.each(tooLong)("through the gateway, reported as %s: status 400", async (_, fault) => {
    const server = await start(protocol)
    await breaks(server, fault)
    const gateway = await startGateway([server.url])
    await using _gateway = gateway
    const response = await gateway.post("/v1/embeddings", { model, input: long })
    expect(response.status).toBe(400)
    expect(((await response.json()) as Json).error.code).toBe("context_length_exceeded")
    const short = await gateway.post("/v1/embeddings", { model, input: "short" })
    expect(short.status).toBe(200)
    await short.text()
  })

  it.each<[string, Fault]>([
    ["500", { kind: "status", code: 500, body: { error: "out of disk" } }],
    ["an error within 200", { kind: "status", code: 200, body: { error: { message: "out of disk" } } }]
  ])("control: another failure, reported as %s, is the server's", async (_, fault) => {
    const [bad, good] = [await start(protocol), await start(protocol)]
    await breaks(bad, fault)
    const answer = await fleet.cortex(inOrder(bad, good)).embed(long, { model })
    expect(answer).toMatchObject({ server: good.url, attempts: [{ server: bad.url }] })
    expect(requestsOf(good)).toHaveLength(1)
  })
})

describe.each(protocols)("callers who share an answer (%s)", (protocol) => {
  it("get the list of servers that could not be asked, too", async () => {
    const server = await fleet[protocol]({ reply: "one two three four", faults: () => ({ kind: "cut", after: 2 }) })
    const other = `http://127.0.0.1:${await unusedPort()}`
    const cortex = fleet.cortex([{ url: server.url }, { url: other }])
    const options = { cache: true, maxRetries: 1 } as const
    const errors = await Promise.all([1, 2, 3].map(() => failure(cortex.complete("Hi", options))))
    for (const error of errors) {
      expect(error).toMatchObject({
        _tag: "AllServersFailed",
        attempts: [{ server: server.url }],
        unreachable: [{ url: other }]
      })
    }
  })
})

describe.each(protocols)("a model that makes no embeddings (%s)", (protocol) => {
  it("is the request's fault, with the server's message, and no server rests for it", async () => {
    const cannot = { kind: "status", code: 501, body: { error: "This server does not support embeddings." } } as const
    const server = await start(protocol)
    await breaks(server, cannot, false)
    const gateway = await startGateway([server.url])
    await using _gateway = gateway
    const response = await gateway.post("/v1/embeddings", { model, input: "one" })
    const { error } = (await response.json()) as Json
    expect(response.status).toBe(400)
    expect(error.message).toBe(`'${model}': This server does not support embeddings.`)
    const native = await gateway.post("/api/embed", { model, input: "one" })
    expect(native.status).toBe(400)
    expect(((await native.json()) as Json).error).toContain("does not support embeddings")
    await server.setBehaviour({ faults: undefined })
    expect((await gateway.post("/v1/embeddings", { model, input: "one" })).status).toBe(200)
  })

  it("control: if another server's version can, that one is asked", async () => {
    const [first, second] = [await start(protocol), await start(protocol)]
    await breaks(first, { kind: "status", code: 501 }, false)
    const answer = await fleet.cortex(inOrder(first, second)).embed("one", { model })
    expect(answer).toMatchObject({ server: second.url, attempts: [{ reason: "unsupported", status: 501 }] })
  })
})

import { createHash, randomBytes } from "node:crypto"
import { once } from "node:events"
import { request } from "node:http"
import { Ollama } from "ollama"
import { describe, expect, it } from "vitest"
import { startBlobServer } from "../support/blobServer.js"
import { startFakeOpenAI } from "../support/fakeServer.js"
import { startGateway, type TestGateway } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"

const keep = useKeep()
type Arguments = Parameters<typeof startGateway>
const serve = async (
  servers: ReadonlyArray<{ readonly url: string }>,
  gateway?: Arguments[1],
  options?: Arguments[2]
) =>
  keep(
    await startGateway(
      servers.map(({ url }) => url),
      gateway,
      options
    )
  )
const blobServer = async (options?: Parameters<typeof startBlobServer>[0]) => keep(await startBlobServer(options))

const digestOf = (bytes: Uint8Array) => `sha256:${createHash("sha256").update(bytes).digest("hex")}`
const file = randomBytes(100_000)
const digest = digestOf(file)
const send = (gateway: TestGateway, path: string, bytes: Uint8Array = file, headers: Record<string, string> = {}) =>
  fetch(`${gateway.url}${path}`, { method: "POST", body: bytes as Uint8Array<ArrayBuffer>, headers })
const statusAndError = async (response: Response) => [
  response.status,
  ((await response.json()) as { error: string }).error
]

describe("model files", () => {
  it("are uploaded to the only server, where a model is created from them", async () => {
    const server = await blobServer()
    const other = keep(await startFakeOpenAI({ models: ["gpt-x"] }))
    const gateway = await serve([other, server])
    const path = `/api/blobs/${digest}`
    expect((await gateway.get(path, { method: "HEAD" })).status).toBe(404)
    const sent = await send(gateway, path)
    expect([sent.status, await sent.text(), sent.headers.get("x-aicortex-server")]).toEqual([201, "", "server-2"])
    expect(server.headers()).toMatchObject({
      "content-type": "application/octet-stream",
      "content-length": String(file.length)
    })
    const there = await gateway.get(path, { method: "HEAD" })
    expect([there.status, there.headers.get("x-aicortex-server")]).toEqual([200, "server-2"])
    expect((await send(gateway, path)).status).toBe(200)
    const client = new Ollama({ host: gateway.url })
    const parameters = { model: "mine", files: { "a.gguf": digest }, template: "{{ .Prompt }}", system: "Be brief." }
    expect(await client.create(parameters)).toEqual({ status: "success" })
    const statuses: Array<string> = []
    for await (const { status } of await client.create({ ...parameters, stream: true })) statuses.push(status)
    expect(statuses).toEqual(["writing manifest", "success"])
    expect(server.created).toEqual(Array(2).fill({ ...parameters, stream: true }))
    const unknown = { model: "mine", files: { "a.gguf": digestOf(randomBytes(8)) } }
    await expect(client.create(unknown)).rejects.toThrow("file does not exist")
  })

  it.each([
    ["as a query", "?server=server-2", {}],
    ["as a header", "", { "x-aicortex-target": "server-2" }]
  ] as const)("are uploaded to the named server, %s", async (_, query, headers) => {
    const servers = [await blobServer(), await blobServer()] as const
    const gateway = await serve(servers)
    const path = `/api/blobs/${digest}${query}`
    expect((await send(gateway, path, file, headers)).status).toBe(201)
    expect((await gateway.get(path, { method: "HEAD", headers })).status).toBe(200)
    expect((await gateway.get(`/api/blobs/${digest}?server=server-1`, { method: "HEAD" })).status).toBe(404)
    expect([servers[0].files.size, servers[1].files.size]).toEqual([0, 1])
    const client = new Ollama({ host: gateway.url, headers: { "x-aicortex-target": "server-2" } })
    const parameters = { model: "mine", files: { "a.gguf": digest } }
    expect(await client.create(parameters)).toEqual({ status: "success" })
    expect([servers[0].created.length, servers[1].created.length]).toEqual([0, 1])
  })

  it.each([
    ["none is named", "", 400, "server-1, server-2"],
    ["all are", "?server=all", 400, "server-1, server-2"],
    ["there is none of that name", "?server=server-7", 404, "server-7"]
  ] as const)("are not uploaded if %s", async (_, query, status, words) => {
    const servers = [await blobServer(), await blobServer()]
    const gateway = await serve(servers)
    expect(await statusAndError(await send(gateway, `/api/blobs/${digest}${query}`))).toEqual([
      status,
      expect.stringContaining(words)
    ])
    expect((await gateway.get(`/api/blobs/${digest}${query}`, { method: "HEAD" })).status).toBe(status)
    for (const parts of [{ files: { a: digest } }, { from: "base", adapters: { a: digest } }]) {
      const created = await gateway.post(`/api/create${query === "?server=all" ? "" : query}`, { model: "m", ...parts })
      expect(await statusAndError(created)).toEqual([status, expect.stringContaining(words)])
    }
    for (const { requests } of servers) expect(requests).toEqual([])
  })

  it.each(["sha256:00", "md5:abc", `sha256:${"g".repeat(64)}`, `sha256:${"0".repeat(64)}/x`])(
    "are named by their digest, and %s is none",
    async (wrong) => {
      const server = await blobServer()
      const gateway = await serve([server])
      expect(await statusAndError(await send(gateway, `/api/blobs/${wrong}`))).toEqual([400, "invalid digest format"])
      expect((await gateway.get(`/api/blobs/${wrong}`, { method: "HEAD" })).status).toBe(400)
      expect(server.requests).toEqual([])
    }
  )

  it("return the server's own errors, and none of an unreachable server", async () => {
    const server = await blobServer()
    const gateway = await serve([server])
    const other = `sha256:${"0".repeat(64)}`
    expect(await statusAndError(await send(gateway, `/api/blobs/${other}`))).toEqual([
      400,
      expect.stringContaining("mismatch")
    ])
    const broken = await serve([
      await blobServer({ answer: (request) => request.once("data", () => request.destroy()) })
    ])
    expect((await send(broken, `/api/blobs/${digest}`)).status).toBe(502)
    expect((await broken.get(`/api/blobs/${digest}`)).status).toBe(405)
    const none = await serve([keep(await startFakeOpenAI({ models: ["gpt-x"] }))])
    expect(await statusAndError(await send(none, `/api/blobs/${digest}`))).toEqual([
      503,
      expect.stringMatching(/Ollama/)
    ])
  })

  it("need an administrator, and count like other requests", async () => {
    const server = await blobServer()
    const gateway = await serve([server], {
      keys: [
        { name: "user", key: "sk-user" },
        { name: "admin", key: "sk-admin", admin: true, requestsPerMinute: 2 }
      ]
    })
    const path = `/api/blobs/${digest}`
    const as = (key: string) => ({ authorization: `Bearer sk-${key}` })
    expect((await send(gateway, path)).status).toBe(401)
    expect((await send(gateway, path, file, as("user"))).status).toBe(403)
    expect((await gateway.get(path, { method: "HEAD", headers: as("user") })).status).toBe(403)
    expect(server.requests).toEqual([])
    expect((await gateway.get(path, { method: "HEAD", headers: as("admin") })).status).toBe(404)
    expect((await send(gateway, path, file, as("admin"))).status).toBe(201)
    expect((await send(gateway, path, file, as("admin"))).status).toBe(429)
    expect(server.requests).toHaveLength(2)
  })
})

/** Sends a file piece by piece; `piece` is called before each. */
const upload = async (
  gateway: TestGateway,
  bytes: Buffer,
  size: number,
  piece: (sent: number) => Promise<unknown> | unknown
) => {
  const sending = request(`${gateway.url}/api/blobs/${digestOf(bytes)}`, { method: "POST" })
  const answered = once(sending, "response").then(([response]) => {
    response.resume()
    return response.statusCode as number
  })
  answered.catch(() => {})
  for (let sent = 0; sent < bytes.length; sent += size) {
    await piece(sent)
    if (!sending.write(bytes.subarray(sent, sent + size))) await once(sending, "drain")
  }
  sending.end()
  return answered
}

describe("files of any length", () => {
  it("are streamed, without a limit on bodies", async () => {
    const server = await blobServer({ read: () => new Promise((resolve) => setImmediate(resolve)) })
    const gateway = await serve([server], { maxBody: 1_000 })
    const bytes = Buffer.alloc(96 * 1024 * 1024, "aicortex")
    let most = 0
    const status = await upload(gateway, bytes, 64 * 1024, (sent) => {
      most = Math.max(most, sent - server.received())
      // Lets everybody have a turn: all of them are in this process.
      return new Promise((resolve) => setImmediate(resolve))
    })
    expect([status, server.received()]).toEqual([201, bytes.length])
    // What the sockets and streams between the two hold.
    expect(most).toBeLessThan(24 * 1024 * 1024)
  })

  it("wait for a slow disk", async () => {
    let go = () => {}
    const waits = new Promise<void>((resolve) => {
      go = resolve
    })
    const server = await blobServer({ read: () => waits })
    const gateway = await serve([server], {}, { timeouts: { idleTimeout: 100 } })
    const bytes = Buffer.alloc(64 * 1024 * 1024)
    let most = 0
    const sent = upload(gateway, bytes, 1024 * 1024, (at) => {
      most = at
    })
    // Nothing more is taken, for longer than a client may be silent.
    for (let before = -1; before !== most || most === 0; ) {
      before = most
      await new Promise((resolve) => setTimeout(resolve, 500))
    }
    expect(most).toBeLessThan(bytes.length - 1024 * 1024)
    go()
    expect(await sent).toBe(201)
  })

  it("may take longer than other requests, as long as data arrives", async () => {
    const server = await blobServer()
    const timeouts = { headersTimeout: 200, requestTimeout: 200, idleTimeout: 5_000 }
    const gateway = await serve([server], {}, { timeouts: timeouts })
    const bytes = randomBytes(12_000)
    const began = performance.now()
    const status = await upload(gateway, bytes, 1_000, () => new Promise((resolve) => setTimeout(resolve, 100)))
    expect([status, performance.now() - began > 1_000]).toEqual([201, true])
    // Others may not.
    const late = request(`${gateway.url}/api/show`, { method: "POST", headers: { "content-length": "100" } })
    late.on("error", () => {})
    late.write("{")
    const [response] = await once(late, "response")
    response.resume()
    expect(response.statusCode).toBe(408)
    late.destroy()
  })

  it("are aborted when they stop arriving", async () => {
    const server = await blobServer()
    const gateway = await serve([server], {}, { timeouts: { idleTimeout: 200 } })
    const sending = request(`${gateway.url}/api/blobs/${digest}`, { method: "POST" })
    sending.on("error", () => {})
    sending.write(file.subarray(0, 1_000))
    const [response] = await once(sending, "response")
    response.resume()
    expect(response.statusCode).toBe(408)
    await server.aborted
    sending.destroy()
  })

  it("are cancelled when the client disconnects", async () => {
    const server = await blobServer()
    const gateway = await serve([server])
    const sending = request(`${gateway.url}/api/blobs/${digest}`, { method: "POST" })
    sending.on("error", () => {})
    sending.write(file.subarray(0, 1_000))
    while (server.received() === 0) await new Promise((resolve) => setImmediate(resolve))
    sending.destroy()
    await server.aborted
    expect(server.files.size).toBe(0)
    expect((await send(gateway, `/api/blobs/${digest}`)).status).toBe(201)
  })

  it("are accepted with Expect: 100-continue", async () => {
    const server = await blobServer()
    const gateway = await serve([server], { maxBody: 1_000 })
    const headers = { expect: "100-continue", "content-length": file.length }
    const sending = request(`${gateway.url}/api/blobs/${digest}`, { method: "POST", headers })
    await once(sending, "continue")
    sending.end(file)
    const [response] = await once(sending, "response")
    response.resume()
    expect(response.statusCode).toBe(201)
  })

  it("end early if the server already has them", async () => {
    const server = await blobServer()
    server.files.add(digest)
    const gateway = await serve([server])
    const sending = request(`${gateway.url}/api/blobs/${digest}`, { method: "POST" })
    sending.on("error", () => {})
    sending.write(file.subarray(0, 1_000))
    const [response] = await once(sending, "response")
    response.resume()
    expect([response.statusCode, response.headers.connection]).toEqual([200, "close"])
    sending.destroy()
  })
})

import { createServer, type OutgoingHttpHeaders } from "node:http"
import type { AddressInfo } from "node:net"
import { Ollama } from "ollama"
import { describe, expect, it } from "vitest"
import { model, useFleet } from "../support/fleet.js"
import { startGateway } from "../support/gateway.js"

const { keep, ollama, openai } = useFleet()
const serve = async (servers: ReadonlyArray<{ readonly url: string }>, options = {}) =>
  keep(
    await startGateway(
      servers.map(({ url }) => url),
      options
    )
  )
const errorOf = async (response: Response) => [response.status, ((await response.json()) as { error: string }).error]

describe("loaded models", () => {
  it.each(["ollama", "openai"] as const)("is an error if no server answers (%s)", async (kind) => {
    const servers = [await (kind === "ollama" ? ollama() : openai()), await ollama()]
    for (const server of servers) await server.stop()
    const gateway = await serve(servers)
    const answer = await gateway.get("/api/ps")
    expect([answer.status, answer.headers.get("x-aicortex-unreachable"), answer.headers.get("retry-after")]).toEqual([
      503,
      "2",
      "5"
    ])
    expect(await answer.text()).toContain("No server could be reached")
    await expect(new Ollama({ host: gateway.url }).ps()).rejects.toMatchObject({
      status_code: 503,
      error: expect.stringContaining("server-1 (refused the connection), server-2 (refused the connection)")
    })
  })

  it("is an error if the servers were there a moment ago", async () => {
    const servers = [await ollama({ loaded: [model] }), await ollama({ loaded: [model] })] as const
    const gateway = await serve(servers)
    const client = new Ollama({ host: gateway.url })
    expect((await client.ps()).models.map(({ name }) => name)).toEqual([model, model])
    await servers[0].stop()
    const some = await gateway.get("/api/ps")
    expect([some.status, some.headers.get("x-aicortex-unreachable")]).toEqual([200, "1"])
    expect(await some.json()).toMatchObject({ models: [{ name: model, server: "server-2" }] })
    await servers[1].stop()
    await expect(client.ps()).rejects.toMatchObject({ status_code: 503 })
  })

  it("is empty if none is loaded", async () => {
    for (const servers of [[await ollama()], [await openai()], [await openai(), await ollama()], []]) {
      const answer = await (await serve(servers)).get("/api/ps")
      expect([answer.status, answer.headers.get("x-aicortex-unreachable"), await answer.json()]).toEqual([
        200,
        null,
        { models: [] }
      ])
    }
  })
})

describe("a template in the request", () => {
  const template = "{{ .System }}|{{ .Prompt }}|<|im_start|>assistant\n"
  const words = ["one", " two", " three", " four"]
  // The client writes into what it is given.
  const body = { model, prompt: "Count.", system: "Be brief.", template }

  it("is sent to Ollama servers unchanged", async () => {
    const servers = [await ollama({ reply: words }), await openai({ reply: ["no"] })] as const
    const gateway = await serve(servers)
    const client = new Ollama({ host: gateway.url })
    for (let i = 0; i < 6; i++) expect((await client.generate({ ...body })).response).toBe(words.join(""))
    let text = ""
    for await (const { response } of await client.generate({ ...body, stream: true })) text += response
    expect(text).toBe(words.join(""))
    expect(servers[1].chatRequests).toEqual([])
    for (const { body: sent, path } of servers[0].chatRequests) {
      expect(path).toBe("/api/generate")
      expect(sent).toMatchObject({ ...body, stream: true })
      expect(sent).not.toHaveProperty("messages")
      expect(sent).not.toHaveProperty("raw")
    }
  })

  it.each([
    [{ format: "json" }, { format: "json" }],
    [{ think: false }, { think: false }],
    [{ images: ["iVBORw0KGgo="] }, { images: ["iVBORw0KGgo="] }],
    [{ options: { num_predict: 3, top_k: 7 }, keep_alive: "7m" }, { options: { num_predict: 3, top_k: 7 } }],
    [{ suffix: "end", system: undefined }, { suffix: "end" }]
  ])("works with %j", async (given, sent) => {
    const server = await ollama({
      reply: '{"a":1}',
      models: [{ name: model, capabilities: ["completion", "vision", "thinking", "insert"] }]
    })
    const gateway = await serve([server])
    const response = await gateway.post("/api/generate", { ...body, ...given, stream: false })
    expect([response.status, server.chatRequests.at(-1)?.body]).toMatchObject([
      200,
      { ...sent, template, prompt: body.prompt }
    ])
  })

  it("is refused with a reason if only other servers have the model, without a request", async () => {
    const servers = [await openai(), await openai({ flavour: "llamacpp" })]
    const gateway = await serve(servers)
    for (const stream of [true, false]) {
      const refused = await errorOf(await gateway.post("/api/generate", { ...body, stream }))
      expect(refused).toEqual([400, expect.stringMatching(/template.*OpenAI API/)])
    }
    for (const { chatRequests } of servers) expect(chatRequests).toEqual([])
    const alone = await errorOf(await gateway.post("/api/generate", { ...body, session: "s" }))
    expect(alone).toEqual([400, expect.stringContaining("'template'")])
    const context = await errorOf(await gateway.post("/api/generate", { ...body, context: [1] }))
    expect(context).toEqual([400, expect.stringContaining("'context'")])
    // Without one, they answer.
    expect((await gateway.post("/api/generate", { ...body, template: "", stream: false })).status).toBe(200)
  })

  it.each([true, false])(
    "is kept when another server goes on with the answer (shows its prompt: %s)",
    async (debugRender) => {
      const servers = [
        await ollama({ reply: words, faults: { kind: "cut", after: 2 } }),
        await ollama({ reply: words, debugRender })
      ] as const
      const gateway = keep(
        await startGateway(
          servers.map(({ url }, priority) => ({ url, priority })),
          {}
        )
      )
      // Who has been listed is asked in its order.
      await gateway.get("/v1/models")
      const lines = (await (await gateway.post("/api/generate", body)).text()).trimEnd().split("\n")
      const items = lines.map((line) => JSON.parse(line))
      expect(items.map(({ response }) => response).join("")).toBe(words.join(""))
      expect(items.at(-1)).toMatchObject({ done: true, done_reason: "stop" })
      const sent = servers[1].chatRequests.map(({ body, path }) => [path, body.template, body.raw === true])
      expect(sent[0]).toEqual(["/api/generate", template, false])
      expect(sent[1]).toEqual(["/api/generate", debugRender ? undefined : template, debugRender])
      if (debugRender)
        expect(servers[1].chatRequests[1]?.body.prompt).toBe("Be brief.|Count.|<|im_start|>assistant\none two")
    }
  )
})

describe("changes of models on a server whose address is wrong", () => {
  /** Has a model, and answers everything else like this. */
  const misaddressed = async (status: number, headers: (path: string) => OutgoingHttpHeaders, text: string) => {
    const server = createServer((request, response) => {
      const path = request.url ?? ""
      request.resume()
      if (path === "/api/tags") response.end(JSON.stringify({ models: [{ name: model, model }] }))
      else if (path === "/api/version") response.end(JSON.stringify({ version: "0.33.0" }))
      else response.writeHead(status, headers(path)).end(text)
    })
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
    keep({
      [Symbol.asyncDispose]: async () => {
        server.closeAllConnections()
        await new Promise((resolve) => server.close(resolve))
      }
    })
    return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
  }

  const changes: ReadonlyArray<readonly [method: string, path: string, body: object]> = [
    ["POST", "/api/pull", { model, stream: false }],
    ["POST", "/api/create", { model: "mine", from: model, stream: false }],
    ["POST", "/api/push", { model, stream: false }],
    ["POST", "/api/copy", { source: model, destination: "mine" }],
    ["DELETE", "/api/delete", { model }]
  ]

  it.each(changes)("%s %s: the error names the redirect's target", async (method, path, body) => {
    const server = await misaddressed(308, (to) => ({ location: `https://models.example${to}` }), "")
    const shown = await serve([server], { exposeServers: true })
    const init = { method, body: JSON.stringify(body) }
    expect(await errorOf(await shown.get(path, init))).toEqual([
      502,
      `redirects to https://models.example${path}: give https://models.example as its address`
    ])
    const hidden = await errorOf(await (await serve([server])).get(path, init))
    expect(hidden).toEqual([502, expect.stringContaining("redirects to")])
    expect(hidden[1]).not.toContain("models.example")
  })

  it.each(changes)("%s %s: a missing path is not a missing model", async (method, path, body) => {
    for (const [status, text] of [
      [404, "404 page not found"],
      [404, "<html><body>Not Found</body></html>"],
      [405, "405 method not allowed"]
    ] as const) {
      const server = await misaddressed(status, () => ({ "content-type": "text/plain" }), text)
      const gateway = await serve([server], { exposeServers: true })
      const error = await errorOf(await gateway.get(path, { method, body: JSON.stringify(body) }))
      expect(error).toEqual([
        502,
        expect.stringContaining(`the path is wrong: ${server.url}${path} answered HTTP ${status}`)
      ])
    }
  })

  it("the server's description of a model is returned unchanged", async () => {
    const server = await misaddressed(404, () => ({}), JSON.stringify({ error: `model '${model}' not found` }))
    const gateway = await serve([server])
    expect(await errorOf(await gateway.post("/api/copy", { source: model, destination: "mine" }))).toEqual([
      404,
      `model "${model}" not found`
    ])
    expect(await errorOf(await gateway.post("/api/pull", { model, stream: false }))).toEqual([
      404,
      `model '${model}' not found`
    ])
  })
})

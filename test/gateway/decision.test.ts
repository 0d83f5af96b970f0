import OpenAI from "openai"
import { describe, expect, it } from "vitest"
import { useFleet } from "../support/fleet.js"
import { startGateway, type TestGateway } from "../support/gateway.js"

const fleet = useFleet()

const named = (name: string, more: object = {}) => ({ name, size: 1_000, capabilities: ["completion"], ...more })
const messages = [{ role: "user" as const, content: "Hi" }]
const chat = (gateway: TestGateway, body: object) => gateway.post("/v1/chat/completions", { messages, ...body })

describe.each(["ollama", "openai"] as const)("how the gateway reports a choice (%s)", (protocol) => {
  const made = async (more: object = {}) => {
    const server = await fleet[protocol]({ models: [named("big:7b"), named("small:1b")], reply: "well said", ...more })
    return { server, gateway: fleet.keep(await startGateway([server.url])) }
  }

  it.each([false, true])("is in X-Aicortex-Reason and the model's name (stream: %s)", async (stream) => {
    const { gateway } = await made()
    const response = await chat(gateway, { model: "auto", stream })
    expect(response.headers.get("x-aicortex-reason")).toBe(
      protocol === "ollama" ? "auto: the most capable of 2" : "auto: loaded already"
    )
    expect(await response.text()).toContain(`auto (selected: ${protocol}:big:7b)`)
    const plain = await chat(gateway, { model: "small:1b", stream })
    expect(plain.headers.get("x-aicortex-reason")).toBe("random")
    await plain.text()
  })

  it("lists the models that failed before, and shows no address", async () => {
    const { gateway, server } = await made({
      faults: (_: number, body: { model: string }) =>
        body.model === "big:7b" ? { kind: "status", code: 500 } : undefined
    })
    const response = await chat(gateway, { model: "auto" })
    const reason = response.headers.get("x-aicortex-reason") ?? ""
    expect(reason).toContain("1 model before it could not answer")
    expect(reason).not.toContain(server.url)
    expect(reason).toMatch(/^[\x20-\x7e]{1,300}$/)
    expect(((await response.json()) as { model: string }).model).toBe(`auto (selected: ${protocol}:small:1b)`)
  })

  it("continues a conversation with the model name of the answer", async () => {
    const { gateway, server } = await made()
    const client = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: "none", maxRetries: 0 })
    const first = await client.chat.completions.create({ model: "auto", messages })
    const second = await client.chat.completions.create({
      model: first.model,
      messages: [...messages, { role: "assistant", content: "well said" }, { role: "user", content: "And?" }]
    })
    expect([first.model, second.model]).toEqual(Array(2).fill(`auto (selected: ${protocol}:big:7b)`))
    let streamed = ""
    for await (const chunk of await client.chat.completions.create({ model: first.model, messages, stream: true })) {
      streamed += chunk.choices[0]?.delta.content ?? ""
    }
    expect(streamed).toBe("well said")
    expect((await client.models.retrieve(encodeURIComponent("auto"))).id).toBe("auto")
    for (const [path, body] of [
      ["/v1/messages", { messages, max_tokens: 100 }],
      ["/api/chat", { messages, stream: false }],
      ["/v1/responses", { input: "Hi" }]
    ] as const) {
      const response = await gateway.post(path, { model: first.model, ...body })
      expect([path, response.status]).toEqual([path, 200])
      expect(((await response.json()) as { model: string }).model).toBe(first.model)
    }
    expect(new Set(server.chatRequests.map(({ body }) => body.model))).toEqual(new Set(["big:7b"]))
    // Control: a name that only begins like it is the name of a model.
    expect((await chat(gateway, { model: "auto (selected: x) or so" })).status).toBe(404)
  })

  it("lists everything that was tried or skipped if all fail", async () => {
    const { gateway } = await made({
      models: [named("big:7b"), named("small:1b"), named("nomic-embed-text:1b", { capabilities: ["embedding"] })],
      faults: { kind: "status", code: 500 }
    })
    for (const [path, body] of [
      ["/v1/chat/completions", { messages }],
      ["/v1/messages", { messages, max_tokens: 10 }]
    ] as const) {
      const response = await gateway.post(
        path,
        { model: "auto", ...body },
        { headers: { "x-aicortex-max-retries": "1" } }
      )
      expect(response.status).toBe(502)
      const { error } = (await response.json()) as {
        error: { attempts: Array<object>; excluded: Array<object>; message: string }
      }
      expect(error).toMatchObject({
        excluded: expect.arrayContaining([
          { model: "nomic-embed-text:1b", server: "server-1", reason: "makes embeddings only" }
        ])
      })
      if (path === "/v1/chat/completions") {
        expect(error.attempts).toMatchObject([
          { model: "big:7b", server: "server-1", reason: "server-error" },
          { model: "small:1b", server: "server-1", reason: "server-error" }
        ])
        expect(error.message).toContain("big:7b at server-1: server-error")
      }
    }
  })
})

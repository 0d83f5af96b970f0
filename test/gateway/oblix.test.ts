import { execFile } from "node:child_process"
import { promisify } from "node:util"
import OpenAI, { BadRequestError, NotFoundError } from "openai"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { type FakeServer, startFakeAnthropic, startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { startGateway, type TestGateway } from "../support/gateway.js"

/** The samples of Oblix's page on chat completions, by the same client at the same port. */

const run = promisify(execFile)

/** Another program may have the port. */
const startAtPort = (servers: Parameters<typeof startGateway>[0], options: Parameters<typeof startGateway>[1] = {}) =>
  startGateway(servers, { ...options, port: 62_549 }).catch(() => startGateway(servers, options))

const paris = "The capital of France is Paris."
const system = { role: "system" as const, content: "You are a helpful assistant." }
const user = (content: string) => ({ role: "user" as const, content })

const fleets = {
  "the built-in model": { selected: "embedded:aicortex-demo", start: async () => undefined },
  "an Ollama server": {
    selected: "ollama:llama2:latest",
    start: () => startFakeOllama({ models: ["llama2:latest"], reply: paris })
  },
  "an OpenAI-compatible server": {
    selected: "openai:Org/Llama-2",
    start: () => startFakeOpenAI({ models: ["Org/Llama-2"], reply: paris })
  },
  "an Anthropic server": {
    selected: "anthropic:claude-haiku-4-5",
    start: () => startFakeAnthropic({ models: ["claude-haiku-4-5"], reply: paris })
  }
} satisfies Record<string, { readonly selected: string; readonly start: () => Promise<FakeServer | undefined> }>

for (const [name, { selected, start }] of Object.entries(fleets)) {
  describe(`the page's samples over ${name}`, () => {
    let server: FakeServer | undefined
    let gateway: TestGateway
    let client: OpenAI
    const model = `auto (selected: ${selected})`

    beforeAll(async () => {
      server = await start()
      const servers =
        server === undefined
          ? []
          : [server.protocol === "anthropic" ? { url: server.url, protocol: "anthropic" as const } : server.url]
      gateway = await startAtPort(servers)
      client = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: "placeholder", maxRetries: 0 })
    })
    afterAll(async () => {
      await gateway.close()
      await server?.stop()
    })

    /** What the server was sent last. */
    const sent = () => {
      const body = server?.chatRequests.at(-1)?.body
      return body?.options ?? body
    }

    it("the full request body, with nulls, by curl", async () => {
      const body = `{
        "model": "auto",
        "messages": [
          {"role": "system", "content": "You are a helpful assistant."},
          {"role": "user", "content": "What are the three laws of robotics?"}
        ],
        "temperature": 0.7, "top_p": 1.0, "n": 1, "stream": false, "max_tokens": null,
        "presence_penalty": 0.0, "frequency_penalty": 0.0, "logit_bias": null, "user": null
      }`
      const asked = [
        "-s",
        "-f",
        `${gateway.url}/v1/chat/completions`,
        "-H",
        "content-type: application/json",
        "-d",
        body
      ]
      const { stdout } = await run("curl", asked)
      const answer = JSON.parse(stdout)
      expect(answer).toMatchObject({
        object: "chat.completion",
        model,
        choices: [{ index: 0, message: { role: "assistant", content: expect.any(String) }, finish_reason: "stop" }]
      })
      expect(answer.choices).toHaveLength(1)
      expect(answer.id).toMatch(/^chatcmpl-/)
      expect(Math.abs(answer.created - Date.now() / 1000)).toBeLessThan(60)
      const { completion_tokens, prompt_tokens, total_tokens } = answer.usage
      expect(total_tokens).toBe(prompt_tokens + completion_tokens)
      expect(Math.min(prompt_tokens, completion_tokens)).toBeGreaterThan(0)
    })

    it("basic usage", async () => {
      const response = await client.chat.completions.create({
        model: "auto",
        messages: [system, user("What is the capital of France?")],
        temperature: 0.7
      })
      expect(response.choices[0]?.message.content).toContain("Paris")
      expect(response.model).toBe(model)
    })

    it("streaming", async () => {
      const stream = await client.chat.completions.create({
        model: "auto",
        messages: [system, user("What is the capital of France?")],
        stream: true,
        temperature: 0.7
      })
      let text = ""
      let pieces = 0
      let finish: string | null | undefined
      for await (const chunk of stream) {
        expect(chunk.model).toBe(model)
        const piece = chunk.choices[0]?.delta.content ?? null
        if (piece !== null && piece !== "") pieces++
        text += piece ?? ""
        finish = chunk.choices[0]?.finish_reason ?? finish
      }
      expect(text).toContain("Paris")
      expect(pieces).toBeGreaterThan(1)
      expect(finish).toBe("stop")
    })

    it("temperature, response length and top-p reach the model unchanged", async () => {
      const messages = [user("Write a poem about autumn.")]
      for (const temperature of [0.2, 1.2]) {
        // Anthropic's API ends at 1.
        if (selected.startsWith("anthropic:") && temperature > 1) continue
        const { choices } = await client.chat.completions.create({ model: "auto", messages, temperature })
        expect(choices[0]?.message.content).not.toBe("")
        if (server !== undefined) expect(sent()).toMatchObject({ temperature })
      }
      await client.chat.completions.create({ model: "auto", messages, top_p: 0.5 })
      if (server !== undefined) expect(sent()).toMatchObject({ top_p: 0.5 })
      const short = { model: "auto", messages: [user("Explain the history of computing.")] }
      await client.chat.completions.create({ ...short, max_tokens: 100 })
      if (server !== undefined)
        expect(sent().num_predict ?? sent().max_tokens ?? sent().max_completion_tokens).toBe(100)
      const cut = await client.chat.completions.create({ ...short, max_tokens: 2 })
      expect([cut.choices[0]?.finish_reason, cut.usage?.completion_tokens]).toEqual(["length", 2])
    })

    it("chat mode with sessions", async () => {
      const ask = async (content: string, session_id: string) =>
        (await client.chat.completions.create({
          model: "auto",
          messages: [user(content)],
          session_id
        } as never)) as OpenAI.ChatCompletion & { session_id: string }
      const { session_id } = await ask("My name is Alice.", "new")
      const { choices, ...rest } = await ask("What is my name?", session_id)
      expect(rest).toMatchObject({ model, session_id })
      if (server === undefined) expect(choices[0]?.message.content).toBe("Your name is Alice.")
      else expect(JSON.stringify(server.chatRequests.at(-1)?.body)).toContain("My name is Alice.")
    })

    it("the selected model name can be requested itself", async () => {
      const asked = { model: selected, messages: [user("What is the capital of France?")] }
      const response = await client.chat.completions.create(asked)
      expect([response.model, response.choices[0]?.message.content?.includes("Paris")]).toEqual([selected, true])
    })
  })
}

describe("several kinds of servers", () => {
  let servers: ReadonlyArray<FakeServer>
  let gateway: TestGateway
  let client: OpenAI

  beforeAll(async () => {
    const [ollama, openai, anthropic] = [
      await startFakeOllama({ models: ["llama2:latest"], reply: "ollama" }),
      await startFakeOpenAI({ models: ["gpt-4o", "llama2:latest"], reply: "openai" }),
      await startFakeAnthropic({ models: ["claude-haiku-4-5"], reply: "anthropic" })
    ]
    servers = [ollama, openai, anthropic]
    gateway = await startAtPort([
      ollama.url,
      openai.url,
      { url: anthropic.url, protocol: "anthropic" } as { url: string }
    ])
    client = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: "placeholder", maxRetries: 0 })
  })
  afterAll(async () => {
    await gateway.close()
    for (const server of servers) await server.stop()
  })

  const messages = [user("Who are you?")]

  it("provider:model is split at the first colon", async () => {
    for (const [model, answer] of [
      ["ollama:llama2", "ollama"],
      ["ollama:llama2:latest", "ollama"],
      ["openai:llama2:latest", "openai"],
      ["openai:gpt-4o", "openai"],
      ["claude:claude-haiku-4-5", "anthropic"],
      ["anthropic:claude-haiku-4-5", "anthropic"]
    ] as const) {
      const whole = await client.chat.completions.create({ model, messages })
      expect([whole.model, whole.choices[0]?.message.content]).toEqual([model, answer])
      let text = ""
      for await (const chunk of await client.chat.completions.create({ model, messages, stream: true })) {
        expect(chunk.model).toBe(model)
        text += chunk.choices[0]?.delta.content ?? ""
      }
      expect([model, text]).toEqual([model, answer])
    }
  })

  it("an unknown model is an error in OpenAI's format", async () => {
    for (const model of ["openai:none", "none", "ollama:gpt-4o"]) {
      const error = await client.chat.completions.create({ model, messages }).catch((error: unknown) => error)
      expect([model, (error as NotFoundError).status]).toEqual([model, 404])
      expect(error).toBeInstanceOf(NotFoundError)
    }
  })

  it("values outside of the documented ranges are refused before anything is sent", async () => {
    const before = servers.map(({ chatRequests }) => chatRequests.length)
    for (const [field, value] of [
      ["temperature", 2.1],
      ["temperature", -0.1],
      ["top_p", 1.1],
      ["presence_penalty", -2.1],
      ["frequency_penalty", 2.1],
      ["n", 0],
      ["max_tokens", 0],
      ["stream", "yes"]
    ] as const) {
      const asking = { model: "auto", messages, [field]: value } as never
      const error = await client.chat.completions.create(asking).catch((error: unknown) => error)
      expect(error, field).toBeInstanceOf(BadRequestError)
      expect((error as BadRequestError).param).toBe(field)
    }
    expect(servers.map(({ chatRequests }) => chatRequests.length)).toEqual(before)
  })

  it("n answers, and the model list and health check that Oblix lacks", async () => {
    const several = await client.chat.completions.create({ model: "ollama:llama2", messages, n: 2 })
    expect(several.choices.map(({ index }) => index)).toEqual([0, 1])
    const names: Array<string> = []
    for await (const { id } of client.models.list()) names.push(id)
    expect(names).toEqual(expect.arrayContaining(["llama2:latest", "gpt-4o", "claude-haiku-4-5"]))
    const health = await gateway.get("/health")
    expect([health.status, await health.json()]).toMatchObject([200, { version: expect.any(String) }])
  })
})

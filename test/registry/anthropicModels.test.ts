/** What is found out about servers that speak Anthropic's API: that they do, and which models they have. */
import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"
import { describe, expect, it } from "vitest"
import * as Server from "../../src/Server.js"
import { failure, useFleet } from "../support/fleet.js"
import { startGateway } from "../support/gateway.js"

const fleet = useFleet()
const names = ["claude-haiku-4-5", "claude-opus-4-5", "claude-sonnet-4-5"]

const made = (options: string | Server.ServerOptions) => Either.getOrThrow(Server.fromOptions(options, "the test"))

describe("the protocol", () => {
  it.each(["", "/v1"])("may be named, with the address '%s'", async (path) => {
    const server = await fleet.anthropic({ models: names, apiKey: "k" })
    const options = { url: `${server.url}${path}`, protocol: "anthropic", apiKey: "k" } as const
    const cortex = fleet.cortex([options])
    expect(await cortex.listServers()).toMatchObject([{ protocol: "anthropic", reachable: true, models: names }])
    expect((await cortex.complete("Hi", { model: names[0] })).server).toBe(`${server.url}${path}`)
    expect(server.requests.map(({ path }) => path)).toEqual(["/v1/models", "/v1/messages"])
  })

  it("is detected from the server's answers, with a key and without one", async () => {
    for (const apiKey of [undefined, "k"]) {
      const server = await fleet.anthropic({ models: names, apiKey })
      const cortex = fleet.cortex([apiKey === undefined ? server.url : { url: server.url, apiKey }])
      expect(await cortex.listServers()).toMatchObject([{ protocol: "anthropic", models: names }])
      expect((await cortex.complete("Hi", { model: "claude:claude-opus-4-5" })).server).toBe(server.url)
    }
  })

  it("of other servers is unchanged", async () => {
    const [ollama, openai] = [await fleet.ollama(), await fleet.openai()]
    const gateway = fleet.keep(await startGateway([ollama.url]))
    const found = await fleet.cortex([ollama, openai, gateway.url]).listServers()
    expect(found.map(({ protocol }) => protocol)).toEqual(["ollama", "openai", "ollama"])
    const asAnthropic = fleet.cortex([{ url: gateway.url, protocol: "anthropic" }])
    expect(await asAnthropic.listServers()).toMatchObject([{ protocol: "anthropic", reachable: true }])
  })

  it("of Anthropic's own address is known without a request", () => {
    for (const url of ["https://api.anthropic.com", "https://api.anthropic.com/v1", "https://API.anthropic.com:443/"]) {
      expect(made(url).protocol).toBe("anthropic")
    }
    expect(made({ url: "https://api.anthropic.com/v1", protocol: "openai" }).protocol).toBe("openai")
    expect(made("https://api.anthropic.com.example.com/v1").protocol).toBe("openai")
    expect(made("https://example.com/api.anthropic.com").protocol).toBeUndefined()
  })
})

describe("the key", () => {
  it("is sent in this API's header, and never shown", async () => {
    const server = made({ url: "http://a", protocol: "anthropic", apiKey: Redacted.make("sk-ant-secret") })
    expect(Server.headersOf(server)).toEqual({ "anthropic-version": "2023-06-01", "x-api-key": "sk-ant-secret" })
    expect(JSON.stringify(server)).not.toContain("secret")
    // A name and a password stay what they are, and so do the user's own headers.
    const basic = made({ url: "http://u:p@a", protocol: "anthropic", headers: { "Anthropic-Version": "2026-10-21" } })
    expect(Server.headersOf(basic)).toEqual({ "anthropic-version": "2026-10-21", authorization: "Basic dTpw" })
    const other = made({ url: "http://a", apiKey: "k" })
    expect(Server.headersOf(other)).toEqual({ authorization: "Bearer k" })
  })

  it("is not sent twice", () => {
    const twice = Server.fromOptions(
      { url: "http://a", protocol: "anthropic", apiKey: "k", headers: { "x-api-key": "k" } },
      "the test"
    )
    expect(Either.getLeft(twice)).toMatchObject({ value: { field: "servers.headers" } })
    expect(
      Either.getLeft(Server.fromOptions({ url: "http://a", protocol: "gemini" as never }, "the test"))
    ).toMatchObject({
      value: { field: "servers.protocol", reason: expect.stringContaining("ollama, openai, anthropic") }
    })
  })

  it("that is wrong is reported", async () => {
    const server = await fleet.anthropic({ models: names, apiKey: "right" })
    const cortex = fleet.cortex([{ url: server.url, protocol: "anthropic", apiKey: "wrong-secret" }])
    const [status] = await cortex.listServers()
    expect(status?.reachable).toBe(false)
    const error = await failure(cortex.complete("Hi", { model: names[0] }))
    expect(JSON.stringify(error)).not.toContain("wrong-secret")
    expect(error).toMatchObject({ _tag: "AllServersFailed", attempts: [{ reason: "unauthorized" }] })
  })
})

describe("the list of models", () => {
  it("may be missing: the server is still used", async () => {
    const server = await fleet.anthropic({
      models: ["other"],
      faultOn: "tags",
      faults: { kind: "status", code: 404 }
    })
    const cortex = fleet.cortex([{ url: server.url, protocol: "anthropic" }])
    expect((await cortex.complete("Hi", { model: "other" })).server).toBe(server.url)
  })

  it("is read page by page", async () => {
    const models = Array.from({ length: 7 }, (_, i) => `claude-opus-4-${i}`)
    const server = await fleet.anthropic({ models, pageSize: 3 })
    const [status] = await fleet.cortex([{ url: server.url, protocol: "anthropic" }]).listServers()
    expect(status?.models).toEqual(models)
    expect(server.requests.map(({ query }) => query)).toEqual([
      "limit=1000",
      "limit=1000&after_id=claude-opus-4-2",
      "limit=1000&after_id=claude-opus-4-5"
    ])
  })

  it("contains capabilities", async () => {
    const server = await fleet.anthropic({
      models: [{ name: "claude-x", contextLength: 200_000, capabilities: ["vision", "thinking"] }]
    })
    const cortex = fleet.cortex([{ url: server.url, protocol: "anthropic" }])
    await cortex.listServers()
    expect(await cortex.getModelInfo("claude-x")).toMatchObject({
      context_length: 200_000,
      max_output_tokens: 64_000,
      capabilities: ["completion", "tools", "vision", "thinking"]
    })
    const image = { type: "image", data: "aGk=", mediaType: "image/png" } as const
    const answer = await cortex.complete([{ role: "user", content: [image] }], { model: "auto" })
    expect(answer.model).toBe("claude-x")
  })
})

describe("names of models", () => {
  it("select the protocol", async () => {
    const models = ["m:1b"]
    const servers = {
      ollama: await fleet.ollama({ models }),
      openai: await fleet.openai({ models }),
      anthropic: await fleet.anthropic({ models })
    }
    const cortex = fleet.cortex(Object.values(servers))
    const expected = [
      ["ollama:m:1b", servers.ollama],
      ["openai:m:1b", servers.openai],
      ["anthropic:m:1b", servers.anthropic],
      ["claude:m:1b", servers.anthropic],
      ["Claude:m:1b", servers.anthropic]
    ] as const
    for (const [name, { url }] of expected) {
      expect((await cortex.complete("Hi", { model: name })).server, name).toBe(url)
      expect((await cortex.bestServer(name)).url, name).toBe(url)
    }
  })

  it("embeddings are not requested from such a server", async () => {
    const server = await fleet.anthropic({ models: ["m:1b"] })
    const error = await failure(fleet.cortex([server]).embed("Hi", { model: "m:1b" }))
    expect(error).toMatchObject({ _tag: "InvalidRequest", field: "model" })
    expect(server.requests.filter(({ method }) => method === "POST")).toHaveLength(0)
  })
})

it("is probed with its model list", async () => {
  const server = await fleet.anthropic({ models: names })
  const gone = await fleet.anthropic({ models: names })
  const cortex = fleet.cortex([
    { url: server.url, protocol: "anthropic" },
    { url: gone.url, protocol: "anthropic" }
  ])
  await gone.stop()
  expect((await cortex.listServers()).map(({ reachable }) => reachable)).toEqual([true, false])
  expect(server.requests.every(({ path }) => path === "/v1/models")).toBe(true)
})

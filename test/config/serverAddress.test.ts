import { createServer, type IncomingMessage } from "node:http"
import type { AddressInfo } from "node:net"
import { describe, expect, it } from "vitest"
import { statusFailure } from "../../src/backend/http.js"
import { explainWrongAddress, redirect } from "../../src/backend/wrongAddress.js"
import { eventsOf, failure, model, useFleet } from "../support/fleet.js"
import { startGateway } from "../support/gateway.js"

const fleet = useFleet()

interface Answer {
  readonly status: number
  readonly type?: string
  readonly location?: string
  readonly body: string
}

/** A server with these answers, and 404 to everything else. */
const startPaths = async (
  answer: (path: string, method: string, body: string) => Answer | undefined,
  missing: Answer = { status: 404, type: "text/plain", body: "404 page not found" }
) => {
  const requests: Array<string> = []
  const bodies: Array<string> = []
  const headers: Array<IncomingMessage["headers"]> = []
  const server = createServer((request, response) => {
    let received = ""
    request.setEncoding("utf8").on("data", (part: string) => {
      received += part
    })
    request.on("end", () => {
      const { method = "", url = "" } = request
      bodies.push(received)
      requests.push(`${method} ${url}`)
      headers.push(request.headers)
      const { body, location, status, type = "application/json" } = answer(url, method, received) ?? missing
      response.writeHead(status, { "content-type": type, ...(location === undefined ? {} : { location }) }).end(body)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  return fleet.keep({
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    bodies,
    headers,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    }
  })
}

const list: Answer = { status: 200, body: JSON.stringify({ object: "list", data: [{ id: model, object: "model" }] }) }
const tags: Answer = { status: 200, body: JSON.stringify({ models: [{ name: model, model }] }) }

const ofProtocol = {
  ollama: { list: "/api/tags", answers: tags, chat: "/api/chat" },
  openai: { list: "/v1/models", answers: list, chat: "/v1/chat/completions" }
} as const

describe.each(["ollama", "openai"] as const)("a wrong address (%s)", (protocol) => {
  const of = ofProtocol[protocol]

  it.each<[string, Answer]>([
    ["404 page not found", { status: 404, type: "text/plain", body: "404 page not found" }],
    ["a page", { status: 404, type: "text/html", body: "<!DOCTYPE html><h1>No model here</h1>" }],
    ["FastAPI", { status: 404, body: `{"detail":"Not Found"}` }],
    ["Express", { status: 404, type: "text/plain", body: "Cannot POST /models/v1/chat/completions" }],
    ["OpenAI", { status: 404, body: `{"error":{"message":"Invalid URL (POST /v1/models/v1/chat/completions)"}}` }],
    ["llama.cpp", { status: 404, body: `{"error":{"code":404,"message":"File Not Found","type":"not_found_error"}}` }],
    ["nothing", { status: 404, body: "" }],
    ["405", { status: 405, body: `{"detail":"Method Not Allowed"}` }]
  ])("a missing path is reported as such (%s)", async (_, missing) => {
    const server = await startPaths((path) => (path === of.list ? of.answers : undefined), missing)
    const cortex = fleet.cortex([{ url: server.url, protocol }])
    for (const stream of [false, true]) {
      const error = await failure(
        stream
          ? cortex.chat("Hi", { stream: true, maxRetries: 1 }).then(eventsOf)
          : cortex.complete("Hi", { maxRetries: 1 })
      )
      expect(error._tag).toBe("AllServersFailed")
      const [attempt] = error.attempts
      expect(attempt).toMatchObject({
        reason: missing.status === 405 ? "rejected" : "server-error",
        status: missing.status
      })
      expect(attempt.message).toContain(`the path is wrong: ${server.url}${of.chat}`)
    }
  })

  it.each<[string, string]>([
    ["Ollama", `{"error":"model '${model}' not found"}`],
    ["vLLM", `{"object":"error","message":"The model \`${model}\` does not exist.","code":404}`],
    ["OpenAI", `{"error":{"message":"The model \`${model}\` does not exist","code":"model_not_found"}}`],
    ["only a code", `{"error":{"code":"model_not_found"}}`]
  ])("a missing model is not reported as a wrong path (%s)", async (_, body) => {
    const server = await startPaths((path) => (path === of.list ? of.answers : undefined), { status: 404, body })
    const cortex = fleet.cortex([{ url: server.url, protocol }])
    const error = await failure(cortex.complete("Hi", { maxRetries: 1 }))
    expect(error._tag).toBe("ModelNotFound")
  })

  it.each([301, 302, 307, 308])("a redirect is reported with its target, and not followed (%s)", async (status) => {
    const elsewhere = await startPaths(() => list)
    const server = await startPaths((path) => {
      const location = `${elsewhere.url}${path}?token=secret`
      return path === of.list ? of.answers : { status, location, body: "<html>Moved</html>" }
    })
    const cortex = fleet.cortex([{ url: server.url, protocol, apiKey: "sk-secret" }])
    const error = await failure(cortex.complete("Hi", { maxRetries: 1 }))
    expect(error.attempts).toMatchObject([{ status, reason: "malformed" }])
    expect(error.attempts[0].message).toBe(
      `redirects to ${elsewhere.url}${of.chat}: give ${elsewhere.url} as its address`
    )
    expect(error.message).not.toContain("secret")
    expect(elsewhere.requests).toEqual([])
  })

  it.each([301, 308])("a redirect of the model list is reported too, and not followed (%s)", async (status) => {
    const elsewhere = await startPaths(() => list)
    const server = await startPaths((path) => ({ status, location: `${elsewhere.url}/new${path}`, body: "" }))
    const cortex = fleet.cortex([{ url: server.url, protocol }])
    const [found] = await cortex.listServers()
    expect(found).toMatchObject({
      reachable: false,
      problem: `redirects to ${elsewhere.url}/new${of.list}: give ${elsewhere.url}/new as its address`
    })
    expect(elsewhere.requests).toEqual([])
  })
})

describe("messages about redirects", () => {
  const addresses = ["http://h", "http://h/v1/chat/completions"] as const
  it.each([
    ["https://h/v1/chat/completions", "give https://h as its address"],
    ["/gpu/v1/chat/completions", "redirects to http://h/gpu/v1/chat/completions: give http://h/gpu as its address"],
    ["https://login.example/sso?next=x", "redirects to https://login.example/sso: give that address, if"],
    ["https://u:p@h/x#y", "redirects to https://h/x: give that address, if"],
    ["ftp://h/x", "redirects without saying where to"],
    [undefined, "redirects without saying where to"]
  ])("%s", (location, words) => {
    expect(redirect(...addresses, location)).toContain(words)
    expect(redirect(...addresses, location)).not.toMatch(/u:p|next/)
  })

  it("other statuses give no message", () => {
    const failure = statusFailure(304, "", undefined, 0)
    const failed = { address: "http://h", url: "http://h/x", body: "", text: undefined, location: undefined }
    expect(explainWrongAddress(failure, failed)).toBe(failure)
  })
})

const answer = (protocol: "ollama" | "openai"): Answer =>
  protocol === "ollama"
    ? { status: 200, body: JSON.stringify({ model, message: { role: "assistant", content: "Hello" }, done: true }) }
    : {
        status: 200,
        type: "text/event-stream",
        body: `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content: "Hello" }, finish_reason: "stop" }] })}\n\ndata: [DONE]\n\n`
      }
const refusal: Answer = { status: 400, body: `{"error":{"message":"model is required"}}` }
const page: Answer = { status: 200, type: "text/html", body: "<!doctype html><title>models</title>" }
const vectors = {
  ollama: { status: 200, body: `{"embeddings":[[1]]}` },
  openai: { status: 200, body: `{"data":[{"index":0,"embedding":[1]}]}` }
} satisfies { readonly [protocol: string]: Answer }

interface Deployment {
  readonly path: string
  readonly speaks: "ollama" | "openai"
  readonly lists: { readonly [path: string]: Answer }
  readonly chat: string
  readonly embed: string
  readonly missing?: (method: string) => Answer
  /** Where only that is known. */
  readonly given?: "ollama" | "openai"
}

const deployments: ReadonlyArray<readonly [string, Deployment]> = [
  [
    "a version below a path",
    {
      path: "/openai",
      speaks: "openai",
      lists: { "/openai/v1/models": list },
      chat: "/openai/v1/chat/completions",
      embed: "/openai/v1/embeddings"
    }
  ],
  [
    "a path below a version",
    {
      path: "/v1/openai",
      speaks: "openai",
      lists: { "/v1/openai/models": list },
      chat: "/v1/openai/chat/completions",
      embed: "/v1/openai/embeddings"
    }
  ],
  [
    "no version at all",
    {
      path: "/inference",
      speaks: "openai",
      lists: { "/inference/models": list },
      chat: "/inference/chat/completions",
      embed: "/inference/embeddings"
    }
  ],
  [
    "no version and no list",
    {
      path: "/inference",
      speaks: "openai",
      lists: {},
      chat: "/inference/chat/completions",
      embed: "/inference/embeddings",
      given: "openai"
    }
  ],
  [
    "no version, no path and no list",
    { path: "", speaks: "openai", lists: {}, chat: "/chat/completions", embed: "/embeddings", given: "openai" }
  ],
  [
    "a web interface that answers all else with its page",
    {
      path: "/api",
      speaks: "openai",
      lists: { "/api/models": list },
      chat: "/api/chat/completions",
      embed: "/api/embeddings",
      missing: (method) => (method === "GET" ? page : { status: 405, body: `{"detail":"Method Not Allowed"}` })
    }
  ],
  [
    "a list of another kind where the version would be",
    {
      path: "/api",
      speaks: "openai",
      lists: { "/api/v1/models": { status: 200, body: `[{"id":"${model}"}]` }, "/api/models": list },
      chat: "/api/chat/completions",
      embed: "/api/embeddings"
    }
  ],
  [
    "an error with the status of success",
    {
      path: "/api",
      speaks: "openai",
      lists: { "/api/v1/models": list },
      chat: "/api/v1/chat/completions",
      embed: "/api/v1/embeddings",
      missing: () => ({ status: 200, body: `{"error":"Unexpected endpoint or method. (POST /api)"}` })
    }
  ],
  [
    "Ollama below a path",
    {
      path: "/ollama",
      speaks: "ollama",
      lists: { "/ollama/api/tags": tags },
      chat: "/ollama/api/chat",
      embed: "/ollama/api/embed"
    }
  ],
  [
    "Ollama by the path of its API",
    { path: "/api", speaks: "ollama", lists: { "/api/tags": tags }, chat: "/api/chat", embed: "/api/embed" }
  ],
  [
    "Ollama by the path of its other API",
    {
      path: "/v1",
      speaks: "ollama",
      lists: { "/api/tags": tags },
      chat: "/api/chat",
      embed: "/api/embed",
      given: "ollama"
    }
  ],
  [
    "a plain server",
    { path: "", speaks: "openai", lists: { "/v1/models": list }, chat: "/v1/chat/completions", embed: "/v1/embeddings" }
  ]
]

describe.each(deployments)("%s", (_, { chat, embed, given, lists, missing, path, speaks }) => {
  const start = () =>
    startPaths((path, method, body) => {
      const found = lists[path]
      if (method === "GET") return found ?? missing?.(method)
      if (path === chat) return body === "{}" ? refusal : answer(speaks)
      return path === embed ? vectors[speaks] : missing?.(method)
    })

  it.each(["", "/"])("is found, and remembered (%s)", async (slash) => {
    const server = await start()
    const cortex = fleet.cortex([{ url: `${server.url}${path}${slash}`, protocol: given }], { discoveryTtl: 1 })
    await cortex.listServers()
    expect(await cortex.complete("Hi", { maxRetries: 1 })).toMatchObject({ text: "Hello", attempts: [] })
    const events = await eventsOf(await cortex.chat("Hi", { stream: true, maxRetries: 1 }))
    expect(events.map((event) => (event.type === "token" ? event.content : "")).join("")).toBe("Hello")
    expect((await cortex.embed("Hi", { model })).embeddings).toEqual([[1]])
    const posts = server.requests.filter((one) => one.startsWith("POST"))
    expect(posts.filter((one) => one === `POST ${chat}`).length).toBeGreaterThanOrEqual(2)
    expect(server.bodies.filter((body) => body !== "" && body !== "{}").length).toBe(3)
  })

  it("serves a gateway's clients", async () => {
    const server = await start()
    const gateway = fleet.keep(
      await startGateway([{ url: `${server.url}${path}`, ...(given === undefined ? {} : { protocol: given }) }])
    )
    const body = { model, messages: [{ role: "user", content: "Hi" }] }
    const response = await gateway.post("/v1/chat/completions", body)
    expect(await response.json()).toMatchObject({ choices: [{ message: { content: "Hello" } }] })
  })
})

describe("an address under which nothing is found", () => {
  it("the error says which URLs were tried", async () => {
    const server = await startPaths(() => undefined)
    const cortex = fleet.cortex([{ url: `${server.url}/inference`, protocol: "openai" }])
    const [found] = await cortex.listServers()
    expect(found?.problem).toBe(
      `answered HTTP 404 when asked for its models (asked: ${server.url}/inference/v1/models and ${server.url}/inference/models)`
    )
    const error = await failure(cortex.complete("Hi", { maxRetries: 1 }))
    expect(error.attempts[0].message).toContain(`the path is wrong: ${server.url}/inference/v1/chat/completions`)
  })

  it("no other server is tried", async () => {
    const server = await startPaths(() => undefined)
    const cortex = fleet.cortex([`${server.url}/a/b`])
    await cortex.listServers()
    expect(server.requests.every((one) => one.split(" ")[1]?.startsWith("/a/b/"))).toBe(true)
  })
})

describe("headers of a server", () => {
  const headers = { "X-Tenant": "blue", "api-key": "secret-of-the-tenant" }

  it.each(["ollama", "openai"] as const)("go with every request (%s)", async (protocol) => {
    const of = ofProtocol[protocol]
    const server = await startPaths((path) =>
      path === of.list
        ? of.answers
        : path === of.chat
          ? answer(protocol)
          : /embed/.test(path)
            ? vectors[protocol]
            : undefined
    )
    const cortex = fleet.cortex([{ url: server.url, protocol, headers, apiKey: "key" }])
    await cortex.listServers()
    await cortex.complete("Hi")
    await cortex.embed("Hi", { model })
    expect(server.headers.length).toBeGreaterThanOrEqual(3)
    for (const seen of server.headers) {
      expect(seen).toMatchObject({ "x-tenant": "blue", "api-key": "secret-of-the-tenant", authorization: "Bearer key" })
    }
  })

  it("never appear in errors or in a gateway's responses", async () => {
    const server = await startPaths((path) =>
      path === "/api/tags" ? tags : { status: 500, body: `{"error":"your key secret-of-the-tenant is odd"}` }
    )
    const gateway = fleet.keep(await startGateway([{ url: server.url, headers } as never]))
    const response = await gateway.post("/v1/chat/completions", { model, messages: [{ role: "user", content: "Hi" }] })
    expect(await response.text()).not.toContain("secret-of-the-tenant")
    expect(gateway.log.join("")).not.toContain("secret-of-the-tenant")
  })

  it.each<[string, unknown, string]>([
    ["host", { Host: "other" }, "host"],
    ["content-length", { "Content-Length": "1" }, "content-length"],
    ["transfer-encoding", { "transfer-encoding": "chunked" }, "transfer-encoding"],
    ["accept-encoding", { "accept-encoding": "gzip" }, "accept-encoding"],
    ["a name that is none", { "x y": "1" }, "'x y'"],
    ["a value with a line end", { "x-a": "secret\r\nx-b: 1" }, "x-a"],
    ["a value that is no text", { "x-a": 1 }, "x-a"],
    ["one twice", { "x-a": "1", "X-A": "2" }, "x-a"],
    ["a list", ["x-a"], "headers"]
  ])("that break requests are refused (%s)", async (_, wrong, named) => {
    const cortex = fleet.cortex([{ url: "http://127.0.0.1:9", headers: wrong as never }])
    const error = await failure(cortex.listServers())
    expect(error).toMatchObject({ _tag: "InvalidConfig", field: "servers.headers" })
    expect(error.message).toContain(named)
    expect(error.message).not.toContain("secret")
  })

  it("with a second key are refused", async () => {
    const cortex = fleet.cortex([{ url: "http://127.0.0.1:9", apiKey: "a", headers: { Authorization: "b" } }])
    expect(await failure(cortex.listServers())).toMatchObject({ _tag: "InvalidConfig", field: "servers.headers" })
  })
})

import { createServer, type IncomingMessage } from "node:http"
import type { AddressInfo } from "node:net"
import { describe, expect, it } from "vitest"
import { statusFailure } from "../src/backend/http.js"
import { explain, redirect } from "../src/backend/misaddressed.js"
import { eventsOf, failure, model, useFleet } from "./support/fleet.js"

const fleet = useFleet()

interface Answer {
  readonly status: number
  readonly type?: string
  readonly location?: string
  readonly body: string
}

/** A server that answers as it is told, and 404 to everything else. */
const startPaths = async (
  answer: (path: string, method: string) => Answer | undefined,
  missing: Answer = { status: 404, type: "text/plain", body: "404 page not found" }
) => {
  const asked: Array<string> = []
  const headers: Array<IncomingMessage["headers"]> = []
  const server = createServer((request, response) => {
    request.resume().on("end", () => {
      const { method = "", url = "" } = request
      asked.push(`${method} ${url}`)
      headers.push(request.headers)
      const { body, location, status, type = "application/json" } = answer(url, method) ?? missing
      response.writeHead(status, { "content-type": type, ...(location === undefined ? {} : { location }) }).end(body)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  return fleet.keep({
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
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

describe.each(["ollama", "openai"] as const)("an address that is not right (%s)", (protocol) => {
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
  ])("a path that is not there is told as such (%s)", async (_, missing) => {
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
      expect(attempt).toMatchObject({ reason: "server-error", status: missing.status })
      expect(attempt.message).toContain(`the path is wrong: ${server.url}${of.chat}`)
    }
  })

  it.each<[string, string]>([
    ["Ollama", `{"error":"model '${model}' not found"}`],
    ["vLLM", `{"object":"error","message":"The model \`${model}\` does not exist.","code":404}`],
    ["OpenAI", `{"error":{"message":"The model \`${model}\` does not exist","code":"model_not_found"}}`],
    ["only a code", `{"error":{"code":"model_not_found"}}`]
  ])("a model that is not there is not a wrong path (%s)", async (_, body) => {
    const server = await startPaths((path) => (path === of.list ? of.answers : undefined), { status: 404, body })
    const cortex = fleet.cortex([{ url: server.url, protocol }])
    const error = await failure(cortex.complete("Hi", { maxRetries: 1 }))
    expect(error._tag).toBe("ModelNotFound")
  })

  it.each([301, 302, 307, 308])("a redirect is told with its target, and not followed (%s)", async (status) => {
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
    expect(elsewhere.asked).toEqual([])
  })

  it.each([301, 308])("a redirect of the list is told too, and not followed (%s)", async (status) => {
    const elsewhere = await startPaths(() => list)
    const server = await startPaths((path) => ({ status, location: `${elsewhere.url}/new${path}`, body: "" }))
    const cortex = fleet.cortex([{ url: server.url, protocol }])
    const [found] = await cortex.listServers()
    expect(found).toMatchObject({
      reachable: false,
      problem: `redirects to ${elsewhere.url}/new${of.list}: give ${elsewhere.url}/new as its address`
    })
    expect(elsewhere.asked).toEqual([])
  })
})

describe("what a redirect says", () => {
  const asked = ["http://h", "http://h/v1/chat/completions"] as const
  it.each([
    ["https://h/v1/chat/completions", "give https://h as its address"],
    ["/gpu/v1/chat/completions", "redirects to http://h/gpu/v1/chat/completions: give http://h/gpu as its address"],
    ["https://login.example/sso?next=x", "redirects to https://login.example/sso: give that address, if"],
    ["https://u:p@h/x#y", "redirects to https://h/x: give that address, if"],
    ["ftp://h/x", "redirects without saying where to"],
    [undefined, "redirects without saying where to"]
  ])("%s", (location, words) => {
    expect(redirect(...asked, location)).toContain(words)
    expect(redirect(...asked, location)).not.toMatch(/u:p|next/)
  })

  it("of a status that is none, nothing is made", () => {
    const failure = statusFailure(304, "", undefined, 0)
    const asked = { address: "http://h", url: "http://h/x", body: "", text: undefined, location: undefined }
    expect(explain(failure, asked)).toBe(failure)
  })
})

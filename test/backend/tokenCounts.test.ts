import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { describe, expect, it } from "vitest"
import { startFakeOllama } from "../support/fakeServer.js"
import { eventsOf, model, useFleet } from "../support/fleet.js"
import { startGateway } from "../support/gateway.js"

const { cortex, keep } = useFleet()

/** A server of the OpenAI API whose streams are these bytes; they end, or the connection is reset. */
const answering = async (answer: string, reset: boolean) => {
  let requestCount = 0
  const server = createServer((request, response) => {
    request.resume().on("end", () => {
      if (request.url === "/v1/chat/completions") {
        requestCount++
        response.writeHead(200, { "content-type": "text/event-stream" })
        response.write(answer, () => (reset ? response.destroy() : response.end()))
      } else if (request.url === "/v1/models") {
        response.end(JSON.stringify({ object: "list", data: [{ id: model }] }))
      } else response.writeHead(404).end()
    })
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  keep({
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    }
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, requests: () => requestCount }
}

const event = (value: unknown) => `data: ${JSON.stringify(value)}\n\n`
const piece = (content: string) => event({ choices: [{ index: 0, delta: { content }, finish_reason: null }] })
const finish = (reason: string) => event({ choices: [{ index: 0, delta: {}, finish_reason: reason }] })
const usage = event({ choices: [], usage: { prompt_tokens: 3, completion_tokens: 7, total_tokens: 10 } })
const done = "data: [DONE]\n\n"
const said = ["a", "b", "c", "d", "e"].map(piece).join("")

const endings: ReadonlyArray<readonly [name: string, bytes: string]> = [
  ["nothing", ""],
  ["a comment", ": keep-alive\n\n"],
  ["half of the count", usage.slice(0, usage.length >> 1)],
  ["a line that is not JSON", "data: {oops\n\n"],
  ["a line that is no event of the API", "data: [1,2]\n\n"],
  ["half of the end", done.slice(0, 6)]
]

describe.each([
  ["ends", false],
  ["is reset", true]
] as const)("a stream that %s after its finish reason", (_, reset) => {
  describe.each(["stop", "length"] as const)("%s", (reason) => {
    it.each(endings)("and %s is complete, and its pieces are counted", async (_, bytes) => {
      const { requests, url } = await answering(said + finish(reason) + bytes, reset)
      const fleet = cortex([{ url, protocol: "openai" }])
      const options = { model, ...(reason === "length" ? { maxTokens: 5 } : {}) }
      const events = await eventsOf(await fleet.chat("q", { ...options, stream: true }))
      expect(events.at(-1)).toMatchObject({
        type: "end",
        finishReason: reason,
        usage: { completionTokens: 5, estimated: true },
        attempts: []
      })
      expect(await fleet.complete("q", options)).toMatchObject({
        text: "abcde",
        finishReason: reason,
        usage: { completionTokens: 5, estimated: true },
        attempts: []
      })
      expect(requests()).toBe(2)
    })
  })

  it("uses the server's own count if it arrived before", async () => {
    const { url } = await answering(said + finish("stop") + usage, reset)
    const { text, usage: counted } = await cortex([{ url, protocol: "openai" }]).complete("q", { model })
    expect([text, counted]).toEqual(["abcde", { promptTokens: 3, completionTokens: 7, totalTokens: 10 }])
  })

  it("clients of a gateway get the same counts", async () => {
    const { url } = await answering(said + finish("stop"), reset)
    const gateway = await startGateway([url])
    keep(gateway)
    const body = { model, messages: [{ role: "user", content: "q" }] }
    const whole = (await (await gateway.post("/v1/chat/completions", body)).json()) as { usage: object }
    expect(whole.usage).toMatchObject({ completion_tokens: 5 })
    const streamed = await gateway.post("/v1/chat/completions", {
      ...body,
      stream: true,
      stream_options: { include_usage: true }
    })
    expect(await streamed.text()).toMatch(/"completion_tokens":5\b/)
    const lines = (await (await gateway.post("/api/chat", body)).text()).trimEnd().split("\n")
    expect(JSON.parse(lines.at(-1) ?? "")).toMatchObject({ done: true, done_reason: "stop", eval_count: 5 })
  })
})

describe("no estimate", () => {
  it("a server that reports the end without counts", async () => {
    const { url } = await answering(said + finish("stop") + done, false)
    const { text, usage: counted } = await cortex([{ url, protocol: "openai" }]).complete("q", { model })
    expect([text, counted]).toEqual(["abcde", {}])
  })

  it("a stream without a finish reason is not complete", async () => {
    const { url } = await answering(said, false)
    const good = keep(await startFakeOllama({ models: [model], reply: ["a", "b", "c", "d", "e", "f"] }))
    const fleet = cortex([
      { url, protocol: "openai" },
      { url: good.url, priority: 1 }
    ])
    const { attempts, text } = await fleet.complete("q", { model })
    expect([text, attempts.map(({ reason }) => reason)]).toEqual(["abcdef", ["cut"]])
  })

  it("a line that is not JSON before the finish reason is a failure", async () => {
    const { url } = await answering(`${said}data: {oops\n\n${finish("stop")}${usage}${done}`, false)
    const good = keep(await startFakeOllama({ models: [model], reply: ["a", "b", "c", "d", "e", "f"] }))
    const fleet = cortex([
      { url, protocol: "openai" },
      { url: good.url, priority: 1 }
    ])
    const { attempts, text } = await fleet.complete("q", { model })
    expect([text, attempts.map(({ reason }) => reason)]).toEqual(["abcdef", ["malformed"]])
  })

  it("an error that the server reports after the finish reason is a failure", async () => {
    const { url } = await answering(said + finish("stop") + event({ error: { message: "overheated" } }), false)
    const good = keep(await startFakeOllama({ models: [model], reply: ["a", "b", "c", "d", "e"] }))
    const fleet = cortex([
      { url, protocol: "openai" },
      { url: good.url, priority: 1 }
    ])
    const { attempts, text } = await fleet.complete("q", { model })
    expect([text, attempts.map(({ reason }) => reason)]).toEqual(["abcde", ["server-error"]])
  })
})

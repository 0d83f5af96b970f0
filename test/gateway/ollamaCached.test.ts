import { once } from "node:events"
import { createServer, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { startGateway, type TestGateway } from "../support/gateway.js"

const messages = [{ role: "user", content: "Hi" }]
let cached: number | undefined
let server: Server
let gateway: TestGateway

beforeAll(async () => {
  server = createServer((request, response) => {
    request.resume()
    if (request.url === "/api/tags") response.end(JSON.stringify({ models: [{ name: "m:1b" }] }))
    else if (request.url !== "/api/chat") response.writeHead(404).end()
    else {
      const line = {
        model: "m:1b",
        created_at: "2026-01-01T00:00:00Z",
        message: { role: "assistant", content: "Well." }
      }
      const counts = { prompt_eval_count: 20, prompt_eval_cached_count: cached, prompt_eval_duration: 5_000_000 }
      const last = { ...line, done: true, done_reason: "stop", eval_count: 2, eval_duration: 1_000_000, ...counts }
      response.end(`${JSON.stringify(last)}\n`)
    }
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  gateway = await startGateway([`http://127.0.0.1:${(server.address() as AddressInfo).port}`])
})
afterAll(async () => {
  await gateway.close()
  server.closeAllConnections()
  server.close()
})

describe("cached prompt tokens", () => {
  const last = async (stream: boolean) => {
    const text = await (await gateway.post("/api/chat", { model: "m:1b", messages, stream })).text()
    return JSON.parse(text.trimEnd().split("\n").at(-1) ?? "")
  }

  it.each([true, false])("are returned if the server reports them (stream: %s)", async (stream) => {
    cached = 12
    expect(await last(stream)).toMatchObject({ prompt_eval_count: 20, prompt_eval_cached_count: 12, eval_count: 2 })
    cached = undefined
    expect(await last(stream)).not.toHaveProperty("prompt_eval_cached_count")
  })
})

/** Streamed answers as HTTP: chunks, HTTP/1.0, connections that are used again, and servers that change what is written. */
import { createServer, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { gzipSync } from "node:zlib"
import * as HttpRouter from "@effect/platform/HttpRouter"
import * as HttpServer from "@effect/platform/HttpServer"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { Cortex, Gateway } from "aicortex"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { type FakeServer, startFakeOpenAI } from "../support/fakeServer.js"
import { rawRequest, startGateway, type TestGateway } from "../support/gateway.js"

const reply = "Grüß Gott – 日本 🎈 ."
const body = JSON.stringify({ model: "m", stream: true, messages: [{ role: "user", content: "Hi" }] })
const head = (version: string, rest = "") =>
  `POST /v1/chat/completions HTTP/${version}\r\nhost: localhost\r\ncontent-type: application/json\r\n` +
  `content-length: ${Buffer.byteLength(body)}\r\n${rest}\r\n${body}`

/** The text that the chunks of a stream hold. */
const textOf = (events: string): string =>
  [...events.matchAll(/^data: (\{.*)$/gm)]
    .map(([, json = ""]) => JSON.parse(json).choices[0]?.delta.content ?? "")
    .join("")

/** A body in the chunked coding, decoded strictly. */
const unchunked = (bytes: Buffer): Buffer => {
  const parts: Array<Buffer> = []
  let at = 0
  for (;;) {
    const end = bytes.indexOf("\r\n", at)
    const size = bytes.toString("latin1", at, end)
    expect(size).toMatch(/^[0-9a-f]+$/)
    const length = Number.parseInt(size, 16)
    const from = end + 2
    expect(bytes.toString("latin1", from + length, from + length + 2)).toBe("\r\n")
    if (length === 0) {
      expect(from + 2).toBe(bytes.length)
      return Buffer.concat(parts)
    }
    parts.push(bytes.subarray(from, from + length))
    at = from + length + 2
  }
}

let server: FakeServer
let gateway: TestGateway

beforeAll(async () => {
  server = await startFakeOpenAI({ models: ["m"], reply })
  gateway = await startGateway([server.url])
})
afterAll(async () => {
  await gateway.close()
  await server[Symbol.asyncDispose]()
})

describe("a streamed answer", () => {
  it("is sent in well-formed chunks", async () => {
    const response = Buffer.from(await rawRequest(gateway.port, head("1.1", "connection: close\r\n")))
    const end = response.indexOf("\r\n\r\n")
    const headers = response.toString("latin1", 0, end).toLowerCase()
    expect(headers.match(/transfer-encoding: chunked/g)).toHaveLength(1)
    expect(headers).not.toContain("content-length")
    const text = unchunked(response.subarray(end + 4)).toString("utf8")
    expect(textOf(text)).toBe(reply)
    expect(text.endsWith("data: [DONE]\n\n")).toBe(true)
  })

  it("is sent without chunks to an HTTP/1.0 client, and ends with the connection", async () => {
    const response = await rawRequest(gateway.port, head("1.0"))
    expect(response.toLowerCase()).not.toContain("transfer-encoding")
    const text = response.slice(response.indexOf("\r\n\r\n") + 4)
    expect(text).not.toMatch(/^[0-9a-f]+\r\n/)
    expect(textOf(text)).toBe(reply)
  })

  it("leaves the connection usable for the next request, also one that was sent before it ended", async () => {
    const response = await rawRequest(gateway.port, [head("1.1"), head("1.1"), head("1.1", "connection: close\r\n")])
    expect(response.match(/HTTP\/1\.1 200/g)).toHaveLength(3)
    expect(response.match(/data: \[DONE\]/g)).toHaveLength(3)
  })
})

it("works behind a server that compresses responses", async () => {
  const http = createServer()
  // Does what the usual middleware for compression does: everything goes through `write` and `end` of the response.
  http.on("request", (_, response: ServerResponse) => {
    const parts: Array<Buffer> = []
    const { end, writeHead } = response
    response.writeHead = ((status: number, headers: { [name: string]: string }) =>
      writeHead.call(response, status, { ...headers, "content-encoding": "gzip" })) as typeof writeHead
    response.write = (part: string) => parts.push(Buffer.from(part)) > 0
    response.end = ((part?: string) => {
      if (part !== undefined) parts.push(Buffer.from(part))
      return end.call(response, gzipSync(Buffer.concat(parts)), "utf8")
    }) as typeof end
  })
  const scope = await Effect.runPromise(Scope.make())
  await HttpRouter.empty.pipe(
    HttpRouter.mountApp("/", Gateway.app),
    HttpServer.serve(),
    Layer.provide(Gateway.layer({})),
    Layer.provide(Cortex.layer({ servers: [server.url], configFile: false })),
    Layer.provide(NodeHttpServer.layer(() => http, { port: 0, host: "127.0.0.1" })),
    Layer.buildWithScope(scope),
    Effect.runPromise
  )
  const { port } = http.address() as AddressInfo
  const response = await fetch(`http://127.0.0.1:${port}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body
  })
  expect(response.headers.get("content-encoding")).toBe("gzip")
  const text = await response.text()
  expect(textOf(text)).toBe(reply)
  expect(text).not.toContain("\r\n")
  await Effect.runPromise(Scope.close(scope, Exit.void))
})

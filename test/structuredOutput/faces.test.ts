import { spawn } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, describe, expect, it } from "vitest"
import type { JsonObject } from "../../src/ChatRequest.js"
import { failure, model, useFleet } from "../support/fleet.js"
import { startGateway } from "../support/gateway.js"

const fleet = useFleet()
const folder = mkdtempSync(join(tmpdir(), "aicortex-schemas-"))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const times = <A>(n: number, make: (i: number) => A): Array<A> => Array.from({ length: n }, (_, i) => make(i))

/** A schema, a reply that fits it, and one that does not. */
const odd: ReadonlyArray<readonly [name: string, schema: JsonObject, fits: unknown, other: unknown]> = [
  [
    "recursion to the root",
    { type: "object", properties: { next: { $ref: "#" }, n: { type: "integer" } }, required: ["n"] },
    { n: 1, next: { n: 2 } },
    { n: 1, next: {} }
  ],
  [
    "a pattern without the u flag",
    { type: "object", properties: { id: { type: "string", pattern: "^[\\w\\-_]+$" } }, required: ["id"] },
    { id: "a-b_c" },
    { id: "a b" }
  ],
  [
    "draft-07's definitions",
    { type: "array", items: { $ref: "#/definitions/a" }, definitions: { a: { enum: ["x", "y"] } } },
    ["x"],
    ["z"]
  ]
]

const upstreams = [
  ["ollama", fleet.ollama],
  ["openai", fleet.openai]
] as const

/** How each of the gateway's faces is asked, and what it answers. */
const faces: ReadonlyArray<{
  readonly name: string
  readonly path: string
  readonly body: (schema: JsonObject) => object
  // biome-ignore lint/suspicious/noExplicitAny: each has its own form.
  readonly textOf: (body: any) => string
}> = [
  {
    name: "chat, json_schema",
    path: "/v1/chat/completions",
    body: (schema) => ({ response_format: { type: "json_schema", json_schema: { name: "a", schema } } }),
    textOf: (body) => body.choices[0].message.content
  },
  {
    name: "chat, json_object with a schema",
    path: "/v1/chat/completions",
    body: (schema) => ({ response_format: { type: "json_object", schema } }),
    textOf: (body) => body.choices[0].message.content
  },
  {
    name: "responses, json_schema",
    path: "/v1/responses",
    body: (schema) => ({ input: "Hi", text: { format: { type: "json_schema", name: "a", schema } } }),
    textOf: (body) => body.output.find(({ type }: { type: string }) => type === "message").content[0].text
  },
  {
    name: "responses, json_object with a schema",
    path: "/v1/responses",
    body: (schema) => ({ input: "Hi", text: { format: { type: "json_object", schema } } }),
    textOf: (body) => body.output.find(({ type }: { type: string }) => type === "message").content[0].text
  },
  {
    name: "messages, output_format",
    path: "/v1/messages",
    body: (schema) => ({ max_tokens: 100, output_format: { type: "json_schema", schema } }),
    textOf: (body) => body.content[0].text
  },
  {
    name: "messages, output_config",
    path: "/v1/messages",
    body: (schema) => ({ max_tokens: 100, output_config: { format: { type: "json_schema", schema } } }),
    textOf: (body) => body.content[0].text
  },
  {
    name: "/api/chat",
    path: "/api/chat",
    body: (schema) => ({ stream: false, format: schema }),
    textOf: (body) => body.message.content
  },
  {
    name: "/api/generate",
    path: "/api/generate",
    body: (schema) => ({ stream: false, format: schema, prompt: "Hi", messages: undefined }),
    textOf: (body) => body.response
  }
]

const bodyOf = ({ body, path }: (typeof faces)[number], schema: JsonObject) => {
  const messages =
    path === "/v1/responses" || path === "/api/generate" ? {} : { messages: [{ role: "user", content: "Hi" }] }
  return { model, ...messages, ...body(schema) }
}

const hostile: ReadonlyArray<readonly [name: string, schema: JsonObject, reason: RegExp]> = [
  [
    "50,000 properties",
    { properties: Object.fromEntries(times(50_000, (i) => [`p${i}`, {}])) },
    /longer than 262144 bytes/
  ],
  ["an enum of 500,000", { enum: times(500_000, (i) => i) }, /longer than 262144 bytes/],
  ["an invalid pattern", { pattern: "(" }, /pattern '\('/],
  ["a backreference", { pattern: "(a+)\\1$" }, /pattern '\(a\+\)\\1\$'/],
  ["no end", { $ref: "#" }, /no end/]
]

describe.each(upstreams)("through the gateway, over %s", (_, start) => {
  it.each(faces)("$name: odd schemas are validated, and reach the server", async (face) => {
    for (const [name, schema, fits, other] of odd) {
      const server = await start({ reply: JSON.stringify(fits) })
      await using gateway = await startGateway([server.url])
      const response = await gateway.post(face.path, bodyOf(face, schema))
      const body = await response.json()
      expect(response.status, `${name}: ${JSON.stringify(body)}`).toBe(200)
      expect(JSON.parse(face.textOf(body))).toEqual(fits)
      const sent = server.chatRequests.at(-1)?.body
      expect(sent.format ?? sent.response_format.json_schema.schema).toEqual(schema)
      await server.setBehaviour({ reply: JSON.stringify(other) })
      expect((await gateway.post(face.path, bodyOf(face, schema))).status, name).toBe(422)
    }
  })

  it.each(faces)("$name: hostile schemas are refused before any request", async (face) => {
    const server = await start({ reply: "{}" })
    await using gateway = await startGateway([server.url])
    for (const [name, schema, reason] of hostile) {
      const response = await gateway.post(face.path, bodyOf(face, schema))
      const text = await response.text()
      // A body that holds more than any may is refused before its schema is looked at.
      const tooMuch = response.status === 413
      expect(response.status, `${name}: ${text}`).toBe(tooMuch ? 413 : 400)
      expect(JSON.parse(text).error.message ?? JSON.parse(text).error).toMatch(tooMuch ? /JSON values/ : reason)
    }
    expect(server.chatRequests).toEqual([])
  })

  it("a pattern with catastrophic backtracking is still matched", async () => {
    const reply = JSON.stringify(`${"a".repeat(10_000)}!`)
    const server = await start({ reply })
    await using gateway = await startGateway([server.url])
    for (const face of faces) {
      for (const pattern of ["^(a+)+$", "^(.|.)*\\u0000$", "^(([a-z])+.)+[A-Z]([a-z])+$"]) {
        expect((await gateway.post(face.path, bodyOf(face, { type: "string", pattern }))).status).toBe(422)
      }
      expect((await gateway.post(face.path, bodyOf(face, { type: "string", pattern: "^(a+)+!$" }))).status).toBe(200)
    }
  })

  it("the schema of a tool has the same limits", async () => {
    const server = await start({ models: [{ name: model, capabilities: ["completion", "tools"] }], reply: "Hi" })
    await using gateway = await startGateway([server.url])
    const parameters = { type: "object", properties: Object.fromEntries(times(30_000, (i) => [`p${i}`, {}])) }
    const messages = [{ role: "user", content: "Hi" }]
    const openai = { type: "function", function: { name: "t", parameters } }
    for (const [path, body] of [
      ["/v1/chat/completions", { messages, tools: [openai] }],
      ["/v1/responses", { input: "Hi", tools: [{ type: "function", name: "t", parameters }] }],
      ["/v1/messages", { messages, max_tokens: 10, tools: [{ name: "t", input_schema: parameters }] }],
      ["/api/chat", { messages, tools: [openai] }]
    ] as const) {
      const response = await gateway.post(path, { model, ...body })
      expect(response.status).toBe(400)
      expect(await response.text()).toMatch(/tools\[0\]\.parameters.*longer than 262144 bytes/)
    }
    expect(server.chatRequests).toEqual([])
    const cortex = fleet.cortex([server.url], { model })
    const tool = { name: "t", description: "", parameters, execute: () => 1 }
    expect(await failure(cortex.chat("Hi", { tools: [tool] }))).toMatchObject({
      _tag: "InvalidRequest",
      field: "tools.0.parameters",
      reason: expect.stringContaining("262144 bytes")
    })
  })
})

describe("the limit of a schema's length", () => {
  const schema = { enum: times(200, (i) => `a value with the number ${i}`) }
  const reply = JSON.stringify("a value with the number 7")

  it("is an option of the library, and applies in the gateway", async () => {
    const server = await fleet.ollama({ reply })
    const cortex = fleet.cortex([server.url], { model, maxSchemaBytes: 1_000 })
    const error = await failure(cortex.chat("Hi", { schema }))
    expect(error).toMatchObject({
      _tag: "InvalidRequest",
      field: "schema",
      reason: expect.stringContaining("1000 bytes")
    })
    expect(await fleet.cortex([server.url], { model }).chat("Hi", { schema })).toBe("a value with the number 7")
    await using gateway = await startGateway([server.url], {}, { cortex: { maxSchemaBytes: 1_000 } })
    const response = await gateway.post("/api/chat", {
      model,
      messages: [{ role: "user", content: "Hi" }],
      format: schema
    })
    expect(response.status).toBe(400)
    expect(await response.text()).toContain("1000 bytes")
    for (const maxSchemaBytes of [0, -1, 1.5, Number.NaN]) {
      const wrong = fleet.cortex([server.url], { model, maxSchemaBytes })
      expect(await failure(wrong.chat("Hi"))).toMatchObject({ _tag: "InvalidConfig", field: "maxSchemaBytes" })
    }
  })
})

const command = (args: ReadonlyArray<string>, env: Record<string, string>) =>
  new Promise<{ readonly code: number | null; readonly out: string; readonly err: string }>((resolve) => {
    const child = spawn(process.execPath, ["dist/bin.js", ...args], {
      env: { PATH: process.env["PATH"] ?? "", HOME: folder, ...env },
      stdio: ["ignore", "pipe", "pipe"]
    })
    let out = ""
    let err = ""
    child.stdout.on("data", (part) => {
      out += part
    })
    child.stderr.on("data", (part) => {
      err += part
    })
    child.on("close", (code) => resolve({ code, out, err }))
  })

describe("the command line", () => {
  it("validates with odd schemas, refuses hostile ones, and takes the limit from environment and file", async () => {
    const server = await fleet.openai({ reply: '{"n":1,"next":{"n":2}}' })
    const file = (name: string, value: unknown) => {
      const path = join(folder, name)
      writeFileSync(path, JSON.stringify(value))
      return path
    }
    const ask = (schema: unknown, env: Record<string, string> = {}) =>
      command(["chat", "Hi", "--no-stdin", "--model", model, "--schema", file("schema.json", schema)], {
        AICORTEX_SERVERS: server.url,
        ...env
      })
    const schema = odd[0]?.[1]
    expect(JSON.parse((await ask(schema)).out)).toEqual({ n: 1, next: { n: 2 } })
    for (const [, hostileSchema, reason] of hostile) {
      const { code, err } = await ask(hostileSchema)
      expect(code).not.toBe(0)
      expect(err.replaceAll(/\s+/g, " ")).toMatch(reason)
    }
    expect((await ask(schema, { AICORTEX_MAX_SCHEMA_BYTES: "50" })).err).toContain("50 bytes")
    expect((await ask(schema, { AICORTEX_MAX_SCHEMA_BYTES: "much" })).err).toContain("AICORTEX_MAX_SCHEMA_BYTES")
    const config = file("config.json", { maxSchemaBytes: 60 })
    expect((await ask(schema, { AICORTEX_CONFIG: config })).err).toContain("60 bytes")
    const shown = await command(["config", "--json"], { AICORTEX_CONFIG: config })
    expect(JSON.parse(shown.out)).toMatchObject({
      settings: { maxSchemaBytes: 60 },
      origins: { maxSchemaBytes: "the file" }
    })
  }, 120_000)
})

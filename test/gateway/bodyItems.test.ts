/**
 * What /openapi.json says of messages, items, blocks, parts and tools is what their decoders take: each value of some
 * conversations is replaced by others, and both must agree on every one.
 */
import { Ajv2020 } from "ajv/dist/2020.js"
import { describe, expect, it } from "vitest"
import { startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { startGateway, type TestGateway } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"

const keep = useKeep()
const model = "m:1b"
const png = "iVBORw0KGgo="

// biome-ignore lint/suspicious/noExplicitAny: schemas and bodies are read freely.
type Json = any

const parameters = { type: "object", properties: { city: { type: "string" } } }

/** A conversation of each API that has all that its items may hold. */
const bodies: { readonly [path: string]: Json } = {
  "/v1/chat/completions": {
    model,
    messages: [
      { role: "system", content: "Be kind." },
      { role: "developer", content: [{ type: "text", text: "Be short." }], name: "ops" },
      {
        role: "user",
        name: "ann",
        content: [
          "Look:",
          { type: "text", text: "What is this?" },
          { type: "image_url", image_url: { url: `data:image/png;base64,${png}`, detail: "low" } },
          { type: "image_url", image_url: "https://example.com/a.png" }
        ]
      },
      {
        role: "assistant",
        content: null,
        refusal: null,
        reasoning_content: "Hm.",
        tool_calls: [{ id: "c1", type: "function", index: 0, function: { name: "look", arguments: '{"city":"Rome"}' } }]
      },
      { role: "tool", tool_call_id: "c1", content: [{ type: "text", text: "A cat." }] },
      {
        role: "assistant",
        content: "",
        reasoning: "Hm.",
        function_call: { name: "look", arguments: { city: "Bonn" } }
      },
      { role: "function", name: "look", content: "A dog." },
      {
        role: "assistant",
        content: [
          { type: "thinking", thinking: [{ type: "text", text: "So." }] },
          { type: "refusal", refusal: "No." },
          { type: "output_text", text: "A cat.", annotations: [] }
        ]
      },
      { role: "user", content: "Thanks" }
    ],
    tools: [{ type: "function", function: { name: "look", description: "Looks.", parameters, strict: true } }],
    tool_choice: { type: "function", function: { name: "look" } }
  },
  "/v1/responses": {
    model,
    input: [
      { type: "message", role: "developer", content: "Be short.", id: "msg_1", status: "completed" },
      {
        role: "user",
        content: [
          { type: "input_text", text: "What is this?" },
          { type: "input_image", image_url: `data:image/png;base64,${png}`, detail: "high" }
        ]
      },
      { type: "reasoning", id: "rs_1", summary: [{ type: "summary_text", text: "Hm." }], encrypted_content: null },
      { type: "function_call", call_id: "c1", name: "look", namespace: "eyes", arguments: '{"city":"Rome"}', id: "fc" },
      { type: "function_call_output", call_id: "c1", output: [{ type: "input_text", text: "A cat." }] },
      { type: "custom_tool_call", call_id: "c2", name: "patch", input: "*** Begin" },
      { type: "custom_tool_call_output", call_id: "c2", output: "Done" },
      { type: "local_shell_call", call_id: "c3", action: { type: "exec", command: ["ls"] } },
      { type: "local_shell_call_output", call_id: "c3", output: "a" },
      { type: "tool_search_output", call_id: "c4", execution: "client", tools: [{ type: "function", name: "later" }] },
      { type: "web_search_call", id: "ws_1" },
      { type: "message", role: "assistant", phase: "final", content: [{ type: "refusal", refusal: "No." }] },
      { type: "message", role: "user", content: [{ type: "text", text: "Thanks" }] }
    ],
    tools: [
      { type: "function", name: "look", description: "Looks.", parameters, strict: false, defer_loading: true },
      { type: "custom", name: "patch", format: { type: "grammar", syntax: "lark", definition: "start: A" } },
      { type: "namespace", name: "eyes", description: "Eyes.", tools: [{ type: "function", name: "look" }] },
      { type: "web_search" }
    ],
    tool_choice: { type: "function", name: "look" }
  },
  "/v1/messages": {
    model,
    max_tokens: 10,
    system: [{ type: "text", text: "Be kind.", cache_control: { type: "ephemeral" } }],
    messages: [
      {
        role: "user",
        content: [
          { type: "text", text: "What is this?", citations: null },
          { type: "image", source: { type: "base64", media_type: "image/png", data: png } },
          { type: "image", source: { type: "url", url: "https://example.com/a.png" } },
          {
            type: "document",
            title: "A",
            context: "B",
            citations: { enabled: false },
            source: { type: "text", media_type: "text/plain", data: "C" }
          },
          { type: "document", source: { type: "content", content: [{ type: "text", text: "D" }] } },
          { type: "search_result", title: "E", source: "F", content: [{ type: "text", text: "G" }] }
        ]
      },
      {
        role: "assistant",
        content: [
          { type: "thinking", thinking: "Hm.", signature: "s" },
          { type: "redacted_thinking", data: "d" },
          { type: "text", text: "I look." },
          { type: "tool_use", id: "c1", name: "look", input: { city: "Rome" }, caller: { type: "direct" } },
          { type: "server_tool_use", id: "s1", name: "web_search", input: {} }
        ]
      },
      {
        role: "user",
        content: [
          {
            type: "tool_result",
            tool_use_id: "c1",
            is_error: false,
            content: [
              { type: "text", text: "A cat." },
              { type: "tool_reference", tool_name: "look" }
            ]
          }
        ]
      },
      { role: "system", content: "Be short." },
      { role: "user", content: "Thanks" }
    ],
    tools: [{ name: "look", description: "Looks.", input_schema: parameters, strict: true }],
    tool_choice: { type: "tool", name: "look" }
  },
  "/api/chat": {
    model,
    stream: false,
    messages: [
      { role: "system", content: "Be kind." },
      { role: "user", content: "What is this?", images: [png] },
      {
        role: "assistant",
        content: "",
        thinking: "Hm.",
        tool_calls: [{ id: "c1", function: { index: 0, name: "look", arguments: { city: "Rome" } } }]
      },
      { role: "tool", tool_name: "look", tool_call_id: "c1", content: "A cat." }
    ],
    tools: [{ type: "function", function: { name: "look", description: "Looks.", parameters } }],
    options: { temperature: 0.5, num_ctx: 2048, stop: ["a"], use_mmap: true, mirostat: 1 }
  }
}

/** What of a body has items. */
const itemFields = ["messages", "input", "system", "tools", "tool_choice", "options"]

/** Each value in it, by its path. */
const paths = (value: Json, path: ReadonlyArray<string> = []): ReadonlyArray<ReadonlyArray<string>> =>
  typeof value === "object" && value !== null
    ? [
        ...(path.length > 1 ? [path] : []),
        ...Object.keys(value)
          .filter((name) => path.length > 0 || itemFields.includes(name))
          .flatMap((name) => paths(value[name], [...path, name]))
      ]
    : [path]

const changed = (body: Json, path: ReadonlyArray<string>, value: unknown): Json => {
  const copy = structuredClone(body)
  const last = path.at(-1) as string
  const place = path.slice(0, -1).reduce((at: Json, name) => at[name], copy)
  if (value === undefined && !Array.isArray(place)) delete place[last]
  else place[last] = value
  return copy
}

const others: ReadonlyArray<unknown> = [undefined, 7, true, "?", {}, [], [5]]

/** Tools can be forced on OpenAI-compatible servers only, and only Ollama has all of its own options. */
const serve = async (path: string): Promise<TestGateway> => {
  const capabilities = ["completion", "tools", "thinking", "vision"]
  const server = path.startsWith("/api")
    ? keep(await startFakeOllama({ models: [{ name: model, capabilities }], reply: "Well." }))
    : keep(await startFakeOpenAI({ models: [model], reply: "Well." }))
  return keep(await startGateway([server.url]))
}

const schemaOf = async (gateway: TestGateway, path: string): Promise<Json> => {
  const document: Json = await (await gateway.get("/openapi.json")).json()
  return document.paths[path].post.requestBody.content["application/json"].schema
}

const send = async (gateway: TestGateway, path: string, body: Json) => {
  const response = await gateway.post(path, body)
  const text = await response.text()
  return { refused: !response.ok, ignored: response.headers.get("x-aicortex-ignored") ?? "", text }
}

/** What no schema says: how one part of a body must fit another, and what depends on the values of strings. */
const beyond =
  /which is not among tools|names no tool|given without tools|as another tool does|base64|http\(s\) address|no server here|no such tool|not nested|is empty|not be empty/

describe.each(Object.keys(bodies))("the items of %s", (path) => {
  const body = bodies[path]

  it("of a full conversation are declared, and accepted", async () => {
    const gateway = await serve(path)
    const validate = new Ajv2020({ strict: false, allErrors: true }).compile(await schemaOf(gateway, path))
    expect(validate(body), JSON.stringify(validate.errors)).toBe(true)
    expect(await send(gateway, path, body)).toMatchObject({ refused: false })
  })

  it("are refused or ignored if the document excludes them, and accepted otherwise", {
    timeout: 120_000
  }, async () => {
    const gateway = await serve(path)
    const validate = new Ajv2020({ strict: false }).compile(await schemaOf(gateway, path))
    const faults: Array<unknown> = []
    const trials = paths(body).flatMap((at) => others.map((value) => [at, value] as const))
    let excluded = 0
    for (const [at, value] of trials) {
      const tried = changed(body, at, value)
      const described = validate(JSON.parse(JSON.stringify(tried)))
      const { ignored, refused, text } = await send(gateway, path, tried)
      if (!described) excluded++
      if (described === !refused) continue
      if (described ? beyond.test(text) : ignored !== "" && ignored.includes(String(at.at(-1)))) continue
      faults.push([at.join("."), value, described ? "described" : "excluded", refused ? text : `ignored: ${ignored}`])
    }
    expect(faults).toEqual([])
    expect(excluded).toBeGreaterThan(50)
  })
})

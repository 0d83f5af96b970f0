/** What /openapi.json says of request bodies is what their decoders do: both come from one declaration. */
import { describe, expect, it, vi } from "vitest"
import { startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { startGateway, type TestGateway } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"

const keep = useKeep()
const model = "m:1b"
const tool = { name: "f", input_schema: { type: "object" } }
const functionTool = { type: "function", function: { name: "f" } }

// biome-ignore lint/suspicious/noExplicitAny: schemas and answers are read freely.
type Json = any

/** What a request needs besides the field that is tried. */
const base: { readonly [path: string]: object } = {
  "/v1/chat/completions": { model, messages: [{ role: "user", content: "Hi" }] },
  "/v1/completions": { model, prompt: "Once" },
  "/v1/responses": { model, input: "Hi" },
  "/v1/responses/compact": { model, input: "Hi" },
  "/v1/messages": { model, max_tokens: 2_000, messages: [{ role: "user", content: "Hi" }] },
  "/v1/messages/count_tokens": { model, messages: [{ role: "user", content: "Hi" }] },
  "/v1/embeddings": { model, input: "Hi" },
  "/api/chat": { model, messages: [{ role: "user", content: "Hi" }], stream: false },
  "/api/generate": { model, prompt: "Once", stream: false },
  "/api/embed": { model, input: "Hi" },
  "/api/embeddings": { model, prompt: "Hi" },
  "/api/show": { model },
  "/api/pull": { model, stream: false },
  "/api/push": { model, stream: false },
  "/api/create": { model: "new", from: model, stream: false },
  "/api/copy": { source: model, destination: "other" },
  "/api/delete": { model },
  "/v1/models/start": { model },
  "/v1/models/stop": { model },
  "/v1/models/pull": { model },
  "/v1/models/import": { modelPath: "/models/m.gguf" },
  "/v1/models/{id}": {},
  "/v1/sessions/{id}": {},
  "/v1/sessions/{id}/copy": {},
  "/servers/{id}": { action: "wake" },
  "/login": { key: "a-key" },
  "/keys": { name: "alice" },
  "/keys/{id}/rotate": { grace: 60 }
}

/** Fields that only make sense beside others. */
const beside: { readonly [field: string]: (path: string) => object } = {
  stream_options: () => ({ stream: true }),
  top_logprobs: () => ({ logprobs: true }),
  tool_choice: (path) => ({ tools: samples["tools"]?.(path) }),
  name: (path) => (path.startsWith("/v1/") ? {} : { model: undefined })
}
const templated = [
  "session",
  "response_format",
  "guided_json",
  "json_schema",
  "think",
  "reasoning",
  "reasoning_effort",
  "enable_thinking",
  "thinking",
  "chat_template_kwargs"
]
const around = (path: string, field: string): object => ({
  ...base[path],
  ...(path === "/v1/completions" && templated.includes(field) ? { raw: false } : {}),
  ...beside[field]?.(path)
})

/** Valid values where the schema alone does not tell one. */
const samples: { readonly [field: string]: (path: string) => unknown } = {
  model: () => model,
  name: (path) => (path === "/api/create" ? "new" : model),
  from: () => model,
  source: () => model,
  messages: () => [{ role: "user", content: "Hi" }],
  input: () => "Hi",
  tools: (path) =>
    path.startsWith("/v1/messages")
      ? [tool]
      : path.startsWith("/v1/responses")
        ? [{ type: "function", name: "f" }]
        : [functionTool],
  tool_choice: (path) => (path.startsWith("/v1/messages") ? { type: "auto" } : "auto"),
  thinking: (path) => (path.startsWith("/v1/messages") ? { type: "enabled", budget_tokens: 1024 } : true),
  output_config: () => ({ effort: "low" }),
  output_format: () => ({ type: "json_schema", schema: { type: "object" } }),
  response_format: () => ({ type: "json_object" }),
  text: () => ({ verbosity: "low", format: { type: "text" } }),
  keep_alive: () => "5m",
  format: () => "json",
  context: () => [],
  images: () => ["aGk="],
  logit_bias: () => ({ 7: 1 }),
  best_of: () => 1,
  metadata: () => ({ user_id: "a" }),
  server: () => "all"
}

const valid = (path: string, field: string, schema: Json): unknown => {
  const sample = samples[field]
  if (sample !== undefined) return sample(path)
  if (schema.enum !== undefined) return schema.enum[0]
  if (schema.const !== undefined) return schema.const
  const [first] = schema.anyOf ?? []
  if (first !== undefined) return valid(path, "", first)
  switch (schema.type) {
    case "string":
      return "text"
    case "boolean":
      return false
    case "integer":
      return schema.maximum ?? Math.max(schema.minimum ?? 0, 1)
    case "number":
      return schema.maximum ?? Math.max(schema.minimum ?? 0, 1)
    case "array":
      return [valid(path, "", schema.items)]
    default:
      return {}
  }
}

/** Values that the schema excludes: of no type that it has, and on both sides of its range. */
const invalid = (schema: Json): ReadonlyArray<unknown> => {
  const wrong: Array<unknown> = [[[{}]]]
  const types: ReadonlyArray<string> = (schema.anyOf ?? [schema]).map((one: Json) => one.type ?? typeof one.enum?.[0])
  if (!types.includes("object")) wrong.push({ wrong: {} })
  if (!types.includes("boolean") && schema.const === undefined) wrong.push(true)
  if (types.length === 1 && !types.includes("string")) wrong.push("wrong")
  if (schema.enum !== undefined) wrong.push("wrong")
  if (schema.const === false) wrong.push(true)
  if (schema.minimum !== undefined) wrong.push(schema.minimum - 1)
  if (schema.maximum !== undefined) wrong.push(schema.maximum + 1)
  if (schema.exclusiveMinimum !== undefined) wrong.push(schema.exclusiveMinimum)
  if (schema.type === "integer") wrong.push(1.5)
  return wrong
}

const serve = async (strict = false): Promise<TestGateway> => {
  const capabilities = ["completion", "tools", "thinking", "vision", "insert", "embedding"]
  const ollama = keep(await startFakeOllama({ models: [{ name: model, capabilities }], reply: "Well." }))
  return keep(await startGateway([ollama.url], { strict }))
}

const bodies = async (gateway: TestGateway): Promise<ReadonlyArray<readonly [string, string, Json]>> => {
  const { paths }: Json = await (await gateway.get("/openapi.json")).json()
  return Object.entries<Json>(paths).flatMap(([path, methods]) =>
    Object.entries<Json>(methods).flatMap(([method, operation]) => {
      const schema = operation.requestBody?.content["application/json"]?.schema
      return schema === undefined ? [] : [[path, method.toUpperCase(), schema] as const]
    })
  )
}

/** Answers are read to their end: streams would keep slots. */
const send = async (gateway: TestGateway, method: string, path: string, body: object) => {
  const response = await gateway.post(path.replace("{id}", "server-1"), body, { method })
  const text = await response.text()
  return { status: response.status, ignored: response.headers.get("x-aicortex-ignored") ?? "", text }
}

/** Ollama's words for the values of some fields do not name them. */
const ollamaWords: { readonly [field: string]: RegExp } = {
  keep_alive: /Unsupported type: |in duration|invalid duration/
}

/** An error about this field's value, and not one of a server, or about what is not there. */
const refuses = (field: string, { status, text }: { readonly status: number; readonly text: string }): boolean =>
  status === 400 &&
  (text.includes(field) || ollamaWords[field]?.test(text) === true) &&
  !/not_found|Ollama has no such/.test(text)

describe("the bodies of /openapi.json", () => {
  it("are all covered here", async () => {
    const gateway = await serve()
    expect((await bodies(gateway)).map(([path]) => path).sort()).toEqual(Object.keys(base).sort())
  })

  it.each(Object.keys(base))(
    "%s: a field takes what its schema has, and refuses anything else by its name",
    {
      timeout: 60_000
    },
    async (path) => {
      const gateway = await serve()
      const [, method, schema] = (await bodies(gateway)).find(([one]) => one === path) as readonly [
        string,
        string,
        Json
      ]
      const faults: Array<unknown> = []
      for (const [field, declared] of Object.entries<Json>(schema.properties)) {
        const effect = declared["x-aicortex-effect"]
        const whole = around(path, field)
        const good = await send(gateway, method, path, { ...whole, [field]: valid(path, field, declared) })
        if (effect === "ignored" ? !good.ignored.split(", ").includes(field) : refuses(field, good)) {
          faults.push([field, "valid", valid(path, field, declared), good])
        }
        if (effect === "ignored") continue
        for (const value of invalid(declared)) {
          const bad = await send(gateway, method, path, { ...whole, [field]: value })
          const named = effect === undefined ? refuses(field, bad) : bad.ignored.includes(field)
          if (!named) faults.push([field, "invalid", value, bad])
        }
      }
      for (const field of schema.required ?? []) {
        const missing = await send(gateway, method, path, { ...base[path], [field]: undefined })
        if (!refuses(field, missing)) faults.push([field, "missing", missing])
      }
      expect(faults).toEqual([])
    }
  )

  it.each(Object.keys(base))("%s: declares every field that is read", async (path) => {
    const gateway = await serve()
    const [, method, schema] = (await bodies(gateway)).find(([one]) => one === path) as readonly [string, string, Json]
    const fields = Object.entries<Json>(schema.properties)
    const read = new Set<string>()
    const original = JSON.parse
    vi.spyOn(JSON, "parse").mockImplementation((text, reviver) => {
      const value = original(text, reviver)
      if (value?.traced !== "body") return value
      return new Proxy(value, {
        get: (target, name) => {
          if (typeof name === "string") read.add(name)
          return target[name]
        }
      })
    })
    for (const [field, declared] of fields) {
      const body = { ...around(path, field), traced: "body", [field]: valid(path, field, declared) }
      await send(gateway, method, path, body)
    }
    vi.restoreAllMocks()
    // What names a conversation is looked for in every body; `traced` is the test's own, and `then` what Promises look for.
    const elsewhere = ["prompt_cache_key", "metadata", "user", "traced", "then", "toJSON"]
    // A field of Anthropic's API that is refused with a code of its own.
    if (path === "/v1/messages") elsewhere.push("thread")
    const declared = new Set(fields.map(([name]) => name))
    expect([...read].filter((name) => !declared.has(name) && !elsewhere.includes(name))).toEqual([])
    // Not all: parameters of some servers are read wherever they are in a body.
    expect(read.size).toBeGreaterThan(1)
  })

  it("forwards the fields for OpenAI-compatible servers", async () => {
    const server = keep(await startFakeOpenAI({ models: [model], reply: "Well." }))
    const gateway = keep(await startGateway([server.url]))
    const [, , schema] = (await bodies(gateway)).find(([one]) => one === "/v1/chat/completions") as readonly Json[]
    expect(schema.properties.typical_p).toMatchObject({ type: "number" })
    expect(schema.properties.verbosity).toMatchObject({ enum: ["low", "medium", "high"] })
    const body = { typical_p: 0.5, min_tokens: 3, temperature: 2, verbosity: "low" }
    await send(gateway, "POST", "/v1/chat/completions", { ...base["/v1/chat/completions"], ...body })
    expect(server.requests.at(-1)?.body).toMatchObject(body)
  })
})

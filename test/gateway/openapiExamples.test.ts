/** The bodies that the OpenAPI document proposes are valid. */
import { expect, it } from "vitest"
import { exampleOf } from "../../src/gateway/openapi/example.js"
import { startFakeOllama } from "../support/fakeServer.js"
import { startGateway } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"

const keep = useKeep()

interface Operation {
  readonly tags: ReadonlyArray<string>
  readonly requestBody?: { readonly content: { readonly [type: string]: { readonly example?: unknown } } }
}
interface Document {
  readonly tags: ReadonlyArray<{ readonly name: string }>
  readonly paths: { readonly [path: string]: { readonly [method: string]: Operation } }
}

it("has example bodies that succeed, and sorted endpoints", async () => {
  const server = keep(
    await startFakeOllama({
      models: ["llama3.2:3b", { name: "nomic-embed-text", capabilities: ["embedding"] }],
      perToken: "burst"
    })
  )
  const gateway = keep(await startGateway([], { strict: true }, { cortex: { servers: [{ url: server.url }] } }))
  const document = (await (await gateway.get("/openapi.json")).json()) as Document
  const bodies = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation }))
  )
  const known = document.tags.map(({ name }) => name)
  for (const { operation, path } of bodies)
    expect([path, operation.tags.every((tag) => known.includes(tag))]).toEqual([path, true])
  const examples = new Map(
    bodies.flatMap(({ method, operation, path }) => {
      const example = operation.requestBody?.content["application/json"]?.example
      return example === undefined ? [] : [[`${method} ${path}`, example] as const]
    })
  )
  for (const path of [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/api/chat",
    "/api/generate",
    "/api/embed",
    "/api/embeddings"
  ]) {
    const example = examples.get(`post ${path}`)
    const response = await gateway.post(
      path,
      path.includes("embed") ? { ...(example as object), model: "nomic-embed-text" } : example
    )
    expect([path, response.status, await response.text()]).toEqual([path, 200, expect.any(String)])
  }
  // Generated examples have the required fields.
  expect(examples.get("post /login")).toEqual({ key: "text" })
  for (const [name, example] of examples) expect([name, typeof example]).toEqual([name, "object"])
})

it.each([
  [
    { type: "object", required: ["a"], properties: { a: { type: "integer", minimum: 4 }, b: { type: "string" } } },
    { a: 4 }
  ],
  [{ anyOf: [{ enum: ["x", "y"] }, { type: "null" }] }, "x"],
  [{ type: "array", items: { type: ["string", "null"] } }, ["text"]],
  [{ const: 7 }, 7],
  [{}, null]
])("an example of %j", (schema, example) => {
  expect(exampleOf(schema)).toEqual(example)
})

/** What is kept of conversations, over `/v1/sessions`: lists, searches, titles, copies and exports, each key its own. */
import { describe, expect, it } from "vitest"
import { startFakeOllama } from "../support/fakeServer.js"
import { startGateway } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"

const keep = useKeep()
const model = "m:1b"

// biome-ignore lint/suspicious/noExplicitAny: answers are read freely.
type Json = any

const begin = async () => {
  const server = keep(await startFakeOllama({ models: [{ name: model }], reply: "Well." }))
  const keys = ["a", "b"].map((name) => ({ name, key: `sk-${name}` }))
  const gateway = keep(await startGateway([server.url], { keys }))
  const as = async (
    name: string,
    method: string,
    path: string,
    body?: object
  ): Promise<{ status: number; body: Json }> => {
    const headers = { authorization: `Bearer sk-${name}`, "content-type": "application/json" }
    const response = await gateway.get(path, {
      method,
      headers,
      body: body === undefined ? null : JSON.stringify(body)
    })
    const text = await response.text()
    return { status: response.status, body: text.startsWith("{") ? JSON.parse(text) : text }
  }
  const say = async (name: string, session: string, content: string, stream = false) => {
    const body = { model, session, stream, messages: [{ role: "user", content }] }
    expect((await as(name, "POST", "/v1/chat/completions", body)).status).toBe(200)
  }
  const create = async (name: string) => (await as(name, "POST", "/v1/sessions")).body.id as string
  return { as, say, create }
}

describe("conversations of a gateway", () => {
  it("have a title, metadata and the usage of each answer", async () => {
    const { as, create, say } = await begin()
    const id = await create("a")
    await say("a", id, "How high is K2?")
    await say("a", id, "And why?", true)
    const { body } = await as("a", "GET", `/v1/sessions/${id}`)
    expect(body).toMatchObject({ id, object: "session", title: "How high is K2?", titled: false, message_count: 4 })
    expect(body.messages).toHaveLength(4)
    expect(body.turns).toMatchObject([{ message_count: 2 }, { message_count: 2 }])
    for (const { usage } of body.turns) {
      expect(usage).toMatchObject({ model, prompt_tokens: expect.any(Number), completion_tokens: expect.any(Number) })
    }
    expect(body.usage.completion_tokens).toBe(
      body.turns[0].usage.completion_tokens + body.turns[1].usage.completion_tokens
    )
    const changed = await as("a", "PATCH", `/v1/sessions/${id}`, { title: "Mountains", metadata: { project: "x" } })
    expect(changed.body).toMatchObject({ id, title: "Mountains", titled: true, metadata: { project: "x" } })
    const reset = await as("a", "PATCH", `/v1/sessions/${id}`, { title: null })
    expect(reset.body).toMatchObject({ title: "How high is K2?", titled: false, metadata: { project: "x" } })
    for (const [wrong, param] of [
      [{ title: "" }, "title"],
      [{ title: 7 }, "title"],
      [{ metadata: "x" }, "metadata"],
      [{ metadata: { a: "x".repeat(20_000) } }, "metadata"],
      [{ titel: "x" }, "titel"]
    ] as const) {
      const refused = await as("a", "PATCH", `/v1/sessions/${id}`, wrong)
      expect([refused.status, refused.body.error.param]).toEqual([400, param])
    }
  })

  it("are listed and searched page by page, copied and exported", async () => {
    const { as, create, say } = await begin()
    const first = await create("a")
    await say("a", first, "Alpha question")
    const second = await create("a")
    await say("a", second, "Beta question")
    await as("a", "PATCH", `/v1/sessions/${second}`, { title: "Named", metadata: { project: "x" } })
    const ids = async (query: string) =>
      (await as("a", "GET", `/v1/sessions${query}`)).body.data.map((one: Json) => one.id ?? one.session_id)
    expect(await ids("?title=named")).toEqual([second])
    expect(await ids("?text=alpha")).toEqual([first])
    expect(await ids(`?metadata=${encodeURIComponent('{"project":"x"}')}`)).toEqual([second])
    expect(await ids("?until=2020-01-01")).toEqual([])
    expect(await ids("/search?q=QUESTION%20beta")).toEqual([second])
    for (const path of ["?limit=1", "/search?q=question&limit=1"]) {
      const page = (await as("a", "GET", `/v1/sessions${path}`)).body
      expect(page.data).toHaveLength(1)
      const rest = (await as("a", "GET", `/v1/sessions${path}&cursor=${page.next}`)).body
      expect([rest.data.length, "next" in rest]).toEqual([1, false])
    }
    for (const query of [
      "?cursor=x",
      "?since=soon",
      "?metadata=x",
      "?metadata=7",
      "?titel=x",
      "/search",
      "/search?q=%20"
    ]) {
      expect([query, (await as("a", "GET", `/v1/sessions${query}`)).status]).toEqual([query, 400])
    }
    const copy = await as("a", "POST", `/v1/sessions/${first}/copy`, { title: "Copy" })
    expect([copy.status, copy.body.title, copy.body.message_count]).toEqual([201, "Copy", 2])
    expect(copy.body.id.slice(0, 17)).toBe(first.slice(0, 17))
    const exported = await as("a", "GET", `/v1/sessions/${first}/export`)
    expect(exported.body).toMatchObject({ object: "aicortex.session", id: first, turns: [{ usage: { model } }] })
    const markdown = await as("a", "GET", `/v1/sessions/${first}/export?format=markdown`)
    expect(markdown.body).toBe("# Alpha question\n\n**You:** Alpha question\n\n**Model:** Well.\n")
    expect((await as("a", "GET", `/v1/sessions/${first}/export?format=pdf`)).status).toBe(400)
  })

  it("are not visible to other keys", async () => {
    const { as, create, say } = await begin()
    const id = await create("a")
    await say("a", id, "secret word")
    for (const [method, path, body] of [
      ["GET", "", undefined],
      ["PATCH", "", { title: "Mine" }],
      ["DELETE", "", undefined],
      ["GET", "/export", undefined],
      ["POST", "/copy", {}]
    ] as const) {
      const refused = await as("b", method, `/v1/sessions/${id}${path}`, body)
      expect([method, path, refused.status, refused.body.error?.code]).toEqual([method, path, 404, "session_not_found"])
    }
    expect((await as("b", "GET", "/v1/sessions")).body.data).toEqual([])
    expect((await as("b", "GET", "/v1/sessions/search?q=secret")).body.data).toEqual([])
    expect((await as("a", "GET", "/v1/sessions/search?q=secret")).body.data).toHaveLength(1)
  })
})

/** The log of requests in the store: metadata, bodies where they are asked for, and what is never in it. */
import { Store } from "aicortex"
import * as Effect from "effect/Effect"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { pathsOf, redacted, redactedText } from "../../src/gateway/requestLog/loggedBody.js"
import * as Table from "../../src/gateway/requestLog/table.js"
import { type Database, engines } from "../support/databases.js"
import { startFakeOllama } from "../support/fakeServer.js"
import { startGateway } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"

const keep = useKeep()
const root = { name: "root", key: "root-secret-root-secret", admin: true } as const
const app = { name: "app", key: "app-secret-app-secret" } as const
const as = (key: string) => ({ headers: { authorization: `Bearer ${key}` } })

// biome-ignore lint/suspicious/noExplicitAny: answers are read freely.
type Json = any

describe("redaction", () => {
  it("hides the configured fields, key fields anywhere, and keys in texts", () => {
    const body = {
      model: "a",
      api_key: "x",
      messages: [
        { role: "user", content: "private" },
        { role: "user", content: [{ type: "text", text: "t" }] }
      ],
      tools: [{ headers: { Authorization: "Bearer abc" } }],
      note: "use sk-aic-0123456789abcdef0123 or Bearer 0123456789abcdefghij"
    }
    expect(redacted(body, pathsOf(["messages.*.content", "nothing.here"]))).toEqual({
      model: "a",
      api_key: "[redacted]",
      messages: [
        { role: "user", content: "[redacted]" },
        { role: "user", content: "[redacted]" }
      ],
      tools: [{ headers: { Authorization: "[redacted]" } }],
      note: "use [redacted] or [redacted]"
    })
    expect(redacted(body, [])).toMatchObject({ messages: body.messages, tools: [{ headers: expect.anything() }] })
  })

  it("handles each response format: a value, events and lines", () => {
    const paths = pathsOf(["choices.*.delta"])
    const chunk = JSON.stringify({ id: "1", choices: [{ delta: { content: "x" } }] })
    const hidden = JSON.stringify({ id: "1", choices: [{ delta: "[redacted]" }] })
    expect(redactedText(`data: ${chunk}\n\ndata: [DONE]\n`, paths)).toContain(`data: ${hidden}\n`)
    expect(redactedText(`${chunk}\n${chunk}\n`, paths)).toBe(`${hidden}\n${hidden}\n`)
    // A part of a value.
    expect(redactedText(chunk.slice(0, 30), paths)).toBe("[redacted]")
  })
})

for (const engine of engines) {
  describe(`the request log in ${engine.name}`, { timeout: 180_000 }, () => {
    let database: Database
    let store: string
    beforeAll(async () => {
      database = await engine.start()
      store = await database.address()
    }, 180_000)
    afterAll(() => database.close())

    const start = async (gateway: object) => {
      const ollama = keep(await startFakeOllama({ models: ["a:1b"], reply: "One two three." }))
      return keep(await startGateway([ollama.url], { keys: [root, app], ...gateway }, { cortex: { store } }))
    }
    const body = (more: object = {}) => ({
      model: "a:1b",
      user: "alice",
      messages: [{ role: "user", content: "a private word" }],
      ...more
    })
    const using = <A, E>(use: (store: Store.Service) => Effect.Effect<A, E>): Promise<A> =>
      Effect.runPromise(Effect.scoped(Effect.flatMap(Store.make(store), use)))

    it("is off by default, has bodies only if configured, and is for administrators", async () => {
      const silent = await start({})
      await (await silent.post("/v1/chat/completions", body(), as(app.key))).text()
      expect(await (await silent.get("/requests/log", as(root.key))).json()).toEqual({ requests: [] })

      const metadata = await start({ requestLog: "metadata" })
      await (await metadata.post("/v1/chat/completions", body(), as(app.key))).text()
      await (await metadata.post("/v1/chat/completions", body({ model: "none" }), as(app.key))).text()
      expect((await metadata.get("/requests/log", as(app.key))).status).toBe(403)
      const { requests } = (await (await metadata.get("/requests/log", as(root.key))).json()) as Json
      expect(requests).toEqual([
        expect.objectContaining({ status: 404, key: "app", error: "model_not_found" }),
        expect.objectContaining({ status: 200, key: "app", user: "alice", model: "a:1b", error: null })
      ])
      expect(requests[1].completion_tokens).toBeGreaterThan(0)
      const one = (await (await metadata.get(`/requests/log?id=${requests[1].id}`, as(root.key))).json()) as Json
      expect(one).toMatchObject({ request: null, response: null })
      for (const [query, status] of [
        ["id=nothing", 404],
        ["limit=0", 400],
        ["since=soon", 400],
        ["untl=1", 400]
      ] as const) {
        expect([query, (await metadata.get(`/requests/log?${query}`, as(root.key))).status]).toEqual([query, status])
      }
      const later = (await (await metadata.get("/requests/log?since=2999-01-01", as(root.key))).json()) as Json
      expect(later.requests).toEqual([])
      const rows = await using(({ use }) => use((sql) => sql`SELECT * FROM aicortex_request_log`))
      expect(rows).toHaveLength(2)
      expect(JSON.stringify(rows)).not.toMatch(/private|secret/)
    })

    it("stores bodies of complete answers and streams, redacted, and never a key", async () => {
      const gateway = await start({ requestLog: "bodies", requestLogRedact: ["messages.*.content"] })
      for (const stream of [false, true]) {
        const given = body({ stream, metadata: { api_key: "an-upstream-key" } })
        await (await gateway.post("/v1/chat/completions", given, as(app.key))).text()
      }
      const { requests } = (await (await gateway.get("/requests/log?limit=2", as(root.key))).json()) as Json
      for (const { id, stream } of requests) {
        const { request, response } = (await (await gateway.get(`/requests/log?id=${id}`, as(root.key))).json()) as Json
        expect(JSON.parse(request)).toMatchObject({ user: "alice", messages: [{ content: "[redacted]" }], stream })
        expect(request).not.toMatch(/private|an-upstream-key|app-secret/)
        expect(response).toContain("three.")
        if (stream) expect(response).toContain("data: [DONE]")
      }
      expect(requests.map((one: Json) => one.stream)).toEqual([true, false])
    })

    it("is pruned by age and size, oldest first, and read page by page", async () => {
      await using((opened) =>
        Effect.gen(function* () {
          const entry = (at: number) => ({
            id: `t${at}`,
            at,
            bytes: 100,
            entry: JSON.stringify({ id: `t${at}`, at }),
            request: null,
            response: null
          })
          yield* opened.transaction((sql) => sql`DELETE FROM aicortex_request_log`)
          const all = Array.from({ length: 120 }, (_, i) => entry(1_000 + i))
          yield* opened.transaction((sql) => Table.insert(sql, all))
          // The same batch again is the same rows.
          yield* opened.transaction((sql) => Table.insert(sql, all))
          const ids: Array<string> = []
          let last: Table.ShownRequest | undefined
          do {
            const page: ReadonlyArray<Table.ShownRequest> = yield* Table.page(opened, last)
            ids.push(...page.map(({ id }) => id))
            last = page.at(-1)
          } while (last !== undefined)
          expect(ids).toEqual(all.map(({ id }) => id))
          const prune = (age: number | undefined, bytes: number | undefined, dryRun = false) =>
            Table.prune(opened, { age, bytes }, 1_120, dryRun)
          expect(yield* prune(100, undefined, true)).toEqual({ requests: 20, bytes: 2_000 })
          expect(yield* prune(100, undefined)).toEqual({ requests: 20, bytes: 2_000 })
          expect(yield* prune(undefined, 3_000)).toEqual({ requests: 70, bytes: 7_000 })
          expect(yield* prune(undefined, 3_000)).toEqual({ requests: 0, bytes: 0 })
          expect((yield* Table.list(opened, { limit: 1_000 })).map(({ at }) => at)).toEqual(
            Array.from({ length: 30 }, (_, i) => 1_119 - i)
          )
        })
      )
    })
  })
}

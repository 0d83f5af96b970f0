import OpenAI, { BadRequestError, NotFoundError } from "openai"
import { describe, expect, it } from "vitest"
import type { FakeServer } from "../support/fakeServer.js"
import { failure, model, useFleet } from "../support/fleet.js"
import { startGateway, type TestGateway } from "../support/gateway.js"

/** How requests name a conversation, at each API. */

const fleet = useFleet()

const remembers = (body: { readonly messages: ReadonlyArray<{ readonly role: string }> }) =>
  `heard ${body.messages.filter(({ role }) => role !== "system").length}`

const user = (content: string) => ({ role: "user" as const, content })
const assistant = (content: string) => ({ role: "assistant" as const, content })

const begin = async (kind: "ollama" | "openai" = "ollama", options: Parameters<typeof startGateway>[1] = {}) => {
  const server: FakeServer = await fleet[kind]({ reply: remembers })
  const gateway = fleet.keep(await startGateway([server.url], { defaultModel: model, ...options }))
  const client = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: "placeholder", maxRetries: 0 })
  return { server, gateway, client }
}

const createSession = async (gateway: TestGateway, headers = {}): Promise<string> => {
  const response = await gateway.post("/v1/sessions", {}, { headers })
  return ((await response.json()) as { id: string }).id
}

const stored = async (gateway: TestGateway, id: string): Promise<ReadonlyArray<{ content: string }>> => {
  const response = await gateway.get(`/v1/sessions/${id}`)
  return ((await response.json()) as { messages: ReadonlyArray<{ content: string }> }).messages
}

/** The ways in which the openai client can name a session. */
const ways = {
  session_id: (id: string) => [{ session_id: id }, {}],
  session: (id: string) => [{ session: id }, {}],
  "metadata.session_id": (id: string) => [{ metadata: { session_id: id, other: "x" } }, {}],
  "X-Aicortex-Session": (id: string) => [{}, { headers: { "X-Aicortex-Session": id } }],
  "all of them": (id: string) => [
    { session_id: id, session: id, metadata: { session_id: id } },
    { headers: { "X-Aicortex-Session": id } }
  ]
} satisfies Record<string, (id: string) => [object, object]>

for (const kind of ["ollama", "openai"] as const) {
  for (const [name, way] of Object.entries(ways)) {
    it(`${name} continues a conversation, whole and streamed, and the answer tells it (over ${kind})`, async () => {
      const { client, gateway, server } = await begin(kind)
      const id = await createSession(gateway)
      const [fields, options] = way(id)
      const asking = (content: string) => ({ model, messages: [user(content)], ...fields })
      const first = await client.chat.completions.create(asking("One"), options).withResponse()
      expect(first.data.choices[0]?.message.content).toBe("heard 1")
      expect(first.response.headers.get("x-aicortex-session")).toBe(id)
      expect(first.data).toMatchObject({ session_id: id })
      const second = await client.chat.completions.create({ ...asking("Two"), stream: true }, options).withResponse()
      expect(second.response.headers.get("x-aicortex-session")).toBe(id)
      let text = ""
      for await (const chunk of second.data) {
        expect(chunk).toMatchObject({ session_id: id })
        text += chunk.choices[0]?.delta.content ?? ""
      }
      expect(text).toBe("heard 3")
      const contents = server.chatRequests[1]?.body.messages.map((message: { content: string }) => message.content)
      expect(contents).toEqual(["One", "heard 1", "Two"])
      expect(await stored(gateway, id)).toHaveLength(4)
    })
  }
}

describe("other APIs", () => {
  const apis = {
    "/v1/messages": { max_tokens: 50, messages: [user("Hi")] },
    "/v1/responses": { input: "Hi" },
    "/api/chat": { stream: false, messages: [user("Hi")] }
  }
  for (const [path, body] of Object.entries(apis)) {
    it(`${path} knows the same names`, async () => {
      const { gateway } = await begin()
      const id = await createSession(gateway)
      const asking = [
        [{ session_id: id }, {}],
        [{ metadata: { session_id: id } }, {}],
        [{}, { headers: { "x-aicortex-session": id } }]
      ] as const
      let turns = 0
      for (const [fields, init] of asking) {
        // Ollama's API has no metadata.
        if (path === "/api/chat" && "metadata" in fields) continue
        const response = await gateway.post(path, { model, ...body, ...fields }, init)
        expect([response.status, response.headers.get("x-aicortex-session")]).toEqual([200, id])
        expect(await response.text()).toContain(`heard ${2 * turns++ + 1}`)
      }
      expect(await stored(gateway, id)).toHaveLength(2 * turns)
    })
  }
})

describe("a conversation that is created by its first request", () => {
  for (const stream of [false, true]) {
    it(`is named in the answer (stream: ${stream})`, async () => {
      const { client, gateway } = await begin()
      const asking = { model, messages: [user("One")], session_id: "new", stream } as never
      const { response } = await client.chat.completions.create(asking).withResponse()
      const id = response.headers.get("x-aicortex-session") ?? ""
      expect(id).toMatch(/^[0-9a-f]{16}$/)
      await (response.bodyUsed ? undefined : response.text())
      const next = { model, messages: [user("Two")], session_id: id } as never
      const answer = (await client.chat.completions.create(next)) as OpenAI.ChatCompletion
      expect(answer.choices[0]?.message.content).toBe("heard 3")
      expect(await stored(gateway, id)).toHaveLength(4)
    })
  }

  it("is removed if that fails, and the error does not name it", async () => {
    const { gateway, server } = await begin()
    await server.setBehaviour({ faults: { kind: "status", code: 500 } })
    const init = { headers: { "x-aicortex-max-retries": "1" } }
    for (const stream of [false, true]) {
      const failed = await gateway.post(
        "/v1/chat/completions",
        { model, messages: [user("Hi")], session_id: "new", stream },
        init
      )
      expect(failed.status).toBe(502)
      expect(failed.headers.get("x-aicortex-session")).toBeNull()
    }
    await expect
      .poll(async () => ((await (await gateway.get("/v1/sessions")).json()) as { data: Array<unknown> }).data)
      .toEqual([])
  })
})

describe("a body that repeats the conversation", () => {
  it("duplicates nothing: only new messages are added", async () => {
    const { client, gateway, server } = await begin()
    const session_id = await createSession(gateway)
    const messages: Array<OpenAI.ChatCompletionMessageParam> = [{ role: "system", content: "Be brief." }]
    for (let turn = 0; turn < 4; turn++) {
      messages.push(user(`Question ${turn}`))
      const asking = { model, messages, session_id } as never
      const { choices } = (await client.chat.completions.create(asking)) as OpenAI.ChatCompletion
      expect(choices[0]?.message.content).toBe(`heard ${2 * turn + 1}`)
      messages.push(assistant(choices[0]?.message.content ?? ""))
    }
    expect(server.chatRequests.at(-1)?.body.messages).toHaveLength(8)
    expect((await stored(gateway, session_id)).map(({ content }) => content)).toEqual(
      messages.slice(1).map(({ content }) => content)
    )
  })

  it("may be its last part, or only the question", async () => {
    const { gateway } = await begin()
    const session_id = await createSession(gateway)
    const say = async (...messages: ReadonlyArray<object>) => {
      const response = await gateway.post("/v1/chat/completions", { model, messages, session_id })
      const { choices } = (await response.json()) as { choices: [{ message: { content: string } }] }
      return choices[0].message.content
    }
    expect(await say(user("One"))).toBe("heard 1")
    expect(await say(user("Two"))).toBe("heard 3")
    // The last turn, as of a client that has a window; white space is no difference.
    expect(await say(user("Two "), assistant(" heard 3\n"), user("Three"))).toBe("heard 5")
    // The same question again is a question.
    expect(await say(user("Three"))).toBe("heard 7")
    expect((await stored(gateway, session_id)).map(({ content }) => content)).toEqual([
      "One",
      "heard 1",
      "Two",
      "heard 3",
      "Three",
      "heard 5",
      "Three",
      "heard 7"
    ])
  })

  it("is refused if it differs or has nothing new, and changes nothing", async () => {
    const { gateway, server } = await begin()
    const session_id = await createSession(gateway)
    const post = (...messages: ReadonlyArray<object>) =>
      gateway.post("/v1/chat/completions", { model, messages, session_id })
    await post(user("One"))
    await post(user("Two"))
    const before = await stored(gateway, session_id)
    for (const messages of [
      [user("One"), assistant("heard 1"), user("Another")],
      [user("One"), assistant("edited"), user("Two")],
      [user("One"), assistant("heard 1"), user("Two")],
      [user("Two"), assistant("heard 3")]
    ]) {
      const refused = await post(...messages)
      const { error } = (await refused.json()) as { error: { param: string; message: string } }
      expect([refused.status, error.param], JSON.stringify(messages)).toEqual([400, "messages"])
      expect(error.message).toContain("then differ from it")
    }
    expect(server.chatRequests).toHaveLength(2)
    expect(await stored(gateway, session_id)).toEqual(before)
    // Examples that the conversation does not hold are new.
    expect((await post(user("Example?"), assistant("Like this."), user("Three"))).status).toBe(200)
    expect(await stored(gateway, session_id)).toHaveLength(8)
  })

  it("works in the library, too", async () => {
    const cortex = fleet.cortex([await fleet.ollama({ reply: remembers })])
    const session = await cortex.Session.create()
    await cortex.chat("One", { session })
    const messages = [...(await session.history()), user("Two")]
    expect(await cortex.chat(messages, { session })).toBe("heard 3")
    expect(await session.history()).toHaveLength(4)
    const changed = [user("One"), assistant("heard 1"), user("Other")]
    expect(await failure(cortex.chat(changed, { session }))).toMatchObject({
      _tag: "InvalidRequest",
      field: "messages"
    })
  })
})

describe("invalid conversation ids", () => {
  it("are refused with the name of the field", async () => {
    const { client, gateway, server } = await begin()
    const [one, two] = [await createSession(gateway), await createSession(gateway)]
    const asking = (fields: object) => ({ model, messages: [user("Hi")], ...fields }) as never
    const refused = async (fields: object, headers: Record<string, string> = {}) => {
      const error = await failure(client.chat.completions.create(asking(fields), { headers }))
      expect(error).toBeInstanceOf(BadRequestError)
      return (error as BadRequestError).param
    }
    expect(await refused({ session: one, session_id: two })).toBe("session_id")
    expect(await refused({ session_id: one, metadata: { session_id: two } })).toBe("metadata.session_id")
    expect(await refused({ session_id: one }, { "x-aicortex-session": two })).toBe("x-aicortex-session")
    expect(await refused({ session_id: 7 })).toBe("session_id")
    for (const fields of [{ session_id: "none" }, { metadata: { session_id: "0123456789abcdef" } }]) {
      const error = await failure(client.chat.completions.create(asking(fields)))
      expect(error).toBeInstanceOf(NotFoundError)
      expect(error).toMatchObject({ code: "session_not_found" })
      expect((error as NotFoundError).headers?.get("x-aicortex-session")).toBeNull()
    }
    expect(server.chatRequests).toEqual([])
  })

  it("a client's own metadata is not stored anywhere", async () => {
    const { client, gateway } = await begin()
    for (const session_id of ["my-conversation", "6f1c0c8e-7c1c-4c57-9f0b-0a3a3f1b2c3d"]) {
      for (let turn = 0; turn < 2; turn++) {
        const asking = { model, messages: [user("Hi")], metadata: { session_id } }
        const { data, response } = await client.chat.completions.create(asking).withResponse()
        expect(data.choices[0]?.message.content).toBe("heard 1")
        expect(response.headers.get("x-aicortex-session")).toBeNull()
        expect(data).not.toHaveProperty("session_id")
      }
    }
    expect(await (await gateway.get("/v1/sessions")).json()).toMatchObject({ data: [] })
  })

  it("belong to their key", async () => {
    const keys = [
      { name: "alice", key: "sk-alice" },
      { name: "bob", key: "sk-bob" }
    ]
    const { gateway } = await begin("ollama", { keys })
    const as = (key: string) => ({ authorization: `Bearer ${key}` })
    const id = await createSession(gateway, as("sk-alice"))
    const body = (fields: object) => ({ model, messages: [user("Hi")], ...fields })
    for (const fields of [{ session_id: id }, { metadata: { session_id: id } }]) {
      const post = (key: string) => gateway.post("/v1/chat/completions", body(fields), { headers: as(key) })
      expect((await post("sk-bob")).status).toBe(404)
      expect((await post("sk-alice")).status).toBe(200)
    }
    const begun = { headers: { ...as("sk-bob"), "x-aicortex-session": "new" } }
    const response = await gateway.post("/v1/chat/completions", body({}), begun)
    const mine = response.headers.get("x-aicortex-session") ?? ""
    expect((await gateway.get(`/v1/sessions/${mine}`, { headers: as("sk-alice") })).status).toBe(404)
    expect((await gateway.get(`/v1/sessions/${mine}`, { headers: as("sk-bob") })).status).toBe(200)
  })
})

describe("a private conversation", () => {
  const both = async () => {
    const here = await fleet.ollama({ models: [model], reply: remembers })
    const far = await fleet.ollama({ models: [model, "far:1b"], reply: remembers })
    const servers = [
      { url: far.url, local: false, priority: -1 },
      { url: here.url, priority: 1 }
    ]
    const gateway = fleet.keep(await startGateway(servers, { defaultModel: model }))
    return { here, far, gateway }
  }

  it("stays on local servers, in all its requests", async () => {
    const { far, gateway, here } = await both()
    const id = await createSession(gateway, { "x-aicortex-private": "true" })
    const post = (fields: object, headers = {}) =>
      gateway.post("/v1/chat/completions", { model, messages: [user("secret")], ...fields }, { headers })
    expect((await post({ session_id: id })).status).toBe(200)
    expect((await post({ metadata: { session_id: id }, stream: true })).status).toBe(200)
    expect((await post({ model: "auto", session_id: id })).status).toBe(200)
    expect((await post({ session_id: id }, { "x-aicortex-private": "true" })).status).toBe(200)
    expect((await post({ model: "far:1b", session_id: id })).status).toBe(403)
    const begun = await post({ session_id: "new" }, { "x-aicortex-private": "true" })
    const other = begun.headers.get("x-aicortex-session")
    expect((await post({ session_id: other })).status).toBe(200)
    expect([far.chatRequests.length, here.chatRequests.length]).toEqual([0, 6])
    // The control: without it, the remote server comes first.
    expect((await post({})).status).toBe(200)
    expect(far.chatRequests).toHaveLength(1)
  })

  it("cannot start within one that was not private", async () => {
    const { gateway } = await both()
    const session_id = await createSession(gateway)
    const body = { model, messages: [user("Hi")], session_id }
    const refused = await gateway.post("/v1/chat/completions", body, { headers: { "x-aicortex-private": "true" } })
    expect(refused.status).toBe(400)
    expect(await refused.json()).toMatchObject({ error: { param: "X-Aicortex-Private" } })
    expect((await gateway.post("/v1/chat/completions", body)).status).toBe(200)
  })
})

import type { Gateway } from "aicortex"
import { describe, expect, it } from "vitest"
import { watchEvents } from "../support/eventStream.js"
import { type FakeServer, startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { eventually, startGateway, type TestGateway } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"

const model = "m:1b"
const secretPrompt = "the-prompt-that-nobody-may-see"
const messages = [{ role: "user", content: secretPrompt }]
const reply = "secretanswer word ".repeat(30)
const keep = useKeep()
const starts = { ollama: startFakeOllama, openai: startFakeOpenAI }
const fake = async (kind: "ollama" | "openai", options: Parameters<typeof startFakeOllama>[0] = {}) =>
  keep(await starts[kind]({ models: [model], loaded: [model], reply, ...(options as object) }))
const serve = async (
  servers: ReadonlyArray<FakeServer>,
  options: Gateway.Options = {},
  cortex: NonNullable<Parameters<typeof startGateway>[2]>["cortex"] = {}
) =>
  keep(
    await startGateway([], options, {
      cortex: { servers: servers.map(({ url }, priority) => ({ url, priority })), ...cortex }
    })
  )
const watch = async (gateway: TestGateway, query = "", headers = {}) =>
  keep(await watchEvents(gateway.get, query, headers))
// biome-ignore lint/suspicious/noExplicitAny: answers are read freely.
const json = async (response: Promise<Response> | Response): Promise<any> => (await response).json()
const ask = (gateway: TestGateway, body: object = {}, init: RequestInit = {}) =>
  gateway.post("/v1/chat/completions", { model, messages, ...body }, init)
const kinds = ["ollama", "openai"] as const

describe("a model that is unloaded", () => {
  it.each([["through the gateway"], ["by somebody else"]])("is no longer shown as loaded (%s)", async (how) => {
    const ollama = keep(await startFakeOllama({ models: ["m:1b", "n:1b"], loaded: ["m:1b"], reply: "Well." }))
    const gateway = keep(await startGateway([ollama.url]))
    const loaded = async () => {
      const { servers } = (await (await gateway.get("/fleet")).json()) as {
        servers: ReadonlyArray<{ models: ReadonlyArray<{ model: string; loaded: boolean }> }>
      }
      return servers[0]?.models.filter(({ loaded }) => loaded).map(({ model }) => model)
    }
    await eventually(async () => (await loaded())?.length === 1, "it is known to be loaded")
    if (how === "by somebody else") {
      await fetch(`${ollama.url}/api/generate`, {
        method: "POST",
        body: JSON.stringify({ model: "m:1b", keep_alive: 0 })
      })
      // What a server tells is used again for two seconds.
      await eventually(async () => (await loaded())?.length === 0, "it is not loaded")
      return
    }
    for (const [keep_alive, expected] of [
      [0, []],
      ["5m", ["m:1b"]],
      [0, []]
    ] as const) {
      expect((await gateway.post("/api/generate", { model: "m:1b", keep_alive, stream: false })).status).toBe(200)
      expect(await loaded()).toEqual(expected)
    }
  })
})

describe("the state of the fleet", () => {
  it("has each server's models, memory, slots and speed", async () => {
    const one = await fake("ollama", { models: [model, "other:2b"] })
    const two = await fake("openai")
    const gateway = await serve([one, two], { exposeServers: true })
    expect((await ask(gateway)).status).toBe(200)
    const { servers } = await json(gateway.get("/servers"))
    expect(servers).toHaveLength(2)
    const [ollama, openai] = servers
    expect(ollama).toMatchObject({
      server: one.url,
      protocol: "ollama",
      version: expect.stringMatching(/^\d/),
      local: true,
      reachable: true,
      state: "closed",
      since: null,
      why: null,
      draining: false,
      in_flight: 0,
      queued: 0,
      model_count: 2
    })
    expect(ollama.models[0]).toMatchObject({ model, loaded: true, in_flight: 0, queued: 0, places: 4 })
    expect(ollama.models[0].memory).toBeGreaterThan(0)
    expect(ollama.models[0].size).toBeGreaterThan(0)
    expect(ollama.models[0].loaded_until).toBeGreaterThan(Date.now())
    expect(ollama.models[0].first_token_ms).toBeGreaterThan(0)
    expect(ollama.models[1]).toMatchObject({ model: "other:2b", loaded: false })
    expect(openai).toMatchObject({ server: two.url, protocol: "openai", reachable: true, version: null })
    const fleet = await json(gateway.get("/fleet"))
    expect(fleet).toMatchObject({ in_flight: 0, queued: 0, admin: true, keys: false })
    expect(fleet.servers.map(({ server }: { server: string }) => server)).toEqual([one.url, two.url])
  })

  it("names servers by number if addresses are hidden, in events too", async () => {
    const one = await fake("ollama", { faults: { kind: "reset" } })
    const two = await fake("openai")
    const gateway = await serve([one, two])
    const stream = await watch(gateway)
    expect((await ask(gateway)).status).toBe(200)
    await stream.next(({ data }) => data.kind === "end", "it ends")
    await stream.next(({ data, type }) => type === "fleet" && data.state === "open", "the breaker event arrives")
    const text = `${stream.text()}${await (await gateway.get("/fleet")).text()}${await (await gateway.get("/requests")).text()}`
    expect(text).toContain("server-1")
    expect(text).not.toContain(String(one.port))
    expect(text).not.toContain(String(two.port))
  })

  it.each(kinds)("says since when and why a server rests, immediately and until it is back (%s)", async (kind) => {
    const one = await fake(kind, { faults: [{ kind: "status", code: 500 }] })
    const two = await fake(kind)
    const gateway = await serve([one, two])
    const stream = await watch(gateway, "?types=fleet")
    const before = Date.now()
    expect((await ask(gateway)).status).toBe(200)
    const { data } = await stream.next(({ data }) => data.server === "server-1" && data.state === "open", "it rests")
    const [seen] = data.models.filter((one: { state: string }) => one.state === "open").concat(data)
    expect(seen).toMatchObject({ state: "open", reason: "server-error", why: expect.stringContaining("error") })
    expect(seen.since).toBeGreaterThanOrEqual(before)
    expect(seen.rests_until).toBeGreaterThan(seen.since)
    await gateway.post("/servers/server-1", { action: "wake" })
    await stream.next(
      (event) => event.data.server === "server-1" && event.data.state === "closed" && event.data.at > data.at,
      "it is back"
    )
  })

  it("responds quickly if a server does not answer", async () => {
    const dead = await fake("ollama", { faults: { kind: "hang" }, faultOn: "all" })
    const gateway = await serve([await fake("openai"), dead])
    const began = performance.now()
    const { servers } = await json(gateway.get("/servers"))
    expect(servers).toHaveLength(2)
    expect(performance.now() - began).toBeLessThan(8_000)
    expect(servers[1]).toMatchObject({ reachable: false, problem: expect.any(String) })
  })

  it("has the built-in model if there is no server", async () => {
    const gateway = await serve([])
    expect((await json(gateway.get("/servers"))).servers).toMatchObject([{ server: "embedded", reachable: true }])
  })

  it("publishes changes of a server at most twice a second", async () => {
    const one = await fake("openai", { reply: "a b c", perToken: 1 })
    const gateway = await serve([one])
    const stream = await watch(gateway, "?types=fleet")
    const began = performance.now()
    for (let i = 0; i < 10; i++) await Promise.all(Array.from({ length: 10 }, () => ask(gateway).then((r) => r.text())))
    const took = performance.now() - began
    await stream.next(({ data }) => data.in_flight === 0, "all have ended")
    expect(stream.events.length).toBeLessThanOrEqual(Math.ceil(took / 500) + 2)
  })
})

describe("operations on servers", () => {
  it.each(kinds)("drain: no new requests, running ones continue, and wake ends it (%s)", async (kind) => {
    const one = await fake(kind, { perToken: 20 })
    const two = await fake(kind)
    const gateway = await serve([one, two])
    const first = ask(gateway, { stream: true })
    await one.waitForChats(1)
    expect((await gateway.post("/servers/server-1", { action: "drain" })).status).toBe(200)
    expect((await json(gateway.get("/servers"))).servers[0]).toMatchObject({ draining: true, in_flight: 1 })
    for (let i = 0; i < 3; i++) expect((await ask(gateway)).headers.get("x-aicortex-server")).toBe("server-2")
    expect(await (await first).text()).toContain("[DONE]")
    await gateway.reload()
    expect((await ask(gateway)).headers.get("x-aicortex-server")).toBe("server-2")
    await gateway.post("/servers/server-1", { action: "wake" })
    expect((await ask(gateway)).headers.get("x-aicortex-server")).toBe("server-1")
  })

  it("a request that only a drained server could answer waits until it is woken", async () => {
    const one = await fake("ollama")
    const gateway = await serve([one])
    await gateway.post("/servers/server-1", { action: "drain" })
    const answer = ask(gateway)
    await eventually(async () => (await json(gateway.get("/fleet"))).queued === 1, "it waits")
    expect(one.chatRequests).toHaveLength(0)
    await gateway.post("/servers/server-1", { action: "wake" })
    expect((await answer).status).toBe(200)
  })

  it("rest: it is used only if no other server is available", async () => {
    const one = await fake("ollama")
    const two = await fake("openai")
    const gateway = await serve([one, two])
    await gateway.post("/servers/server-1", { action: "rest", seconds: 600 })
    const { servers } = await json(gateway.get("/servers"))
    expect(servers[0]).toMatchObject({ state: "open", reason: "rest", why: expect.stringContaining("rest") })
    expect(servers[0].rests_until - servers[0].since).toBe(600_000)
    expect((await ask(gateway)).headers.get("x-aicortex-server")).toBe("server-2")
    await two.stop()
    expect((await ask(gateway)).headers.get("x-aicortex-server")).toBe("server-1")
  })

  it("needs an administrator, a known server and a known action", async () => {
    const keys = [
      { name: "root", key: "key-of-the-administrator", admin: true },
      { name: "user", key: "key-of-somebody-else" }
    ]
    const gateway = await serve([await fake("ollama")], { keys })
    const as = (key: string | undefined) => ({
      headers: key === undefined ? {} : { authorization: `Bearer ${key}` }
    })
    const act = (body: object, key?: string, server = "server-1") =>
      gateway.post(`/servers/${server}`, body, as(key)).then(({ status }) => status)
    const [root, user] = keys.map(({ key }) => key)
    expect(await act({ action: "drain" })).toBe(401)
    expect(await act({ action: "drain" }, user)).toBe(403)
    expect(await act({ action: "explode" }, root)).toBe(400)
    expect(await act({}, root)).toBe(400)
    expect(await act({ action: "rest", seconds: 0 }, root)).toBe(400)
    expect(await act({ action: "drain" }, root, "server-9")).toBe(404)
    expect(await act({ action: "drain" }, root)).toBe(200)
    for (const path of ["/fleet", "/servers", "/requests", "/events"]) {
      expect((await gateway.get(path)).status).toBe(401)
    }
    expect((await gateway.get("/requests/x", { method: "DELETE", ...as(user) })).status).toBe(403)
    expect((await gateway.get("/requests/x", { method: "DELETE", ...as(root) })).status).toBe(404)
  })
})

describe("requests", () => {
  const all = kinds.flatMap((kind) => [true, false].map((stream) => [kind, stream] as const))

  it.each(all)("are reported from beginning to end, without their text (%s, stream: %s)", async (kind, stream) => {
    const key = "key-that-is-secret-too"
    const gateway = await serve([await fake(kind)], { keys: [{ name: "ann", key }] })
    const headers = { authorization: `Bearer ${key}` }
    const events = await watch(gateway, "?types=request", headers)
    const response = await ask(gateway, { stream }, { headers: { ...headers, "x-request-id": "mine" } })
    const text = await response.text()
    expect(text).toContain("secretanswer")
    const { data: end } = await events.next(({ data }) => data.kind === "end", "it ends")
    const { data: begin } = await events.next(({ data }) => data.kind === "begin", "it begins")
    expect(begin).toMatchObject({
      id: end.id,
      request_id: "mine",
      route: "/v1/chat/completions",
      key: "ann",
      model,
      stream
    })
    expect(end).toMatchObject({ status: 200, error: null, why: null, server: "server-1", tries: 1, cached: false })
    expect(end.prompt_tokens).toBeGreaterThan(0)
    expect(end.completion_tokens).toBeGreaterThan(0)
    expect(end.decision).toMatchObject({ asked: model, model, server: "server-1", excluded: [] })
    expect(end.attempts).toMatchObject([{ attempt: 1, server: "server-1", model, outcome: "success", hedge: false }])
    const [attempt] = end.attempts
    expect(attempt.began_ms).toBeLessThanOrEqual(attempt.connected_ms)
    expect(attempt.connected_ms).toBeLessThanOrEqual(attempt.first_token_ms)
    expect(attempt.first_token_ms).toBeLessThanOrEqual(attempt.ended_ms)
    const { recent, running } = await json(gateway.get("/requests", { headers }))
    expect(running).toEqual([])
    expect(recent).toMatchObject([{ request_id: "mine", status: 200 }])
    for (const seen of [events.text(), JSON.stringify(recent)]) {
      for (const secret of [secretPrompt, "secretanswer", key]) expect(seen).not.toContain(secret)
    }
  })

  it.each(all)("that fail over have the reason (%s, stream: %s)", async (kind, stream) => {
    const gateway = await serve([await fake(kind, { faults: { kind: "status", code: 503 } }), await fake(kind)])
    const events = await watch(gateway, "?types=request")
    await (await ask(gateway, { stream })).text()
    const { data } = await events.next(({ data }) => data.kind === "end", "it ends")
    expect(data).toMatchObject({
      status: 200,
      tries: 2,
      server: "server-2",
      attempts: [
        { server: "server-1", outcome: "failure", status: 503, why: expect.any(String) },
        { server: "server-2", outcome: "success" }
      ]
    })
  })

  it.each(kinds)("that are interrupted are shown as resumed, while they run (%s)", async (kind) => {
    const one = await fake(kind, { faults: { kind: "cut", after: 5 } })
    const two = await fake(kind, { perToken: 60 })
    const gateway = await serve([one, two])
    const events = await watch(gateway, "?types=request")
    const answer = ask(gateway, { stream: true }).then((response) => response.text())
    await events.next(({ data }) => data.attempt?.attempt === 2 && data.attempt.resumes !== undefined, "it is resumed")
    const { running } = await json(gateway.get("/requests"))
    expect(running).toMatchObject([{ attempts: [{ outcome: "failure", phase: "streaming" }, { server: "server-2" }] }])
    expect(await answer).toContain("[DONE]")
    const { data } = await events.next(({ data }) => data.kind === "end", "it ends")
    expect(data.attempts[1]).toMatchObject({ outcome: "success", resumes: expect.any(String) })
  })

  it("that are hedged have both attempts", async () => {
    const one = await fake("ollama")
    const two = await fake("ollama")
    const servers = [one, two].map(({ url }) => ({ url }))
    const gateway = await serve([], {}, { servers, hedge: { after: 200 } })
    // One call in twenty may be hedged.
    for (let i = 0; i < 24; i++) await (await ask(gateway)).text()
    const events = await watch(gateway, "?types=request")
    await one.setBehaviour({ firstToken: 20_000 })
    const before = one.chatRequests.length
    // Until it is the one that is asked first.
    while (one.chatRequests.length === before) await (await ask(gateway, { stream: true })).text()
    const { data } = await events.next(({ data }) => data.kind === "end" && data.attempts.length === 2, "it is hedged")
    expect(data.attempts).toMatchObject([
      { hedge: false, outcome: "overtaken", server: expect.stringMatching(/^server-[12]$/) },
      { hedge: true, outcome: "success" }
    ])
  })

  it("that wait for a slot say so", async () => {
    const one = await fake("openai", { perToken: 10 })
    const gateway = await serve([one], {}, { servers: [{ url: one.url, maxInFlight: 1 }] })
    const events = await watch(gateway, "?types=request")
    const first = ask(gateway, { stream: true }).then((response) => response.text())
    await one.waitForChats(1)
    const second = ask(gateway, { stream: true }).then((response) => response.text())
    await events.next(({ data }) => data.kind === "queued", "it waits")
    await Promise.all([first, second])
    const { data } = await events.next(({ data }) => data.kind === "end" && data.queued_ms !== undefined, "it ends")
    expect(data.dequeued_ms).toBeGreaterThan(data.queued_ms)
  })

  it.each([
    ["no server has the model", { model: "nope:1b" }, 404, "model_not_found", "No server has the model."],
    ["the request is not valid", { temperature: "hot" }, 400, "invalid_request_error", "The request is not valid."]
  ])("that fail because %s have a message", async (_, body, status, error, why) => {
    const gateway = await serve([await fake("ollama")])
    const events = await watch(gateway, "?types=request")
    await (await ask(gateway, body)).text()
    const { data } = await events.next(({ data }) => data.kind === "end", "it ends")
    expect(data).toMatchObject({ status, error, why })
  })

  it("that fail on every server have each attempt", async () => {
    const faults = { kind: "reset" } as const
    const gateway = await serve([await fake("ollama", { faults }), await fake("openai", { faults })])
    const events = await watch(gateway, "?types=request")
    await (await ask(gateway)).text()
    const { data } = await events.next(({ data }) => data.kind === "end", "it ends")
    expect(data).toMatchObject({ status: 502, error: "all_servers_failed" })
    expect(data.attempts.length).toBeGreaterThan(1)
  })

  it("for embeddings are included, too", async () => {
    const gateway = await serve([await fake("ollama", { models: [{ name: model, capabilities: ["embedding"] }] })])
    const events = await watch(gateway, "?types=request")
    await (await gateway.post("/v1/embeddings", { model, input: secretPrompt })).text()
    const { data } = await events.next(({ data }) => data.kind === "end", "it ends")
    expect(data).toMatchObject({ route: "/v1/embeddings", attempts: [{ outcome: "success" }] })
    expect(events.text()).not.toContain(secretPrompt)
  })

  it.each(all)("are cancelled by an administrator (%s, stream: %s)", async (kind, stream) => {
    const one = await fake(kind, { perToken: 50, reply: "word ".repeat(1_000) })
    const gateway = await serve([one])
    const events = await watch(gateway, "?types=request")
    const answer = ask(gateway, { stream }).then((response) => response.text())
    const broken = answer.then(
      () => "whole",
      () => "broken"
    )
    await one.waitForChats(1)
    const { running } = await json(gateway.get("/requests"))
    expect((await gateway.get(`/requests/${running[0].id}`, { method: "DELETE" })).status).toBe(200)
    expect(await broken).toBe("broken")
    await eventually(() => one.inFlight() === 0, "the server is left")
    const { data } = await events.next(({ data }) => data.kind === "end", "it ends")
    expect(data).toMatchObject({ error: "cancelled", attempts: [{ outcome: "cancelled" }] })
  })

  it("are not tracked without watchers", async () => {
    const gateway = await serve([await fake("ollama")])
    await ask(gateway)
    expect(await json(gateway.get("/requests"))).toEqual({ running: [], recent: [] })
  })
})

describe("models", () => {
  it("events about downloads with progress, and about changes", async () => {
    const one = await fake("ollama", { models: [model] })
    const gateway = await serve([one])
    const events = await watch(gateway, "?types=download,model")
    await (await gateway.post("/api/pull", { model: "new:1b" })).text()
    await events.next(({ data, type }) => type === "model" && data.action === "pull", "it is there")
    const states = events.events.filter(({ type }) => type === "download").map(({ data }) => data.state)
    expect([states[0], states.at(-1)]).toEqual(["begin", "done"])
    await gateway.post("/api/generate", { model, keep_alive: 0 }, { headers: { "x-aicortex-target": "server-1" } })
    await events.next(({ data }) => data.action === "unload" && data.model === model, "it is unloaded")
    await gateway.get("/api/delete", { method: "DELETE", body: JSON.stringify({ model: "new:1b" }) })
    await events.next(({ data }) => data.action === "remove", "it is removed")
    await (await gateway.post("/api/pull", { model: "fails:1b", server: "server-1", insecure: true })).text()
  })
})

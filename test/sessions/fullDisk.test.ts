import { spawnSync } from "node:child_process"
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { request } from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Stream from "effect/Stream"
import { afterAll, afterEach, assert, describe, it } from "vitest"
import * as Chat from "../../src/Chat.js"
import type { End } from "../../src/ChatEvent.js"
import * as Cortex from "../../src/Cortex.js"
import { SessionNotFound, SessionsUnavailable, TurnNotStored } from "../../src/Errors.js"
import { type Message, text } from "../../src/Message.js"
import { createCortex } from "../../src/promise.js"
import * as Sessions from "../../src/Sessions.js"
import * as Store from "../../src/Store.js"
import { type FakeServer, startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { startGateway } from "../support/gateway.js"

const model = "m:1b"
const home = mkdtempSync(join(tmpdir(), "aicortex-full-"))
afterAll(() => rmSync(home, { recursive: true, force: true }))
let count = 0
const newFolder = () => join(home, String(count++))

const stops: Array<() => unknown> = []
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop()
})

const protocols = { ollama: startFakeOllama, openai: startFakeOpenAI }
type Protocol = keyof typeof protocols
const start = async (protocol: Protocol, options: object = {}): Promise<FakeServer> => {
  const server = await protocols[protocol]({ models: [model], reply: "It is blue.", ...options })
  stops.push(server.stop)
  return server as FakeServer
}

/** A disk that takes no more once it is told so. */
class Disk {
  failure: { readonly code: string } | undefined
}

const failures = [{ code: "ENOSPC" }, { code: "EDQUOT" }, { code: "EROFS" }, { code: "EACCES" }] as const

const storeOn = async (disk: Disk, folder: string): Promise<Sessions.Store> => {
  const memory = await Effect.runPromise(Sessions.makeStoreMemory())
  return {
    ...memory,
    append: (...turn) =>
      Effect.suspend(() =>
        disk.failure === undefined
          ? memory.append(...turn)
          : Effect.fail(new SessionsUnavailable({ reason: `${folder} cannot be used (${disk.failure.code})` }))
      )
  }
}
const said = async (store: Sessions.Store, id: string) => {
  const stored = await Effect.runPromise(store.load(id))
  return stored._tag === "Some" ? stored.value.messages.map(text) : undefined
}

describe("a turn that cannot be stored after the model has answered", () => {
  const cases = failures.flatMap((failure) =>
    (["ollama", "openai"] as const).map((protocol) => [failure.code, protocol, failure] as const)
  )
  it.each(cases)(
    "%s over %s: the answer comes whole and as a stream, with a warning",
    async (code, protocol, failure) => {
      const server = await start(protocol)
      const disk = new Disk()
      const store = await storeOn(disk, newFolder())
      const logged: Array<string> = []
      const layer = Cortex.layer(
        { servers: [{ url: server.url, protocol }], model, configFile: false },
        { store: Layer.succeed(Sessions.SessionStore, store) }
      ).pipe(
        Layer.provideMerge(
          Logger.replace(
            Logger.defaultLogger,
            Logger.make(({ logLevel, message }) => void logged.push(`${logLevel.label} ${String(message)}`))
          )
        )
      )
      const program = Effect.gen(function* () {
        const { id } = yield* Sessions.create()
        const session = id
        assert.isUndefined((yield* Chat.complete("The sky?", { session })).warnings)
        disk.failure = failure
        const whole = yield* Chat.complete("And now?", { session })
        assert.strictEqual(whole.text, "It is blue.")
        const [warning] = whole.warnings ?? []
        assert.instanceOf(warning, TurnNotStored)
        assert.strictEqual(warning?.session, id)
        assert.include(warning?.reason, code)
        assert.deepEqual(
          logged.filter((line) => line.startsWith("WARN")),
          [`WARN ${warning?.message}`]
        )

        const events = yield* Stream.runCollect(Chat.stream("And now?", { session }))
        const all = [...events]
        assert.strictEqual(all.map((event) => (event.type === "token" ? event.content : "")).join(""), "It is blue.")
        const end = all.at(-1) as End
        assert.strictEqual(end.type, "end")
        assert.instanceOf(end.warnings?.[0], TurnNotStored)
        assert.include(end.warnings?.[0]?.reason, code)

        assert.strictEqual(yield* Chat.text("And now?", { session }), "It is blue.")
        assert.lengthOf(
          logged.filter((line) => line.startsWith("WARN")),
          3
        )
        // What was acknowledged stays, and the next turn goes after it once there is room.
        assert.deepEqual(yield* Effect.promise(() => said(store, id)), ["The sky?", "It is blue."])
        disk.failure = undefined
        assert.isUndefined((yield* Chat.complete("Still?", { session })).warnings)
        assert.deepEqual(yield* Effect.promise(() => said(store, id)), [
          "The sky?",
          "It is blue.",
          "Still?",
          "It is blue."
        ])
      })
      await Effect.runPromise(Effect.provide(program, layer))
    }
  )

  it("answers with tools, and values of a schema, are not lost either", async () => {
    const server = await start("openai", {
      reply: ({ messages }: { readonly messages: ReadonlyArray<Message> }) =>
        messages.some(({ role }) => role === "tool")
          ? "Done."
          : { tokens: "", toolCalls: [{ name: "look", arguments: { where: "up" } }] }
    })
    const json = await start("ollama", { reply: '{"colour":"blue"}' })
    const disk = new Disk()
    const store = await storeOn(disk, newFolder())
    const replace = { store: Layer.succeed(Sessions.SessionStore, store) }
    const tools = [
      { name: "look", description: "looks", parameters: { type: "object" }, execute: () => Effect.succeed("a sky") }
    ]
    disk.failure = failures[0]
    const ran = Effect.gen(function* () {
      const { id } = yield* Sessions.create()
      return yield* Chat.complete("Look", { session: id, tools: tools as never })
    })
    const layerOf = (url: string, protocol: Protocol) =>
      Cortex.layer({ servers: [{ url, protocol }], model, configFile: false }, replace)
    const result = await Effect.runPromise(Effect.provide(ran, layerOf(server.url, "openai")))
    assert.strictEqual(result.text, "Done.")
    assert.lengthOf(result.warnings ?? [], 1)

    const { Schema } = await import("effect")
    const read = Effect.gen(function* () {
      const { id } = yield* Sessions.create()
      return yield* Chat.json("Which?", Schema.Struct({ colour: Schema.String }), { session: id })
    })
    assert.deepEqual(await Effect.runPromise(Effect.provide(read, layerOf(json.url, "ollama"))), { colour: "blue" })
  })

  it("a shared or cached answer is not lost either", async () => {
    const server = await start("ollama")
    const disk = new Disk()
    const store = await storeOn(disk, newFolder())
    const program = Effect.gen(function* () {
      disk.failure = failures[0]
      const one = yield* Sessions.create()
      const two = yield* Sessions.create()
      const first = yield* Chat.complete("Hi", { session: one.id, cache: true, temperature: 0 })
      const second = yield* Chat.complete("Hi", { session: two.id, cache: true, temperature: 0 })
      const events = yield* Stream.runCollect(Chat.stream("Hi", { session: two.id, cache: true, temperature: 0 }))
      return [first, second, [...events].at(-1) as End] as const
    })
    const layer = Cortex.layer(
      { servers: [server.url], model, configFile: false },
      { store: Layer.succeed(Sessions.SessionStore, store) }
    )
    const [first, second, end] = await Effect.runPromise(Effect.provide(program, layer))
    assert.deepEqual([first.cached, second.cached], [false, true])
    for (const { warnings } of [first, second, end]) assert.instanceOf(warnings?.[0], TurnNotStored)
  })

  it("a conversation that was removed meanwhile, or cannot be read before, is still an error", async () => {
    const server = await start("ollama")
    const memory = await Effect.runPromise(Sessions.makeStoreMemory())
    let removing = false
    let broken = false
    const store: Sessions.Store = {
      ...memory,
      load: (id) => (broken ? Effect.fail(new SessionsUnavailable({ reason: "the line is dead" })) : memory.load(id)),
      append: (id, version, messages) =>
        removing
          ? Effect.zipRight(memory.remove(id), memory.append(id, version, messages))
          : memory.append(id, version, messages)
    }
    const program = Effect.gen(function* () {
      const { id } = yield* Sessions.create()
      broken = true
      const unread = yield* Effect.flip(Chat.complete("Hi", { session: id }))
      broken = false
      removing = true
      return [unread, yield* Effect.flip(Chat.complete("Hi", { session: id }))] as const
    })
    const layer = Cortex.layer(
      { servers: [server.url], model, configFile: false },
      { store: Layer.succeed(Sessions.SessionStore, store) }
    )
    const [unread, removed] = await Effect.runPromise(Effect.provide(program, layer))
    assert.instanceOf(unread, SessionsUnavailable)
    assert.instanceOf(removed, SessionNotFound)
    assert.lengthOf(
      server.requests.filter(({ kind }) => kind === "chat"),
      1
    )
  })
})

describe("a full disk", () => {
  it("the answer is returned, earlier turns remain, and nothing partial is stored", async (context) => {
    const place = join(home, "tmpfs")
    mkdirSync(place)
    const { status } = spawnSync("mount", ["-t", "tmpfs", "-o", "size=4m", "tmpfs", place])
    if (status !== 0) context.skip("a file system of its own cannot be mounted here")
    context.onTestFinished(() => void spawnSync("umount", ["--lazy", place]))
    const server = await start("ollama")
    const cortex = createCortex({ servers: [server.url], model, configFile: false, store: join(place, "store.db") })
    stops.push(() => cortex.close())
    const session = await cortex.Session.create()
    assert.strictEqual(await cortex.chat("One", { session }), "It is blue.")
    const filler = join(place, ".filler")
    assert.throws(() => writeFileSync(filler, Buffer.alloc(8 * 1024 * 1024)), /ENOSPC/)
    assert.strictEqual(await cortex.chat("Two", { session }), "It is blue.")
    const events = await cortex.chat("Three", { session, stream: true })
    assert.strictEqual(await events.text(), "It is blue.")
    const end = events.events.at(-1) as End
    assert.match(end.warnings?.[0]?.reason ?? "", /full|ENOSPC|no space/)
    assert.deepEqual((await session.history()).map(text), ["One", "It is blue."])
    const refused = await cortex.Session.create().then(() => undefined, String)
    assert.match(refused ?? "", /^SessionsUnavailable: .*Make room there: until then it fails again\.$/)
    rmSync(filler)
    await cortex.chat("Four", { session })
    assert.deepEqual((await session.history()).map(text), ["One", "It is blue.", "Four", "It is blue."])
  })
})

describe("what to do about conversations that cannot be used fits the cause", () => {
  const full = "Make room there: until then it fails again."
  const unwritable = "See to it that it can be written: until then it fails again."
  const broken = "It fails again until that is mended."
  const away = "Try again in a moment."
  it.each([
    ["/srv/x.db cannot be used (ENOSPC: no space left on device, write)", full],
    ["/srv/x.db cannot be used (database or disk is full)", full],
    ["/srv/x.db cannot be used (EDQUOT: quota exceeded)", full],
    ["PostgreSQL does not serve (could not extend file: No space left on device)", full],
    ["/srv/x.db cannot be made (EROFS: read-only file system): let AICORTEX_STORE name another place", unwritable],
    ["/srv/x.db cannot be used (attempt to write a readonly database)", unwritable],
    ["/srv/x.db cannot be used (EACCES: permission denied)", unwritable],
    ["PostgreSQL does not serve (cannot execute INSERT in a read-only transaction)", unwritable],
    ["the package libsql is not installed: npm install libsql", broken],
    ['PostgreSQL does not serve (password authentication failed for user "a")', broken],
    ["/srv/x.db cannot be used (file is not a database)", broken],
    ["/srv/read-only/x.db cannot be used (database is locked)", away],
    ["PostgreSQL does not serve (connect ECONNREFUSED 127.0.0.1:5432)", away],
    ["it does not answer within 8 s", away],
    ["the line is dead", away]
  ])("%s", async (reason, expected) => {
    const failing = Effect.fail(new SessionsUnavailable({ reason }))
    const memory = await Effect.runPromise(Sessions.makeStoreMemory())
    const store: Sessions.Store = { ...memory, create: () => failing }
    const layer = Cortex.layer(
      { servers: [], model, configFile: false },
      { store: Layer.succeed(Sessions.SessionStore, store) }
    )
    const error = await Effect.runPromise(Effect.provide(Effect.flip(Sessions.create()), layer))
    assert.strictEqual(error.message, `The session cannot be used now: ${reason}. ${expected}`)
    await using gateway = await startGateway([], {}, { shared: { sessions: store } as never })
    const response = await gateway.post("/v1/sessions", {})
    assert.deepEqual([response.status, response.headers.get("retry-after")], [503, expected === away ? "1" : null])
    assert.include(await response.text(), expected)
  })
})

const troubles = [
  ["database or disk is full", "has no room left. Make room there: until then it fails again.", null],
  [
    "attempt to write a readonly database",
    "cannot be written. See to it that it can be written: until then it fails again.",
    null
  ],
  ["interrupted", "cannot be reached. Try again in a moment.", "1"]
] as const

it.each(troubles)("a key that cannot be stored: %s", async (words, expected, wait) => {
  const address = join(home, `keys-${count++}.db`)
  const root = { name: "root", key: "root-secret", admin: true } as const
  await using gateway = await startGateway([], { keys: [root] }, { cortex: { store: address, servers: [] } })
  const create = (name: string) => gateway.post("/keys", { name }, { headers: { authorization: `Bearer ${root.key}` } })
  assert.strictEqual((await create("ann")).status, 201)
  const fails = `CREATE TRIGGER full BEFORE INSERT ON aicortex_keys BEGIN SELECT RAISE(ABORT, '${words}'); END`
  const damage = Effect.flatMap(Store.make(address), (store) => store.use((sql) => sql.unsafe(fails)))
  await Effect.runPromise(Effect.scoped(damage))
  const response = await create("bob")
  assert.deepEqual([response.status, response.headers.get("retry-after")], [503, wait])
  assert.include(await response.text(), `The store of API keys ${expected}`)
})

describe.each(troubles)("limits that cannot be stored: %s", (words, expected, wait) => {
  it.each([{ requests_per_minute: 6 }, { tokens_per_day: 1_000 }])("%o", async (limit) => {
    const address = join(home, `limits-${count++}.db`)
    const root = { name: "root", key: "root-secret", admin: true } as const
    const server = await start("ollama")
    const servers = { cortex: { store: address, servers: [{ url: server.url, protocol: "ollama" }] } } as const
    await using gateway = await startGateway([], { keys: [root] }, servers)
    const as = (key: string) => ({ headers: { authorization: `Bearer ${key}` } })
    const made = await gateway.post("/keys", { name: "ann", ...limit }, as(root.key))
    const { key } = (await made.json()) as { readonly key: string }
    const damage = Effect.flatMap(Store.make(address), (store) =>
      store.use((sql) =>
        Effect.forEach(["INSERT", "UPDATE"], (when) =>
          sql.unsafe(
            `CREATE TRIGGER full_${when} BEFORE ${when} ON aicortex_limits BEGIN SELECT RAISE(ABORT, '${words}'); END`
          )
        )
      )
    )
    await Effect.runPromise(Effect.scoped(damage))
    const question = { model, messages: [{ role: "user", content: "Hi" }], max_tokens: 8 }
    const response = await gateway.post("/v1/chat/completions", question, as(key))
    const cause = wait === null ? `: the store ${expected}` : ". Try again in a moment."
    assert.deepEqual([response.status, response.headers.get("retry-after")], [503, wait])
    const { error } = (await response.json()) as { readonly error: { readonly code: string; readonly message: string } }
    assert.strictEqual(error.code, "limits_unavailable")
    assert.strictEqual(error.message, `What this API key may still use cannot be looked up${cause}`)
  })
})

describe("the gateway with a store that fails", () => {
  /** The whole response, with its trailers. */
  const post = (url: string, path: string, body: object) =>
    new Promise<{ status: number; headers: object; trailers: NodeJS.Dict<string>; text: string }>((resolve, reject) => {
      const clientRequest = request(
        `${url}${path}`,
        { method: "POST", headers: { "content-type": "application/json" } },
        (response) => {
          let text = ""
          response.setEncoding("utf8")
          response.on("data", (part) => {
            text += part
          })
          response.on("end", () =>
            resolve({ status: response.statusCode ?? 0, headers: response.headers, trailers: response.trailers, text })
          )
          response.on("error", reject)
        }
      )
      clientRequest.on("error", reject)
      clientRequest.end(JSON.stringify(body))
    })
  const messages = [{ role: "user", content: "Hi" }]
  const faces = [
    ["chat completions", "/v1/chat/completions", { messages }],
    ["messages", "/v1/messages", { messages, max_tokens: 50 }],
    ["responses", "/v1/responses", { input: "Hi", store: false }],
    ["Ollama's chat", "/api/chat", { messages }]
  ] as const

  it.each(faces)("%s: the answer with a warning, complete and streamed", async (_, path, body) => {
    const server = await start("ollama")
    const disk = new Disk()
    const folder = newFolder()
    const store = await storeOn(disk, folder)
    let lines = ""
    await using gateway = await startGateway(
      [server.url],
      { log: "json" },
      {
        shared: { sessions: store } as never,
        accessLog: (text) => {
          lines += text
        }
      }
    )
    const session = ((await (await gateway.post("/v1/sessions", {})).json()) as { id: string }).id
    const fine = await post(gateway.url, path, { model, session, stream: false, ...body })
    assert.strictEqual(fine.status, 200, fine.text)
    assert.notProperty(fine.headers, "x-aicortex-warning")
    const streamed = await post(gateway.url, path, { model, session, stream: true, ...body })
    assert.deepEqual({ ...streamed.trailers }, {})
    assert.notInclude(streamed.text, "x-aicortex-warning")
    const before = await said(store, session)
    assert.lengthOf(before ?? [], 4)

    disk.failure = failures[0]
    const whole = await post(gateway.url, path, { model, session, stream: false, ...body })
    assert.strictEqual(whole.status, 200)
    assert.include(whole.text, "It is blue.")
    assert.propertyVal(whole.headers, "x-aicortex-warning", "session_not_stored")
    assert.notInclude(JSON.stringify(whole), folder)
    const stream = await post(gateway.url, path, { model, session, stream: true, ...body })
    assert.strictEqual(stream.status, 200)
    assert.strictEqual(stream.trailers["x-aicortex-warning"], "session_not_stored")
    if (path !== "/api/chat") assert.include(stream.text, ": x-aicortex-warning: session_not_stored\n\n")
    else for (const line of stream.text.trim().split("\n")) JSON.parse(line)
    assert.deepEqual(await said(store, session), before)
    const reported = lines
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line))
    assert.deepEqual(
      reported.filter(({ route }) => route === path).map(({ warning }) => warning),
      [undefined, undefined, "session_not_stored", "session_not_stored"]
    )
  })
})

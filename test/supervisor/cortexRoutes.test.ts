/** Cortex's HTTP routes about the models of this machine, at `aicortex serve` and at the supervisor's own endpoint. */
import { readFileSync } from "node:fs"
import OpenAI, { NotFoundError } from "openai"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { defaultModelPath } from "../../src/backend/embedded.js"
import { build } from "../support/cliProcess.js"
import { until } from "../support/engines.js"
import { FakeHub } from "../support/fakeHub.js"
import { type LocalHome, localHome } from "../support/localHome.js"
import { serveIn } from "../support/serveLocal.js"

const demo = defaultModelPath()
const bytes = readFileSync(demo)
const keys = [
  { name: "root", key: "sk-root-0123456789", admin: true },
  { name: "user", key: "sk-user-0123456789" }
] as const
const [{ key: root }, { key: user }] = keys
const timeout = 120_000

// biome-ignore lint/suspicious/noExplicitAny: answers are read freely.
type Json = any

/** Each route, with a body that it takes. */
const routes: ReadonlyArray<readonly [method: string, path: string, body?: object]> = [
  ["POST", "/v1/models/start", { model: "nobody" }],
  ["POST", "/v1/models/stop", { model: "nobody" }],
  ["POST", "/v1/models/pull", { model: "owner/none" }],
  ["GET", "/v1/models/pull"],
  ["GET", "/v1/models/pull/task-none"],
  ["DELETE", "/v1/models/pull/task-none"],
  ["POST", "/v1/models/import", { modelPath: "/nowhere/none.gguf" }],
  ["PATCH", "/v1/models/nobody", { ctx_len: 128 }],
  ["DELETE", "/v1/models/nobody"],
  ["GET", "/local/quantisations?model=owner/none"]
]

describe.each(["serve", "the supervisor's endpoint"] as const)("%s", (where) => {
  let hub: FakeHub
  let local: LocalHome
  let url = ""
  let end: () => Promise<void> = async () => {}

  beforeAll(async () => {
    build()
    hub = await FakeHub.start()
    hub.add("owner/tiny", "tiny-Q4_K_M.gguf", bytes)
    hub.add("owner/slow", "slow-Q4_K_M.gguf", bytes)
    const env = { HF_ENDPOINT: hub.url }
    local = localHome(env, { gateway: { keys } })
    if (where === "serve") {
      const served = await serveIn(local, [], env)
      url = served.url
      end = async () => {
        await served[Symbol.asyncDispose]()
      }
    } else {
      await local.ok("start", "--port", "0")
      url = new URL(local.state()?.url ?? "").origin
    }
  }, 180_000)
  afterAll(async () => {
    await end()
    await local[Symbol.asyncDispose]()
    await hub.stop()
  })

  const send = async (
    method: string,
    path: string,
    body?: object | string,
    headers: Record<string, string> = { authorization: `Bearer ${root}` }
  ): Promise<{ readonly status: number; readonly body: Json; readonly ignored: string | null }> => {
    const response = await fetch(`${url}${path}`, {
      method,
      headers: { ...(body === undefined ? {} : { "content-type": "application/json" }), ...headers },
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) })
    })
    return {
      status: response.status,
      body: await response.json(),
      ignored: response.headers.get("x-aicortex-ignored")
    }
  }
  const clientOf = (apiKey: string) => new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 })

  it("is alive, and describes the machine and its engines", { timeout }, async () => {
    assert.include((await send("GET", "/healthz", undefined, {})).body, { status: "ok" })
    const hardware = await send("GET", "/v1/hardware", undefined, { authorization: `Bearer ${user}` })
    assert.strictEqual(hardware.status, 200)
    assert.isAtLeast(hardware.body.cpu.cores, 1)
    assert.isAbove(hardware.body.ram.total, hardware.body.ram.available)
    assert.isAbove(hardware.body.storage.total, 0)
    assert.isArray(hardware.body.gpus)
    const engines = await send("GET", "/v1/engines", undefined, { "x-api-key": user })
    const own = engines.body.data.find(({ name }: Json) => name === "aicortex")
    assert.include(own, { status: "Ready" })
    for (const path of ["/v1/hardware", "/v1/engines"]) {
      assert.strictEqual((await send("GET", path, undefined, {})).status, 401)
    }
  })

  it("lists its models, and the variants of one", { timeout }, async () => {
    const none = await send("GET", "/local/models", undefined, { authorization: `Bearer ${user}` })
    assert.strictEqual(none.status, 200)
    assert.isArray(none.body.models)
    const found = await send("GET", "/local/quantisations?model=owner/tiny")
    assert.deepStrictEqual(found.body.quantisations, [{ name: "Q4_K_M", size: bytes.length, fits: true, chosen: true }])
    assert.strictEqual((await send("GET", "/local/quantisations")).status, 400)
    assert.strictEqual((await send("GET", "/local/quantisations?model=owner/none")).body.error.code, "download_failed")
    assert.strictEqual((await send("GET", "/local/models", undefined, {})).status, 401)
  })

  it("refuses management without permission, or from another origin", { timeout }, async () => {
    for (const [method, path, body] of routes) {
      const code = async (headers: Record<string, string>) => {
        const answer = await send(method, path, body, headers)
        return [answer.status, answer.body.error.code]
      }
      assert.deepStrictEqual(await code({}), [401, "missing_api_key"], path)
      assert.deepStrictEqual(await code({ authorization: "Bearer wrong" }), [401, "invalid_api_key"], path)
      assert.deepStrictEqual(await code({ authorization: `Bearer ${user}` }), [403, "not_admin"], path)
      const elsewhere = { authorization: `Bearer ${root}`, origin: "https://evil.example" }
      assert.deepStrictEqual(await code(elsewhere), [403, "forbidden_origin"], path)
      const preflight = await fetch(`${url}${path}`, { method: "OPTIONS", headers: { origin: "https://evil.example" } })
      assert.strictEqual(preflight.status, 403)
    }
    const preflight = await fetch(`${url}/v1/models/x`, {
      method: "OPTIONS",
      headers: { origin: "http://localhost:1" }
    })
    assert.include(preflight.headers.get("access-control-allow-methods"), "PATCH")
  })

  it("reports invalid bodies and missing resources", { timeout }, async () => {
    for (const [method, path, body, status, word] of [
      ["POST", "/v1/models/start", {}, 400, "model"],
      ["POST", "/v1/models/start", { model: 1 }, 400, "model"],
      ["POST", "/v1/models/start", { model: "nobody", ngl: -2 }, 400, "ngl"],
      ["POST", "/v1/models/start", { model: "nobody", ctx_len: "many" }, 400, "ctx_len"],
      ["POST", "/v1/models/start", { model: "nobody" }, 404, "nobody"],
      ["POST", "/v1/models/start", "{", 400, "JSON"],
      ["POST", "/v1/models/stop", {}, 400, "model"],
      ["POST", "/v1/models/stop", { model: "nobody" }, 404, "nobody"],
      ["POST", "/v1/models/pull", { name: "x" }, 400, "model"],
      ["POST", "/v1/models/pull", { model: "not a name" }, 400, "not a name"],
      ["POST", "/v1/models/pull", { model: "llama3.2:3b" }, 400, "/api/pull"],
      ["POST", "/v1/models/import", { model: "x" }, 400, "modelPath"],
      ["POST", "/v1/models/import", { modelPath: "/nowhere/none.gguf" }, 400, "no such file"],
      ["POST", "/v1/models/import", { modelPath: demo, option: "move" }, 400, "option"],
      ["PATCH", "/v1/models/nobody", { ctx_len: 128 }, 404, "nobody"],
      ["PATCH", "/v1/models/nobody", { n_parallel: 0 }, 400, "n_parallel"],
      ["DELETE", "/v1/models/nobody", undefined, 404, "nobody"],
      ["GET", "/v1/models/nobody", undefined, 404, "nobody"],
      ["GET", "/v1/models/pull/task-none", undefined, 404, "task-none"],
      ["DELETE", "/v1/models/pull/task-none", undefined, 404, "task-none"],
      ["PUT", "/v1/models/start", {}, 405, "POST"]
    ] as const) {
      const answer = await send(method, path, body)
      assert.strictEqual(answer.status, status, `${method} ${path} ${JSON.stringify(answer.body)}`)
      assert.include(answer.body.error.message, word)
    }
  })

  it("imports, changes, starts, stops and deletes a model", { timeout }, async () => {
    const imported = await send("POST", "/v1/models/import", { model: "mine", modelPath: demo, option: "symlink" })
    assert.include(imported.body, { modelHandle: "mine", result: "OK" })
    const twice = await send("POST", "/v1/models/import", {
      model: "mine",
      modelPath: local.home.write("o.gguf", bytes)
    })
    assert.deepStrictEqual([twice.status, twice.body.error.code], [409, "model_exists"])
    const { models } = clientOf(user)
    await until("it is listed", async () => (await models.list()).data.some(({ id }) => id === "mine"))
    const one = async (): Promise<Json> => models.retrieve("mine")
    assert.deepNestedInclude(await one(), { id: "mine", "local.settings": {}, "local.engines[0].state": "stopped" })

    const changed = await send("PATCH", "/v1/models/mine", { ctx_len: 256, n_parallel: 2, keep_alive: 60, model: "x" })
    assert.deepStrictEqual(changed.body.settings, { contextSize: 256, parallel: 2, keepAlive: 60_000 })
    assert.strictEqual(changed.ignored, "model")
    assert.deepStrictEqual((await send("PATCH", "/v1/models/mine", { keep_alive: null })).body.settings, {
      contextSize: 256,
      parallel: 2
    })

    const started = await send("POST", "/v1/models/start", { model: "mine", engine: "llama-cpp", cpu_threads: 1 })
    assert.deepStrictEqual(started.body, { message: "Started successfully!", model: "mine" })
    assert.strictEqual((await send("POST", "/v1/models/start", { model: "mine" })).status, 200)
    await until("it is told", async () => (await one()).local.engines[0].state === "ready")
    assert.deepNestedInclude(await one(), { context_length: 256, "local.engines[0].slots": 2 })
    const chat = await clientOf(user).chat.completions.create({
      model: "mine",
      messages: [{ role: "user", content: "What is the capital of France?" }],
      temperature: 0
    })
    assert.include(chat.choices[0]?.message.content, "Paris")

    assert.include((await send("POST", "/v1/models/stop", { model: "mine" })).body, {
      message: "Stopped successfully!"
    })
    const again = await send("POST", "/v1/models/stop", { model: "mine" })
    assert.deepStrictEqual([again.status, again.body.error.code], [404, "model_not_running"])
    const deleted = await clientOf(root).models.delete("mine")
    assert.include(deleted, { id: "mine", deleted: true })
    await until("it is gone", async () => !(await models.list()).data.some(({ id }) => id === "mine"))
    const missing = await models.retrieve("mine").catch((error: unknown) => error)
    assert.instanceOf(missing, NotFoundError)
    // The file was imported as it was, and stays.
    assert.deepStrictEqual(readFileSync(demo).length, bytes.length)
  })

  it("downloads with progress events; one is cancelled, and continued later", { timeout }, async () => {
    const controller = new AbortController()
    const watching = await fetch(`${url}/events?types=download,model`, {
      headers: { authorization: `Bearer ${user}` },
      signal: controller.signal
    })
    const events: Array<Json> = []
    const reading = (async () => {
      let text = ""
      for await (const piece of watching.body ?? []) {
        text += new TextDecoder().decode(piece, { stream: true })
        const blocks = text.split("\n\n")
        text = blocks.pop() ?? ""
        for (const block of blocks) {
          const data = /^data: (.*)$/m.exec(block)?.[1]
          if (data !== undefined) events.push(JSON.parse(data))
        }
      }
    })().catch(() => {})

    const ended = async (id: string): Promise<Json> => {
      let task: Json
      await until("it has ended", async () => {
        task = (await send("GET", `/v1/models/pull/${id}`)).body
        return task.state !== "running"
      })
      return task
    }
    const begun = await send("POST", "/v1/models/pull", { model: "owner/tiny:Q4_K_M", name: "tiny" })
    assert.strictEqual(begun.body.message, "Model start downloading!")
    const { id } = begun.body.task
    assert.include(await ended(id), { state: "done", stored: "tiny", completed: bytes.length, total: bytes.length })
    await until("its end is told", () => events.some(({ state, task }) => task === id && state === "done"))
    const own = events.filter(({ task }) => task === id)
    assert.deepInclude(own[0], { action: "pull", model: "tiny", server: "this machine", state: "begin" })
    assert.isTrue(own.some(({ state, total }) => state === "progress" && total === bytes.length))
    await until("it is offered", async () => (await send("GET", "/v1/models/tiny")).status === 200)

    hub.behaviour = { piece: 64 * 1024, pace: 100 }
    const slow = (await send("POST", "/v1/models/pull", { model: "owner/slow:Q4_K_M" })).body.task.id
    const same = (await send("POST", "/v1/models/pull", { model: "owner/slow:Q4_K_M" })).body.task.id
    assert.strictEqual(same, slow)
    await until("some of it is there", async () => (await send("GET", `/v1/models/pull/${slow}`)).body.completed > 0)
    const cancelled = await send("DELETE", `/v1/models/pull/${slow}`)
    assert.deepInclude(cancelled.body, { message: "Download stopped successfully" })
    assert.include(cancelled.body.task, { id: slow, state: "cancelled" })
    assert.strictEqual((await send("DELETE", `/v1/models/pull/${slow}`)).status, 404)
    assert.strictEqual((await send("GET", "/v1/models/owner/slow:Q4_K_M")).status, 404)
    await until("that is told", () => events.some(({ state, task }) => task === slow && state === "failed"))
    hub.behaviour = {}
    hub.forget()
    const rest = (await send("POST", "/v1/models/pull", { model: "owner/slow:Q4_K_M" })).body.task.id
    assert.include(await ended(rest), { state: "done" })
    assert.isBelow(hub.sent, bytes.length)
    const all = (await send("GET", "/v1/models/pull")).body.data
    assert.deepStrictEqual(
      all.map(({ state }: Json) => state),
      ["done", "cancelled", "done"]
    )

    const failing = (await send("POST", "/v1/models/pull", { model: "owner/none:Q4_K_M" })).body.task.id
    const failed = await ended(failing)
    assert.strictEqual(failed.state, "failed")
    assert.match(failed.error, /owner\/none/)
    controller.abort()
    await reading
  })
})

describe("where the models of this machine are not managed", () => {
  it("the routes say so", { timeout }, async () => {
    await using local = localHome()
    await using served = await serveIn(local, ["--no-local"])
    for (const [method, path, body] of [...routes, ["GET", "/v1/hardware"], ["GET", "/v1/engines"]] as const) {
      const response = await fetch(`${served.url}${path}`, {
        method: String(method),
        headers: { "content-type": "application/json" },
        ...(body === undefined ? {} : { body: JSON.stringify(body) })
      })
      const { error } = (await response.json()) as Json
      assert.deepStrictEqual([response.status, error.code], [404, "no_local_models"], String(path))
    }
    assert.isUndefined(local.state())
  })
})

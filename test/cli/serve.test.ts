import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import OpenAI, { NotFoundError } from "openai"
import { Agent, fetch as undiciFetch } from "undici"
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest"
import { type FakeServer, startFakeOllama } from "../support/fakeServer.js"
import { eventually } from "../support/gateway.js"
import { metrics } from "../support/prometheus.js"

const root = fileURLToPath(new URL("../..", import.meta.url))
const bin = join(root, "dist/bin.js")
const home = mkdtempSync(join(tmpdir(), "aicortex-serve-"))
const model = "m:1b"

beforeAll(() => {
  const built = spawnSync(process.execPath, [join(root, "scripts/setup.mjs")], { encoding: "utf8" })
  expect(built.status, built.stderr).toBe(0)
}, 120_000)
afterAll(() => rmSync(home, { recursive: true, force: true }))

interface Served {
  readonly child: ChildProcess
  readonly url: string
  readonly file: string
  readonly said: () => string
  readonly ended: Promise<number | null>
}

const open: Array<() => Promise<unknown>> = []
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close()
})

let runs = 0
const launch = (args: ReadonlyArray<string>, config: object = {}, env: Record<string, string> = {}, group = false) => {
  const file = join(home, `${runs++}.json`)
  writeFileSync(file, JSON.stringify(config))
  const child = spawn(process.execPath, [bin, "serve", ...args], {
    env: { PATH: process.env["PATH"], HOME: home, AICORTEX_CONFIG: file, ...env },
    stdio: ["ignore", "pipe", "pipe"],
    detached: group
  })
  let out = ""
  child.stdout.on("data", (part) => {
    out += part
  })
  child.stderr.on("data", (part) => {
    out += part
  })
  const ended = new Promise<number | null>((resolve) => child.once("exit", resolve))
  open.push(async () => {
    child.kill("SIGKILL")
    await ended
  })
  return { child, file, said: () => out, ended }
}

const serve = async (
  args: ReadonlyArray<string>,
  config: object = {},
  env: Record<string, string> = {},
  group = false
): Promise<Served> => {
  const running = launch(["--port", "0", ...args], config, env, group)
  let url = ""
  await Promise.race([
    running.ended.then((code) => {
      throw new Error(`ended with ${code}: ${running.said()}`)
    }),
    eventually(() => {
      url = /http:\/\/[\w.]+:\d+/.exec(running.said())?.[0] ?? ""
      return url !== ""
    }, "it listens")
  ])
  return { ...running, url }
}
const fake = async (options: Parameters<typeof startFakeOllama>[0] = {}): Promise<FakeServer> => {
  const server = await startFakeOllama({ models: [model], reply: "Well.", ...options })
  open.push(server.stop)
  return server
}
const ask = (url: string, body: object = {}, headers: Record<string, string> = {}) =>
  fetch(`${url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify({ model, messages: [{ role: "user", content: "Hi" }], ...body })
  })
const textOf = async (response: Response) =>
  ((await response.json()) as { choices: Array<{ message: { content: string } }> }).choices[0]?.message.content

describe("aicortex serve", () => {
  it("serves the configured servers, and ends its streams on a signal", async () => {
    const server = await fake({ reply: "word ".repeat(20), perToken: 30 })
    const { child, ended, url } = await serve([], { servers: [server.url] })
    const stream = await ask(url, { stream: true })
    child.kill("SIGTERM")
    const text = await stream.text()
    expect(text.match(/word/g)).toHaveLength(20)
    expect(text).toMatch(/\[DONE\]\n\n$/)
    expect(await ended).toBe(0)
    await expect(fetch(`${url}/health`)).rejects.toThrow()
  })

  it.each([
    ["one process", []],
    ["several", ["--workers", "2"]]
  ] as const)(
    "ends with 0 when it was idle, or Ctrl-C is pressed, and with 1 when it cut requests off: %s",
    async (_, workers) => {
      const server = await fake({ reply: "word ".repeat(2_000), perToken: 30 })
      for (const signal of ["SIGTERM", "SIGINT"] as const) {
        const { child, ended } = await serve(workers, { servers: [server.url] })
        child.kill(signal)
        expect(await ended).toBe(0)
      }
      const { child, ended, said, url } = await serve(["--drain", "0.2", ...workers], { servers: [server.url] })
      const stream = await ask(url, { stream: true })
      child.kill("SIGTERM")
      expect(await stream.text()).not.toMatch(/\[DONE\]/)
      expect(await ended).toBe(1)
      expect(said()).toContain("cut off 1 that had not ended after 0.2 s; --drain gives them longer")
    }
  )

  it("a second signal ends it at once", async () => {
    const server = await fake({ reply: "word ".repeat(2_000), perToken: 30 })
    const { child, ended, said, url } = await serve([], { servers: [server.url] })
    const stream = await ask(url, { stream: true })
    child.kill("SIGTERM")
    await eventually(() => said().includes("stopping"), "it drains")
    child.kill("SIGTERM")
    expect(await ended).toBe(143)
    await stream.text().catch(() => {})
  })

  it("a Ctrl-C that the terminal sends to every process lets requests finish", async () => {
    const server = await fake({ reply: "word ".repeat(20), perToken: 30 })
    const { child, ended, url } = await serve(["--workers", "2"], { servers: [server.url] }, {}, true)
    const stream = await ask(url, { stream: true })
    process.kill(-(child.pid ?? 0), "SIGINT")
    expect((await stream.text()).match(/word/g)).toHaveLength(20)
    expect(await ended).toBe(0)
  })

  it("starts without configuration; flags override HOST, PORT, DEFAULT_MODEL and the key from the environment", async () => {
    const server = await fake()
    const env = { HOST: "0.0.0.0", PORT: "0", DEFAULT_MODEL: model, AICORTEX_API_KEY: "sk-secret" }
    const { said, url } = await serve(["--host", "127.0.0.1"], { servers: [server.url] }, env)
    // What a flag stands before is not looked at.
    await serve([], { servers: [server.url] }, { PORT: "abc" })
    expect(url).toContain("127.0.0.1")
    expect((await fetch(`${url}/v1/models`)).status).toBe(401)
    const home = await fetch(`${url}/`, { headers: { accept: "application/json" } })
    expect(((await home.json()) as { default_model: string }).default_model).toBe(model)
    expect((await fetch(`${url}/v1/models`, { headers: { authorization: "Bearer sk-secret" } })).status).toBe(200)
    expect(said()).not.toContain("sk-secret")
  })

  it("reloads its settings on SIGHUP", async () => {
    const [one, two] = [await fake({ reply: "one" }), await fake({ reply: "two" })]
    const { child, file, said, url } = await serve(["--json"], { servers: [one.url] })
    expect(await textOf(await ask(url))).toBe("one")
    writeFileSync(file, JSON.stringify({ servers: [two.url] }))
    child.kill("SIGHUP")
    await eventually(() => said().includes("reloaded the settings"), "it has read them")
    expect(await textOf(await ask(url))).toBe("two")
    rmSync(file)
    child.kill("SIGHUP")
    await eventually(
      () => said().includes(`there is no file ${file}. The settings stay as they were`),
      "the error is logged"
    )
    expect(said()).not.toContain("    at ")
    expect(await textOf(await ask(url))).toBe("two")
  })

  it("says what is wrong with changed settings, in JSON where the file asks for it", async () => {
    const server = await fake()
    const settings = { servers: [server.url], gateway: { log: "json" } }
    const { child, file, said } = await serve([], settings)
    writeFileSync(file, JSON.stringify({ ...settings, gatway: {} }))
    child.kill("SIGHUP")
    await eventually(() => said().includes("stay as they were"), "it says that they are not taken")
    for (const line of said().trimEnd().split("\n")) {
      const { message } = JSON.parse(line) as { message: string }
      expect(message).toMatch(/^listening on|gatway: is not known; did you mean 'gateway'\? The settings stay/)
    }
  })

  it("reports an error once, before it listens", async () => {
    const { ended, said } = launch(["--host", "0.0.0.0", "--port", "0"])
    expect(await ended).toBe(1)
    expect(said()).toMatch(
      /^aicortex: Invalid configuration in the options of the gateway: host: 0\.0\.0\.0 can be reached/
    )
    const wrong = launch(["--port", "70000"])
    expect([await wrong.ended, wrong.said()]).toEqual([
      2,
      expect.stringContaining("--port must be a whole number from 0 to 65535")
    ])
    const bad = launch(["--port", "0"], { gateway: { prot: 1 } })
    expect([await bad.ended, bad.said()]).toEqual([1, expect.stringContaining("gateway.prot")])
    const flags: ReadonlyArray<readonly [ReadonlyArray<string>, string]> = [
      [["--config", join(home, "nowhere.json")], `--config: there is no file ${join(home, "nowhere.json")}.`],
      [["--api-key", ""], "--api-key must be one word of printable characters."],
      [["--api-key", "default", "--admin-key", "two words"], "--admin-key must be one word of printable characters."],
      [["--api-key", "a", "--admin-key", "a"], "--api-key or --admin-key: 'default' and 'admin' are the same key."],
      [["--api-key", "two words", "--workers", "2"], "--api-key must be one word of printable characters."],
      [["--cors", "example.com"], "--cors: 'example.com' must be * or an origin such as https://example.com."],
      [["--host", ""], "--host must be an address, such as 127.0.0.1."],
      [["--default-model", " "], "--default-model must be the name of a model."]
    ]
    for (const [args, message] of flags) {
      const refused = launch(["--port", "0", ...args])
      expect([await refused.ended, refused.said()]).toEqual([
        2,
        `aicortex: ${message} See \`aicortex serve --help\`.\n`
      ])
    }
    const workers = launch(["--host", "0.0.0.0", "--port", "0", "--workers", "2"])
    expect(await workers.ended).toBe(1)
    expect(workers.said().match(/can be reached/g)).toHaveLength(1)
  })

  it("uses several processes, replaces one that dies, and sums their metrics", async () => {
    const server = await fake()
    const { child, ended, said, url } = await serve(["--workers", "2"], { servers: [server.url] })
    const sendRequest = async () => expect((await ask(url, {}, { connection: "close" })).status).toBe(200)
    for (let i = 0; i < 6; i++) await sendRequest()
    const currentMetrics = async () => metrics(await (await fetch(`${url}/metrics`)).text())
    const counted = async () => {
      const { value } = await currentMetrics()
      const route = { route: "/v1/chat/completions" }
      return [
        value("aicortex_requests_total", { ...route, status: "200" }),
        value("aicortex_request_duration_seconds_count", route),
        value("aicortex_attempts_total", { server: "server-1", model, outcome: "success" }),
        value("gen_ai_server_time_to_first_token_seconds_bucket", { server: "server-1", le: "+Inf" }),
        value("aicortex_attempts_in_flight"),
        value("aicortex_server_up"),
        value("aicortex_server_models")
      ]
    }
    expect(await counted()).toEqual([6, 6, 6, 6, 0, 1, 1])
    const [worker] = spawnSync("pgrep", ["-P", String(child.pid)], { encoding: "utf8" })
      .stdout.trim()
      .split("\n")
    if (worker !== undefined && worker !== "") {
      process.kill(Number(worker), "SIGKILL")
      await eventually(() => said().includes("it is replaced"), "it is replaced")
    }
    await sendRequest()
    // What the worker that exited had counted was reported before.
    expect(await counted()).toEqual([7, 7, 7, 7, 0, 1, 1])
    child.kill("SIGTERM")
    expect(await ended).toBe(0)
  })

  it("logs a line per request if enabled, from every process", async () => {
    const server = await fake()
    const { child, ended, said, url } = await serve(["--workers", "2", "--log", "json"], { servers: [server.url] })
    for (let i = 0; i < 4; i++) expect((await ask(url, {}, { connection: "close" })).status).toBe(200)
    await fetch(`${url}/health`)
    const lines = () =>
      said()
        .split("\n")
        .filter((line) => line.includes('"route"'))
    await eventually(() => lines().length === 5, "five lines")
    const routes = lines().map((line) => (JSON.parse(line) as { route: string }).route)
    expect(routes.sort()).toEqual(["/health", ...Array(4).fill("/v1/chat/completions")])
    child.kill("SIGTERM")
    expect(await ended).toBe(0)
    expect(said()).not.toContain(new URL(server.url).host)
    // What it says itself is a line of JSON, too.
    const messages = said()
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as { time: string; message?: string })
      .filter(({ message }) => message !== undefined)
    expect(messages).toEqual([
      { time: expect.stringMatching(/^\d{4}-\d\d-\d\dT/), message: expect.stringMatching(/^listening on http/) }
    ])
    const text = await serve(["--log", "off"], { servers: [server.url], gateway: { log: "text" } })
    await ask(text.url)
    expect((await fetch(`${text.url}/health`)).status).toBe(200)
    expect(text.said()).not.toContain("request_id=")
    const wrong = launch(["--log", "xml"])
    expect([await wrong.ended, wrong.said()]).toEqual([
      2,
      expect.stringContaining('--log must be "off" or "text" or "json", not')
    ])
    const bad = launch(["--port", "0"], { gateway: { log: "xml" } })
    expect([await bad.ended, bad.said()]).toEqual([1, expect.stringContaining("gateway.log")])
  })

  describe("with several workers", () => {
    const headers = { authorization: "Bearer sk-app", "content-type": "application/json" }
    const config = (server: FakeServer, limits: object = {}) => ({
      servers: [server.url],
      gateway: { defaultModel: model, keys: [{ name: "app", key: "sk-app", ...limits }] }
    })
    /** Each request has a connection of its own, so that the workers take turns. */
    const dispatcher = new Agent({ pipelining: 0 })
    afterAll(() => dispatcher.close())
    const alone = ((input: string, init: object) =>
      undiciFetch(input, { ...init, dispatcher })) as unknown as typeof fetch
    const call = (url: string, path: string, body?: object, method = body === undefined ? "GET" : "POST") =>
      alone(`${url}${path}`, { method, headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) })
    /** Which worker it was: the names that it gives to requests have a part of its own. */
    const worker = (response: { readonly headers: Headers }) =>
      String(response.headers.get("x-request-id")).slice(4, 16)
    const said = (text: string) => ({ messages: [{ role: "user", content: text }] })
    const roles = ({ messages }: { messages: ReadonlyArray<{ role: string }> }) => messages.map(({ role }) => role)

    it("all share responses, to continue and to return them", async () => {
      const server = await fake({ reply: ({ messages }) => `answer ${messages.length}` })
      const { url } = await serve(["--workers", "2"], config(server))
      const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "sk-app", maxRetries: 0, fetch: alone })
      const workers = new Set<string>()
      let previous: string | undefined
      for (let i = 0; i < 6; i++) {
        const ask = {
          model,
          input: `question ${i}`,
          ...(previous === undefined ? {} : { previous_response_id: previous })
        }
        if (i % 2 === 0) {
          const { data, response } = await client.responses.create(ask).withResponse()
          workers.add(worker(response))
          previous = data.id
        } else {
          const { data, response } = await client.responses.create({ ...ask, stream: true }).withResponse()
          workers.add(worker(response))
          for await (const event of data) if (event.type === "response.completed") previous = event.response.id
        }
        expect(server.chatRequests.at(-1)?.body.messages).toHaveLength(2 * i + 1)
      }
      expect(workers.size).toBe(2)
      const id = String(previous)
      for (let i = 0; i < 2; i++) {
        const { data, response } = await client.responses.retrieve(id).withResponse()
        workers.delete(worker(response))
        expect(data.output_text).toBe("answer 11")
        expect((await client.responses.inputItems.list(id, { limit: 100 })).data).toHaveLength(11)
      }
      await client.responses.delete(id)
      for (let i = 0; i < 2; i++) await expect(client.responses.retrieve(id)).rejects.toBeInstanceOf(NotFoundError)
    })

    it("all share sessions, and run turns one after another", async () => {
      const server = await fake({ reply: "word ".repeat(5), perToken: 20 })
      const { url } = await serve(["--workers", "2"], config(server))
      const { id } = (await (await call(url, "/v1/sessions", {})).json()) as { id: string }
      const all = await Promise.all(
        ["a", "b", "c", "d"].map((text) => call(url, "/v1/chat/completions", { ...said(text), session: id }))
      )
      expect(all.map(({ status }) => status)).toEqual([200, 200, 200, 200])
      expect(new Set(all.map(worker)).size).toBe(2)
      expect(server.maxInFlight).toBe(1)
      expect(server.chatRequests.map(({ body }) => body.messages.length)).toEqual([1, 3, 5, 7])
      for (let i = 0; i < 2; i++) {
        const history = (await (await call(url, `/v1/sessions/${id}`)).json()) as Parameters<typeof roles>[0]
        expect(roles(history)).toEqual(Array.from({ length: 4 }, () => ["user", "assistant"]).flat())
      }
      expect((await call(url, `/v1/sessions/${id}`, undefined, "DELETE")).status).toBe(200)
      for (let i = 0; i < 2; i++) expect((await call(url, `/v1/sessions/${id}`)).status).toBe(404)
    })

    it("keep sessions in the store of the configuration file", async () => {
      const server = await fake()
      const folder = mkdtempSync(join(tmpdir(), "aicortex-serve-"))
      try {
        const kept = { ...config(server), store: join(folder, "store.db") }
        const first = await serve(["--workers", "2"], kept)
        const { id } = (await (await call(first.url, "/v1/sessions", {})).json()) as { id: string }
        await call(first.url, "/v1/chat/completions", { ...said("one"), session: id })
        first.child.kill("SIGTERM")
        await first.ended
        const second = await serve(["--workers", "2"], kept)
        for (const text of ["two", "three"]) {
          await call(second.url, "/v1/chat/completions", { ...said(text), session: id })
        }
        expect(server.chatRequests.map(({ body }) => body.messages.length)).toEqual([1, 3, 5])
        const { data } = (await (await call(second.url, "/v1/sessions")).json()) as { data: ReadonlyArray<object> }
        expect(data).toMatchObject([{ id, message_count: 6 }])
      } finally {
        rmSync(folder, { recursive: true, force: true })
      }
    })

    it("a worker that dies during a turn releases it, and no session is lost", async () => {
      const server = await fake()
      const {
        child,
        said: told,
        url
      } = await serve(["--workers", "2", "--store", "memory"], config(server, { concurrency: 2 }))
      const create = async () => ((await (await call(url, "/v1/sessions", {})).json()) as { id: string }).id
      const turn = (session: string, text: string) => call(url, "/v1/chat/completions", { ...said(text), session })
      /** A connection that is kept, to a worker that is not this one. */
      const connect = async (other?: string) => {
        for (;;) {
          const agent = new Agent({ connections: 1 })
          open.push(() => agent.destroy())
          const keep = (path: string, init: object = {}) =>
            undiciFetch(`${url}${path}`, { headers, dispatcher: agent, ...init })
          const response = await keep("/v1/models")
          await response.text()
          const name = worker(response)
          const say = (session: string, text: string) =>
            keep("/v1/chat/completions", { method: "POST", body: JSON.stringify({ ...said(text), session }) })
          if (name !== other) return { name, say }
        }
      }
      const ids = [await create(), await create()]
      const one = await connect()
      const two = await connect(one.name)
      const first = await Promise.all([one, two].map(({ say }, i) => say(ids[i] ?? "", "first")))
      for (const response of first) {
        expect(response.status).toBe(200)
        await response.text()
      }
      expect(first.map(worker)).toEqual([one.name, two.name])
      await server.setBehaviour({ faults: { kind: "hang" } })
      // One for each worker.
      const lost: Array<string> = []
      const hung = [one, two].map(({ say }, i) => say(ids[i] ?? "", "lost").catch(() => lost.push(ids[i] ?? "")))
      await server.waitForChats(4)
      const full = await turn(ids[0] ?? "", "too many")
      const { error } = (await full.json()) as { error: { code: string } }
      expect([full.status, error.code]).toEqual([429, "concurrency_limit_exceeded"])
      const [pid] = spawnSync("pgrep", ["-P", String(child.pid)], { encoding: "utf8" })
        .stdout.trim()
        .split("\n")
      process.kill(Number(pid), "SIGKILL")
      await Promise.race(hung)
      expect(lost).toHaveLength(1)
      await eventually(() => told().includes("it is replaced"), "the first process has noticed its exit")
      await server.setBehaviour({ faults: undefined })
      const [id = ""] = lost
      let again = await turn(id, "second")
      // Its request counts until the first process has noticed its exit.
      for (let tries = 0; again.status === 429 && tries < 100; tries++) again = await turn(id, "second")
      expect([again.status, await textOf(again as unknown as Response)]).toEqual([200, "Well."])
      const history = (await (await call(url, `/v1/sessions/${id}`)).json()) as Parameters<typeof roles>[0]
      expect(roles(history)).toEqual(["user", "assistant", "user", "assistant"])
      child.kill("SIGKILL")
      await Promise.all(hung)
    })

    it("a reload drops no stream, turn, response or count", async () => {
      // A place that is free within half a second is waited for.
      const server = await fake({ perToken: 60, reply: "word ".repeat(40) })
      const settings = (limits: object) => config(server, { concurrency: 4, ...limits })
      const { child, file, said: log, url } = await serve(["--workers", "2", "--store", "memory"], settings({}))
      const { id } = (await (await call(url, "/v1/sessions", {})).json()) as { id: string }
      const streams = await Promise.all([
        call(url, "/v1/chat/completions", { ...said("turn"), session: id, stream: true }),
        call(url, "/v1/responses", { input: "kept", stream: true }),
        call(url, "/v1/completions", { prompt: ["a", "b"], stream: true, max_tokens: 1000 })
      ])
      expect(streams.map(({ status }) => status)).toEqual([200, 200, 200])
      writeFileSync(file, JSON.stringify(settings({ requestsPerMinute: 100 })))
      child.kill("SIGHUP")
      await eventually(() => (log().match(/reloaded the settings/g) ?? []).length === 2, "both have read it")
      // Those of before count still, and the turn is still taken.
      expect((await call(url, "/v1/chat/completions", said("too many"))).status).toBe(429)
      const [turn = "", kept = "", texts = ""] = await Promise.all(streams.map((stream) => stream.text()))
      expect(turn.match(/"content":" ?word ?"/g)).toHaveLength(40)
      expect([turn.endsWith("[DONE]\n\n"), texts.endsWith("[DONE]\n\n")]).toEqual([true, true])
      expect(texts.match(/"text":" ?word ?"/g)).toHaveLength(80)
      const response = (/"id":"(resp_\w+)"/.exec(kept) ?? [])[1]
      for (let i = 0; i < 2; i++) expect((await call(url, `/v1/responses/${response}`)).status).toBe(200)
      await server.setBehaviour({ perToken: "burst" })
      const again = await Promise.all(
        ["b", "c", "d"].map((text) => call(url, "/v1/chat/completions", { ...said(text), session: id }))
      )
      expect(again.map(({ status }) => status)).toEqual([200, 200, 200])
      const history = (await (await call(url, `/v1/sessions/${id}`)).json()) as Parameters<typeof roles>[0]
      expect(history.messages).toHaveLength(8)
    })

    it("a worker that is still starting survives a reload", async () => {
      const server = await fake()
      const { child, said: log } = await serve(["--workers", "2"], config(server))
      const workers = () =>
        spawnSync("pgrep", ["-P", String(child.pid)], { encoding: "utf8" })
          .stdout.trim()
          .split("\n")
      const [first, second] = workers()
      process.kill(Number(first), "SIGKILL")
      await eventually(
        () => workers().some((pid) => pid !== first && pid !== second && pid !== ""),
        "another one starts"
      )
      const before = workers()
      const again = setInterval(() => child.kill("SIGHUP"), 10)
      await eventually(() => (log().match(/reloaded the settings/g) ?? []).length > 20, "it is reported often")
      await new Promise((resolve) => setTimeout(resolve, 1_000))
      clearInterval(again)
      expect(workers().sort()).toEqual(before.sort())
      expect(log()).not.toContain("SIGHUP")
    })

    it("enforce a key's limits together", async () => {
      const server = await fake()
      const { url } = await serve(["--workers", "2"], config(server, { requestsPerMinute: 5 }))
      const statuses: Array<number> = []
      const workers = new Set<string>()
      for (let i = 0; i < 8; i++) {
        const response = await call(url, "/v1/chat/completions", said("Hi"))
        statuses.push(response.status)
        workers.add(worker(response))
        await response.text()
      }
      expect(workers.size).toBe(2)
      expect(statuses.slice(0, 5)).toEqual([200, 200, 200, 200, 200])
      expect(statuses).toContain(429)
    })
  })
})

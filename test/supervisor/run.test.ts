/** `aicortex run -d`, `ps`, `logs`, `stop` and what is left of them. */
import { readdirSync, statSync } from "node:fs"
import { join } from "node:path"
import OpenAI from "openai"
import { assert, beforeAll, describe, it } from "vitest"
import { defaultModelPath } from "../../src/backend/embedded.js"
import { build } from "../support/cliProcess.js"
import { fakeEngines, isAlive, listens, until } from "../support/engines.js"
import { localHome } from "../support/localHome.js"

beforeAll(build, 120_000)

const demo = defaultModelPath()
const portOf = (url: string): number => Number(new URL(url).port)

describe("from nothing to an endpoint", () => {
  it("run -d of a file, the samples of Cortex's text, ps, logs, stop", { timeout: 120_000 }, async () => {
    await using local = localHome()
    const url = await local.ok("run", "-d", demo, "--port", "0")
    assert.match(url, /^http:\/\/localhost:\d+\/v1$/)
    const client = new OpenAI({ baseURL: url, apiKey: "not-needed", maxRetries: 0 })
    const model = "aicortex-demo"

    const basic = await client.chat.completions.create({
      model,
      messages: [{ role: "user", content: "Why is the sky blue?" }]
    })
    assert.isNotEmpty(basic.choices[0]?.message.content)
    assert.strictEqual(basic.model, model)

    const more = await client.chat.completions.create({
      model,
      messages: [
        { role: "system", content: "You are a helpful assistant." },
        { role: "user", content: "What is the capital of France?" }
      ],
      temperature: 0.7,
      max_tokens: 3,
      top_p: 1.0,
      frequency_penalty: 0.0,
      presence_penalty: 0.0
    })
    assert.strictEqual(more.choices[0]?.finish_reason, "length")
    assert.strictEqual(more.usage?.completion_tokens, 3)

    let text = ""
    const stream = await client.chat.completions.create({
      model,
      messages: [{ role: "user", content: "What is the capital of France?" }],
      temperature: 0,
      stream: true
    })
    for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? ""
    assert.include(text, "Paris")

    const several = await client.chat.completions.create({
      model,
      messages: [
        { role: "system", content: "You are a knowledgeable teacher." },
        { role: "user", content: "What is the capital of France?" },
        { role: "assistant", content: "The capital of France is Paris." },
        { role: "user", content: "Why is the sky blue?" }
      ]
    })
    assert.isNotEmpty(several.choices[0]?.message.content)

    const [row] = JSON.parse(await local.ok("ps", "--json"))
    assert.include(row, { model, engine: "aicortex", state: "ready" })
    assert.isAbove(row.size, 1e6)
    const table = await local.ok("ps")
    assert.match(table, /Model +Engine +Server +Memory .*Uptime +Tokens\/s/)
    assert.match(await local.ok("status"), /aicortex-demo +ready/)
    assert.include(await local.ok("logs", model), '"model":"aicortex-demo"')
    assert.include(await local.ok("ls"), "this machine")
    // A command that knows nothing of the endpoint finds it, too.
    assert.isNotEmpty(await local.ok("chat", "-m", model, "Why is the sky blue?"))

    const [pid = 0] = local.pids()
    const port = portOf(local.engines()[0]?.url ?? "")
    await local.ok("stop", model)
    await until("the engine is gone", () => !isAlive(pid))
    assert.isFalse(await listens(port))
    // The same name loads again when it is asked for: the file was not stored, so it is unknown now.
    const { code, err } = await local.run("stop", model)
    assert.strictEqual(code, 1)
    assert.include(err, "does not run on this machine")
  })

  it("run is idempotent: a running model is not started again", async () => {
    await using engines = fakeEngines(["llama-server"])
    await using local = localHome(engines.env)
    const args = ["run", "-d", "--engine", "llama-server", "--port", "0", demo]
    const urls = await Promise.all([local.ok(...args), local.ok(...args), local.ok(...args)])
    assert.lengthOf(new Set(urls), 1)
    assert.lengthOf(
      engines.calls().filter(({ pid }) => pid !== undefined),
      1
    )
  })

  it("every flag reaches the engine", async () => {
    await using engines = fakeEngines(["llama-server"])
    await using local = localHome(engines.env)
    const flags = ["--ctx", "2048", "--ngl", "0", "--threads", "2", "--parallel", "3"]
    const out = await local.ok("run", "-d", demo, "--engine", "llama-server", "--port", "0", ...flags, "--json")
    assert.match(JSON.parse(out).url, /^http:\/\/localhost:\d+\/v1$/)
    const args = engines.calls()[0]?.args ?? []
    for (const [name, value] of [
      ["--ctx-size", "2048"],
      ["--n-gpu-layers", "0"],
      ["--threads", "2"],
      ["--parallel", "3"]
    ] as const) {
      assert.strictEqual(args[args.indexOf(name) + 1], value, name)
    }
  })

  it("an engine that cannot load the model: the error has its last lines", async () => {
    await using engines = fakeEngines(["llama-server"], { exit: 1 })
    await using local = localHome(engines.env)
    const { code, err } = await local.run("run", "-d", demo, "--engine", "llama-server", "--port", "0")
    assert.strictEqual(code, 1)
    assert.include(err, "error: the model cannot be loaded")
    assert.include(err, "line 22")
    assert.notInclude(err, "line 21\n")
    assert.include(await local.ok("logs", "aicortex-demo"), "error: the model cannot be loaded")
  })

  it("invalid arguments are reported before anything is started", async () => {
    await using local = localHome()
    for (const [args, code, word] of [
      [["run"], 2, "MODEL"],
      [["run", "-d", demo, "--ngl", "-2"], 2, "--ngl"],
      [["stop", "x", "--all"], 2, "--all"],
      [["stop", "x"], 1, "does not run"],
      [["logs", "x"], 1, "no log"],
      [["start", "--port", "70000"], 2, "--port"]
    ] as const) {
      const ended = await local.run(...args)
      assert.strictEqual(ended.code, code, args.join(" "))
      assert.include(ended.err, word)
    }
    assert.include((await local.run("stop")).err, "no model runs")
    assert.deepStrictEqual(JSON.parse(await local.ok("status", "--json")), { running: false })
    assert.isUndefined(local.state())
  })

  it("engines lists what is installed, and how to get the rest", async () => {
    await using engines = fakeEngines(["llama-server"])
    await using local = localHome(engines.env)
    const list = JSON.parse(await local.ok("engines", "--json")) as ReadonlyArray<{
      readonly engine: string
      readonly installed: boolean
      readonly install: string | null
    }>
    const of = (name: string) => list.find(({ engine }) => engine === name)
    assert.isTrue(of("llama-server")?.installed)
    assert.isTrue(of("aicortex")?.installed)
    assert.isFalse(of("ollama")?.installed)
    assert.include(of("ollama")?.install, "ollama.com")
  })
})

describe("cleanup", () => {
  it("the control socket is accessible to its user only", async () => {
    await using local = localHome()
    await local.ok("start", "--port", "0")
    assert.strictEqual(statSync(join(local.folder, "supervisor.sock")).mode & 0o777, 0o600)
    assert.strictEqual(statSync(local.folder).mode & 0o777, 0o700)
    assert.strictEqual(statSync(join(local.folder, "state.json")).mode & 0o777, 0o600)
    // Nothing of the control is at the endpoint.
    const { url = "" } = local.state() ?? {}
    for (const path of ["/shutdown", "/stop", "/status"]) {
      const response = await fetch(new URL(path, url), { method: path === "/status" ? "GET" : "POST" })
      assert.strictEqual(response.status, 404, path)
    }
  })

  for (const engine of ["aicortex", "llama-server"] as const) {
    it(`the supervisor is killed: no ${engine} is left within 5 s, and the next one starts`, {
      timeout: 90_000
    }, async () => {
      await using engines = fakeEngines(["llama-server"])
      await using local = localHome(engines.env)
      await local.ok("run", "-d", demo, "--engine", engine, "--replicas", "2", "--port", "0")
      await until("both run", () => local.pids().length === 2)
      const pids = [...local.pids(), ...engines.calls().flatMap(({ pid }) => (pid === undefined ? [] : [pid]))]
      const ports = local.engines().map(({ url }) => portOf(url))
      const supervisor = local.state()?.pid ?? 0
      process.kill(supervisor, "SIGKILL")
      const killed = Date.now()
      await until("no engine is left", () => pids.every((pid) => !isAlive(pid)))
      assert.isBelow(Date.now() - killed, 5_000)
      for (const port of ports) assert.isFalse(await listens(port))
      await local.ok("run", "-d", demo, "--engine", engine, "--port", "0")
      assert.lengthOf(local.pids(), 1)
    })
  }

  it("supervisor and guard killed together: the next supervisor ends their engines", {
    timeout: 90_000
  }, async () => {
    await using engines = fakeEngines(["llama-server"])
    await using local = localHome(engines.env)
    await local.ok("run", "-d", demo, "--engine", "llama-server", "--port", "0")
    const [guard = 0] = local.pids()
    const engine = engines.calls()[0]?.pid ?? 0
    // A stopped guard does nothing until it goes on.
    process.kill(guard, "SIGSTOP")
    process.kill(local.state()?.pid ?? 0, "SIGKILL")
    await until("the supervisor is gone", async () => (await local.run("status", "--json")).out.includes("false"))
    assert.isTrue(isAlive(engine))
    await local.ok("start", "--port", "0")
    await until("the engine is gone", () => !isAlive(engine) && !isAlive(guard))
  })

  it("five starts and stops leave no process, port or file", { timeout: 120_000 }, async () => {
    await using engines = fakeEngines(["llama-server"])
    await using local = localHome(engines.env)
    const ports = new Set<number>()
    const pids = new Set<number>()
    for (let i = 0; i < 5; i++) {
      await local.ok("run", "-d", demo, "--engine", "llama-server", "--port", "0")
      for (const { url } of local.engines()) ports.add(portOf(url))
      ports.add(portOf(local.state()?.url ?? ""))
      for (const pid of [...local.pids(), local.state()?.pid ?? 0]) pids.add(pid)
      await local.ok("stop")
      for (const { pid } of engines.calls()) if (pid !== undefined) pids.add(pid)
      await until("all have ended", () => [...pids].every((pid) => !isAlive(pid)))
    }
    assert.isAtLeast(pids.size, 15)
    for (const port of ports) assert.isFalse(await listens(port))
    assert.deepStrictEqual(readdirSync(local.folder).sort(), ["logs", "supervisor.log"])
  })

  it("service install writes a unit for systemd", async () => {
    await using local = localHome()
    const file = await local.ok("service", "install", "--port", "8123")
    assert.strictEqual(file, join(local.home.path, "systemd", "user", "aicortex.service"))
    const { readFileSync } = await import("node:fs")
    const unit = readFileSync(file, "utf8")
    assert.match(unit, /^ExecStart=".*node" ".*bin\.js" "start" "--foreground" "--port" "8123"$/m)
    assert.match(unit, /^Restart=on-failure$/m)
  })
})

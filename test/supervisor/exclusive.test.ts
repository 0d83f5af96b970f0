/** One supervisor for each user, and what is left of those before it. */
import { spawn } from "node:child_process"
import { copyFileSync, existsSync, mkdirSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { join } from "node:path"
import { assert, beforeAll, describe, it } from "vitest"
import { defaultModelPath } from "../../src/backend/embedded.js"
import { build } from "../support/cliProcess.js"
import { fakeEngines, isAlive, until } from "../support/engines.js"
import { FakeHub } from "../support/fakeHub.js"
import { gguf } from "../support/gguf.js"
import { localHome } from "../support/localHome.js"

beforeAll(build, 120_000)

const demo = defaultModelPath()

describe("one supervisor", () => {
  it("of several concurrent starts one gets the models, and the others say so", async () => {
    await using local = localHome()
    const all = [1, 2, 3].map(() => local.home.start(["start", "--foreground", "--port", "0"]))
    let errors = ""
    for (const child of all) child.stderr?.setEncoding("utf8").on("data", (text: string) => (errors += text))
    await until("two have ended", () => all.filter(({ exitCode }) => exitCode !== null).length === 2)
    await until("one is ready", () => local.state() !== undefined)
    assert.deepStrictEqual(
      all.flatMap(({ exitCode }) => (exitCode === null ? [] : [exitCode])),
      [0, 0]
    )
    assert.lengthOf(errors.match(/held already/g) ?? [], 2)
    assert.strictEqual(local.state()?.pid, all.find(({ exitCode }) => exitCode === null)?.pid)
  })

  it("the socket of a killed one, and a file in its place, are replaced", {
    timeout: 90_000
  }, async () => {
    await using local = localHome()
    await local.ok("start", "--port", "0")
    const first = local.state()?.pid ?? 0
    process.kill(first, "SIGKILL")
    await until("it is gone", () => !isAlive(first))
    assert.isTrue(existsSync(join(local.folder, "supervisor.sock")))
    await local.ok("start", "--port", "0")
    const second = local.state()?.pid ?? 0
    assert.notStrictEqual(second, first)
    await local.ok("stop")
    writeFileSync(join(local.folder, "supervisor.sock"), "no socket")
    await local.ok("start", "--port", "0")
  })

  it.skipIf(process.getuid?.() !== 0)("another user can neither connect to nor see it", async () => {
    await using local = localHome()
    await local.ok("start", "--port", "0")
    const script = `require("node:net").connect(process.argv[1]).on("connect", () => process.exit(0)).on("error", (e) => { console.log(e.code); process.exit(7) })`
    const child = spawn(process.execPath, ["-e", script, join(local.folder, "supervisor.sock")], {
      uid: 65_534,
      gid: 65_534,
      cwd: "/",
      env: {},
      stdio: ["ignore", "pipe", "inherit"]
    })
    let out = ""
    child.stdout.setEncoding("utf8").on("data", (text: string) => (out += text))
    const code = await new Promise((resolve) => child.once("close", resolve))
    assert.deepStrictEqual([code, out.trim()], [7, "EACCES"])
  })
})

describe("state of an earlier supervisor", () => {
  const engine = (pid: number, processStart: string | null) => ({
    model: "m",
    state: "ready",
    engine: "llama-server",
    url: "http://127.0.0.1:1",
    protocol: "openai",
    pid,
    processStart,
    memory: null,
    readyAt: 1,
    tokensPerSecond: null,
    inFlight: 0,
    slots: 4,
    restarts: 0,
    problem: null
  })
  const model = { name: "m", path: null, size: 1, contextSize: null, family: "others", embeddings: false }

  it("a process that reuses its pid is not killed", async () => {
    await using local = localHome()
    const bystander = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"], {
      detached: true,
      stdio: "ignore"
    })
    try {
      const pid = bystander.pid ?? 0
      const state = { pid: 1, processStart: "0", version: "0", url: "http://127.0.0.1:1/v1", startedAt: 1 }
      mkdirSync(local.folder, { recursive: true, mode: 0o700 })
      writeFileSync(
        join(local.folder, "state.json"),
        JSON.stringify({ ...state, models: [{ ...model, engines: [engine(pid, "12345"), engine(pid, null)] }] })
      )
      await local.ok("start", "--port", "0")
      assert.isTrue(isAlive(pid))
    } finally {
      bystander.kill("SIGKILL")
    }
  })

  it("unreadable state is ignored", async () => {
    await using local = localHome()
    mkdirSync(local.folder, { recursive: true, mode: 0o700 })
    writeFileSync(join(local.folder, "state.json"), "{ half")
    await local.ok("start", "--port", "0")
  })
})

describe("a running model", () => {
  it("is stopped before it is deleted", async () => {
    await using engines = fakeEngines(["llama-server"])
    await using local = localHome(engines.env)
    const file = join(engines.folder, "own.gguf")
    copyFileSync(engines.model, file)
    await local.ok("pull", file, "--name", "mine", "--copy")
    await local.ok("run", "-d", "mine", "--engine", "llama-server", "--port", "0")
    const pids = engines.calls().flatMap(({ pid }) => (pid === undefined ? [] : [pid]))
    await local.ok("rm", "mine")
    await until("its engine is gone", () => pids.every((pid) => !isAlive(pid)))
    assert.notInclude((await local.run("ls")).out, "mine")
  })

  it("a start with another context is refused, and the built-in model is known by name", async () => {
    await using engines = fakeEngines(["llama-server"])
    await using local = localHome(engines.env)
    const run = ["run", "-d", "aicortex-demo", "--engine", "llama-server", "--port", "0"]
    await local.ok(...run, "--ctx", "512", "--keep-alive", "-1")
    const { code, err } = await local.run(...run, "--ctx", "1024")
    assert.strictEqual(code, 1)
    assert.match(err, /runs already, with 512: stop it first/)
    await local.ok(...run)
    await local.ok("run", "-d", demo, "--engine", "llama-server", "--port", "0")
    assert.lengthOf(local.pids(), 1)
  })

  it("of the hub is stopped before it is deleted by its short name", async () => {
    const hub = await FakeHub.start()
    try {
      hub.add("owner/tiny-GGUF", "tiny.Q4_K_M.gguf", gguf())
      await using engines = fakeEngines(["llama-server"])
      await using local = localHome({ ...engines.env, HF_ENDPOINT: hub.url })
      await local.ok("run", "-d", "owner/tiny-GGUF", "--engine", "llama-server", "--port", "0")
      const pids = engines.calls().flatMap(({ pid }) => (pid === undefined ? [] : [pid]))
      assert.lengthOf(pids, 1)
      await local.ok("rm", "owner/tiny-GGUF")
      assert.deepStrictEqual(pids.filter(isAlive), [])
    } finally {
      await hub.stop()
    }
  })

  it("that keeps crashing is not restarted, and ps and status say so", { timeout: 120_000 }, async () => {
    await using engines = fakeEngines(["llama-server"])
    await using local = localHome(engines.env)
    await local.ok("run", "-d", demo, "--engine", "llama-server", "--port", "0")
    for (let i = 1; i <= 5; i++) {
      await until(`engine ${i} runs`, () => local.engines().some(({ state }) => state === "ready"))
      const { pid = 0 } = engines.calls().findLast((call) => call.pid !== undefined) ?? {}
      process.kill(pid, "SIGKILL")
      await until(`its end ${i} is noticed`, () => local.engines().every(({ state }) => state !== "ready"))
    }
    await until("it is given up", () => local.engines().some(({ state }) => state === "failed"))
    for (const command of ["ps", "status"]) {
      const { code, err, out } = await local.run(command)
      assert.strictEqual(code, 0)
      assert.match(out, /aicortex-demo.*failed/)
      assert.match(err, /aicortex-demo: .*given up after 5 ends within 60 s/)
    }
    // The next start begins anew.
    await local.ok("run", "-d", demo, "--engine", "llama-server", "--port", "0")
    assert.match(await local.ok("status"), /aicortex-demo +ready/)
  })

  it("gets another port if its own is taken by another program", async () => {
    await using engines = fakeEngines(["llama-server"])
    await using local = localHome(engines.env)
    const run = ["run", "-d", demo, "--engine", "llama-server", "--port", "0"]
    await local.ok(...run)
    const port = () => Number(new URL(local.engines().find(({ pid }) => pid !== null)?.url ?? "http://x:1").port)
    const before = port()
    await local.ok("stop", "aicortex-demo")
    const squatter = createServer((socket) => socket.destroy())
    await new Promise<void>((resolve) => squatter.listen(before, "127.0.0.1", resolve))
    try {
      await local.ok(...run)
      assert.notStrictEqual(port(), before)
    } finally {
      squatter.close()
    }
  })
})

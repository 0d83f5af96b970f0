/** Models in containers, over a podman and a docker that stand in: a container outlives the client that started it. */
import { assert, beforeAll, describe, it, vi } from "vitest"
import { EngineFailed, InvalidRequest } from "../../src/Errors.js"
import { LocalModel } from "../../src/promise.js"
import { build } from "../support/cliProcess.js"
import { type FakeEngines, fakeEngines, isAlive, listens, until } from "../support/engines.js"
import { localHome } from "../support/localHome.js"
import { firstLine, program } from "../support/program.js"

beforeAll(build, 120_000)

const use = (names: ReadonlyArray<string>, does?: object): FakeEngines => {
  const engines = fakeEngines(names, does)
  for (const [name, value] of Object.entries(engines.env)) vi.stubEnv(name, value)
  for (const name of ["HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"]) vi.stubEnv(name, engines.folder)
  return engines
}

const pidsOf = (engines: FakeEngines, program: string) =>
  engines.calls().flatMap((call) => (call.program === program && call.pid !== undefined ? [call.pid] : []))

/** Nothing is left: neither the container nor the process that started it. */
const assertGone = async (engines: FakeEngines) => {
  await until("no container is left", () => engines.containers().length === 0)
  const pids = [...pidsOf(engines, "container"), ...pidsOf(engines, "podman"), ...pidsOf(engines, "docker")]
  await until("no process is left", () => pids.every((pid) => !isAlive(pid)))
}

describe.each(["podman", "docker"])("%s", (client) => {
  it("the whole lifecycle: arguments, an answer, and removal with the scope", async () => {
    await using engines = use([client])
    let port = 0
    {
      await using model = await LocalModel.open(engines.model, { engine: "container", threads: 2, maxTokens: 9 })
      port = Number(new URL(await model.url).port)
      assert.strictEqual((await model.chat("Hi")).content, "Hello there.")
      assert.lengthOf(engines.containers(), 1)
    }
    assert.isFalse(await listens(port))
    await assertGone(engines)
    const { args = [] } = engines.calls().find((call) => call.program === client && call.args?.[0] === "run") ?? {}
    const valueOf = (flag: string) => args[args.indexOf(flag) + 1]
    assert.includeMembers([...args], ["--rm", "aicortex=engine", "label=disable", "quay.io/ramalama/ramalama"])
    assert.strictEqual(valueOf("--publish"), `127.0.0.1:${port}:8080`)
    assert.strictEqual(valueOf("--name"), `aicortex-tiny-${port}`)
    assert.strictEqual(args[args.indexOf("quay.io/ramalama/ramalama") + 1], "llama-server")
    assert.deepInclude(
      {
        host: valueOf("--host"),
        port: valueOf("--port"),
        model: valueOf("--model"),
        threads: valueOf("--threads"),
        most: valueOf("--predict"),
        temp: valueOf("--temp"),
        layers: valueOf("--n-gpu-layers"),
        context: valueOf("--ctx-size")
      },
      {
        host: "0.0.0.0",
        port: "8080",
        model: "/models/tiny.gguf",
        threads: "2",
        most: "9",
        temp: "0.8",
        layers: "999",
        context: "0"
      }
    )
  })

  it("the client is killed: its container is removed, and serve starts another", async () => {
    await using engines = use([client])
    await using model = await LocalModel.open(engines.model, { engine: "container" })
    const run = engines.calls().find((call) => call.program === client && call.args?.[0] === "run")
    process.kill(run?.pid ?? 0, "SIGKILL")
    await until("it is noticed", async () => !(await model.running()))
    await assertGone(engines)
    await model.serve()
    assert.strictEqual((await model.chat("Hi")).content, "Hello there.")
    await model.stop()
    await assertGone(engines)
  })

  for (const how of ["SIGKILL", "SIGTERM", "exit"] as const) {
    it(`the program ends by ${how}: no container is left`, async () => {
      await using engines = use([client])
      await using user = await program(`
        import { LocalModel } from "aicortex/promise"
        const model = await LocalModel.open(process.argv[3], { engine: "container" })
        console.log(await model.url)
        if (process.argv[2] === "exit") process.exit(3)
        setInterval(() => {}, 1000)
      `)
      const child = user.start([how, engines.model])
      await firstLine(child)
      if (how !== "exit") child.kill(how)
      await assertGone(engines)
      assert.lengthOf(pidsOf(engines, "container"), 1)
    })
  }

  it("a container that does not become ready is removed", async () => {
    await using engines = use([client], { loads: 60_000 })
    const error = await LocalModel.open(engines.model, { engine: "container", timeout: 1_500 }).catch((cause) => cause)
    assert.instanceOf(error, EngineFailed)
    await assertGone(engines)
  })
})

it("the supervisor is killed: its containers are removed", async () => {
  await using engines = fakeEngines(["podman"])
  await using local = localHome(engines.env)
  await local.ok("run", "-d", engines.model, "--base-image", "registry.local/own:1", "--port", "0")
  assert.lengthOf(engines.containers(), 1)
  process.kill(local.state()?.pid ?? 0, "SIGKILL")
  await assertGone(engines)
})

it("a leftover container does not block the next", async () => {
  await using engines = fakeEngines(["podman"])
  await using local = localHome(engines.env)
  const run = ["run", "-d", engines.model, "--engine", "container", "--port", "0"]
  await local.ok(...run)
  // The guard that would have removed it is killed at once, and so is its client.
  const [guard = 0] = local.pids()
  process.kill(-guard, "SIGKILL")
  await until("it is started again", () => pidsOf(engines, "container").length === 2)
  const [first = 0] = pidsOf(engines, "container")
  await until("the first one is gone", () => !isAlive(first))
  await until("the second one runs", () => local.engines().some(({ state }) => state === "ready"))
  assert.lengthOf(engines.containers(), 1)
})

it("a path that cannot be mounted is refused before anything is started", async () => {
  await using engines = use(["podman"])
  const { copyFileSync } = await import("node:fs")
  const file = `${engines.folder}/a,b.gguf`
  copyFileSync(engines.model, file)
  const error = await LocalModel.open(file, { engine: "container" }).catch((cause) => cause)
  assert.instanceOf(error, InvalidRequest)
  assert.strictEqual(error.field, "model")
  assert.lengthOf(engines.calls(), 0)
})

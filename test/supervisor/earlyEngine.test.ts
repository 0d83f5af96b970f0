/** The engine that is started before the supervisor can do anything else. */
import { readdirSync, readFileSync } from "node:fs"
import { assert, beforeAll, describe, it } from "vitest"
import { defaultModelPath } from "../../src/backend/embedded.js"
import { build } from "../support/cliProcess.js"
import { until } from "../support/engines.js"
import { localHome } from "../support/localHome.js"

beforeAll(build, 120_000)

const demo = defaultModelPath()

/** The arguments of the engines that run with this home. */
const enginesOf = (home: string): ReadonlyArray<ReadonlyArray<string>> =>
  readdirSync("/proc").flatMap((pid) => {
    if (!/^\d+$/.test(pid)) return []
    try {
      if (!readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").includes(`HOME=${home}`)) return []
      const args = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0")
      return args.includes("engine") && args.includes("--stdin-guard") ? [args] : []
    } catch {
      return []
    }
  })

describe.skipIf(process.platform !== "linux")("the engine of a model that is run with no supervisor", () => {
  it("is the one that was started early, and the only one", async () => {
    await using local = localHome()
    await local.ok("run", "-d", demo, "--port", "0", "--ctx", "256", "--parallel", "2")
    const [engine = [], ...more] = enginesOf(local.home.path)
    assert.isEmpty(more)
    assert.strictEqual(engine[engine.indexOf("--port") + 1], "0")
    assert.strictEqual(engine[engine.indexOf("--ctx") + 1], "256")
    const [state] = local.engines()
    assert.match(state?.url ?? "", /^http:\/\/127\.0\.0\.1:[1-9]\d+$/)
    assert.strictEqual(state?.state, "ready")
    // With the supervisor there, the next start is an ordinary one.
    await local.ok("stop", "aicortex-demo")
    await until("the engine is gone", () => enginesOf(local.home.path).length === 0)
    await local.ok("run", "-d", demo)
    assert.lengthOf(enginesOf(local.home.path), 1)
  })

  it("of two that run side by side, one was started early", async () => {
    await using local = localHome()
    await local.ok("run", "-d", demo, "--port", "0", "--replicas", "2")
    const ports = enginesOf(local.home.path).map((args) => args[args.indexOf("--port") + 1])
    assert.lengthOf(ports, 2)
    assert.lengthOf(
      ports.filter((port) => port === "0"),
      1
    )
    assert.lengthOf(new Set(local.engines().map(({ url }) => url)), 2)
  })

  it("is ended if the model may not run", async () => {
    await using local = localHome({}, { models: { memory: 1000 } })
    const { code, err } = await local.run("run", "-d", demo, "--port", "0")
    assert.strictEqual(code, 1)
    assert.include(err, "models.memory")
    await until("it is gone", () => enginesOf(local.home.path).length === 0)
    assert.strictEqual(JSON.parse(await local.ok("status", "--json")).running, true)
  })

  it("reports why a model cannot be loaded", async () => {
    await using local = localHome()
    const broken = local.home.write("broken.gguf", readFileSync(demo).subarray(0, 200_000))
    const { code, err } = await local.run("run", "-d", broken, "--port", "0")
    assert.strictEqual(code, 1)
    assert.match(err, /broken/)
    await until("it is gone", () => enginesOf(local.home.path).length === 0)
  })
})

import { randomInt } from "node:crypto"
import { cpSync, mkdirSync, readdirSync, watch, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, beforeAll, describe, it } from "vitest"
import { createCortex } from "../../src/promise.js"
import { build, ended, makeHome } from "../support/cliProcess.js"
import { useFleet } from "../support/fleet.js"

beforeAll(build, 600_000)

const { ollama } = useFleet()

/** How often a refresh is killed; `AICORTEX_TEST_KILLS=100` for the long run. */
const kills = Number(process.env["AICORTEX_TEST_KILLS"] ?? 20)

const names = ["llama3:8b", "qwen3:4b", "gemma3:4b", "mistral:7b"]

/** What the library reads of the folder: the size of each model, which is another one after the refresh. */
const sizesOf = async (registry: string): Promise<string> => {
  await using cortex = createCortex({ configFile: false, servers: [], registry })
  const infos = await Promise.all(names.map((name) => cortex.getModelInfo(name)))
  assert.deepStrictEqual(await cortex.registryWarnings(), [])
  return infos.map(({ parameter_size: size }) => size).join(" ")
}

describe("a refresh that is killed", { timeout: 1_200_000 }, () => {
  it(`at ${kills} moments leaves the whole registry in its old or its new state`, async () => {
    const server = await ollama({
      models: names.map((name) => ({ name, parameterSize: "2B" }))
    })
    await using home = makeHome()
    const template = join(home.path, "template")
    mkdirSync(template)
    for (const name of names) {
      const record = { model_name: name, ip_port: server.url, parameter_size: "1B" }
      writeFileSync(join(template, `${name.replace(/\d*:.*/, "")}.json`), JSON.stringify([record]))
    }
    const refresh = (folder: string) => home.start(["registry", "refresh", "--registry", folder, "--no-backup"])
    const before = await sizesOf(template)
    const done = join(home.path, "done")
    cpSync(template, done, { recursive: true })
    const started = performance.now()
    const { code, err } = await ended(refresh(done))
    assert.strictEqual(code, 0, err)
    const took = performance.now() - started
    const after = await sizesOf(done)
    assert.notStrictEqual(before, after)
    const outcomes = new Map<string, number>()
    for (let run = 0; run < kills; run++) {
      const folder = join(home.path, `registry-${run}`)
      cpSync(template, folder, { recursive: true })
      const child = refresh(folder)
      const end = ended(child)
      const kill = () => void child.kill("SIGKILL")
      // Most of them while it writes, which is a short part of the whole.
      const watcher = run % 4 === 0 ? undefined : watch(folder, () => setTimeout(kill, randomInt(8)))
      const timer = watcher === undefined ? setTimeout(kill, randomInt(Math.ceil(took))) : undefined
      const killed = (await end).code === null
      watcher?.close()
      clearTimeout(timer)
      const found = await sizesOf(folder)
      assert.isTrue(found === before || found === after, `run ${run}: ${found}`)
      const outcome = `${killed ? "killed" : "ended"}, ${found === before ? "old" : "new"}`
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1)
      // The next one does the work, whatever was left behind.
      if (run === 0) {
        assert.strictEqual((await ended(refresh(folder))).code, 0)
        assert.strictEqual(await sizesOf(folder), after)
        assert.deepStrictEqual(readdirSync(folder), readdirSync(done))
      }
    }
    if (kills > 20) console.log(Object.fromEntries(outcomes))
    assert.isAbove((outcomes.get("killed, old") ?? 0) + (outcomes.get("killed, new") ?? 0), kills / 4)
  })
})

describe("an unfinished change", () => {
  const fill = (folder: string) => {
    mkdirSync(folder)
    const text = (size: string) => JSON.stringify([{ model_name: "llama3:8b", parameter_size: size }])
    writeFileSync(join(folder, "llama.json"), text("1B"))
    writeFileSync(join(folder, "qwen.json"), JSON.stringify([{ model_name: "qwen3:4b", parameter_size: "1B" }]))
    writeFileSync(join(folder, ".llama.json.staged.tmp"), text("2B"))
    writeFileSync(
      join(folder, ".gemma.json.staged.tmp"),
      JSON.stringify([{ model_name: "gemma3:4b", parameter_size: "2B" }])
    )
  }
  const modelsOf = async (registry: string) => {
    await using cortex = createCortex({ configFile: false, servers: [], registry })
    const size = async (name: string) =>
      (await cortex.getModelInfo(name).catch(() => undefined))?.parameter_size ?? "none"
    return [await size("llama3:8b"), await size("qwen3:4b"), await size("gemma3:4b")]
  }

  it("applies once it is committed, for the library and for the commands, and not before", async () => {
    await using home = makeHome()
    const folder = join(home.path, "models")
    fill(folder)
    const [llama, qwen, gemma] = await modelsOf(folder)
    assert.deepStrictEqual([llama, qwen], ["1B", "1B"])
    writeFileSync(
      join(folder, ".pending.tmp"),
      JSON.stringify({ write: ["llama.json", "gemma.json"], remove: ["qwen.json"] })
    )
    const changed = await modelsOf(folder)
    assert.deepStrictEqual([changed[0], changed[2]], ["2B", "2B"])
    assert.notStrictEqual(changed[1], "1B")
    assert.notStrictEqual(gemma, "2B")
    const exported = await home.run(["registry", "export", "--registry", folder, "--format", "families"])
    assert.include(exported.out, '"2B"')
    assert.notInclude(exported.out, "qwen")
    const { code, err } = await home.run(["registry", "import", "http://127.0.0.1:9", "--registry", folder])
    assert.strictEqual(code, 0, err)
    assert.deepStrictEqual(readdirSync(folder).sort(), ["gemma.json", "llama.json", "servers.json"])
    assert.deepStrictEqual((await modelsOf(folder))[0], "2B")
  })
})

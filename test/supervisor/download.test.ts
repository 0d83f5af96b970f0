/** `aicortex run` and `start` of a model that is not here yet: it is got first, and standard output is the address alone. */
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { build } from "../support/cliProcess.js"
import { fakeEngines } from "../support/engines.js"
import { FakeHub } from "../support/fakeHub.js"
import { gguf } from "../support/gguf.js"
import { localHome } from "../support/localHome.js"

let hub: FakeHub
const bytes = gguf({ weights: 300_000 })

beforeAll(async () => {
  build()
  hub = await FakeHub.start()
  hub.add("owner/tiny-GGUF", "tiny.Q4_K_M.gguf", bytes)
}, 120_000)
afterAll(() => hub.stop())

describe("a model that must be downloaded", () => {
  for (const [command, form] of [
    ["run", []],
    ["run", ["--json"]],
    ["start", []]
  ] as const) {
    it(`${command} ${form.join("")}: the URL is all of standard output`, { timeout: 120_000 }, async () => {
      hub.forget()
      await using engines = fakeEngines(["llama-server"])
      await using local = localHome({ ...engines.env, HF_ENDPOINT: hub.url })
      const detach = command === "run" ? ["-d"] : []
      const words = [command, ...detach, "hf:owner/tiny-GGUF", "--engine", "llama-server", "--port", "0", ...form]
      for (const round of ["first", "second"] as const) {
        const { code, err, out } = await local.run(...words)
        assert.strictEqual(code, 0, err)
        const url = form.length === 0 ? out : JSON.parse(out).url
        assert.match(url.trimEnd(), /^http:\/\/localhost:\d+\/v1$/)
        assert.isTrue(form.length > 0 || out === `${url.trimEnd()}\n`)
        if (round === "first") assert.match(err, /owner\/tiny-GGUF:Q4_K_M is on this machine/)
        else assert.strictEqual(err, "")
      }
      assert.strictEqual(hub.sent, bytes.length)
      const [model] = local.state()?.models ?? []
      assert.strictEqual(model?.name, "owner/tiny-GGUF:Q4_K_M")
    })
  }

  it("an unavailable model is an error, and no supervisor is started for it", async () => {
    await using local = localHome({ HF_ENDPOINT: hub.url })
    for (const command of [["run", "-d"], ["start"]]) {
      const { code, err, out } = await local.run(...command, "hf:owner/none", "--port", "0")
      assert.strictEqual(code, 1)
      assert.strictEqual(out, "")
      assert.match(err, /hf:owner\/none|owner\/none/)
      assert.isUndefined(local.state())
    }
  })
})

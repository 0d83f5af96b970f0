/** What the supervisor knows of the use of its engines. */
import { assert, beforeAll, it } from "vitest"
import { defaultModelPath } from "../../src/backend/embedded.js"
import { build } from "../support/cliProcess.js"
import { until } from "../support/engines.js"
import { localHome } from "../support/localHome.js"

beforeAll(build, 120_000)

/** Text that the grammar draws out as far as the context reaches. */
const endless = { type: "array", items: { type: "string", minLength: 400 }, minItems: 20 }

it("an answer in progress and its speed are reported, and a busy model stays loaded", {
  timeout: 120_000
}, async () => {
  await using local = localHome()
  const args = ["--port", "0", "--keep-alive", "1", "--ctx", "4096", "--parallel", "1"]
  const url = await local.ok("run", "-d", defaultModelPath(), ...args)
  const abort = new AbortController()
  const response = await fetch(`${url}/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      model: "aicortex-demo",
      messages: [{ role: "user", content: "Write a list." }],
      stream: true,
      max_tokens: 3500,
      response_format: { type: "json_schema", json_schema: { name: "list", schema: endless } }
    }),
    signal: abort.signal
  })
  assert.strictEqual(response.status, 200)
  const engine = async () => JSON.parse(await local.ok("status", "--json")).models[0].engines[0]
  let seen = 0
  let text = ""
  const reading = (async () => {
    for await (const part of response.body ?? []) text += Buffer.from(part).toString()
  })().catch(() => {})
  // For longer than it stays after its last request.
  const began = performance.now()
  await until("it has been at work for 3 s", async () => {
    const { inFlight, state } = await engine()
    if (performance.now() - began < 3_000 && !text.includes("[DONE]")) assert.strictEqual(state, "ready")
    seen = Math.max(seen, inFlight)
    return performance.now() - began > 3_000 || text.includes("[DONE]")
  })
  assert.strictEqual(seen, 1)
  if (!text.includes("[DONE]")) abort.abort()
  await reading
  await until("it is unloaded when it is not used any more", () => local.engines().length === 0)
})

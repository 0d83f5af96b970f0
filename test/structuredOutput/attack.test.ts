import { spawn, spawnSync } from "node:child_process"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { beforeAll, describe, expect, it } from "vitest"
import { model, useFleet } from "../support/fleet.js"
import { startGateway } from "../support/gateway.js"

const root = fileURLToPath(new URL("../..", import.meta.url))

beforeAll(() => {
  const built = spawnSync(process.execPath, [join(root, "scripts/setup.mjs")], { encoding: "utf8" })
  expect(built.status, built.stderr).toBe(0)
}, 120_000)

describe("hostile schemas against aicortex serve", () => {
  it("do not block other requests, use bounded memory, and do not prevent its end", async () => {
    const args = ["bench/schemas.mjs", "--seed", "7", "--count", "350", "--long-every", "50", "--json"]
    const child = spawn(process.execPath, args, { cwd: root, stdio: ["ignore", "pipe", "inherit"] })
    let out = ""
    child.stdout.on("data", (part) => {
      out += part
    })
    await new Promise((resolve) => child.once("close", resolve))
    const { health, memory, schemas, statuses, stop } = JSON.parse(out)
    expect(schemas).toBeGreaterThanOrEqual(350)
    expect(Object.keys(statuses).every((status) => Number(status) >= 200 && Number(status) < 500)).toBe(true)
    expect(statuses).toMatchObject({
      200: expect.any(Number),
      400: expect.any(Number),
      413: expect.any(Number),
      422: expect.any(Number)
    })
    // 250 ms on a quiet machine; without the bounds it is eight seconds and more.
    expect(health.max).toBeLessThan(2_000)
    expect(health.p99).toBeLessThan(1_000)
    expect(memory.after - memory.before).toBeLessThan(500)
    expect(stop.ms).toBeLessThan(15_000)
  }, 180_000)
})

describe("bodies with more JSON than may be parsed at once", () => {
  const fleet = useFleet()
  const faces = [
    ["/v1/chat/completions", '"messages":[{"role":"user","content":"Hi"}]'],
    ["/v1/completions", '"prompt":"Hi"'],
    ["/v1/responses", '"input":"Hi"'],
    ["/v1/messages", '"max_tokens":9,"messages":[{"role":"user","content":"Hi"}]'],
    ["/api/chat", '"stream":false,"messages":[{"role":"user","content":"Hi"}]'],
    ["/api/generate", '"stream":false,"prompt":"Hi"'],
    ["/api/embed", '"input":"Hi"']
  ] as const
  const costly = [
    ["objects", `[${"{},".repeat(70_000)}{}]`],
    ["arrays within each other", `${"[".repeat(70_000)}${"]".repeat(70_000)}`],
    ["numbers", `[${"1,".repeat(500_001)}1]`],
    ["properties", `{${Array.from({ length: 130_000 }, (_, i) => `"k${i}":1`).join(",")}}`],
    ["texts with escaped quotes", `[${'"\\"",'.repeat(500_001)}""]`]
  ] as const

  it.each(faces)("%s refuses them before parsing", async (path, rest) => {
    const server = await fleet.ollama({ reply: "Well." })
    await using gateway = await startGateway([server.url])
    for (const [name, value] of costly) {
      const response = await gateway.post(path, `{"model":"${model}",${rest},"metadata":${value}}`)
      expect(response.status, name).toBe(413)
      expect(await response.text(), name).toContain("more than 500000 JSON values")
    }
    expect(server.chatRequests).toEqual([])
  })

  it("long texts, also ones that look like JSON, and lists of tokens are accepted", async () => {
    const server = await fleet.ollama({ reply: "Well." })
    await using gateway = await startGateway([server.url])
    for (const content of [
      "a".repeat(5_000_000),
      // A quote after a long piece, with and without an escape before it.
      `${"a".repeat(300)}"[{,`.repeat(9_000),
      `${"a".repeat(300)}\\"[{,:\n`.repeat(9_000),
      "{}[],:".repeat(300_000),
      '"'.repeat(600_000),
      "\\".repeat(600_001)
    ]) {
      const response = await gateway.post("/api/chat", {
        model,
        stream: false,
        messages: [{ role: "user", content }]
      })
      expect(response.status).toBe(200)
    }
    const tokens = `[${"1,".repeat(300_000)}1]`
    const response = await gateway.post("/api/chat", `{"model":"${model}","messages":[],"odd":${tokens}}`)
    expect(await response.text()).not.toContain("JSON values")
  })
})

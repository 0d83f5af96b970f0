import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, describe, expect, it } from "vitest"
import { plausible, reconcile } from "../../src/internal/speed.js"
import { model, useFleet } from "../support/fleet.js"

const fleet = useFleet()
const folder = mkdtempSync(join(tmpdir(), "aicortex-speeds-"))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const words = 12

interface Paced {
  readonly protocol: "ollama" | "openai"
  /** From word to word, in milliseconds; 0: all in one. */
  readonly pace: number
  /** What the server says: tokens per second, and how many tokens. */
  readonly claims: number
  readonly tokens?: number
}

/** A server that writes at one speed and may report another. */
const paced = async ({ claims, pace, protocol, tokens = words }: Paced): Promise<{ readonly url: string }> => {
  const server = createServer(async (request, response) => {
    const chunks: Array<Buffer> = []
    for await (const chunk of request) chunks.push(chunk)
    const path = request.url ?? ""
    const json = (body: unknown, status = 200): void => void response.writeHead(status).end(JSON.stringify(body))
    if (protocol === "ollama" && path === "/api/tags") return json({ models: [{ name: model, model }] })
    if (protocol === "openai" && path === "/v1/models") return json({ object: "list", data: [{ id: model }] })
    const chats = protocol === "ollama" ? "/api/chat" : "/v1/chat/completions"
    if (path !== chats) return json({ error: "no" }, 404)
    const line = (value: object) =>
      protocol === "ollama" ? `${JSON.stringify(value)}\n` : `data: ${JSON.stringify(value)}\n\n`
    const word = (content: string) =>
      line(
        protocol === "ollama"
          ? { model, message: { role: "assistant", content }, done: false }
          : { choices: [{ index: 0, delta: { content } }] }
      )
    let text = ""
    for (let i = 0; i < words; i++) {
      text += word("word ")
      if (pace === 0) continue
      response.write(text)
      text = ""
      await new Promise((resolve) => setTimeout(resolve, pace))
    }
    if (protocol === "ollama") {
      const counts = { eval_count: tokens, eval_duration: (tokens / claims) * 1e9, prompt_eval_count: 3 }
      response.end(text + line({ model, message: { content: "" }, done: true, done_reason: "stop", ...counts }))
      return
    }
    const usage = { prompt_tokens: 3, completion_tokens: tokens, total_tokens: tokens + 3 }
    const last = { choices: [{ index: 0, delta: {}, finish_reason: "stop" }], usage }
    response.end(`${text}${line({ ...last, timings: { predicted_per_second: claims } })}data: [DONE]\n\n`)
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  fleet.keep({
    [Symbol.asyncDispose]: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      })
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
}

const fastest = async (quick: Paced, other: Paced) => {
  const [a, b] = await Promise.all([paced(quick), paced(other)])
  // Each is asked once, so that both are known.
  const cortex = fleet.cortex([
    { url: a.url, protocol: quick.protocol, maxInFlight: 1 },
    { url: b.url, protocol: other.protocol, maxInFlight: 1 }
  ])
  await Promise.all([cortex.chat("Hi"), cortex.chat("Hi")])
  const best = await cortex.bestServer(model, { strategy: "fastest" })
  return { best, a: a.url, b: b.url }
}

describe.each(["ollama", "openai"] as const)("counters of a server with protocol %s", (protocol) => {
  it.each([{ claims: 1_900 }, { claims: 1e9 }, { claims: 1_500, tokens: 1_200 }, { claims: 600 }])(
    "a slow one that says %j does not win",
    async (lie) => {
      const { a, best } = await fastest({ protocol, pace: 20, claims: 45 }, { protocol, pace: 60, ...lie })
      expect(best.url).toBe(a)
    }
  )

  it("control: a faster one with true counters wins, also through a buffering proxy", async () => {
    for (const pace of [20, 0]) {
      const { a, best } = await fastest({ protocol, pace, claims: 45 }, { protocol, pace: 60, claims: 16 })
      expect(best).toMatchObject({ url: a, tokens_per_second: expect.closeTo(45, 1) })
    }
  })
})

describe("figures of a registry", () => {
  it.each([16_483.52, 1e9, "1e400", "NaN", -5, 0])(
    "%s tokens per second is dropped: the server does not win",
    async (speed) => {
      const [honest, liar] = await Promise.all([fleet.ollama(), fleet.openai()])
      const registry = mkdtempSync(join(folder, "registry-"))
      const record = (url: string, tokens_per_second: unknown) => ({
        url,
        models: [{ model_name: model, tokens_per_second }]
      })
      writeFileSync(
        join(registry, "s.json"),
        JSON.stringify({ servers: [record(liar.url, speed), record(honest.url, 40)] })
      )
      const cortex = fleet.cortex([], { registry })
      const listed = await cortex.listModelServers(model)
      expect(listed.map(({ tokens_per_second, url }) => [url, tokens_per_second])).toEqual(
        expect.arrayContaining([
          [honest.url, 40],
          [liar.url, undefined]
        ])
      )
      expect((await cortex.bestServer(model, { strategy: "fastest" })).url).toBe(honest.url)
    }
  )
})

describe("a speed", () => {
  it.each([Number.NaN, Number.POSITIVE_INFINITY, -1, 0, 2_001, 1e9, undefined])("%s is not believed", (speed) => {
    expect(plausible(speed)).toBeUndefined()
    expect(reconcile(speed, 11, 1_000)).toBe(10)
    expect(reconcile(speed, 11, 0)).toBeUndefined()
  })

  it("is the server's own if our clock does not contradict it", () => {
    expect(reconcile(25, 11, 1_000)).toBe(25)
    expect(reconcile(31, 11, 1_000)).toBe(10)
    expect(reconcile(5, 11, 1_000)).toBe(5)
    expect(reconcile(500, 11, 100)).toBe(500)
    expect(reconcile(undefined, 1_000, 60)).toBeUndefined()
  })
})

import { once } from "node:events"
import type { AddressInfo } from "node:net"
import { createServer } from "node:net"
import { beforeAll, describe, expect, it, vi } from "vitest"
import { build, type Home, makeHome } from "../support/cliProcess.js"
import { useFleet } from "../support/fleet.js"
import { unusedPort } from "../support/ports.js"

// Each test runs several processes.
vi.setConfig({ testTimeout: 120_000 })

beforeAll(build, 120_000)

const fleet = useFleet()
const dead = async () => `http://127.0.0.1:${await unusedPort()}`
const home = (config: unknown): Home => fleet.keep(makeHome(config))

interface Check {
  readonly check: string
  readonly subject: string
  readonly status: string
  readonly message: string
  readonly advice: string | null
}
const examine = async (at: Home, env: NodeJS.ProcessEnv = {}) => {
  const { code, err, out } = await at.run(["doctor", "--json"], { PORT: String(await unusedPort()), ...env })
  const { checks, ok } = JSON.parse(out) as { readonly ok: boolean; readonly checks: ReadonlyArray<Check> }
  expect(ok).toBe(code === 0)
  const bad = checks.filter(({ status }) => status !== "ok")
  for (const { advice, message } of bad) expect(advice, message).toMatch(/\w/)
  return { code, err, checks, bad, of: (subject: string) => checks.filter((check) => check.subject === subject) }
}

describe("servers", () => {
  it("are fine if they answer, with every protocol, after a request for one token", async () => {
    const models = [
      { name: "big:70b", size: 40e9 },
      { name: "small:1b", size: 8e8 },
      { name: "nomic-embed-text", size: 3e8, capabilities: ["embedding"] }
    ]
    const one = await fleet.ollama({ models, version: "0.12.3" })
    const api = await fleet.openai({ apiKey: "s3cret", models: ["gpt-4o-mini"] })
    const claude = await fleet.anthropic({ apiKey: "s3cret" })
    const third = { url: claude.url, protocol: "anthropic", apiKey: "s3cret" }
    const at = home({ servers: [one.url, { url: `${api.url}/v1`, apiKey: "s3cret" }, third] })
    const { code, out, err } = await at.run(["doctor"], { PORT: String(await unusedPort()) })
    expect({ code, err }).toEqual({ code: 0, err: "" })
    expect(out).toMatch(new RegExp(`✓ ${one.url}: it answers: Ollama 0\\.12\\.3, 3 models, \\d+ ms\n`))
    expect(out).toMatch(new RegExp(`✓ ${one.url}: small:1b answers \\(\\d+ ms\\)\n`))
    expect(out).toMatch(new RegExp(`✓ ${api.url}/v1: it answers: the OpenAI protocol, 1 model, \\d+ ms\n`))
    expect(out).toContain(`✓ ${api.url}/v1: gpt-4o-mini answers`)
    expect(out).toMatch(new RegExp(`✓ ${claude.url}: it answers: Anthropic's protocol, 1 model, \\d+ ms\n`))
    expect(out).toContain(`✓ ${claude.url}: m:1b answers`)
    expect(out).toMatch(/✓ .*: it is free for the gateway/)
    expect(out).toMatch(/\nNothing is wrong\.\n$/)
    expect([one, api, claude].map(({ chatRequests }) => chatRequests.length)).toEqual([1, 1, 1])
    expect(one.chatRequests[0]?.body.options.num_predict).toBe(1)
    expect(out).not.toContain("s3cret")
    // The default model, where the server has it.
    await at.run(["doctor"], { AICORTEX_MODEL: "big:70b" })
    expect(one.chatRequests[1]?.body.model).toBe("big:70b")
  })

  it("with problems are listed with advice", async () => {
    const [gone, locked] = [await dead(), await fleet.openai({ apiKey: "s3cret" })]
    const empty = await fleet.ollama({ models: [] })
    const broken = await fleet.ollama({ faultOn: "chat", faults: () => ({ kind: "status", code: 500 }) })
    const broken2 = await fleet.openai({ faultOn: "chat", faults: () => ({ kind: "status", code: 500 }) })
    const name = "http://no-such-machine.invalid:11434"
    const at = home({ servers: [gone, locked.url, empty.url, broken.url, broken2.url, name] })
    const { code, err, of } = await examine(at)
    expect(code).toBe(1)
    expect(err).toMatch(/^aicortex: 6 of \d+ checks failed\n$/)
    expect(of(gone)).toMatchObject([
      {
        check: "server",
        status: "wrong",
        message: "it refused the connection",
        advice: expect.stringContaining("ollama serve")
      }
    ])
    expect(of(locked.url)).toMatchObject([{ status: "wrong", advice: expect.stringContaining("--api-key") }])
    expect(of(empty.url)).toMatchObject([
      { check: "server", status: "ok" },
      {
        check: "models",
        status: "wrong",
        advice: expect.stringContaining(`aicortex pull llama3.2:3b --server ${empty.url}`)
      }
    ])
    for (const { url } of [broken, broken2]) {
      expect(of(url)).toMatchObject([
        { check: "server", status: "ok" },
        { check: "answer", status: "wrong", message: expect.stringContaining("m:1b does not answer: ") }
      ])
    }
    expect(of(name)).toMatchObject([{ status: "wrong", advice: expect.stringContaining("name") }])
    const text = await at.run(["doctor"])
    expect(text).toMatchObject({ code: 1 })
    expect(text.out).toContain(`✗ ${gone}: it refused the connection\n    Nothing listens there.`)
  })

  it("unreachable through a proxy are listed with the proxy and advice", async () => {
    const gone = await dead()
    const at = home({ servers: ["http://gpu.internal:11434"] })
    const { of } = await examine(at, { HTTP_PROXY: gone })
    expect(of("http://gpu.internal:11434")).toMatchObject([
      {
        status: "wrong",
        message: expect.stringContaining(`the proxy ${gone} refused the connection`),
        advice: expect.stringContaining("or name gpu.internal in NO_PROXY")
      }
    ])
  })

  it("that are silent delay it no longer than the timeout", async () => {
    const silent = await fleet.ollama({ faultOn: "chat", faults: () => ({ kind: "hang" }) })
    const { code, err, out } = await home({ servers: [silent.url] }).run(["doctor", "--timeout", "0.5"])
    expect({ code, err: err.replace(/\d+/g, "N") }).toMatchObject({
      code: 1,
      err: expect.stringContaining("N of N checks")
    })
    expect(out).toContain(`✗ ${silent.url}: m:1b does not answer: `)
  })

  it("must exist", async () => {
    const { bad, code } = await examine(home({ servers: [] }))
    expect(code).toBe(1)
    expect(bad).toMatchObject([{ check: "server", advice: expect.stringContaining("aicortex servers add") }])
  })
})

describe("settings", () => {
  it("that are overridden are reported, and effective ones are not", async () => {
    const one = await fleet.ollama()
    const at = home({ servers: ["http://other:1"], model: "other:1b", probeInterval: 600 })
    const env = { AICORTEX_SERVERS: one.url, OLLAMA_HOST: one.url, AICORTEX_MODEL: "m:1b" }
    const { bad, code } = await examine(at, env)
    expect(code).toBe(0)
    expect(bad.map(({ check, subject }) => `${check} ${subject}`).sort()).toEqual([
      "setting model",
      "setting servers",
      "variable OLLAMA_HOST"
    ])
    for (const { message, status } of bad)
      expect([status, message]).toEqual(["warning", expect.stringContaining("no effect")])
  })

  it("that are never read, or that need others, are reported as without effect", async () => {
    const one = await fleet.ollama()
    const variables = await examine(home({ servers: [one.url] }), { AICORTEX_MODLE: "m:1b", AICORTEX_XYZ: "1" })
    expect(variables.bad).toMatchObject([
      { check: "variable", subject: "AICORTEX_MODLE", status: "warning", advice: "Did you mean AICORTEX_MODEL?" },
      { check: "variable", subject: "AICORTEX_XYZ", status: "warning" }
    ])
    const alone = await examine(home({ servers: [{ url: one.url, weight: 2 }] }))
    expect(alone.bad).toMatchObject([{ subject: "servers", message: expect.stringContaining("weight and priority") }])
    const two = await fleet.ollama()
    const nowhere = await examine(home({ servers: [one.url, two.url], location: "52.52,13.40" }))
    expect(nowhere.bad).toMatchObject([
      { subject: "location", message: expect.stringContaining("no server has a location") }
    ])
    const fine = [{ url: one.url, weight: 2, location: "52.52,13.40" }, two.url]
    expect((await examine(home({ servers: fine, location: "52.52,13.40" }))).bad).toEqual([])
  })

  it("that name a model which no server has are reported", async () => {
    const one = await fleet.ollama()
    const aliases = { best: ["gone:7b"], small: ["gone:7b", "m:1b"] }
    const { bad, code } = await examine(home({ servers: [one.url], model: "llama9:3b", aliases }))
    expect(code).toBe(1)
    expect(bad).toMatchObject([
      { subject: "model", status: "wrong", advice: expect.stringContaining("aicortex pull llama9:3b") },
      { subject: "aliases", status: "warning", message: expect.stringContaining("'best'") }
    ])
    const chained = await examine(home({ servers: [one.url], model: "small", aliases: { small: ["gone:7b", "m:1b"] } }))
    expect(chained.bad).toEqual([])
  })

  it("that cannot be read are a separate error", async () => {
    expect(await home({ servers: 1 }).run(["doctor"])).toMatchObject({ code: 1, out: "" })
    const env = { PORT: "x" }
    expect(await home({ servers: [] }).run(["doctor"], env)).toMatchObject({ code: 2, out: "" })
  })
})

it("reports whether the gateway's port is free or taken", async () => {
  const one = await fleet.ollama()
  const taken = createServer().listen(0, "127.0.0.1")
  await once(taken, "listening")
  const PORT = String((taken.address() as AddressInfo).port)
  try {
    const { bad, code } = await examine(home({ servers: [one.url] }), { PORT, HOST: "127.0.0.1" })
    expect(code).toBe(0)
    expect(bad).toMatchObject([{ check: "port", subject: `127.0.0.1:${PORT}`, status: "warning" }])
  } finally {
    taken.close()
  }
})

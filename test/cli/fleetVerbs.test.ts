import { createHash } from "node:crypto"
import { beforeAll, describe, expect, it, vi } from "vitest"
import { bin, build, ended, type Home, makeHome } from "../support/cliProcess.js"
import type { FakeServer } from "../support/fakeServer.js"
import { useFleet } from "../support/fleet.js"
import { unusedPort } from "../support/ports.js"
import { hasTerminals, startTerminal, type Terminal } from "../support/terminal.js"

// Each test runs several processes.
vi.setConfig({ testTimeout: 120_000 })

beforeAll(build, 120_000)

const fleet = useFleet()
/** Of the layer of `new:3b`, as progress has it. */
const digest = createHash("sha256").update("new:3b").digest("hex").slice(0, 12)
const dead = async () => `http://127.0.0.1:${await unusedPort()}`
const home = (servers: ReadonlyArray<string | FakeServer>, more: object = {}): Home =>
  fleet.keep(makeHome({ servers: servers.map((one) => (typeof one === "string" ? one : one.url)), ...more }))
const lines = (text: string) => text.trimEnd().split("\n")
const paths = (server: FakeServer, path: string) => server.requests.filter((request) => request.path === path)
/** What a command may only ask a server of the OpenAI protocol. */
const onlyLists = (server: FakeServer) =>
  expect(new Set(server.requests.map(({ method, path }) => `${method} ${path}`))).toEqual(
    new Set(["GET /api/tags", "GET /v1/models"])
  )

describe("aicortex ls", () => {
  it("lists each version of a model once, with its size and servers, for both protocols", async () => {
    const one = await fleet.ollama({ models: ["llama3.2:3b", { name: "gemma3:4b", size: 3_338_801_804 }] })
    const two = await fleet.ollama({ models: ["llama3.2:3b", { name: "gemma3:4b", digest: "ff", size: 950_000 }] })
    const api = await fleet.openai({ models: ["gpt-4o-mini"] })
    const gone = await dead()
    const { run } = home([one, two, api, gone])
    const { code, err, out } = await run(["ls"])
    expect({ code, err }).toEqual({ code: 0, err: `aicortex: ${gone} refused the connection\n` })
    const rows = lines(out).map((line) => line.split(/ {2,}/))
    expect(rows[0]).toEqual(["Model", "Size", "Parameters", "Quantization", "Servers"])
    expect(rows.slice(1)).toEqual(
      expect.arrayContaining([
        ["gemma3:4b", "3.3 GB", "4B", "Q4_K_M", one.url],
        ["gemma3:4b", "950 kB", "4B", "Q4_K_M", two.url],
        ["gpt-4o-mini", "-", "-", "-", api.url],
        ["llama3.2:3b", "2.0 GB", "3B", "Q4_K_M", `${one.url}, ${two.url}`]
      ])
    )
    expect(rows).toHaveLength(5)
    const json = JSON.parse((await run(["ls", "--json", "--server", two.url])).out)
    expect(json).toMatchObject([
      { model: "gemma3:4b", size: 950_000, digest: "ff", servers: [two.url] },
      { model: "llama3.2:3b", size: 2_019_393_189, servers: [two.url] }
    ])
  })

  it("fails if no server answers, with the reason of each, and if there is none", async () => {
    const gone = [await dead(), await dead()]
    const { code, err, out } = await home(gone).run(["ls"])
    expect({ code, out }).toEqual({ code: 1, out: "" })
    for (const url of gone) expect(err).toContain(`${url} refused the connection`)
    const none = await home([]).run(["ls"])
    expect(none).toMatchObject({ code: 1, err: expect.stringContaining("aicortex servers add") })
    const empty = await home([await fleet.ollama({ models: [] })]).run(["ls"])
    expect(empty).toMatchObject({ code: 0, out: "", err: expect.stringContaining("aicortex pull") })
  })

  it("lists the known servers if the named one is not among them", async () => {
    const one = await fleet.ollama()
    const { run } = home([one])
    const wrong = await run(["ls", "--server", "http://127.0.0.1:1"])
    expect(wrong).toMatchObject({ code: 1, err: expect.stringContaining(`there is no server 'http://127.0.0.1:1'`) })
    expect(wrong.err).toContain(one.url)
  })
})

describe("aicortex ps", () => {
  it("lists loaded models with their memory and expiry, and names servers that cannot report them", async () => {
    const loaded = ["llama3.2:3b"]
    const one = await fleet.ollama({ models: loaded, loaded })
    const two = await fleet.ollama({ models: loaded, loaded, vramShare: 0.4, expiresAt: "2319-01-01T00:00:00Z" })
    const three = await fleet.ollama({ models: loaded, loaded, vramShare: 0, expiresAt: "2020-01-01T00:00:00Z" })
    const api = await fleet.openai()
    const { run } = home([one, two, three, api])
    const { code, err, out } = await run(["ps"])
    expect(code).toBe(0)
    expect(err).toBe(`aicortex: ${api.url} speaks the OpenAI protocol, which cannot tell what is loaded\n`)
    const rows = lines(out).map((line) => line.split(/ {2,}/))
    expect(rows).toEqual([
      ["Model", "Server", "Memory", "Processor", "Context", "Until"],
      ["llama3.2:3b", one.url, "2.0 GB", "GPU", "4096", expect.stringMatching(/^in [45] min$/)],
      ["llama3.2:3b", two.url, "2.0 GB", "40% GPU, 60% CPU", "4096", "it is unloaded"],
      ["llama3.2:3b", three.url, "2.0 GB", "CPU", "4096", "stopping"]
    ])
    const json = JSON.parse((await run(["ps", "--json"])).out)
    expect(json.map(({ expires_at: until }: { readonly expires_at: unknown }) => until)).toEqual([
      expect.stringMatching(/^20\d\d-/),
      null,
      "2020-01-01T00:00:00.000Z"
    ])
    onlyLists(api)
  })

  it("fails if no server reports loaded models, and succeeds if none is loaded", async () => {
    const api = await fleet.openai()
    const claude = await home([await fleet.anthropic()], {}).run(["ps"])
    expect(claude).toMatchObject({ code: 1, out: "" })
    const failed = await home([api]).run(["ps"])
    expect(failed).toMatchObject({ code: 1, out: "", err: expect.stringContaining(`${api.url} speaks the OpenAI`) })
    const idle = await home([await fleet.ollama()]).run(["ps"])
    expect(idle).toEqual({ code: 0, out: "", err: "aicortex: no model is loaded\n" })
  })
})

describe("aicortex show", () => {
  it("shows an Ollama server's details, and for others the data of their lists", async () => {
    const one = await fleet.ollama({ models: ["llama3.2:3b"] })
    const api = await fleet.openai({ flavour: "vllm", models: [{ name: "org/some-7b", contextLength: 8192 }] })
    const { run } = home([await dead(), api, one])
    const { code, out } = await run(["show", "LLAMA3.2:3b"])
    expect(code).toBe(0)
    expect(Object.fromEntries(lines(out).map((line) => line.split(/ {2,}/)))).toMatchObject({
      Model: "llama3.2:3b",
      Servers: one.url,
      Size: "2.0 GB",
      Architecture: "llama",
      "Context length": "4096",
      Capabilities: "completion, tools",
      Licence: "MIT"
    })
    const json = JSON.parse((await run(["show", "llama3.2:3b", "--json"])).out)
    expect(json).toMatchObject({ model: "llama3.2:3b", server: one.url, model_info: { "llama.context_length": 4096 } })
    const other = await run(["show", "org/some-7b"])
    expect(other.out).toMatch(/^Model {2,}org\/some-7b\n[\s\S]*Context length {2,}8192\n/)
    expect(other.err).toContain(`${api.url} speaks the OpenAI protocol`)
    const missing = await run(["show", "lama3.2:3b"])
    expect(missing).toMatchObject({ code: 1, out: "", err: expect.stringContaining("llama3.2:3b") })
    const named = await run(["show", "llama3.2:3b", "--server", api.url])
    expect(named).toMatchObject({ code: 1, err: `aicortex: ${api.url} does not have 'llama3.2:3b'\n` })
  })
})

describe("aicortex pull", () => {
  it("pulls to the server with most space, those that have the model, the named ones, or all", async () => {
    const full = await fleet.ollama({ models: [{ name: "big:70b", size: 40e9 }] })
    const roomy = await fleet.ollama({ models: ["a:1b"] })
    const api = await fleet.openai()
    const { run } = home([full, roomy, api])
    const first = await run(["pull", "new:3b"])
    expect(first).toMatchObject({ code: 0, out: `new:3b is on ${roomy.url}.\n` })
    expect(first.err).toContain(`aicortex: ${roomy.url}: pulling manifest\n`)
    expect((await run(["pull", "big:70b"])).out).toBe(`big:70b is on ${full.url}.\n`)
    const named = await run(["pull", "new:3b", "--server", full.url.replace("http://", ""), "--json"])
    expect(JSON.parse(named.out)).toEqual({ model: "new:3b", servers: [{ server: full.url, status: "done" }] })
    const all = await run(["pull", "other:1b", "--all"])
    expect(all).toMatchObject({ code: 0, out: `other:1b is on ${full.url}, ${roomy.url}.\n` })
    expect(all.err).toContain(`${api.url} speaks the OpenAI protocol, which cannot download models`)
    expect((await run(["ls", "--json", "--server", roomy.url])).out).toContain("other:1b")
    onlyLists(api)
  })

  it("reports on which server it failed and why, and where the model is available", async () => {
    const one = await fleet.ollama()
    const [api, gone] = [await fleet.openai(), await dead()]
    const { run } = home([one, api, gone])
    const missing = await run(["pull", "missing:1b"])
    expect(missing).toMatchObject({ code: 1, out: "" })
    expect(missing.err).toContain(`${one.url}: pull model manifest: file does not exist`)
    const all = await run(["pull", "new:1b", "--all"])
    expect(all).toMatchObject({ code: 1, out: `new:1b is on ${one.url}.\n` })
    expect(all.err).toContain(`it is on ${one.url}: ${gone}: refused the connection`)
    const named = await run(["pull", "new:1b", "--server", one.url, "--server", api.url, "--json"])
    expect(named.code).toBe(1)
    expect(JSON.parse(named.out).servers).toMatchObject([
      { server: one.url, status: "done" },
      { server: api.url, status: "failed", message: expect.stringContaining("OpenAI protocol") }
    ])
    const only = await run(["pull", "new:1b", "--server", api.url])
    expect(only.err).toBe(
      `aicortex: no server can download models: ${api.url} speaks the OpenAI protocol, which cannot download models\n`
    )
  })

  it("refuses invalid arguments before any request", async () => {
    const one = await fleet.ollama()
    const { run } = home([one], { aliases: { small: ["a:1b", "b:1b"] } })
    expect(await run(["pull", "a b"])).toMatchObject({ code: 2 })
    expect(await run(["pull", "a:1b", "--all", "--server", one.url])).toMatchObject({ code: 2 })
    expect(await run(["pull"])).toMatchObject({ code: 2 })
    const alias = await run(["pull", "small"])
    expect(alias).toMatchObject({ code: 1, err: expect.stringContaining("a:1b, b:1b") })
    expect(one.requests).toEqual([])
  })

  it.each(["SIGINT", "SIGTERM"] as const)("%s cancels the download and reports what remains", async (signal) => {
    const slow = await fleet.ollama({ pullStallsAfter: 3 })
    const quick = await fleet.ollama()
    const { start } = home([quick, slow])
    const child = start(["pull", "new:3b", "--all"])
    let output = ""
    const end = ended(child)
    await new Promise<void>((resolve) =>
      child.stderr?.on("data", (piece) => {
        output += piece
        // The slow one has told its last line, and the quick one is done.
        if (output.includes(`${slow.url}: pulling ${digest}`) && output.includes(`${quick.url}: writing`)) resolve()
      })
    )
    await expect.poll(() => paths(quick, "/api/pull")[0]?.finished).toBe(true)
    child.kill(signal)
    const { code, err } = await end
    expect(code).toBe(signal === "SIGINT" ? 130 : 143)
    expect(err).toContain("stopped before new:3b was there:")
    expect(err).toContain(`${quick.url}: done`)
    expect(err).toMatch(new RegExp(`${slow.url}: stopped at (0|11)% \\((0 B|131 kB) of 1\\.2 MB\\)`))
    expect(err).toContain(`\`aicortex pull new:3b --server ${slow.url}\` goes on`)
    const [request] = paths(slow, "/api/pull")
    expect(await request?.closedByClient).toEqual(expect.any(Number))
  })
})

describe("aicortex rm", () => {
  it("deletes the model from its server, and from several only with a flag", async () => {
    const models = ["shared:1b", "b:1b"]
    const one = await fleet.ollama({ models: ["shared:1b", "a:1b"] })
    const two = await fleet.ollama({ models })
    const { run } = home([one, two])
    expect(await run(["rm", "a:1b"])).toMatchObject({ code: 0, out: `Deleted a:1b from ${one.url}.\n` })
    const several = await run(["rm", "shared:1b"])
    expect(several).toMatchObject({ code: 2, out: "" })
    expect(several.err).toContain(`2 servers have 'shared:1b' (${one.url}, ${two.url}): say --server URL, or --all`)
    expect(paths(two, "/api/delete")).toEqual([])
    const named = await run(["rm", "shared:1b", "--server", two.url, "--json"])
    expect(JSON.parse(named.out)).toEqual({ model: "shared:1b", servers: [{ server: two.url, status: "done" }] })
    expect((await run(["rm", "shared:1b", "--all"])).out).toBe(`Deleted shared:1b from ${one.url}.\n`)
    expect((await run(["ls", "--json"])).out).not.toContain("shared")
    const missing = await run(["rm", "shared:1b"])
    expect(missing).toMatchObject({ code: 1, err: expect.stringContaining("not found") })
  })

  it("lists servers that cannot delete, and that may still have it", async () => {
    const one = await fleet.ollama({ models: ["m:1b"] })
    const [api, gone] = [await fleet.openai({ models: ["m:1b", "gpt"] }), await dead()]
    const { run } = home([one, api, gone])
    const only = await run(["rm", "gpt"])
    expect(only).toMatchObject({ code: 1, err: expect.stringContaining(`${api.url} speaks the OpenAI protocol`) })
    const done = await run(["rm", "m:1b"])
    expect(done).toMatchObject({ code: 0, out: `Deleted m:1b from ${one.url}.\n` })
    expect(done.err).toContain(`${api.url} speaks the OpenAI protocol, which cannot delete models`)
    expect(done.err).toContain(`${gone} refused the connection`)
    onlyLists(api)
  })

  it("reports the error of a server", async () => {
    const one = await fleet.ollama({
      models: ["m:1b"],
      faultOn: "all",
      faults: (_, body) => (body?.model === "m:1b" ? { kind: "status", code: 500 } : undefined)
    })
    const failed = await home([one]).run(["rm", "m:1b"])
    expect(failed).toMatchObject({ code: 1, out: "" })
    expect(failed.err).toContain(`m:1b could not be deleted: ${one.url}: `)
  })
})

describe.skipIf(!hasTerminals)("on a terminal", () => {
  const onTerminal = (at: Home, columns: number, args: ReadonlyArray<string>, env: NodeJS.ProcessEnv = {}): Terminal =>
    fleet.keep(
      Object.assign(
        startTerminal([process.execPath, bin, ...args], {
          columns,
          env: { PATH: process.env["PATH"], HOME: at.path, AICORTEX_CONFIG: at.file, TERM: "xterm-256color", ...env }
        }),
        {
          async [Symbol.asyncDispose](this: Terminal) {
            this.stop()
          }
        }
      )
    )

  it("a table that does not fit becomes blocks, without loss", async () => {
    const [one, two] = [await fleet.ollama(), await fleet.ollama()]
    const at = home([one, two])
    const wide = onTerminal(at, 120, ["ls"])
    expect(await wide.ended).toBe(0)
    expect(wide.screen()).toMatch(new RegExp(`^Model +Size +.*\nm:1b +2\\.0 GB +.*${one.url}, ${two.url}$`))
    const narrow = onTerminal(at, 60, ["ls"])
    expect(await narrow.ended).toBe(0)
    expect(lines(narrow.screen()).slice(0, 2)).toEqual(["Model         m:1b", "Size          2.0 GB"])
    expect(narrow.screen().replaceAll("\n", "")).toContain(`Servers       ${one.url}, ${two.url}`)
  })

  it("a download has a bar, which Ctrl-C ends", async () => {
    const slow = await fleet.ollama({ pullStallsAfter: 3 })
    const terminal = onTerminal(home([slow]), 110, ["pull", "new:3b"])
    await terminal.shows(/\d+% [█░]{20} {2}.* of 1\.2 MB/)
    terminal.type("\u0003")
    expect(await terminal.ended).toBe(130)
    expect(terminal.screen()).toContain("stopped before new:3b was there:")
    expect(lines(terminal.screen()).filter((line) => line.includes("░"))).toHaveLength(1)
    const whole = onTerminal(home([await fleet.ollama()]), 110, ["pull", "new:3b"])
    expect(await whole.ended).toBe(0)
    expect(whole.screen()).toMatch(/100% █{20} {2}1\.2 MB of 1\.2 MB {2}done\nnew:3b is on http/)
    const dumb = onTerminal(home([await fleet.ollama()]), 110, ["pull", "new:3b"], { TERM: "dumb" })
    expect(await dumb.ended).toBe(0)
    expect(dumb.output()).not.toContain("\u001b")
  })
})

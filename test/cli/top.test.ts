import type { Gateway } from "aicortex"
import stringWidth from "string-width"
import { afterEach, beforeAll, describe, expect, it, vi } from "vitest"
import { bin, build, makeHome } from "../support/cliProcess.js"
import { type FakeServer, startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { eventually, startGateway, type TestGateway } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"
import { hasTerminals, startTerminal, type Terminal } from "../support/terminal.js"

vi.setConfig({ testTimeout: 120_000 })

const model = "llama3.2:3b"
const keep = useKeep()
beforeAll(build, 120_000)

const ollama = async (options: Parameters<typeof startFakeOllama>[0] = {}) =>
  keep(await startFakeOllama({ models: [model], loaded: [model], reply: "word ".repeat(200), ...options }))
const openai = async (options: Parameters<typeof startFakeOpenAI>[0] = {}) =>
  keep(await startFakeOpenAI({ models: [model], reply: "word ".repeat(200), ...options }))
const serve = async (servers: ReadonlyArray<FakeServer>, options: Gateway.Options = {}) =>
  keep(
    await startGateway([], options, { cortex: { servers: servers.map(({ url }, priority) => ({ url, priority })) } })
  )
const ask = (gateway: TestGateway, body: object = {}, init: RequestInit = {}) =>
  gateway
    .post("/v1/chat/completions", { model, messages: [{ role: "user", content: "Hi" }], stream: true, ...body }, init)
    .then((response) => response.text())
    .catch(() => "left")

const terminals: Array<Terminal> = []
afterEach(() => {
  for (const terminal of terminals.splice(0)) terminal.stop()
})
const run = (args: ReadonlyArray<string>, env: NodeJS.ProcessEnv = {}) => keep(makeHome({})).run(["top", ...args], env)
const top = (args: ReadonlyArray<string>, columns = 100, env: NodeJS.ProcessEnv = {}, rows = 24): Terminal => {
  const { file, path } = keep(makeHome({}))
  const terminal = startTerminal([process.execPath, bin, "top", "--interval", "0.1", ...args], {
    columns,
    rows,
    env: { PATH: process.env["PATH"], HOME: path, AICORTEX_CONFIG: file, TERM: "xterm-256color", ...env }
  })
  terminals.push(terminal)
  return terminal
}
/** What the screen shows: the alternate screen has nothing above it. */
const lines = (terminal: Terminal): ReadonlyArray<string> => terminal.screen().split("\n")

/** On a terminal that knows no colours, the text is all there is. */
const plain = { NO_COLOR: "1" }

describe.skipIf(!hasTerminals)("aicortex top, on a terminal", () => {
  it("shows a killed server and its answer as resumed, at 60, 100 and 200 columns", async () => {
    const breaking = await ollama({ perToken: 10, faults: { kind: "cut", after: 12 } })
    const gateway = await serve([breaking, await openai({ perToken: 15 })])
    const screens = [60, 100, 200].map((columns) => ({ columns, terminal: top([gateway.url], columns) }))
    const each = (wanted: RegExp) => Promise.all(screens.map(({ terminal }) => terminal.shows(wanted)))
    await each(/server-2 +up/)
    await each(/Requests: 0 now/)
    const answer = ask(gateway)
    await each(/Requests: 1 now/)
    await breaking.stop()
    await each(/llama3\.2:3b +answering +server-2.* resumed/)
    await each(/server-1 +(resting|down)/)
    expect(await answer).toContain("[DONE]")
    await each(/llama3\.2:3b +done .* resumed/)
    for (const { columns, terminal } of screens) {
      const screen = terminal.screen()
      for (const line of lines(terminal)) expect(stringWidth(line)).toBeLessThanOrEqual(columns)
      expect(screen).toMatch(/^ {2}Server +State +In flight/m)
      // What does not fit is left out, and nothing is folded.
      expect([columns, /Key/.test(screen), /Route/.test(screen)]).toEqual([columns, columns > 60, columns === 200])
      terminal.type("q")
      expect(await terminal.ended).toBe(0)
      // The shell has its screen again, with its cursor.
      const output = terminal.output()
      expect(output.slice(output.lastIndexOf("\u001b[?25h"))).toMatch("\u001b[?1049l")
      expect(terminal.screen()).not.toContain("aicortex top")
    }
  })

  it("chooses rows, sorts, filters, shows details and help, and follows the size of the terminal", async () => {
    const gateway = await serve([await ollama(), await openai()])
    await ask(gateway)
    const terminal = top([gateway.url], 100, plain)
    await terminal.shows(/^› server-1 /m)
    expect(terminal.output()).not.toContain("\u001b[1m")
    terminal.type("j")
    await terminal.shows(/^› server-2 /m)
    terminal.type("\u001b[A")
    await terminal.shows(/^› server-1 /m)
    terminal.type("s")
    await terminal.shows("Servers  by state")
    terminal.type("/openai")
    await terminal.shows("/openai")
    terminal.type("\r")
    await terminal.shows((screen) => /^› server-2/m.test(screen) && !/server-1 +up/.test(screen))
    terminal.type("\r")
    await terminal.shows(/^Models: 1$/m)
    terminal.type("\u001b")
    await terminal.shows(/^Requests: 0 now/m)
    terminal.type("?")
    await terminal.shows("it gets no new requests")
    terminal.type("x")
    await terminal.shows("only: openai")
    terminal.resize(60, 12)
    await terminal.shows((screen) => screen.split("\n").length <= 12 && /^aicortex top.* live$/m.test(screen))
    for (const line of lines(terminal)) expect(stringWidth(line)).toBeLessThanOrEqual(60)
    terminal.resize(200, 30)
    await terminal.shows(/Server +State .* Version$/m)
    terminal.type("\u0003")
    expect(await terminal.ended).toBe(0)
  })

  it("rests, drains and wakes a server, and cancels a request, each after a confirmation", async () => {
    const slow = await ollama({ perToken: 50, reply: "word ".repeat(2_000) })
    const gateway = await serve([slow])
    const terminal = top([gateway.url], 100, plain)
    await terminal.shows(/^› server-1 +up/m)
    terminal.type("d")
    await terminal.shows("Drain server-1? y: yes")
    terminal.type("n")
    await terminal.shows("Nothing was done.")
    terminal.type("dy")
    await terminal.shows(/^› server-1 +draining/m)
    await terminal.shows("server-1 gets no new requests.")
    terminal.type("w")
    await terminal.shows(/^› server-1 +up/m)
    terminal.type("ry")
    await terminal.shows(/^› server-1 +resting .*an admin/m)
    terminal.type("w")
    await terminal.shows(/^› server-1 +up/m)
    const answer = ask(gateway)
    await slow.waitForChats(1)
    await terminal.shows(/llama3\.2:3b +answering/)
    terminal.type("\tcy")
    await terminal.shows("The request to llama3.2:3b was cancelled.")
    await terminal.shows(/^› llama3\.2:3b +cancelled/m)
    expect(await answer).not.toContain("[DONE]")
    terminal.type("c")
    await terminal.shows("This request has ended.")
  })

  it("a read-only key gets a message, and nothing is sent", async () => {
    const gateway = await serve([await ollama()], {
      keys: [
        { name: "look", key: "sk-look-1" },
        { name: "boss", key: "sk-boss-1", admin: true }
      ]
    })
    const terminal = top([gateway.url, "--key-env", "LOOK"], 100, { ...plain, LOOK: "sk-look-1" })
    await terminal.shows("read only")
    for (const key of ["r", "d", "w", "c"]) {
      terminal.type(`\u001b[B${key}`)
      await terminal.shows("The key has no administrator rights: it may look, and not act.")
      terminal.type("k")
      await terminal.shows((screen) => !screen.includes("administrator rights"))
    }
    expect(terminal.screen()).toMatch(/server-1 +up/)
    const boss = top([gateway.url, "--key", "sk-boss-1"], 100, plain)
    await boss.shows(/server-1 +up/)
    boss.type("dy")
    await boss.shows(/server-1 +draining/)
    await terminal.shows(/server-1 +draining/)
  })

  it("says that the gateway is gone, and continues when it is back", async () => {
    const servers = [await ollama()]
    const gateway = await serve(servers)
    const terminal = top([gateway.url], 100, plain)
    await terminal.shows(/ live$/m)
    await gateway.close()
    await terminal.shows(/lost: nothing listens there; again in \d s$/m)
    expect(terminal.screen()).toContain("server-1")
    const again = await serve(servers, { port: gateway.port })
    await terminal.shows(/ live$/m)
    const answer = ask(again)
    await terminal.shows(/llama3\.2:3b +(answering|done)/)
    await answer
  })

  it("names of servers and clients cannot control the terminal", async () => {
    const names = [
      "\u001b[31mred\u001b[2J",
      "\u202eevil",
      "模型模型模型",
      "a\u200f\u2066b",
      "👩‍👩‍👧‍👦family",
      `${"x".repeat(500)}`,
      "title\u001b]0;pwned\u0007"
    ]
    const hostile = await ollama({ models: names, loaded: names })
    const gateway = await serve([hostile])
    const terminal = top([gateway.url], 200, plain, 30)
    await terminal.shows("family")
    await Promise.all(names.map((name) => ask(gateway, { model: name })))
    await terminal.shows(/^ +模型模型模型\S* +done /m)
    const seen = terminal.output()
    for (const bad of ["\u001b[31m", "\u001b]0;", "\u0007", "\u202e", "\u200f", "\u2066"]) {
      expect([bad, seen.includes(bad)]).toEqual([bad, false])
    }
    const [, ...rows] = lines(terminal)
    for (const row of rows) expect(stringWidth(row)).toBeLessThanOrEqual(200)
    terminal.type("\r")
    await terminal.shows(`Models: ${names.length}`)
  })
})

describe("aicortex top, off a terminal", () => {
  it("prints the current state once, as JSON, or repeatedly", async () => {
    const gateway = await serve([
      await ollama(),
      await openai({ faults: { kind: "status", code: 503, on: "all" } as never })
    ])
    const watching = new AbortController()
    await fetch(`${gateway.url}/events`, { signal: watching.signal })
    await ask(gateway)
    const { code, err, out } = await run([gateway.url])
    expect({ code, err }).toEqual({ code: 0, err: "" })
    expect(out).toMatch(/^Server +State +In flight/m)
    expect(out).toMatch(/^server-1 +up .* ollama /m)
    expect(out).toMatch(/^llama3\.2:3b +done +server-1/m)
    expect(out).not.toContain("\u001b")
    const json = JSON.parse((await run([gateway.url, "--json"])).out)
    expect(json).toMatchObject({
      gateway: gateway.url,
      fleet: { servers: [{ server: "server-1" }, { server: "server-2" }] },
      requests: { running: [], recent: [{ model }] }
    })
    watching.abort()
    const home = keep(makeHome({}))
    const child = home.start(["top", gateway.url, "--json", "--interval", "0.1"])
    let text = ""
    child.stdout?.on("data", (piece) => {
      text += piece
    })
    await eventually(() => text.split("\n").length > 3, "it prints again")
    child.kill("SIGTERM")
    for (const line of text.split("\n").slice(0, 2)) expect(JSON.parse(line).fleet.servers).toHaveLength(2)
  })

  it("shows the servers of the configuration without a gateway", async () => {
    const [one, two] = [await ollama(), await openai()]
    const home = keep(makeHome({ servers: [one.url, two.url, "http://127.0.0.1:1"] }))
    const { code, err, out } = await home.run(["top", "--no-gateway"])
    expect({ code, err }).toEqual({ code: 0, err: "" })
    for (const { url } of [one, two]) expect(out).toContain(`${url}  up`)
    expect(out).toMatch(/^http:\/\/127\.0\.0\.1:1 +down/m)
  })

  it("reports errors", async () => {
    const gateway = await serve([await ollama()], { keys: [{ name: "one", key: "sk-one-1" }] })
    const server = await ollama()
    const wrong = async (args: ReadonlyArray<string>, words: string | RegExp, status = 1, env = {}) => {
      const { code, err, out } = await run(args, env)
      expect({ args, code, err, out }).toEqual({ args, code: status, err: expect.stringMatching(words), out: "" })
      expect(err).not.toContain("sk-")
    }
    await Promise.all([
      wrong(["127.0.0.1:1"], /no gateway answers at http:\/\/127\.0\.0\.1:1: .*aicortex serve/),
      wrong([gateway.url], /it wants a key: give --key-env/),
      wrong([gateway.url, "--key", "sk-two"], /it does not take this key/),
      wrong([server.url], /it is not a gateway of aicortex/),
      wrong([gateway.url, "--key-env", "NOT_SET"], /NOT_SET is not set/, 2),
      wrong(["ftp://x"], /URL: /, 2),
      wrong(["--interval", "0.01"], /--interval must be 0.1 to 3600/, 2)
    ])
    // The own gateway, with the own key.
    const { code, out } = await keep(
      makeHome({ gateway: { port: gateway.port, keys: [{ name: "one", key: "sk-one-1" }] } })
    ).run(["top"])
    expect([code, out]).toEqual([0, expect.stringMatching(/server-1 +up/)])
  })
})

import width from "string-width"
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest"
import { useChats } from "../../support/chatTerminal.js"
import { useDemoServers } from "../../support/demoProcess.js"
import { type FakeOllamaOptions, startFakeOllama, startFakeOpenAI } from "../../support/fakeServer.js"
import { hasTerminals } from "../../support/terminal.js"

const chats = useChats()
const stops: Array<() => Promise<void>> = []
afterEach(async () => {
  await Promise.all(stops.splice(0).map((stop) => stop()))
})

let demo: Awaited<ReturnType<typeof useDemoServers>>
beforeAll(async () => {
  demo = await useDemoServers()
}, 120_000)
afterAll(() => demo.close())

/** The built-in model behind a server that can be held and killed. */
const demoServer = async (habit?: Parameters<typeof demo.start>[0]) => {
  const server = await demo.start(habit)
  stops.push(server.kill)
  return server
}

/** A server that says just this. */
const ollama = async (reply: FakeOllamaOptions["reply"], options: FakeOllamaOptions = {}) => {
  const server = await startFakeOllama({ models: ["m"], reply, ...options })
  stops.push(server.stop)
  return server
}

const ctrlC = "\u0003"
const ctrlD = "\u0004"
const languages = "List programming languages (one per line):"

const sessions = async (): Promise<ReadonlyArray<{ readonly id: string; readonly messages: number }>> =>
  JSON.parse((await chats.run(["sessions", "--json"])).stdout)
const history = async (id: string) => JSON.parse((await chats.run(["sessions", "show", id, "--json"])).stdout).messages

describe.runIf(hasTerminals)("an answer on a terminal", { timeout: 180_000 }, () => {
  it("of the built-in model keeps its lines, and the next prompt is below", async () => {
    const terminal = await chats.chat(["--model", "aicortex-demo", "--temperature", "0"])
    terminal.type(`${languages}\r`)
    await terminal.shows(/1\. Python\n2\. JavaScript\n3\. TypeScript\n(.*\n)*aicortex-demo> Send/)
  })

  it("wraps between words, at the current width", async () => {
    const words = Array.from({ length: 80 }, (_, at) => `word${at}`).join(" ")
    const server = await ollama(
      `${words}\n\n汉字汉字汉字汉字汉字汉字汉字汉字汉字汉字汉字汉字汉字汉字汉字汉字汉字汉字汉字汉字汉字汉字 end.`
    )
    const terminal = await chats.chat(["-m", "m"], { servers: [server], columns: 50 })
    for (const columns of [50, 33, 71]) {
      terminal.resize(columns)
      terminal.type("again\r")
      await terminal.shows((screen) => screen.split("end.").length === [50, 33, 71].indexOf(columns) + 2)
      const last = terminal.screen().slice(terminal.screen().lastIndexOf("word0"))
      expect(last.match(/word\d+/g)).toEqual(words.split(" "))
      const lines = last.split("\n")
      for (const line of lines) expect(width(line)).toBeLessThan(columns)
      expect(Math.max(...lines.map((line) => width(line)))).toBeGreaterThan(columns - 9)
    }
  })

  it.each([
    [80, 44],
    [44, 80]
  ])("continues at the new width if the terminal is resized during it, from %i to %i", async (from, to) => {
    const words = Array.from({ length: 90 }, (_, at) => `word${at}`)
    let held: () => void = () => {}
    const hold = new Promise<void>((resolve) => {
      held = resolve
    })
    const server = await ollama(
      words.map((word) => `${word} `),
      { perToken: 25, onStruck: () => held() }
    )
    const terminal = await chats.chat(["-m", "m"], { servers: [server], columns: from })
    terminal.type("say\r")
    await terminal.shows("word20")
    await server.strike({ kind: "stall" })
    await hold
    terminal.resize(to)
    await server.strike(undefined)
    await terminal.shows(/word89\nm> Send/)
    const answer = terminal.screen().slice(terminal.screen().indexOf("word0"))
    // The terminal itself may have broken what was shown before.
    expect(answer.slice(0, answer.indexOf("\nm>")).replace(/\s+/g, "")).toBe(words.join(""))
    const last = answer.slice(answer.indexOf("word60"), answer.indexOf("\nm>"))
    expect(last.split(/\s+/)).toEqual(words.slice(60))
    const lengths = last.split("\n").map((line) => line.length)
    expect(Math.max(...lengths)).toBeLessThan(to)
    expect(Math.max(...lengths)).toBeGreaterThan(to - 9)
  })

  it("is formatted, without the Markdown marks", async () => {
    const text = "# Title\n\nSome **bold** and *soft* `code` here.\n\n- one\n- two\n\n```js\nlet a = 1\n```\n\nDone."
    const server = await ollama(text)
    const terminal = await chats.chat(["-m", "m"], { servers: [server] })
    terminal.type("say\r")
    await terminal.shows(/Done\.\nm> /)
    expect(terminal.screen()).toContain(
      "Title\n\nSome bold and soft code here.\n\n• one\n• two\n\n```js\nlet a = 1\n```\n\nDone."
    )
    for (const styled of ["\u001b[1mbold", "\u001b[3msoft", "\u001b[36mcode", "\u001b[36mlet a = 1"]) {
      expect(terminal.output()).toContain(styled)
    }
  })

  it("has no colours with NO_COLOR, and keeps the marks; /set markdown off keeps everything", async () => {
    const server = await ollama("Some **bold** here.\n\n* one\n* two\n\nDone.")
    const terminal = await chats.chat(["-m", "m"], { servers: [server], env: { NO_COLOR: "1" } })
    terminal.type("say\r")
    await terminal.shows(/Some \*\*bold\*\* here\.\n\n• one\n• two\n\nDone\.\nm> /)
    terminal.type("/set markdown off\rsay\r")
    await terminal.shows(/Some \*\*bold\*\* here\.\n\n\* one\n\* two\n\nDone\.\nm> /)
    // biome-ignore lint/suspicious/noControlCharactersInRegex: no style may be there.
    expect(terminal.output()).not.toMatch(/\u001b\[[\d;]*m/)
  })

  it("off a terminal is the plain text, with any input", async () => {
    const text = "Some **bold** here.\n\n* one\n* two"
    const server = await ollama(text)
    const input = 'one\n"""two\nand three"""\nfour\\\nfive\n/stats\n'
    const { status, stderr, stdout } = await chats.run(["chat", "-i", "-m", "m"], { servers: [server], input })
    expect({ status, stdout }).toEqual({ status: 0, stdout: `${text}\n`.repeat(3) })
    expect(stderr).toMatch(/^last answer: m:latest on [^\n]*\n[^\n]*3 answers[^\n]*\n$/)
    expect(server.chatRequests.map(({ body }) => body.messages.at(-1).content)).toEqual([
      "one",
      "two\nand three",
      "four\nfive"
    ])
    const refused = await chats.run(["chat", "-i", "-m", "m"], { servers: [server], input: "/nope\nnever asked\n" })
    expect(refused).toMatchObject({ status: 1, stdout: "" })
    expect(refused.stderr).toContain("unknown command '/nope'")
  })

  it.each([
    ["a title", "\u001b]0;owned\u0007"],
    ["the clipboard", "\u001b]52;c;b3duZWQ=\u001b\\"],
    ["the screen", "\u001b[2J\u001b[H\u009b2J"],
    ["text direction", "\u202e\u2066"],
    ["NUL", "\u0000\u0000"]
  ])("cannot change %s", async (_, hostile) => {
    const server = await ollama([`be${hostile}fore `, `**${hostile}**`, ` \`${hostile}\``, hostile, " after"], {
      models: ["m", `n${hostile}`]
    })
    const terminal = await chats.chat(["-m", "m"], { servers: [server] })
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are keys.
    terminal.type(`say ${hostile.replace(/[\u0000-\u001f]/g, "")}\r/list\r/show conversation\r/model\r`)
    await terminal.shows(/^\* m:latest$/m)
    await terminal.shows(/Model:(.|\n)* after/)
    terminal.type(ctrlD)
    await terminal.ended
    const rest = terminal
      .output()
      .replaceAll("\r\n", "")
      // biome-ignore lint/suspicious/noControlCharactersInRegex: our own sequences are removed.
      .replace(/\u001b\[(\?2004[hl]|\?2026[hl]|[\d;]*m|\d+[ABC]|[JK])|\r/g, "")
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they must not be there.
    expect(rest).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/)
  })
})

describe.runIf(hasTerminals)("an answer that is stopped with Ctrl-C", { timeout: 180_000 }, () => {
  it("stays in the conversation, marked as stopped for the model", async () => {
    const server = await demoServer()
    await server.hold(6)
    const terminal = await chats.chat(["-m", "tiny:2m", "-t", "0"], { servers: [server] })
    terminal.type(`${languages}\r`)
    await terminal.shows("1. Python\n2.")
    terminal.type(`for later\r${ctrlC}`)
    await terminal.shows("stopped; what was said until here is part of the conversation")
    // What was typed meanwhile is not sent by itself.
    await terminal.shows(/tiny:2m> for later$/)
    terminal.type(ctrlC)
    await terminal.shows(/tiny:2m> Send a message/)
    terminal.type(ctrlD)
    expect(await terminal.ended).toBe(0)
    const [only] = await sessions()
    expect(await history(only?.id ?? "")).toEqual([
      { role: "user", content: languages },
      { role: "assistant", content: expect.stringMatching(/^1\. Python\n2\.(.|\n)*\n\n\[interrupted by the user\]$/) }
    ])
    await expect.poll(() => server.underWay(), { timeout: 30_000 }).toEqual([])
  })

  it.each(["Ollama", "OpenAI"])("is not stored if nothing was written, and /retry sends it again (%s)", async (api) => {
    const options = { models: ["m"], reply: "an answer", faults: { kind: "hang" } } as const
    const server = await (api === "Ollama" ? startFakeOllama(options) : startFakeOpenAI(options))
    stops.push(server.stop)
    const terminal = await chats.chat(["-m", "m"], { servers: [server] })
    terminal.type("a question\r")
    await server.waitForChats(1)
    terminal.type(ctrlC)
    await terminal.shows(/stopped\nm> Send/)
    await server.setBehaviour({ faults: undefined })
    terminal.type("/retry\r")
    await terminal.shows(/an answer\nm> Send/)
    terminal.type(ctrlD)
    expect(await terminal.ended).toBe(0)
    const [only] = await sessions()
    const messages: ReadonlyArray<{ readonly content: string }> = await history(only?.id ?? "")
    expect(messages.map(({ content }) => content)).toEqual(["a question", "an answer"])
  })
})

describe.runIf(hasTerminals)("a server that is killed in the middle of an answer", { timeout: 180_000 }, () => {
  it("is reported on its own line, and the text continues", async () => {
    const first = await demoServer()
    const second = await demoServer()
    // Either server stops sending in the middle.
    await first.hold(7)
    await second.hold(7)
    const terminal = await chats.chat(["-m", "tiny:2m", "-t", "0"], { servers: [first, second], columns: 200 })
    terminal.type(`${languages}\r`)
    await terminal.shows("1. Python\n2.")
    const [asked, other] = first.underWay().some(({ begun }) => begun) ? [first, second] : [second, first]
    await other.hold(1_000)
    await asked.kill()
    await terminal.shows(/3\. TypeScript\n(.*\n)*tiny:2m> Send/)
    const screen = terminal.screen()
    const notice = screen.split("\n").filter((line) => line.includes(asked.url))
    expect(notice).toEqual([expect.stringMatching(new RegExp(`^aicortex: .*; ${other.url} goes on$`))])
    // The whole answer stands there once.
    const answer = screen
      .split("\n")
      .filter((line) => /^\d\. /.test(line))
      .slice(0, 3)
    expect(answer).toEqual(["1. Python", "2. JavaScript", "3. TypeScript"])
  })

  it("is not reported if all fail: the error says it, and the conversation continues", async () => {
    const only = await demoServer()
    await only.hold(7)
    const terminal = await chats.chat(["-m", "tiny:2m", "-t", "0", "--max-retries", "1"], {
      servers: [only],
      columns: 200
    })
    terminal.type(`${languages}\r`)
    await terminal.shows("1. Python\n2.")
    await only.kill()
    await terminal.shows(/aicortex: .* broke after \d+ characters(.|\n)*\ntiny:2m> Send/)
    terminal.type("/list\r")
    await terminal.shows("no conversation is kept")
  })
})

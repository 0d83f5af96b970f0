import { readFileSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { afterEach, describe, expect, it } from "vitest"
import { useChats } from "../../support/chatTerminal.js"
import { type FakeOllamaOptions, startFakeOllama, startFakeOpenAI } from "../../support/fakeServer.js"
import { hasTerminals, type Terminal } from "../../support/terminal.js"

const chats = useChats()
const stops: Array<() => Promise<void>> = []
afterEach(async () => {
  await Promise.all(stops.splice(0).map((stop) => stop()))
})

const ollama = async (options: FakeOllamaOptions = {}) => {
  const server = await startFakeOllama({ models: ["m", "n:7b"], reply: "an answer", ...options })
  stops.push(server.stop)
  return server
}

const demo = ["--model", "aicortex-demo", "--temperature", "0"]
const capital = "What is the capital of France?"

/** Types a line, and waits until the prompt is back and what it wrote is there. */
const type = async (terminal: Terminal, line: string, wanted: string | RegExp) => {
  const before = terminal.screen().split(/^\S+> /m).length
  terminal.type(`${line}\r`)
  await terminal.shows((screen) => {
    const parts = screen.split(/^\S+> /m)
    const after = parts.slice(before - 1).join("")
    return (
      parts.length > before &&
      screen.endsWith("Send a message (/help for help)") &&
      (typeof wanted === "string" ? after.includes(wanted) : wanted.test(after))
    )
  })
}

const leave = async (terminal: Terminal) => {
  terminal.type("/exit\r")
  expect(await terminal.ended).toBe(0)
}

const sessions = async (): Promise<ReadonlyArray<{ readonly id: string; readonly messages: number }>> =>
  JSON.parse((await chats.run(["sessions", "--json"])).stdout)
const history = async (id: string): Promise<ReadonlyArray<{ readonly role: string; readonly content: unknown }>> =>
  JSON.parse((await chats.run(["sessions", "show", id, "--json"])).stdout).messages

describe.runIf(hasTerminals)("commands of a conversation", { timeout: 180_000 }, () => {
  it("/help lists every command and key, or explains one", async () => {
    const terminal = await chats.chat(demo, { rows: 60 })
    await type(terminal, "/help", "Suspend")
    for (const name of "help model system set show save load list new clear retry stats image exit".split(" ")) {
      expect(terminal.screen()).toMatch(new RegExp(`^ {2}/${name}\\b`, "m"))
    }
    await type(terminal, "/help clear", /\/clear\n {2}Forget what was said in this conversation\. Also \/reset\./)
    await leave(terminal)
  })

  it.each([
    ["/nope", "unknown command '/nope'"],
    ["/modle m", "did you mean 'model'?"],
    ["/etc/passwd explain", "unknown command '/etc/passwd'"],
    ["/new later", "/new takes nothing, but was given 'later'"],
    ["/help nope", "unknown command '/nope'"],
    ["/set nope 1", "there is no parameter 'nope'"],
    ["/set temperature hot", "temperature must be a number, not 'hot'"],
    ["/set temperature 9", "temperature must be"],
    ["/set think maybe", "think must be one of"],
    ["/show nope", "there is no 'nope' to show"],
    ["/load", "/load needs an id or a file"],
    ["/load nowhere.json", "there is no conversation and no file 'nowhere.json'"],
    ["/save", "nothing was said yet"],
    ["/retry", "nothing was asked yet"],
    ["/image nowhere.png", "it does not exist"],
    ["/model nope", "nope"]
  ])("%s is refused with a message, and not sent", async (line, words) => {
    const server = await ollama()
    const terminal = await chats.chat(["-m", "m"], { servers: [server], columns: 200 })
    await type(terminal, line, new RegExp(`^aicortex: .*${words.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&")}`, "m"))
    expect(server.chatRequests).toEqual([])
    // With a space before it, it is a question.
    await type(terminal, ` ${line}`, "an answer")
    expect(server.chatRequests[0]?.body.messages.at(-1).content).toBe(line)
    await leave(terminal)
  })

  it("a line that begins with a slash but is not a command is a question", async () => {
    const server = await ollama()
    const terminal = await chats.chat(["-m", "m"], { servers: [server] })
    for (const line of ["// a comment", "/* another */", "/ 2"]) await type(terminal, line, "an answer")
    expect(server.chatRequests.map(({ body }) => body.messages.at(-1).content)).toEqual([
      "// a comment",
      "/* another */",
      "/ 2"
    ])
    await leave(terminal)
  })

  it("/model lists models, and switches to another one, which the prompt names", async () => {
    const server = await ollama()
    const terminal = await chats.chat(["-m", "m"], { servers: [server] })
    await type(terminal, "/model", /^\* m:latest\n {2}n:7b$/m)
    await type(terminal, "/model n:7b", "n:7b answers from now on")
    await type(terminal, "hello", "an answer")
    expect(terminal.screen()).toMatch(/^n:7b> hello$/m)
    expect(server.chatRequests[0]?.body.model).toBe("n:7b")
    await leave(terminal)
  })

  it.each(["Ollama", "OpenAI"])("/system and /set apply from the next question on (%s)", async (api) => {
    const options = { models: ["m"], reply: "an answer" }
    const server = await (api === "Ollama" ? startFakeOllama(options) : startFakeOpenAI(options))
    stops.push(server.stop)
    const terminal = await chats.chat(["-m", "m", "--system", "Be kind."], { servers: [server], rows: 60 })
    await type(terminal, "/system", "Be kind.")
    await type(terminal, "one", "an answer")
    await type(terminal, "/system Be brief.", "the system prompt is set")
    await type(terminal, "/set max_tokens 7", "max-tokens: 7")
    await type(terminal, "/set temperature 0.25", "temperature: 0.25")
    await type(terminal, "two", "an answer")
    await type(terminal, "/show", /system: Be brief\.\n(.*\n)* {2}max-tokens +7/)
    await type(terminal, "/system -", "no system prompt from now on")
    await type(terminal, "/set max-tokens default", "max-tokens: default")
    await type(terminal, "three", "an answer")
    const seen = server.chatRequests.map(({ body }) => [
      body.messages.flatMap(({ content, role }: { content: string; role: string }) =>
        role === "system" ? [content] : []
      ),
      body.options?.num_predict ?? body.max_tokens ?? body.max_completion_tokens,
      body.options?.temperature ?? body.temperature
    ])
    expect(seen).toEqual([
      [["Be kind."], undefined, 0.7],
      [["Be brief."], 7, 0.25],
      [[], undefined, 0.25]
    ])
    await leave(terminal)
  })

  it("/set verbose shows the answering server, and /stats the usage", async () => {
    const terminal = await chats.chat(demo, { columns: 160 })
    await type(terminal, "/stats", "no answer yet")
    await type(terminal, "/set verbose on", "verbose: on")
    await type(terminal, capital, /is Paris\.\naicortex: aicortex-demo on embedded:, \d+ tokens/)
    await type(
      terminal,
      "/stats",
      /last answer: aicortex-demo on embedded:, \d+ tokens.*\n.* 1 answers, \d+ tokens of prompts/
    )
    await leave(terminal)
  })

  it("/show prints the model's details and the conversation", async () => {
    const terminal = await chats.chat(demo, { rows: 60 })
    await type(terminal, capital, "is Paris.")
    await type(terminal, "/show model", /model: aicortex-demo\n(.*\n)* {2}context_length: 512/)
    await type(terminal, "/show conversation", /\*\*You:\*\* What is the capital[^\n]*\n\n\*\*Model:\*\* The capital/)
    await leave(terminal)
  })

  it("/new starts a conversation, /list shows both, /load returns, and /clear forgets", async () => {
    const terminal = await chats.chat(demo)
    await type(terminal, "My name is Alice.", /./)
    const [first] = await sessions()
    await type(terminal, "/new", "a new conversation")
    await type(terminal, "What is my name?", /./)
    expect(terminal.screen()).not.toContain("Your name is Alice.")
    const id = first?.id ?? ""
    await type(
      terminal,
      "/list",
      new RegExp(`^\\* [0-9a-f]{16}.*What is my\n${id} .*My name is`.replaceAll("\n", "(.|\\n)*"), "m")
    )
    await type(terminal, `/load ${id.slice(0, 8)}`, `conversation ${id}, 2 messages: My name is Alice.`)
    await type(terminal, "What is my name?", "Your name is Alice.")
    await type(terminal, "/clear", "what was said is forgotten")
    await type(terminal, "/save", "nothing was said yet")
    await leave(terminal)
    // It was begun here, and nothing is said in it any more.
    expect((await sessions()).map(({ id: one }) => one)).not.toContain(id)
    expect((await sessions()).length).toBe(1)
  })

  it("/save writes a file that /load and `sessions create` read, and Markdown for people", async () => {
    const terminal = await chats.chat(demo, { columns: 200 })
    const json = join(chats.folder(), "trip.json")
    const text = join(chats.folder(), "trip.md")
    await type(terminal, "My name is Alice.", /./)
    await type(terminal, "/save", /it is kept as [0-9a-f]{16}/)
    await type(terminal, "/save ~/trip.json", "saved to ~/trip.json")
    await type(terminal, `/save ${text}`, "saved to")
    await type(terminal, `/save ${text}`, "exists already")
    expect(statSync(json).mode & 0o777).toBe(0o600)
    expect(readFileSync(text, "utf8")).toMatch(/^\*\*You:\*\* My name is Alice\.\n\n\*\*Model:\*\* /)
    await type(terminal, `/load ${json}`, "2 messages: My name is Alice.")
    await type(terminal, "What is my name?", "Your name is Alice.")
    await leave(terminal)
    expect((await sessions()).map(({ messages }) => messages)).toEqual([4, 2])
    expect((await chats.run(["sessions", "create", "--from", json])).status).toBe(0)
  })

  it("/retry replaces the last answer, and a failure keeps it", async () => {
    const server = await ollama({ reply: (_, n) => `answer ${n}` })
    const terminal = await chats.chat(["-m", "m", "--max-retries", "1"], { servers: [server] })
    await type(terminal, "first", "answer 0")
    await type(terminal, "second", "answer 1")
    await type(terminal, "/retry", "answer 2")
    await server.setBehaviour({ faults: { kind: "status", code: 400 } })
    await type(terminal, "/retry", /^aicortex: /m)
    await server.setBehaviour({ faults: undefined })
    await type(terminal, "/show conversation", /first(.|\n)*answer 0(.|\n)*second(.|\n)*answer 2/)
    await leave(terminal)
    const [only] = await sessions()
    expect((await history(only?.id ?? "")).map(({ content }) => content)).toEqual([
      "first",
      "answer 0",
      "second",
      "answer 2"
    ])
    expect(server.chatRequests[2]?.body.messages.map(({ content }: { content: string }) => content)).toEqual([
      "first",
      "answer 0",
      "second"
    ])
  })

  it("/image adds an image to the next question only", async () => {
    const server = await ollama({ models: [{ name: "llava:7b", capabilities: ["completion", "vision"] }] })
    const png = Buffer.from(
      "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
      "base64"
    )
    writeFileSync(join(chats.folder(), "my photo.png"), png)
    writeFileSync(join(chats.folder(), "text.png"), "no image")
    const terminal = await chats.chat(["-m", "llava:7b"], { servers: [server], columns: 200 })
    await type(terminal, `/image ${chats.folder()}/text.png`, "it is no PNG, JPEG, GIF or WebP")
    await type(
      terminal,
      `/image "${chats.folder()}/my photo.png"`,
      "my photo.png (image/png, 70 bytes) goes with the next question"
    )
    await type(terminal, "/image", "images of the next question: 1")
    await type(terminal, "what is it?", "an answer")
    await type(terminal, "and now?", "an answer")
    const [one, two] = server.chatRequests.map(({ body }) => body.messages.at(-1))
    expect(one).toMatchObject({ content: "what is it?", images: [png.toString("base64")] })
    expect(two.images).toBeUndefined()
    await type(terminal, "/image ~/my photo.png", "goes with")
    await type(terminal, "/image -", "images of the next question: 0")
    await leave(terminal)
  })
})

describe.runIf(hasTerminals)("aicortex chat --continue", { timeout: 180_000 }, () => {
  it("continues the last used conversation, on a terminal and off one", async () => {
    const first = await chats.chat(demo)
    await type(first, "My name is Alice.", /./)
    await leave(first)
    const second = await chats.chat([...demo, "--continue"])
    await second.shows(/^conversation [0-9a-f]{16}, 2 messages: My name is Alice\.\naicortex-demo> /)
    await type(second, "What is my name?", "Your name is Alice.")
    await leave(second)
    const third = await chats.run(["chat", ...demo, "-c", "What is my name?"])
    expect(third).toMatchObject({ status: 0, stdout: "Your name is Alice.\n" })
    expect((await sessions()).map(({ messages }) => messages)).toEqual([6])
  })

  it("is refused without a conversation, and together with --session", async () => {
    expect(await chats.run(["chat", ...demo, "--continue", "Hi"])).toMatchObject({
      status: 1,
      stdout: "",
      stderr: "aicortex: there is no conversation to go on with\n"
    })
    const both = await chats.run(["chat", "-c", "--session", "x", "Hi"])
    expect(both.status).toBe(2)
    expect(both.stderr).toContain("--continue cannot be given together with --session")
  })
})

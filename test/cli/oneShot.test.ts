import { closeSync, ftruncateSync, mkdirSync, openSync } from "node:fs"
import { join } from "node:path"
import { beforeAll, describe, expect, it } from "vitest"
import type { ChatEvent } from "../../src/ChatEvent.js"
import { Progress } from "../../src/cli/chat/waiting.js"
import { build, type Home, makeHome } from "../support/cliProcess.js"
import { unusedPort } from "../support/fakeServer.js"
import { useFleet } from "../support/fleet.js"

const fleet = useFleet()
beforeAll(build, 120_000)
const model = "m:1b"
const homeOn = (...servers: ReadonlyArray<string>): Home => fleet.keep(makeHome({ servers, model }))
const protocols = ["ollama", "openai"] as const

const bytes = (...parts: ReadonlyArray<string>) => Buffer.from(parts.join(""), "latin1")
const pictures = {
  png: ["image/png", bytes("\u0089PNG\r\n\u001a\n", "rest")],
  jpeg: ["image/jpeg", bytes("\u00ff\u00d8\u00ff\u00e0", "rest")],
  gif: ["image/gif", bytes("GIF89a", "rest")],
  webp: ["image/webp", bytes("RIFF\u0004\u0000\u0000\u0000WEBP", "rest")]
} as const

describe.each(protocols)("aicortex chat --image (%s)", (protocol) => {
  it("sends images of every type, in order, with any file name", async () => {
    const server = await fleet[protocol]({ models: [{ name: model, capabilities: ["completion", "vision"] }] })
    const home = homeOn(server.url)
    const flags = Object.entries(pictures).flatMap(([kind, [, data]]) => ["--image", home.write(`${kind}.txt`, data)])
    const { code, err } = await home.run(["chat", "What is this?", ...flags])
    expect([code, err]).toEqual([0, ""])
    const [message] = server.chatRequests[0]?.body.messages ?? []
    const encoded = Object.values(pictures).map(([type, data]) => [type, data.toString("base64")] as const)
    if (protocol === "ollama") {
      expect(message).toMatchObject({ content: "What is this?", images: encoded.map(([, data]) => data) })
    } else {
      expect(message.content).toEqual([
        { type: "text", text: "What is this?" },
        ...encoded.map(([type, data]) => ({ type: "image_url", image_url: { url: `data:${type};base64,${data}` } }))
      ])
    }
  })
})

describe("aicortex chat --image", () => {
  it("refuses other files, without a request", async () => {
    const server = await fleet.ollama()
    const home = homeOn(server.url)
    const large = join(home.path, "large.png")
    const file = openSync(large, "w")
    ftruncateSync(file, 20 * 1024 * 1024 + 1)
    closeSync(file)
    mkdirSync(join(home.path, "folder.png"))
    for (const [path, words] of [
      [join(home.path, "none.png"), "it does not exist"],
      [join(home.path, "folder.png"), "it is no regular file"],
      [large, "20971520 are allowed"],
      [home.write("empty.png", ""), "it is empty"],
      [home.write("text.png", "not a picture"), "it is no PNG, JPEG, GIF or WebP"]
    ] as const) {
      const { code, err } = await home.run(["chat", "x", "--image", path])
      expect([code, err]).toEqual([1, expect.stringContaining(`aicortex: the image ${path} cannot be used: `)])
      expect(err).toContain(words)
    }
    expect(server.chatRequests).toEqual([])
    for (const more of [["--interactive"], ["--raw"], ["--suffix", "x"]]) {
      const prompt = more[0] === "--interactive" ? [] : ["x"]
      expect(await home.run(["chat", ...prompt, "--image", large, ...more])).toMatchObject({ code: 2 })
    }
  })
})

describe.each(protocols)("aicortex chat --output (%s)", (protocol) => {
  const made = async (reply = "one two three") => {
    const gone = `http://127.0.0.1:${await unusedPort()}`
    const server = await fleet[protocol]({ reply })
    const servers = [
      { url: gone, priority: 0, protocol },
      { url: server.url, priority: 1 }
    ]
    return { server, home: fleet.keep(makeHome({ servers, model })) }
  }

  it("json prints all data of the answer", async () => {
    const { home, server } = await made()
    const { code, err, out } = await home.run(["chat", "Hi", "--output", "json"])
    expect([code, err]).toEqual([0, ""])
    expect(JSON.parse(out)).toMatchObject({
      text: "one two three",
      model,
      server: server.url,
      finishReason: "stop",
      attempts: expect.any(Array),
      usage: { completionTokens: expect.any(Number) },
      firstTokenTime: expect.any(Number),
      duration: expect.any(Number)
    })
    const value = { capital: "Berlin" }
    await server.setBehaviour({ reply: JSON.stringify(value) })
    const result = await home.run(["chat", "Hi", "--output", "json", "--json"])
    expect(JSON.parse(result.out)).toMatchObject({ value, text: JSON.stringify(value), server: server.url })
  })

  it("jsonl prints each event in a line", async () => {
    const { home, server } = await made()
    const { code, out } = await home.run(["chat", "Hi", "--output", "jsonl"])
    const events = out
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as ChatEvent)
    expect([code, events[0]?.type, events.at(-1)?.type]).toEqual([0, "start", "end"])
    expect(events.flatMap((event) => (event.type === "token" ? [event.content] : [])).join("")).toBe("one two three")
    expect(events.at(-1)).toMatchObject({ model, server: server.url, usage: expect.any(Object) })
  })

  it("reports a failure as without the flag", async () => {
    const { home, server } = await made()
    await server.stop()
    for (const form of ["json", "jsonl"]) {
      const { code, err, out } = await home.run(["chat", "Hi", "--output", form, "--max-retries", "1"])
      expect([code, err]).toEqual([1, expect.stringContaining("All server attempts failed")])
      if (form === "json") expect(out).toBe("")
    }
  })
})

describe("exclusive flags of one answer", () => {
  it.each([
    [["--output", "jsonl", "--json"], "--output jsonl cannot be given together with --json"],
    [["--output", "json", "--stream"], "--output json cannot be given together with --stream"],
    [["--stream", "--no-stream"], "--stream cannot be given together with --no-stream"],
    [["--output", "yaml"], "--output must be one of json, jsonl"]
  ])(
    "%j",
    async (flags, words) => {
      const { code, err } = await homeOn().run(["chat", "Hi", ...flags])
      expect([code, err]).toEqual([2, expect.stringContaining(words)])
    },
    60_000
  )
})

describe("progress messages before an answer", () => {
  const [one, two] = ["http://gpu-1:11434", "http://gpu-2:8080"]
  const timestamp = 0
  const start: ChatEvent = { type: "start", content: "", model: "llama3.2:3b", timestamp }
  const meta = (server: string, more: { readonly loads?: true; readonly hedge?: true } = {}): ChatEvent => ({
    type: "meta",
    meta: { type: "attempt", server, attempt: 1, ...more },
    timestamp
  })
  const error = (server: string, reason: "refused" | "loading" | "connect-timeout"): ChatEvent => ({
    type: "error",
    content: "",
    attempt: { server, phase: "connect", reason, message: "", elapsed: 1 },
    timestamp
  })
  const wordsAfter = (seconds: number, ...events: ReadonlyArray<ChatEvent>): string => {
    const progress = new Progress(0)
    for (const event of events) progress.event(event)
    return progress.text(seconds * 1000)
  }

  it.each([
    [wordsAfter(0), "looking for a server with a model …"],
    [wordsAfter(1.5, start), "looking for a server with llama3.2:3b … 1 s"],
    [wordsAfter(0.2, start, meta(one)), "waiting for llama3.2:3b on gpu-1 …"],
    [wordsAfter(14, start, meta(one, { loads: true })), "gpu-1 is loading llama3.2:3b … 14 s"],
    [
      wordsAfter(14, start, meta(two), error(two, "refused"), meta(one, { loads: true })),
      "gpu-1 is loading llama3.2:3b … 14 s (gpu-2:8080 refused)"
    ],
    [wordsAfter(3, start, meta(one), error(one, "loading"), meta(one)), "gpu-1 is loading llama3.2:3b … 3 s"],
    [
      wordsAfter(9, start, meta(one), error(one, "connect-timeout"), meta(two), error(two, "refused"), meta(one)),
      "waiting for llama3.2:3b on gpu-1 … 9 s (gpu-2:8080 refused)"
    ],
    [
      wordsAfter(2, start, meta(one), meta(two, { hedge: true })),
      "waiting for llama3.2:3b on gpu-1 … 2 s (gpu-2:8080 is asked too)"
    ]
  ])("%s", (text, expected) => {
    expect(text).toBe(expected)
  })

  it.each([
    ["ollama", [], "is loading"],
    ["ollama", [model], "waiting for"],
    ["openai", [], "waiting for"]
  ] as const)("come from the library's events (%s, loaded: %j)", async (protocol, loaded, words) => {
    const server = await fleet[protocol]({ loaded })
    const gone = `http://127.0.0.1:${await unusedPort()}`
    const cortex = fleet.cortex([
      { url: gone, priority: 0, protocol },
      { url: server.url, priority: 1 }
    ])
    const progress = new Progress(0)
    for await (const event of await cortex.chat("Hi", { stream: true })) {
      if (event.type === "token") break
      progress.event(event)
    }
    const name = new URL(server.url).host
    // Only an Ollama says what it has loaded.
    expect(progress.text(0)).toContain(
      words === "is loading" ? `${name} is loading ${model} …` : `waiting for ${model} on ${name} …`
    )
  })
})

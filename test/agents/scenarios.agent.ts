import { spawn } from "node:child_process"
import { randomUUID } from "node:crypto"
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { afterEach, describe, expect, it } from "vitest"
import { type FakeServer, startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { eventually } from "../support/gateway.js"
import type { FakeOptions, RecordedRequest } from "../support/harness.js"
import type { Json } from "../support/script.js"
import { type Agent, agents, makeHome, model, type Run, type Start } from "./agents.js"
import { isolated, listenOutside } from "./outside.js"

const bin = fileURLToPath(new URL("../../dist/bin.js", import.meta.url))

const closes: Array<() => unknown> = []
afterEach(async () => {
  for (const close of closes.splice(0).reverse()) await close()
})

const protocols = {
  openai: (options: FakeOptions) => startFakeOpenAI({ ...options, flavour: "llamacpp" }),
  ollama: (options: FakeOptions) => startFakeOllama(options)
} as const
type Protocol = keyof typeof protocols

const startFake = async (protocol: Protocol, options: FakeOptions): Promise<FakeServer> => {
  const fake = await protocols[protocol]({ models: [model], perToken: 1, ...options })
  closes.push(() => fake.stop())
  return fake as FakeServer
}

/** `aicortex serve` in front of these servers; a request goes to the first one while that is able. */
const serve = async (
  servers: ReadonlyArray<FakeServer>,
  home: string,
  alike = false
): Promise<{ readonly url: string; readonly log: () => ReadonlyArray<Json> }> => {
  const config = join(home, "aicortex.json")
  writeFileSync(config, JSON.stringify({ servers: servers.map(({ url }, i) => ({ url, priority: alike ? 0 : i })) }))
  const child = spawn(process.execPath, [bin, "serve", "--port", "0", "--log", "json", "--config", config], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { PATH: process.env["PATH"], HOME: home }
  })
  const ended = new Promise((resolve) => child.once("exit", resolve))
  closes.push(async () => {
    child.kill("SIGKILL")
    await ended
  })
  let said = ""
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      said += text
    })
  }
  let url = ""
  await eventually(() => {
    url = /http:\/\/127[\d.]+:\d+/.exec(said)?.[0] ?? ""
    if (child.exitCode !== null) throw new Error(said)
    return url !== ""
  }, "it listens")
  const log = () =>
    said
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line))
  return { url, log }
}

/** What the model was told and has said before, as texts with their roles. */
const turns = (request: RecordedRequest | undefined): ReadonlyArray<{ role: string; text: string }> =>
  (request?.body?.messages ?? []).map(({ role, content }: Json) => ({
    role,
    text: Array.isArray(content) ? content.map((part: Json) => part.text ?? "").join("") : (content ?? "")
  }))

const numbers = Array.from({ length: 60 }, (_, i) => `w${i}`)
const long = numbers.join(" ")

/** Of a text in pieces, in case an agent shows it as several. */
const joined = (agent: Agent, run: Run) => agent.answers(run).join("")

/** Waits until the agent has asked, if it does before it ends. */
const begun = async (run: Run, fake: FakeServer) => {
  await Promise.race([fake.waitForChats(1), run.ended])
  expect(fake.chatRequests, run.output()).toHaveLength(1)
}

/** Everything that one test needs, and what must hold after each. */
const stage = async (agent: Agent) => {
  const outside = await listenOutside()
  closes.push(() => outside[Symbol.asyncDispose]())
  const home = makeHome()
  closes.push(() => home[Symbol.dispose]())
  const start = async (rest: Pick<Start, "url" | "question" | "conversation">): Promise<Run> => {
    const run = await agent.start({ ...rest, home, env: outside.env })
    closes.push(async () => {
      run.child.kill("SIGKILL")
      await run.ended
    })
    return run
  }
  /** It exited with 0, no request was refused, and it connected to no other host. */
  const well = async (run: Run, log: () => ReadonlyArray<Json>) => {
    expect(await run.ended, run.output()).toBe(0)
    expect(
      log().filter(({ status }) => status >= 400),
      run.output()
    ).toEqual([])
    expect(outside.seen).toEqual([])
  }
  return { home, outside, start, well }
}

if (!isolated) console.warn("These tests run on a network: traffic that ignores proxies would not be seen.")

describe.each(agents)("$name", (agent) => {
  describe.each(["openai", "ollama"] as const)("in front of a server of the %s protocol", (protocol) => {
    const other: Protocol = protocol === "openai" ? "ollama" : "openai"

    it("shows the model's text", async () => {
      const { home, start, well } = await stage(agent)
      const fake = await startFake(protocol, { reply: "Because the air scatters blue light." })
      const { log, url } = await serve([fake], home.path)
      const run = await start({ url, question: "Why is the sky blue?" })
      await well(run, log)
      expect(agent.answers(run)).toEqual(["Because the air scatters blue light."])
      expect(fake.chatRequests).toHaveLength(1)
      const requested = turns(fake.chatRequests[0]).filter(({ role }) => role === "user")
      expect(requested.at(-1)?.text).toContain("Why is the sky blue?")
    })

    it("runs the tool that the model calls, and sends the result back", async () => {
      const { home, start, well } = await stage(agent)
      const secret = randomUUID()
      writeFileSync(join(home.work, "note.txt"), `${secret}\n`)
      const fake = await startFake(protocol, {
        reply: (body) => {
          const last = body.messages.at(-1)
          return last.role === "tool"
            ? { tokens: `It says ${/[\da-f]{8}-[\da-f-]{27}/.exec(JSON.stringify(last.content))?.[0]}` }
            : { tokens: "Let me look.", toolCalls: [agent.reads(home, "note.txt")] }
        }
      })
      const { log, url } = await serve([fake], home.path)
      const run = await start({ url, question: "What does the note say?" })
      await well(run, log)
      expect(agent.answers(run).at(-1)).toBe(`It says ${secret}`)
      expect(fake.chatRequests).toHaveLength(2)
      const [first, second] = fake.chatRequests.map(({ body }) => body)
      const { name } = agent.reads(home, "note.txt")
      expect(first.tools.map((tool: Json) => tool.function.name)).toContain(name)
      expect(second.messages.at(-2)).toMatchObject({ role: "assistant", tool_calls: [{ function: { name } }] })
    })

    it("continues a conversation on the server that has its prompt cached", async () => {
      const { home, start, well } = await stage(agent)
      const reply = (body: Json) => (JSON.stringify(body.messages).includes("and his?") ? "He is Bob." : "I am Ada.")
      const fakes = [await startFake(protocol, { reply }), await startFake(protocol, { reply })]
      const { log, url } = await serve(fakes, home.path, true)
      const first = await start({ url, question: "What is your name?" })
      await well(first, log)
      expect(agent.answers(first)).toEqual(["I am Ada."])
      const second = await start({ url, question: "and his?", conversation: agent.conversation(first) })
      await well(second, log)
      expect(agent.answers(second)).toEqual(["He is Bob."])
      const [used, idle] = fakes.toSorted((a, b) => b.chatRequests.length - a.chatRequests.length)
      expect(idle?.chatRequests).toEqual([])
      expect(
        turns(used?.chatRequests[1])
          .filter(({ role }) => role !== "system")
          .slice(-3)
      ).toMatchObject([
        { role: "user", text: expect.stringContaining("What is your name?") },
        { role: "assistant", text: "I am Ada." },
        { role: "user", text: expect.stringContaining("and his?") }
      ])
    })

    it("an aborted request is cancelled on the server at once", async () => {
      const { home, outside, start } = await stage(agent)
      const fake = await startFake(protocol, { reply: long, perToken: 1_000 })
      const { url } = await serve([fake], home.path)
      const run = await start({ url, question: "Count!" })
      await begun(run, fake)
      const [request] = fake.chatRequests
      await eventually(() => (request?.tokensSent ?? 0) > 1, "the answer has begun")
      run.child.kill("SIGINT")
      expect(await request?.closedByClient, run.output()).toBeTypeOf("number")
      expect(request?.tokensSent).toBeLessThan(numbers.length)
      await run.ended
      expect(joined(agent, run)).not.toContain(numbers.at(-1))
      expect(fake.chatRequests).toHaveLength(1)
      expect(outside.seen).toEqual([])
    })

    it("shows the complete answer exactly once if its server is killed in the middle", async () => {
      const { home, start, well } = await stage(agent)
      const dying = await startFake(protocol, { reply: long, perToken: 40, continuation: "continue" })
      const next = await startFake(other, { reply: long, continuation: "continue" })
      const { log, url } = await serve([dying, next], home.path)
      const run = await start({ url, question: "Count!" })
      await begun(run, dying)
      await eventually(() => (dying.chatRequests[0]?.tokensSent ?? 0) > 5, "the answer has begun")
      await dying.strike({ kind: "kill", how: "rst" })
      await well(run, log)
      expect(agent.answers(run)).toEqual([long])
      if (agent.deltas !== undefined) expect(agent.deltas(run)).toBe(long)
      expect(dying.chatRequests[0]?.tokensSent).toBeLessThan(numbers.length)
      expect(next.chatRequests.length).toBeGreaterThan(0)
    })
  })
})

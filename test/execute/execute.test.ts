import { PassThrough } from "node:stream"
import * as Effect from "effect/Effect"
import { describe, expect, it, onTestFinished, vi } from "vitest"
import { Conditions, Cortex, Execute } from "../../src/index.js"
import type { ExecuteOptions } from "../../src/promise.js"
import { chats, failure, inOrder, useFleet } from "../support/fleet.js"

const fleet = useFleet()

const paper = () => {
  const pieces: Array<string> = []
  return { pieces, text: () => pieces.join(""), write: (text: string) => void pieces.push(text) }
}

/** What is written to standard output while a test runs. */
const standardOutput = () => {
  const written: Array<string> = []
  const spy = vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    written.push(String(text))
    return true
  })
  onTestFinished(() => spy.mockRestore())
  return { text: () => written.join("") }
}

/** Standard input that is piped in. */
const standardInput = (text: string) => {
  const input = new PassThrough()
  input.end(text)
  const spy = vi.spyOn(process, "stdin", "get").mockReturnValue(input as never)
  onTestFinished(() => spy.mockRestore())
}

const remembers = (body: { readonly messages: ReadonlyArray<unknown> }) => `heard ${body.messages.length}`

for (const protocol of ["ollama", "openai"] as const) {
  describe(`execute, over ${protocol}`, () => {
    it("streams the answer to the terminal by default, and returns all its data", async () => {
      const server = await fleet[protocol]({ models: ["llama2:latest"], reply: "Quantum bits are both." })
      const cortex = fleet.cortex([server], { model: "llama2:latest" })
      const stdout = standardOutput()
      const executed = await cortex.execute({ prompt: "What is quantum computing?" })
      expect(stdout.text()).toMatch(
        new RegExp(`^Quantum bits are both\\.\\n\\[${protocol}:llama2:latest, [\\d.]+ s, .*tokens.*\\]\\n$`)
      )
      expect(executed).toMatchObject({
        modelId: `${protocol}:llama2:latest`,
        response: "Quantum bits are both.",
        metrics: { modelName: "llama2:latest", modelType: protocol, outputTokens: expect.any(Number) },
        routingDecision: { chosen: { model: "llama2:latest", server: server.url }, excluded: [] },
        attempts: [],
        agentChecks: { connectivity: [] },
        sessionId: undefined
      })
      expect(executed.requestId).not.toBe("")
      const { endTime, inputTokens, startTime, timeToFirstToken, totalLatency } = executed.metrics
      expect(totalLatency).toBe(endTime - startTime)
      expect(timeToFirstToken).toBeLessThanOrEqual(totalLatency)
      expect(inputTokens).toBeGreaterThan(0)
      // What was told can be asked for.
      const again = await cortex.execute({ prompt: "Again?", model: executed.modelId, stream: false })
      expect(again.modelId).toBe(executed.modelId)
    })

    it("writes nothing with stream: false, and sends its options with their defaults", async () => {
      const server = await fleet[protocol]({ models: ["llama2:latest"] })
      const cortex = fleet.cortex([server], { model: "llama2:latest" })
      const stdout = standardOutput()
      await cortex.execute({ prompt: "Hi", stream: false, requestId: "r-1" })
      await cortex.execute({ prompt: "Hi", stream: false, temperature: 0, topP: 0.5, maxTokens: 5 })
      const given = { prompt: "Hi", stream: false, temperature: null, maxTokens: null, sessionId: null } as never
      expect((await cortex.execute(given)).response).not.toBe("")
      expect(stdout.text()).toBe("")
      const sent = server.chatRequests.map(({ body }) => body.options ?? body)
      const limit = protocol === "ollama" ? "num_predict" : "max_tokens"
      expect(sent[0]).toMatchObject({ temperature: 0.7, top_p: 1 })
      expect(sent[0][limit]).toBeUndefined()
      expect(sent[1]).toMatchObject({ temperature: 0, top_p: 0.5 })
      expect(sent[1][limit] ?? sent[1].max_completion_tokens).toBe(5)
      expect(sent[2]).toMatchObject({ temperature: 0.7 })
    })

    it("keeps the case and the tag of a model's name", async () => {
      const name = "Org/MyModel:Q4_K_M"
      const cortex = fleet.cortex([await fleet[protocol]({ models: [name] })])
      const asked = await cortex.execute({ prompt: "Hi", model: `${protocol}:${name}`, stream: false })
      expect([asked.modelId, asked.metrics.modelName]).toEqual([`${protocol}:${name}`, name])
    })

    it("writes a resumed answer once, and reports the servers that failed", async () => {
      const broken = await fleet[protocol]({ reply: "one two three", faults: { kind: "cut", after: 1 } })
      const sound = await fleet[protocol]({ reply: "one two three" })
      const cortex = fleet.cortex(inOrder(broken, sound))
      const output = paper()
      const executed = await cortex.execute({ prompt: "Count", model: "m:1b", output, displayMetrics: false })
      expect(output.text()).toBe("one two three\n")
      expect(executed.response).toBe("one two three")
      expect(executed.attempts).toMatchObject([{ server: broken.url }])
      expect(executed.routingDecision).toMatchObject({ asked: "m:1b", chosen: { server: sound.url } })
      expect(executed.routingDecision.reason).not.toBe("")
      expect(JSON.parse(JSON.stringify(executed.routingDecision))).toHaveProperty("excluded")
    })

    it("discards the written text if the answer restarts", async () => {
      const broken = await fleet[protocol]({ reply: "one two three", faults: { kind: "cut", after: 2 } })
      const sound = await fleet[protocol]({ reply: "four five" })
      const cortex = fleet.cortex(inOrder(broken, sound))
      const output = paper()
      const options = { prompt: "Count", model: "m:1b", onInterrupt: "restart", displayMetrics: false } as const
      const { response } = await cortex.execute({ ...options, output })
      expect(response).toBe("four five")
      expect(output.text()).toMatch(/^one two\n\[the text above is discarded: .*\]\nfour five\n$/)
    })

    it("continues a session, with its history", async () => {
      const server = await fleet[protocol]({ reply: remembers })
      const cortex = fleet.cortex([server])
      const { id } = await cortex.Session.create()
      for (let turn = 0; turn < 5; turn++) {
        const executed = await cortex.execute({
          prompt: `Turn ${turn}`,
          sessionId: id,
          stream: turn % 2 === 0,
          output: paper()
        })
        expect(executed).toMatchObject({ response: `heard ${2 * turn + 1}`, sessionId: id })
      }
    })

    it("rejects with the error itself, and writes no answer", async () => {
      const cortex = fleet.cortex([await fleet[protocol]({ faults: { kind: "status", code: 500 } })])
      const output = paper()
      const asking = { prompt: "Hi", output, maxRetries: 1 }
      expect(await failure(cortex.execute({ ...asking, model: "m:1b" }))).toMatchObject({ _tag: "AllServersFailed" })
      expect(await failure(cortex.execute({ ...asking, model: "none" }))).toMatchObject({ _tag: "ModelNotFound" })
      const lost = await failure(cortex.execute({ ...asking, sessionId: "none" }))
      expect(lost).toMatchObject({ _tag: "SessionNotFound", id: "none" })
      const lostChat = await failure(cortex.execute({ ...asking, sessionId: "none", chat: true }))
      expect(lostChat).toMatchObject({ _tag: "SessionNotFound", id: "none" })
      expect(output.text()).toBe("")
    })
  })
}

describe("invalid options", () => {
  const cases: ReadonlyArray<readonly [unknown, string]> = [
    [undefined, "prompt"],
    ["Hi", "options"],
    [{}, "prompt"],
    [{ prompt: null }, "prompt"],
    [{ prompt: " " }, "prompt"],
    [{ prompt: 1 }, "prompt"],
    [{ prompt: ["Hi"] }, "prompt"],
    [{ prompt: "Hi", stream: "yes" }, "stream"],
    [{ prompt: "Hi", chat: 1 }, "chat"],
    [{ prompt: "Hi", sessionId: "" }, "sessionId"],
    [{ prompt: "Hi", session_id: "x" }, "session_id"],
    [{ prompt: "Hi", session: "x" }, "session"],
    [{ prompt: "Hi", max_tokens: 1 }, "max_tokens"],
    [{ prompt: "Hi", maxTokens: 0 }, "maxTokens"],
    [{ prompt: "Hi", temperature: 2.1 }, "temperature"],
    [{ prompt: "Hi", topP: -1 }, "topP"],
    [{ prompt: "Hi", output: {} }, "output"],
    [{ prompt: "Hi", chat: true, input: 1 }, "input"],
    [{ prompt: "Hi", tools: [] }, "tools"]
  ]

  it("are reported before anything is sent or a session begins", async () => {
    const server = await fleet.ollama()
    const cortex = fleet.cortex([server])
    for (const [options, field] of cases) {
      const error = await failure(cortex.execute(options as ExecuteOptions))
      expect(error, JSON.stringify(options)).toMatchObject({ _tag: "InvalidRequest", field })
    }
    expect(server.requests).toEqual([])
    expect(await cortex.Session.list()).toEqual([])
  })
})

describe("output", () => {
  it("waits for a slow output", async () => {
    const cortex = fleet.cortex([await fleet.ollama({ reply: "a b c d e f" })])
    const pieces: Array<string> = []
    let busy = 0
    const write = async (text: string) => {
      expect(++busy).toBe(1)
      await new Promise((resolve) => setImmediate(resolve))
      busy--
      pieces.push(text)
    }
    await cortex.execute({ prompt: "Hi", output: { write }, displayMetrics: false })
    expect(pieces.join("")).toBe("a b c d e f\n")
  })

  it("an exception of the output, or an abort, cancels the request", async () => {
    const server = await fleet.ollama({ reply: "a b c d e f", faults: { kind: "stall", after: 2 } })
    const cortex = fleet.cortex([server])
    const full = new Error("no space left")
    const write = () => {
      throw full
    }
    expect(await failure(cortex.execute({ prompt: "Hi", output: { write } }))).toBe(full)
    expect(await server.chatRequests[0]?.closedByClient).toBeDefined()
    const leave = new AbortController()
    const reason = new Error("gone")
    const output = { write: () => leave.abort(reason) }
    expect(await failure(cortex.execute({ prompt: "Hi", output, signal: leave.signal }))).toBe(reason)
    expect(await server.chatRequests[1]?.closedByClient).toBeDefined()
  })

  it("is the terminal of the service, or none at all", async () => {
    const server = await fleet.ollama({ reply: "Hello." })
    const terminal = paper()
    const services = Cortex.layer({ servers: [server.url], configFile: false, model: "m:1b" })
    const run = (options: Execute.Options, given: Execute.TerminalService | undefined) =>
      Execute.execute(options).pipe(
        Effect.provideService(Execute.Terminal, given),
        Effect.either,
        Effect.provide(services),
        Effect.runPromise
      )
    const stdout = standardOutput()
    const lines = () => ({ next: async () => undefined, close: () => {} })
    await run({ prompt: "Hi", displayMetrics: false }, { output: terminal, lines })
    expect(terminal.text()).toBe("Hello.\n")
    expect(await run({ prompt: "Hi" }, undefined)).toMatchObject({ right: { response: "Hello." } })
    expect(await run({ prompt: "Hi", chat: true }, undefined)).toMatchObject({ left: { field: "chat" } })
    expect(stdout.text()).toBe("")
  })
})

describe("agentChecks", () => {
  it("are the conditions at the time of the decision", async () => {
    const [here, far] = [await fleet.ollama(), await fleet.ollama()]
    const resources = {
      state: "CRITICAL",
      reason: "CPU 99 %",
      cpu: 99,
      memory: 1,
      load: 1,
      gpu: undefined,
      at: 1
    } as const
    const line = { server: far.url, state: "DEGRADED", reason: "slow", loss: 0, throughput: undefined, at: 1 } as const
    const lines = [{ ...line, latency: 900 }]
    const servers = [here.url, { url: far.url, local: false }]
    const layer = Cortex.layer(
      { servers, configFile: false },
      { conditions: Conditions.layerTest({ resources, lines }) }
    )
    const { agentChecks } = await Effect.runPromise(
      Effect.provide(Execute.execute({ prompt: "Hi", stream: false }), layer)
    )
    expect(agentChecks).toEqual({ resources, connectivity: lines })
  })
})

describe("chat: true", () => {
  const asked = (reply: typeof remembers) => fleet.ollama({ reply })

  for (const stream of [true, false]) {
    it(`answers consecutive questions, and prints the session at the end (stream: ${stream})`, async () => {
      const server = await asked(remembers)
      const cortex = fleet.cortex([server])
      const output = paper()
      const input = ["", "  and more?  ", "exit", "never asked"]
      const options = { prompt: "Let's talk.", chat: true, stream, displayMetrics: false }
      const first = await cortex.execute({ ...options, input, output })
      expect(output.text()).toBe(`heard 1\nheard 3\nSession: ${first.sessionId}\n`)
      expect(first.response).toBe("heard 3")
      expect(server.chatRequests[1]?.body.messages.at(-1)).toMatchObject({ role: "user", content: "and more?" })
      const second = await cortex.execute({ ...options, sessionId: first.sessionId, input: [], output })
      expect(second).toMatchObject({ response: "heard 5", sessionId: first.sessionId })
      expect(chats(server)).toEqual([3])
    })
  }

  it("reads what is piped into standard input", async () => {
    const cortex = fleet.cortex([await asked(remembers)])
    const stdout = standardOutput()
    standardInput("one\r\ntwo\nthree")
    const { sessionId } = await cortex.execute({ prompt: "Hi", chat: true, displayMetrics: false })
    expect(stdout.text()).toBe(`heard 1\nheard 3\nheard 5\nheard 7\nSession: ${sessionId}\n`)
  })

  it("lists conversations, and continues another one", async () => {
    const cortex = fleet.cortex([await asked(remembers)])
    const messages = [1, 2].flatMap((n) => [
      { role: "user", content: `question ${n}` } as const,
      { role: "assistant", content: `answer ${n}` } as const
    ])
    const other = await cortex.Session.create({ messages })
    const output = paper()
    const input = ["/list", "/load none", `/load ${other.id}`, "go on"]
    const options = { prompt: "Hi", chat: true, displayMetrics: false, input, output }
    const { sessionId } = await cortex.execute(options)
    expect(sessionId).toBe(other.id)
    const text = output.text()
    expect(text).toContain(`${other.id}  4 messages  question 1`)
    expect(text).toContain("none")
    expect(text).toMatch(/assistant: answer 1\nuser: question 2\nassistant: answer 2\nheard 5\n/)
  })

  it("continues after a failed question, and does not store it", async () => {
    const fault = { kind: "status", code: 500 } as const
    const server = await fleet.ollama({ reply: remembers, faults: (n) => (n === 1 ? fault : undefined) })
    const cortex = fleet.cortex([server])
    const output = paper()
    const options = {
      prompt: "Hi",
      chat: true,
      displayMetrics: false,
      maxRetries: 1,
      input: ["fails", "again"],
      output
    }
    const { response, sessionId = "" } = await cortex.execute(options)
    expect(response).toBe("heard 3")
    expect(output.text()).toMatch(/^heard 1\n.*m:1b.*\n(.*\n)*heard 3\nSession: /)
    expect(await (await cortex.Session.resume(sessionId)).history()).toHaveLength(4)
  })

  it("leaves no empty session if the first question fails", async () => {
    const cortex = fleet.cortex([await fleet.ollama({ faults: { kind: "status", code: 500 } })])
    const options = { prompt: "Hi", chat: true, maxRetries: 1, input: [], output: paper() }
    expect(await failure(cortex.execute({ ...options, model: "m:1b" }))).toMatchObject({ _tag: "AllServersFailed" })
    expect(await cortex.Session.list()).toEqual([])
  })

  it("keeps a private conversation on local servers", async () => {
    const far = await fleet.ollama({ models: ["far:1b"] })
    const here = await fleet.ollama({ models: ["here:1b"], reply: remembers })
    const cortex = fleet.cortex([{ url: far.url, local: false, priority: -1 }, here.url])
    const options = { prompt: "secret", chat: true, private: true, input: ["secret too"], output: paper() }
    const { sessionId } = await cortex.execute(options)
    expect((await cortex.execute({ prompt: "Hi", sessionId, stream: false })).response).toBe("heard 5")
    const error = await failure(cortex.execute({ prompt: "Hi", sessionId, model: "far:1b", stream: false }))
    expect(error).toMatchObject({ _tag: "NoLocalServer" })
    expect(chats(far)).toEqual([0])
  })
})

describe("with only local or only remote servers", () => {
  for (const local of [true, false]) {
    it(`answers if all servers are ${local ? "local" : "remote"}`, async () => {
      const { url } = await fleet.openai({ reply: "Yes." })
      const { modelId, response } = await fleet.cortex([{ url, local }]).execute({ prompt: "Hi", stream: false })
      expect([modelId, response]).toEqual(["openai:m:1b", "Yes."])
    })
  }
})

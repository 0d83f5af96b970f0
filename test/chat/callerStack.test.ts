/** What a function of the Promise face rejects with says where it was called. */
import { describe, expect, it } from "vitest"
import * as facade from "../../src/promise.js"
import { chats, eventsOf, failure, model, useFleet } from "../support/fleet.js"

const fleet = useFleet()
const upstreams = [
  ["ollama", fleet.ollama],
  ["openai", fleet.openai]
] as const

/** Callers whose names are looked for in stacks. */
const here = "callerStack.test.ts"

describe.each(upstreams)("over %s", (_, start) => {
  const failing = async () => {
    const server = await start({ faults: Array.from({ length: 20 }, () => ({ kind: "status", code: 400 }) as const) })
    return { server, cortex: fleet.cortex([server.url], { model }) }
  }

  it.each<[string, (cortex: facade.Cortex) => Promise<unknown>]>([
    [
      "chat",
      async function callsChat(cortex) {
        await cortex.chat("Hi")
      }
    ],
    [
      "chat with JSON",
      async function callsJson(cortex) {
        await cortex.chat("Hi", { responseFormat: "json" })
      }
    ],
    [
      "a stream",
      async function callsStream(cortex) {
        await eventsOf(await cortex.chat("Hi", { stream: true }))
      }
    ],
    [
      "the text of a stream",
      async function callsText(cortex) {
        await (await cortex.chat("Hi", { stream: true })).text()
      }
    ],
    [
      "complete",
      async function callsComplete(cortex) {
        await cortex.complete("Hi")
      }
    ],
    [
      "embed",
      async function callsEmbed(cortex) {
        await cortex.embed("Hi", { model: "nobody-has-it" })
      }
    ],
    [
      "an invalid option",
      async function callsInvalid(cortex) {
        await cortex.chat("Hi", { temperature: 7 })
      }
    ],
    [
      "a combination that there is not",
      async function callsNever(cortex) {
        await cortex.chat("Hi", { responseFormat: "json", stream: true } as never)
      }
    ],
    [
      "Session.resume",
      async function callsResume(cortex) {
        await cortex.Session.resume("none")
      }
    ],
    [
      "a session's history",
      async function callsHistory(cortex) {
        const session = await cortex.Session.create()
        await session.delete()
        await session.history()
      }
    ],
    [
      "getModelInfo",
      async function callsInfo(cortex) {
        await cortex.getModelInfo("nobody-has-it")
      }
    ]
  ])("%s", async (_, call) => {
    const { cortex } = await failing()
    const error = await failure(call(cortex))
    expect(error._tag).toMatch(/./)
    expect(error.stack).toContain(here)
    expect(error.stack).toContain(call.name)
    expect(error.stack.startsWith(`${error.name}: ${error.message}`)).toBe(true)
  })

  it("also for the functions of the module", async () => {
    const error = await failure(
      (async function callsModule() {
        await facade.chat("Hi", { temperature: 7 })
      })()
    )
    expect(error).toMatchObject({ _tag: "InvalidRequest" })
    expect(error.stack).toContain("callsModule")
  })

  it("a frame is added once, even if the failure of a stream is read several times", async () => {
    const { cortex, server } = await failing()
    const stream = await (async function callsOnce() {
      return await cortex.chat("Hi", { stream: true })
    })()
    const first = await failure(stream.text())
    const second = await failure(stream.text())
    expect(first.stack.split("callsOnce")).toHaveLength(2)
    expect(second.stack.split("callsOnce").length).toBeLessThanOrEqual(2)
    expect(chats(server)[0]).toBeGreaterThan(0)
  })

  it("a frozen error thrown by a tool is rethrown unchanged", async () => {
    const server = await start({ reply: { tokens: "", toolCalls: [{ name: "f", arguments: {} }] } })
    const cortex = fleet.cortex([server.url], { model })
    for (const thrown of [Object.freeze(new Error("frozen")), "a text", undefined, { code: 7 }]) {
      const execute = () => {
        throw thrown
      }
      expect(await failure(cortex.chat("Hi", { tools: [{ name: "f", execute, onError: "fail" }] }))).toBe(thrown)
    }
  })
})

describe("a model of this machine", () => {
  it.each<[string, (model: facade.LocalModel) => Promise<unknown>, string]>([
    [
      "open",
      async function callsOpen() {
        await facade.LocalModel.open("missing.gguf")
      },
      "InvalidModelFile"
    ],
    [
      "serve",
      async function callsServe(model) {
        await model.serve()
      },
      "InvalidModelFile"
    ],
    [
      "chat",
      async function callsChat(model) {
        await model.chat("Hi")
      },
      "NotRunning"
    ],
    [
      "stream",
      async function callsStream(model) {
        await model.stream("Hi")
      },
      "NotRunning"
    ]
  ])("%s", async (_, call, tag) => {
    await using local = new facade.LocalModel("missing.gguf")
    const error = await failure(call(local))
    expect(error._tag).toBe(tag)
    expect(error.stack).toContain(call.name)
  })
})

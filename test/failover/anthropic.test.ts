/** Failover to, from and between servers that speak Anthropic's Messages API. */
import * as fc from "fast-check"
import { describe, expect, it } from "vitest"
import type { ChatEvent } from "../../src/promise.js"
import { type Fault, tokenize } from "../support/fakeServer.js"
import { eventsOf, type Fake, failure, inOrder, model, textOf, useFleet } from "../support/fleet.js"
import { startGateway } from "../support/gateway.js"

const fleet = useFleet()
const question = "What is laughter?"
/** It repeats itself, its end is white space at three places, and has characters of one to four bytes. */
const words = ["ha", " ha", " ha", ":\n", "ha", " ha", " 你好", " 😀", "\n\n", "ha", " ", ' "ha"', " ha\\", "!"]
const whole = words.join("")

const listQuestion = "List programming languages (one per line):"
const trials = (server: Fake) =>
  server.chatRequests.filter(({ body }) => JSON.stringify(body?.messages?.[0]?.content ?? "").includes(listQuestion))

const ends = (events: ReadonlyArray<ChatEvent>) => events.filter(({ type }) => type === "end")

const makers = {
  ollama: (reply: ReadonlyArray<string> = words) => fleet.ollama({ reply }),
  vllm: (reply: ReadonlyArray<string> = words) => fleet.openai({ reply, flavour: "vllm" }),
  anthropic: (reply: ReadonlyArray<string> = words) => fleet.anthropic({ reply }),
  "anthropic without prefill": (reply: ReadonlyArray<string> = words) => fleet.anthropic({ reply, prefill: false })
} as const
type Name = keyof typeof makers

const pairs: ReadonlyArray<readonly [Name, Name]> = [
  ["ollama", "anthropic"],
  ["vllm", "anthropic"],
  ["anthropic", "anthropic"],
  ["anthropic", "ollama"],
  ["anthropic", "vllm"],
  ["vllm", "anthropic without prefill"],
  ["anthropic without prefill", "anthropic without prefill"]
]

describe.each(pairs)("an interrupted answer of %s is resumed at %s", (from, to) => {
  it("after every piece, without duplicate text", async () => {
    const [first, second] = await Promise.all([makers[from](), makers[to]()])
    const cortex = fleet.cortex(inOrder(first, second), { serverCooldown: 1 })
    await cortex.listServers()
    for (let after = 1; after < words.length; after++) {
      await first.setBehaviour({ faults: { kind: "cut", after } })
      await new Promise((resolve) => setTimeout(resolve, 12))
      const events = await eventsOf(await cortex.chat(question, { stream: true, temperature: 0 }))
      expect(textOf(events), `cut after ${after}`).toBe(whole)
      expect(ends(events)).toMatchObject([
        { server: second.url, finishReason: "stop", usage: { completionTokens: words.length } }
      ])
    }
    expect(trials(second).length).toBeLessThanOrEqual(1)
    // It goes on at the exact place where it can, and else begins again.
    const last = second.chatRequests.at(-1)?.body?.messages?.at(-1)
    if (to === "anthropic") {
      expect(last).toEqual({ role: "assistant", content: [{ type: "text", text: words.slice(0, -1).join("") }] })
    } else if (to === "anthropic without prefill") expect(last?.role).toBe("user")
  })
})

it("any text is resumed after any byte of its stream", async () => {
  const [first, second] = await Promise.all([fleet.anthropic(), fleet.anthropic()])
  const cortex = fleet.cortex(inOrder(first, second), { serverCooldown: 1 })
  await cortex.listServers()
  const piece = fc.oneof(
    fc.constantFrom("a", " b", "\n", " ", '"', "\\", "你", "😀", "data: {", "event: ping\n\n"),
    fc.string({ minLength: 1, unit: "grapheme" })
  )
  await fc.assert(
    fc.asyncProperty(fc.array(piece, { minLength: 1, maxLength: 12 }), fc.nat(4_000), async (reply, at) => {
      if (reply.join("").trim() === "") return
      await Promise.all([
        second.setBehaviour({ reply }),
        first.setBehaviour({ reply, faults: { kind: "cutByte", at } })
      ])
      await new Promise((resolve) => setTimeout(resolve, 12))
      const events = await eventsOf(await cortex.chat(question, { stream: true, temperature: 0 }))
      expect(textOf(events)).toBe(reply.join(""))
      expect(ends(events)).toHaveLength(1)
    }),
    { numRuns: 40 }
  )
})

describe("a server that fails", () => {
  const failures: ReadonlyArray<readonly [string, Fault, object]> = [
    ["refuses the key", { kind: "status", code: 401 }, { reason: "unauthorized", message: "invalid x-api-key" }],
    ["forbids it", { kind: "status", code: 403 }, { reason: "unauthorized" }],
    ["lacks the model", { kind: "notFound" }, { reason: "model-not-found", message: `model: ${model}` }],
    ["limits the rate", { kind: "status", code: 429, retryAfter: 30 }, { reason: "rate-limited", status: 429 }],
    ["is overloaded", { kind: "status", code: 529 }, { reason: "busy", message: "Overloaded", status: 529 }],
    ["fails inside", { kind: "status", code: 500 }, { reason: "server-error", message: "Internal server error" }],
    [
      "is not paid",
      {
        kind: "status",
        code: 400,
        body: {
          type: "error",
          error: {
            type: "invalid_request_error",
            message: "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing."
          }
        }
      },
      { reason: "unauthorized" }
    ],
    ["is overloaded in mid-stream", { kind: "errorLine", after: 3 }, { reason: "busy", message: "Overloaded" }],
    ["breaks off", { kind: "cut", after: 3 }, { reason: "cut" }],
    ["ends without an end", { kind: "silentEnd", after: 3 }, { reason: "cut" }],
    ["says nothing", { kind: "empty" }, { reason: "cut" }],
    ["writes no JSON", { kind: "malformed", after: 3 }, { reason: "malformed" }],
    ["is a web page", { kind: "garbage" }, { reason: "malformed" }]
  ]
  it.each(failures)("%s", async (_, faults, attempt) => {
    const [first, second] = await Promise.all([
      fleet.anthropic({ reply: words }),
      fleet.openai({ reply: words, flavour: "vllm" })
    ])
    const cortex = fleet.cortex(inOrder(first, second))
    await cortex.listServers()
    await first.setBehaviour({ faults })
    const events = await eventsOf(await cortex.chat(question, { stream: true, temperature: 0 }))
    expect(textOf(events)).toBe(whole)
    expect(ends(events)).toMatchObject([{ server: second.url, attempts: [{ server: first.url, ...attempt }] }])
  })

  it("during the stream: the error has the type of the server's", async () => {
    const types = [
      ["overloaded_error", "busy"],
      ["rate_limit_error", "rate-limited"],
      ["authentication_error", "unauthorized"],
      ["permission_error", "unauthorized"],
      ["api_error", "server-error"],
      ["timeout_error", "server-error"]
    ] as const
    for (const [errorType, reason] of types) {
      const [first, second] = await Promise.all([
        fleet.anthropic({ reply: words, errorType, faults: { kind: "errorLine", after: 2 } }),
        fleet.anthropic({ reply: words })
      ])
      const events = await eventsOf(await fleet.cortex(inOrder(first, second)).chat(question, { stream: true }))
      expect(textOf(events)).toBe(whole)
      expect(ends(events), errorType).toMatchObject([{ attempts: [{ reason }] }])
    }
  })

  it("fails with the request's error if no server accepts it", async () => {
    const body = {
      type: "error",
      error: { type: "invalid_request_error", message: "prompt is too long: 210000 tokens > 200000 maximum" }
    }
    const only = await fleet.anthropic({ faults: { kind: "status", code: 400, body } })
    const error = await failure(fleet.cortex([only]).complete(question))
    expect(error).toMatchObject({ _tag: "InvalidRequest", code: "context_length_exceeded", server: only.url })
    const large = { type: "error", error: { type: "request_too_large", message: "Request exceeds the maximum size" } }
    const other = await fleet.anthropic({ faults: { kind: "status", code: 413, body: large } })
    expect(await failure(fleet.cortex([other]).complete(question))).toMatchObject({ _tag: "InvalidRequest" })
  })

  it("an answer that is cut off after its stop reason is complete", async () => {
    for (const torn of [false, true]) {
      const server = await fleet.anthropic({ reply: words, faults: { kind: "cutLast", torn } })
      const answer = await fleet.cortex([server]).complete(question)
      expect(answer).toMatchObject({ text: whole, attempts: [], usage: { completionTokens: words.length } })
    }
  })
})

describe("our own gateway as a server of Anthropic's API", () => {
  /** The built-in model of this process has another name. */
  const demo = "demo-elsewhere"
  const prompt = "What is the capital of France?"
  const options = { model: demo, temperature: 0, maxTokens: 24 } as const

  it("returns the same text, complete and streamed, and resumes an answer", async () => {
    const gateway = fleet.keep(await startGateway([], { aliases: { [demo]: "aicortex-demo" } }))
    const direct = fleet.cortex([])
    const { text } = await direct.complete(prompt, { ...options, model: "aicortex-demo" })
    expect(text.length).toBeGreaterThan(5)
    const servers = [{ url: gateway.url, protocol: "anthropic" }] as const
    const cortex = fleet.cortex(servers, { model: demo })
    const answer = await cortex.complete(prompt, options)
    expect(answer).toMatchObject({ text, server: gateway.url })
    const events = await eventsOf(await cortex.chat(prompt, { ...options, stream: true }))
    expect(textOf(events)).toBe(text)
    expect(ends(events)).toMatchObject([{ server: gateway.url, finishReason: answer.finishReason }])
    const pieces = tokenize(text)
    for (const after of [1, 2, pieces.length - 1]) {
      const broken = await fleet.openai({ models: [demo], reply: pieces, faults: { kind: "cut", after } })
      const both = fleet.cortex([{ url: broken.url }, { ...servers[0], priority: 1 }], { model: demo })
      const joined = await eventsOf(await both.chat(prompt, { ...options, stream: true }))
      expect(textOf(joined), `cut after ${after}`).toBe(text)
      expect(ends(joined)).toMatchObject([{ server: gateway.url, attempts: [{ server: broken.url, reason: "cut" }] }])
    }
  })
})

import { createServer, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { describe, expect, it } from "vitest"
import { startFakeOllama } from "../support/fakeServer.js"
import { model, useFleet } from "../support/fleet.js"
import { startGateway } from "../support/gateway.js"
import type { Json } from "../support/script.js"

const { keep } = useFleet()

/**
 * - `native`: gives as many answers as are asked for; `whole`: the same, as one object
 * - `one`: passes over `n`; `refuses`: 400 where it is more than one
 */
type Kind = "native" | "whole" | "one" | "refuses"

interface Options {
  /** After so many events of a request for several answers the connection is reset; only the first time. */
  readonly breakAfter?: number
  /** So many requests get this status before anything else. */
  readonly failing?: readonly [status: number, times: number]
  /** What the last piece of the answer with this number says instead of "stop". */
  readonly reasons?: { readonly [index: number]: string }
  readonly words?: number
  readonly uncounted?: boolean
}

const promptTokens = 11

/** What the answer with this number says to this seed. */
const wordsOf = (seed: number, words = 4) => Array.from({ length: words }, (_, i) => `w${seed}.${i} `)

/** A server of the OpenAI API whose answers differ by the seed: the first has the one it was given. */
const upstream = async (kind: Kind, options: Options = {}) => {
  const { breakAfter, failing, reasons = {}, uncounted, words = 4 } = options
  const requests: Array<Json> = []
  let broken = false
  let failed = 0
  const answer = (body: Json, response: ServerResponse, chat: boolean) => {
    if (failing !== undefined && failed++ < failing[1]) {
      response.writeHead(failing[0]).end(JSON.stringify({ error: { message: "no" } }))
      return
    }
    const n: number = kind === "one" ? 1 : (body.n ?? 1)
    if (kind === "refuses" && n > 1) {
      response.writeHead(400).end(JSON.stringify({ error: { message: "Only one completion choice is allowed" } }))
      return
    }
    const texts = Array.from({ length: n }, (_, i) => {
      const all = wordsOf((body.seed ?? 0) + i, words)
      // A text is gone on with: nothing of it is said again.
      return chat ? all : all.filter((word) => !body.prompt.includes(word))
    })
    const written = texts.flat().length
    const usage = {
      prompt_tokens: promptTokens,
      completion_tokens: written,
      total_tokens: promptTokens + written,
      prompt_tokens_details: { cached_tokens: 3 },
      completion_tokens_details: { reasoning_tokens: 2 }
    }
    const piece = (index: number, text: string, finish_reason: string | null) =>
      chat ? { index, delta: { content: text }, finish_reason } : { index, text, finish_reason }
    const reasonOf = (index: number) => reasons[index] ?? "stop"
    if (kind === "whole") {
      const choices = texts.map((text, index) => {
        const content = text.join("")
        return chat
          ? { index, message: { role: "assistant", content }, finish_reason: reasonOf(index) }
          : { index, text: content, finish_reason: reasonOf(index) }
      })
      response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ choices, usage }))
      return
    }
    response.writeHead(200, { "content-type": "text/event-stream" })
    const events: Array<object> = []
    for (let i = 0; i < words; i++) {
      for (const [index, text] of texts.entries()) {
        if (i < text.length) events.push({ choices: [piece(index, text[i] ?? "", null)], usage: null })
      }
    }
    texts.forEach((_, index) => events.push({ choices: [piece(index, "", reasonOf(index))], usage: null }))
    if (uncounted !== true) events.push({ choices: [], usage })
    const breaks = breakAfter !== undefined && n > 1 && !broken
    if (breaks) broken = true
    const shown = breaks ? events.slice(0, breakAfter) : events
    const text = shown.map((event) => `data: ${JSON.stringify(event)}\n\n`).join("")
    response.write(breaks ? text : `${text}data: [DONE]\n\n`, () => (breaks ? response.destroy() : response.end()))
  }
  const server = createServer((request, response) => {
    let body = ""
    request.on("data", (data) => {
      body += data
    })
    request.on("end", () => {
      if (request.method === "POST") {
        const received = JSON.parse(body)
        requests.push(received)
        answer(received, response, /chat/.test(request.url ?? ""))
      } else if (request.url === "/v1/models") {
        response.end(JSON.stringify({ object: "list", data: [{ id: model }] }))
      } else response.writeHead(404).end()
    })
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const close = async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
  keep({ [Symbol.asyncDispose]: close })
  return { url, requests, close }
}

const openai = (...servers: ReadonlyArray<{ readonly url: string }>) =>
  servers.map(({ url }) => ({ url, protocol: "openai" as const }))

const paths = { chat: "/v1/chat/completions", text: "/v1/completions" } as const

interface Answers {
  readonly texts: ReadonlyArray<string>
  readonly reasons: ReadonlyArray<string>
  readonly usage: Json
}

/** All that came, whole or in a stream, in one form. */
const ask = async (
  gateway: Awaited<ReturnType<typeof startGateway>>,
  face: keyof typeof paths,
  stream: boolean,
  body: object
): Promise<Answers> => {
  const response = await gateway.post(paths[face], {
    model,
    ...(face === "chat" ? { messages: [{ role: "user", content: "one two three" }] } : { prompt: "one two three" }),
    ...(stream ? { stream, stream_options: { include_usage: true } } : {}),
    ...body
  })
  const text = await response.text()
  expect([response.status, text]).toEqual([200, text])
  const texts: Array<string> = []
  const reasons: Array<string> = []
  if (!stream) {
    const { choices, usage } = JSON.parse(text)
    for (const choice of choices) {
      texts[choice.index] = choice.message?.content ?? choice.text
      reasons[choice.index] = choice.finish_reason
    }
    return { texts, reasons, usage }
  }
  let usage: Json
  for (const line of text.split("\n\n").filter((line) => line.startsWith("data: {"))) {
    const event = JSON.parse(line.slice(6))
    usage = event.usage ?? usage
    for (const choice of event.choices ?? []) {
      texts[choice.index] = (texts[choice.index] ?? "") + (choice.delta?.content ?? choice.text ?? "")
      if (choice.finish_reason !== null) reasons[choice.index] = choice.finish_reason
    }
  }
  expect(text.trimEnd().endsWith("[DONE]")).toBe(true)
  return { texts, reasons, usage }
}

const said = (seed: number, n: number, words = 4) =>
  Array.from({ length: n }, (_, i) => wordsOf(seed + i, words).join(""))

const sorted = (numbers: ReadonlyArray<number | undefined>) => [...numbers].sort((a, b) => (a ?? 0) - (b ?? 0))

const faces = [
  ["chat", false],
  ["chat", true],
  ["text", false],
  ["text", true]
] as const

describe.each(faces)("several answers to one prompt (%s, stream: %s)", (face, stream) => {
  it.each(["native", "whole"] as const)("are one request to a server that supports `n` (%s)", async (kind) => {
    const server = await upstream(kind)
    const gateway = keep(await startGateway(openai(server)))
    const { reasons, texts, usage } = await ask(gateway, face, stream, { n: 3, seed: 40 })
    expect(server.requests.map(({ n, seed }) => [n, seed])).toEqual([[3, 40]])
    expect(texts).toEqual(said(40, 3))
    expect(reasons).toEqual(["stop", "stop", "stop"])
    expect(usage).toMatchObject({
      prompt_tokens: promptTokens,
      completion_tokens: 12,
      total_tokens: promptTokens + 12,
      prompt_tokens_details: { cached_tokens: 3 }
    })
    expect(usage.completion_tokens_details.reasoning_tokens).toBe(2)
  })

  it("a single answer is requested without `n`", async () => {
    const server = await upstream("native")
    const gateway = keep(await startGateway(openai(server)))
    expect((await ask(gateway, face, stream, { n: 1, seed: 3 })).texts).toEqual(said(3, 1))
    expect(server.requests.map(({ n }) => n)).toEqual([undefined])
  })

  it.each([
    ["one", 30],
    ["one", 4],
    ["refuses", 4]
  ] as const)("a server that %s gets one request per answer, which is remembered (%s words)", async (kind, words) => {
    const server = await upstream(kind, { words })
    const gateway = keep(await startGateway(openai(server)))
    const first = await ask(gateway, face, stream, { n: 3, seed: 7 })
    expect(first.texts).toEqual(said(7, 3, words))
    expect(first.usage).toMatchObject({ prompt_tokens: promptTokens, completion_tokens: 3 * words })
    expect(server.requests[0]).toMatchObject({ n: 3, seed: 7 })
    const single = server.requests.slice(1)
    expect(single.map(({ n }) => n)).toEqual(single.map(() => undefined))
    expect(sorted(single.map(({ seed }) => seed))).toEqual(kind === "one" ? [8, 9] : [7, 8, 9])

    const { length } = server.requests
    expect((await ask(gateway, face, stream, { n: 2, seed: 20 })).texts).toEqual(said(20, 2, words))
    const further = server.requests.slice(length)
    expect(further.map(({ n }) => n)).toEqual([undefined, undefined])
    expect(sorted(further.map(({ seed }) => seed))).toEqual([20, 21])
  })

  it("no seed is sent if the caller gave none", async () => {
    const native = await upstream("native")
    const one = await upstream("one")
    for (const server of [native, one]) {
      const gateway = keep(await startGateway(openai(server)))
      expect((await ask(gateway, face, stream, { n: 2 })).texts).toHaveLength(2)
      expect(server.requests.map(({ seed }) => seed)).toEqual(server.requests.map(() => undefined))
    }
  })

  it("after a server failure each unfinished answer is resumed, and finished ones are kept", async () => {
    // All but the reason of the second and third, and the count.
    const server = await upstream("native", { breakAfter: 4 * 3 + 1 })
    const other = await upstream("native")
    const order = openai(server, other).map((one, priority) => ({ ...one, priority }))
    const gateway = keep(await startGateway(order))
    const { reasons, texts, usage } = await ask(gateway, face, stream, { n: 3, seed: 5 })
    expect(texts).toEqual(said(5, 3))
    expect(reasons).toEqual(["stop", "stop", "stop"])
    expect(usage.prompt_tokens).toBe(promptTokens)
    expect(server.requests).toHaveLength(1)
    const seeds = other.requests.filter(({ seed }) => seed !== undefined).map(({ seed }) => seed)
    expect(seeds).not.toContain(5)
    expect(seeds.length).toBeGreaterThan(0)
  })

  it.each([[503], [500]])("a server that fails at once (%s): the next one gets the request for all", async (status) => {
    const bad = await upstream("native", { failing: [status, 100] })
    const good = await upstream("native")
    const order = openai(bad, good).map((one, priority) => ({ ...one, priority }))
    const gateway = keep(await startGateway(order))
    const { texts, usage } = await ask(gateway, face, stream, { n: 3, seed: 1 })
    expect(texts).toEqual(said(1, 3))
    expect(usage).toMatchObject({ prompt_tokens: promptTokens, completion_tokens: 12 })
    expect(bad.requests.length).toBeGreaterThan(0)
    expect(good.requests.reduce((sum, { n = 1 }) => sum + n, 0)).toBe(3)
  })

  it("an answer that the server aborted is requested again, alone", async () => {
    const server = await upstream("native", { reasons: { 1: "abort" } })
    const other = await upstream("native")
    const order = openai(server, other).map((one, priority) => ({ ...one, priority }))
    const gateway = keep(await startGateway(order))
    const { reasons, texts } = await ask(gateway, face, stream, { n: 3, seed: 5 })
    expect(texts).toEqual(said(5, 3))
    expect(reasons).toEqual(["stop", "stop", "stop"])
    const seeded = other.requests.filter(({ seed }) => seed !== undefined)
    expect(seeded.map(({ seed }) => seed)).toEqual(seeded.map(() => 6))
    expect(seeded.length).toBeGreaterThan(0)
  })

  it("with several servers all go to one that supports `n`", async () => {
    const servers = await Promise.all([upstream("native"), upstream("native"), upstream("native")])
    const gateway = keep(await startGateway(openai(...servers)))
    expect((await ask(gateway, face, stream, { n: 4, seed: 9 })).texts).toEqual(said(9, 4))
    expect(servers.flatMap(({ requests }) => requests).map(({ n, seed }) => [n, seed])).toEqual([[4, 9]])
  })

  it("a server without token counts: the prompt is estimated once", async () => {
    const server = await upstream("native", { uncounted: true })
    const gateway = keep(await startGateway(openai(server)))
    const { texts, usage } = await ask(gateway, face, stream, { n: 3, seed: 2 })
    expect(texts).toEqual(said(2, 3))
    expect(usage.prompt_tokens).toBe(4)
    expect(usage.completion_tokens).toBeGreaterThanOrEqual(12)
  })

  it("Ollama gets one request per answer, each with its own seed", async () => {
    const reply = (body: Json) => `answer ${body.options?.seed}`
    const server = keep(await startFakeOllama({ models: [model], reply }))
    const gateway = keep(await startGateway([server.url]))
    const { texts, usage } = await ask(gateway, face, stream, { n: 3, seed: 40 })
    // A text may go on with its prompt.
    expect(texts.map((text) => text.trim().slice(-2))).toEqual(["40", "41", "42"])
    expect(server.chatRequests.map(({ body }) => [body.n, body.options.seed])).toEqual([
      [undefined, 40],
      [undefined, 41],
      [undefined, 42]
    ])
    const alone = await ask(gateway, face, stream, { seed: 40 })
    expect(usage).toMatchObject({
      prompt_tokens: alone.usage.prompt_tokens,
      completion_tokens: 3 * alone.usage.completion_tokens
    })
  })
})

describe("one request for several answers", () => {
  it("is cancelled when the client disconnects", async () => {
    const opened: Array<Promise<void>> = []
    const server = createServer((request, response) => {
      if (request.method !== "POST") {
        response.end(JSON.stringify({ data: [{ id: model }] }))
        return
      }
      request.resume()
      response.writeHead(200, { "content-type": "text/event-stream" })
      const choices = [0, 1].map((index) => ({ index, delta: { content: "a" }, finish_reason: null }))
      response.write(`data: ${JSON.stringify({ choices })}\n\n`)
      opened.push(new Promise((resolve) => response.on("close", () => resolve())))
    })
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
    keep({
      [Symbol.asyncDispose]: async () => {
        server.closeAllConnections()
        await new Promise((resolve) => server.close(resolve))
      }
    })
    const gateway = keep(
      await startGateway([
        { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, protocol: "openai" } as never
      ])
    )
    const leaving = new AbortController()
    const body = { model, messages: [{ role: "user", content: "?" }], n: 2, stream: true }
    const response = await gateway.post(paths.chat, body, { signal: leaving.signal })
    await response.body?.getReader().read()
    leaving.abort()
    await Promise.all(opened)
    expect(opened).toHaveLength(1)
  })

  it("an invalid request is refused, and the server keeps its `n` support", async () => {
    const bad = await upstream("native", { failing: [400, 3] })
    const gateway = keep(await startGateway(openai(bad)))
    const wrong = await gateway.post(paths.chat, { model, messages: [{ role: "user", content: "?" }], n: 2 })
    expect(wrong.status).toBe(400)
    await wrong.text()
    const before = bad.requests.length
    expect((await ask(gateway, "chat", false, { n: 2, seed: 1 })).texts).toEqual(said(1, 2))
    expect(bad.requests.slice(before).map(({ n }) => n)).toEqual([2])
  })

  it("JSON answers that do not match are repaired one by one", async () => {
    const server = await upstream("native")
    const gateway = keep(await startGateway(openai(server)))
    const body = { model, messages: [{ role: "user", content: "?" }], n: 2, response_format: { type: "json_object" } }
    const response = await gateway.post(paths.chat, body)
    expect(response.status).not.toBe(200)
    await response.text()
    expect(server.requests[0]?.n).toBe(2)
    expect(server.requests.slice(1).every(({ n }) => n === undefined)).toBe(true)
  })
})

import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { describe, expect, it } from "vitest"
import { eventsOf, failure, model, useFleet } from "../support/fleet.js"
import { startGateway } from "../support/gateway.js"
import type { Json } from "../support/script.js"

const { cortex, keep, ollama, openai } = useFleet()

type Protocol = "openai" | "ollama"
const protocols = ["openai", "ollama"] as const

/** A server of either protocol that answers every chat with these bytes. */
const answering = async (protocol: Protocol, answer: string) => {
  const server = createServer((request, response) => {
    let body = ""
    request.on("data", (data) => {
      body += data
    })
    request.on("end", () => {
      if (request.method === "POST" && /chat/.test(request.url ?? "")) {
        // How the template renders a conversation is asked for without a stream.
        if (JSON.parse(body).stream === false) {
          const message = { role: "assistant", content: "Well" }
          response.end(JSON.stringify({ model, message, done: true, done_reason: "stop" }))
          return
        }
        response.writeHead(200, { "content-type": "text/event-stream" }).end(answer)
      } else if (request.url === (protocol === "openai" ? "/v1/models" : "/api/tags")) {
        const models = [{ id: model, name: model, model }]
        response.end(JSON.stringify(protocol === "openai" ? { object: "list", data: models } : { models }))
      } else response.writeHead(404).end()
    })
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  keep({
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    }
  })
  return { url, protocol }
}

const chunk = (delta: object, finish_reason: string | null = null) =>
  `data: ${JSON.stringify({ choices: [{ index: 0, delta, finish_reason }] })}\n\n`
const done = "data: [DONE]\n\n"
const line = (message: object, rest: object = { done: false }) =>
  `${JSON.stringify({ model, message: { role: "assistant", content: "", ...message }, ...rest })}\n`

const text = (protocol: Protocol, content: string, reason: string) =>
  protocol === "openai"
    ? chunk({ content }) + chunk({}, reason) + done
    : line({ content }) + line({}, { done: true, done_reason: reason })

const call = (protocol: Protocol, args: unknown, cut: boolean) => {
  const tool_calls = [{ index: 0, id: "c1", function: { name: "f", arguments: args } }]
  return protocol === "openai"
    ? chunk({ tool_calls }) + chunk({}, cut ? "length" : "tool_calls") + done
    : line({ tool_calls }) + line({}, { done: true, done_reason: cut ? "length" : "stop" })
}

describe.each(protocols)("an answer that its server aborted (%s)", (protocol) => {
  it.each(["abort", "cancelled", "insufficient_system_resource", "network_error", "engine_failure"])(
    "%s: another server goes on, whole and in a stream",
    async (reason) => {
      const bad = await answering(protocol, text(protocol, "Hel", reason))
      const good = await answering(protocol, text(protocol, "Hello", "stop"))
      const order = [bad, good].map((server, priority) => ({ ...server, priority }))
      const whole = await cortex(order).complete("?")
      expect(whole).toMatchObject({ text: "Hello", server: good.url, attempts: [{ server: bad.url }] })
      const events = await eventsOf(await cortex(order).chat("?", { stream: true }))
      expect(events.map((event) => (event.type === "token" ? event.content : "")).join("")).toBe("Hello")
      expect(events.at(-1)).toMatchObject({ type: "end", server: good.url, finishReason: "stop" })
    }
  )

  it("without another server, the call fails", async () => {
    const bad = await answering(protocol, text(protocol, "Hel", "abort"))
    const error = await failure(cortex([bad]).complete("?", { maxRetries: 1 }))
    expect(error._tag).toBe("AllServersFailed")
    const broken = await failure(eventsOf(await cortex([bad]).chat("?", { stream: true, maxRetries: 1 })))
    expect(broken).toMatchObject({ _tag: "StreamInterrupted", partial: "Hel" })
  })

  it.each([["stop"], ["length"]])("control: %s is a normal end", async (reason) => {
    const one = await answering(protocol, text(protocol, "Hel", reason))
    const other = await answering(protocol, text(protocol, "Hello", "stop"))
    const order = [one, other].map((server, priority) => ({ ...server, priority }))
    const whole = await cortex(order).complete("?")
    expect(whole).toMatchObject({ text: "Hel", server: one.url, finishReason: reason, attempts: [] })
  })
})

const messages = [{ role: "user", content: "?" }]
const functions = [{ type: "function", function: { name: "f" } }]

interface Face {
  readonly path: string
  readonly body: object
  /** The arguments of the call, as the client has them, and why the answer ended. */
  readonly whole: (body: Json) => readonly [args: unknown, reason: unknown]
  readonly stream: (events: ReadonlyArray<Json>) => readonly [args: unknown, reason: unknown]
}

const joined = (parts: ReadonlyArray<unknown>) => parts.filter((part) => part !== undefined).join("")

const faces: { readonly [name: string]: Face } = {
  chat: {
    path: "/v1/chat/completions",
    body: { messages, tools: functions },
    whole: ({ choices: [choice] }) => [choice.message.tool_calls?.[0].function.arguments, choice.finish_reason],
    stream: (events) => [
      joined(events.map(({ choices }) => choices?.[0]?.delta?.tool_calls?.[0]?.function?.arguments)),
      events.flatMap(({ choices }) => choices?.[0]?.finish_reason ?? [])[0]
    ]
  },
  responses: {
    path: "/v1/responses",
    body: { input: "?", tools: [{ type: "function", name: "f" }] },
    whole: ({ output, status }) => [output.find(({ type }: Json) => type === "function_call")?.arguments, status],
    stream: (events) => [
      joined(events.map(({ delta, type }) => (/arguments\.delta$/.test(type) ? delta : undefined))),
      events.at(-1).response?.status
    ]
  },
  messages: {
    path: "/v1/messages",
    body: { messages, max_tokens: 9, tools: [{ name: "f", input_schema: { type: "object" } }] },
    whole: ({ content, stop_reason }) => [content.find(({ type }: Json) => type === "tool_use")?.input, stop_reason],
    stream: (events) => [
      joined(events.map(({ delta }) => delta?.partial_json)),
      events.flatMap(({ delta }) => delta?.stop_reason ?? [])[0]
    ]
  },
  ollama: {
    path: "/api/chat",
    body: { messages, tools: functions },
    whole: ({ done_reason, message }) => [message.tool_calls?.[0].function.arguments, done_reason],
    stream: (events) => [
      events.flatMap(({ message }) => message?.tool_calls ?? [])[0]?.function.arguments,
      events.at(-1).done_reason
    ]
  }
}

/** What a model writes as arguments; the object that it is, or `undefined` where it is none. */
const odd: ReadonlyArray<[name: string, args: unknown, object: object | undefined, cut?: boolean]> = [
  ["right", '{"a":1}', { a: 1 }],
  ["an object", { a: 1 }, { a: 1 }],
  ["encoded twice", '"{\\"a\\":1}"', { a: 1 }],
  ["null", null, {}],
  ["the text null", "null", {}],
  ["a list", "[]", undefined],
  ["no JSON", "Berlin", undefined],
  ["cut", '{"a":', undefined, true]
]

const objectOf = (args: unknown): unknown => {
  if (typeof args !== "string") return args
  try {
    return JSON.parse(args === "" ? "{}" : args)
  } catch {
    return args
  }
}

describe.each(protocols)("arguments that a model writes (%s)", (protocol) => {
  describe.each(Object.entries(faces))("with %s", (face, { body, path, stream, whole }) => {
    it.each(odd)("%s", async (_, args, expected, isCut) => {
      const cut = isCut === true
      const gateway = keep(await startGateway([await answering(protocol, call(protocol, args, cut))]))
      const ask = (stream: boolean) => gateway.post(path, { model, stream, ...body })
      const answers: Array<readonly [unknown, unknown]> = []
      const response = await ask(false)
      expect(response.status).toBe(200)
      answers.push(whole((await response.json()) as Json))
      const lines = (await (await ask(true)).text()).split("\n")
      const events = lines
        .map((line) => line.replace(/^data: /, ""))
        .filter((line) => line.startsWith("{"))
        .map((line) => JSON.parse(line) as Json)
      expect(events.find((event) => event.error != null || event.type === "error")).toBeUndefined()
      answers.push(stream(events))
      for (const [reply, reason] of answers) {
        if (expected !== undefined) expect(objectOf(reply)).toEqual(expected)
        // A client that takes a text gets what the model wrote; one that takes an object gets one all the same.
        else if (face === "chat" || face === "responses") expect(reply).toBe(args)
        else if (typeof reply !== "string") expect(reply).toBeTypeOf("object")
        if (cut) expect(String(reason)).toMatch(/length|max_tokens|incomplete/)
        else expect(String(reason)).toMatch(/tool|completed|stop/)
      }
    })
  })
})

describe("tool_choice allowed_tools on /v1/chat/completions", () => {
  const named = (...names: ReadonlyArray<string>) => names.map((name) => ({ type: "function", function: { name } }))

  it.each([
    [{ mode: "auto", tools: named("b") }, ["b"], "auto"],
    [{ mode: "required", tools: named("c", "a") }, ["a", "c"], "required"],
    [{ tools: named("a") }, ["a"], "auto"]
  ])("%j: only these are offered", async (allowed_tools, names, mode) => {
    const server = await openai()
    const gateway = keep(await startGateway([{ url: `${server.url}/v1` }]))
    for (const stream of [false, true]) {
      const tool_choice = { type: "allowed_tools", allowed_tools }
      const body = { model, messages, stream, tools: named("a", "b", "c"), tool_choice }
      const response = await gateway.post("/v1/chat/completions", body)
      expect([response.status, await response.text()]).toEqual([200, expect.any(String)])
      const sent = server.chatRequests.at(-1)?.body
      expect(sent.tools.map((tool: Json) => tool.function.name)).toEqual(names)
      expect(sent.tool_choice).toBe(mode)
    }
  })

  it.each([[{ tools: named("z") }], [{ tools: [] }], [{ mode: "never", tools: named("a") }], [{ tools: [5] }]])(
    "%j is refused by name",
    async (allowed_tools) => {
      const gateway = keep(await startGateway([(await ollama()).url]))
      const tool_choice = { type: "allowed_tools", allowed_tools }
      const response = await gateway.post("/v1/chat/completions", { model, messages, tools: named("a"), tool_choice })
      expect(response.status).toBe(400)
      expect(((await response.json()) as Json).error.param).toContain("tool_choice.allowed_tools")
    }
  )
})

describe("fields within the messages and tools of Ollama's API", () => {
  it.each([
    [{ messages: [{ ...messages[0], mood: "good" }] }, "messages[0].mood"],
    [{ messages, tools: [{ ...functions[0], cache: true }] }, "tools[0].cache"],
    [{ messages, tools: [{ type: "function", function: { name: "f", cost: 1 } }] }, "tools[0].function.cost"],
    [
      {
        messages: [...messages, { role: "assistant", tool_calls: [{ function: { name: "f", arguments: {}, why: 1 } }] }]
      },
      "messages[1].tool_calls[0].function.why"
    ]
  ])("%j: omitted and reported, or refused in strict mode", async (body, at) => {
    const server = await ollama()
    const lenient = keep(await startGateway([server.url]))
    const response = await lenient.post("/api/chat", { model, stream: false, ...body })
    expect([response.status, response.headers.get("x-aicortex-ignored")]).toEqual([200, at.replace(/\[\d+\]/g, "[]")])
    await response.text()
    const strict = keep(await startGateway([server.url], { strict: true }))
    const refused = await strict.post("/api/chat", { model, stream: false, ...body })
    expect(refused.status).toBe(400)
    expect(await refused.text()).toContain(at)
    const plain = await strict.post("/api/chat", { model, stream: false, messages, tools: functions })
    expect(plain.status).toBe(200)
    await plain.text()
  })
})

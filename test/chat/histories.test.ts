import * as fc from "fast-check"
import { afterEach, describe, expect, it } from "vitest"
import { templateMessages } from "../../src/backend/templateMessages.js"
import type { Message } from "../../src/Message.js"
import { createCortex } from "../../src/promise.js"
import { startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { startGateway } from "../support/gateway.js"

const model = "m:1b"
const open: Array<() => Promise<unknown>> = []
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close()
})

const call = (id: string, args = "{}", name = "f") => ({ id, type: "function", function: { name, arguments: args } })
const user = (content: unknown = "Hi") => ({ role: "user", content })
const result = (id: string | undefined, content: unknown = "ok") => ({ role: "tool", tool_call_id: id, content })
const calls = (...tool_calls: ReadonlyArray<object>) => ({ role: "assistant", content: null, tool_calls })
const missing = "There is no result: the call was not carried out."

type Json = { readonly [name: string]: unknown }
type Case = readonly [name: string, given: ReadonlyArray<Json>, expected: ReadonlyArray<Json>]

/** What a client sends, and what a server with a chat template is sent. */
const cases: ReadonlyArray<Case> = [
  ["developer is system", [{ role: "developer", content: "A" }, user()], [{ role: "system", content: "A" }, user()]],
  [
    "system messages anywhere are one, in front",
    [
      { role: "system", content: "A" },
      user(),
      { role: "developer", content: "B" },
      user("More"),
      { role: "system", content: "C" }
    ],
    [{ role: "system", content: "A\n\nB\n\nC" }, user("Hi\n\nMore")]
  ],
  [
    "a late system message moves to the front",
    [user(), { role: "system", content: "A" }],
    [{ role: "system", content: "A" }, user()]
  ],
  [
    "no role twice in a row",
    [user("A"), user("B"), { role: "assistant", content: "C" }, { role: "assistant", content: "D" }, user("E")],
    [user("A\n\nB"), { role: "assistant", content: "C\n\nD" }, user("E")]
  ],
  ["an empty assistant says nothing", [user("A"), { role: "assistant", content: null }, user("B")], [user("A\n\nB")]],
  ["one without a content, too", [user("A"), { role: "assistant" }, user("B")], [user("A\n\nB")]],
  [
    "or with empty parts",
    [user("A"), { role: "assistant", content: [{ type: "text", text: "" }] }, user("B")],
    [user("A\n\nB")]
  ],
  [
    "an answer of reasoning alone is left out",
    [user("A"), { role: "assistant", content: "", reasoning_content: "Hm" }, user("B")],
    [user("A\n\nB")]
  ],
  ["a user without a content", [user(null), user("A")], [user("A")]],
  [
    "empty parts of a user",
    [
      user([
        { type: "text", text: "" },
        { type: "text", text: "A" }
      ])
    ],
    [user("A")]
  ],
  ["an empty list of parts", [user([])], [user("")]],
  [
    "a call without a result",
    [user(), calls(call("a")), user("Go on")],
    [user(), calls(call("a")), result("a", missing), user("Go on")]
  ],
  ["at the end, too", [user(), calls(call("a"))], [user(), calls(call("a")), result("a", missing)]],
  [
    "one of two has a result",
    [user(), calls(call("a"), call("b")), result("b")],
    [user(), calls(call("a"), call("b")), result("a", missing), result("b")]
  ],
  [
    "results in another order",
    [user(), calls(call("a"), call("b")), result("b", "2"), result("a", "1")],
    [user(), calls(call("a"), call("b")), result("a", "1"), result("b", "2")]
  ],
  [
    "a result before its call",
    [user(), result("a"), calls(call("a")), user("B")],
    [user(), calls(call("a")), result("a"), user("B")]
  ],
  [
    "somebody spoke in between",
    [user(), calls(call("a")), user("B"), result("a")],
    [user(), calls(call("a")), result("a"), user("B")]
  ],
  [
    "calls one by one, with results behind both",
    [user(), calls(call("a")), calls(call("b")), result("a"), result("b")],
    [user(), calls(call("a"), call("b")), result("a"), result("b")]
  ],
  [
    "a tool result without a call",
    [user(), { role: "assistant", content: "A" }, { ...result("x", "42"), name: "f" }],
    [user(), { role: "assistant", content: "A" }, user("Result of the tool f:\n42")]
  ],
  [
    "results without ids",
    [user(), calls(call("")), result(undefined, "1"), user("B")],
    [user(), calls(call("call00000")), result("call00000", "1"), user("B")]
  ],
  [
    "the older form of calls",
    [
      user(),
      { role: "assistant", function_call: { name: "f", arguments: "{}" } },
      { role: "function", name: "f", content: "1" }
    ],
    [user(), calls(call("call00000")), result("call00000", "1")]
  ],
  [
    "a result without a content",
    [user(), calls(call("a")), { role: "tool", tool_call_id: "a" }],
    [user(), calls(call("a")), result("a", "")]
  ],
  [
    "broken arguments",
    [user(), calls(call("a", '{"x":')), result("a")],
    [user(), calls(call("a", '{"INVALID_JSON":"{\\"x\\":"}')), result("a")]
  ],
  [
    "a list as arguments",
    [user(), calls(call("a", "[1]")), result("a")],
    [user(), calls(call("a", '{"INVALID_JSON":"[1]"}')), result("a")]
  ],
  [
    "null, nothing and blanks as arguments",
    [user(), calls(call("a", "null"), call("b", ""), call("c", " ")), result("a"), result("b"), result("c")],
    [user(), calls(call("a"), call("b"), call("c")), result("a"), result("b"), result("c")]
  ],
  [
    "JSON in a JSON string",
    [user(), calls(call("a", '"{\\"x\\":1}"')), result("a")],
    [user(), calls(call("a", '{"x":1}')), result("a")]
  ],
  [
    "an image as a result",
    [
      user(),
      calls(call("a")),
      result("a", [
        { type: "text", text: "Look" },
        { type: "image_url", image_url: { url: "data:image/png;base64,aGk=" } }
      ])
    ],
    [
      user(),
      calls(call("a")),
      result("a", "Look"),
      user([{ type: "image_url", image_url: { url: "data:image/png;base64,aGk=" } }])
    ]
  ]
]

describe("a history is normalized for servers with chat templates", () => {
  it.each(cases)("%s", async (_, given, expected) => {
    const server = await startFakeOpenAI({ models: [model], reply: "Well.", flavour: "llamacpp" })
    open.push(server.stop)
    const gateway = await startGateway([`${server.url}/v1`])
    open.push(gateway.close)
    for (const stream of [false, true]) {
      const response = await gateway.post("/v1/chat/completions", { model, messages: given, stream })
      expect([response.status, await response.text()]).toEqual([200, expect.stringContaining("Well.")])
      expect(server.chatRequests.at(-1)?.body.messages).toEqual(expected)
    }
  })

  it.each(cases)("Ollama gets it unchanged: %s", async (_, given) => {
    const server = await startFakeOllama({
      models: [{ name: model, capabilities: ["completion", "tools", "vision"] }],
      reply: "Well."
    })
    open.push(server.stop)
    const gateway = await startGateway([server.url])
    open.push(gateway.close)
    const response = await gateway.post("/v1/chat/completions", { model, messages: given })
    expect([response.status, await response.text()]).toEqual([200, expect.stringContaining("Well.")])
    const roles = server.chatRequests.at(-1)?.body.messages.map(({ role }: Json) => role)
    expect(roles.slice(0, given.length)).toEqual(
      given.map(({ role }) => (role === "developer" ? "system" : role === "function" ? "tool" : role))
    )
  })

  it("the library and sessions do the same", async () => {
    const server = await startFakeOpenAI({ models: [model], reply: "Well.", flavour: "vllm" })
    open.push(server.stop)
    const cortex = createCortex({ servers: [`${server.url}/v1`], configFile: false, model })
    open.push(() => cortex.close())
    await cortex.chat([
      { role: "user", content: "A" },
      { role: "developer", content: "B" },
      { role: "user", content: "C" }
    ])
    expect(server.chatRequests.at(-1)?.body.messages).toEqual([{ role: "system", content: "B" }, user("A\n\nC")])
    const gateway = await startGateway([`${server.url}/v1`])
    open.push(gateway.close)
    const { id } = (await (await gateway.post("/v1/sessions", {})).json()) as { id: string }
    for (const [system, content] of [
      ["A", "B"],
      ["C", "D"]
    ]) {
      const messages = [user(content), { role: "developer", content: system }]
      expect((await gateway.post("/v1/chat/completions", { model, messages, session: id })).status).toBe(200)
    }
    expect(server.chatRequests.at(-1)?.body.messages).toEqual([
      { role: "system", content: "C" },
      user("B"),
      { role: "assistant", content: "Well." },
      user("D")
    ])
  })
})

describe("templated", () => {
  const ids = fc.constantFrom("a", "b", "c", "")
  const text = fc.constantFrom("", "x", "y")
  const message: fc.Arbitrary<Message> = fc.oneof(
    fc.record({ role: fc.constantFrom("system" as const, "developer" as const), content: text }),
    fc.record({ role: fc.constant("user" as const), content: text }),
    fc.record({
      role: fc.constant("assistant" as const),
      content: text,
      toolCalls: fc.array(
        ids.map((id) => ({ id, name: "f", arguments: {} })),
        { maxLength: 3 }
      )
    }),
    fc.record({
      role: fc.constant("tool" as const),
      content: text,
      toolCallId: ids,
      toolName: fc.constantFrom("f", "")
    })
  )

  it("any conversation is normalized, and a normalized one is unchanged", () => {
    fc.assert(
      fc.property(fc.array(message, { minLength: 1, maxLength: 12 }), (given) => {
        const made = templateMessages(given, true)
        expect(templateMessages(made, true)).toEqual(made)
        made.forEach(({ role }, i) => {
          if (role === "system") expect(i).toBe(0)
          expect(role).not.toBe("developer")
          if (role !== "tool") expect(made[i + 1]?.role).not.toBe(role)
        })
        made.forEach((one, i) => {
          if (one.role !== "assistant") return
          for (const [j, { id }] of (one.toolCalls ?? []).entries()) {
            expect(made[i + 1 + j]).toMatchObject({ role: "tool", toolCallId: id })
          }
        })
        const words = (all: ReadonlyArray<Message>) =>
          all
            .map(({ content }) => String(content))
            .join("")
            .replace(/[^xy]/g, "").length
        expect(words(made.filter(({ content }) => content !== missing))).toBeGreaterThanOrEqual(words(given))
      }),
      { numRuns: 500 }
    )
  })

  it("a valid history is unchanged; OpenAI's own servers get roles as they are", () => {
    const right: ReadonlyArray<Message> = [
      { role: "system", content: "A" },
      { role: "user", content: "B" },
      { role: "assistant", content: "", toolCalls: [{ id: "a", name: "f", arguments: {} }] },
      { role: "tool", content: "1", toolCallId: "a", toolName: "f" },
      { role: "assistant", content: "C" },
      { role: "user", content: "D" }
    ]
    expect(templateMessages(right, true)).toBe(right)
    const own: ReadonlyArray<Message> = [
      { role: "developer", content: "A" },
      { role: "user", content: "B" },
      { role: "user", content: "C" },
      { role: "developer", content: "D" }
    ]
    expect(templateMessages(own, false)).toBe(own)
    const orphan: ReadonlyArray<Message> = [...own, { role: "tool", content: "1", toolCallId: "x", toolName: "f" }]
    expect(templateMessages(orphan, false)).toEqual([...own, { role: "user", content: "Result of the tool f:\n1" }])
  })
})

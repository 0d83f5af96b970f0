import * as fc from "fast-check"
import OpenAI from "openai"
import { afterEach, describe, expect, it } from "vitest"
import { CustomToolInputReader } from "../../src/gateway/protocols/openai/responses/customToolInput.js"
import type { Gateway } from "../../src/index.js"
import { type FakeServer, startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { startGateway, type TestGateway } from "../support/gateway.js"

// biome-ignore lint/suspicious/noExplicitAny: bodies are read freely.
type Json = any

const model = "m:1b"
const open: Array<() => Promise<unknown>> = []
afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close()
})

const start = async (
  protocol: "ollama" | "openai" = "ollama",
  behaviour: Json = {},
  settings: Gateway.Options = {}
): Promise<{ server: FakeServer; gateway: TestGateway; client: OpenAI }> => {
  const options = {
    models: [{ name: model, capabilities: ["completion", "tools", "vision"] }],
    reply: "Well.",
    ...behaviour
  }
  const server =
    protocol === "ollama" ? await startFakeOllama(options) : await startFakeOpenAI({ ...options, flavour: "llamacpp" })
  open.push(server.stop)
  const gateway = await startGateway([protocol === "openai" ? `${server.url}/v1` : server.url], settings)
  open.push(gateway.close)
  return { server, gateway, client: new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: "none", maxRetries: 0 }) }
}
const ignored = (response: Response): ReadonlyArray<string> =>
  (response.headers.get("x-aicortex-ignored") ?? "")
    .split(", ")
    .filter((name) => name !== "")
    .sort()
const json = async (response: Response): Promise<Json> => (await response.json()) as Json
const offered = (server: FakeServer): Json => server.chatRequests.at(-1)?.body.tools?.map((tool: Json) => tool.function)
const events = (text: string): ReadonlyArray<Json> =>
  text.split("\n\n").flatMap((block) => {
    const data = /^data: (.*)$/m.exec(block)?.[1]
    return data === undefined || data === "[DONE]" ? [] : [JSON.parse(data)]
  })

const patch = {
  type: "custom",
  name: "apply_patch",
  description: "Edits files.",
  format: { type: "grammar", syntax: "lark", definition: "start: hunk+" }
}
const spawn = {
  type: "function",
  name: "spawn",
  description: "Begins one.",
  strict: false,
  parameters: { type: "object", properties: {} }
}
const agents = {
  type: "namespace",
  name: "multi_agent",
  description: "Agents.",
  tools: [spawn, { type: "custom", name: "say" }]
}
const input = "Hi"

describe.each(["ollama", "openai"] as const)("tools of /v1/responses (%s)", (protocol) => {
  it("a custom tool is sent as a function with one string, and its call is returned as a custom tool call, complete and streamed", async () => {
    const text = '*** Begin Patch\n"a" \\ b\n*** End Patch'
    const { gateway, server } = await start(protocol, {
      reply: { tokens: ["Now."], toolCalls: [{ name: "apply_patch", arguments: { input: text } }] }
    })
    const whole = await gateway.post("/v1/responses", { model, input, tools: [patch] })
    expect([whole.status, ignored(whole)]).toEqual([200, ["tools[].format"]])
    expect(offered(server)).toMatchObject([
      {
        name: "apply_patch",
        description: expect.stringMatching(/Edits files[\s\S]*lark[\s\S]*start: hunk/),
        parameters: { required: ["input"] }
      }
    ])
    const { output, tools } = await json(whole)
    expect(tools).toMatchObject([{ type: "custom", name: "apply_patch" }])
    expect(output[1]).toMatchObject({ type: "custom_tool_call", name: "apply_patch", input: text, status: "completed" })
    expect(output[1].id).toMatch(/^ctc_/)
    expect(output[1]).not.toHaveProperty("arguments")
    const streamed = events(
      await (await gateway.post("/v1/responses", { model, input, tools: [patch], stream: true })).text()
    )
    const of = (type: string) => streamed.filter((event) => event.type === type)
    const deltas = of("response.custom_tool_call_input.delta")
    expect(deltas.map(({ delta }) => delta).join("")).toBe(text)
    expect(of("response.custom_tool_call_input.done")).toMatchObject([{ input: text, item_id: deltas[0].item_id }])
    expect(of("response.function_call_arguments.delta")).toEqual([])
    const done = of("response.output_item.done").at(-1)
    expect(done.item).toMatchObject({ id: deltas[0].item_id, type: "custom_tool_call", input: text })
    expect(streamed.at(-1).response.output.at(-1)).toEqual(done.item)
  })

  it("the history of a custom tool is sent on, also with an image as its output", async () => {
    const { gateway, server } = await start(protocol)
    const image = { type: "input_image", image_url: "data:image/png;base64,aGk=" }
    const items = [
      { type: "message", role: "user", content: input },
      { type: "custom_tool_call", call_id: "c1", name: "apply_patch", input: "x" },
      { type: "custom_tool_call_output", call_id: "c1", output: "done" },
      { type: "function_call", call_id: "c2", name: "spawn", namespace: "multi_agent", arguments: "{}" },
      { type: "function_call_output", call_id: "c2", output: [{ type: "input_text", text: "see" }, image] },
      { type: "message", role: "user", content: [{ type: "input_text", text: "More" }] }
    ]
    const response = await gateway.post("/v1/responses", { model, input: items, tools: [patch, agents], store: false })
    expect(response.status).toBe(200)
    const messages = server.chatRequests.at(-1)?.body.messages
    const calls = messages
      .flatMap((one: Json) => one.tool_calls ?? [])
      .map((call: Json) => [call.function.name, call.function.arguments])
    expect(calls).toEqual(
      protocol === "ollama"
        ? [
            ["apply_patch", { input: "x" }],
            ["multi_agent__spawn", {}]
          ]
        : [
            ["apply_patch", '{"input":"x"}'],
            ["multi_agent__spawn", "{}"]
          ]
    )
    expect(messages.filter(({ role }: Json) => role === "tool").map(({ content }: Json) => content)).toEqual([
      "done",
      "see"
    ])
    expect(JSON.stringify(messages)).toContain("aGk=")
  })

  it("a namespace is sent as its functions, whose calls name it", async () => {
    const { gateway, server } = await start(protocol, {
      reply: {
        tokens: [],
        toolCalls: [
          { name: "multi_agent__spawn", arguments: { a: 1 } },
          { name: "multi_agent__say", arguments: { input: "Ho" } }
        ]
      }
    })
    const response = await gateway.post("/v1/responses", { model, input, tools: [agents] })
    expect([response.status, ignored(response)]).toEqual([200, []])
    expect(offered(server).map(({ name }: Json) => name)).toEqual(["multi_agent__spawn", "multi_agent__say"])
    expect((await json(response)).output).toMatchObject([
      { type: "function_call", name: "spawn", namespace: "multi_agent", arguments: '{"a":1}' },
      { type: "custom_tool_call", name: "say", namespace: "multi_agent", input: "Ho" }
    ])
  })
})

describe("what Codex sends", () => {
  it("is accepted unchanged, and ignored fields are reported", async () => {
    const { gateway, server } = await start()
    const body = {
      model,
      stream: true,
      instructions: "Be brief.",
      input: [
        { type: "additional_tools", role: "developer", tools: [{ ...spawn, name: "late" }] },
        {
          type: "message",
          id: "msg_1",
          role: "developer",
          content: [{ type: "input_text", text: "You are an agent." }]
        },
        { type: "message", id: "msg_2", role: "user", content: [{ type: "input_text", text: "Hi" }], phase: "x" },
        { type: "reasoning", id: "rs_1", summary: [], encrypted_content: "gAAA" },
        { type: "web_search_call", status: "completed", action: { type: "search", query: "x" } },
        { type: "ghost_snapshot", ghost_commit: {} }
      ],
      tools: [
        spawn,
        agents,
        patch,
        { type: "web_search", external_web_access: true },
        { type: "image_generation", output_format: "png" },
        { type: "tool_search", execution: "client", description: "x", parameters: {} }
      ],
      tool_choice: "auto",
      parallel_tool_calls: true,
      reasoning: { effort: "none", summary: "auto", context: "all_turns" },
      store: false,
      include: ["reasoning.encrypted_content"],
      prompt_cache_key: "01a",
      text: { verbosity: "low" },
      service_tier: "flex",
      client_metadata: { "x-codex-installation-id": "1" }
    }
    const response = await gateway.post("/v1/responses", body)
    expect(response.status).toBe(200)
    expect(events(await response.text()).at(-1).type).toBe("response.completed")
    expect(ignored(response)).toEqual([
      "client_metadata",
      "include.reasoning.encrypted_content",
      "input[].ghost_commit",
      "input[].ghost_snapshot",
      "input[].web_search_call",
      "reasoning.context",
      "service_tier",
      "tools[].format",
      "tools[].image_generation",
      "tools[].tool_search",
      "tools[].web_search",
      "verbosity"
    ])
    expect(offered(server).map(({ name }: Json) => name)).toEqual([
      "spawn",
      "multi_agent__spawn",
      "multi_agent__say",
      "apply_patch",
      "late"
    ])
  })

  it.each([
    [{ tools: [{ type: "web_search" }], tool_choice: { type: "web_search" } }, "tool_choice.type"],
    [{ tools: [spawn], tool_choice: { type: "function", name: "nope" } }, "tool_choice"],
    [{ tools: [{ type: "web_search" }], tool_choice: "required" }, "tool_choice"],
    [
      {
        tools: [spawn],
        tool_choice: { type: "allowed_tools", mode: "auto", tools: [{ type: "function", name: "nope" }] }
      },
      "tool_choice.tools"
    ],
    [{ input: [{ role: "user", content: "Hi" }, { type: "compaction_trigger" }] }, "input[1].type"],
    [{ input: [{ role: "user", content: [{ type: "input_file", file_id: "f" }] }] }, "input[0].content[0].type"],
    [{ background: true }, "background"]
  ])("%j is refused by name", async (extra, param) => {
    const { gateway, server } = await start()
    const response = await gateway.post("/v1/responses", { model, input, ...extra })
    expect([response.status, (await json(response)).error.param]).toEqual([400, param])
    expect(server.chatRequests).toEqual([])
  })

  it("only allowed tools are offered", async () => {
    const { gateway, server } = await start()
    const tool_choice = { type: "allowed_tools", mode: "auto", tools: [{ type: "custom", name: "apply_patch" }] }
    expect((await gateway.post("/v1/responses", { model, input, tools: [spawn, patch], tool_choice })).status).toBe(200)
    expect(offered(server).map(({ name }: Json) => name)).toEqual(["apply_patch"])
  })
})

describe("references to items", () => {
  it("resolve to stored responses of the same key only", async () => {
    const keys = [
      { name: "a", key: "ka" },
      { name: "b", key: "kb" }
    ]
    const { gateway, server } = await start("ollama", {}, { keys })
    const ask = (key: string, body: object) =>
      gateway.post("/v1/responses", { model, ...body }, { headers: { authorization: `Bearer ${key}` } })
    const first = await json(await ask("ka", { input: "One" }))
    const [{ id }] = first.output
    const second = [
      { role: "user", content: "One" },
      { type: "item_reference", id },
      { role: "user", content: "Two" }
    ]
    expect((await ask("ka", { input: second })).status).toBe(200)
    expect(server.chatRequests.at(-1)?.body.messages.map(({ content, role }: Json) => [role, content])).toEqual([
      ["user", "One"],
      ["assistant", "Well."],
      ["user", "Two"]
    ])
    // It is an item of what was kept the second time, too.
    expect((await ask("ka", { input: [{ id }, ...second.slice(2)] })).status).toBe(200)
    for (const [key, wanted] of [
      ["kb", id],
      ["ka", "msg_nope"]
    ] as const) {
      const response = await ask(key, { input: [{ type: "item_reference", id: wanted }, ...second.slice(2)] })
      expect([response.status, (await json(response)).error]).toMatchObject([
        400,
        { message: expect.stringContaining(`'${wanted}' not found`), code: "item_not_found" }
      ])
    }
  })
})

describe("/v1/responses/compact", () => {
  it("returns items to continue with: the user's messages and a summary", async () => {
    const { client, gateway, server } = await start("ollama", { reply: "They greeted." })
    const response = await gateway.post("/v1/responses/compact", {
      model,
      instructions: "Be brief.",
      input: [
        { role: "user", content: "One" },
        { type: "message", role: "assistant", content: [{ type: "output_text", text: "First." }] },
        { type: "function_call", call_id: "c", name: "f", arguments: "{}" },
        { type: "function_call_output", call_id: "c", output: "x" },
        { role: "user", content: "Two" }
      ]
    })
    const compacted = await json(response)
    expect([response.status, compacted]).toMatchObject([
      200,
      {
        object: "response.compaction",
        output: [{ role: "user" }, { role: "user" }, { type: "compaction", encrypted_content: expect.any(String) }],
        usage: { output_tokens: expect.any(Number) }
      }
    ])
    const sentMessages = server.chatRequests.at(-1)?.body.messages
    expect([sentMessages[0].content, sentMessages.at(-1).content]).toEqual([
      "Be brief.",
      expect.stringContaining("Summarize")
    ])
    await client.responses.create({ model, input: [...compacted.output, { role: "user", content: "Three" }] })
    expect(server.chatRequests.at(-1)?.body.messages.map(({ content }: Json) => content)).toEqual([
      "One",
      "Two",
      expect.stringContaining("They greeted."),
      "Three"
    ])
    const foreign = await gateway.post("/v1/responses", {
      model,
      input: [
        { type: "compaction", encrypted_content: "gAAA" },
        { role: "user", content: "Hi" }
      ]
    })
    expect([foreign.status, ignored(foreign)]).toEqual([200, ["input[].compaction"]])
  })
})

describe("what Claude Code sends", () => {
  const tool = (name: string, extra: object = {}) => ({
    name,
    description: "x",
    input_schema: { type: "object", properties: {} },
    ...extra
  })
  const hi = [{ role: "user", content: "Hi" }]
  const good = { model, max_tokens: 100, messages: hi }

  it("is accepted unchanged, without the billing line", async () => {
    const { gateway, server } = await start()
    const billing = (cch: string) => `x-anthropic-billing-header: cc_version=2.1; cch=${cch};`
    for (const system of [
      [
        { type: "text", text: billing("1") },
        { type: "text", text: "You are an agent.", cache_control: { type: "ephemeral" } }
      ],
      `${billing("2")}\nYou are an agent.`
    ]) {
      const response = await gateway.post(
        "/v1/messages?beta=true",
        {
          ...good,
          system,
          messages: [...hi, { role: "system", content: [{ type: "text", text: "# Environment" }] }],
          tools: [tool("Read"), tool("DeferredToolPlaceholder", { defer_loading: true })],
          thinking: { type: "adaptive", display: "updates" },
          context_management: { edits: [{ type: "clear_thinking_20251015", keep: "all" }] },
          output_config: { effort: "high" },
          metadata: { user_id: "{}" }
        },
        { headers: { "anthropic-version": "2026-10-21", "anthropic-beta": "claude-code-20250219" } }
      )
      expect([response.status, ignored(response)]).toEqual([200, []])
      expect(server.chatRequests.at(-1)?.body.messages.map(({ content }: Json) => content)).toEqual([
        "You are an agent.",
        "Hi",
        "# Environment"
      ])
      expect(offered(server).map(({ name }: Json) => name)).toEqual(["Read"])
    }
  })

  it("a user may write that line", async () => {
    const { gateway, server } = await start()
    await gateway.post("/v1/messages", {
      ...good,
      messages: [{ role: "user", content: "x-anthropic-billing-header: 1" }]
    })
    expect(server.chatRequests.at(-1)?.body.messages[0].content).toContain("billing")
  })

  const search = (content: unknown) => [
    ...hi,
    { role: "assistant", content: [{ type: "tool_use", id: "t", name: "ToolSearch", input: {} }] },
    { role: "user", content: [{ type: "tool_result", tool_use_id: "t", content }] }
  ]
  it.each<[what: string, extra: object, names: ReadonlyArray<string>]>([
    ["none is named", { messages: hi }, ["ToolSearch"]],
    ["one is named", { messages: search([{ type: "tool_reference", tool_name: "A" }]) }, ["ToolSearch", "A"]],
    [
      "two are named",
      {
        messages: search([
          { type: "tool_reference", tool_name: "B" },
          { type: "tool_reference", tool_name: "A" }
        ])
      },
      ["ToolSearch", "A", "B"]
    ]
  ])("deferred tools: %s", async (_, extra, names) => {
    const { gateway, server } = await start()
    const tools = [tool("ToolSearch"), tool("A", { defer_loading: true }), tool("B", { defer_loading: true })]
    const response = await gateway.post("/v1/messages", { ...good, tools, ...extra })
    expect(response.status).toBe(200)
    expect(offered(server).map(({ name }: Json) => name)).toEqual(names)
  })

  it("with Anthropic's own tool search, all are offered", async () => {
    const { gateway, server } = await start()
    const tools = [
      { type: "tool_search_tool_regex_20251119", name: "tool_search_tool_regex" },
      tool("A", { defer_loading: true }),
      tool("B")
    ]
    const response = await gateway.post("/v1/messages", { ...good, tools })
    expect([response.status, ignored(response)]).toEqual([200, ["tools[].tool_search_tool_regex_20251119"]])
    expect(offered(server).map(({ name }: Json) => name)).toEqual(["A", "B"])
  })

  it.each<[extra: object, names: ReadonlyArray<string>]>([
    [{ tools: [{ type: "web_search_20250305", name: "web_search", max_uses: 3 }] }, ["tools[].web_search_20250305"]],
    [{ tools: [{ type: "bash_20250124", name: "bash" }] }, ["tools[].bash_20250124"]],
    [{ mcp_servers: [{ type: "url", url: "https://x", name: "y" }] }, ["mcp_servers"]],
    [{ container: "c", service_tier: "auto", betas: ["x"] }, ["betas", "container", "service_tier"]],
    [
      { context_management: { edits: [{ type: "clear_tool_uses_20250919" }] } },
      ["context_management.edits[].clear_tool_uses_20250919"]
    ],
    [
      {
        messages: [
          ...hi,
          {
            role: "assistant",
            content: [
              { type: "server_tool_use", id: "s", name: "web_search", input: {} },
              { type: "web_search_tool_result", tool_use_id: "s", content: [] },
              { type: "text", text: "Found." }
            ]
          },
          { role: "user", content: "More" }
        ]
      },
      ["messages[].content[].server_tool_use", "messages[].content[].web_search_tool_result"]
    ],
    [
      {
        cache_control: { type: "ephemeral" },
        messages: [
          { role: "user", content: [{ type: "text", text: "Hi", cache_control: { type: "ephemeral", ttl: "1h" } }] }
        ]
      },
      []
    ]
  ])("%j", async (extra, names) => {
    const { gateway, server } = await start()
    const response = await gateway.post("/v1/messages", { ...good, ...extra })
    expect([response.status, ignored(response)]).toEqual([200, names])
    expect(offered(server)).toBeUndefined()
  })

  it.each<[name: string, messages: ReadonlyArray<object>]>([
    ["nothing said", [{ role: "user", content: [] }]],
    [
      "no input",
      [
        ...hi,
        { role: "assistant", content: [{ type: "tool_use", id: "a", name: "f" }] },
        { role: "user", content: [{ type: "tool_result", tool_use_id: "a" }] }
      ]
    ],
    [
      "input as a text",
      [
        ...hi,
        { role: "assistant", content: [{ type: "tool_use", id: "a", name: "f", input: "{" }] },
        { role: "user", content: [{ type: "tool_result", tool_use_id: "a", content: "x" }] }
      ]
    ],
    [
      "only thoughts",
      [...hi, { role: "assistant", content: [{ type: "thinking", signature: "x" }] }, { role: "user", content: "More" }]
    ],
    [
      "a call without a result",
      [
        ...hi,
        { role: "assistant", content: [{ type: "tool_use", id: "a", name: "f", input: {} }] },
        { role: "user", content: "More" }
      ]
    ],
    [
      "a search's result",
      [
        {
          role: "user",
          content: [{ type: "search_result", source: "s", title: "t", content: [{ type: "text", text: "x" }] }]
        }
      ]
    ]
  ])("a history is sent on: %s", async (_, messages) => {
    for (const protocol of ["ollama", "openai"] as const) {
      const { gateway } = await start(protocol)
      expect((await gateway.post("/v1/messages", { ...good, messages })).status).toBe(200)
    }
  })
})

describe("the streamed input of a custom tool", () => {
  it("is the same for any split, and emitted as early as possible", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom("a", '"', "\\", "\n", "é", "😀", "\u0001", "u00", "{") }),
        fc.boolean(),
        fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 5 }),
        (input, escaped, sizes) => {
          const plain = JSON.stringify({ input })
          const json = escaped
            ? plain.replace(/[^\0-\x7f]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`)
            : plain
          const reader = new CustomToolInputReader()
          let output = ""
          let at = 0
          for (let i = 0; at < json.length; i++) {
            const size = sizes[i % sizes.length] ?? 1
            const added = reader.push(json.slice(at, at + size))
            expect(added).not.toMatch(/[\ud800-\udbff]$/)
            output += added
            at += size
          }
          expect(output + reader.end(input)).toBe(input)
          expect(output).toBe(input)
        }
      ),
      { numRuns: 500 }
    )
  })

  it("other input is emitted at the end", () => {
    const reader = new CustomToolInputReader()
    expect([reader.push("*** Begin"), reader.push(" Patch"), reader.end("*** Begin Patch")]).toEqual([
      "",
      "",
      "*** Begin Patch"
    ])
  })
})

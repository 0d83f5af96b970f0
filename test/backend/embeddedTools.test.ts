import { afterAll, describe, expect, it } from "vitest"
import { asText, callSchema, formOf, type ToolForm, ToolReader } from "../../src/backend/embeddedTools.js"
import type { ToolDefinition } from "../../src/ChatRequest.js"
import * as Message from "../../src/Message.js"
import { openEngine, type TestEngine, useVariants } from "../support/embeddedEngine.js"

const variants = useVariants()
const engines: Array<TestEngine> = []
const open = (template: string | undefined) => {
  const engine = openEngine({ modelPath: variants.write(template) })
  engines.push(engine)
  return engine
}
afterAll(async () => {
  await Promise.all(engines.map((engine) => engine.close()))
  variants.remove()
})

const capital: ToolDefinition = {
  name: "capital",
  description: "The capital of a country.",
  parameters: { type: "object", properties: { country: { enum: ["France", "Italy"] } }, required: ["country"] }
}
const time: ToolDefinition = { name: "time" }

const templates: { readonly [F in ToolForm]: string } = {
  tagged:
    "{% if tools %}<|im_start|>system\n{{ tools | tojson }} <tool_call><|im_end|>\n{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}<|im_end|>\n{% endfor %}<|im_start|>assistant{{ '\n' }}",
  listed:
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if tools %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}{# [TOOL_CALLS] #}<|im_start|>assistant{{ '\n' }}",
  bare: "{% for m in messages %}<|im_start|>{{ 'ipython' if m.role == 'tool' else m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{{ tools | tojson if tools else '' }}<|im_start|>assistant{{ '\n' }}",
  told: "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant{{ '\n' }}"
}

describe("tools of the engine", () => {
  it.each(Object.entries(templates))("recognizes the form %s by the template", (form, template) => {
    expect(formOf(template)).toBe(form)
  })

  it.each([
    ["{{ tools }} [TOOL_CALLS] [ARGS]", "told"],
    ["{{ tools }} <tool_call>\n<function=x>", "told"],
    ["{{ tools }}", "told"]
  ])("a template without tools gets instructions: %s", (template, form) => {
    expect(formOf(template)).toBe(form)
  })

  it.each(Object.entries(templates))("a forced call follows its schema: %s", async (_, template) => {
    const engine = open(template)
    for (const toolChoice of ["required", { name: "capital" }] as const) {
      const { calls, failure, finish, text } = await engine.ask({
        messages: [Message.user("What is the capital of France?")],
        tools: toolChoice === "required" ? [capital] : [capital, time],
        toolChoice,
        maxTokens: 200
      })
      expect(failure).toBeUndefined()
      expect(calls[0]).toMatchObject({
        id: expect.stringMatching(/^call_/),
        name: "capital",
        arguments: { country: expect.stringMatching(/^(France|Italy)$/) }
      })
      expect(finish?.reason).toBe(finish?.usage.completionTokens === 200 ? "length" : "tool_calls")
      expect(text).not.toContain("tool_call")
    }
  })

  it("there is no call if the model answers, or must not call", async () => {
    const engine = open(templates.told)
    const messages = [Message.user("What is the capital of France?")]
    const none = await engine.ask({ messages, tools: [capital], toolChoice: "none" })
    expect(none).toMatchObject({ text: "The capital of France is Paris.", calls: [], finish: { reason: "stop" } })
    const auto = await engine.ask({ messages: [Message.user("Count to five.")], tools: [capital], maxTokens: 20 })
    expect(auto.failure).toBeUndefined()
  })

  it("a truncated call is marked, with its partial arguments", async () => {
    const long = {
      name: "note",
      parameters: { type: "object", properties: { text: { type: "string", minLength: 300 } }, required: ["text"] }
    }
    const { calls, finish } = await open(templates.tagged).ask({
      messages: [Message.user("Tell me a story.")],
      tools: [long],
      toolChoice: "required",
      maxTokens: 36
    })
    expect(finish?.reason).toBe("length")
    expect(calls[0]).toMatchObject({ name: "note", arguments: {}, rawArguments: expect.stringMatching(/^\{/) })
  })

  it("the built-in model refuses tools, by name", () => {
    const { backend } = openEngine()
    const request = { messages: [Message.user("Hi")], tools: [capital] }
    expect(backend.unsupported(request as never)).toMatchObject([{ field: "tools" }])
  })
})

describe("calls in the output of a model", () => {
  const names = new Set(["capital", "time"])
  /** Everything that comes, whatever pieces it comes in. */
  const read = (form: ToolForm, output: string, size: number, forced = false) => {
    const reader = new ToolReader(form, names, forced)
    let text = ""
    const calls: Array<Message.ToolCall> = []
    for (let at = 0; at < output.length; at += size) {
      const piece = reader.push(output.slice(at, at + size))
      text += piece.text
      calls.push(...piece.calls)
    }
    const rest = reader.rest()
    return { text: text + rest.text, calls: [...calls, ...rest.calls].map(({ id: _, ...call }) => call) }
  }
  const france = { name: "capital", arguments: { country: "France" } }
  const now = { name: "time", arguments: {} }
  const braces = { name: "capital", arguments: { country: 'a "}" b</tool_call>' } }

  it.each<[string, ToolForm, string, string, ReadonlyArray<object>]>([
    [
      "one",
      "tagged",
      '<tool_call>\n{"name": "capital", "arguments": {"country": "France"}}\n</tool_call>',
      "",
      [france]
    ],
    [
      "text before",
      "tagged",
      'Let me see.\n<tool_call>{"name": "time", "arguments": {}}</tool_call>',
      "Let me see.",
      [now]
    ],
    [
      "two",
      "tagged",
      '<tool_call>{"name": "time", "arguments": {}}</tool_call>\n<tool_call>\n{"name": "capital", "arguments": {"country": "France"}}\n</tool_call>',
      "",
      [now, france]
    ],
    ["text after", "tagged", '<tool_call>{"name": "time"}</tool_call> Done.', "Done.", [now]],
    ["braces in a string", "tagged", `<tool_call>${JSON.stringify(braces)}</tool_call>`, "", [braces]],
    ["no call", "tagged", "1 < 2 and <tool> is text <tool_cal", "1 < 2 and <tool> is text <tool_cal", []],
    [
      "an unknown tool",
      "tagged",
      '<tool_call>{"name": "other", "arguments": {}}</tool_call>',
      '{"name": "other", "arguments": {}}</tool_call>',
      []
    ],
    ["not closed", "tagged", '<tool_call>{"name": "time", "arguments": {}}', "", [now]],
    ["no JSON", "tagged", "<tool_call> maybe later", "<tool_call> maybe later", []],
    [
      "a list",
      "listed",
      '[TOOL_CALLS][{"name": "time", "arguments": {}}, {"name": "capital", "arguments": {"country": "France"}}]',
      "",
      [now, france]
    ],
    ["text", "listed", "It is [noon].", "It is [noon].", []],
    ["bare", "bare", '{"name": "capital", "parameters": {"country": "France"}}', "", [france]],
    ["bare, marked", "bare", '<|python_tag|>{"name": "time", "parameters": {}}', "", [now]],
    ["JSON that is no call", "bare", '{"capital": "Paris"}', '{"capital": "Paris"}', []],
    ["text", "bare", 'The call {"name": "time"} is text.', 'The call {"name": "time"} is text.', []],
    ["JSON that was cut", "bare", '{"capital": "Par', '{"capital": "Par', []]
  ])("%s (%s)", (_, form, output, text, calls) => {
    for (const size of [1, 2, 7, 1000]) expect(read(form, output, size)).toEqual({ text, calls })
  })

  it("a truncated call has no arguments", () => {
    const cut = '<tool_call>{"name": "capital", "arguments": {"country": "Fr'
    for (const size of [1, 5, 1000]) {
      expect(read("tagged", cut, size)).toEqual({
        text: "",
        calls: [{ name: "capital", arguments: {}, rawArguments: '{"country": "Fr' }]
      })
    }
  })

  it("the schema of a forced call lists every tool with its own parameters", () => {
    expect(callSchema("tagged", [capital])).toMatchObject({
      type: "object",
      properties: { name: { const: "capital" } }
    })
    expect(callSchema("listed", [capital, time])).toMatchObject({ type: "array" })
    expect(JSON.stringify(callSchema("bare", [capital, time]))).toContain("parameters")
  })

  it("a template without tools gets tools, calls and results as text", () => {
    const call = { id: "1", ...france }
    const messages = asText(
      [
        Message.user("Hi"),
        { role: "assistant", content: "", toolCalls: [call] },
        { role: "tool", content: "Paris", toolCallId: "1", toolName: "capital" }
      ],
      [capital]
    )
    expect(messages.map(({ role }) => role)).toEqual(["system", "user", "assistant", "user"])
    expect(Message.text(messages[0] as Message.Message)).toContain('"name":"capital"')
    expect(Message.text(messages[2] as Message.Message)).toContain("<tool_call>")
    expect(Message.text(messages[3] as Message.Message)).toContain("<tool_response>\nParis")
  })
})

/** Tool calls: how tools are described to a model, and how its calls are found in its output. */
import type { ChatRequest, JsonObject, ToolDefinition } from "../ChatRequest.js"
import { grammarSchema } from "../internal/grammarSchema.js"
import { isObject } from "../internal/isObject.js"
import { partialMark } from "../internal/partialMark.js"
import * as ToolArguments from "../internal/toolArguments.js"
import type { AssistantMessage, Message, ToolCall, ToolMessage } from "../Message.js"
import { callId } from "./http.js"

/**
 * The forms in which models write calls:
 *
 * - `tagged`: `<tool_call>{"name": …, "arguments": …}</tool_call>`, as Hermes, Qwen and many others do
 * - `listed`: `[TOOL_CALLS][{"name": …, "arguments": …}]`, as Mistral's do
 * - `bare`: `{"name": …, "parameters": …}` and nothing else, as Llama 3 does
 * - `told`: the template knows no tools, or writes calls in another form: the system message explains `tagged`
 */
export type ToolForm = "tagged" | "listed" | "bare" | "told"

/** The form of a template, by its source. */
export const formOf = (template: string): ToolForm => {
  if (!/\btools\b/.test(template) || template.includes("<function=")) return "told"
  if (template.includes("<tool_call>")) return "tagged"
  if (template.includes("[TOOL_CALLS]")) return template.includes("[ARGS]") ? "told" : "listed"
  return template.includes("python_tag") || /\bipython\b/.test(template) ? "bare" : "told"
}

const marks: { readonly [F in ToolForm]: readonly [begin: string, end: string] } = {
  tagged: ["<tool_call>", "</tool_call>"],
  told: ["<tool_call>", "</tool_call>"],
  listed: ["[TOOL_CALLS]", ""],
  bare: ["", ""]
}

/** What a prompt ends with where the model must call a tool. */
export const openingOf = (form: ToolForm): string =>
  form === "listed" || form === "bare" ? marks[form][0] : "<tool_call>\n"

/** The tools that a request offers: none where it must not call any. */
export const offered = ({ toolChoice, tools }: ChatRequest): ReadonlyArray<ToolDefinition> =>
  toolChoice === "none"
    ? []
    : typeof toolChoice === "object"
      ? tools.filter(({ name }) => name === toolChoice.name)
      : tools

/** Whether the answer has to be a call. */
export const isForced = ({ toolChoice, tools }: ChatRequest): boolean =>
  tools.length > 0 && toolChoice !== undefined && toolChoice !== "auto" && toolChoice !== "none"

/** A tool in the form that templates take. */
export const described = ({ description, name, parameters }: ToolDefinition): JsonObject => ({
  type: "function",
  function: {
    name,
    ...(description === undefined ? {} : { description }),
    parameters: parameters ?? { type: "object", properties: {} }
  }
})

/** The JSON Schema of a call. */
export const callSchema = (form: ToolForm, tools: ReadonlyArray<ToolDefinition>): JsonObject => {
  const key = form === "bare" ? "parameters" : "arguments"
  const one = tools.map(({ name, parameters }) => ({
    type: "object",
    properties: { name: { const: name }, [key]: parameters ?? { type: "object", properties: {} } },
    required: ["name", key],
    additionalProperties: false
  }))
  // References in the parameters of a tool point into these.
  const [first] = tools
  const defs = tools.length === 1 ? first?.parameters?.["$defs"] : undefined
  const schema = { ...(one.length === 1 ? one[0] : { anyOf: one }), ...(defs === undefined ? {} : { $defs: defs }) }
  return grammarSchema(form === "listed" ? { type: "array", items: schema, minItems: 1 } : schema)
}

// =============================================================================
// Conversations for templates that know no tools
// =============================================================================

const explained = (tools: ReadonlyArray<ToolDefinition>): string =>
  [
    "You can call these tools:",
    ...tools.map((tool) => JSON.stringify(described(tool)["function"])),
    'To call one, write <tool_call>{"name": "its name", "arguments": {…}}</tool_call> and nothing after it.'
  ].join("\n")

const written = ({ arguments: args, name, rawArguments }: ToolCall): string =>
  `<tool_call>\n${rawArguments === undefined ? JSON.stringify({ name, arguments: args }) : `{"name": ${JSON.stringify(name)}, "arguments": ${rawArguments}}`}\n</tool_call>`

const callsAsText = ({ content, toolCalls = [] }: AssistantMessage): AssistantMessage => ({
  role: "assistant",
  content: [...(content === "" ? [] : [content]), ...toolCalls.map(written)].join("\n")
})

const resultAsText = ({ content }: ToolMessage): Message => ({
  role: "user",
  content: `<tool_response>\n${content}\n</tool_response>`
})

/** The conversation with its tools, calls and results as text. */
export const asText = (
  messages: ReadonlyArray<Message>,
  tools: ReadonlyArray<ToolDefinition>
): ReadonlyArray<Message> => {
  const made: Array<Message> = messages.map((message) =>
    message.role === "tool"
      ? resultAsText(message)
      : message.role === "assistant" && (message.toolCalls ?? []).length > 0
        ? callsAsText(message)
        : message
  )
  if (tools.length === 0) return made
  const [first] = made
  const about = explained(tools)
  if (first?.role !== "system" && first?.role !== "developer") return [{ role: "system", content: about }, ...made]
  return [{ role: "system", content: first.content === "" ? about : `${first.content}\n\n${about}` }, ...made.slice(1)]
}

// =============================================================================
// Calls in the output
// =============================================================================

/** Finds where a JSON value ends. */
class JsonEnd {
  private depth = 0
  private quoted = false
  private escaped = false

  /** The index after its last character; -1 where more must come. */
  push(text: string): number {
    for (let i = 0; i < text.length; i++) {
      const char = text[i]
      if (this.quoted) {
        if (this.escaped) this.escaped = false
        else if (char === "\\") this.escaped = true
        else if (char === '"') this.quoted = false
      } else if (char === '"') this.quoted = true
      else if (char === "{" || char === "[") this.depth++
      else if ((char === "}" || char === "]") && --this.depth === 0) return i + 1
    }
    return -1
  }
}

/** A piece of the output: the text of the answer, and the calls that it completes. */
export interface ToolPiece {
  readonly text: string
  readonly calls: ReadonlyArray<ToolCall>
}

/** Reads the output of a model that may call tools. */
export class ToolReader {
  private held = ""
  private state: "begin" | "text" | "call"
  private json = new JsonEnd()
  /** Nothing but white space has come since the last call. */
  private called = false
  private readonly begin: string
  private readonly end: string

  constructor(
    private readonly form: ToolForm,
    private readonly names: ReadonlySet<string>,
    forced: boolean
  ) {
    ;[this.begin, this.end] = marks[form]
    this.state = forced ? "call" : form === "bare" ? "begin" : "text"
  }

  /** Whether a call is being written of which nothing has come yet: a grammar may begin here. */
  get atCall(): boolean {
    return this.state === "call" && this.held.trim() === ""
  }
  /** Whether a call is being written. */
  get inCall(): boolean {
    return this.state === "call"
  }

  push(piece: string): ToolPiece {
    const calls: Array<ToolCall> = []
    let text = ""
    let rest = piece
    while (rest !== "") {
      if (this.state === "begin") {
        this.held += rest
        rest = ""
        const start = this.held.trimStart()
        if (start === "" || "<|python_tag|>".startsWith(start)) break
        rest = start.startsWith("<|python_tag|>") ? start.slice("<|python_tag|>".length) : start
        this.state = rest.startsWith("{") ? "call" : "text"
        if (this.state === "text") rest = this.held
        this.held = ""
      } else if (this.state === "call") {
        const at = this.json.push(rest)
        this.held += at === -1 ? rest : rest.slice(0, at)
        if (at === -1) break
        rest = rest.slice(at)
        text += this.complete(calls)
      } else if (this.form === "bare") {
        text += rest
        rest = ""
      } else {
        this.held += rest
        rest = ""
        // The end of a call, and the space between two of them, are not text.
        if (this.called) {
          this.held = this.held.trimStart()
          if (this.held.startsWith(this.end)) this.held = this.held.slice(this.end.length).trimStart()
          else if (this.end.startsWith(this.held)) break
        }
        const at = this.held.indexOf(this.begin)
        const whole = at === -1 ? this.held.length - partialMark(this.held, this.begin) : at
        // White space before a call is no text either.
        const upTo = this.held.slice(0, whole).trimEnd().length
        text += this.held.slice(0, upTo)
        this.held = this.held.slice(at === -1 ? upTo : at)
        if (upTo > 0) this.called = false
        if (at === -1) break
        rest = this.held.slice(this.begin.length)
        this.held = ""
        this.state = "call"
      }
    }
    return { text, calls }
  }

  /** What was held back at the end: a call that was cut off is one whose arguments cannot be read. */
  rest(): ToolPiece {
    const { held, state } = this
    this.held = ""
    if (state !== "call") return { text: this.called && this.end.startsWith(held) ? "" : held, calls: [] }
    const name = /"name"\s*:\s*"([^"]*)"/.exec(held)?.[1]
    if (name === undefined || !this.names.has(name)) return { text: this.begin + held, calls: [] }
    const args = /"(?:arguments|parameters)"\s*:\s*([\s\S]*)$/.exec(held)?.[1] ?? ""
    return { text: "", calls: [{ id: callId(), name, ...ToolArguments.invalid(args) }] }
  }

  /** The calls of a complete JSON value; what is none is text. */
  private complete(calls: Array<ToolCall>): string {
    const { held } = this
    this.held = ""
    this.json = new JsonEnd()
    this.state = "text"
    let value: unknown
    try {
      value = JSON.parse(held)
    } catch {
      return held
    }
    const found: Array<ToolCall> = []
    for (const one of Array.isArray(value) ? value : [value]) {
      if (!isObject(one) || typeof one["name"] !== "string" || !this.names.has(one["name"])) return held
      found.push({
        id: callId(),
        name: one["name"],
        ...ToolArguments.read(one["arguments"] ?? one["parameters"])
      })
    }
    calls.push(...found)
    this.called = true
    return ""
  }
}

/**
 * Converts the tools of the Responses API to functions. A custom tool takes a text, and becomes a function with one
 * string parameter; a namespace becomes its functions, each prefixed with the namespace. Server-side tools of OpenAI
 * are omitted.
 */
import type { ToolChoice, ToolDefinition } from "../../../../ChatRequest.js"
import * as BodyFields from "../../../http/body.js"
import * as Body from "../../../http/bodyDeclaration.js"
import { reject } from "../../../http/errorResponse.js"
import type { IgnoredFields } from "../../../http/fieldPolicy.js"
import * as CommonFields from "../../../pipeline/commonFields.js"
import * as ChatTools from "../tools.js"

/** The client's view of a tool that servers know by another name. */
export interface ToolKind {
  readonly custom: boolean
  readonly name: string
  readonly namespace: string | undefined
}

/** The namespace of tools outside any namespace. */
const noNamespace = "functions"
/** Maximum length of a function name. */
const longest = 64

const hash = (text: string): string => {
  let h = 0x811c9dc5
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193)
  return (h >>> 0).toString(36)
}

/** The name that servers see. */
const offered = (name: string, namespace: string | undefined): string => {
  if (namespace === undefined || namespace === "" || namespace === noNamespace) return name
  const whole = `${namespace.endsWith("__") ? namespace : `${namespace}__`}${name}`.replace(/[^\w.:-]/g, "_")
  return whole.length <= longest ? whole : `${whole.slice(0, longest - 8)}_${hash(whole)}`
}

const input = {
  type: "object",
  properties: { input: { type: "string", description: "The whole input of the tool, as it is." } },
  required: ["input"],
  additionalProperties: false
}

const name = Body.needed(CommonFields.toolName)
const description = Body.text()
const deferred = Body.flag({ doc: "Offered at once: there is no tool search." })
const grammar = Body.struct({ type: Body.text(), syntax: Body.text(), definition: Body.text() })

const type = Body.required(Body.text())
const callable = {
  function: Body.struct({
    type,
    name,
    description,
    parameters: Body.json({ doc: "The JSON Schema of a function's arguments." }),
    strict: Body.flag(),
    defer_loading: deferred
  }),
  custom: Body.struct({
    type,
    name,
    description,
    format: Body.object(
      { doc: "The grammar of a custom tool's input, which only its description can state." },
      grammar
    ),
    defer_loading: deferred
  })
}

/** A tool of any type; those that servers do not run are left out, and named. */
export const anyTool = Body.variants(
  "type",
  {
    ...callable,
    namespace: Body.struct({
      type,
      name: Body.required(Body.text()),
      description: Body.unread,
      tools: Body.list(Body.variants("type", callable, { others: { refused: [] } }), {
        doc: "The tools of a namespace."
      })
    })
  },
  { others: { refused: [] } }
)
const shapes = anyTool.of

/** No server can enforce a grammar inside JSON, but the description can state it. */
const described = (tool: BodyFields.Fields, at: string, ignored: IgnoredFields): string | undefined => {
  const { within } = shapes.custom
  const description = within.description(tool, at)
  const format = within.format(tool, at)
  if (format === undefined || grammar.within.type(format, `${at}.format`) === "text") return description
  ignored.checkObject(format, grammar.names, `${at}.format`)
  ignored.add(`${at}.format`)
  const definition = grammar.read.definition(format, `${at}.format.definition`)
  if (definition === undefined) return description
  const syntax = grammar.read.syntax(format, `${at}.format.syntax`) ?? "grammar"
  return `${description ?? ""}\n\nThe input must follow this grammar (${syntax}):\n${definition}`.trim()
}

/** The text input of a custom tool call. If the model did not write the expected object, its output is the text. */
const inputOf = (args: unknown): string => {
  const text = typeof args === "string" ? args : ""
  if (text === "") return ""
  try {
    const { input: given } = JSON.parse(text) as { readonly input?: unknown }
    return typeof given === "string" ? given : text
  } catch {
    return text
  }
}

/** The tools of one request. */
export class Tools {
  readonly definitions: Array<ToolDefinition> = []
  /** Tools that are not called by their own name, or are not functions. */
  private readonly kinds = new Map<string, ToolKind>()
  private readonly names = new Set<string>()
  /** The types of omitted tools. */
  private readonly left = new Set<string>()

  constructor(private readonly ignored: IgnoredFields) {}

  add(tools: ReadonlyArray<unknown>, at: string, namespace?: string): void {
    for (const [i, tool] of tools.entries()) {
      const here = `${at}[${i}]`
      if (!BodyFields.isObject(tool)) {
        reject(here, "must be an object")
        continue
      }
      const type = shapes.function.within.type(tool, here)
      switch (type) {
        case "function":
          this.function(tool, here, namespace)
          break
        case "custom":
          this.custom(tool, here, namespace)
          break
        case "namespace": {
          this.ignored.checkObject(tool, shapes.namespace.names, here)
          const name = shapes.namespace.within.name(tool, here)
          if (namespace !== undefined) reject(`${here}.type`, "must not be a namespace within another")
          this.add(shapes.namespace.within.tools(tool, here) ?? [], `${here}.tools`, name)
          break
        }
        default:
          this.left.add(type)
          this.ignored.add(`${here}.${type}`)
      }
    }
  }

  private enter(definition: ToolDefinition, custom: boolean, namespace: string | undefined): void {
    const { name } = definition
    const offeredName = offered(name, namespace)
    // Clients repeat some tools in the course of a conversation.
    if (this.names.has(offeredName)) return
    this.names.add(offeredName)
    if (custom || offeredName !== name) this.kinds.set(offeredName, { custom, name, namespace })
    this.definitions.push(offeredName === name ? definition : { ...definition, name: offeredName })
  }

  private function(tool: BodyFields.Fields, at: string, namespace: string | undefined): void {
    const { defer_loading: _, ...rest } = tool
    this.ignored.checkObject(tool, shapes.function.names, at)
    this.deferred(tool, at)
    this.enter(ChatTools.definition(rest, at, this.ignored), false, namespace)
  }

  /** There is no tool search here: deferred tools are offered at once. */
  private deferred(tool: BodyFields.Fields, at: string): void {
    if (shapes.function.within.defer_loading(tool, at) === true) this.ignored.add(`${at}.defer_loading`)
  }

  private custom(tool: BodyFields.Fields, at: string, namespace: string | undefined): void {
    this.ignored.checkObject(tool, shapes.custom.names, at)
    this.deferred(tool, at)
    const { name } = tool
    const description = described(tool, at, this.ignored)
    const definition = ChatTools.definition({ name, description, parameters: input }, at, this.ignored)
    this.enter(definition, true, namespace)
  }

  /** The client's view of a tool that a server calls by this name. */
  kindOf(name: string): ToolKind | undefined {
    return this.kinds.get(name)
  }

  /** Translates a tool, or a call of one, from the server's name to the client's. */
  forClient(item: BodyFields.Fields): BodyFields.Fields {
    const kind = this.kinds.get(String(item["name"]))
    if (kind === undefined) return item
    const { arguments: args, parameters: _, strict: __, ...rest } = item
    const place = kind.namespace === undefined ? {} : { namespace: kind.namespace }
    if (!kind.custom) return { ...item, name: kind.name, ...place }
    const isCall = item["type"] === "function_call"
    return {
      ...rest,
      type: isCall ? "custom_tool_call" : "custom",
      name: kind.name,
      ...place,
      ...(isCall ? { input: inputOf(args) } : {})
    }
  }

  /** `undefined` if the model decides. */
  choice(body: BodyFields.Fields): ToolChoice | undefined {
    const value = body["tool_choice"]
    if (!BodyFields.isObject(value)) return ChatTools.toolChoice(body, this.definitions, false)
    const type = BodyFields.required(value, "type", "tool_choice.type")
    if (type === "allowed_tools") return this.allow(value)
    if (type !== "function" && type !== "custom") {
      const reason = this.left.has(type) ? "no server here runs such a tool" : "there is no such tool here"
      return BodyFields.unsupported("tool_choice.type", `'${type.slice(0, 40)}': ${reason}`)
    }
    const name = this.named(value)
    return ChatTools.toolChoice({ tool_choice: { type: "function", name } }, this.definitions, false)
  }

  private named(value: BodyFields.Fields): string {
    const { read } = ChatTools.flatChoice.of.function
    const name = read.name(value, "tool_choice.name")
    return offered(name, read.namespace(value, "tool_choice.namespace"))
  }

  /** `allowed_tools`: the other tools are not offered. */
  private allow(value: BodyFields.Fields): ToolChoice | undefined {
    const { read } = ChatTools.flatChoice.of.allowed_tools
    const mode = read.mode(value, "tool_choice.mode") ?? "auto"
    const names = new Set<string>()
    for (const tool of read.tools(value, "tool_choice.tools") ?? []) {
      if (BodyFields.isObject(tool) && typeof tool["name"] === "string") names.add(this.named(tool))
    }
    const kept = this.definitions.filter(({ name }) => names.has(name))
    if (kept.length === 0) reject("tool_choice.tools", "names no tool that is among tools")
    this.definitions.splice(0, this.definitions.length, ...kept)
    return mode
  }

  /** The server-side name of a tool that was called in an earlier turn. */
  static offered(name: string, namespace: string | undefined): string {
    return offered(name, namespace)
  }
}

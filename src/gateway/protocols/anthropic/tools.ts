/** Converts the tools of Anthropic's Messages API. */
import type { ToolChoice, ToolDefinition } from "../../../ChatRequest.js"
import * as BodyFields from "../../http/body.js"
import { reject } from "../../http/errorResponse.js"
import type { IgnoredFields } from "../../http/fieldPolicy.js"
import * as GatewayRequest from "../../pipeline/gatewayRequest.js"

const known: ReadonlySet<string> = new Set([
  "type",
  "name",
  "description",
  "input_schema",
  "strict",
  "cache_control",
  "eager_input_streaming",
  "defer_loading",
  "allowed_callers"
])

const definition = (tool: BodyFields.Fields, at: string, ignored: IgnoredFields): ToolDefinition => {
  for (const name in tool) {
    if (known.has(name) || tool[name] === null) continue
    if (name === "input_examples") ignored.add(`${at}.${name}`)
    else ignored.unknown(`${at}.${name}`, "of a tool")
  }
  const description = BodyFields.text(tool, "description", `${at}.description`)
  const strict = BodyFields.flag(tool, "strict", `${at}.strict`)
  BodyFields.object(tool, "cache_control", `${at}.cache_control`)
  // Fine-grained streaming makes no difference: the input is delivered when complete.
  BodyFields.flag(tool, "eager_input_streaming", `${at}.eager_input_streaming`)
  if (BodyFields.list(tool, "allowed_callers", `${at}.allowed_callers`)?.some((caller) => caller !== "direct")) {
    ignored.add(`${at}.allowed_callers`)
  }
  return {
    name: GatewayRequest.toolName(tool, at),
    ...(description === undefined ? {} : { description }),
    parameters:
      BodyFields.json(tool, "input_schema", `${at}.input_schema`) ?? reject(`${at}.input_schema`, "is missing"),
    ...(strict === undefined ? {} : { strict })
  }
}

/**
 * Whether deferred tools can be found by one of the client's own tools, which names them in its result. For Anthropic's
 * own tool search, all tools are offered at once: there is no such search here.
 */
const deferring = (all: ReadonlyArray<unknown>): boolean => {
  let any = false
  for (const tool of all) {
    if (!BodyFields.isObject(tool)) continue
    if (typeof tool["type"] === "string" && tool["type"].startsWith("tool_search_tool")) return false
    if (tool["defer_loading"] === true) any = true
  }
  return any
}

/** The tools named by results in the conversation. */
const referenced = ({ messages }: BodyFields.Fields): ReadonlySet<string> => {
  const names = new Set<string>()
  const visit = (content: unknown, depth: number): void => {
    if (!Array.isArray(content)) return
    for (const block of content as ReadonlyArray<unknown>) {
      if (!BodyFields.isObject(block)) continue
      if (block["type"] === "tool_reference" && typeof block["tool_name"] === "string") names.add(block["tool_name"])
      else if (depth < 3)
        visit(BodyFields.isObject(block["content"]) ? [block["content"]] : block["content"], depth + 1)
      if (depth < 3) visit(block["tool_references"], depth + 1)
    }
  }
  if (Array.isArray(messages)) {
    for (const message of messages as ReadonlyArray<unknown>) {
      if (BodyFields.isObject(message)) visit(message["content"], 0)
    }
  }
  return names
}

export const tools = (body: BodyFields.Fields, ignored: IgnoredFields): ReadonlyArray<ToolDefinition> => {
  const all = BodyFields.list(body, "tools") ?? []
  const names = new Set<string>()
  const made: Array<ToolDefinition> = []
  const found = deferring(all) ? referenced(body) : undefined
  for (const [i, tool] of all.entries()) {
    const at = `tools[${i}]`
    if (!BodyFields.isObject(tool)) return reject(at, "must be an object")
    const type = BodyFields.text(tool, "type", `${at}.type`) ?? "custom"
    if (type !== "custom") {
      // Server-side tools do not run here, and only Anthropic's models know the others by name alone.
      ignored.add(`${at}.${type}`)
      continue
    }
    const one = definition(tool, at, ignored)
    if (names.has(one.name)) reject(`${at}.name`, `names '${one.name}', as another tool does`)
    names.add(one.name)
    const deferred = BodyFields.flag(tool, "defer_loading", `${at}.defer_loading`) === true
    if (deferred && found !== undefined && !found.has(one.name)) continue
    made.push(one)
  }
  return made
}

const choiceNames: ReadonlySet<string> = new Set(["type", "name", "disable_parallel_tool_use"])
const types = ["auto", "any", "tool", "none"] as const

export interface ChosenTool {
  /** `undefined` if the model decides. */
  readonly choice: ToolChoice | undefined
  /** An answer may contain at most one tool call. */
  readonly oneTool: boolean
}

export const toolChoiceOf = (
  body: BodyFields.Fields,
  all: ReadonlyArray<ToolDefinition>,
  ignored: IgnoredFields
): ChosenTool => {
  const given = BodyFields.object(body, "tool_choice")
  if (given === undefined) return { choice: undefined, oneTool: false }
  const type = BodyFields.oneOf(given, "type", types, "tool_choice.type") ?? reject("tool_choice.type", "is missing")
  ignored.checkObject(given, choiceNames, "tool_choice")
  const oneTool = BodyFields.flag(given, "disable_parallel_tool_use", "tool_choice.disable_parallel_tool_use") ?? false
  if (all.length === 0) {
    if (type === "any" || type === "tool") reject("tool_choice", "is given without tools")
    return { choice: undefined, oneTool }
  }
  if (type !== "tool") return { choice: type === "any" ? "required" : type, oneTool }
  const name = BodyFields.required(given, "name", "tool_choice.name")
  if (!all.some((tool) => tool.name === name)) reject("tool_choice.name", `names '${name}', which is not among tools`)
  return { choice: { name }, oneTool }
}

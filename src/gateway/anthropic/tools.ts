/**
 * The tools of Anthropic's Messages API, in our words.
 *
 * @since 0.1.0
 */
import type { ToolChoice, ToolDefinition } from "../../ChatRequest.js"
import * as Ask from "../ask.js"
import * as Fields from "../fields.js"
import { refuse } from "../problem.js"

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

const definition = (tool: Fields.Fields, at: string): ToolDefinition => {
  const type = Fields.text(tool, "type", `${at}.type`) ?? "custom"
  if (type !== "custom") {
    const reason = `'${type.slice(0, 40)}' is known to Anthropic's own servers alone; give a name and an input_schema`
    Fields.unsupported(`${at}.type`, reason)
  }
  for (const name in tool) {
    if (known.has(name) || tool[name] === null) continue
    if (name === "input_examples")
      Fields.unsupported(`${at}.${name}`, "no server takes them; tell them in the description")
    refuse(`${at}.${name}`, "is not a parameter of a tool", "unknown_parameter")
  }
  const description = Fields.text(tool, "description", `${at}.description`)
  const strict = Fields.flag(tool, "strict", `${at}.strict`)
  Fields.object(tool, "cache_control", `${at}.cache_control`)
  // An input comes when it is complete, either way.
  Fields.flag(tool, "eager_input_streaming", `${at}.eager_input_streaming`)
  if (Fields.flag(tool, "defer_loading", `${at}.defer_loading`) === true) {
    Fields.unsupported(`${at}.defer_loading`, "no tool is searched for here")
  }
  if (Fields.list(tool, "allowed_callers", `${at}.allowed_callers`)?.some((caller) => caller !== "direct")) {
    Fields.unsupported(`${at}.allowed_callers`, "only the model itself calls tools ('direct')")
  }
  return {
    name: Ask.toolName(tool, at),
    ...(description === undefined ? {} : { description }),
    parameters: Fields.json(tool, "input_schema", `${at}.input_schema`) ?? refuse(`${at}.input_schema`, "is missing"),
    ...(strict === undefined ? {} : { strict })
  }
}

/**
 * @since 0.1.0
 * @category constructors
 */
export const tools = (body: Fields.Fields): ReadonlyArray<ToolDefinition> => {
  const names = new Set<string>()
  return (Fields.list(body, "tools") ?? []).map((tool, i) => {
    const at = `tools[${i}]`
    if (!Fields.isObject(tool)) return refuse(at, "must be an object")
    const made = definition(tool, at)
    if (names.has(made.name)) refuse(`${at}.name`, `names '${made.name}', as another tool does`)
    names.add(made.name)
    return made
  })
}

const types = ["auto", "any", "tool", "none"] as const

/**
 * - `choice`: `undefined` where the model is free
 * - `oneTool`: an answer may call one tool at most
 *
 * @since 0.1.0
 * @category models
 */
export interface Chosen {
  readonly choice: ToolChoice | undefined
  readonly oneTool: boolean
}

/**
 * @since 0.1.0
 * @category constructors
 */
export const chosen = (body: Fields.Fields, all: ReadonlyArray<ToolDefinition>): Chosen => {
  const given = Fields.object(body, "tool_choice")
  if (given === undefined) return { choice: undefined, oneTool: false }
  const type = Fields.oneOf(given, "type", types, "tool_choice.type") ?? refuse("tool_choice.type", "is missing")
  for (const name in given) {
    if (name === "type" || name === "disable_parallel_tool_use" || (name === "name" && type === "tool")) continue
    refuse(`tool_choice.${name}`, `is not a parameter of '${type}'`, "unknown_parameter")
  }
  const oneTool = Fields.flag(given, "disable_parallel_tool_use", "tool_choice.disable_parallel_tool_use") ?? false
  if (all.length === 0) {
    if (type === "any" || type === "tool") refuse("tool_choice", "is given without tools")
    return { choice: undefined, oneTool }
  }
  if (type !== "tool") return { choice: type === "any" ? "required" : type, oneTool }
  const name = Fields.needed(given, "name", "tool_choice.name")
  if (!all.some((tool) => tool.name === name)) refuse("tool_choice.name", `names '${name}', which is not among tools`)
  return { choice: { name }, oneTool }
}

/** Converts the tools of OpenAI's chat completions, and the choice among them. */
import type { ToolChoice, ToolDefinition } from "../../../ChatRequest.js"
import * as BodyFields from "../../http/body.js"
import * as Body from "../../http/bodyDeclaration.js"
import { reject } from "../../http/errorResponse.js"
import type { IgnoredFields } from "../../http/fieldPolicy.js"
import * as CommonFields from "../../pipeline/commonFields.js"

// =============================================================================
// Fields
// =============================================================================

const functionDefinition = Body.struct({
  type: Body.text(),
  name: CommonFields.toolName,
  description: Body.text(),
  parameters: Body.json({ doc: "The JSON Schema of its arguments." }),
  strict: Body.flag()
})

const tool = Body.struct(
  {
    type: Body.text({ doc: "function. Others are tools that servers do not run: they are left out, and named." }),
    function: Body.object({}, functionDefinition)
  },
  { open: true }
)

const choices = ["none", "auto", "required"] as const

/** Who may call tools, and how many at once. */
export const calling = {
  tool_choice: Body.custom(Body.anyOf({ enum: choices }, { type: "object" }), (body, name, at) => {
    const value = body[name]
    return BodyFields.isObject(value) ? value : BodyFields.oneOf(body, name, choices, at)
  }),
  parallel_tool_calls: Body.flag({ default: true })
}

/** The fields for tools. */
export const fields = { tools: Body.list(tool), ...calling }

const { read } = Body.struct(fields)

// =============================================================================
// Reading them
// =============================================================================

export const tools = (body: BodyFields.Fields, ignored: IgnoredFields): ReadonlyArray<ToolDefinition> => {
  const made: Array<ToolDefinition> = []
  for (const [i, one] of (read.tools(body) ?? []).entries()) {
    const at = `tools[${i}]`
    if (!BodyFields.isObject(one)) return reject(at, "must be an object")
    const type = tool.read.type(one, `${at}.type`) ?? "function"
    if (type === "custom") {
      reject(`${at}.type`, "must be function here; custom tools are taken by /v1/responses", "unsupported_parameter")
    }
    // Server-side tools do not run here.
    if (type !== "function") {
      ignored.add(`${at}.${type}`)
      continue
    }
    ignored.checkObject(one, tool.names, at)
    const inner = tool.read.function(one, `${at}.function`) ?? reject(`${at}.function`, "is missing")
    made.push(definition(inner, `${at}.function`, ignored))
  }
  return made
}

/** The definition of a function at this path. */
export const definition = (inner: BodyFields.Fields, at: string, ignored: IgnoredFields): ToolDefinition => {
  ignored.checkObject(inner, functionDefinition.names, at)
  const { read } = functionDefinition
  const name = read.name(inner, `${at}.name`)
  const description = read.description(inner, `${at}.description`)
  const parameters = read.parameters(inner, `${at}.parameters`)
  const strict = read.strict(inner, `${at}.strict`)
  return {
    name,
    ...(description === undefined ? {} : { description }),
    ...(parameters === undefined ? {} : { parameters }),
    ...(strict === undefined ? {} : { strict })
  }
}

export const toolChoice = (
  body: BodyFields.Fields,
  all: ReadonlyArray<ToolDefinition>,
  nested: boolean
): ToolChoice | undefined => {
  const value = read.tool_choice(body)
  if (value === undefined) return undefined
  let choice: ToolChoice
  if (BodyFields.isObject(value) && value["type"] === "allowed_tools") {
    const allowed = BodyFields.object(value, "allowed_tools", "tool_choice.allowed_tools") ?? value
    choice = BodyFields.oneOf(allowed, "mode", ["auto", "required"], "tool_choice.allowed_tools.mode") ?? "auto"
  } else if (BodyFields.isObject(value)) {
    if (value["type"] !== "function") reject("tool_choice.type", "must be function")
    const inner = nested ? (BodyFields.object(value, "function", "tool_choice.function") ?? {}) : value
    const name = BodyFields.required(inner, "name", nested ? "tool_choice.function.name" : "tool_choice.name")
    if (!all.some((tool) => tool.name === name)) reject("tool_choice", `names '${name}', which is not among tools`)
    choice = { name }
  } else choice = value
  if (all.length === 0 && choice !== "none" && choice !== "auto") reject("tool_choice", "is given without tools")
  return all.length === 0 ? undefined : choice
}

/**
 * Those of the tools that may be called, where `tool_choice` of `/v1/chat/completions` says so: the others are not offered.
 */
export const allowed = (body: BodyFields.Fields, all: ReadonlyArray<ToolDefinition>): ReadonlyArray<ToolDefinition> => {
  const value = body["tool_choice"]
  if (!BodyFields.isObject(value) || value["type"] !== "allowed_tools") return all
  const at = "tool_choice.allowed_tools"
  const list = BodyFields.list(BodyFields.object(value, "allowed_tools", at) ?? value, "tools", `${at}.tools`) ?? []
  const names = list.map((tool, i) => {
    const here = `${at}.tools[${i}]`
    if (!BodyFields.isObject(tool)) return reject(here, "must be an object")
    const name = BodyFields.required(
      BodyFields.object(tool, "function", `${here}.function`) ?? tool,
      "name",
      `${here}.function.name`
    )
    return all.some((one) => one.name === name) ? name : reject(here, `names '${name}', which is not among tools`)
  })
  if (names.length === 0) reject(`${at}.tools`, "names no tool")
  return all.filter(({ name }) => names.includes(name))
}

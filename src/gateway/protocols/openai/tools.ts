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

/** Others are tools that servers do not run: they are left out, and named. */
const tool = Body.variants(
  "type",
  { function: Body.struct({ type: Body.text(), function: Body.needed(Body.object({}, functionDefinition)) }) },
  { otherwise: "function", others: { refused: ["custom"] } }
)
const functionTool = tool.of.function

const choices = ["none", "auto", "required"] as const

/** The name of a tool. */
const named = Body.struct({ name: Body.required(Body.text()) }, { open: true })

/** One of the tools, with its name in `function`, as chat completions have it. */
const nestedTool = Body.struct({ type: Body.text(), function: Body.object({}, named) }, { open: true })

const mode = Body.oneOf(["auto", "required"], { default: "auto" })

/** Those of the tools that may be called. */
const someTools = Body.struct({ mode, tools: Body.list(nestedTool) }, { open: true })

/** The tools that must or may be called, as chat completions have it. */
const nestedChoice = Body.variants("type", {
  function: Body.struct({ function: Body.needed(Body.object({}, named)) }),
  allowed_tools: Body.struct({ allowed_tools: Body.object({}, someTools) })
})

/** The same as responses have it: a namespace is named beside the tool. */
const flatTool = Body.struct({ name: Body.required(Body.text()), namespace: Body.text() }, { open: true })
export const flatChoice = Body.variants("type", {
  function: flatTool,
  custom: flatTool,
  allowed_tools: Body.struct({ mode, tools: Body.list(flatTool) })
})

/** Whether the model may call tools, and how many at once. */
const callingWith = (choice: Body.Declared) => ({
  tool_choice: Body.custom(
    () => Body.anyOf({ enum: choices }, choice.schema()),
    (body, name, at) => {
      const value = body[name]
      return BodyFields.isObject(value) ? value : BodyFields.oneOf(body, name, choices, at)
    }
  ),
  parallel_tool_calls: Body.flag({ default: true })
})

/** The fields for calling tools, of responses. */
export const calling = callingWith(flatChoice)

/** The fields for tools. */
export const fields = { tools: Body.list(tool), ...callingWith(nestedChoice) }

const { read } = Body.struct(fields)

// =============================================================================
// Reading them
// =============================================================================

export const tools = (body: BodyFields.Fields, ignored: IgnoredFields): ReadonlyArray<ToolDefinition> => {
  const made: Array<ToolDefinition> = []
  for (const [i, one] of (read.tools(body) ?? []).entries()) {
    const at = `tools[${i}]`
    if (!BodyFields.isObject(one)) return reject(at, "must be an object")
    const type = functionTool.within.type(one, at) ?? "function"
    if (type === "custom") {
      reject(`${at}.type`, "must be function here; custom tools are taken by /v1/responses", "unsupported_parameter")
    }
    // Server-side tools do not run here.
    if (type !== "function") {
      ignored.add(`${at}.${type}`)
      continue
    }
    ignored.checkObject(one, tool.names, at)
    const inner = functionTool.within.function(one, at) ?? reject(`${at}.function`, "is missing")
    made.push(definition(inner, `${at}.function`, ignored))
  }
  return made
}

/** The definition of a function at this path. */
export const definition = (inner: BodyFields.Fields, at: string, ignored: IgnoredFields): ToolDefinition => {
  ignored.checkObject(inner, functionDefinition.names, at)
  const { within } = functionDefinition
  const name = within.name(inner, at)
  const description = within.description(inner, at)
  const parameters = within.parameters(inner, at)
  const strict = within.strict(inner, at)
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
    const at = "tool_choice.allowed_tools"
    choice =
      someTools.read.mode(nestedChoice.of.allowed_tools.read.allowed_tools(value, at) ?? value, `${at}.mode`) ?? "auto"
  } else if (BodyFields.isObject(value)) {
    if (value["type"] !== "function") reject("tool_choice.type", "must be function")
    const { read } = nestedChoice.of.function
    const inner = nested ? (read.function(value, "tool_choice.function") ?? {}) : value
    const name = named.read.name(inner, nested ? "tool_choice.function.name" : "tool_choice.name")
    if (!all.some((tool) => tool.name === name)) reject("tool_choice", `names '${name}', which is not among tools`)
    choice = { name }
  } else choice = value
  if (all.length === 0 && choice !== "none" && choice !== "auto") reject("tool_choice", "is given without tools")
  return all.length === 0 ? undefined : choice
}

/**
 * Those of the tools that may be called, where `tool_choice` of `/v1/chat/completions` says so: the others are not
 * offered.
 */
export const allowed = (body: BodyFields.Fields, all: ReadonlyArray<ToolDefinition>): ReadonlyArray<ToolDefinition> => {
  const value = body["tool_choice"]
  if (!BodyFields.isObject(value) || value["type"] !== "allowed_tools") return all
  const at = "tool_choice.allowed_tools"
  const some = nestedChoice.of.allowed_tools.read.allowed_tools(value, at) ?? value
  const list = someTools.within.tools(some, at) ?? []
  const names = list.map((tool, i) => {
    const here = `${at}.tools[${i}]`
    if (!BodyFields.isObject(tool)) return reject(here, "must be an object")
    const name = named.read.name(nestedTool.within.function(tool, here) ?? tool, `${here}.function.name`)
    return all.some((one) => one.name === name) ? name : reject(here, `names '${name}', which is not among tools`)
  })
  if (names.length === 0) reject(`${at}.tools`, "names no tool")
  return all.filter(({ name }) => names.includes(name))
}

/** Converts the tools of Anthropic's Messages API. */
import type { ToolChoice, ToolDefinition } from "../../../ChatRequest.js"
import * as BodyFields from "../../http/body.js"
import * as Body from "../../http/bodyDeclaration.js"
import { reject } from "../../http/errorResponse.js"
import type { IgnoredFields } from "../../http/fieldPolicy.js"
import * as CommonFields from "../../pipeline/commonFields.js"

// =============================================================================
// Fields
// =============================================================================

const tool = Body.struct(
  {
    type: Body.text({ doc: "custom. Others are Anthropic's own tools: they are left out, and named." }),
    name: CommonFields.toolName,
    description: Body.text(),
    input_schema: Body.required(Body.json()),
    strict: Body.flag(),
    cache_control: Body.withoutEffect(Body.object()),
    // Fine-grained streaming makes no difference: the input is delivered when complete.
    eager_input_streaming: Body.withoutEffect(Body.flag()),
    defer_loading: Body.flag({
      doc: "Offered once a tool_reference names it; at once where Anthropic's search is to find it."
    }),
    allowed_callers: Body.withoutEffect(Body.list({ type: "string" })),
    input_examples: Body.ignored
  },
  { open: true }
)

const single = { disable_parallel_tool_use: Body.flag() }
const anyChoice = Body.struct(single)
const toolChoice = Body.variants("type", {
  auto: anyChoice,
  any: anyChoice,
  tool: Body.struct({ name: Body.needed(Body.text()), ...single }),
  none: anyChoice
})
const chosen = Body.struct(
  { type: Body.required(Body.oneOf(toolChoice.kinds)), name: Body.text(), ...single },
  { path: "tool_choice" }
)

/** The fields for tools. */
export const fields = { tools: Body.list(tool), tool_choice: Body.object({}, toolChoice) }

const { read } = Body.struct(fields)

// =============================================================================
// Reading them
// =============================================================================

const definition = (one: BodyFields.Fields, at: string, ignored: IgnoredFields): ToolDefinition => {
  const { names, within } = tool
  for (const name in one) {
    if (names.has(name) || one[name] === null) continue
    if (name === "input_examples") ignored.add(`${at}.${name}`)
    else ignored.unknown(`${at}.${name}`, "of a tool")
  }
  const description = within.description(one, at)
  const strict = within.strict(one, at)
  within.cache_control(one, at)
  within.eager_input_streaming(one, at)
  if (within.allowed_callers(one, at)?.some((caller) => caller !== "direct")) {
    ignored.add(`${at}.allowed_callers`)
  }
  return {
    name: within.name(one, at),
    ...(description === undefined ? {} : { description }),
    parameters: within.input_schema(one, at),
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
  const all = read.tools(body) ?? []
  const names = new Set<string>()
  const made: Array<ToolDefinition> = []
  const found = deferring(all) ? referenced(body) : undefined
  for (const [i, given] of all.entries()) {
    const at = `tools[${i}]`
    if (!BodyFields.isObject(given)) return reject(at, "must be an object")
    const type = tool.within.type(given, at) ?? "custom"
    if (type !== "custom") {
      // Server-side tools do not run here, and only Anthropic's models know the others by name alone.
      ignored.add(`${at}.${type}`)
      continue
    }
    const one = definition(given, at, ignored)
    if (names.has(one.name)) reject(`${at}.name`, `names '${one.name}', as another tool does`)
    names.add(one.name)
    const deferred = tool.within.defer_loading(given, at) === true
    if (deferred && found !== undefined && !found.has(one.name)) continue
    made.push(one)
  }
  return made
}

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
  const given = read.tool_choice(body)
  if (given === undefined) return { choice: undefined, oneTool: false }
  const type = chosen.read.type(given)
  ignored.checkObject(given, toolChoice.names, "tool_choice")
  const oneTool = chosen.read.disable_parallel_tool_use(given) ?? false
  if (all.length === 0) {
    if (type === "any" || type === "tool") reject("tool_choice", "is given without tools")
    return { choice: undefined, oneTool }
  }
  if (type !== "tool") return { choice: type === "any" ? "required" : type, oneTool }
  const name = chosen.read.name(given) ?? reject("tool_choice.name", "is missing", "missing_required_parameter")
  if (!all.some((tool) => tool.name === name)) reject("tool_choice.name", `names '${name}', which is not among tools`)
  return { choice: { name }, oneTool }
}

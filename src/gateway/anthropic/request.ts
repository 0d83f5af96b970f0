/**
 * What `POST /v1/messages` is asked.
 *
 * @since 0.1.0
 */
import { type ChatRequest, defaults, type Format } from "../../ChatRequest.js"
import * as Ask from "../ask.js"
import * as Fields from "../fields.js"
import { refuse } from "../problem.js"
import * as Conversation from "./conversation.js"
import * as Tools from "./tools.js"

/** What counts for how long a prompt is, and what goes with it. */
const promptNames = [
  "model",
  "messages",
  "system",
  "tools",
  "tool_choice",
  "thinking",
  "output_config",
  "output_format",
  "context_management",
  "cache_control",
  "diagnostics"
]

const known: ReadonlySet<string> = new Set([
  ...promptNames,
  ...Ask.extraNames,
  "max_tokens",
  "stream",
  "temperature",
  "top_p",
  "top_k",
  "stop_sequences",
  "metadata",
  "service_tier",
  "keep_alive",
  "options",
  "num_ctx",
  "seed",
  "min_p",
  "repeat_penalty"
])

const countKnown: ReadonlySet<string> = new Set(promptNames)

const refused: Fields.Reasons = new Map([
  ["container", "no code is run here"],
  ["mcp_servers", "tools are called by the client"],
  ["inference_geo", "servers are where you have put them"],
  ["speed", "each server has its own"],
  ["think", "use thinking, or output_config.effort"]
])

/**
 * `tellsThinking`: whether what a model thinks is told, or only that it does.
 *
 * @since 0.1.0
 * @category models
 */
export interface Asked extends Ask.Ask {
  readonly tellsThinking: boolean
}

// =============================================================================
// thinking
// =============================================================================

const thinkingTypes = ["enabled", "disabled", "adaptive"] as const
const efforts = ["low", "medium", "high", "xhigh", "max"] as const

/** Fewer tokens than this are no budget to Anthropic either. */
const minBudget = 1_024

interface Thinking {
  readonly think: ChatRequest["think"]
  readonly tellsThinking: boolean
}

/** A budget of tokens is no bound that a server would know: `max_tokens` is. */
const thinkingOf = (body: Fields.Fields, effort: ChatRequest["think"]): Thinking => {
  const given = Fields.object(body, "thinking")
  if (given === undefined) return { think: effort, tellsThinking: true }
  const type = Fields.oneOf(given, "type", thinkingTypes, "thinking.type") ?? refuse("thinking.type", "is missing")
  for (const name in given) {
    if (name === "type" || given[name] === null) continue
    if (type === "enabled" && name === "budget_tokens") continue
    if (type !== "disabled" && name === "display") continue
    refuse(`thinking.${name}`, `is not a parameter of '${type}'`, "unknown_parameter")
  }
  if (type === "disabled") return { think: false, tellsThinking: true }
  const display = Fields.oneOf(given, "display", ["summarized", "omitted"], "thinking.display")
  const tellsThinking = display !== "omitted"
  if (type === "adaptive") return { think: effort, tellsThinking }
  const budget = Fields.whole(given, "budget_tokens", minBudget, undefined, "thinking.budget_tokens")
  if (budget === undefined) refuse("thinking.budget_tokens", "is missing", "missing_required_parameter")
  return { think: true, tellsThinking }
}

// =============================================================================
// answers
// =============================================================================

const formatOf = (fields: Fields.Fields, name: string, at: string): Format | undefined => {
  const given = Fields.object(fields, name, at)
  if (given === undefined) return undefined
  Fields.oneOf(given, "type", ["json_schema"], `${at}.type`) ?? refuse(`${at}.type`, "is missing")
  return Fields.json(given, "schema", `${at}.schema`) ?? refuse(`${at}.schema`, "is missing")
}

interface Output {
  readonly effort: ChatRequest["think"]
  readonly format: Format
}

const outputOf = (body: Fields.Fields): Output => {
  const older = formatOf(body, "output_format", "output_format")
  const given = Fields.object(body, "output_config") ?? {}
  for (const name in given) {
    if (name !== "effort" && name !== "format" && given[name] !== null)
      refuse(`output_config.${name}`, "is not a parameter of it", "unknown_parameter")
  }
  const effort = Fields.oneOf(given, "effort", efforts, "output_config.effort")
  return {
    effort: effort === "xhigh" ? "max" : effort,
    format: formatOf(given, "format", "output_config.format") ?? older ?? "text"
  }
}

/** What is kept anyway may be asked for. */
const checkContext = (body: Fields.Fields): void => {
  const given = Fields.object(body, "context_management")
  if (given === undefined) return
  const edits = Fields.list(given, "edits", "context_management.edits") ?? []
  for (const [i, edit] of edits.entries()) {
    const at = `context_management.edits[${i}]`
    const { keep, type } = Fields.isObject(edit) ? edit : refuse(at, "must be an object")
    const all = keep === "all" || (Fields.isObject(keep) && keep["type"] === "all")
    if (typeof type === "string" && type.startsWith("clear_thinking_") && all) continue
    Fields.unsupported(at, "only clear_thinking with keep 'all' is: the client has the conversation, and shortens it")
  }
}

/** What makes no difference to an answer. */
const checkHarmless = (body: Fields.Fields): void => {
  const metadata = Fields.object(body, "metadata")
  if (metadata !== undefined) Fields.text(metadata, "user_id", "metadata.user_id")
  Fields.oneOf(body, "service_tier", ["auto", "standard_only"])
  Fields.object(body, "cache_control")
  Fields.object(body, "diagnostics")
}

/** Its code has Anthropic's own client send the whole conversation instead. */
const refuseThread = ({ thread }: Fields.Fields): void => {
  if (thread === undefined || thread === null) return
  refuse("thread", "is not supported: send the whole conversation, or use session", "thread_unsupported_request")
}

const stops = (body: Fields.Fields): ReadonlyArray<string> => {
  Fields.list(body, "stop_sequences")
  return Fields.strings(body, "stop_sequences", 16)
}

// =============================================================================
// all of it
// =============================================================================

/**
 * About how many tokens a prompt has: the texts, the tools, and the calls of tools. Images are not counted.
 *
 * @since 0.1.0
 * @category accessors
 */
export const promptTokens = (request: Pick<ChatRequest, "messages" | "tools" | "suffix" | "maxTokens">): number => {
  let characters = 0
  for (const message of request.messages) {
    if (message.role !== "assistant") continue
    characters += message.thinking?.length ?? 0
    if (message.toolCalls !== undefined) characters += JSON.stringify(message.toolCalls).length
  }
  if (request.tools.length > 0) characters += JSON.stringify(request.tools).length
  return Ask.needs({ request }).prompt + Ask.tokensOf(characters)
}

/**
 * @since 0.1.0
 * @category decoding
 */
export const decode = (body: Fields.Fields): Asked => {
  refuseThread(body)
  Fields.only(body, known, refused)
  checkHarmless(body)
  checkContext(body)
  const tools = Tools.tools(body)
  const { choice, oneTool } = Tools.chosen(body, tools)
  const { effort, format } = outputOf(body)
  const { tellsThinking, think } = thinkingOf(body, effort)
  const maxTokens =
    Fields.whole(body, "max_tokens", 1) ?? refuse("max_tokens", "is missing", "missing_required_parameter")
  const model = Ask.model(body)
  return {
    model,
    stream: Fields.flag(body, "stream") ?? false,
    n: 1,
    oneTool,
    ...Ask.extras(body),
    tellsThinking,
    request: Ask.request(
      model,
      Conversation.messages(body),
      {
        temperature: Fields.number(body, "temperature", 0, 1) ?? defaults.temperature,
        topP: Fields.number(body, "top_p", 0, 1) ?? defaults.topP,
        stop: stops(body),
        seed: Fields.whole(body, "seed", Number.MIN_SAFE_INTEGER),
        frequencyPenalty: undefined,
        presencePenalty: undefined,
        topK: Fields.whole(body, "top_k", 0),
        minP: Fields.number(body, "min_p", 0, 1),
        repeatPenalty: Fields.number(body, "repeat_penalty", Number.MIN_VALUE, Number.POSITIVE_INFINITY),
        logitBias: undefined,
        keepAlive: Ask.keepAlive(body),
        think,
        options: Ask.options(body)
      },
      { maxTokens, tools, toolChoice: choice, format, logprobs: undefined }
    )
  }
}

/**
 * What `POST /v1/messages/count_tokens` is asked: about how many tokens it has.
 *
 * @since 0.1.0
 * @category decoding
 */
export const count = (body: Fields.Fields): number => {
  Fields.only(body, countKnown, refused)
  Fields.object(body, "cache_control")
  Fields.object(body, "diagnostics")
  checkContext(body)
  const tools = Tools.tools(body)
  Tools.chosen(body, tools)
  thinkingOf(body, outputOf(body).effort)
  Ask.model(body)
  return promptTokens({ messages: Conversation.messages(body), tools, maxTokens: undefined })
}

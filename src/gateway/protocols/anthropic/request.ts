/**
 * What `POST /v1/messages` is asked.
 *
 * @since 0.1.0
 */
import type { ChatRequest, Format } from "../../../ChatRequest.js"
import * as Extra from "../../../internal/extraParameters.js"
import { needs, tokensOf } from "../../../modelSelection/needs.js"
import * as Fields from "../../http/body.js"
import { refuse } from "../../http/errorResponse.js"
import * as Policy from "../../http/fieldPolicy.js"
import * as Ask from "../../pipeline/gatewayRequest.js"
import * as Conversation from "./messages.js"
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
  "cache_control"
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
  "keep_alive",
  "options",
  "num_ctx",
  "seed",
  "min_p",
  "repeat_penalty",
  ...Object.keys(Extra.fields)
])

const countKnown: ReadonlySet<string> = new Set(promptNames)

const thinkingNames: ReadonlySet<string> = new Set(["type", "budget_tokens", "display"])
const outputNames: ReadonlySet<string> = new Set(["effort", "format"])

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
const displays: ReadonlySet<string> = new Set(["summarized", "updates", "full", "omitted"])
const efforts = ["low", "medium", "high", "xhigh", "max"] as const

/** Fewer tokens than this are no budget to Anthropic either. */
const minBudget = 1_024

interface Thinking {
  readonly think: ChatRequest["think"]
  readonly tellsThinking: boolean
}

/** A budget of tokens is no bound that a server would know: `max_tokens` is. */
const thinkingOf = (body: Fields.Fields, effort: ChatRequest["think"], ignored: Policy.Ignored): Thinking => {
  const given = Fields.object(body, "thinking")
  if (given === undefined) return { think: effort, tellsThinking: true }
  const type = Fields.oneOf(given, "type", thinkingTypes, "thinking.type") ?? refuse("thinking.type", "is missing")
  ignored.within(given, thinkingNames, "thinking")
  if (type === "disabled") return { think: false, tellsThinking: true }
  // How much of its thoughts a model tells is up to it: only whether they are told at all can be chosen.
  const display = Fields.text(given, "display", "thinking.display")
  if (display !== undefined && !displays.has(display)) ignored.unknown("thinking.display", "that has this value")
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

const outputOf = (body: Fields.Fields, ignored: Policy.Ignored): Output => {
  const older = formatOf(body, "output_format", "output_format")
  const given = Fields.object(body, "output_config") ?? {}
  ignored.within(given, outputNames, "output_config")
  const effort = Fields.oneOf(given, "effort", efforts, "output_config.effort")
  return {
    effort: effort === "xhigh" ? "max" : effort,
    format: formatOf(given, "format", "output_config.format") ?? older ?? "text"
  }
}

/** The client has the conversation, and shortens it. What is kept anyway may be asked for; else it is longer than it might be. */
const checkContext = (body: Fields.Fields, ignored: Policy.Ignored): void => {
  const given = Fields.object(body, "context_management")
  if (given === undefined) return
  const edits = Fields.list(given, "edits", "context_management.edits") ?? []
  for (const [i, edit] of edits.entries()) {
    const at = `context_management.edits[${i}]`
    const { keep, type } = Fields.isObject(edit) ? edit : refuse(at, "must be an object")
    const all = keep === "all" || (Fields.isObject(keep) && keep["type"] === "all")
    if (typeof type === "string" && type.startsWith("clear_thinking_") && all) continue
    ignored.add(`${at}.${String(type)}`)
  }
}

/** What makes no difference to an answer. */
const checkHarmless = (body: Fields.Fields): void => {
  const metadata = Fields.object(body, "metadata")
  if (metadata !== undefined) Fields.text(metadata, "user_id", "metadata.user_id")
  Fields.object(body, "cache_control")
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
  return needs({ request }).prompt + tokensOf(characters)
}

/**
 * @since 0.1.0
 * @category decoding
 */
export const decode = (body: Fields.Fields, ignored: Policy.Ignored): Asked => {
  refuseThread(body)
  ignored.check(body, known, Policy.refused.messages)
  checkHarmless(body)
  checkContext(body, ignored)
  const tools = Tools.tools(body, ignored)
  const { choice, oneTool } = Tools.chosen(body, tools, ignored)
  const { effort, format } = outputOf(body, ignored)
  const { tellsThinking, think } = thinkingOf(body, effort, ignored)
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
      Conversation.messages(body, ignored),
      {
        temperature: Fields.number(body, "temperature", 0, 1),
        topP: Fields.number(body, "top_p", 0, 1),
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
        options: Ask.options(body),
        extra: Ask.extra(body)
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
export const count = (body: Fields.Fields, ignored: Policy.Ignored): number => {
  ignored.check(body, countKnown, Policy.refused.messages)
  Fields.object(body, "cache_control")
  checkContext(body, ignored)
  const tools = Tools.tools(body, ignored)
  Tools.chosen(body, tools, ignored)
  thinkingOf(body, outputOf(body, ignored).effort, ignored)
  Ask.model(body)
  return promptTokens({ messages: Conversation.messages(body, ignored), tools, maxTokens: undefined })
}

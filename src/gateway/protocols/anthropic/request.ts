/** Decodes the body of `POST /v1/messages`. */
import type { ChatRequest, Format } from "../../../ChatRequest.js"
import * as ExtraParameters from "../../../internal/extraParameters.js"
import { requirementsOf, tokensOf } from "../../../modelSelection/needs.js"
import * as BodyFields from "../../http/body.js"
import { reject } from "../../http/errorResponse.js"
import * as FieldPolicy from "../../http/fieldPolicy.js"
import * as GatewayRequest from "../../pipeline/gatewayRequest.js"
import * as Conversation from "./messages.js"
import * as Tools from "./tools.js"

/** The fields that determine the prompt's length. */
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
  ...GatewayRequest.extraNames,
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
  ...Object.keys(ExtraParameters.fields)
])

const countKnown: ReadonlySet<string> = new Set(promptNames)

const thinkingNames: ReadonlySet<string> = new Set(["type", "budget_tokens", "display"])
const outputNames: ReadonlySet<string> = new Set(["effort", "format"])

/** `showsThinking`: whether the thinking is sent to the client, or only that it happens */
export interface AnthropicRequest extends GatewayRequest.GatewayRequest {
  readonly showsThinking: boolean
}

// =============================================================================
// Thinking
// =============================================================================

const thinkingTypes = ["enabled", "disabled", "adaptive"] as const
const displays: ReadonlySet<string> = new Set(["summarized", "updates", "full", "omitted"])
const efforts = ["low", "medium", "high", "xhigh", "max"] as const

/** Anthropic rejects smaller budgets too. */
const minBudget = 1_024

interface Thinking {
  readonly think: ChatRequest["think"]
  readonly tellsThinking: boolean
}

/** A thinking budget has no equivalent on the servers; `max_tokens` limits the whole. */
const thinkingOf = (
  body: BodyFields.Fields,
  effort: ChatRequest["think"],
  ignored: FieldPolicy.IgnoredFields
): Thinking => {
  const given = BodyFields.object(body, "thinking")
  if (given === undefined) return { think: effort, tellsThinking: true }
  const type = BodyFields.oneOf(given, "type", thinkingTypes, "thinking.type") ?? reject("thinking.type", "is missing")
  ignored.checkObject(given, thinkingNames, "thinking")
  if (type === "disabled") return { think: false, tellsThinking: true }
  // How detailed a summary of the thinking is cannot be controlled: it is sent or omitted.
  const display = BodyFields.text(given, "display", "thinking.display")
  if (display !== undefined && !displays.has(display)) ignored.unknown("thinking.display", "that has this value")
  const tellsThinking = display !== "omitted"
  if (type === "adaptive") return { think: effort, tellsThinking }
  const budget = BodyFields.whole(given, "budget_tokens", minBudget, undefined, "thinking.budget_tokens")
  if (budget === undefined) reject("thinking.budget_tokens", "is missing", "missing_required_parameter")
  return { think: true, tellsThinking }
}

// =============================================================================
// Answers
// =============================================================================

const formatOf = (fields: BodyFields.Fields, name: string, at: string): Format | undefined => {
  const given = BodyFields.object(fields, name, at)
  if (given === undefined) return undefined
  BodyFields.oneOf(given, "type", ["json_schema"], `${at}.type`) ?? reject(`${at}.type`, "is missing")
  return BodyFields.json(given, "schema", `${at}.schema`) ?? reject(`${at}.schema`, "is missing")
}

interface Output {
  readonly effort: ChatRequest["think"]
  readonly format: Format
}

const outputOf = (body: BodyFields.Fields, ignored: FieldPolicy.IgnoredFields): Output => {
  const older = formatOf(body, "output_format", "output_format")
  const given = BodyFields.object(body, "output_config") ?? {}
  ignored.checkObject(given, outputNames, "output_config")
  const effort = BodyFields.oneOf(given, "effort", efforts, "output_config.effort")
  return {
    effort: effort === "xhigh" ? "max" : effort,
    format: formatOf(given, "format", "output_config.format") ?? older ?? "text"
  }
}

/** Context editing is the client's task here. Only edits that keep everything are accepted. */
const checkContext = (body: BodyFields.Fields, ignored: FieldPolicy.IgnoredFields): void => {
  const given = BodyFields.object(body, "context_management")
  if (given === undefined) return
  const edits = BodyFields.list(given, "edits", "context_management.edits") ?? []
  for (const [i, edit] of edits.entries()) {
    const at = `context_management.edits[${i}]`
    const { keep, type } = BodyFields.isObject(edit) ? edit : reject(at, "must be an object")
    const all = keep === "all" || (BodyFields.isObject(keep) && keep["type"] === "all")
    if (typeof type === "string" && type.startsWith("clear_thinking_") && all) continue
    ignored.add(`${at}.${String(type)}`)
  }
}

/** Fields without effect on an answer. */
const checkHarmless = (body: BodyFields.Fields): void => {
  const metadata = BodyFields.object(body, "metadata")
  if (metadata !== undefined) BodyFields.text(metadata, "user_id", "metadata.user_id")
  BodyFields.object(body, "cache_control")
}

/** With this code Anthropic's client falls back to sending the whole conversation. */
const refuseThread = ({ thread }: BodyFields.Fields): void => {
  if (thread === undefined || thread === null) return
  reject("thread", "is not supported: send the whole conversation, or use session", "thread_unsupported_request")
}

const stops = (body: BodyFields.Fields): ReadonlyArray<string> => {
  BodyFields.list(body, "stop_sequences")
  return BodyFields.strings(body, "stop_sequences", 16)
}

// =============================================================================
// The whole body
// =============================================================================

/** Estimates the prompt tokens: texts, tools and tool calls. Images are not counted. */
export const promptTokens = (request: Pick<ChatRequest, "messages" | "tools" | "suffix" | "maxTokens">): number => {
  let characters = 0
  for (const message of request.messages) {
    if (message.role !== "assistant") continue
    characters += message.thinking?.length ?? 0
    if (message.toolCalls !== undefined) characters += JSON.stringify(message.toolCalls).length
  }
  if (request.tools.length > 0) characters += JSON.stringify(request.tools).length
  return requirementsOf({ request }).prompt + tokensOf(characters)
}

export const decode = (body: BodyFields.Fields, ignored: FieldPolicy.IgnoredFields): AnthropicRequest => {
  refuseThread(body)
  ignored.check(body, known, FieldPolicy.rejectedFields.messages)
  checkHarmless(body)
  checkContext(body, ignored)
  const tools = Tools.tools(body, ignored)
  const { choice, oneTool } = Tools.toolChoiceOf(body, tools, ignored)
  const { effort, format } = outputOf(body, ignored)
  const { tellsThinking, think } = thinkingOf(body, effort, ignored)
  const maxTokens =
    BodyFields.whole(body, "max_tokens", 1) ?? reject("max_tokens", "is missing", "missing_required_parameter")
  const model = GatewayRequest.model(body)
  return {
    model,
    stream: BodyFields.flag(body, "stream") ?? false,
    n: 1,
    oneTool,
    ...GatewayRequest.extras(body),
    showsThinking: tellsThinking,
    request: GatewayRequest.request(
      model,
      Conversation.messages(body, ignored),
      {
        temperature: BodyFields.number(body, "temperature", 0, 1),
        topP: BodyFields.number(body, "top_p", 0, 1),
        stop: stops(body),
        seed: BodyFields.whole(body, "seed", Number.MIN_SAFE_INTEGER),
        frequencyPenalty: undefined,
        presencePenalty: undefined,
        topK: BodyFields.whole(body, "top_k", 0),
        minP: BodyFields.number(body, "min_p", 0, 1),
        repeatPenalty: BodyFields.number(body, "repeat_penalty", Number.MIN_VALUE, Number.POSITIVE_INFINITY),
        logitBias: undefined,
        keepAlive: GatewayRequest.keepAlive(body),
        think,
        options: GatewayRequest.options(body),
        extra: GatewayRequest.extra(body)
      },
      { maxTokens, tools, toolChoice: choice, format, logprobs: undefined }
    )
  }
}

/** `POST /v1/messages/count_tokens`: an estimate of the prompt tokens. */
export const count = (body: BodyFields.Fields, ignored: FieldPolicy.IgnoredFields): number => {
  ignored.check(body, countKnown, FieldPolicy.rejectedFields.messages)
  BodyFields.object(body, "cache_control")
  checkContext(body, ignored)
  const tools = Tools.tools(body, ignored)
  Tools.toolChoiceOf(body, tools, ignored)
  thinkingOf(body, outputOf(body, ignored).effort, ignored)
  GatewayRequest.model(body)
  return promptTokens({ messages: Conversation.messages(body, ignored), tools, maxTokens: undefined })
}

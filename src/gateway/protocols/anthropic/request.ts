/** Decodes the body of `POST /v1/messages`. */
import { type ChatRequest, defaults, type Format } from "../../../ChatRequest.js"
import { requirementsOf, tokensOf } from "../../../modelSelection/needs.js"
import * as BodyFields from "../../http/body.js"
import * as Body from "../../http/bodyDeclaration.js"
import { reject } from "../../http/errorResponse.js"
import type * as FieldPolicy from "../../http/fieldPolicy.js"
import * as CommonFields from "../../pipeline/commonFields.js"
import * as GatewayRequest from "../../pipeline/gatewayRequest.js"
import * as OptionNames from "../../pipeline/optionNames.js"
import * as Conversation from "./messages.js"
import * as Tools from "./tools.js"

// =============================================================================
// Fields
// =============================================================================

const thinkingTypes = ["enabled", "disabled", "adaptive"] as const
const displays = ["summarized", "updates", "full", "omitted"] as const
const efforts = ["low", "medium", "high", "xhigh", "max"] as const

/** Anthropic rejects smaller budgets too. */
const minBudget = 1_024

const thinking = Body.struct(
  {
    type: Body.required(Body.oneOf(thinkingTypes)),
    budget_tokens: Body.whole(minBudget, undefined, {
      doc: "Where it is enabled: less than max_tokens, except with interleaved thinking. How long a model thinks is bounded by max_tokens."
    }),
    display: Body.lenient(
      Body.custom({ enum: displays, default: "summarized" }, (fields, name, at) => BodyFields.text(fields, name, at))
    )
  },
  { path: "thinking" }
)

const format = Body.struct(
  {
    type: Body.required(Body.oneOf(["json_schema"])),
    schema: Body.required(Body.json())
  },
  { open: true }
)

const output = Body.struct({ effort: Body.oneOf(efforts), format: Body.object({}, format) }, { path: "output_config" })

const kept = Body.struct(
  {
    type: Body.custom({ type: "string" }, (fields, name) => fields[name]),
    keep: Body.custom(
      () => Body.anyOf({ const: "all" }, { type: "object" }),
      (fields, name) => fields[name]
    )
  },
  { open: true }
)

const edits = Body.struct(
  { edits: Body.list(kept, { doc: "Those that do not keep everything are ignored, and named." }) },
  { path: "context_management", open: true }
)

const userId = Body.struct({ user_id: Body.text() }, { path: "metadata", open: true })

/** The fields that determine the prompt's length. */
const promptFields = {
  model: CommonFields.model,
  ...Conversation.fields,
  ...Tools.fields,
  thinking: Body.object({}, thinking),
  output_config: Body.object({}, output),
  output_format: Body.object({ doc: "The older name of output_config.format." }, format),
  context_management: Body.object({ doc: "Nothing is removed from a prompt." }, edits),
  cache_control: Body.withoutEffect(Body.object()),
  ...CommonFields.harmless
}

const refused = {
  inference_geo: "servers are where you have put them",
  think: "use thinking, or output_config.effort",
  stop: "use stop_sequences",
  n: "one answer is given"
}

/** The body of `/v1/messages/count_tokens`. */
export const countBody = Body.struct(promptFields, { refused })

const maxStops = 16

/** The body of `/v1/messages`. */
export const body = Body.struct(
  {
    ...promptFields,
    max_tokens: Body.required(Body.whole(1)),
    stream: Body.flag({ default: false }),
    temperature: Body.number(0, 1, { default: defaults.temperature }),
    top_p: Body.number(0, 1, { default: defaults.topP }),
    top_k: Body.whole(0),
    stop_sequences: Body.custom(
      { type: "array", items: { type: "string", minLength: 1 }, maxItems: maxStops },
      (fields, name, at) => {
        BodyFields.list(fields, name, at)
        return BodyFields.strings(fields, name, maxStops, at)
      }
    ),
    seed: Body.whole(),
    min_p: Body.number(0, 1),
    repeat_penalty: Body.positive(),
    ...CommonFields.ollamaOnly,
    ...CommonFields.contextLength,
    ...CommonFields.extensions,
    metadata: Body.object({ doc: "The user's id names the conversation." }, userId),
    ...CommonFields.extraFields
  },
  { refused }
)

const { read } = body

/** `showsThinking`: whether the thinking is sent to the client, or only that it happens */
export interface AnthropicRequest extends GatewayRequest.GatewayRequest {
  readonly showsThinking: boolean
}

// =============================================================================
// Thinking
// =============================================================================

interface Thinking {
  readonly think: ChatRequest["think"]
  readonly tellsThinking: boolean
}

/** Whether the header `anthropic-beta` asks for thinking between tool calls, whose budget is that of a whole turn. */
export const interleaves = (beta: string | ReadonlyArray<string> | undefined): boolean =>
  /(^|,)\s*interleaved-thinking-/.test(String(beta ?? ""))

/** A thinking budget has no equivalent on the servers; `max_tokens` limits the whole. Budgets from `limit` on are refused. */
const thinkingOf = (
  body: BodyFields.Fields,
  effort: ChatRequest["think"],
  limit: number,
  ignored: FieldPolicy.IgnoredFields
): Thinking => {
  const given = read.thinking(body)
  if (given === undefined) return { think: effort, tellsThinking: true }
  const type = thinking.read.type(given)
  ignored.checkObject(given, thinking.names, "thinking")
  if (type === "disabled") return { think: false, tellsThinking: true }
  // How detailed a summary of the thinking is cannot be controlled: it is sent or omitted.
  const display = thinking.read.display(given)
  if (display !== undefined && !displays.some((one) => one === display))
    ignored.unknown("thinking.display", "that has this value")
  const tellsThinking = display !== "omitted"
  if (type === "adaptive") return { think: effort, tellsThinking }
  const budget = thinking.read.budget_tokens(given)
  if (budget === undefined) return reject("thinking.budget_tokens", "is missing", "missing_required_parameter")
  if (budget >= limit) reject("thinking.budget_tokens", `must be less than max_tokens (${limit})`)
  return { think: true, tellsThinking }
}

// =============================================================================
// Answers
// =============================================================================

const formatOf = (given: BodyFields.Fields | undefined, at: string): Format | undefined => {
  if (given === undefined) return undefined
  format.read.type(given, `${at}.type`)
  return format.read.schema(given, `${at}.schema`)
}

interface Output {
  readonly effort: ChatRequest["think"]
  readonly format: Format
}

const outputOf = (body: BodyFields.Fields, ignored: FieldPolicy.IgnoredFields): Output => {
  const older = formatOf(read.output_format(body), "output_format")
  const given = read.output_config(body) ?? {}
  ignored.checkObject(given, output.names, "output_config")
  const effort = output.read.effort(given)
  return {
    effort: effort === "xhigh" ? "max" : effort,
    format: formatOf(output.read.format(given), "output_config.format") ?? older ?? "text"
  }
}

/** Context editing is the client's task here. Only edits that keep everything are accepted. */
const checkContext = (body: BodyFields.Fields, ignored: FieldPolicy.IgnoredFields): void => {
  const given = read.context_management(body)
  if (given === undefined) return
  for (const [i, edit] of (edits.read.edits(given) ?? []).entries()) {
    const at = `context_management.edits[${i}]`
    const given = BodyFields.isObject(edit) ? edit : reject(at, "must be an object")
    const keep = kept.read.keep(given)
    const type = kept.read.type(given)
    const all = keep === "all" || (BodyFields.isObject(keep) && keep["type"] === "all")
    if (typeof type === "string" && type.startsWith("clear_thinking_") && all) continue
    ignored.add(`${at}.${String(type)}`)
  }
}

/** Fields without effect on an answer. */
const checkHarmless = (body: BodyFields.Fields): void => {
  const metadata = read.metadata(body)
  if (metadata !== undefined) userId.read.user_id(metadata)
  read.cache_control(body)
}

/** With this code Anthropic's client falls back to sending the whole conversation. */
const refuseThread = ({ thread }: BodyFields.Fields): void => {
  if (thread === undefined || thread === null) return
  reject("thread", "is not supported: send the whole conversation, or use session", "thread_unsupported_request")
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

/** `interleaved`: whether a turn may think more than `max_tokens`. */
export const decode = (
  given: BodyFields.Fields,
  ignored: FieldPolicy.IgnoredFields,
  interleaved = false
): AnthropicRequest => {
  refuseThread(given)
  ignored.check(given, body)
  checkHarmless(given)
  checkContext(given, ignored)
  const tools = Tools.tools(given, ignored)
  const { choice, oneTool } = Tools.toolChoiceOf(given, tools, ignored)
  const { effort, format } = outputOf(given, ignored)
  const maxTokens = read.max_tokens(given)
  const limit = interleaved ? Number.POSITIVE_INFINITY : maxTokens
  const { tellsThinking, think } = thinkingOf(given, effort, limit, ignored)
  const model = read.model(given)
  return {
    model,
    stream: read.stream(given) ?? false,
    n: 1,
    oneTool,
    names: OptionNames.messages,
    ...CommonFields.extras(given),
    showsThinking: tellsThinking,
    request: GatewayRequest.request(
      model,
      Conversation.messages(given, ignored),
      {
        temperature: read.temperature(given),
        topP: read.top_p(given),
        stop: read.stop_sequences(given),
        seed: read.seed(given),
        frequencyPenalty: undefined,
        presencePenalty: undefined,
        topK: read.top_k(given),
        minP: read.min_p(given),
        repeatPenalty: read.repeat_penalty(given),
        logitBias: undefined,
        keepAlive: read.keep_alive(given),
        think,
        options: CommonFields.options(given),
        extra: CommonFields.extra(given)
      },
      { maxTokens, tools, toolChoice: choice, format, logprobs: undefined }
    )
  }
}

/** `POST /v1/messages/count_tokens`: an estimate of the prompt tokens. */
export const count = (given: BodyFields.Fields, ignored: FieldPolicy.IgnoredFields): number => {
  ignored.check(given, countBody)
  read.cache_control(given)
  checkContext(given, ignored)
  const tools = Tools.tools(given, ignored)
  Tools.toolChoiceOf(given, tools, ignored)
  thinkingOf(given, outputOf(given, ignored).effort, Number.POSITIVE_INFINITY, ignored)
  read.model(given)
  return promptTokens({ messages: Conversation.messages(given, ignored), tools, maxTokens: undefined })
}

/** `POST /v1/chat/completions`: decodes the request and writes answers. */
import type { FinishReason, Usage } from "../../../ChatEvent.js"
import * as ToolArguments from "../../../internal/toolArguments.js"
import { version } from "../../../internal/version.js"
import type { ToolCall } from "../../../Message.js"
import type * as BodyFields from "../../http/body.js"
import * as Body from "../../http/bodyDeclaration.js"
import { type ErrorResponse, openAI, reject } from "../../http/errorResponse.js"
import type * as FieldPolicy from "../../http/fieldPolicy.js"
import * as Id from "../../http/id.js"
import type { CalledTool, Codec, CompletedAnswer, Counted, Writer } from "../../pipeline/codec.js"
import * as CommonFields from "../../pipeline/commonFields.js"
import * as GatewayRequest from "../../pipeline/gatewayRequest.js"
import * as OptionNames from "../../pipeline/optionNames.js"
import * as Format from "./format.js"
import * as Messages from "./messages.js"
import * as Parameters from "./parameters.js"
import * as Tools from "./tools.js"

// =============================================================================
// Request
// =============================================================================

/** The body. */
export const body = Body.struct(
  {
    messages: Messages.field,
    ...Parameters.fields,
    max_tokens: Body.whole(1, undefined, { doc: "The older name of max_completion_tokens." }),
    max_completion_tokens: Body.whole(1),
    n: Body.whole(1, 128, { default: 1 }),
    logprobs: Body.flag(),
    top_logprobs: Body.whole(0, 20, { doc: "Only where logprobs is true." }),
    ...Tools.fields,
    ...Format.fields(),
    modalities: Body.list({ const: "text" })
  },
  {
    refused: {
      functions: "use tools",
      function_call: "use tool_choice",
      audio: "answers are text",
      web_search_options: "no server searches the web",
      max_output_tokens: "use max_completion_tokens"
    }
  }
)

export interface ChatCompletionRequest extends GatewayRequest.GatewayRequest {
  readonly includeUsage: boolean
}

const { read } = body

export const decode = (given: BodyFields.Fields, ignored: FieldPolicy.IgnoredFields): ChatCompletionRequest => {
  ignored.check(given, body)
  Parameters.checkAbout(given)
  const logprobs = read.logprobs(given) ?? false
  const top = read.top_logprobs(given)
  if (top !== undefined && !logprobs) reject("top_logprobs", "is only allowed when logprobs is true")
  if (read.modalities(given)?.some((one) => one !== "text"))
    reject("modalities", "must be ['text']", "unsupported_parameter")
  const stream = read.stream(given) ?? false
  const tools = Tools.allowed(given, Tools.tools(given, ignored))
  const older = read.max_tokens(given)
  const newer = read.max_completion_tokens(given)
  const model = read.model(given)
  return {
    model,
    stream,
    n: read.n(given) ?? 1,
    oneTool: read.parallel_tool_calls(given) === false,
    includeUsage: Parameters.includeUsage(given, stream, ignored),
    names: older !== undefined && newer === undefined ? OptionNames.olderChat : OptionNames.chat,
    ...CommonFields.extras(given),
    request: GatewayRequest.request(model, Messages.messages(given, ignored), Parameters.sampling(given, ignored), {
      maxTokens: newer ?? older,
      tools,
      toolChoice: Tools.toolChoice(given, tools, true),
      format: Format.responseFormat(given, ignored),
      logprobs: logprobs ? (top ?? 0) : undefined
    })
  }
}

// =============================================================================
// Response
// =============================================================================

/** Part of every answer. */
export const fingerprint = `aicortex-${version}`

export const usage = ({
  cachedTokens,
  completionTokens = 0,
  promptTokens = 0,
  reasoningTokens,
  totalTokens
}: Usage): object => ({
  prompt_tokens: promptTokens,
  completion_tokens: completionTokens,
  total_tokens: totalTokens ?? promptTokens + completionTokens,
  ...(cachedTokens === undefined ? {} : { prompt_tokens_details: { cached_tokens: cachedTokens } }),
  ...(reasoningTokens === undefined ? {} : { completion_tokens_details: { reasoning_tokens: reasoningTokens } })
})

const call = (made: ToolCall): object => ({
  id: made.id,
  type: "function",
  function: { name: made.name, arguments: ToolArguments.text(made) }
})

/** What several answers cost: the prompt was read once, and may be counted with any of them. */
export const total = (all: ReadonlyArray<Counted>): Usage => {
  const [only] = all
  if (all.length === 1 && only !== undefined) {
    const { cachedTokens, completionTokens = 0, promptTokens = 0, reasoningTokens } = only
    const usage = { promptTokens, completionTokens, totalTokens: promptTokens + completionTokens }
    if (cachedTokens === undefined && reasoningTokens === undefined) return usage
  }
  const prompt = (all.find(({ promptEstimated }) => promptEstimated !== true) ?? all[0])?.promptTokens ?? 0
  const completion = all.reduce((sum, one) => sum + (one.completionTokens ?? 0), 0)
  const thinkingText = all.flatMap((one) => one.reasoningTokens ?? [])
  const cached = all.find((one) => one.cachedTokens !== undefined)?.cachedTokens
  return {
    promptTokens: prompt,
    completionTokens: completion,
    totalTokens: prompt + completion,
    ...(cached === undefined ? {} : { cachedTokens: Math.min(cached, prompt) }),
    ...(thinkingText.length === 0 ? {} : { reasoningTokens: thinkingText.reduce((sum, one) => sum + one, 0) })
  }
}

const choiceJson = ({ finishReason, logprobs, text, thinking, toolCalls }: CompletedAnswer, index: number): string => {
  const content = text === "" && toolCalls.length > 0 ? "null" : JSON.stringify(text)
  const thought = thinking === "" ? "" : JSON.stringify(thinking)
  const reasoning = thinking === "" ? "" : `,"reasoning":${thought},"reasoning_content":${thought}`
  const called = toolCalls.length === 0 ? "" : `,"tool_calls":${JSON.stringify(toolCalls.map(call))}`
  const message = `{"role":"assistant","content":${content},"refusal":null${reasoning}${called}}`
  const likely = logprobs === undefined ? "null" : JSON.stringify({ content: logprobs, refusal: null })
  return `{"index":${index},"message":${message},"logprobs":${likely},"finish_reason":"${finishReason}"}`
}

/** Serialised by parts, as chunks are: `JSON.stringify` of one object takes three times as long. */
const complete = (model: string, results: ReadonlyArray<CompletedAnswer>, session: string | undefined): string => {
  const created = Math.floor(Date.now() / 1000)
  const counted = JSON.stringify(usage(total(results.map((result) => result.usage))))
  const choices = results.map(choiceJson).join()
  return (
    `{"id":"${Id.make("chatcmpl-")}","object":"chat.completion","created":${created},"model":${JSON.stringify(model)},` +
    `"choices":[${choices}],"usage":${counted},"system_fingerprint":"${fingerprint}"` +
    (session === undefined ? "}" : `,"session_id":${JSON.stringify(session)}}`)
  )
}

/** Everything but the text of a chunk is serialised once per stream. */
class ChunkWriter implements Writer {
  private readonly head: string
  private readonly starts: Array<string> = []
  private readonly usages: Array<Usage> = []
  private readonly none: string
  private readonly tail: string

  constructor(
    model: string,
    n: number,
    private readonly includeUsage: boolean,
    session: string | undefined
  ) {
    const fields = {
      id: Id.make("chatcmpl-"),
      object: "chat.completion.chunk",
      created: Math.floor(Date.now() / 1000),
      model,
      system_fingerprint: fingerprint,
      session_id: session
    }
    this.head = `data: ${JSON.stringify(fields).slice(0, -1)}`
    this.none = includeUsage ? `,"usage":null}\n\n` : "}\n\n"
    this.tail = `},"logprobs":null,"finish_reason":null}]${this.none}`
    for (let i = 0; i < n; i++) this.starts.push(`${this.head},"choices":[{"index":${i},"delta":{`)
  }

  begin(): string {
    let all = ""
    for (const start of this.starts) all += `${start}"role":"assistant","content":""${this.tail}`
    return all
  }
  text(choice: number, content: string, logprobs?: ReadonlyArray<unknown>): string {
    const start = `${this.starts[choice]}"content":${JSON.stringify(content)}`
    if (logprobs === undefined) return start + this.tail
    const likely = JSON.stringify({ content: logprobs, refusal: null })
    return `${start}},"logprobs":${likely},"finish_reason":null}]${this.none}`
  }
  thinking(choice: number, content: string): string {
    const words = JSON.stringify(content)
    return `${this.starts[choice]}"reasoning":${words},"reasoning_content":${words}${this.tail}`
  }
  toolCallDelta(choice: number, index: number, { id, name }: CalledTool, text: string, first: boolean): string {
    const start = `${this.starts[choice]}"tool_calls":[{"index":${index},`
    const rest = `${start}"function":{"arguments":${JSON.stringify(text)}}}]${this.tail}`
    if (!first) return rest
    const called = JSON.stringify({ id, type: "function", function: { name, arguments: "" } })
    return `${start}${called.slice(1)}]${this.tail}${rest}`
  }
  toolCall(choice: number, index: number, call: ToolCall, streamed: boolean): string {
    return streamed ? "" : this.toolCallDelta(choice, index, call, ToolArguments.text(call), true)
  }
  end(choice: number, reason: FinishReason, counted: Usage): string {
    this.usages[choice] = counted
    return `${this.starts[choice]}},"logprobs":null,"finish_reason":"${reason}"}]${this.none}`
  }
  finish(): string {
    const counted = this.includeUsage
      ? `${this.head},"choices":[],"usage":${JSON.stringify(usage(total(this.usages)))}}\n\n`
      : ""
    return `${counted}data: [DONE]\n\n`
  }
}

/** The last event of an OpenAI stream that cannot continue. No `[DONE]` follows. */
export const failure = (errorResponse: ErrorResponse): string => `data: ${JSON.stringify(openAI(errorResponse))}\n\n`

export const eventStream = "text/event-stream; charset=utf-8"

/** A comment: clients ignore it. */
export const comment = ": waiting for the model\n\n"

export const codec = ({ includeUsage, n, session }: ChatCompletionRequest): Codec => ({
  contentType: eventStream,
  complete: (model, results) => complete(model, results, session),
  writer: (model) => new ChunkWriter(model, n, includeUsage, session),
  failure,
  heartbeat: comment
})

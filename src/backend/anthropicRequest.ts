/** Requests of Anthropic's Messages API: `POST /v1/messages`. */
import { type ChatRequest, defaults } from "../ChatRequest.js"
import type { Unsupported } from "../Errors.js"
import * as ExtraParameters from "../internal/extraParameters.js"
import * as ToolArguments from "../internal/toolArguments.js"
import * as Message from "../Message.js"
import { instruction } from "../StructuredOutput.js"
import { type ClaudeModel, modelOf } from "./anthropicModels.js"
import { outputSchema } from "./anthropicSchema.js"
import type { Block, SignedAnswers } from "./anthropicThinking.js"
import { templateMessages } from "./templateMessages.js"

// =============================================================================
// Messages
// =============================================================================

const image = (part: Message.ImagePart): Block => {
  if ("data" in part) {
    return { type: "image", source: { type: "base64", media_type: part.mediaType, data: part.data } }
  }
  const inline = /^data:([^;,]+);base64,(.*)$/s.exec(part.url)
  return {
    type: "image",
    source:
      inline === null ? { type: "url", url: part.url } : { type: "base64", media_type: inline[1], data: inline[2] }
  }
}

const isBlank = (text: string): boolean => text.trim() === ""

/** The API rejects blank texts. */
const texts = (text: string): ReadonlyArray<Block> => (isBlank(text) ? [] : [{ type: "text", text }])

const userBlocks = ({ content }: Message.UserMessage): ReadonlyArray<Block> =>
  typeof content === "string"
    ? texts(content)
    : content.flatMap((part) => (part.type === "text" ? texts(part.text) : [image(part)]))

/** Replaces call ids of other servers that this API rejects. */
const idOf = (id: string): string => id.replace(/[^a-zA-Z0-9_-]/g, "_")

const assistantBlocks = ({ content, toolCalls = [] }: Message.AssistantMessage): ReadonlyArray<Block> => [
  ...texts(content),
  ...toolCalls.map((call) => ({
    type: "tool_use",
    id: idOf(call.id),
    name: call.name,
    input: ToolArguments.object(call)
  }))
]

interface Turn {
  readonly role: "user" | "assistant"
  readonly content: Array<Block>
}

interface Conversation {
  readonly system: string
  readonly turns: ReadonlyArray<Turn>
}

/** The original blocks of a message, if they must be sent back. */
type Original = (message: Message.AssistantMessage) => ReadonlyArray<Block> | undefined

const conversation = (messages: ReadonlyArray<Message.Message>, original: Original): Conversation => {
  const turns: Array<Turn> = []
  let system = ""
  const add = (role: Turn["role"], blocks: ReadonlyArray<Block>): void => {
    const last = turns.at(-1)
    if (blocks.length === 0) return
    if (last?.role === role) last.content.push(...blocks)
    else turns.push({ role, content: [...blocks] })
  }
  for (const message of messages) {
    switch (message.role) {
      case "system":
      case "developer":
        system = message.content
        break
      case "user":
        add("user", userBlocks(message))
        break
      case "assistant":
        add("assistant", original(message) ?? assistantBlocks(message))
        break
      case "tool":
        add("user", [
          {
            type: "tool_result",
            tool_use_id: idOf(message.toolCallId),
            ...(isBlank(message.content) ? {} : { content: message.content })
          }
        ])
    }
  }
  return { system, turns }
}

/** Whether tool results are sent in a turn that began without thinking, or whose thinking is no longer known. */
const isUnsigned = (messages: ReadonlyArray<Message.Message>, original: Original): boolean => {
  let first: Message.AssistantMessage | undefined
  for (let at = messages.length - 1; at >= 0; at--) {
    const message = messages[at]
    if (message?.role === "assistant") first = message
    else if (message?.role !== "tool") break
  }
  return first !== undefined && messages.at(-1)?.role === "tool" && original(first) === undefined
}

/** The API rejects trailing white space in a prefilled answer. */
const trimmed = (turns: ReadonlyArray<Turn>): ReadonlyArray<Turn> => {
  const last = turns.at(-1)
  const block = last?.content.at(-1)
  if (last?.role !== "assistant" || block === undefined || typeof block["text"] !== "string") return turns
  const text = { ...block, text: block["text"].trimEnd() }
  return [...turns.slice(0, -1), { role: last.role, content: [...last.content.slice(0, -1), text] }]
}

// =============================================================================
// Limits
// =============================================================================

/** The minimum thinking budget that the API accepts. */
const minBudget = 1_024

/** The thinking budget of each effort level. `true` is `medium`. */
const budgets = { low: 2_048, medium: 8_192, high: 16_384, max: 32_768 } as const

/** A low estimate of the characters per token. */
const charactersPerToken = 3

/** The API requires a limit: the model's maximum, or what its context leaves. */
const limitOf = ({ maxTokens, messages }: ChatRequest, { context, maxTokens: most }: ClaudeModel): number => {
  if (maxTokens !== undefined) return maxTokens
  let characters = 0
  for (const message of messages) characters += Message.text(message).length
  const room = context - Math.ceil(characters / charactersPerToken)
  return Math.max(Math.min(most, room), Math.min(most, minBudget))
}

const wantsThinking = ({ think }: ChatRequest): boolean => think !== undefined && think !== false

const budgetOf = ({ extra, think }: ChatRequest, limit: number): number => {
  const given = extra?.["thinking_budget"]
  const requested =
    typeof given === "number"
      ? given
      : budgets[think === true || think === undefined || think === false ? "medium" : think]
  return Math.max(minBudget, Math.min(requested, limit - 1))
}

interface Thinking {
  readonly thinking?: object | undefined
  readonly effort?: string | undefined
  /** Thinking is enabled: sampling parameters are rejected. */
  readonly on: boolean
}

const thinkingOf = (request: ChatRequest, model: ClaudeModel, limit: number, unsigned: boolean): Thinking => {
  const { think } = request
  if (think === undefined) return { on: false }
  if (think === false) return { thinking: model.thinksByDefault ? { type: "disabled" } : undefined, on: false }
  const display = model.hidesThinking ? { display: "summarized" } : undefined
  if (model.thinking === "budget") {
    // The API requires the thinking before a tool call.
    if (unsigned) return { on: false }
    return { thinking: { type: "enabled", budget_tokens: budgetOf(request, limit) }, on: true }
  }
  return { thinking: { type: "adaptive", ...display }, effort: think === true ? undefined : think, on: true }
}

// =============================================================================
// The whole body
// =============================================================================

const toolChoice = (choice: Exclude<ChatRequest["toolChoice"], undefined>): object => {
  if (typeof choice === "object") return { type: "tool", name: choice.name }
  return { type: choice === "required" ? "any" : choice }
}

const samplers = (
  { defaultTemperature, temperature, topK, topP }: ChatRequest,
  model: ClaudeModel,
  thinks: boolean
): object => {
  if (!model.samples || thinks) return {}
  // Newer models reject both together.
  const both = topP !== undefined && topP !== defaults.topP
  return {
    temperature: both && defaultTemperature === true ? undefined : temperature,
    top_p: both ? topP : undefined,
    top_k: topK === 0 ? undefined : topK
  }
}

/** The body of `POST /v1/messages`. Undefined fields are not sent. */
export const body = (
  request: ChatRequest,
  server: string,
  signed: SignedAnswers
): { readonly [key: string]: unknown } => {
  const { extra, format, messages, stop, tools } = request
  const model = modelOf(request.model)
  const limit = limitOf(request, model)
  const normal = templateMessages(messages, true)
  const original: Original = (message) => signed.blocksOf(server, message)
  const { effort, on, thinking } = thinkingOf(request, model, limit, isUnsigned(normal, original))
  // Thinking is sent only to models that think.
  const { system, turns } = conversation(normal, on || model.thinking !== "budget" ? original : () => undefined)
  const systemPrompt = format === "json" && !system.includes(instruction) ? `${system}\n${instruction}`.trim() : system
  const output = {
    effort,
    format: typeof format === "object" ? { type: "json_schema", schema: outputSchema(format) } : undefined
  }
  return {
    ...ExtraParameters.forAnthropic(extra),
    model: request.model,
    max_tokens: limit,
    stream: true,
    system: isBlank(systemPrompt) ? undefined : systemPrompt,
    messages: trimmed(turns),
    ...samplers(request, model, on),
    stop_sequences: stop.length === 0 ? undefined : stop,
    thinking,
    output_config: output.effort === undefined && output.format === undefined ? undefined : output,
    ...(tools.length === 0
      ? {}
      : {
          tools: tools.map(({ description, name, parameters }) => ({
            name,
            description,
            input_schema: { type: "object", properties: {}, ...parameters }
          })),
          tool_choice: request.toolChoice === undefined ? undefined : toolChoice(request.toolChoice)
        })
  }
}

const who = "Anthropic's API"

/** The options that this model does not support. */
const ofModel = (request: ChatRequest, found: Array<Unsupported>): void => {
  const { defaultTemperature, maxTokens, model: name, temperature = 1, toolChoice, topK, topP } = request
  const model = modelOf(name)
  const thinks = wantsThinking(request)
  const forced = request.tools.length > 0 && (toolChoice === "required" || typeof toolChoice === "object")
  if (!model.samples || thinks) {
    const reason = model.samples ? `${who} takes none where the model thinks` : `${name} takes none`
    // 1 is what they do without it.
    if (defaultTemperature !== true && temperature !== 1) found.push({ field: "temperature", reason })
    if (topP !== undefined && topP !== defaults.topP) found.push({ field: "topP", reason })
    if (topK !== undefined && topK !== 0) found.push({ field: "topK", reason })
  } else if (temperature > 1) {
    found.push({ field: "temperature", reason: `${who} takes 0 to 1` })
  }
  if (request.think === false && model.thinking === "always") {
    found.push({ field: "think", reason: `${name} always thinks` })
  }
  if (thinks && model.thinking === "budget" && maxTokens !== undefined && maxTokens <= minBudget) {
    found.push({ field: "maxTokens", reason: `thinking takes more than ${minBudget} tokens there` })
  }
  if (request.messages.at(-1)?.role === "assistant") {
    if (!model.prefill) {
      found.push({ field: "messages", reason: `${name} does not continue an answer that was begun` })
    } else if (thinks) {
      found.push({ field: "think", reason: `${who} does not continue an answer that was begun where the model thinks` })
    }
  }
  if (forced && !model.forcedTools) found.push({ field: "toolChoice", reason: `${name} cannot be made to call a tool` })
  else if (forced && thinks) {
    found.push({ field: "toolChoice", reason: `${who} does not make a model call a tool that thinks before` })
  }
  if (typeof request.format === "object" && !model.schemas) {
    found.push({ field: "schema", reason: `${name} cannot be held to a JSON schema` })
  }
}

/** The options that the API, or the model, cannot express. */
export const unsupported = (request: ChatRequest): ReadonlyArray<Unsupported> => {
  const found: Array<Unsupported> = []
  const none = (field: string): void => {
    found.push({ field, reason: `${who} has no such option` })
  }
  if (request.raw === true) none("raw")
  if (request.suffix !== undefined) none("suffix")
  if (request.template !== undefined) none("template")
  if (request.logprobs !== undefined) none("logprobs")
  if (request.logitBias !== undefined) none("logitBias")
  if ((request.frequencyPenalty ?? 0) !== 0) none("frequencyPenalty")
  if ((request.presencePenalty ?? 0) !== 0) none("presencePenalty")
  if ((request.repeatPenalty ?? 1) !== 1) none("repeatPenalty")
  if ((request.minP ?? 0) !== 0) none("minP")
  if (request.stop.some(isBlank)) found.push({ field: "stop", reason: `${who} takes no white space alone` })
  found.push(...ExtraParameters.refusals(request.extra, "anthropic", who))
  if (request.lenient !== true) {
    if (request.keepAlive !== undefined) none("keepAlive")
    if (request.options !== undefined && Object.keys(request.options).length > 0) {
      found.push({ field: "options", reason: `${who} does not take Ollama's options` })
    }
  }
  ofModel(request, found)
  return found
}

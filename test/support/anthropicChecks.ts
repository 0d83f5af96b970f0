import type { Json } from "./script.js"

/** A rejection as the API words it. */
export interface Rejection {
  readonly status: number
  readonly type: string
  readonly message: string
}

const fields = new Set([
  "model",
  "messages",
  "max_tokens",
  "stream",
  "system",
  "temperature",
  "top_p",
  "top_k",
  "stop_sequences",
  "thinking",
  "output_config",
  "tools",
  "tool_choice",
  "metadata",
  "service_tier",
  "cache_control",
  "context_management",
  "container",
  "inference_geo",
  "speed"
])

const invalid = (message: string): Rejection => ({ status: 400, type: "invalid_request_error", message })

/** The signature of thinking, as this fake gives it and wants it back. */
export const signatureOf = (thinking: string): string => `Eq${Buffer.from(thinking).toString("base64url")}==`

const blocksOf = (content: Json): ReadonlyArray<Json> =>
  typeof content === "string" ? [{ type: "text", text: content }] : content

const checkBlock = (block: Json, at: string): string | undefined => {
  switch (block?.type) {
    case "text":
      if (block.text === "") return `${at}: text content blocks must be non-empty`
      return block.text.trim() === "" ? `${at}: text content blocks must contain non-whitespace text` : undefined
    case "image": {
      const { source } = block
      if (
        source?.type === "base64" &&
        typeof source.data === "string" &&
        /^image\/(jpeg|png|gif|webp)$/.test(source.media_type)
      )
        return undefined
      return source?.type === "url" && /^https:/.test(source.url)
        ? undefined
        : `${at}.image.source: Input should be valid`
    }
    case "tool_use":
      if (!/^[a-zA-Z0-9_-]+$/.test(block.id)) return `${at}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'`
      return typeof block.input === "object" ? undefined : `${at}.tool_use.input: Input should be a valid dictionary`
    case "tool_result":
      return typeof block.tool_use_id === "string" ? undefined : `${at}.tool_result.tool_use_id: Field required`
    case "thinking":
      return block.signature === signatureOf(block.thinking)
        ? undefined
        : `${at}: Invalid \`signature\` in \`thinking\` block`
    case "redacted_thinking":
      return typeof block.data === "string" ? undefined : `${at}.redacted_thinking.data: Field required`
    default:
      return `${at}: Input tag '${block?.type}' found using 'type' does not match any of the expected tags`
  }
}

const idsOf = (blocks: ReadonlyArray<Json>, type: string, key: string): ReadonlyArray<string> =>
  blocks.filter((block) => block.type === type).map((block) => block[key])

const checkMessages = (messages: ReadonlyArray<Json>): string | undefined => {
  if (!Array.isArray(messages) || messages.length === 0) return "messages: at least one message is required"
  let calls: ReadonlyArray<string> = []
  for (const [i, { role, content }] of messages.entries()) {
    if (role !== "user" && role !== "assistant") {
      return `messages: Unexpected role "${role}". The Messages API accepts a top-level \`system\` parameter, not "system" as an input message role.`
    }
    const blocks = blocksOf(content)
    if (blocks.length === 0) return `messages.${i}: user messages must have non-empty content`
    for (const [j, block] of blocks.entries()) {
      const wrong = checkBlock(block, `messages.${i}.content.${j}`)
      if (wrong !== undefined) return wrong
    }
    const results = idsOf(blocks, "tool_result", "tool_use_id")
    const missing = calls.filter((id) => !results.includes(id))
    if (missing.length > 0) {
      return `messages.${i - 1}: \`tool_use\` ids were found without \`tool_result\` blocks immediately after: ${missing.join(", ")}. Each \`tool_use\` block must have a corresponding \`tool_result\` block in the next message.`
    }
    const strange = results.find((id) => !calls.includes(id))
    if (strange !== undefined) {
      return `messages.${i}.content.0: unexpected \`tool_use_id\` found in \`tool_result\` blocks: ${strange}. Each \`tool_result\` block must have a corresponding \`tool_use\` block in the previous message.`
    }
    calls = idsOf(blocks, "tool_use", "id")
  }
  return calls.length > 0
    ? "messages: `tool_use` ids were found without `tool_result` blocks immediately after"
    : undefined
}

const checkThinking = (body: Json): string | undefined => {
  const { thinking, max_tokens, messages, tool_choice } = body
  if (thinking?.type !== "enabled") {
    const last = messages.at(-1)
    return thinking?.type !== "adaptive" && last.role === "assistant" && blocksOf(last.content)[0]?.type === "thinking"
      ? "messages: When `thinking` is disabled, an `assistant` message in the final position cannot contain `thinking`."
      : undefined
  }
  if (!(thinking.budget_tokens >= 1024))
    return "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"
  if (thinking.budget_tokens >= max_tokens) return "`max_tokens` must be greater than `thinking.budget_tokens`"
  if (body.temperature !== undefined && body.temperature !== 1) {
    return "`temperature` may only be set to 1 when thinking is enabled."
  }
  if (body.top_k !== undefined) return "`top_k` must be unset when thinking is enabled."
  if (tool_choice?.type === "any" || tool_choice?.type === "tool") {
    return "Thinking may not be enabled when tool_choice forces tool use."
  }
  if (messages.at(-1).role === "assistant") return "Prefilling is not supported when thinking is enabled."
  const isResult = ({ content, role }: Json) =>
    role === "user" && blocksOf(content).some(({ type }) => type === "tool_result")
  const answered = isResult(messages.at(-1))
  const turn = messages.slice(messages.findLastIndex((one: Json) => one.role === "user" && !isResult(one)) + 1)
  const first = answered ? blocksOf(turn[0].content)[0]?.type : undefined
  if (answered && first !== "thinking" && first !== "redacted_thinking") {
    return `messages.1.content.0.type: Expected \`thinking\` or \`redacted_thinking\`, but found \`${first}\`. When \`thinking\` is enabled, a final \`assistant\` message must start with a thinking block.`
  }
  return undefined
}

const unsupported = ["minimum", "maximum", "minLength", "maxLength", "pattern", "maxItems", "oneOf"]

const checkSchema = (schema: Json): string | undefined => {
  if (typeof schema !== "object" || schema === null) return undefined
  if (Array.isArray(schema)) return schema.map(checkSchema).find((wrong) => wrong !== undefined)
  if (schema.type === "object" && schema.additionalProperties !== false) {
    return "output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set to false"
  }
  const strange = unsupported.find((key) => schema[key] !== undefined && typeof schema[key] !== "object")
  if (strange !== undefined) {
    return `output_config.format.schema: For '${schema.type}' type, property '${strange}' is not supported`
  }
  const { properties = {}, ...others } = schema
  return [...Object.values(properties), ...Object.values(others)].map(checkSchema).find((wrong) => wrong !== undefined)
}

/** What the API would reject of a body. `prefill`: whether the model continues an answer. */
export function checkAnthropicBody(body: Json, prefill: boolean): Rejection | undefined {
  const strange = Object.keys(body).find((name) => !fields.has(name))
  if (strange !== undefined) return invalid(`${strange}: Extra inputs are not permitted`)
  for (const name of ["model", "max_tokens", "messages"]) {
    if (body[name] === undefined) return invalid(`${name}: Field required`)
  }
  if (!Number.isInteger(body.max_tokens) || body.max_tokens < 1) {
    return invalid("max_tokens: Input should be greater than or equal to 1")
  }
  if (body.temperature > 1) return invalid("temperature: Input should be less than or equal to 1")
  if (body.temperature !== undefined && body.top_p !== undefined) {
    return invalid("`temperature` and `top_p` cannot both be specified for this model. Please use only one.")
  }
  if (body.stop_sequences?.some((stop: string) => stop.trim() === "")) {
    return invalid("stop_sequences: each stop sequence must contain non-whitespace")
  }
  const wrong = checkMessages(body.messages) ?? checkThinking(body) ?? checkSchema(body.output_config?.format?.schema)
  if (wrong !== undefined) return invalid(wrong)
  for (const [i, { input_schema }] of (body.tools ?? []).entries()) {
    if (input_schema?.type !== "object") return invalid(`tools.${i}.custom.input_schema.type: Field required`)
  }
  const last = body.messages.at(-1)
  if (last.role !== "assistant") return undefined
  if (!prefill) {
    return invalid(
      "This model does not support assistant message prefill. The conversation must end with a user message."
    )
  }
  const text = blocksOf(last.content).at(-1)?.text
  return typeof text === "string" && text !== text.trimEnd()
    ? invalid("messages: final assistant content cannot end with trailing whitespace")
    : undefined
}

/** The text of a message's content. */
export const textOfContent = (content: Json): string =>
  blocksOf(content)
    .map(({ text }) => text ?? "")
    .join("")

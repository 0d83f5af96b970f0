/**
 * The parameters that OpenAI's endpoints share, and the extras of other servers that are honoured there too.
 *
 * @since 0.1.0
 */
import { type ChatRequest, defaults } from "../../ChatRequest.js"
import * as Ask from "../ask.js"
import * as Fields from "../fields.js"
import { refuse } from "../problem.js"

const efforts: { readonly [effort: string]: NonNullable<ChatRequest["think"]> } = {
  none: false,
  minimal: "low",
  low: "low",
  medium: "medium",
  high: "high",
  xhigh: "max",
  max: "max"
}

const names = Object.keys(efforts)

/**
 * @since 0.1.0
 * @category readers
 */
export const think = (body: Fields.Fields): ChatRequest["think"] => {
  const given = Ask.think(body)
  if (given !== undefined) return given
  const reasoning = Fields.object(body, "reasoning")
  const effort =
    Fields.oneOf(body, "reasoning_effort", names) ??
    (reasoning === undefined ? undefined : Fields.oneOf(reasoning, "effort", names, "reasoning.effort"))
  if (effort !== undefined) return efforts[effort]
  const template = Fields.object(body, "chat_template_kwargs")
  if (template === undefined) return undefined
  for (const name in template) {
    if (name !== "enable_thinking" && name !== "thinking") {
      refuse(`chat_template_kwargs.${name}`, "is not supported; only enable_thinking is", "unsupported_parameter")
    }
  }
  return (
    Fields.flag(template, "enable_thinking", "chat_template_kwargs.enable_thinking") ??
    Fields.flag(template, "thinking", "chat_template_kwargs.thinking")
  )
}

/**
 * The names of what `sampling` reads.
 *
 * @since 0.1.0
 * @category constants
 */
export const samplingNames = [
  "temperature",
  "top_p",
  "stop",
  "seed",
  "frequency_penalty",
  "presence_penalty",
  "top_k",
  "min_p",
  "repeat_penalty",
  "repetition_penalty",
  "logit_bias",
  "keep_alive",
  "options",
  "num_ctx",
  "think",
  "reasoning",
  "reasoning_effort",
  "chat_template_kwargs"
] as const

/** What OpenAI takes and what makes no difference to an answer. */
const harmless: ReadonlySet<string> = new Set([
  "user",
  "metadata",
  "store",
  "service_tier",
  "safety_identifier",
  "prompt_cache_key",
  "prompt_cache_retention",
  "prediction"
])

/**
 * @since 0.1.0
 * @category constants
 */
export const commonNames = [...samplingNames, ...harmless, ...Ask.extraNames, "model", "stream", "stream_options"]

const samplingSet: ReadonlySet<string> = new Set(samplingNames)

const logitBias = (body: Fields.Fields): ChatRequest["logitBias"] => {
  const given = Fields.object(body, "logit_bias")
  if (given === undefined) return undefined
  const names = Object.keys(given)
  if (names.length === 0) return undefined
  if (names.length > 2048) refuse("logit_bias", "must hold at most 2048 tokens")
  for (const name of names) {
    if (!/^\d{1,9}$/.test(name))
      refuse("logit_bias", `must have the numbers of tokens as its keys, not '${name.slice(0, 40)}'`)
    if (Fields.number(given, name, -100, 100, `logit_bias.${name}`) === undefined)
      refuse(`logit_bias.${name}`, "is missing")
  }
  return given as ChatRequest["logitBias"]
}

/**
 * How an answer is drawn.
 *
 * @since 0.1.0
 * @category readers
 */
export const sampling = (body: Fields.Fields): Ask.Sampling => (Fields.any(body, samplingSet) ? sampled(body) : unasked)

const sampled = (body: Fields.Fields): Ask.Sampling => ({
  temperature: Fields.number(body, "temperature", 0, 2) ?? defaults.temperature,
  topP: Fields.number(body, "top_p", 0, 1) ?? defaults.topP,
  stop: Fields.strings(body, "stop", 16),
  seed: Fields.whole(body, "seed", Number.MIN_SAFE_INTEGER),
  frequencyPenalty: Fields.number(body, "frequency_penalty", -2, 2),
  presencePenalty: Fields.number(body, "presence_penalty", -2, 2),
  topK: Fields.whole(body, "top_k", 0),
  minP: Fields.number(body, "min_p", 0, 1),
  repeatPenalty:
    Fields.number(body, "repeat_penalty", Number.MIN_VALUE, Number.POSITIVE_INFINITY) ??
    Fields.number(body, "repetition_penalty", Number.MIN_VALUE, Number.POSITIVE_INFINITY),
  logitBias: logitBias(body),
  keepAlive: Ask.keepAlive(body),
  think: think(body),
  options: Ask.options(body)
})

/** Most requests leave it to the defaults. */
const unasked = sampled({})

/**
 * Checks the types of what makes no difference.
 *
 * @since 0.1.0
 * @category readers
 */
export const checkHarmless = (body: Fields.Fields): void => {
  if (!Fields.any(body, harmless)) return
  for (const name of ["user", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"]) {
    Fields.text(body, name)
  }
  Fields.flag(body, "store")
  Fields.object(body, "prediction")
  const metadata = Fields.object(body, "metadata") ?? {}
  for (const name in metadata) Fields.needed(metadata, name, `metadata.${name}`)
}

/** Obfuscation hides how long the pieces of an answer are; they are not hidden from who reads them here. */
const streamOptions: ReadonlySet<string> = new Set(["include_usage", "include_obfuscation"])

/**
 * Whether the counts of tokens are to be told in a stream.
 *
 * @since 0.1.0
 * @category readers
 */
export const includeUsage = (body: Fields.Fields, stream: boolean): boolean => {
  const given = Fields.object(body, "stream_options")
  if (given === undefined) return false
  if (!stream) refuse("stream_options", "is only allowed when stream is true")
  for (const name in given) {
    if (!streamOptions.has(name)) refuse(`stream_options.${name}`, "is not a parameter of it", "unknown_parameter")
  }
  Fields.flag(given, "include_obfuscation", "stream_options.include_obfuscation")
  return Fields.flag(given, "include_usage", "stream_options.include_usage") ?? false
}

/**
 * The parameters that OpenAI's endpoints share, and the extras of other servers that are honoured there too.
 *
 * @since 0.1.0
 */
import type { ChatRequest } from "../../../ChatRequest.js"
import * as Extra from "../../../internal/extraParameters.js"
import * as Fields from "../../http/body.js"
import { refuse } from "../../http/errorResponse.js"
import { Ignored } from "../../http/fieldPolicy.js"
import * as Ask from "../../pipeline/gatewayRequest.js"

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
const reasoningNames: ReadonlySet<string> = new Set(["effort", "enabled", "summary", "generate_summary"])
const thinkingNames: ReadonlySet<string> = new Set(["type"])

/**
 * @since 0.1.0
 * @category readers
 */
export const think = (body: Fields.Fields, ignored: Ignored): ChatRequest["think"] => {
  const given = Ask.think(body)
  if (given !== undefined) return given
  const reasoning = Fields.object(body, "reasoning")
  if (reasoning !== undefined) ignored.within(reasoning, reasoningNames, "reasoning")
  const effort =
    Fields.oneOf(body, "reasoning_effort", names) ??
    (reasoning === undefined ? undefined : Fields.oneOf(reasoning, "effort", names, "reasoning.effort"))
  if (effort !== undefined) return efforts[effort]
  const enabled = reasoning === undefined ? undefined : Fields.flag(reasoning, "enabled", "reasoning.enabled")
  const template = Fields.object(body, "chat_template_kwargs") ?? {}
  return (
    enabled ??
    Fields.flag(body, "enable_thinking") ??
    thinking(body, ignored) ??
    Fields.flag(template, "enable_thinking", "chat_template_kwargs.enable_thinking") ??
    Fields.flag(template, "thinking", "chat_template_kwargs.thinking")
  )
}

/** As DeepSeek, Z.ai and Anthropic have it: a switch, or an object with one. Adaptive is what a model does by itself. */
const thinking = (body: Fields.Fields, ignored: Ignored): boolean | undefined => {
  const given = body["thinking"]
  if (!Fields.isObject(given)) return Fields.flag(body, "thinking")
  ignored.within(given, thinkingNames, "thinking")
  const type = Fields.oneOf(given, "type", ["enabled", "disabled", "adaptive", "auto"], "thinking.type")
  return type === "enabled" ? true : type === "disabled" ? false : undefined
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
  "chat_template_kwargs",
  "enable_thinking",
  "thinking",
  ...Object.keys(Extra.fields)
] as const

/** What tells whose request it is, and which conversation it belongs to. */
const about: ReadonlySet<string> = new Set(["user", "metadata", "store", "prompt_cache_key"])

/**
 * @since 0.1.0
 * @category constants
 */
export const commonNames = [...samplingNames, ...about, ...Ask.extraNames, "model", "stream", "stream_options"]

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
export const sampling = (body: Fields.Fields, ignored: Ignored): Ask.Sampling =>
  Fields.any(body, samplingSet) ? sampled(body, ignored) : unasked

const sampled = (body: Fields.Fields, ignored: Ignored): Ask.Sampling => ({
  temperature: Fields.number(body, "temperature", 0, 2),
  topP: Fields.number(body, "top_p", 0, 1),
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
  think: think(body, ignored),
  options: Ask.options(body),
  extra: Ask.extra(body)
})

/** Most requests leave it to the defaults. */
const unasked = sampled({}, new Ignored(false))

/**
 * Checks the types of what tells about a request, and changes no answer.
 *
 * @since 0.1.0
 * @category readers
 */
export const checkAbout = (body: Fields.Fields): void => {
  if (!Fields.any(body, about)) return
  Fields.text(body, "user")
  Fields.text(body, "prompt_cache_key")
  Fields.flag(body, "store")
  Fields.json(body, "metadata")
}

/** Obfuscation hides how long the pieces of an answer are; they are not hidden from who reads them here. */
const streamOptions: ReadonlySet<string> = new Set(["include_usage", "include_obfuscation"])

/**
 * Whether the counts of tokens are to be told in a stream.
 *
 * @since 0.1.0
 * @category readers
 */
export const includeUsage = (body: Fields.Fields, stream: boolean, ignored: Ignored): boolean => {
  const given = Fields.object(body, "stream_options")
  if (given === undefined) return false
  if (!stream) refuse("stream_options", "is only allowed when stream is true")
  ignored.within(given, streamOptions, "stream_options")
  Fields.flag(given, "include_obfuscation", "stream_options.include_obfuscation")
  return Fields.flag(given, "include_usage", "stream_options.include_usage") ?? false
}

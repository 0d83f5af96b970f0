/** The parameters that OpenAI's endpoints share, and extensions of other servers that are supported there too. */
import type { ChatRequest } from "../../../ChatRequest.js"
import * as ExtraParameters from "../../../internal/extraParameters.js"
import * as BodyFields from "../../http/body.js"
import { reject } from "../../http/errorResponse.js"
import { IgnoredFields } from "../../http/fieldPolicy.js"
import * as GatewayRequest from "../../pipeline/gatewayRequest.js"

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

export const think = (body: BodyFields.Fields, ignored: IgnoredFields): ChatRequest["think"] => {
  const given = GatewayRequest.think(body)
  if (given !== undefined) return given
  const reasoning = BodyFields.object(body, "reasoning")
  if (reasoning !== undefined) ignored.checkObject(reasoning, reasoningNames, "reasoning")
  const effort =
    BodyFields.oneOf(body, "reasoning_effort", names) ??
    (reasoning === undefined ? undefined : BodyFields.oneOf(reasoning, "effort", names, "reasoning.effort"))
  if (effort !== undefined) return efforts[effort]
  const enabled = reasoning === undefined ? undefined : BodyFields.flag(reasoning, "enabled", "reasoning.enabled")
  const template = BodyFields.object(body, "chat_template_kwargs") ?? {}
  return (
    enabled ??
    BodyFields.flag(body, "enable_thinking") ??
    thinking(body, ignored) ??
    BodyFields.flag(template, "enable_thinking", "chat_template_kwargs.enable_thinking") ??
    BodyFields.flag(template, "thinking", "chat_template_kwargs.thinking")
  )
}

/** As DeepSeek, Z.ai and Anthropic have it: a switch, or an object with one. `adaptive` is the default behaviour. */
const thinking = (body: BodyFields.Fields, ignored: IgnoredFields): boolean | undefined => {
  const given = body["thinking"]
  if (!BodyFields.isObject(given)) return BodyFields.flag(body, "thinking")
  ignored.checkObject(given, thinkingNames, "thinking")
  const type = BodyFields.oneOf(given, "type", ["enabled", "disabled", "adaptive", "auto"], "thinking.type")
  return type === "enabled" ? true : type === "disabled" ? false : undefined
}

/** The fields that `sampling` reads. */
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
  ...Object.keys(ExtraParameters.fields)
] as const

/** Identification of the user and the conversation. */
const about: ReadonlySet<string> = new Set(["user", "metadata", "store", "prompt_cache_key"])

export const commonNames = [
  ...samplingNames,
  ...about,
  ...GatewayRequest.extraNames,
  "model",
  "stream",
  "stream_options"
]

const samplingSet: ReadonlySet<string> = new Set(samplingNames)

const logitBias = (body: BodyFields.Fields): ChatRequest["logitBias"] => {
  const given = BodyFields.object(body, "logit_bias")
  if (given === undefined) return undefined
  const names = Object.keys(given)
  if (names.length === 0) return undefined
  if (names.length > 2048) reject("logit_bias", "must hold at most 2048 tokens")
  for (const name of names) {
    if (!/^\d{1,9}$/.test(name))
      reject("logit_bias", `must have the numbers of tokens as its keys, not '${name.slice(0, 40)}'`)
    if (BodyFields.number(given, name, -100, 100, `logit_bias.${name}`) === undefined)
      reject(`logit_bias.${name}`, "is missing")
  }
  return given as ChatRequest["logitBias"]
}

/** Reads the sampling parameters. */
export const sampling = (body: BodyFields.Fields, ignored: IgnoredFields): GatewayRequest.Sampling =>
  BodyFields.any(body, samplingSet) ? sampled(body, ignored) : unasked

const sampled = (body: BodyFields.Fields, ignored: IgnoredFields): GatewayRequest.Sampling => ({
  temperature: BodyFields.number(body, "temperature", 0, 2),
  topP: BodyFields.number(body, "top_p", 0, 1),
  stop: BodyFields.strings(body, "stop", 16),
  seed: BodyFields.whole(body, "seed", Number.MIN_SAFE_INTEGER),
  frequencyPenalty: BodyFields.number(body, "frequency_penalty", -2, 2),
  presencePenalty: BodyFields.number(body, "presence_penalty", -2, 2),
  topK: BodyFields.whole(body, "top_k", 0),
  minP: BodyFields.number(body, "min_p", 0, 1),
  repeatPenalty:
    BodyFields.number(body, "repeat_penalty", Number.MIN_VALUE, Number.POSITIVE_INFINITY) ??
    BodyFields.number(body, "repetition_penalty", Number.MIN_VALUE, Number.POSITIVE_INFINITY),
  logitBias: logitBias(body),
  keepAlive: GatewayRequest.keepAlive(body),
  think: think(body, ignored),
  options: GatewayRequest.options(body),
  extra: GatewayRequest.extra(body)
})

/** Most requests use the defaults. */
const unasked = sampled({}, new IgnoredFields(false))

/** Checks the types of metadata fields, which do not change an answer. */
export const checkAbout = (body: BodyFields.Fields): void => {
  if (!BodyFields.any(body, about)) return
  BodyFields.text(body, "user")
  BodyFields.text(body, "prompt_cache_key")
  BodyFields.flag(body, "store")
  BodyFields.json(body, "metadata")
}

/** Obfuscation pads chunks to hide token lengths; it is not supported, because it changes nothing for the reader. */
const streamOptions: ReadonlySet<string> = new Set(["include_usage", "include_obfuscation"])

/** Whether the stream includes token usage. */
export const includeUsage = (body: BodyFields.Fields, stream: boolean, ignored: IgnoredFields): boolean => {
  const given = BodyFields.object(body, "stream_options")
  if (given === undefined) return false
  if (!stream) reject("stream_options", "is only allowed when stream is true")
  ignored.checkObject(given, streamOptions, "stream_options")
  BodyFields.flag(given, "include_obfuscation", "stream_options.include_obfuscation")
  return BodyFields.flag(given, "include_usage", "stream_options.include_usage") ?? false
}

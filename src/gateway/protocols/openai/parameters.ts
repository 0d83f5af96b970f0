/** The parameters that OpenAI's endpoints share, and extensions of other servers that are supported there too. */
import { type ChatRequest, defaults } from "../../../ChatRequest.js"
import * as BodyFields from "../../http/body.js"
import * as Body from "../../http/bodyDeclaration.js"
import { reject } from "../../http/errorResponse.js"
import { IgnoredFields } from "../../http/fieldPolicy.js"
import * as CommonFields from "../../pipeline/commonFields.js"
import type * as GatewayRequest from "../../pipeline/gatewayRequest.js"

const efforts: { readonly [effort: string]: NonNullable<ChatRequest["think"]> } = {
  none: false,
  minimal: "low",
  low: "low",
  medium: "medium",
  high: "high",
  xhigh: "max",
  max: "max"
}

// =============================================================================
// Fields
// =============================================================================

const effort = Body.oneOf(Object.keys(efforts))
const reasoning = Body.struct(
  {
    effort,
    enabled: Body.flag(),
    summary: Body.withoutEffect(Body.text()),
    generate_summary: Body.withoutEffect(Body.text())
  },
  { path: "reasoning" }
)
const template = Body.struct(
  { enable_thinking: Body.flag(), thinking: Body.flag() },
  { path: "chat_template_kwargs", open: true }
)

/** As DeepSeek, Z.ai and Anthropic have it: a switch, or an object with one. `adaptive` is the default behaviour. */
const switched = Body.struct({ type: Body.oneOf(["enabled", "disabled", "adaptive", "auto"]) }, { path: "thinking" })

const maxBiases = 2048

const sampled = {
  temperature: Body.number(0, 2, { default: defaults.temperature }),
  top_p: Body.number(0, 1, { default: defaults.topP }),
  stop: Body.strings(16),
  seed: Body.whole(),
  frequency_penalty: Body.number(-2, 2),
  presence_penalty: Body.number(-2, 2),
  logit_bias: Body.custom(
    {
      type: "object",
      additionalProperties: { type: "number", minimum: -100, maximum: 100 },
      maxProperties: maxBiases
    },
    (body, name, at): ChatRequest["logitBias"] => {
      const given = BodyFields.object(body, name, at)
      if (given === undefined) return undefined
      const tokens = Object.keys(given)
      if (tokens.length === 0) return undefined
      if (tokens.length > maxBiases) reject(at, `must hold at most ${maxBiases} tokens`)
      for (const token of tokens) {
        if (!/^\d{1,9}$/.test(token))
          reject(at, `must have the numbers of tokens as its keys, not '${token.slice(0, 40)}'`)
        if (BodyFields.number(given, token, -100, 100, `${at}.${token}`) === undefined)
          reject(`${at}.${token}`, "is missing")
      }
      return given as ChatRequest["logitBias"]
    }
  ),
  top_k: Body.whole(0),
  min_p: Body.number(0, 1),
  repeat_penalty: Body.positive(),
  repetition_penalty: Body.positive({ doc: "The same as repeat_penalty." }),
  reasoning: Body.object({}, reasoning),
  reasoning_effort: effort,
  think: CommonFields.think,
  enable_thinking: Body.flag(),
  thinking: Body.custom(
    () => Body.anyOf({ type: "boolean" }, switched.schema()),
    (body, name, at) => {
      const given = body[name]
      return BodyFields.isObject(given) ? given : BodyFields.flag(body, name, at)
    }
  ),
  ...CommonFields.extraFields,
  chat_template_kwargs: Body.object({
    doc: "enable_thinking holds on every server, the others where the template has them."
  }),
  ...CommonFields.ollamaOnly,
  ...CommonFields.contextLength
}

const { names: samplingNames, read } = Body.struct(sampled)

/** Identification of the user and the conversation: here only the types are checked. */
const about = {
  ...CommonFields.conversation,
  store: Body.withoutEffect(Body.flag())
}
const { names: aboutNames, read: readAbout } = Body.struct(about)

const streamOptions = Body.struct(
  {
    include_usage: Body.flag(),
    // It pads chunks to hide the lengths of tokens: it is not supported, because it changes nothing for the reader.
    include_obfuscation: Body.withoutEffect(Body.flag())
  },
  { path: "stream_options" }
)
const streamed = {
  stream: Body.flag({ default: false }),
  stream_options: Body.object({ doc: "Only where stream is true." }, streamOptions)
}
const { read: readStreamed } = Body.struct(streamed)

/** The fields that OpenAI's endpoints share. */
export const fields = {
  model: CommonFields.model,
  ...streamed,
  ...sampled,
  ...CommonFields.extensions,
  ...about,
  ...CommonFields.harmless
}

// =============================================================================
// Reading them
// =============================================================================

const think = (body: BodyFields.Fields, ignored: IgnoredFields): ChatRequest["think"] => {
  const given = read.think(body)
  if (given !== undefined) return given
  const settings = read.reasoning(body)
  if (settings !== undefined) ignored.checkObject(settings, reasoning.names, "reasoning")
  const level = read.reasoning_effort(body) ?? (settings === undefined ? undefined : reasoning.read.effort(settings))
  if (level !== undefined) return efforts[level]
  const enabled = settings === undefined ? undefined : reasoning.read.enabled(settings)
  const switches = read.chat_template_kwargs(body) ?? {}
  return (
    enabled ??
    read.enable_thinking(body) ??
    thinking(body, ignored) ??
    template.read.enable_thinking(switches) ??
    template.read.thinking(switches)
  )
}

const thinking = (body: BodyFields.Fields, ignored: IgnoredFields): boolean | undefined => {
  const given = read.thinking(body)
  if (!BodyFields.isObject(given)) return given
  ignored.checkObject(given, switched.names, "thinking")
  const type = switched.read.type(given)
  return type === "enabled" ? true : type === "disabled" ? false : undefined
}

/** Reads the sampling parameters. */
export const sampling = (body: BodyFields.Fields, ignored: IgnoredFields): GatewayRequest.Sampling =>
  BodyFields.any(body, samplingNames) ? readSampling(body, ignored) : unasked

const readSampling = (body: BodyFields.Fields, ignored: IgnoredFields): GatewayRequest.Sampling => ({
  temperature: read.temperature(body),
  topP: read.top_p(body),
  stop: read.stop(body),
  seed: read.seed(body),
  frequencyPenalty: read.frequency_penalty(body),
  presencePenalty: read.presence_penalty(body),
  topK: read.top_k(body),
  minP: read.min_p(body),
  repeatPenalty: read.repeat_penalty(body) ?? read.repetition_penalty(body),
  logitBias: read.logit_bias(body),
  keepAlive: read.keep_alive(body),
  think: think(body, ignored),
  options: CommonFields.options(body),
  extra: CommonFields.extra(body)
})

/** Most requests use the defaults. */
const unasked = readSampling({}, new IgnoredFields(false))

/** Checks the types of metadata fields, which do not change an answer. */
export const checkAbout = (body: BodyFields.Fields): void => {
  if (!BodyFields.any(body, aboutNames)) return
  readAbout.user(body)
  readAbout.prompt_cache_key(body)
  readAbout.store(body)
  readAbout.metadata(body)
}

/** Checks the options of a stream, of which a body without one has none. */
export const streamOptionsOf = (body: BodyFields.Fields, ignored: IgnoredFields): BodyFields.Fields | undefined => {
  const given = readStreamed.stream_options(body)
  if (given === undefined) return undefined
  ignored.checkObject(given, streamOptions.names, "stream_options")
  streamOptions.read.include_obfuscation(given)
  streamOptions.read.include_usage(given)
  return given
}

/** Whether the stream includes token usage. */
export const includeUsage = (body: BodyFields.Fields, stream: boolean, ignored: IgnoredFields): boolean => {
  const given = streamOptionsOf(body, ignored)
  if (given === undefined) return false
  if (!stream) reject("stream_options", "is only allowed when stream is true")
  return given["include_usage"] === true
}

/**
 * Request parameters that only some servers support: samplers of llama.cpp, decoding options of vLLM and SGLang, chat
 * template switches.
 *
 * @internal
 */
import * as Schema from "effect/Schema"
import type { Unsupported } from "../Errors.js"

const number = Schema.Number
const whole = Schema.Int
const flag = Schema.Boolean
const text = Schema.String
const texts = Schema.Array(Schema.String)
const wholes = Schema.Array(Schema.Int)
const object = Schema.Record({ key: Schema.String, value: Schema.Unknown })

/** @internal */
export const fields = {
  // llama.cpp
  /** Locally typical sampling: the mass that is kept; 1 is off. */
  typical_p: number,
  /** Keeps tokens within so many standard deviations of the likeliest one; below 0 is off. */
  top_n_sigma: number,
  /** How many of the last tokens a repetition penalty looks at; 0: none, -1: the whole context. */
  repeat_last_n: whole,
  /** Mirostat sampling: 0 off, 1 or 2 its version. */
  mirostat: whole,
  /** The surprise that Mirostat aims at. */
  mirostat_tau: number,
  /** How fast Mirostat adapts. */
  mirostat_eta: number,
  /** DRY, a penalty of repeated sequences: how strong; 0 is off. */
  dry_multiplier: number,
  /** The base of its growth with the length of the sequence. */
  dry_base: number,
  /** Repeated sequences up to this many tokens have no penalty. */
  dry_allowed_length: whole,
  /** How many of the last tokens it looks at; 0: none, -1: the whole context. */
  dry_penalty_last_n: whole,
  /** Texts that end a sequence for it. */
  dry_sequence_breakers: texts,
  /** XTC, which leaves out the likeliest tokens: how often; 0 is off. */
  xtc_probability: number,
  /** The least likelihood of a token that XTC leaves out. */
  xtc_threshold: number,
  /** Dynamic temperature: how far it goes from `temperature`; 0 is off. */
  dynatemp_range: number,
  /** How the temperature follows from the entropy. */
  dynatemp_exponent: number,
  /** How many tokens of the prompt stay where the context is full; -1: all. */
  n_keep: whole,
  /** How many tokens samplers leave at least. */
  min_keep: whole,
  /** The samplers, in the order in which they are applied. */
  samplers: Schema.Union(texts, text),
  /** Whether what the prompt shares with the one before is read from the cache. */
  cache_prompt: flag,
  /** How long an answer may take, in milliseconds, once it has a line break. */
  t_max_predict_ms: whole,
  /** How thinking is told from the text, such as `deepseek` or `none`. */
  reasoning_format: text,
  /** A grammar (GBNF) that the answer must fit. */
  grammar: text,
  // vLLM and SGLang
  /** How many tokens the answer has at least. */
  min_tokens: whole,
  /** Whether the answer goes on where the model would end it. */
  ignore_eos: flag,
  /** Tokens that end the answer. */
  stop_token_ids: wholes,
  /** Whether special tokens are left out of the text. */
  skip_special_tokens: flag,
  /** Whether spaces stand between special tokens in the text. */
  spaces_between_special_tokens: flag,
  /** Whether the text that ends the answer is part of it. */
  include_stop_str_in_output: flag,
  /** Whether special tokens, such as that of the beginning, are added to the prompt. */
  add_special_tokens: flag,
  /** Whether the template adds the beginning of an answer to the prompt. */
  add_generation_prompt: flag,
  /** Whether the answer continues the last message. */
  continue_final_message: flag,
  /** How beam search weighs the length of an answer. */
  length_penalty: number,
  /** Words that the answer must not have. */
  bad_words: texts,
  /** The only tokens that the answer may have. */
  allowed_token_ids: wholes,
  /** How many tokens of the prompt are kept, its last ones. */
  truncate_prompt_tokens: whole,
  /** The rank of the request in the queue of the server. */
  priority: whole,
  /** A regular expression that the answer must match. */
  guided_regex: text,
  /** A grammar that the answer must fit. */
  guided_grammar: text,
  /** The answer is one of these. */
  guided_choice: texts,
  /** What holds the answer to its form, such as `xgrammar`. */
  guided_decoding_backend: text,
  /** A regular expression for white space in JSON. */
  guided_whitespace_pattern: text,
  /** vLLM's newer form of the above: `{ regex }`, `{ grammar }`, `{ choice }`, … */
  structured_outputs: object,
  /** A regular expression that the answer must match (SGLang). */
  regex: text,
  /** A grammar that the answer must fit (SGLang). */
  ebnf: text,
  /** Whether thinking is told from the text (SGLang). */
  separate_reasoning: flag,
  /** How many tokens the model may think. */
  thinking_token_budget: whole,
  // Others
  /** Keeps tokens by the square of the likelihood of the likeliest one; 0 is off. */
  top_a: number,
  /** Tail-free sampling: what is kept; 1 is off. */
  tfs_z: number,
  /** How many tokens the model may think. */
  thinking_budget: whole,
  /** How long answers are. */
  verbosity: Schema.Literal("low", "medium", "high"),
  /** A chat template (Jinja) instead of that of the model. */
  chat_template: text,
  /** Values for the chat template, such as `{ enable_thinking: false }`. */
  chat_template_kwargs: object
} as const

/** @internal */
export type Name = keyof typeof fields

/** The names of those that Ollama has among its `options`. */
const ollama: { readonly [K in Name]?: string } = {
  typical_p: "typical_p",
  repeat_last_n: "repeat_last_n",
  mirostat: "mirostat",
  mirostat_tau: "mirostat_tau",
  mirostat_eta: "mirostat_eta",
  tfs_z: "tfs_z",
  n_keep: "num_keep"
}

/** Without these the answer would not be what was asked for. */
const rejectedIfUnsupported: ReadonlySet<string> = new Set<Name>([
  "grammar",
  "guided_regex",
  "guided_grammar",
  "guided_choice",
  "structured_outputs",
  "regex",
  "ebnf",
  "allowed_token_ids",
  "chat_template"
])

const reserved: ReadonlySet<string> = new Set([
  "model",
  "messages",
  "prompt",
  "suffix",
  "stream",
  "stream_options",
  "n",
  "temperature",
  "top_p",
  "max_tokens",
  "max_completion_tokens",
  "stop",
  "tools",
  "tool_choice",
  "response_format",
  "logprobs",
  "top_logprobs"
])

/**
 * Whether the call options have a parameter of this name.
 *
 * @internal
 */
export const isReserved = (name: string): boolean => reserved.has(name)

const isName = (name: string): name is Name => Object.hasOwn(fields, name)

/**
 * Whether a server may be asked without this parameter: it changes an answer only slightly.
 *
 * @internal
 */
export const isOptional = (name: string): boolean => isName(name) && !rejectedIfUnsupported.has(name)

/** @internal */
export interface Extra {
  readonly [name: string]: unknown
}

const checks = new Map<string, (value: unknown) => boolean>(
  Object.entries(fields).map(([name, schema]) => [name, Schema.is(schema as Schema.Schema.AnyNoContext)])
)

/**
 * Whether a value has the parameter's type.
 *
 * @internal
 */
export const fits = (name: string, value: unknown): boolean => checks.get(name)?.(value) ?? true

/**
 * Those that Ollama supports, as its `options`; `undefined` if there are none.
 *
 * @internal
 */
export const forOllama = (extra: Extra): { readonly [option: string]: unknown } | undefined => {
  let options: { [option: string]: unknown } | undefined
  for (const name in extra) {
    const option = isName(name) ? ollama[name] : undefined
    if (option === undefined || extra[name] === undefined) continue
    options ??= {}
    options[option] = extra[name]
  }
  return options
}

/** Fields of Anthropic's API that have no option, and the tokens of thinking. */
const anthropic: ReadonlySet<string> = new Set([
  "metadata",
  "service_tier",
  "cache_control",
  "context_management",
  "container",
  "inference_geo",
  "speed"
])

/**
 * Those that Anthropic's API has among its fields.
 *
 * @internal
 */
export const forAnthropic = (extra: Extra | undefined): Extra => {
  const taken: { [name: string]: unknown } = {}
  if (extra !== undefined) for (const name in extra) if (anthropic.has(name)) taken[name] = extra[name]
  return taken
}

/**
 * What a server speaks that does not take everything: `openai.com` are OpenAI's own servers, which refuse parameters
 * that they do not know. They are sent those that an answer depends on.
 *
 * @internal
 */
export type Dialect = "ollama" | "anthropic" | "openai.com" | "other"

const takes = (name: string, dialect: Dialect): boolean => {
  switch (dialect) {
    case "ollama":
      return isName(name) && ollama[name] !== undefined
    case "anthropic":
      return anthropic.has(name) || name === "thinking_budget"
    case "openai.com":
      return !isOptional(name) || name === "verbosity"
    case "other":
      return false
  }
}

/** Equivalent to `think` on every server. */
const switches: ReadonlySet<string> = new Set(["enable_thinking", "thinking"])

const saysMore = (kwargs: unknown): boolean =>
  typeof kwargs === "object" && kwargs !== null && Object.keys(kwargs).some((key) => !switches.has(key))

/**
 * The parameters that such a server is not sent.
 *
 * @internal
 */
export const missing = (extra: Extra | undefined, dialect: Dialect): ReadonlyArray<string> => {
  if (extra === undefined) return []
  return Object.keys(extra).filter((name) => {
    if (extra[name] === undefined) return false
    if (name === "chat_template_kwargs") return saysMore(extra[name])
    return !takes(name, dialect)
  })
}

/**
 * Reasons why such a server cannot be asked: one for each unsupported parameter that the answer depends on.
 *
 * @internal
 */
export const refusals = (extra: Extra | undefined, dialect: Dialect, who: string): ReadonlyArray<Unsupported> =>
  missing(extra, dialect)
    .filter((name) => !isOptional(name))
    .map((name) => ({ field: `extra.${name}`, reason: `${who} has no such parameter` }))

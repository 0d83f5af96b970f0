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
  typical_p: number,
  top_n_sigma: number,
  repeat_last_n: whole,
  mirostat: whole,
  mirostat_tau: number,
  mirostat_eta: number,
  dry_multiplier: number,
  dry_base: number,
  dry_allowed_length: whole,
  dry_penalty_last_n: whole,
  dry_sequence_breakers: texts,
  xtc_probability: number,
  xtc_threshold: number,
  dynatemp_range: number,
  dynatemp_exponent: number,
  n_keep: whole,
  min_keep: whole,
  samplers: Schema.Union(texts, text),
  cache_prompt: flag,
  t_max_predict_ms: whole,
  reasoning_format: text,
  grammar: text,
  // vLLM and SGLang
  min_tokens: whole,
  ignore_eos: flag,
  stop_token_ids: wholes,
  skip_special_tokens: flag,
  spaces_between_special_tokens: flag,
  include_stop_str_in_output: flag,
  add_special_tokens: flag,
  add_generation_prompt: flag,
  continue_final_message: flag,
  length_penalty: number,
  bad_words: texts,
  allowed_token_ids: wholes,
  truncate_prompt_tokens: whole,
  priority: whole,
  guided_regex: text,
  guided_grammar: text,
  guided_choice: texts,
  guided_decoding_backend: text,
  guided_whitespace_pattern: text,
  structured_outputs: object,
  regex: text,
  ebnf: text,
  separate_reasoning: flag,
  thinking_token_budget: whole,
  // Others
  top_a: number,
  tfs_z: number,
  thinking_budget: whole,
  verbosity: Schema.Literal("low", "medium", "high"),
  chat_template: text,
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
 * What a server without OpenAI's protocol speaks.
 *
 * @internal
 */
export type Dialect = "ollama" | "anthropic" | "other"

const takes = (name: string, dialect: Dialect): boolean =>
  dialect === "ollama"
    ? isName(name) && ollama[name] !== undefined
    : dialect === "anthropic" && (anthropic.has(name) || name === "thinking_budget")

/** Equivalent to `think` on every server. */
const switches: ReadonlySet<string> = new Set(["enable_thinking", "thinking"])

const saysMore = (kwargs: unknown): boolean =>
  typeof kwargs === "object" && kwargs !== null && Object.keys(kwargs).some((key) => !switches.has(key))

/**
 * The parameters that a server without OpenAI's protocol is not sent.
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

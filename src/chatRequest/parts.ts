/**
 * The values that options of a call are made of.
 */
import * as Schema from "effect/Schema"
import * as ExtraFields from "../internal/extraParameters.js"
import { JsonObjectSchema } from "../internal/optionSchemas.js"
import { routingNames } from "./routing.js"

/**
 * The routing strategy: see `Router`.
 *
 * @since 0.1.0
 * @category models
 */
export const Routing = Schema.Literal(...routingNames)

/**
 * @since 0.1.0
 * @category models
 */
export type Routing = typeof Routing.Type

/**
 * A JSON Schema, or any other JSON object.
 *
 * @since 0.1.0
 * @category models
 */
export interface JsonObject {
  readonly [key: string]: unknown
}

/**
 * A bias for tokens by their ids: -100 (never) to 100 (always).
 *
 * @since 0.1.0
 * @category models
 */
export interface LogitBias {
  readonly [token: string]: number
}

/**
 * A tool the model may call: `parameters` is the JSON Schema of its arguments. With `strict`, servers that speak the
 * OpenAI API hold the model to that schema, if they can.
 *
 * @since 0.1.0
 * @category models
 */
export interface ToolDefinition {
  /** What the model calls it by. */
  readonly name: string
  /** What the tool does and when to use it, for the model. */
  readonly description?: string | undefined
  /** The JSON Schema of its arguments. Default: the tool takes none. */
  readonly parameters?: JsonObject | undefined
  /** Whether servers that speak the OpenAI API hold the model to that schema, if they can. Default: no. */
  readonly strict?: boolean | undefined
}

/**
 * Whether the model may, must or must not call tools, or the one it must call.
 *
 * @since 0.1.0
 * @category models
 */
export type ToolChoice =
  | "auto"
  | "none"
  | "required"
  | {
      /** The tool that it must call. */
      readonly name: string
    }

/**
 * How hard a reasoning model thinks.
 *
 * @since 0.2.0
 * @category models
 */
export const ThinkLevel = Schema.Literal("low", "medium", "high", "max")

/**
 * Whether, or how hard, a reasoning model thinks before it answers.
 *
 * @since 0.1.0
 * @category models
 */
export type Think = boolean | "low" | "medium" | "high" | "max"

/**
 * What to do when an answer breaks after a part of it was sent: resume it on another server, restart it and declare the
 * part void, or fail.
 *
 * @since 0.1.0
 * @category models
 */
export const OnInterrupt = Schema.Literal("resume", "restart", "fail")
/**
 * @since 0.1.0
 * @category models
 */
export type OnInterrupt = typeof OnInterrupt.Type

/**
 * What form the answer must have: any text, any JSON, or JSON that fits a schema.
 *
 * @since 0.1.0
 * @category models
 */
export type Format = "text" | "json" | JsonObject

/**
 * Parameters that only some servers support, under their own names: samplers of llama.cpp (`typical_p`,
 * `xtc_probability`, `dry_multiplier`, …), decoding of vLLM and SGLang (`min_tokens`, `stop_token_ids`, `guided_regex`,
 * …), and chat template switches (`chat_template_kwargs`). OpenAI-compatible servers receive them unchanged, and any
 * others too; OpenAI's own do not. Ollama receives those that it has among its options, and Anthropic's API `metadata`,
 * `service_tier`, `cache_control`, `context_management`, `container`, `inference_geo`, `speed` and `thinking_budget`.
 *
 * A server that lacks one is asked without it if it only tunes the answer; it is not asked at all if the answer would
 * differ in kind: `grammar`, `guided_regex`, `guided_grammar`, `guided_choice`, `structured_outputs`, `regex`, `ebnf`,
 * `allowed_token_ids`, `chat_template`, and anything not listed here.
 *
 * @since 0.2.0
 * @category models
 */
export const Extra = Schema.extend(Schema.partial(Schema.Struct(ExtraFields.fields)), JsonObjectSchema).pipe(
  Schema.filter((extra) => {
    const own = Object.keys(extra).find((name) => ExtraFields.isReserved(name))
    return own === undefined ? undefined : `must not hold ${own}: that is set by the options of the call`
  }),
  // What is given has this form: its type keeps the comments.
  Schema.typeSchema
)

/**
 * @since 0.2.0
 * @category models
 */
export type Extra = typeof Extra.Type

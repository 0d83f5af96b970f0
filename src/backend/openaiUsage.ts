/** Token usage of OpenAI-compatible servers, under their various names. */
import type { Mutable } from "effect/Types"
import type { Usage } from "../ChatEvent.js"

type Fields = { readonly [key: string]: unknown }

const isObject = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const count = (value: unknown): number | undefined =>
  typeof value === "number" && value >= 0 && Number.isFinite(value) ? value : undefined

const within = (fields: Fields, name: string, count: string): unknown => {
  const inner = fields[name]
  return isObject(inner) ? inner[count] : undefined
}

/**
 * Reads a `usage` object. Cached tokens are reported by OpenAI, vLLM and llama.cpp (`prompt_tokens_details`), DeepSeek
 * (`prompt_cache_hit_tokens`), Moonshot (`cached_tokens`) and Anthropic (`cache_read_input_tokens`).
 */
export const usage = (value: unknown): Usage => {
  if (!isObject(value)) return {}
  const prompt = count(value["prompt_tokens"])
  const completion = count(value["completion_tokens"])
  const total = count(value["total_tokens"])
  const cached =
    count(within(value, "prompt_tokens_details", "cached_tokens")) ??
    count(value["prompt_cache_hit_tokens"]) ??
    count(value["cached_tokens"]) ??
    count(value["cache_read_input_tokens"])
  const reasoning =
    count(within(value, "completion_tokens_details", "reasoning_tokens")) ?? count(value["reasoning_tokens"])
  const counted: Mutable<Usage> = {}
  if (prompt !== undefined) counted.promptTokens = prompt
  if (completion !== undefined) counted.completionTokens = completion
  if (total !== undefined) counted.totalTokens = total
  if (cached !== undefined) counted.cachedTokens = cached
  if (reasoning !== undefined) counted.reasoningTokens = reasoning
  return counted
}

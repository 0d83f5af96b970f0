/** The finish reasons of servers, in their various words. */
import type { FinishReason } from "../ChatEvent.js"

/**
 * In lower case with underscores; `undefined` if the server has aborted the answer.
 *
 * | word | of | means |
 * |---|---|---|
 * | `stop`, `eos`, `eos_token`, `eos_found`, `end_turn`, `stop_sequence`, `complete`, `done` | OpenAI, TGI, LM Studio, Anthropic, Cohere | `stop` |
 * | `length`, `max_tokens`, `max_output_tokens`, `model_length`, `model_context_window_exceeded`, `pause_turn` | OpenAI, Gemini, Mistral, Anthropic | `length` |
 * | `tool_calls`, `function_call`, `tool_use` | OpenAI, Anthropic | `tool_calls` |
 * | `content_filter`, `refusal`, `safety`, `sensitive` | OpenAI, Anthropic, Gemini, Zhipu | `content_filter` |
 * | `abort`, `aborted`, `cancelled`, `canceled`, `error`, `insufficient_system_resource`, `network_error` | vLLM, SGLang, Mistral, DeepSeek, Zhipu | given up |
 */
const known = new Map<string, FinishReason | undefined>([
  ["stop", "stop"],
  ["eos", "stop"],
  ["eos_token", "stop"],
  ["eos_found", "stop"],
  ["end_turn", "stop"],
  ["stop_sequence", "stop"],
  ["stop_token", "stop"],
  ["complete", "stop"],
  ["completed", "stop"],
  ["done", "stop"],
  ["length", "length"],
  ["max_tokens", "length"],
  ["max_output_tokens", "length"],
  ["max_new_tokens", "length"],
  ["model_length", "length"],
  ["model_context_window_exceeded", "length"],
  // A long turn of a server's own tools, left unfinished.
  ["pause_turn", "length"],
  ["tool_calls", "tool_calls"],
  ["tool_call", "tool_calls"],
  ["function_call", "tool_calls"],
  ["tool_use", "tool_calls"],
  ["content_filter", "content_filter"],
  ["refusal", "content_filter"],
  ["safety", "content_filter"],
  ["sensitive", "content_filter"],
  ["abort", undefined],
  ["aborted", undefined],
  ["cancelled", undefined],
  ["canceled", undefined],
  ["error", undefined],
  ["insufficient_system_resource", undefined],
  ["network_error", undefined]
])

/** Unknown words are classified by what they contain; the first match wins. */
const speaksOf: ReadonlyArray<readonly [RegExp, FinishReason | undefined]> = [
  [
    /abort|cancel|error|fail|fault|interrupt|disconnect|time_?out|timed_out|overload|insufficient|unavailable|resource|preempt|evict|kill|crash|shut_?down|unload|user_stop|not_finished|incomplete|out_of_memory|oom|network/,
    undefined
  ],
  [/filter|safety|sensitive|refus|moderation|guardrail|recitation|prohibited|blocked|blocklist/, "content_filter"],
  [/length|max_|limit|context|truncat/, "length"],
  [/tool|function/, "tool_calls"]
]

/**
 * The finish reason for a server's word; `undefined` if the server has aborted the answer, which is a failure like any
 * other. Unknown words count as `stop`: the server reports an end and no error.
 */
export const finishReason = (word: string): FinishReason | undefined => {
  if (known.has(word)) return known.get(word)
  const plain = word
    .trim()
    .replace(/([a-z])([A-Z])/g, "$1_$2")
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "_")
  if (known.has(plain)) return known.get(plain)
  for (const [pattern, reason] of speaksOf) if (pattern.test(plain)) return reason
  return "stop"
}

/** The message for an answer that its server has aborted. */
export const givenUp = (word: string): string =>
  word === "error"
    ? "the server aborted the answer without a reason"
    : `the server aborted the answer (${word.slice(0, 100)})`

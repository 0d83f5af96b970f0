/**
 * The parameters that Claude models accept, by model name: the API rejects unsupported ones. Nothing is known of other
 * models.
 */

/** The limits of one model. */
export interface ClaudeModel {
  /** Maximum output tokens, including thinking. */
  readonly maxTokens: number
  /** Context length: prompt and output tokens. */
  readonly context: number
  /** Whether it accepts `temperature`, `top_p` and `top_k`. */
  readonly samples: boolean
  /**
   * - `budget`: thinking is enabled with a token budget
   * - `adaptive`: the model decides, within an effort level
   * - `always`: adaptive, and cannot be disabled
   */
  readonly thinking: "budget" | "adaptive" | "always"
  /** Whether it thinks by default. */
  readonly thinksByDefault: boolean
  /** Whether it returns its thinking only on request. */
  readonly hidesThinking: boolean
  /** Whether it supports JSON schemas. */
  readonly schemas: boolean
  /** Whether it supports forced tool calls. */
  readonly forcedTools: boolean
  /** Whether it continues a partial answer. */
  readonly prefill: boolean
}

/** Limits of an unknown model. */
const unknown: ClaudeModel = {
  maxTokens: 8_192,
  context: Number.POSITIVE_INFINITY,
  samples: true,
  thinking: "budget",
  thinksByDefault: false,
  hidesThinking: false,
  schemas: true,
  forcedTools: true,
  prefill: true
}

/** `claude-3-5-sonnet-20241022`, `claude-opus-4-1`, `anthropic/claude-opus-4.6`, `eu.anthropic.claude-haiku-4-5-20251001-v1:0`. */
const name = /claude-(?:([a-z]+)-)?(\d)(?:[-.](\d)(?!\d))?(?:-([a-z]+))?/

const outputOf = (version: number, line: string): number => {
  if (version >= 4.6) return 128_000
  if (version >= 4.5) return 64_000
  if (version >= 4) return line === "opus" ? 32_000 : 64_000
  if (version >= 3.7) return 64_000
  return version >= 3.5 ? 8_192 : 4_096
}

/** The limits of a model, by its name. */
export const modelOf = (model: string): ClaudeModel => {
  const found = name.exec(model.toLowerCase())
  if (found === null) return unknown
  const line = found[1] ?? found[4] ?? ""
  const version = Number(`${found[2]}.${found[3] ?? 0}`)
  const adaptive = version >= 4.6
  const always = (version >= 5.5 && line !== "haiku") || (version >= 5 && (line === "fable" || line === "mythos"))
  return {
    maxTokens: outputOf(version, line),
    context: adaptive ? 1_000_000 : 200_000,
    samples: version < 4.7,
    thinking: always ? "always" : adaptive ? "adaptive" : "budget",
    thinksByDefault: version >= 5,
    hidesThinking: version >= 4.7,
    schemas: version >= 4.5 || (version >= 4.1 && line === "opus"),
    forcedTools: !(version >= 5.1 && always),
    prefill: !adaptive
  }
}

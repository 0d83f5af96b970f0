/**
 * What Claude models accept, by their names: the API rejects what a model does not take. Of any other model nothing is
 * known.
 */

/** The limits of one model. */
export interface ClaudeModel {
  /** The most tokens of an answer, thinking included. */
  readonly maxTokens: number
  /** The tokens of prompt and answer together. */
  readonly context: number
  /** Whether it takes `temperature`, `top_p` and `top_k`. */
  readonly samples: boolean
  /**
   * - `budget`: thinking is switched on, with a number of tokens
   * - `adaptive`: it decides by itself, within an effort
   * - `always`: the same, and it cannot be switched off
   */
  readonly thinking: "budget" | "adaptive" | "always"
  /** Whether it thinks where nothing is said. */
  readonly thinksByDefault: boolean
  /** Whether it shows its thinking only where asked to. */
  readonly hidesThinking: boolean
  /** Whether it can be held to a JSON schema. */
  readonly schemas: boolean
  /** Whether it can be made to call a tool. */
  readonly forcedTools: boolean
  /** Whether it continues an answer that was begun. */
  readonly prefill: boolean
}

/** Of a model whose name says nothing. */
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

/** What is known of a model. */
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

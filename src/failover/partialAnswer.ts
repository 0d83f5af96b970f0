import type { PartialAnswer, PartialToolCall } from "../Backend.js"

/** What counts of a broken attempt. */
interface BrokenAttempt {
  readonly sentText: string
  readonly sentThinking: string
  readonly pieces: number
  readonly thinkingPieces: number
  readonly calls: ReadonlyArray<PartialToolCall>
}

/**
 * The part of an answer that the caller received from broken attempts.
 *
 * `tokens` counts pieces, because a broken answer has no token count: nearly all servers send one token per piece.
 * Reasoning counts once text followed it, since it is then part of what is continued.
 *
 * @internal
 */
export class PartialAnswerBuilder implements PartialAnswer {
  text = ""
  thinking = ""
  tokens = 0
  calls: ReadonlyArray<PartialToolCall> = []
  /** Index of the answer's first token event. */
  first = 0

  /** Whether there is anything that the next server must continue. */
  get started(): boolean {
    return this.text !== "" || this.calls.length > 0
  }

  snapshot(): PartialAnswer {
    return { text: this.text, thinking: this.thinking, tokens: this.tokens, calls: this.calls }
  }

  add({ calls, pieces, sentText, thinkingPieces, sentThinking }: BrokenAttempt): void {
    const fresh = this.text === ""
    this.calls = calls
    this.thinking += sentThinking
    if (sentText === "") return
    this.text += sentText
    this.tokens += fresh ? pieces + thinkingPieces : pieces
  }

  /** Clears it, because the answer restarts or is complete; the next token event has this index. */
  clear(index: number): void {
    this.text = ""
    this.thinking = ""
    this.tokens = 0
    this.calls = []
    this.first = index
  }
}

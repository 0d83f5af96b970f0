import type { PartialAnswer, PartialToolCall } from "../Backend.js"

/** What is counted of an attempt that has broken. */
interface BrokenAttempt {
  readonly sentText: string
  readonly sentThinking: string
  readonly pieces: number
  readonly thinkingPieces: number
  readonly calls: ReadonlyArray<PartialToolCall>
}

/**
 * What the caller has of an answer from attempts that broke.
 *
 * `tokens` counts pieces, because a server that broke off has not told how many tokens they were: nearly all send a
 * piece for each. Reasoning counts when an answer followed it, as it then is a part of what is gone on with.
 *
 * @internal
 */
export class PartialAnswerBuilder implements PartialAnswer {
  text = ""
  thinking = ""
  tokens = 0
  calls: ReadonlyArray<PartialToolCall> = []
  /** The index of the first token event of the answer. */
  first = 0

  /** Whether the caller has anything that the next server must go on with. */
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

  /** Everything is void, or belongs to an answer that is complete; what comes next has this index. */
  clear(index: number): void {
    this.text = ""
    this.thinking = ""
    this.tokens = 0
    this.calls = []
    this.first = index
  }
}

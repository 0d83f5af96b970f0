/**
 * Splices the answer of a second server onto what the caller already has, so that nothing is repeated and nothing is
 * lost.
 *
 * Where the new text continues is known before any of it comes (`ResumeSink.joins`), never guessed from the text
 * itself: a text that repeats its own beginning looks the same as a restarted answer.
 *
 * 1. What the new text must first repeat is held back while it is matched, in whatever pieces. If it differs, the two
 *    cannot be joined. An answer that ends when only white space was left to repeat, or the beginning of a stop
 *    sequence, is complete.
 * 2. A stop sequence that straddles the splice is detected here, because no server sees all of it: text that may
 *    complete it is held back; once it is complete the answer is over, and nothing of the new text is emitted. Servers
 *    usually hold back the beginning of a stop sequence, so this only happens after one that does not.
 */
export class Splice {
  /** A stop sequence was completed: the answer is over. */
  stopped = false
  /** Number of the server's pieces in the text that `feed` or `end` has emitted. */
  pieces = 0
  private matched = 0
  private held = ""
  private heldPieces = 0

  /** `rests`: texts that would complete a stop sequence. */
  private constructor(
    private readonly expected: string,
    private readonly stops: ReadonlyArray<string>,
    private rests: ReadonlyArray<string>
  ) {}

  /** The splice after `given`, where the new text first repeats `expected`; `undefined` if none is needed. */
  static make(given: string, expected: string, stops: ReadonlyArray<string>): Splice | undefined {
    const rests: Array<string> = []
    for (const stop of stops) {
      for (let length = 1; length < stop.length; length++) {
        if (given.endsWith(stop.slice(0, length))) rests.push(stop.slice(length))
      }
    }
    return expected === "" && rests.length === 0 ? undefined : new Splice(expected, stops, rests)
  }

  /** Whether everything from now on is new text. */
  get closed(): boolean {
    return this.matched === this.expected.length && this.rests.length === 0
  }

  /** The text to emit so far, perhaps empty; `undefined` if it cannot be joined. */
  feed(piece: string): string | undefined {
    const { expected, matched } = this
    const left = expected.length - matched
    this.pieces = 0
    if (piece.length <= left) {
      if (!expected.startsWith(piece, matched)) return undefined
      this.matched += piece.length
      return ""
    }
    if (left > 0 && !piece.startsWith(expected.slice(matched))) return undefined
    this.matched = expected.length
    this.held += piece.slice(left)
    this.heldPieces++
    const { held } = this
    if (this.rests.some((rest) => held.startsWith(rest))) {
      this.stopped = true
      return ""
    }
    this.rests = this.rests.filter((rest) => rest.startsWith(held))
    return this.rests.length === 0 ? this.release() : ""
  }

  /** The held text once the answer has ended; `undefined` if it ended too early. */
  end(): string | undefined {
    this.pieces = 0
    const left = this.expected.slice(this.matched)
    return left.trim() === "" || this.stops.some((stop) => stop.startsWith(left)) ? this.release() : undefined
  }

  private release(): string {
    const { held } = this
    this.pieces = this.heldPieces
    this.held = ""
    this.heldPieces = 0
    return held
  }
}

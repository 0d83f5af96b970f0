/**
 * Joins the answer of a second server to what the caller already has, so that nothing is said twice and nothing is
 * lost.
 *
 * Where the new text goes on from, is known before any of it comes (`ResumeSink.joins`), never guessed from the text
 * itself: a text that repeats its own beginning looks the same as an answer that is begun anew.
 *
 * 1. What the new text must first repeat is held back while it is spelled out, in whatever pieces. Where it differs,
 *    the two cannot be joined. An answer that ends when only white space was left to repeat, or the beginning of a
 *    stop sequence, has ended.
 * 2. A stop sequence of which the caller already has the beginning is looked for here, because no server sees the whole
 *    of it: text that may be its rest is held back; once it is complete the answer is over, and nothing of the new text
 *    is let through. What was given out is not taken back: servers hold back what may become a stop sequence, so
 *    that this beginning was given out only by one that does not.
 *
 * @since 0.1.0
 * @category models
 */
export class Splice {
  /** A stop sequence was completed: the answer is over. */
  stopped = false
  /** How many pieces of the server the text holds that `feed` or `end` has let through. */
  pieces = 0
  private matched = 0
  private held = ""
  private heldPieces = 0

  /** `rests`: what would complete a stop sequence. */
  private constructor(
    private readonly expected: string,
    private readonly stops: ReadonlyArray<string>,
    private rests: ReadonlyArray<string>
  ) {}

  /** The seam after `given`, where the new text first repeats `expected`; `undefined` where there is nothing to do. */
  static make(given: string, expected: string, stops: ReadonlyArray<string>): Splice | undefined {
    const rests: Array<string> = []
    for (const stop of stops) {
      for (let length = 1; length < stop.length; length++) {
        if (given.endsWith(stop.slice(0, length))) rests.push(stop.slice(length))
      }
    }
    return expected === "" && rests.length === 0 ? undefined : new Splice(expected, stops, rests)
  }

  /** Whether all that comes from now on is new. */
  get closed(): boolean {
    return this.matched === this.expected.length && this.rests.length === 0
  }

  /** What can be let through of what has come, perhaps nothing; `undefined` where it cannot be joined. */
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

  /** What was held back, once the answer has ended; `undefined` where it ended too early. */
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

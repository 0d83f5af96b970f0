/**
 * Joins a second server's answer to what the caller already has.
 *
 * A server that begins again spells out what was given before: that is held back, and only what goes beyond it is
 * let through. Where the new answer differs, the two cannot be joined.
 *
 * @since 0.1.0
 */
export class Seam {
  private matched = 0

  constructor(private readonly given: string) {}

  /** Whether the new answer has reached the end of what was given. */
  get closed(): boolean {
    return this.matched === this.given.length
  }

  /** What of `piece` is new (perhaps nothing), or `undefined` where it differs from what was given. */
  feed(piece: string): string | undefined {
    const left = this.given.length - this.matched
    if (piece.length <= left) {
      if (!this.given.startsWith(piece, this.matched)) return undefined
      this.matched += piece.length
      return ""
    }
    if (!piece.startsWith(this.given.slice(this.matched))) return undefined
    this.matched = this.given.length
    return piece.slice(left)
  }
}

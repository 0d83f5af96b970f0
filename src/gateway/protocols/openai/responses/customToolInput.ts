/** Extracts the input of a custom tool from the streamed JSON of a function's arguments. */

const prefix = /^\s*\{\s*"input"\s*:\s*"/
/** Matches up to the end of the string or of what has arrived; half an escape sequence is left over. */
const text = /^(?:[^"\\]|\\u[\da-fA-F]{4}|\\[^u])*/s

const isHalf = (char: string): boolean => char >= "\ud800" && char <= "\udbff"

/** Reads `{"input":"…"}` piece by piece. If the model writes something else, nothing is emitted before its end. */
export class CustomToolInputReader {
  private rest = ""
  private inString = false
  private over = false
  /** What was emitted. */
  emitted = ""

  /** What this piece adds to the input. */
  push(piece: string): string {
    if (this.over) return ""
    this.rest += piece
    if (!this.inString) {
      const match = prefix.exec(this.rest)
      if (match === null) return ""
      this.inString = true
      this.rest = this.rest.slice(match[0].length)
    }
    const [raw = ""] = text.exec(this.rest) ?? []
    this.over = this.rest[raw.length] === '"'
    let added: string
    try {
      added = JSON.parse(`"${raw}"`) as string
    } catch {
      this.over = true
      return ""
    }
    let read = raw.length
    // Half of a surrogate pair waits for the next piece.
    if (!this.over && isHalf(added.slice(-1))) {
      added = added.slice(0, -1)
      read -= isHalf(raw.slice(-1)) ? 1 : 6
    }
    this.rest = this.rest.slice(read)
    this.emitted += added
    return added
  }

  /** The part of the complete input that was not emitted yet. */
  end(input: string): string {
    return input.startsWith(this.emitted) ? input.slice(this.emitted.length) : ""
  }
}

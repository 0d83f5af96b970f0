/**
 * Fast path for the lines of one answer, which differ only in their content and perhaps a timestamp.
 *
 * A parsed line becomes the template. A later line with the same text around a content without quotes and backslashes
 * must be the same JSON with another content; any other line does not match and is parsed.
 *
 * @internal
 */
export interface Template {
  /**
   * Passes the content of each matching line to `take`, starting at `from` in `text`. Returns the start of the first
   * line that does not match.
   */
  read(text: string, from: number, take: (content: string) => void): number
  /**
   * Learns a parsed line (including its ending) as the template; `stamp` is a string in it, before the content, that
   * changes too.
   */
  learn(line: string, content: string, stamp?: unknown): void
}

const special = /["\\]/
const backslash = 0x5c

const indexOfOnly = (text: string, part: string): number => {
  const at = text.indexOf(part)
  return at === text.lastIndexOf(part) ? at : -1
}

/** `text.startsWith(part, at)`, but comparing words instead of characters: this is most of the work per token. */
const hasAt = (text: string, part: string, at: number): boolean => text.substring(at, at + part.length) === part

class Learned implements Template {
  /** The text before the stamp (or before the content), between the two, and after the content. */
  private head = ""
  private middle: string | undefined
  private tail = ""
  constructor(private readonly field: string) {}

  read(text: string, from: number, take: (content: string) => void): number {
    const { head, middle, tail } = this
    if (tail === "") return from
    for (let begin = from; ; ) {
      if (!hasAt(text, head, begin)) return begin
      let at = begin + head.length
      if (middle !== undefined) {
        // The middle begins with the stamp's closing quote, the tail with the content's.
        at = text.indexOf('"', at)
        if (at === -1 || !hasAt(text, middle, at) || text.charCodeAt(at - 1) === backslash) return begin
        at += middle.length
      }
      const end = text.indexOf('"', at)
      if (end === -1 || !hasAt(text, tail, end)) return begin
      const content = text.slice(at, end)
      if (content.includes("\\")) return begin
      begin = end + tail.length
      if (content !== "") take(content)
    }
  }

  learn(line: string, content: string, stamp?: unknown): void {
    this.tail = ""
    if (special.test(content)) return
    const narrow = `"${this.field}":"`
    const key = line.includes(narrow) ? narrow : `"${this.field}": "`
    const at = indexOfOnly(line, `${key}${content}"`)
    if (at === -1) return
    const before = line.slice(0, at + key.length)
    const after = line.slice(at + key.length + content.length)
    if (stamp === undefined) {
      this.head = before
      this.middle = undefined
    } else {
      if (typeof stamp !== "string" || special.test(stamp)) return
      const where = indexOfOnly(before, `"${stamp}"`)
      if (where === -1) return
      this.head = before.slice(0, where + 1)
      this.middle = before.slice(where + 1 + stamp.length)
    }
    this.tail = after
  }
}

/**
 * `field` is the name of the changing field.
 *
 * @internal
 */
export const make = (field = "content"): Template => new Learned(field)

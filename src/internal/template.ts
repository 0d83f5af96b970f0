/**
 * Reads the lines of one answer that differ only in their content, and perhaps a time, without parsing each.
 *
 * A line that was parsed becomes the template. A later line that has the same text around a content without quotes
 * and backslashes can only be the same JSON with another content; any other line is not matched, and must be parsed.
 *
 * @internal
 */
export interface Template {
  /** The content of the line that stands in `text`, from `from` up to `to`, if it fits; else `undefined`. */
  match(text: string, from: number, to: number): string | undefined
  /** Takes a parsed line as the template, from the second on, for many answers have but one; `stamp` is a string in it, before the content, that changes too. */
  learn(line: string, content: string, stamp?: unknown): void
}

const special = /["\\]/
const backslash = 0x5c

const indexOfOnly = (text: string, part: string): number => {
  const at = text.indexOf(part)
  return at === text.lastIndexOf(part) ? at : -1
}

class Learned implements Template {
  constructor(private readonly field: string) {}

  /** Before the stamp, or all that is before the content; then between the two; then after the content. */
  private head = ""
  private middle: string | undefined
  private tail = ""
  private first = true

  match(text: string, from: number, to: number): string | undefined {
    const { head, middle, tail } = this
    if (tail === "" || !text.startsWith(head, from)) return undefined
    let at = from + head.length
    if (middle !== undefined) {
      // The middle begins with the quote that ends the stamp, and the tail with the one that ends the content.
      at = text.indexOf('"', at)
      if (at === -1 || !text.startsWith(middle, at) || text.charCodeAt(at - 1) === backslash) return undefined
      at += middle.length
    }
    const end = text.indexOf('"', at)
    if (end === -1 || end + tail.length !== to || !text.startsWith(tail, end)) return undefined
    const content = text.slice(at, end)
    return content.includes("\\") ? undefined : content
  }

  learn(line: string, content: string, stamp?: unknown): void {
    if (this.first) {
      this.first = false
      return
    }
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
 * `field` is the name of what changes.
 *
 * @internal
 */
export const make = (field = "content"): Template => new Learned(field)

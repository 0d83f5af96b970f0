import { LRUCache } from "lru-cache"

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

/** The text before the stamp (or before the content), between the two, and after the content. */
interface Parts {
  readonly head: string
  readonly middle: string | undefined
  readonly tail: string
}

/**
 * The latest template of each model. For servers whose lines have no identifier of their answer: those of the next
 * answer match from the first one on.
 *
 * @internal
 */
export type Memory = LRUCache<string, Parts>

/** @internal */
export const memory = (): Memory => new LRUCache({ max: 64 })

class Learned implements Template {
  private parts: Parts | undefined
  constructor(
    private readonly field: string,
    private readonly memory: Memory | undefined,
    private readonly model: string
  ) {
    this.parts = memory?.get(model)
  }

  read(text: string, from: number, take: (content: string) => void): number {
    if (this.parts === undefined) return from
    const { head, middle, tail } = this.parts
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
    this.parts = partsOf(this.field, line, content, stamp)
    if (this.parts !== undefined) this.memory?.set(this.model, this.parts)
  }
}

/** The template of a line; none if the place of the content is not certain. */
const partsOf = (field: string, line: string, content: string, stamp: unknown): Parts | undefined => {
  if (special.test(content)) return undefined
  const narrow = `"${field}":"`
  const key = line.includes(narrow) ? narrow : `"${field}": "`
  const at = indexOfOnly(line, `${key}${content}"`)
  if (at === -1) return undefined
  const before = line.slice(0, at + key.length)
  const tail = line.slice(at + key.length + content.length)
  if (stamp === undefined) return { head: before, middle: undefined, tail }
  if (typeof stamp !== "string" || special.test(stamp)) return undefined
  const where = indexOfOnly(before, `"${stamp}"`)
  if (where === -1) return undefined
  return { head: before.slice(0, where + 1), middle: before.slice(where + 1 + stamp.length), tail }
}

/**
 * `field` is the name of the changing field. With a memory, lines are read by the latest template of the model at once.
 *
 * @internal
 */
export const make = (field = "content", memory?: Memory, model = ""): Template => new Learned(field, memory, model)

/** Which models a key may use: names, in which `*` stands for any text, aliases and `auto`. */
import { canonical } from "../../Model.js"

/** A longer name is none of a model. */
const longestName = 500

/** Whether a text fits a pattern, in linear time. */
const fits = (parts: ReadonlyArray<string>, text: string): boolean => {
  const [first = "", ...rest] = parts
  const last = rest.pop()
  if (last === undefined) return text === first
  if (!text.startsWith(first) || text.length < first.length + last.length || !text.endsWith(last)) return false
  let at = first.length
  for (const part of rest) {
    const found = text.indexOf(part, at)
    if (found === -1) return false
    at = found + part.length
  }
  return at <= text.length - last.length
}

export class ModelPatterns {
  private readonly patterns: ReadonlyArray<ReadonlyArray<string>>
  private readonly literal: ReadonlySet<string>

  constructor(given: ReadonlyArray<string>) {
    this.literal = new Set(given.map(canonical))
    this.patterns = given.map((pattern) => canonical(pattern).split("*"))
  }

  /**
   * Whether it names an alias, or `auto`, and so whatever that stands for. A part of a name does not: `a*` is meant for
   * models.
   */
  grants(name: string): boolean {
    return this.literal.has("*") || this.literal.has(canonical(name))
  }

  /** Whether it names a model. */
  allows(name: string): boolean {
    if (name.length > longestName) return false
    const text = canonical(name)
    return this.patterns.some((parts) => fits(parts, text))
  }
}

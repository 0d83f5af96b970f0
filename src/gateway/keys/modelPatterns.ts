/** Which models a key may use: names, aliases and `auto`, in which `*` stands for any text. */
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

  constructor(given: ReadonlyArray<string>) {
    this.patterns = given.map((pattern) => canonical(pattern).split("*"))
  }

  allows(name: string): boolean {
    if (name.length > longestName) return false
    const text = canonical(name)
    return this.patterns.some((parts) => fits(parts, text))
  }
}

/** Which models a key may use: names, in which `*` matches any text, aliases and `auto`. */
import { fits, type NamePattern, namePattern } from "../../internal/namePattern.js"
import { canonical } from "../../Model.js"

/** A longer name is none of a model. */
const longestName = 500

export class ModelPatterns {
  private readonly patterns: ReadonlyArray<NamePattern>
  private readonly literal: ReadonlySet<string>

  constructor(given: ReadonlyArray<string>) {
    this.literal = new Set(given.map(canonical))
    this.patterns = given.map((pattern) => namePattern(canonical(pattern)))
  }

  /**
   * Whether it names an alias, or `auto`, and so the models behind that. A part of a name does not: `a*` is meant for
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

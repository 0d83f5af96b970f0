/**
 * Regular expressions of schemas, matched in linear time.
 *
 * They are parsed as JavaScript does, with the `u` flag if they are valid with it and else without, and matched by an
 * automaton. A lookahead at the beginning, as in `^(?!x)…`, is another automaton; elsewhere lookaheads, and
 * backreferences, cannot be matched in linear time and are rejected.
 */
import { type AST, RegExpParser } from "@eslint-community/regexpp"
import { RE2JS } from "re2js"
import { InvalidSchemaError, maxPatterns } from "./limits.js"

/** The parser recurses for every nested group. */
const maxGroupDepth = 100

const groupDepth = (source: string): number => {
  let depth = 0
  let deepest = 0
  let inClass = false
  for (let at = 0; at < source.length; at++) {
    const character = source[at]
    if (character === "\\") at++
    else if (character === "[") inClass = true
    else if (character === "]") inClass = false
    else if (inClass) continue
    else if (character === "(") deepest = Math.max(deepest, ++depth)
    else if (character === ")") depth--
  }
  return deepest
}

/** The engine rejects more repetitions. */
const maxRepeat = 1_000

const quoted = (source: string): string => (source.length > 100 ? `${source.slice(0, 100)}…` : source)

const hex = (code: number): string => `\\x{${code.toString(16)}}`

const newlines = "\\n\\r\\x{2028}\\x{2029}"
const spaces =
  "\\t\\n\\x{b}\\f\\r \\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}\\x{feff}"
const all = "\\x{0}-\\x{10ffff}"

const pairs = /\\x\{(d[89ab][0-9a-f]{2})\}\\x\{(d[c-f][0-9a-f]{2})\}/g

/** Translates the syntax tree of one pattern to the engine's syntax, and measures its size. */
class Writer {
  constructor(
    private readonly source: string,
    private readonly spend: (size: number) => void
  ) {}

  private refuse(what: string): never {
    throw new InvalidSchemaError(`has the pattern '${quoted(this.source)}', ${what}`)
  }

  pattern(alternatives: ReadonlyArray<AST.Alternative>, times = 1): string {
    return alternatives.map((one) => this.sequence(one.elements, times)).join("|")
  }

  sequence(elements: ReadonlyArray<AST.Element>, times = 1): string {
    // Without the u flag a character beyond U+FFFF is two; the engine knows it as one.
    return elements
      .map((element) => this.element(element, times))
      .join("")
      .replaceAll(pairs, (_, high: string, low: string) =>
        hex(((Number.parseInt(high, 16) - 0xd800) << 10) + Number.parseInt(low, 16) - 0xdc00 + 0x10000)
      )
  }

  private element(element: AST.Element, times: number): string {
    this.spend(times)
    switch (element.type) {
      case "Character":
        return hex(element.value)
      case "CharacterSet":
        return element.kind === "any" ? `[^${newlines}]` : this.set(element, times)
      case "CharacterClass":
        return this.characterClass(element, times)
      case "Group":
        if (element.modifiers !== null) return this.refuse("which changes its flags on the way: that is not supported")
        return `(?:${this.pattern(element.alternatives, times)})`
      case "CapturingGroup":
        return `(?:${this.pattern(element.alternatives, times)})`
      case "Quantifier":
        return this.quantifier(element, times)
      case "Assertion":
        return this.assertion(element, times)
      default:
        return this.refuse("with a backreference: that cannot be matched in linear time; leave it out")
    }
  }

  private assertion(element: AST.Assertion, times: number): string {
    switch (element.kind) {
      case "start":
        return "\\A"
      case "end":
        return "\\z"
      case "word":
        return element.negate ? "\\B" : "\\b"
      case "lookbehind":
        return `(?<${element.negate ? "!" : "="}${this.pattern(element.alternatives, times)})`
      case "lookahead":
        return this.refuse("with a lookahead that is not at its beginning: that cannot be matched in linear time")
    }
  }

  private quantifier({ element, max, min }: AST.Quantifier, times: number): string {
    const most = max === Number.POSITIVE_INFINITY ? min : max
    if (most > maxRepeat) {
      return this.refuse(`which repeats something more than ${maxRepeat} times: use minLength and maxLength`)
    }
    const copies = Math.max(most, 1)
    this.spend(times * copies)
    const body = this.element(element, times * copies)
    if (max === 0) return ""
    const count =
      max === Number.POSITIVE_INFINITY ? (min === 0 ? "*" : min === 1 ? "+" : `{${min},}`) : `{${min},${max}}`
    return `(?:${body})${count}`
  }

  private characterClass(element: AST.CharacterClass, times: number): string {
    const parts = element.elements.map((one) => {
      this.spend(times)
      switch (one.type) {
        case "Character":
          return hex(one.value)
        case "CharacterClassRange":
          return `${hex(one.min.value)}-${hex(one.max.value)}`
        case "CharacterSet":
          return this.inside(one, times)
        default:
          return this.refuse("with a set of strings: that is not supported")
      }
    })
    if (parts.length === 0) return element.negate ? `[${all}]` : `[^${all}]`
    return `[${element.negate ? "^" : ""}${parts.join("")}]`
  }

  private set(element: AST.EscapeCharacterSet | AST.UnicodePropertyCharacterSet, times: number): string {
    return `[${this.inside(element, times)}]`
  }

  private inside(element: AST.EscapeCharacterSet | AST.UnicodePropertyCharacterSet, times: number): string {
    switch (element.kind) {
      case "digit":
        return element.negate ? "\\D" : "\\d"
      case "word":
        return element.negate ? "\\W" : "\\w"
      case "space":
        return element.negate ? notSpaces : spaces
      case "property": {
        this.spend(times * 50)
        const { key, negate, strings, value } = element
        if (strings) return this.refuse("with a property of strings: that is not supported")
        const name = key === "General_Category" || key === "gc" || value === null ? (value ?? key) : value
        const known = key === "Script_Extensions" || key === "scx" ? undefined : propertyOf(name)
        if (known === undefined) return this.refuse(`with the property \\p{${key}}, which is not known here`)
        return `\\${negate ? "P" : "p"}{${known}}`
      }
    }
  }
}

/** The complement of `spaces`. */
const notSpaces =
  "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}" +
  "\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{fefe}\\x{ff00}-\\x{10ffff}"

/** The engine's long names of common categories. */
const categories: { readonly [name: string]: string } = {
  Any: "Any",
  Letter: "L",
  Uppercase_Letter: "Lu",
  Lowercase_Letter: "Ll",
  Titlecase_Letter: "Lt",
  Modifier_Letter: "Lm",
  Other_Letter: "Lo",
  Mark: "M",
  Nonspacing_Mark: "Mn",
  Number: "N",
  Decimal_Number: "Nd",
  Letter_Number: "Nl",
  Other_Number: "No",
  Punctuation: "P",
  Symbol: "S",
  Math_Symbol: "Sm",
  Currency_Symbol: "Sc",
  Separator: "Z",
  Space_Separator: "Zs",
  Control: "Cc",
  Other: "C"
}

const propertyOf = (name: string): string | undefined => {
  const known = categories[name] ?? name
  try {
    RE2JS.compile(`\\p{${known}}`)
    return known
  } catch {
    return undefined
  }
}

const parser = new RegExpParser({ ecmaVersion: 2025 })

const isUnicode = (source: string): boolean => {
  try {
    new RegExp(source, "u")
    return true
  } catch (withFlag) {
    try {
      new RegExp(source)
      return false
    } catch {
      const reason = withFlag instanceof Error ? withFlag.message.replace(/^.*\/u?: /, "") : String(withFlag)
      throw new InvalidSchemaError(
        `has the pattern '${quoted(source)}', which is not a valid regular expression: ${reason}`
      )
    }
  }
}

/** A compiled pattern. `size` is the cost per character of a text. */
export interface Pattern {
  readonly size: number
  readonly test: (text: string) => boolean
}

/** Lookaheads at the beginning of `^…` all look at the whole text: they can be matched one after another. */
const split = ({ alternatives }: AST.Pattern) => {
  const [only] = alternatives
  const conditions: Array<AST.LookaheadAssertion> = []
  if (alternatives.length !== 1 || only === undefined) return { conditions, rest: undefined }
  const [first, ...others] = only.elements
  if (first?.type !== "Assertion" || first.kind !== "start") return { conditions, rest: undefined }
  let at = 0
  for (; at < others.length; at++) {
    const one = others[at]
    if (one?.type !== "Assertion" || one.kind !== "lookahead") break
    conditions.push(one)
  }
  return { conditions, rest: others.slice(at) }
}

/**
 * Compiles a pattern. `spend` gets its size with all repetitions expanded, and throws if that is too much. Throws
 * `InvalidSchemaError`, which names the pattern.
 */
export const compile = (source: string, spend: (size: number) => void): Pattern => {
  if (source.length > maxPatterns) throw new InvalidSchemaError(`has a pattern of more than ${maxPatterns} characters`)
  if (groupDepth(source) > maxGroupDepth) {
    throw new InvalidSchemaError(
      `has the pattern '${quoted(source)}', whose groups are nested deeper than ${maxGroupDepth} levels`
    )
  }
  const unicode = isUnicode(source)
  let size = 0
  const writer = new Writer(source, (more) => {
    size += more
    spend(more)
  })
  const engine = (text: string) => {
    try {
      return RE2JS.compile(text, RE2JS.LOOKBEHINDS)
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause)
      throw new InvalidSchemaError(
        `has the pattern '${quoted(source)}', which cannot be matched in linear time: ${reason}`
      )
    }
  }
  const tree = parser.parsePattern(source, 0, source.length, { unicode })
  const { conditions, rest } = split(tree)
  if (conditions.length === 0 || rest === undefined) {
    const all = engine(writer.pattern(tree.alternatives))
    return { size, test: (text) => all.test(text) }
  }
  const parts = conditions.map((one) => ({
    expected: !one.negate,
    engine: engine(`\\A(?:${writer.pattern(one.alternatives)})`)
  }))
  parts.push({ expected: true, engine: engine(`\\A${writer.sequence(rest)}`) })
  return { size, test: (text) => parts.every(({ engine, expected }) => engine.test(text) === expected) }
}

/**
 * What is wrong with a text that is no JSON, in the words of Go's decoder, which are those of Ollama: read from the text
 * itself, because the words of a JavaScript engine differ between its versions. It never recurses: a text may be nested as
 * deeply as it likes.
 */

const hexadecimal = /[0-9a-fA-F]/
const blank = /[ \t\n\r]/
const digit = /[0-9]/
const names: ReadonlyMap<string, string> = new Map([
  ["\\", "\\\\"],
  ["'", "\\'"],
  ["\u0007", "\\a"],
  ["\b", "\\b"],
  ["\f", "\\f"],
  ["\n", "\\n"],
  ["\r", "\\r"],
  ["\t", "\\t"],
  ["\v", "\\v"]
])

/** A character as Go quotes it. Go reads bytes: of a character of several it names the first. */
const quoted = (character: string): string => {
  const code = character.codePointAt(0) ?? 0
  const byte =
    code < 0x80 ? code : code < 0x800 ? 0xc0 | (code >> 6) : code < 0x10000 ? 0xe0 | (code >> 12) : 0xf0 | (code >> 18)
  const one = String.fromCharCode(byte)
  const shown = byte < 0x20 || byte === 0x7f ? `\\x${byte.toString(16).padStart(2, "0")}` : one
  return `'${names.get(one) ?? shown}'`
}

class Scanner {
  private at = 0
  /** The objects and arrays that are open. */
  private readonly open: Array<"{" | "["> = []
  /** What comes now: a value, the first item of what was opened or its end, or what follows a value. */
  private due: "value" | "first" | "after" = "value"

  constructor(private readonly text: string) {}

  /** The message for the first character that cannot stand where it does. */
  fault(): string {
    let found: string | undefined
    while (found === undefined && (this.due !== "after" || this.open.length > 0)) {
      this.skip()
      found = this.due === "value" ? this.value() : this.item()
    }
    if (found !== undefined) return found
    this.skip()
    return this.unexpected("after top-level value")
  }

  private peek(): string {
    return this.text[this.at] ?? ""
  }

  private skip(): void {
    while (blank.test(this.peek())) this.at++
  }

  /** The message for the character at this place, or for its absence. */
  private unexpected(where: string): string {
    return this.at < this.text.length
      ? `invalid character ${quoted(String.fromCodePoint(this.text.codePointAt(this.at) ?? 0))} ${where}`
      : "unexpected EOF"
  }

  private take(character: string, where: string): string | undefined {
    if (this.peek() !== character) return this.unexpected(where)
    this.at++
    return undefined
  }

  /** A value, or the beginning of an object or array. */
  private value(): string | undefined {
    const first = this.peek()
    this.due = "after"
    if (first === '"') return this.string()
    if (first === "-" || digit.test(first)) return this.number()
    if (first === "t") return this.literal("true")
    if (first === "f") return this.literal("false")
    if (first === "n") return this.literal("null")
    if (first !== "{" && first !== "[") return this.unexpected("looking for beginning of value")
    this.at++
    this.open.push(first)
    this.due = "first"
    return undefined
  }

  /** The end of an object or array, or what comes before its next value. */
  private item(): string | undefined {
    const inObject = this.open.at(-1) === "{"
    if (this.peek() === (inObject ? "}" : "]")) {
      this.at++
      this.open.pop()
      this.due = "after"
      return undefined
    }
    if (this.due === "after") {
      const found = this.take(",", inObject ? "after object key:value pair" : "after array element")
      if (found !== undefined) return found
      this.skip()
    }
    this.due = "value"
    return inObject ? this.key() : undefined
  }

  private key(): string | undefined {
    if (this.peek() !== '"') return this.unexpected("looking for beginning of object key string")
    const found = this.string()
    this.skip()
    return found ?? this.take(":", "after object key")
  }

  private string(): string | undefined {
    this.at++
    for (;;) {
      const character = this.peek()
      if (character === "" || character < " ") return this.unexpected("in string literal")
      this.at++
      if (character === '"') return undefined
      if (character !== "\\") continue
      const escaped = this.peek()
      if (escaped === "" || !'"\\/bfnrtu'.includes(escaped)) return this.unexpected("in string escape code")
      this.at++
      if (escaped !== "u") continue
      for (let n = 0; n < 4; n++) {
        if (!hexadecimal.test(this.peek())) return this.unexpected("in \\u hexadecimal character escape")
        this.at++
      }
    }
  }

  private digits(where: string): string | undefined {
    if (!digit.test(this.peek())) return this.unexpected(where)
    while (digit.test(this.peek())) this.at++
    return undefined
  }

  private number(): string | undefined {
    if (this.peek() === "-") this.at++
    // No digit comes after a zero at the beginning.
    if (this.peek() === "0") this.at++
    else {
      const found = this.digits("in numeric literal")
      if (found !== undefined) return found
    }
    if (this.peek() === ".") {
      this.at++
      const found = this.digits("after decimal point in numeric literal")
      if (found !== undefined) return found
    }
    if (this.peek() !== "e" && this.peek() !== "E") return undefined
    this.at++
    if (this.peek() === "+" || this.peek() === "-") this.at++
    return this.digits("in exponent of numeric literal")
  }

  private literal(word: string): string | undefined {
    for (const letter of word) {
      const found = this.take(letter, `in literal ${word} (expecting '${letter}')`)
      if (found !== undefined) return found
    }
    return undefined
  }
}

/** Go's message for a text that is no JSON. */
export const syntaxError = (text: string): string => new Scanner(text).fault()

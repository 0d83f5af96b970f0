/**
 * Parses JSON incrementally and returns immutable snapshots of the value so far.
 *
 * The cost is linear in the text, however it is split. A snapshot shares complete values with the earlier ones and
 * copies only objects and lists that are still open; it is taken once enough text has arrived to amortise the copy.
 * Numbers and literals appear when complete, strings as they grow. Parsing stops at the first error.
 */
import { maxAnswerDepth } from "./limits.js"

type Container = Array<unknown> | { [key: string]: unknown }

interface Frame {
  container: Container
  /** The key or index of the next value. */
  key: string | number
  width: number
  /** Whether a snapshot contains it, so that it must be copied before a change. */
  shared: boolean
}

/** What is expected next. */
type Mode = "before" | "value" | "firstValue" | "firstKey" | "key" | "colon" | "comma" | "string" | "literal" | "over"

/** Copy budget per character. A property costs more than an item. */
const copiedPerCharacter = 64
const costOfProperty = 8

const escapes: { readonly [letter: string]: string } = {
  '"': '"',
  "\\": "\\",
  "/": "/",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t"
}

const isSpace = (letter: string): boolean => letter === " " || letter === "\n" || letter === "\r" || letter === "\t"

/** Parses one reply. Text before its first object or list, such as a code fence, is skipped. */
export class PartialJson {
  private readonly frames: Array<Frame> = []
  private root: Container | undefined
  private mode: Mode = "before"
  /** The kind of string being parsed. */
  private inKey = false
  private text = ""
  private escape = ""
  private changed = false
  private credit = 0
  private openWidth = 0

  push(piece: string): void {
    this.credit += piece.length * copiedPerCharacter
    for (let at = 0; at < piece.length && this.mode !== "over"; ) {
      at = this.mode === "string" ? this.readString(piece, at) : this.read(piece, at)
    }
    if (this.mode === "string" && !this.inKey) this.set(this.text)
  }

  /** A snapshot, if the value has grown enough since the last one. */
  take(): { readonly value: unknown } | undefined {
    if (!this.changed || this.credit < this.openWidth) return undefined
    this.credit -= this.openWidth
    this.changed = false
    for (const frame of this.frames) frame.shared = true
    return { value: this.root }
  }

  /** Parses one character outside of strings; returns the next position. */
  private read(piece: string, at: number): number {
    const letter = piece[at] ?? ""
    const { mode } = this
    if (mode === "literal") {
      if (!/[\s,\]}]/.test(letter)) {
        this.text += letter
        if (this.text.length > 400) this.mode = "over"
        return at + 1
      }
      this.endLiteral()
      return at
    }
    if (mode === "before") {
      if (letter === "{" || letter === "[") this.open(letter)
      return at + 1
    }
    if (isSpace(letter)) return at + 1
    if (mode === "comma") {
      if (letter === ",") this.mode = Array.isArray(this.frames.at(-1)?.container) ? "value" : "key"
      else this.close(letter)
    } else if (mode === "colon") this.mode = letter === ":" ? "value" : "over"
    else if (mode === "key" || mode === "firstKey") {
      if (letter === '"') this.begin(true)
      else if (mode === "firstKey") this.close(letter)
      else this.mode = "over"
    } else if (letter === '"') this.begin(false)
    else if (letter === "{" || letter === "[") this.open(letter)
    else if (mode === "firstValue" && letter === "]") this.close(letter)
    else {
      this.text = letter
      this.mode = "literal"
    }
    return at + 1
  }

  private begin(inKey: boolean): void {
    this.inKey = inKey
    this.text = ""
    this.mode = "string"
  }

  /** Parses the available part of a string; returns the next position. */
  private readString(piece: string, from: number): number {
    let at = from
    if (this.escape !== "") return this.readEscape(piece, at)
    while (at < piece.length) {
      const code = piece.charCodeAt(at)
      if (code === 0x22 || code === 0x5c) break
      at++
    }
    this.text += piece.slice(from, at)
    if (at === piece.length) return at
    if (piece[at] === "\\") {
      this.escape = "\\"
      return at + 1
    }
    if (this.inKey) {
      const frame = this.frames.at(-1)
      if (frame !== undefined) frame.key = this.text
      this.mode = "colon"
    } else {
      this.set(this.text)
      this.ended()
    }
    return at + 1
  }

  private readEscape(piece: string, at: number): number {
    this.escape += piece[at] ?? ""
    const { escape } = this
    if (escape[1] === "u") {
      if (escape.length < 6) return at + 1
      const code = /^\\u[\da-f]{4}$/i.test(escape) ? Number.parseInt(escape.slice(2), 16) : undefined
      if (code === undefined) this.mode = "over"
      else this.text += String.fromCharCode(code)
    } else {
      const letter = escapes[escape[1] ?? ""]
      if (letter === undefined) this.mode = "over"
      else this.text += letter
    }
    this.escape = ""
    return at + 1
  }

  private endLiteral(): void {
    try {
      this.set(JSON.parse(this.text))
      this.ended()
    } catch {
      this.mode = "over"
    }
  }

  private open(letter: "{" | "["): void {
    const container: Container = letter === "[" ? [] : {}
    if (this.root === undefined) {
      this.root = container
      this.changed = true
    } else this.set(container)
    if (this.frames.length === maxAnswerDepth) {
      this.mode = "over"
      return
    }
    this.frames.push({ container, key: 0, width: 0, shared: false })
    this.mode = letter === "[" ? "firstValue" : "firstKey"
  }

  private close(letter: string): void {
    const frame = this.frames.at(-1)
    if (frame === undefined || letter !== (Array.isArray(frame.container) ? "]" : "}")) {
      this.mode = "over"
      return
    }
    this.frames.pop()
    this.openWidth -= frame.width
    if (this.frames.length === 0) this.mode = "over"
    else this.ended()
  }

  /** A value is complete. */
  private ended(): void {
    const frame = this.frames.at(-1)
    if (typeof frame?.key === "number") frame.key++
    this.mode = "comma"
  }

  /** Sets a value in its parent, or replaces it with its longer version. */
  private set(value: unknown): void {
    const frame = this.frames.at(-1)
    if (frame === undefined) return
    this.unshare()
    const { container, key } = frame
    if (!Object.hasOwn(container, key)) {
      const width = Array.isArray(container) ? 1 : costOfProperty
      frame.width += width
      this.openWidth += width
    }
    put(container, key, value)
    this.changed = true
  }

  /** Copies the open objects and lists that a snapshot contains, outermost first. */
  private unshare(): void {
    for (let at = 0; at < this.frames.length; at++) {
      const frame = this.frames[at]
      if (frame === undefined || !frame.shared) return
      frame.container = Array.isArray(frame.container) ? frame.container.slice() : { ...frame.container }
      frame.shared = false
      const parent = this.frames[at - 1]
      if (parent === undefined) this.root = frame.container
      else put(parent.container, parent.key, frame.container)
    }
  }
}

const put = (container: Container, key: string | number, value: unknown): void => {
  if (key === "__proto__") {
    Object.defineProperty(container, key, { value, enumerable: true, configurable: true, writable: true })
  } else (container as { [key: PropertyKey]: unknown })[key] = value
}

import type { PartialToolCall } from "../Backend.js"
import * as ToolArguments from "../internal/toolArguments.js"
import type { ToolCall } from "../Message.js"

const isBlank = (char: string): boolean => char === " " || char === "\n" || char === "\t" || char === "\r"
const isWord = (char: string): boolean => /[\w.+-]/.test(char)

/**
 * Holds back the part of new arguments that repeats emitted ones. White space between JSON tokens does not count:
 * servers differ in it.
 */
class RepeatedArguments {
  private at = 0
  private inString = false
  private escaped = false
  private last = ""
  private gapGiven = false
  private gapNew = false

  constructor(private readonly given: string) {
    this.skip()
  }

  /** Whether all of it has been repeated. */
  get closed(): boolean {
    return this.at >= this.given.length
  }

  /** What is new of a piece; \`undefined\` where it differs. */
  feed(piece: string): string | undefined {
    for (let i = 0; i < piece.length; i++) {
      const char = piece.charAt(i)
      if (!this.inString) {
        if (isBlank(char)) {
          if (this.closed) return this.gapGiven ? "" : piece.slice(i)
          this.gapNew = true
          continue
        }
        if (this.gapGiven !== this.gapNew && isWord(this.last) && isWord(char)) return undefined
      }
      if (this.closed) return piece.slice(i)
      if (char !== this.given.charAt(this.at)) return undefined
      this.at++
      this.step(char)
    }
    return ""
  }

  private step(char: string): void {
    this.last = char
    this.gapGiven = false
    this.gapNew = false
    if (this.escaped) this.escaped = false
    else if (this.inString && char === "\\") this.escaped = true
    else if (char === '"') this.inString = !this.inString
    if (!this.inString) this.skip()
  }

  private skip(): void {
    while (isBlank(this.given.charAt(this.at))) {
      this.at++
      this.gapGiven = true
    }
  }
}

interface Part {
  readonly id: string
  readonly name: string
  text: string
  repeated: RepeatedArguments | undefined
}

/**
 * The tool calls of one attempt, as far as they are emitted while they stream. A call partly emitted by earlier
 * attempts must come again first, under the same name: nothing else can be spliced to it.
 *
 * @internal
 */
export class ToolCallSplice {
  private readonly parts: Array<Part> = []

  constructor(private readonly given: ReadonlyArray<PartialToolCall>) {}

  /** What is new of a piece; \`undefined\` where it cannot be joined. */
  feed(index: number, id: string, name: string, text: string): string | undefined {
    let part = this.parts[index]
    if (part === undefined) {
      const given = this.given[index]
      if (given !== undefined && given.name !== name) return undefined
      part =
        given === undefined
          ? { id, name, text: "", repeated: undefined }
          : { id: given.id, name, text: given.text, repeated: new RepeatedArguments(given.text) }
      this.parts[index] = part
    }
    const fresh = part.repeated === undefined ? text : part.repeated.feed(text)
    if (fresh === undefined) return undefined
    if (fresh !== "") part.repeated = undefined
    part.text += fresh
    return fresh
  }

  /** The same for a complete call: what is new of it if none of it was streamed. */
  complete(index: number, call: ToolCall): string | undefined {
    const fresh = this.parts[index] === undefined ? this.feed(index, call.id, call.name, ToolArguments.text(call)) : ""
    return this.parts[index]?.repeated?.closed === false ? undefined : fresh
  }

  /** The id under which the caller knows a call. */
  id(index: number): string | undefined {
    return this.parts[index]?.id
  }

  /** Whether every emitted call has come again. */
  covers(calls: number): boolean {
    return calls >= this.given.length
  }

  /** What the caller has now. */
  soFar(): ReadonlyArray<PartialToolCall> {
    const length = Math.max(this.parts.length, this.given.length)
    return Array.from({ length }, (_, i) => this.parts[i] ?? this.given[i]).filter((one) => one !== undefined)
  }
}

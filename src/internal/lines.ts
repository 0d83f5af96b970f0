/**
 * Splits a stream of bytes into lines, independent of chunk boundaries.
 *
 * A newline byte never occurs inside a multi-byte character, so only whole lines are decoded. An incomplete last line
 * waits for more. A line ends with LF, CRLF or a CR alone.
 *
 * @internal
 */

const newline = 0x0a
const carriageReturn = 0x0d
const decoder = new TextDecoder("utf-8")

/** Longer lines are rejected. */
export const maxLineBytes = 16 * 1024 * 1024

/** @internal */
export class LineTooLong extends Error {
  override readonly message = `a line is longer than ${maxLineBytes} bytes`
}

/** @internal */
export interface Lines {
  /** Passes each line completed by these bytes to `take`, without its ending. */
  feed(bytes: Uint8Array): void
  /** Passes the rest to `take` when the stream has ended. */
  end(): void
}

class Splitter implements Lines {
  private tail: Array<Uint8Array> | undefined
  private tailLength = 0
  /** The last chunk ended in CR: a following LF belongs to it. */
  private torn = false

  constructor(
    private readonly found: (text: string, from: number, to: number) => void,
    private readonly skip: (text: string, from: number) => number
  ) {}

  feed(read: Uint8Array): void {
    if (read.length === 0) return
    let bytes = read
    if (this.torn) {
      this.torn = false
      if (read[0] === newline) bytes = read.subarray(1)
    }
    const end = bytes.length
    let last = end - 1
    if (bytes[last] !== newline) {
      this.torn = bytes[last] === carriageReturn
      if (!this.torn) last = Math.max(bytes.lastIndexOf(newline), bytes.lastIndexOf(carriageReturn))
    }
    if (last === -1) {
      if (end === 0) return
      this.tailLength += end
      if (this.tailLength > maxLineBytes) throw new LineTooLong()
      // Copied, because the reader may reuse its buffer.
      this.tail ??= []
      this.tail.push(new Uint8Array(bytes))
      return
    }
    const whole = last === end - 1 ? bytes : bytes.subarray(0, last + 1)
    const complete = this.tailLength === 0 ? whole : this.joined(whole)
    if (last < end - 1) {
      this.tail = [new Uint8Array(bytes.subarray(last + 1))]
      this.tailLength = end - last - 1
    }
    this.split(decoder.decode(complete))
  }

  end(): void {
    if (this.tailLength > 0) this.split(decoder.decode(this.joined(new Uint8Array(0))))
  }

  private split(read: string): void {
    const text = read.includes("\r") ? read.replace(/\r\n?/g, "\n") : read
    let from = 0
    for (;;) {
      from = this.skip(text, from)
      const to = text.indexOf("\n", from)
      if (to === -1) break
      this.found(text, from, to)
      from = to + 1
    }
    if (from < text.length) this.found(text, from, text.length)
  }

  private joined(last: Uint8Array): Uint8Array {
    const all = new Uint8Array(this.tailLength + last.length)
    let at = 0
    for (const part of this.tail ?? []) {
      all.set(part, at)
      at += part.length
    }
    all.set(last, at)
    this.tail = undefined
    this.tailLength = 0
    return all
  }
}

const nothing = (_text: string, from: number): number => from

/** @internal */
export const make = (take: (line: string) => void): Lines =>
  new Splitter((text, from, to) => take(text.slice(from, to)), nothing)

/**
 * The same without copying: the line is in `text`, from `from` up to `to`. `skip` is asked at the start of each line
 * how far it has read by itself; only whole lines.
 *
 * @internal
 */
export const within = (
  found: (text: string, from: number, to: number) => void,
  skip: (text: string, from: number) => number = nothing
): Lines => new Splitter(found, skip)

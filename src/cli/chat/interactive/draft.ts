/** A text of several lines that is being written, and where the cursor stands in it. */
const graphemes = new Intl.Segmenter()
const maxUndo = 200

/** The text changes at the cursor; a method that cannot do anything does nothing. */
export class Draft {
  text = ""
  cursor = 0
  #killed = ""
  #undo: Array<readonly [text: string, cursor: number]> = []

  get isEmpty(): boolean {
    return this.text === ""
  }

  get beforeCursor(): string {
    return this.text.slice(0, this.cursor)
  }

  set(text: string): void {
    this.#change(text, text.length)
  }

  /** As `set`, and nothing can be undone. */
  reset(text = ""): void {
    this.text = text
    this.cursor = text.length
    this.#undo = []
  }

  insert(text: string): void {
    this.#replace(this.cursor, this.cursor, text)
  }

  /** Replaces what stands before the cursor from `from` on. */
  complete(from: number, text: string): void {
    this.#replace(from, this.cursor, text)
  }

  undo(): void {
    const last = this.#undo.pop()
    if (last === undefined) return
    this.text = last[0]
    this.cursor = last[1]
  }

  // ---------------------------------------------------------------------------
  // Deleting
  // ---------------------------------------------------------------------------

  deleteBack(): void {
    this.#replace(this.#left(), this.cursor, "")
  }

  deleteForward(): void {
    this.#replace(this.cursor, this.#right(), "")
  }

  killWordBack(): void {
    this.#kill(this.#wordLeft(), this.cursor)
  }

  killWordForward(): void {
    this.#kill(this.cursor, this.#wordRight())
  }

  killToLineStart(): void {
    this.#kill(this.#lineStart(), this.cursor)
  }

  /** At the end of a line, the line break. */
  killToLineEnd(): void {
    const end = this.#lineEnd()
    this.#kill(this.cursor, end === this.cursor ? Math.min(this.text.length, end + 1) : end)
  }

  yank(): void {
    this.insert(this.#killed)
  }

  // ---------------------------------------------------------------------------
  // Moving
  // ---------------------------------------------------------------------------

  left(): void {
    this.cursor = this.#left()
  }

  right(): void {
    this.cursor = this.#right()
  }

  wordLeft(): void {
    this.cursor = this.#wordLeft()
  }

  wordRight(): void {
    this.cursor = this.#wordRight()
  }

  lineStart(): void {
    this.cursor = this.#lineStart()
  }

  lineEnd(): void {
    this.cursor = this.#lineEnd()
  }

  /** `false` on the first line. */
  up(): boolean {
    const start = this.#lineStart()
    if (start === 0) return false
    const above = this.text.lastIndexOf("\n", start - 2) + 1
    this.cursor = Math.min(above + (this.cursor - start), start - 1)
    return true
  }

  /** `false` on the last line. */
  down(): boolean {
    const end = this.#lineEnd()
    if (end === this.text.length) return false
    const column = this.cursor - this.#lineStart()
    const below = this.text.indexOf("\n", end + 1)
    this.cursor = Math.min(end + 1 + column, below === -1 ? this.text.length : below)
    return true
  }

  // ---------------------------------------------------------------------------

  #change(text: string, cursor: number): void {
    this.#undo.push([this.text, this.cursor])
    if (this.#undo.length > maxUndo) this.#undo.shift()
    this.text = text
    this.cursor = cursor
  }

  #replace(from: number, to: number, text: string): void {
    if (from === to && text === "") return
    this.#change(this.text.slice(0, from) + text + this.text.slice(to), from + text.length)
  }

  #kill(from: number, to: number): void {
    if (from === to) return
    this.#killed = this.text.slice(from, to)
    this.#replace(from, to, "")
  }

  /** Where the grapheme before the cursor begins. Only its line is looked at, so a long text costs nothing. */
  #left(): number {
    const start = this.#lineStart()
    if (this.cursor === start) return Math.max(0, start - 1)
    let at = start
    for (const { index } of graphemes.segment(this.text.slice(start, this.cursor))) at = start + index
    return at
  }

  #right(): number {
    const end = this.#lineEnd()
    if (this.cursor === end) return Math.min(this.text.length, end + 1)
    const [first] = graphemes.segment(this.text.slice(this.cursor, end))
    return this.cursor + (first?.segment.length ?? 0)
  }

  #wordLeft(): number {
    return this.cursor - (/[\p{L}\p{N}\p{M}_]*[^\p{L}\p{N}\p{M}_]*$/u.exec(this.beforeCursor)?.[0].length ?? 0)
  }

  #wordRight(): number {
    return (
      this.cursor + (/^[^\p{L}\p{N}\p{M}_]*[\p{L}\p{N}\p{M}_]*/u.exec(this.text.slice(this.cursor))?.[0].length ?? 0)
    )
  }

  #lineStart(): number {
    return this.cursor === 0 ? 0 : this.text.lastIndexOf("\n", this.cursor - 1) + 1
  }

  #lineEnd(): number {
    const end = this.text.indexOf("\n", this.cursor)
    return end === -1 ? this.text.length : end
  }
}

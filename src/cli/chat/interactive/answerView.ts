/** Shows an answer on a terminal while it is being written. */
import * as Output from "../../output.js"
import { LiveLines } from "./liveLines.js"
import { type Block, type Painter, plain } from "./markdown.js"

/** The screen, and what is written to it. */
export interface Screen {
  readonly columns: () => number
  readonly rows: () => number
  readonly write: (text: string) => void
}

export const screen: Screen = {
  columns: () => process.stdout.columns || 80,
  rows: () => process.stdout.rows || 24,
  write: (text) => void process.stdout.write(text)
}

/** The shortest time between two redraws, in milliseconds: more could not be seen. */
const interval = 25

/** A line as wide as the terminal would leave the cursor in an uncertain place. */
const limitOf = (columns: number): number => Math.max(8, columns - 1)

const openFence = /^ {0,3}(`{3,}|~{3,}).*$/m

/** What may be the beginning of another item of the list before it, or of another block. */
const unclear = /^\s*(\d{1,9}[.)]?|[-*+_>#=`~|]*)\s*$/

/**
 * The blocks of a text that are finished are written once. The last one is rewritten when a piece changes its lines,
 * as far as they are on the screen.
 */
export class AnswerView {
  readonly #lines = new LiveLines()
  /** What is not finished. */
  #source = ""
  /** So many characters of it are shown. */
  #shown = 0
  /** So many lines at its beginning are not shown: they open a block of code that was shown before. */
  #hidden = 0
  #columns = 0
  /** The width has changed: the lines stay as they are, and a new one begins after this word. */
  #isBroken = false
  #timer: NodeJS.Timeout | undefined
  #drawn = 0

  constructor(
    readonly to: Screen,
    readonly painter: Painter,
    readonly style: (text: string) => string = (text) => text
  ) {}

  /** Whether a line is begun. */
  get isOpen(): boolean {
    return this.#source !== ""
  }

  push(text: string): void {
    this.#source += Output.withoutControls(text)
    if (this.#timer !== undefined) return
    const wait = interval - (performance.now() - this.#drawn)
    if (wait <= 0) this.#draw()
    else this.#timer = setTimeout(() => this.#draw(), wait)
  }

  /** Shows everything that was pushed. */
  flush(): void {
    if (this.#timer !== undefined || this.#shown < this.#source.length) this.#draw()
  }

  /** Whole lines above the block that is being written. */
  insert(lines: string): void {
    this.flush()
    if (this.#isBroken) {
      this.to.write("\r\n")
      this.#source = ""
      this.#shown = 0
      this.#lines.shown = []
      this.#isBroken = false
    }
    this.to.write(this.#lines.erase(this.to.rows()))
    this.to.write(`${lines.replaceAll("\n", "\r\n")}\r\n`)
    this.#paint()
  }

  /** Shows the rest, and ends its line. */
  end(): void {
    this.flush()
    if (this.isOpen) this.to.write("\r\n")
    this.#lines.shown = []
    this.#source = ""
    this.#shown = 0
    this.#hidden = 0
    this.#isBroken = false
  }

  #draw(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const columns = this.to.columns()
    if (columns !== this.#columns && this.#lines.shown.length > 0) this.#isBroken = true
    this.#columns = columns
    if (!this.#isBroken || this.#continue()) this.#paint()
    this.#drawn = performance.now()
  }

  /** Ends the word that was begun; whether a new line is. */
  #continue(): boolean {
    const rest = this.#source.slice(this.#shown)
    const isCode = this.#isInCode()
    const end = rest.search(isCode ? /\n/ : /\s/)
    const word = end === -1 ? rest : rest.slice(0, end)
    this.to.write(this.style(word))
    this.#shown += word.length
    if (end === -1) return false
    const [fence = ""] = isCode ? (openFence.exec(this.#source) ?? []) : []
    const next = isCode ? rest.slice(end + 1) : rest.slice(end).trimStart()
    this.#source = fence === "" ? next : `${fence.trim()}\n${next}`
    this.#hidden = fence === "" ? 0 : 1
    this.#shown = 0
    this.#lines.shown = []
    this.#isBroken = false
    this.to.write("\r\n")
    return this.#source !== ""
  }

  /** Whether the text that is shown ends within a block of code. */
  #isInCode(): boolean {
    const fences = this.#source.slice(0, this.#shown).match(/^ {0,3}(`{3,}|~{3,})/gm)
    return this.painter !== plain && fences !== null && fences.length % 2 === 1
  }

  #paint(): void {
    const blocks = this.painter(this.#source, limitOf(this.to.columns()))
    const all = blocks.flatMap(({ lines }) => lines).slice(this.#hidden)
    this.to.write(this.#lines.update(all.map(this.#styled), this.to.rows()))
    this.#shown = this.#source.length
    this.#finish(blocks)
  }

  readonly #styled = (line: string): string => (line === "" ? "" : this.style(line))

  /** All blocks but the last one are finished. */
  #finish(blocks: ReadonlyArray<Block>): void {
    const done = blocks.slice(0, -1)
    if (done.length === 0 || (this.painter !== plain && unclear.test(blocks.at(-1)?.raw ?? ""))) return
    const lines = done.reduce((sum, block) => sum + block.lines.length, 0)
    const [first] = blocks.at(-1)?.lines ?? []
    this.#lines.release(lines - this.#hidden + (first === "" ? 1 : 0))
    this.#source = this.#source.slice(done.reduce((sum, block) => sum + block.raw.length, 0))
    this.#hidden = 0
    this.#shown = this.#source.length
  }
}

/** The whole terminal as lines: only those that have changed are written, and the terminal shows them at once. */
import stringWidth from "string-width"

const enter = "\u001b[?1049h\u001b[?25l\u001b[?7l\u001b[2J"
const leave = "\u001b[?7h\u001b[?25h\u001b[?1049l"
/** The terminal shows what is between these at once, if it knows them; else it ignores them. */
const begin = "\u001b[?2026h"
const end = "\u001b[?2026l"
const eraseLine = "\u001b[K"
const eraseAll = "\u001b[2J"

export class Screen {
  #shown: ReadonlyArray<string> | undefined
  #isOpen = false
  #next: ReadonlyArray<string> | undefined
  readonly #output = process.stdout
  readonly #onExit = () => this.leave()

  get columns(): number {
    return Math.max(20, this.#output.columns || 80)
  }
  get rows(): number {
    return Math.max(5, this.#output.rows || 24)
  }

  enter(): void {
    if (this.#isOpen) return
    this.#isOpen = true
    this.#shown = undefined
    // Whatever ends the process: the shell gets its terminal back as it was.
    process.on("exit", this.#onExit)
    this.#output.write(enter)
  }
  leave(): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    this.#next = undefined
    process.off("exit", this.#onExit)
    this.#output.write(leave)
  }

  /** What is on the screen is not known any more. */
  forget(): void {
    this.#shown = undefined
  }

  /** A slow terminal gets the latest lines when it has taken those before. */
  draw(lines: ReadonlyArray<string>): void {
    if (!this.#isOpen) return
    if (this.#output.writableNeedDrain) {
      if (this.#next === undefined) {
        this.#output.once("drain", () => {
          const next = this.#next
          this.#next = undefined
          if (next !== undefined) this.draw(next)
        })
      }
      this.#next = lines
      return
    }
    const before = this.#shown
    let text = before === undefined ? eraseAll : ""
    for (const [at, line] of lines.entries()) {
      if (before?.[at] === line || (before === undefined && line === "")) continue
      text += `\u001b[${at + 1};1H${line}${stringWidth(line) < this.columns ? eraseLine : ""}`
    }
    this.#shown = lines
    if (text !== "") this.#output.write(begin + text + end)
  }
}

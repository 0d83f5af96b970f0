/** Lines at the bottom of a terminal that change while they are shown, such as an answer that is being written. */

const up = (rows: number): string => (rows > 0 ? `\u001b[${rows}A` : "")
const eraseBelow = "\u001b[J"
/** The terminal shows what is between these at once, if it knows them; else it ignores them. */
const begin = "\u001b[?2026h"
const end = "\u001b[?2026l"

/** The cursor stands behind the last line whenever no method runs. Each line must fit the terminal's width. */
export class LiveLines {
  /** What is shown. */
  shown: ReadonlyArray<string> = []

  /** The output that changes the shown lines into others. Lines that have left the screen stay as they are. */
  update(next: ReadonlyArray<string>, screenRows: number): string {
    const { shown } = this
    if (shown.length === 0) {
      this.shown = next
      return next.join("\r\n")
    }
    let same = 0
    while (same < shown.length && same < next.length && shown[same] === next[same]) same++
    if (same === shown.length && same === next.length) return ""
    // If lines were removed, the last one that stays is written again: the cursor belongs behind it.
    const first = Math.max(Math.min(same, Math.max(0, next.length - 1)), this.#reachable(screenRows))
    const last = shown.length - 1
    if (first >= next.length && next.length > 0) return ""
    this.shown = next
    if (first > last) return `\r\n${next.slice(first).join("\r\n")}`
    const line = next[first] ?? ""
    const before = shown[last] ?? ""
    if (first === last && line.startsWith(before)) {
      return [line.slice(before.length), ...next.slice(first + 1)].join("\r\n")
    }
    return `${begin}${up(last - first)}\r${eraseBelow}${next.slice(first).join("\r\n")}${end}`
  }

  /** The output that removes the lines that are still on the screen; the next `update` writes them again. */
  erase(screenRows: number): string {
    if (this.shown.length === 0) return ""
    const first = this.#reachable(screenRows)
    const rows = this.shown.length - 1 - first
    // The cursor stands on an empty line now.
    this.shown = first === 0 ? [] : [...this.shown.slice(0, first), ""]
    return `${up(rows)}\r${eraseBelow}`
  }

  /** The first lines are final. */
  release(count: number): void {
    this.shown = this.shown.slice(count)
  }

  #reachable(screenRows: number): number {
    return Math.max(0, this.shown.length - Math.max(1, screenRows - 1))
  }
}

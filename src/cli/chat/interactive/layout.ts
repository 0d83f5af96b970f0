/** How a text that is being written stands on the terminal. */
import width from "string-width"

const graphemes = new Intl.Segmenter()

export interface Layout {
  readonly rows: ReadonlyArray<string>
  /** Where the cursor stands: a row, and the columns before it. */
  readonly row: number
  readonly column: number
}

/** An ASCII character is as wide as it looks: nearly all are. */
const widthOf = (segment: string): number => (segment.length === 1 && segment < "\u007f" ? 1 : width(segment))

/** `text` behind a prompt, broken at the terminal's width; further lines are indented. */
export const layout = (prompt: string, text: string, cursor: number, columns: number): Layout => {
  const limit = Math.max(2, columns - 1)
  const indent = " ".repeat(Math.min(width(prompt), limit >> 1))
  const rows: Array<string> = []
  let row = prompt
  let used = width(prompt)
  let place: readonly [row: number, column: number] | undefined
  const breakRow = () => {
    rows.push(row)
    row = indent
    used = indent.length
  }
  if (used >= limit) breakRow()
  for (const { index, segment } of graphemes.segment(text)) {
    const isBreak = segment === "\n" || segment === "\r\n"
    const shown = isBreak ? "" : segment === "\t" ? "  " : segment
    const size = shown === "" ? 0 : segment === "\t" ? 2 : widthOf(shown)
    if (used + size > limit) breakRow()
    if (place === undefined && index >= cursor) place = [rows.length, used]
    if (isBreak) breakRow()
    row += shown
    used += size
  }
  place ??= [rows.length, used]
  rows.push(row)
  return { rows, row: place[0], column: place[1] }
}

/** The rows around the cursor that fit on the screen. */
export const visible = ({ column, row, rows }: Layout, screenRows: number): Layout => {
  const room = Math.max(1, screenRows - 1)
  if (rows.length <= room) return { column, row, rows }
  const first = Math.min(Math.max(0, row - (room >> 1)), rows.length - room)
  return { column, row: row - first, rows: rows.slice(first, first + room) }
}

/**
 * Tables for the terminal. They stand apart from other output because the package that measures texts is slow to load, and
 * most commands print none.
 */
import width from "string-width"
import { bold, withoutControls } from "./output.js"

/** Making one takes as long as all else here, and most cells are short enough. */
let graphemes: Intl.Segmenter | undefined

/** A text cut to so many columns, with an ellipsis if anything is missing. */
export const cut = (text: string, limit: number): string => {
  if (width(text) <= limit) return text
  graphemes ??= new Intl.Segmenter()
  let out = ""
  let used = 0
  for (const { segment } of graphemes.segment(text)) {
    used += width(segment)
    if (used > limit - 1) break
    out += segment
  }
  return `${out}…`
}

const gap = "  "
const minColumn = 12

/** Column widths that fit the terminal, if the `prose` column can shrink enough. */
const shrink = (widths: ReadonlyArray<number>, prose: number, limit: number): ReadonlyArray<number> => {
  const over = widths.reduce((all, one) => all + one, gap.length * (widths.length - 1)) - limit
  return over <= 0
    ? widths
    : widths.map((one, i) => (i === prose ? Math.max(Math.min(one, minColumn), one - over) : one))
}

/** How cells of a column are styled, by their row. They are measured and cut before. */
export interface Styles {
  readonly [column: string]: (text: string, row: number) => string
}

const clean = (cell: string): string => withoutControls(cell).replace(/\s+/g, " ")

/** Names with their values, a pair in each line. A value of several lines goes on below itself. */
export const block = (
  pairs: ReadonlyArray<readonly [name: string, value: string]>,
  styles: Styles = {},
  row = 0
): string => {
  const column = Math.max(...pairs.map(([name]) => width(name)))
  return pairs
    .map(([name, value]) => {
      const [first = "", ...more] = value.split("\n").map(clean)
      const styled = styles[name]?.(first, row) ?? first
      const rest = more.map((line) => `${" ".repeat(column)}${gap}${line}\n`).join("")
      return `${bold(name, process.stdout)}${" ".repeat(column - width(name))}${gap}${styled}\n${rest}`
    })
    .join("")
}

/**
 * A table. If it is wider than the terminal (80 columns if unknown), only the `prose` column is cut: half an address or
 * name is of no use. If that does not help, each row becomes a block, a line for each of its cells that says something.
 * Nothing is cut or folded if standard output is not a terminal.
 */
export const table = (
  head: ReadonlyArray<string>,
  body: ReadonlyArray<ReadonlyArray<string>>,
  prose?: string,
  styles: Styles = {}
): string => {
  const rows = [head, ...body].map((row) => row.map(clean))
  const natural = head.map((_, i) => rows.reduce((most, row) => Math.max(most, width(row[i] ?? "")), 0))
  const right = head.map((_, i) => body.length > 0 && body.every((row) => /^(-|[\d.]+)$/.test(row[i] ?? "")))
  const limit = process.stdout.isTTY === true ? process.stdout.columns || 80 : Number.POSITIVE_INFINITY
  const widths = shrink(natural, head.indexOf(prose ?? ""), limit)
  if (widths.reduce((all, one) => all + one, gap.length * (widths.length - 1)) > limit) {
    return rows
      .slice(1)
      .map((row, y) =>
        block(
          row.flatMap((cell, i) => (cell === "" || cell === "-" ? [] : [[head[i] ?? "", cell] as const])),
          styles,
          y
        )
      )
      .join("\n")
  }
  const lines = rows.map((row, y) =>
    widths
      .map((limit, i) => {
        const cell = cut(row[i] ?? "", limit)
        const space = " ".repeat(Math.max(0, limit - width(cell)))
        const styled = (y > 0 ? styles[head[i] ?? ""]?.(cell, y - 1) : undefined) ?? cell
        return right[i] === true ? space + styled : styled + (i === widths.length - 1 ? "" : space)
      })
      .join(gap)
      .trimEnd()
  )
  return lines.map((line, i) => `${i === 0 ? bold(line, process.stdout) : line}\n`).join("")
}

/** One row of a table whose columns have these widths. Longer cells are not cut. */
export const line = (
  row: ReadonlyArray<string>,
  widths: ReadonlyArray<number>,
  styles: Styles = {},
  head: ReadonlyArray<string> = []
): string =>
  `${row
    .map(clean)
    .map((cell, i) => {
      const space = i === row.length - 1 ? "" : " ".repeat(Math.max(0, (widths[i] ?? 0) - width(cell)))
      return (styles[head[i] ?? ""]?.(cell, 0) ?? cell) + space
    })
    .join(gap)}\n`

/** Tables that fit the terminal: columns that matter less are left out where it is narrow. */
import * as Text from "./text.js"

/** How a cell is painted. */
export type Style = "dim" | "red" | "green" | "yellow"

export interface Column<Row> {
  readonly title: string
  /** Those of the lowest rank stay. */
  readonly rank: number
  /** It is never narrower, and is as wide as what it holds up to `max`. */
  readonly min: number
  readonly max: number
  readonly right?: boolean
  readonly cell: (row: Row, columns: number) => string
  readonly style?: (row: Row) => Style | undefined
}

export interface Placed<Row> {
  readonly column: Column<Row>
  readonly width: number
}

/** Between two columns. */
const gap = 2

/** The columns that fit, each with its width. */
export const place = <Row>(
  columns: ReadonlyArray<Column<Row>>,
  rows: ReadonlyArray<Row>,
  available: number
): ReadonlyArray<Placed<Row>> => {
  let kept = columns
  const needed = () => kept.reduce((sum, { min }) => sum + min, gap * (kept.length - 1))
  while (kept.length > 1 && needed() > available) {
    const last = Math.max(...kept.map(({ rank }) => rank))
    kept = kept.filter(({ rank }) => rank !== last)
  }
  let room = Math.max(0, available - needed())
  const widths = new Map(kept.map((column) => [column, Math.min(column.min, available)]))
  for (const column of [...kept].sort((a, b) => a.rank - b.rank)) {
    if (column.max <= column.min) continue
    const natural = rows.reduce(
      (most, row) => Math.max(most, Text.width(Text.clean(column.cell(row, column.max)))),
      Text.width(column.title)
    )
    const more = Math.min(room, Math.max(0, Math.min(natural, column.max) - column.min))
    widths.set(column, column.min + more)
    room -= more
  }
  return kept.map((column) => ({ column, width: widths.get(column) ?? column.min }))
}

const join = (cells: ReadonlyArray<string>): string => cells.join(" ".repeat(gap))

export const header = <Row>(placed: ReadonlyArray<Placed<Row>>): string =>
  join(placed.map(({ column, width }) => Text.fit(column.title, width, column.right)))

/** `paint` styles a cell that has its width already. */
export const line = <Row>(
  placed: ReadonlyArray<Placed<Row>>,
  row: Row,
  paint: (style: Style, text: string) => string
): string =>
  join(
    placed.map(({ column, width }) => {
      const text = Text.fit(Text.clean(column.cell(row, width)), width, column.right)
      const style = column.style?.(row)
      return style === undefined ? text : paint(style, text)
    })
  )

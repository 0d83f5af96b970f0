/**
 * Standard output is for answers, standard error for everything about them. When not on a terminal, neither contains
 * control sequences.
 */

import * as Effect from "effect/Effect"
import width from "string-width"
import { CommandFailed, OutputClosed } from "./errors.js"

// =============================================================================
// Terminals
// =============================================================================

/** A stream that may be a terminal: `process.stdout` or `process.stderr`. */
export type Output = NodeJS.WriteStream

/** Whether a stream is a terminal that understands control sequences. */
export const isTerminal = (output: Output): boolean => output.isTTY === true && process.env["TERM"] !== "dumb"

/** Whether output may be coloured: as `FORCE_COLOR` says, else on a terminal unless `NO_COLOR` is set. */
export const supportsColor = (output: Output): boolean => {
  const { FORCE_COLOR: forced, NO_COLOR: none } = process.env
  return forced ? forced !== "0" && forced !== "false" : isTerminal(output) && !none
}

const style =
  (open: number, close: number) =>
  (text: string, output: Output): string =>
    supportsColor(output) ? `\u001b[${open}m${text}\u001b[${close}m` : text

export const dim = style(2, 22)

export const bold = style(1, 22)

export const red = style(31, 39)

export const green = style(32, 39)

export const yellow = style(33, 39)

// Besides control characters: what reverses the direction of text (bidirectional overrides and isolates), and tags, which
// no terminal shows.
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
const controls = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]|\u{e0001}|[\u{e0020}-\u{e007f}]/gu

/** Removes control characters: output of servers and models must not control the terminal. */
export const withoutControls = (text: string): string => text.replace(controls, "")

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
const sequences = /\u001b\[[0-9;]*[A-Za-z]/g

/** Removes colours. */
export const withoutEscapes = (text: string): string => text.replace(sequences, "")

// =============================================================================
// Writing
// =============================================================================

const isClosed = (error: Error): boolean =>
  "code" in error && (error.code === "EPIPE" || error.code === "ERR_STREAM_DESTROYED" || error.code === "ECONNRESET")

/** Standard output cannot be written, or its reader is gone. */
export type WriteError = OutputClosed | CommandFailed

/** Writes to standard output, waiting for its reader. */
export const write = (text: string): Effect.Effect<void, WriteError> =>
  Effect.async((resume) => {
    process.stdout.write(text, (error) => {
      if (error === undefined || error === null) resume(Effect.void)
      else if (isClosed(error)) resume(Effect.fail(new OutputClosed()))
      else resume(Effect.fail(new CommandFailed({ message: `standard output cannot be written: ${error.message}` })))
    })
  })

/** Writes a model's text: unchanged, but without terminal control characters. */
export const writeLine = (text: string): Effect.Effect<void, WriteError> =>
  write(process.stdout.isTTY === true ? withoutControls(text) : text)

export const writeJson = (value: unknown): Effect.Effect<void, WriteError> =>
  writeLine(`${JSON.stringify(value, undefined, 2)}\n`)

/** One line on standard error. */
export const notice = (message: string): Effect.Effect<void> =>
  Effect.sync(() => void process.stderr.write(`aicortex: ${withoutControls(message)}\n`))

/** One dimmed line on standard error. */
export const dimNotice = (message: string): Effect.Effect<void> =>
  Effect.sync(() => void process.stderr.write(`${dim(`aicortex: ${withoutControls(message)}`, process.stderr)}\n`))

/** Dimmed text on standard error, without a line break. */
export const writeDim = (text: string): Effect.Effect<void> =>
  Effect.sync(() => void process.stderr.write(dim(withoutControls(text), process.stderr)))

// =============================================================================
// Tables
// =============================================================================

const graphemes = new Intl.Segmenter()

/** A text cut to so many columns, with an ellipsis if anything is missing. */
export const cut = (text: string, limit: number): string => {
  if (width(text) <= limit) return text
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
  const natural = head.map((_, i) => Math.max(...rows.map((row) => width(row[i] ?? ""))))
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

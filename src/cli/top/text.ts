/** Texts of `aicortex top`: what comes from servers and clients is clean, and fits its column. */
import { stripVTControlCharacters } from "node:util"
import stringWidth from "string-width"
import { withoutControls } from "../output.js"
import * as Table from "../table.js"

/** More of a name than this is never looked at, in code units. */
const maxLength = 400

// Marks that change the direction of text, and what ends lines.
const invisible = /[\u061c\u200b\u200e\u200f\u2028\u2029\ufeff]/g

/** A text of elsewhere as a part of one line: it cannot move the cursor, or the text beside it. */
export const clean = (text: string): string =>
  withoutControls(stripVTControlCharacters(text.slice(0, maxLength)))
    .replace(invisible, "")
    .replace(/\s+/g, " ")
    .trim()

const ascii = /^[\x20-\x7e]*$/

/** Columns that a clean text takes. */
export const width = (text: string): number => (ascii.test(text) ? text.length : stringWidth(text))

/** A clean text of exactly so many columns. */
export const fit = (text: string, columns: number, right = false): string => {
  const cut = width(text) <= columns ? text : columns <= 1 ? "…".slice(0, columns) : Table.cut(text, columns)
  const space = " ".repeat(Math.max(0, columns - width(cut)))
  return right ? space + cut : cut + space
}

/** A time in milliseconds: `85 ms`, `1.4 s`, `2:05`. */
export const time = (milliseconds: number | null | undefined): string => {
  if (milliseconds === null || milliseconds === undefined) return "-"
  if (milliseconds < 1_000) return `${Math.max(0, Math.round(milliseconds))} ms`
  if (milliseconds < 59_950) return `${(milliseconds / 1_000).toFixed(1)} s`
  const seconds = Math.round(milliseconds / 1_000)
  const pad = (value: number) => String(value).padStart(2, "0")
  return seconds < 3_600
    ? `${Math.floor(seconds / 60)}:${pad(seconds % 60)}`
    : `${Math.floor(seconds / 3_600)}:${pad(Math.floor(seconds / 60) % 60)}:${pad(seconds % 60)}`
}

/** A number of few digits. */
export const number = (value: number | null | undefined): string => {
  if (value === null || value === undefined) return "-"
  if (value < 10_000) return value < 100 && !Number.isInteger(value) ? value.toFixed(1) : String(Math.round(value))
  return value < 10_000_000 ? `${Math.round(value / 1_000)}k` : `${Math.round(value / 1_000_000)}M`
}

const blocks = "▁▂▃▄▅▆▇█"

/** The last points as blocks, the height of the highest being `most` or more. */
export const sparkline = (points: ReadonlyArray<number>, columns: number, most: number): string => {
  const shown = points.slice(-columns)
  const top = Math.max(1, most, ...shown)
  return shown
    .map((value) => blocks[Math.min(blocks.length - 1, Math.ceil((value / top) * (blocks.length - 1)))] ?? "")
    .join("")
    .padStart(columns)
}

/** Names beside what is said of them, within the terminal's width. */
import width from "string-width"
import { wrap } from "./markdown.js"

const gap = "  "

/** The width of a terminal's lines; where there is none, nothing is broken. */
export const lineWidth = (): number =>
  process.stdout.isTTY === true ? (process.stdout.columns || 80) - 1 : Number.MAX_SAFE_INTEGER

/** A name that is wider than most stands on a line of its own. */
export const listing = (rows: ReadonlyArray<readonly [name: string, about: string]>, widest = 24): string => {
  const size = Math.max(...rows.map(([name]) => width(name)).filter((one) => one <= widest))
  const indent = gap + " ".repeat(size) + gap
  const room = Math.max(20, lineWidth() - indent.length)
  return rows
    .flatMap(([name, about]) => {
      const [first = "", ...others] = wrap(about, room)
      const fits = width(name) <= size
      const begin = `${gap}${name}${" ".repeat(Math.max(0, size - width(name)))}${gap}`
      return [...(fits ? [begin + first] : [gap + name, indent + first]), ...others.map((line) => indent + line)]
    })
    .join("\n")
}

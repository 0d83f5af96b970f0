/** The help of a command, wrapped to the width of the terminal. */
import type { Flag, Shape } from "./commandLine.js"
import * as Output from "./output.js"

const wrapped = (text: string, width: number): ReadonlyArray<string> => {
  const lines = [""]
  for (const word of text.split(" ")) {
    const line = lines[lines.length - 1] ?? ""
    if (line === "") lines[lines.length - 1] = word
    else if (line.length + 1 + word.length <= width) lines[lines.length - 1] = `${line} ${word}`
    else lines.push(word)
  }
  return lines
}

const nameOf = ({ alias, name, repeated, value }: Flag): string =>
  `${alias === undefined ? "    " : `${alias}, `}${name}${value === undefined ? "" : ` ${value}`}` +
  (value !== undefined && repeated ? "..." : "")

const paragraph = (text: string, width: number, indent: string): string =>
  wrapped(text, width - indent.length)
    .map((line) => `${indent}${line}\n`)
    .join("")

/** A list of names with descriptions; a long name has its description on the next line. */
const list = (rows: ReadonlyArray<readonly [name: string, about: string]>, width: number): string => {
  const column = Math.min(28, Math.max(...rows.map(([name]) => name.length)) + 4)
  return rows
    .map(([name, about]) => {
      const [first = "", ...more] = wrapped(about, Math.max(24, width - column))
      const rest = more.map((line) => `${" ".repeat(column)}${line}\n`).join("")
      return name.length + 4 <= column
        ? `  ${name.padEnd(column - 2)}${first}\n${rest}`
        : `  ${name}\n${" ".repeat(column)}${first}\n${rest}`
    })
    .join("")
}

export const text = (path: ReadonlyArray<string>, { about, children, examples, flags, takes }: Shape): string => {
  const width = Math.min(100, process.stdout.columns || 80)
  const name = ["aicortex", ...path].join(" ")
  const title = (words: string) => `\n${Output.bold(words, process.stdout)}\n`
  const commands = Object.entries(children)
  const some = flags.size > 2 ? " [FLAGS]" : ""
  const usages = path.length === 0 ? [] : [`${name}${some}${takes === undefined ? "" : ` ${takes}`}`]
  if (commands.length > 0) usages.push(`${name} COMMAND`)
  return [
    ...about.map((one) => paragraph(one, width, "")),
    title("Usage"),
    ...usages.map((usage) => `  ${usage}\n`),
    ...(commands.length === 0
      ? []
      : [
          title("Commands"),
          list(
            commands.map(([name, child]) => [name, child.about[0] ?? ""]),
            width
          )
        ]),
    title("Flags"),
    list(
      [...new Set(flags.values())].map((flag) => [nameOf(flag), flag.about]),
      width
    ),
    title("Examples"),
    ...examples.map((example) => `  ${example}\n`)
  ].join("")
}

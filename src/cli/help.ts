/** The help of a command, wrapped to the width of the terminal. */
import type { Flag, Shape } from "./commandLine.js"
import { bold } from "./styles.js"

/** What the help of a command says. */
export interface Page {
  readonly about: ReadonlyArray<string>
  readonly takes: string | undefined
  readonly commands: ReadonlyArray<readonly [name: string, about: string]>
  readonly flags: ReadonlyArray<readonly [name: string, about: string]>
  readonly examples: ReadonlyArray<string>
}

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

export const page = ({ about, children, examples, flags, takes }: Shape): Page => ({
  about,
  takes,
  commands: Object.entries(children).map(([name, child]) => [name, child.about[0] ?? ""]),
  flags: [...new Set(flags.values())].map((flag) => [nameOf(flag), flag.about]),
  examples
})

/** The pages of a command and of all below it, by their names in one text. */
export const pages = (shape: Shape, name = ""): { readonly [name: string]: Page } =>
  Object.assign(
    { [name]: page(shape) },
    ...Object.entries(shape.children).map(([word, child]) => pages(child, name === "" ? word : `${name} ${word}`))
  )

export const text = (path: ReadonlyArray<string>, { about, commands, examples, flags, takes }: Page): string => {
  const width = Math.min(100, process.stdout.columns || 80)
  const name = ["aicortex", ...path].join(" ")
  const title = (words: string) => `\n${bold(words, process.stdout)}\n`
  const usages: Array<string> = []
  if (path.length > 0) {
    usages.push(`${name}${flags.length > 1 ? " [FLAGS]" : ""}${takes === undefined ? "" : ` ${takes}`}`)
  }
  if (commands.length > 0) usages.push(`${name} COMMAND`)
  return [
    ...about.map((one) => paragraph(one, width, "")),
    title("Usage"),
    ...usages.map((usage) => `  ${usage}\n`),
    ...(commands.length === 0 ? [] : [title("Commands"), list(commands, width)]),
    title("Flags"),
    list(flags, width),
    title("Examples"),
    ...examples.map((example) => `  ${example}\n`)
  ].join("")
}

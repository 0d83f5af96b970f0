/** Changes TOML and leaves what else stands in it, comments too, as it is. */
import { isDeepStrictEqual } from "node:util"
import { parse, stringify } from "smol-toml"

type Table = Record<string, unknown>

const newline = (text: string): string => (text.includes("\r\n") ? "\r\n" : "\n")

/** A line that begins a table or an array of tables. */
const header = /^\s*\[/

/** A key before the first table, with its value in one line. */
const setKey = (lines: Array<string>, key: string, value: string): void => {
  const first = lines.findIndex((line) => header.test(line))
  const end = first === -1 ? lines.length : first
  const at = lines.findIndex((line, i) => i < end && new RegExp(`^\\s*(${key}|"${key}"|'${key}')\\s*=`).test(line))
  const line = stringify({ [key]: value }).trim()
  if (at !== -1) lines[at] = line
  else {
    // After the last line that is not blank, before the table's own comments.
    let place = end
    while (place > 0 && /^\s*(#.*)?$/.test(lines[place - 1] ?? "")) place--
    lines.splice(place, 0, line)
  }
}

/** The lines of a table, without those of other tables in it. */
const setTable = (lines: Array<string>, path: readonly [string, string], table: Table): void => {
  const [outer, inner] = path
  const name = new RegExp(`^\\s*\\[\\s*${outer}\\s*\\.\\s*("?)${inner}\\1\\s*\\]`)
  const body = [`[${outer}.${inner}]`, ...stringify(table).trimEnd().split("\n")]
  const at = lines.findIndex((line) => name.test(line))
  if (at === -1) {
    while (lines.length > 0 && lines[lines.length - 1]?.trim() === "") lines.pop()
    lines.push(...(lines.length === 0 ? [] : [""]), ...body, "")
    return
  }
  let end = at + 1
  while (end < lines.length && !header.test(lines[end] ?? "")) end++
  // Blank lines and comments above the next table are the next table's.
  while (end > at + 1 && /^\s*(#.*)?$/.test(lines[end - 1] ?? "")) end--
  lines.splice(at, end - at, ...body)
}

const objectOf = (value: unknown): Table => (typeof value === "object" && value !== null ? (value as Table) : {})

/**
 * Sets keys of the root and one table in a table. Throws where the text is no TOML, or is written in a way that cannot
 * be changed line by line (an inline table, say): what comes out has been read again and compared.
 */
export const change = (
  text: string,
  keys: Readonly<Record<string, string>>,
  path: readonly [string, string],
  table: Table
): string => {
  const before = parse(text) as Table
  const [outer, inner] = path
  const wanted = { ...before, ...keys, [outer]: { ...objectOf(before[outer]), [inner]: table } }
  if (isDeepStrictEqual(plain(before), plain(wanted))) return text
  const lines = text.split(/\r?\n/)
  for (const [key, value] of Object.entries(keys)) setKey(lines, key, value)
  setTable(lines, path, table)
  const after = lines.join(newline(text))
  let read: unknown
  try {
    read = parse(after)
  } catch {
    // Compared below.
  }
  if (!isDeepStrictEqual(plain(read), plain(wanted))) {
    throw new Error(`"${outer}" is written in a way that cannot be changed safely`)
  }
  return after
}

/** Without the prototypes of the parser. */
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value ?? null))

/** What may stand at the end of a command line, from its words so far. */
import type { Flag, Shape } from "../commandLine.js"

/** Kinds of values that are not known from the command line itself. */
export type Kind = "models" | "servers" | "sessions" | "settings" | "files"

/** A completion, and what it is. */
export type Completion = readonly [value: string, about: string]

/** The completions that are known, and the kind of value that may stand there too, before which `prefix` stands. */
export interface Candidates {
  readonly known: ReadonlyArray<Completion>
  readonly kind: Kind | undefined
  readonly prefix: string
}

const kindsOfFlags: { readonly [flag: string]: Kind } = {
  "--model": "models",
  "--server": "servers",
  "--session": "sessions"
}

const kindsOfArguments: { readonly [name: string]: Kind } = {
  MODEL: "models",
  ID: "sessions",
  FILE: "files",
  KEY: "settings",
  SERVER: "servers"
}

const nothing: Candidates = { known: [], kind: undefined, prefix: "" }

/** The values of a flag: one of several, or of a kind. */
const valuesOf = ({ name, value = "" }: Flag, prefix: string): Candidates => {
  const choices = /^[a-z0-9-]+(\|[a-z0-9-]+)+$/.test(value) ? value.split("|") : []
  const kind = kindsOfFlags[name] ?? (value === "FILE" ? "files" : undefined)
  return { known: choices.map((one) => [`${prefix}${one}`, ""] as const), kind, prefix }
}

/** An argument of a command. */
const argumentOf = (path: ReadonlyArray<string>, { takes }: Shape, before: number): Candidates => {
  const [, name = "", more = ""] = /^\[?([A-Z]+)[^…]*(…)?/.exec(takes ?? "") ?? []
  if (before > 0 && more === "") return nothing
  if (name === "SHELL") return { ...nothing, known: ["bash", "zsh", "fish"].map((shell) => [shell, ""] as const) }
  // Only what is there can be removed; the address of a new server is not known.
  if (name === "URL") return { ...nothing, kind: path.at(-1) === "remove" ? "servers" : undefined }
  return { ...nothing, kind: before > 0 && name === "KEY" ? undefined : kindsOfArguments[name] }
}

/** The completions of the last of these words, which follow the name of the program. */
export const candidates = (root: Shape, words: ReadonlyArray<string>): Candidates => {
  const path: Array<string> = []
  const given = new Set<string>()
  let shape = root
  let before = 0
  let pending: Flag | undefined
  let onlyArguments = false
  for (const word of words.slice(0, -1)) {
    if (pending !== undefined) pending = undefined
    else if (onlyArguments) before++
    else if (word === "--") onlyArguments = true
    else if (/^-./.test(word)) {
      const long = word.startsWith("--")
      const name = long ? (word.split("=", 1)[0] ?? "") : `-${word.at(-1)}`
      const flag = shape.flags.get(name)
      if (flag === undefined) continue
      if (!flag.repeated) given.add(flag.name)
      if (flag.value !== undefined && !word.includes("=")) pending = flag
    } else {
      const child = before === 0 && Object.hasOwn(shape.children, word) ? shape.children[word] : undefined
      if (child === undefined) before++
      else {
        path.push(word)
        shape = child
      }
    }
  }
  const current = words.at(-1) ?? ""
  if (pending !== undefined) return valuesOf(pending, "")
  const equals = /^(--[a-z-]+)=/.exec(current)
  if (equals !== null && !onlyArguments) {
    const flag = shape.flags.get(equals[1] ?? "")
    return flag?.value === undefined ? nothing : valuesOf(flag, equals[0])
  }
  const flags = [...new Set(shape.flags.values())].flatMap(
    ({ about, name }): ReadonlyArray<Completion> => (given.has(name) ? [] : [[name, about]])
  )
  if (current.startsWith("-") && !onlyArguments) return { ...nothing, known: flags }
  const children =
    before === 0 && !onlyArguments
      ? Object.entries(shape.children).map(([name, { about }]): Completion => [name, about[0] ?? ""])
      : []
  const argument = argumentOf(path, shape, before)
  const known = [...children, ...argument.known]
  // Where nothing else may stand, flags may.
  return known.length === 0 && argument.kind === undefined && shape.takes === undefined && !onlyArguments
    ? { ...nothing, known: flags }
    : { ...argument, known }
}

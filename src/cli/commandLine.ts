/**
 * Normalises a command line for `@effect/cli`: flags first, each value as a separate word, then `--`, then the
 * arguments. So flags may stand anywhere, `-t0.2`, `-sm NAME` and `--system=…` work, a boolean flag never consumes the
 * next word, and an unknown or repeated flag is reported by name.
 *
 * `@effect/cli` declares the commands, reads the values with their types and ranges, and runs what was selected. It takes
 * flags before arguments only, passes over words that it does not know, and its help does not fit a terminal. So three
 * modules stand beside it, and nothing else goes round it: this one, `flags.ts` (its options, each with its help) and
 * `help.ts` (the help of a command). All three read the same declarations as it does.
 */
import * as Options from "@effect/cli/Options"
import type * as Usage from "@effect/cli/Usage"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import { nearest } from "../Model.js"
import { UsageError } from "./errors.js"
import { aboutOf, wrap } from "./flags.js"

// =============================================================================
// The commands
// =============================================================================

/** A flag: `value` is the name of its value, `undefined` if it takes none. */
export interface Flag {
  readonly name: string
  readonly alias: string | undefined
  readonly value: string | undefined
  readonly repeated: boolean
  readonly about: string
}

/** The purpose of a command. `takes` names its argument, if any, followed by `…` if there may be several. */
export interface About {
  readonly about: ReadonlyArray<string>
  readonly takes?: string
  readonly examples: ReadonlyArray<string>
}

/** A command: its flags under all their names, and its subcommands. */
export interface Shape extends About {
  readonly flags: ReadonlyMap<string, Flag>
  readonly children: { readonly [name: string]: Shape }
}

const collect = (
  usage: Usage.Usage,
  about: (flag: string) => string,
  repeated: boolean,
  flags: Map<string, Flag>
): void => {
  switch (usage._tag) {
    case "Named": {
      const name = usage.names.find((one) => one.startsWith("--")) ?? ""
      const alias = usage.names.find((one) => !one.startsWith("--"))
      const value = Option.getOrUndefined(usage.acceptedValues)
      const flag = { name, alias, value, repeated, about: about(name) }
      for (const one of usage.names) flags.set(one, flag)
      return
    }
    case "Optional":
      collect(usage.usage, about, repeated, flags)
      return
    case "Repeated":
      collect(usage.usage, about, true, flags)
      return
    case "Alternation":
    case "Concat":
      collect(usage.left, about, repeated, flags)
      collect(usage.right, about, repeated, flags)
  }
}

const help: Flag = { name: "--help", alias: "-h", value: undefined, repeated: true, about: "Show this help." }

export const shape = (
  about: About,
  options: { readonly [name: string]: Options.Options<unknown> },
  children: { readonly [name: string]: Shape } = {}
): Shape => {
  const flags = new Map<string, Flag>()
  for (const option of Object.values(options)) {
    collect(Options.getUsage(option), (flag) => aboutOf(option, flag), false, flags)
  }
  flags.set("--help", help).set("-h", help)
  return { ...about, flags, children }
}

// =============================================================================
// Reading the body
// =============================================================================

export const suggestion = (word: string, names: Iterable<string>): string => {
  const all = [...names]
  const near = all.find((name) => name.toLowerCase() === word.toLowerCase()) ?? nearest(word, all, 1)[0]
  return near === undefined ? "" : `; did you mean '${near}'?`
}

/** The selected command, and the words in the form that `@effect/cli` reads; no words if its help is requested. */
export interface ParsedCommand {
  readonly path: ReadonlyArray<string>
  readonly shape: Shape
  readonly words: ReadonlyArray<string> | undefined
}

/** Parses a command line, or returns what is wrong with it. */
export const normalize = (root: Shape, words: ReadonlyArray<string>): Either.Either<ParsedCommand, UsageError> => {
  const path: Array<string> = []
  const given = new Map<string, Array<ReadonlyArray<string>>>()
  const rest: Array<string> = []
  let shape = root
  const fail = (message: string) => Either.left(new UsageError({ message, command: path }))
  const unknown = (name: string) => {
    const near = suggestion(
      name,
      [...shape.flags.keys()].filter((one) => one.startsWith("--") || one.toLowerCase() === name.toLowerCase())
    )
    const prompt = shape.takes === undefined ? "" : "; put -- before an argument that begins with -"
    const of = path.length === 0 ? "" : ` of '${path.join(" ")}'`
    const asksServers = /^(chat|embed|serve)$/.test(path.join(" ")) && /^--(servers?|url|base-url|host)$/.test(name)
    const servers = "; servers are those of `aicortex servers add URL`, or of AICORTEX_SERVERS"
    return fail(`unknown flag '${name}'${of}${asksServers ? servers : near === "" ? prompt : near}`)
  }
  const add = (flag: Flag, value: string | undefined): void => {
    const form =
      value === undefined ? [flag.name] : [flag.name, flag.value !== undefined && flag.repeated ? wrap(value) : value]
    const before = given.get(flag.name)
    if (before === undefined) given.set(flag.name, [form])
    else before.push(form)
  }
  const normalized = words[0] === "help" ? [...words.slice(1), "--help"] : words
  for (let i = 0; i < normalized.length; i++) {
    const word = normalized[i] ?? ""
    if (word === "--") {
      rest.push(...normalized.slice(i + 1))
      break
    }
    if (/^--[a-z]/i.test(word) && !/\s/.test(word.split("=", 1)[0] ?? "")) {
      const equals = word.indexOf("=")
      const name = equals === -1 ? word : word.slice(0, equals)
      const flag = shape.flags.get(name)
      if (flag === undefined) return unknown(name)
      const value = equals === -1 ? undefined : word.slice(equals + 1)
      if (flag.value !== undefined) {
        const taken = value ?? normalized[++i]
        if (taken === undefined) return fail(`${name} needs a value`)
        add(flag, taken)
      } else if (value === undefined || value === "true") add(flag, undefined)
      else if (value !== "false") return fail(`${name} takes no value`)
    } else if (/^-[a-z]/i.test(word)) {
      for (let at = 1; at < word.length; at++) {
        const name = `-${word[at]}`
        const flag = shape.flags.get(name)
        if (flag === undefined) return unknown(word.length > 2 && at === 1 ? word : name)
        if (flag.value === undefined) {
          add(flag, undefined)
          continue
        }
        const value = word.slice(at + 1).replace(/^=/, "") || normalized[++i]
        if (value === undefined) return fail(`${name} needs a value`)
        add(flag, value)
        break
      }
    } else {
      const child = rest.length === 0 && Object.hasOwn(shape.children, word) ? shape.children[word] : undefined
      if (child !== undefined) {
        path.push(word)
        shape = child
      } else if (shape.takes !== undefined) {
        rest.push(word)
      } else if (Object.keys(shape.children).length > 0) {
        const names = Object.keys(shape.children)
        const near = suggestion(word, names)
        return fail(`unknown command '${word}'${near === "" ? `; there are ${names.join(", ")}` : near}`)
      } else {
        return fail(`'${path.join(" ")}' takes no argument, but was given '${word}'`)
      }
    }
  }
  if (given.has(help.name)) return Either.right({ path, shape, words: undefined })
  if (rest.length > 1 && shape.takes?.endsWith("…") === false) {
    const all = rest.map((word) => `'${word}'`).join(", ")
    return fail(`'${path.join(" ")}' takes one argument, but was given ${rest.length}: ${all}`)
  }
  for (const [name, forms] of given) {
    // A flag may precede the subcommand that it belongs to.
    const flag = shape.flags.get(name)
    if (flag === undefined) return unknown(name)
    if (forms.length > 1 && flag.value !== undefined && !flag.repeated)
      return fail(`${name} is given ${forms.length} times`)
    if (flag.value === undefined) forms.length = 1
  }
  const flags = [...given.values()].flat(2)
  return Either.right({ path, shape, words: [...path, ...flags, ...(rest.length === 0 ? [] : ["--", ...rest])] })
}

/**
 * Puts the words of a command line into the one form in which `@effect/cli` reads them as everybody expects: flags
 * first, each value a word of its own, then `--`, then the arguments. So flags may stand anywhere, `-t0.2`, `-sm NAME`
 * and `--system=…` work, a boolean flag never takes the word after it for its value, and an unknown or repeated flag
 * is told by its name.
 *
 * @since 0.1.0
 */
import * as Options from "@effect/cli/Options"
import type * as Usage from "@effect/cli/Usage"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import { nearest } from "../Model.js"
import { UsageError } from "./failure.js"

// =============================================================================
// what there is
// =============================================================================

interface Flag {
  readonly name: string
  readonly takesValue: boolean
  readonly repeated: boolean
}

/**
 * A command: its flags by every name that they have, and its subcommands. `free` commands take arguments besides.
 *
 * @since 0.1.0
 * @category models
 */
export interface Shape {
  readonly flags: ReadonlyMap<string, Flag>
  readonly children: { readonly [name: string]: Shape }
  readonly free: boolean
}

const collect = (usage: Usage.Usage, repeated: boolean, flags: Map<string, Flag>): void => {
  switch (usage._tag) {
    case "Named": {
      const name = usage.names.find((one) => one.startsWith("--")) ?? usage.names[0] ?? ""
      const flag = { name, takesValue: Option.isSome(usage.acceptedValues), repeated }
      for (const one of usage.names) flags.set(one, flag)
      return
    }
    case "Optional":
      collect(usage.usage, repeated, flags)
      return
    case "Repeated":
      collect(usage.usage, true, flags)
      return
    case "Alternation":
    case "Concat":
      collect(usage.left, repeated, flags)
      collect(usage.right, repeated, flags)
  }
}

const help: Flag = { name: "--help", takesValue: false, repeated: true }

/**
 * @since 0.1.0
 * @category constructors
 */
export const shape = (
  options: { readonly [name: string]: Options.Options<unknown> },
  { children = {}, free = false }: Partial<Pick<Shape, "children" | "free">> = {}
): Shape => {
  const flags = new Map<string, Flag>([
    ["--help", help],
    ["-h", help]
  ])
  for (const option of Object.values(options)) collect(Options.getUsage(option), false, flags)
  return { flags, children, free }
}

// =============================================================================
// values
// =============================================================================

/** The values of a repeated flag are trimmed, and dropped where they are empty: so none of them ever is. */
const wrap = (value: string): string => `=${encodeURIComponent(value)}`

/**
 * Undoes what was done to the value of a repeated flag.
 *
 * @since 0.1.0
 * @category combinators
 */
export const unwrap = (value: string): string => decodeURIComponent(value.slice(1))

// =============================================================================
// reading
// =============================================================================

const suggestion = (word: string, names: Iterable<string>): string => {
  const near = nearest(word, names, 1)[0]
  return near === undefined ? "" : `; did you mean '${near}'?`
}

/**
 * The words in the form that `@effect/cli` reads, or what is wrong with them.
 *
 * @since 0.1.0
 * @category constructors
 */
export const normalize = (
  root: Shape,
  words: ReadonlyArray<string>
): Either.Either<ReadonlyArray<string>, UsageError> => {
  const path: Array<string> = []
  const given = new Map<string, Array<ReadonlyArray<string>>>()
  const rest: Array<string> = []
  let shape = root
  const fail = (message: string) => Either.left(new UsageError({ message, command: path }))
  const unknown = (name: string) =>
    fail(
      `unknown flag '${name}'${path.length === 0 ? "" : ` of '${path.join(" ")}'`}` +
        suggestion(
          name,
          [...shape.flags.keys()].filter((one) => one.startsWith("--"))
        ) +
        (shape.free ? "; put -- before an argument that begins with -" : "")
    )
  const add = (flag: Flag, value: string | undefined): void => {
    const form = value === undefined ? [flag.name] : [flag.name, flag.takesValue && flag.repeated ? wrap(value) : value]
    const before = given.get(flag.name)
    if (before === undefined) given.set(flag.name, [form])
    else before.push(form)
  }
  const asked = words[0] === "help" ? [...words.slice(1), "--help"] : words
  for (let i = 0; i < asked.length; i++) {
    const word = asked[i] ?? ""
    if (word === "--") {
      rest.push(...asked.slice(i + 1))
      break
    }
    if (/^--[a-z]/i.test(word) && !/\s/.test(word.split("=", 1)[0] ?? "")) {
      const equals = word.indexOf("=")
      const name = equals === -1 ? word : word.slice(0, equals)
      const flag = shape.flags.get(name)
      if (flag === undefined) return unknown(name)
      const value = equals === -1 ? undefined : word.slice(equals + 1)
      if (flag.takesValue) {
        const taken = value ?? asked[++i]
        if (taken === undefined) return fail(`${name} needs a value`)
        add(flag, taken)
      } else if (value === undefined || value === "true") add(flag, undefined)
      else if (value !== "false") return fail(`${name} takes no value`)
    } else if (/^-[a-z]/i.test(word)) {
      for (let at = 1; at < word.length; at++) {
        const name = `-${word[at]}`
        const flag = shape.flags.get(name)
        if (flag === undefined) return unknown(word.length > 2 && at === 1 ? word : name)
        if (!flag.takesValue) {
          add(flag, undefined)
          continue
        }
        const value = word.slice(at + 1).replace(/^=/, "") || asked[++i]
        if (value === undefined) return fail(`${name} needs a value`)
        add(flag, value)
        break
      }
    } else {
      const child = rest.length === 0 && Object.hasOwn(shape.children, word) ? shape.children[word] : undefined
      if (child !== undefined) {
        path.push(word)
        shape = child
      } else if (shape.free) {
        rest.push(word)
      } else if (Object.keys(shape.children).length > 0) {
        return fail(`unknown command '${word}'${suggestion(word, Object.keys(shape.children))}`)
      } else {
        return fail(`'${path.join(" ")}' takes no argument, but was given '${word}'`)
      }
    }
  }
  if (given.has(help.name)) return Either.right([...path, help.name])
  for (const [name, forms] of given) {
    // A flag may stand before the subcommand that it is meant for.
    const flag = shape.flags.get(name)
    if (flag === undefined) return unknown(name)
    if (forms.length > 1 && flag.takesValue && !flag.repeated) return fail(`${name} is given ${forms.length} times`)
    if (!flag.takesValue) forms.length = 1
  }
  return Either.right([...path, ...[...given.values()].flat(2), ...(rest.length === 0 ? [] : ["--", ...rest])])
}

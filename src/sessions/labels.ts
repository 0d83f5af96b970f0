/** Titles and metadata of conversations: what may be one. */
import * as Either from "effect/Either"
import { InvalidRequest } from "../Errors.js"
import { freeze, type Metadata } from "./record.js"

/** The longest title, in characters. */
const longestTitle = 200

/** How much metadata a conversation may have: the length of its JSON, how deep it goes. */
const maxMetadata = { characters: 16_384, depth: 16 } as const

/** A half of a surrogate pair, or a NUL: PostgreSQL has neither in JSON. */
const unstorable = /\p{Surrogate}|\0/u

const refuse = (field: string, reason: string): Either.Either<never, InvalidRequest> =>
  Either.left(new InvalidRequest({ field, reason }))

/** A title, in one line. */
export const checkTitle = (given: unknown): Either.Either<string, InvalidRequest> => {
  if (typeof given !== "string") return refuse("title", "must be a text")
  // An attacker's title must not be read for ever.
  if (given.length > longestTitle * 8) return refuse("title", `must have at most ${longestTitle} characters`)
  const title = given.replace(/\s+/g, " ").trim()
  if (title === "") return refuse("title", "must not be empty")
  if ([...title].length > longestTitle) return refuse("title", `must have at most ${longestTitle} characters`)
  if (unstorable.test(title) || /\p{Cc}/u.test(title)) return refuse("title", "must not have control characters")
  return Either.right(title)
}

/** Why it is no small JSON. `budget` is what is left of the longest one, so that a huge one is not walked through. */
const fault = (value: unknown, path: string, within: ReadonlyArray<unknown>, budget: { left: number }): string => {
  const at = path === "" ? "" : `${path} `
  if (within.includes(value)) return `${at}must be JSON: it contains itself`
  if (within.length >= maxMetadata.depth) return `${at}must be at most ${maxMetadata.depth} levels deep`
  budget.left -= 1
  if (typeof value === "string") {
    budget.left -= value.length
    if (unstorable.test(value)) return `${at}must not have NUL characters or halves of a pair`
  } else if (typeof value === "number") {
    if (!Number.isFinite(value)) return `${at}must be a finite number`
  } else if (Array.isArray(value)) {
    for (let i = 0; i < value.length && budget.left >= 0; i++) {
      const found = fault(value[i], `${path}[${i}]`, [...within, value], budget)
      if (found !== "") return found
    }
  } else if (typeof value === "object" && value !== null) {
    const prototype: unknown = Object.getPrototypeOf(value)
    if (prototype !== Object.prototype && prototype !== null) return `${at}must be JSON: it is not a plain object`
    for (const name in value) {
      if (budget.left < 0) break
      if (unstorable.test(name)) return `${at}has a name that cannot be kept`
      budget.left -= name.length
      const member: unknown = (value as { readonly [name: string]: unknown })[name]
      const found = fault(member, path === "" ? name : `${path}.${name}`, [...within, value], budget)
      if (found !== "") return found
    }
  } else if (typeof value !== "boolean" && value !== null) return `${at}must be JSON`
  return budget.left < 0 ? `must have at most ${maxMetadata.characters} characters of JSON` : ""
}

/** A small JSON object; a frozen copy of it. */
export const checkMetadata = (given: unknown): Either.Either<Metadata, InvalidRequest> => {
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    return refuse("metadata", "must be an object")
  }
  try {
    const found = fault(given, "", [], { left: maxMetadata.characters })
    if (found !== "") return refuse("metadata", found)
    const copy = freeze(given) as Metadata
    return JSON.stringify(copy).length > maxMetadata.characters
      ? refuse("metadata", `must have at most ${maxMetadata.characters} characters of JSON`)
      : Either.right(copy)
  } catch (error) {
    // A getter or a proxy.
    return refuse("metadata", `cannot be read: ${error instanceof Error ? error.message : String(error)}`)
  }
}

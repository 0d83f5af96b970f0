/** Where a store is: an address as people write it, and what it means. */
import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"

/** A store that an address names: a SQLite file, or a PostgreSQL database. */
export type Address =
  | { readonly kind: "sqlite"; readonly path: string }
  | { readonly kind: "postgres"; readonly url: Redacted.Redacted }

const isScheme = (text: string): boolean => /^[a-z][a-z0-9+.-]+:/i.test(text)

/** The path of a `file:` address; both `file:/a` and `file:///a` are common. */
const filePath = (text: string): Either.Either<string, string> => {
  const rest = text.slice("file:".length)
  if (rest.startsWith("//") && !rest.startsWith("///")) return Either.left("a file: address names no host")
  const path = rest.replace(/^\/\/\//, "/")
  if (/[?#]/.test(path)) return Either.left("a file: address has no parameters")
  try {
    return path === "" ? Either.left("a file: address needs a path") : Either.right(decodeURIComponent(path))
  } catch {
    return Either.left("a file: address has a % that encodes nothing")
  }
}

const isPostgres = (text: string): boolean => /^postgres(ql)?:\/\//i.test(text)

/** The reason never holds the text: it may have a password. */
export const parse = (given: Redacted.Redacted | string): Either.Either<Address, string> => {
  const text = (typeof given === "string" ? given : Redacted.value(given)).trim()
  if (text === "") return Either.left("must be an address or a path")
  if (text.includes("\u0000")) return Either.left("must not hold a NUL character")
  if (isPostgres(text)) {
    return URL.canParse(text)
      ? Either.right({ kind: "postgres", url: Redacted.make(text) })
      : Either.left("must be an address such as postgres://user:password@host:5432/database")
  }
  if (/^file:/i.test(text)) return Either.map(filePath(text), (path) => ({ kind: "sqlite", path }))
  // A drive letter of Windows is no scheme: it has one letter.
  if (isScheme(text))
    return Either.left("must be a path, file:PATH or postgres://…: other kinds of stores are not known")
  return Either.right({ kind: "sqlite", path: text })
}

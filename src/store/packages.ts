/** Packages that are only needed where a store is used. */
import * as Effect from "effect/Effect"

/** A package that is not installed, and what installs it. */
export class MissingPackage extends Error {
  constructor(
    readonly missing: string,
    readonly command: string
  ) {
    super(`the package ${missing} is not installed: ${command}`)
  }
}

/** The driver of SQLite has no binary for this machine. */
export class MissingBinary extends Error {
  constructor(readonly binary: string) {
    super(
      `there is no SQLite for this machine (${binary} is not installed): install it, use PostgreSQL (a store of ` +
        "postgres://…), or set the store to off"
    )
  }
}

/** The file of a store is not there and cannot be made. */
export class NoPlace extends Error {}

/** Whether there is no store at all, so that nothing that it holds can be missed. */
export const isAbsent = (error: unknown): boolean =>
  error instanceof MissingPackage || error instanceof MissingBinary || error instanceof NoPlace

const binaryIn = (error: unknown): string | undefined =>
  error instanceof Error ? /Cannot find module '(@libsql\/[^']+)'/.exec(error.message)?.[1] : undefined

const install = (name: string): string => {
  if (!name.startsWith("@effect/")) return `npm install ${name}`
  // Their versions for Effect 4 begin with 4.
  const names = [...new Set([name, "@effect/sql", "@effect/experimental"])]
  return `npm install ${names.map((one) => `${one}@0`).join(" ")}`
}

/** The package that could not be imported; `undefined` where the error is another one. */
const missingIn = (error: unknown): string | undefined => {
  if (!(error instanceof Error) || !("code" in error) || error.code !== "ERR_MODULE_NOT_FOUND") return undefined
  return /Cannot find package '((?:@[^/']+\/)?[^/']+)/.exec(error.message)?.[1]
}

/** What is not installed. Bundlers let an `import` fail that has `.catch` right behind it, and no other. */
export const absent = (error: unknown): never => {
  throw error
}

/** Imports packages; fails with `MissingPackage` where one is not installed. */
export const importing = <A>(load: () => Promise<A>): Effect.Effect<A, unknown> =>
  Effect.tryPromise({
    try: load,
    catch: (error) => {
      const name = missingIn(error)
      if (name !== undefined) return new MissingPackage(name, install(name))
      const binary = binaryIn(error)
      return binary === undefined ? error : new MissingBinary(binary)
    }
  })

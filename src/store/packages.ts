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

/** Imports packages; fails with `MissingPackage` where one is not installed. */
export const importing = <A>(load: () => Promise<A>): Effect.Effect<A, unknown> =>
  Effect.tryPromise({
    try: load,
    catch: (error) => {
      const name = missingIn(error)
      return name === undefined ? error : new MissingPackage(name, install(name))
    }
  })

/**
 * Options that a server cannot take.
 *
 * @internal
 */
import type { Unsupported } from "../Errors.js"

/** @internal */
export type NonEmptyOptions = readonly [Unsupported, ...ReadonlyArray<Unsupported>]

/** @internal */
export const isSome = (options: ReadonlyArray<Unsupported>): options is NonEmptyOptions => options.length > 0

const words = ({ field, reason }: Unsupported): string => `${field}: ${reason}`

/**
 * The failure of a server that cannot take them.
 *
 * @internal
 */
export const failure = (options: NonEmptyOptions) => ({
  reason: "unsupported" as const,
  message: options.map(words).join("; "),
  unsupported: options
})

/**
 * What is wrong with a request that has them: the error is about the first, and lists the others.
 *
 * @internal
 */
export const invalid = ([first, ...others]: NonEmptyOptions): Unsupported => ({
  field: first.field,
  reason: [first.reason, ...others.map(words)].join("; ")
})

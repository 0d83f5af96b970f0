/**
 * What settings must be, and what those that hold several things mean.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { decodeOptions } from "../ChatRequest.js"
import { InvalidConfig } from "../Errors.js"
import * as ResponseCache from "../ResponseCache.js"
import type * as Settings from "../Settings.js"

/**
 * How answers are kept. Whatever is left out has its default.
 *
 * @since 0.1.0
 * @category models
 */
export type CacheOptions = { readonly [K in keyof Settings.CachePolicy]?: Settings.CachePolicy[K] | undefined }

/**
 * How conversations are kept. `folder: false` means memory; whatever is left out has its default.
 *
 * @since 0.1.0
 * @category models
 */
export interface SessionOptions extends Omit<Settings.SessionPolicy, "folder"> {
  readonly folder?: string | false | undefined
}

/**
 * A number above 0, if there is one. `source` and `field` are where it stands, for the error; so with all that follow.
 *
 * @since 0.1.0
 * @category checks
 */
export const positive = (value: number | undefined, field: string, source: string) =>
  value === undefined || (Number.isFinite(value) && value > 0)
    ? Effect.succeed(value)
    : Effect.fail(new InvalidConfig({ source, field, reason: `${value} must be a number above 0` }))

/**
 * A whole number from 1.
 *
 * @since 0.1.0
 * @category checks
 */
export const wholeAboveZero = (value: number | undefined, field: string, source: string) =>
  value === undefined || (Number.isSafeInteger(value) && value > 0)
    ? Effect.succeed(value)
    : Effect.fail(new InvalidConfig({ source, field, reason: `${value} must be a whole number from 1` }))

/**
 * A whole number from 0.
 *
 * @since 0.1.0
 * @category checks
 */
export const wholeFromZero = (value: number | undefined, field: string, source: string) =>
  value === 0 ? Effect.succeed(value) : wholeAboveZero(value, field, source)

/**
 * A number above 0, of a variable of the environment.
 *
 * @since 0.1.0
 * @category checks
 */
export const positiveText = (text: string | undefined, name: string) =>
  text === undefined
    ? Effect.succeed(undefined)
    : Number.isNaN(Number(text))
      ? Effect.fail(new InvalidConfig({ source: "the environment", field: name, reason: `'${text}' is not a number` }))
      : positive(Number(text), name, "the environment")

/**
 * Who asks more often than once a second asks for nothing else.
 *
 * @since 0.1.0
 * @category checks
 */
export const atLeastASecond = (milliseconds: number | undefined, field: string, source: string) =>
  milliseconds === undefined || (Number.isFinite(milliseconds) && milliseconds >= 1_000)
    ? Effect.succeed(milliseconds)
    : Effect.fail(new InvalidConfig({ source, field, reason: "must be at least one second" }))

/**
 * Whether this names a file or a folder.
 *
 * @since 0.1.0
 * @category guards
 */
export const isPath = (value: unknown): boolean => typeof value === "string" && value.trim() !== ""

/**
 * Whether a variable of the environment turns something off.
 *
 * @since 0.1.0
 * @category guards
 */
export const isOff = (value: string | undefined): boolean => value === "off" || value === "false" || value === "0"

/**
 * How conversations are kept: the options come before the file, one by one.
 *
 * @since 0.1.0
 * @category constructors
 */
export const sessionPolicy = Effect.fnUntraced(function* (
  options: SessionOptions,
  file: SessionOptions,
  folder: { readonly origin: string; readonly value: string | false | undefined },
  path: string
): Effect.fn.Return<Settings.SessionPolicy, InvalidConfig> {
  if (folder.value !== undefined && folder.value !== false && !isPath(folder.value)) {
    const reason = "must be a folder, or false"
    return yield* new InvalidConfig({ source: folder.origin, field: "sessions.folder", reason })
  }
  const number = <E>(
    name: "maxSessions" | "maxBytes" | "ttl",
    check: (value: number | undefined, field: string, source: string) => Effect.Effect<number | undefined, E>
  ) =>
    options[name] === undefined
      ? check(file[name], `sessions.${name}`, path)
      : check(options[name], `sessions.${name}`, "the options")
  return {
    folder: folder.value === false ? undefined : folder.value,
    maxSessions: yield* number("maxSessions", wholeAboveZero),
    maxBytes: yield* number("maxBytes", wholeAboveZero),
    ttl: yield* number("ttl", positive)
  }
})

/**
 * Whether this says when a second server is asked.
 *
 * @since 0.1.0
 * @category guards
 */
export const isHedge = (hedge: unknown): boolean => Either.isRight(decodeOptions({ hedge }))

/**
 * How answers are kept where a call does not say; `undefined` where only calls that say so keep them.
 *
 * @since 0.1.0
 * @category constructors
 */
export const cachePolicy = Effect.fnUntraced(function* (
  cache: boolean | CacheOptions,
  source: string
): Effect.fn.Return<Settings.CachePolicy | undefined, InvalidConfig> {
  if (cache === false) return undefined
  const given: unknown = cache
  if (given !== true && (typeof given !== "object" || given === null)) {
    return yield* new InvalidConfig({ source, field: "cache", reason: "must be true, false or an object" })
  }
  const { maxBytes, maxEntries, shared = false, ttl } = cache === true ? {} : cache
  if (typeof shared !== "boolean") {
    return yield* new InvalidConfig({ source, field: "cache.shared", reason: "must be true or false" })
  }
  const { defaults } = ResponseCache
  return {
    ttl: (yield* positive(ttl, "cache.ttl", source)) ?? defaults.ttl,
    maxEntries: (yield* wholeAboveZero(maxEntries, "cache.maxEntries", source)) ?? defaults.maxEntries,
    maxBytes: (yield* wholeAboveZero(maxBytes, "cache.maxBytes", source)) ?? defaults.maxBytes,
    shared
  }
})

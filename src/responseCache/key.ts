/**
 * The key of a request: equal for requests that a model cannot tell apart, and for no others.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type { ChatRequest } from "../ChatRequest.js"
import { canonical } from "../Model.js"

/** Changed whenever the same request must be asked anew, or entries look different. */
const version = 1

/**
 * The request has no key: it holds something that JSON has no word for, or there is no `crypto.subtle` here (a page
 * that did not come over HTTPS).
 *
 * @since 0.1.0
 * @category errors
 */
export class NoKey extends Data.TaggedError("NoKey")<{ readonly cause: unknown }> {}

/** The order of what is in these is part of what the model reads, or of the grammar that it must follow. */
const verbatim: ReadonlySet<string> = new Set(["format", "parameters", "arguments"])

/** The same with its keys in order, all the way down. What has a form of its own in JSON has it here, too. */
const sorted = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(sorted)
  if (typeof value !== "object" || value === null || "toJSON" in value) return value
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))
  return Object.fromEntries(entries.map(([key, item]) => [key, verbatim.has(key) ? item : sorted(item)]))
}

/**
 * A request as text, with the only owner of calls that may have its answer, if there is one. Whatever a request has
 * counts, also what is added to it one day, but for `keepAlive`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const serialize = (
  { keepAlive: _, ...request }: ChatRequest,
  digests: ReadonlyArray<string>,
  owner?: string
): string =>
  JSON.stringify([
    version,
    [...new Set(digests)].sort(),
    sorted({ ...request, model: canonical(request.model) } satisfies Omit<ChatRequest, "keepAlive">),
    ...(owner === undefined ? [] : [owner])
  ])

const hex = (bytes: ArrayBuffer): string =>
  Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("")

/**
 * The SHA-256 of a request and the versions of its model, in hexadecimal digits.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (
  request: ChatRequest,
  digests: ReadonlyArray<string>,
  owner?: string
): Effect.Effect<string, NoKey> =>
  Effect.map(
    Effect.tryPromise({
      try: () =>
        globalThis.crypto.subtle.digest("SHA-256", new TextEncoder().encode(serialize(request, digests, owner))),
      catch: (cause) => new NoKey({ cause })
    }),
    hex
  )

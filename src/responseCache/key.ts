/** The cache key of a request: equal for requests that are the same to a model, and for no others. */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type { ChatRequest } from "../ChatRequest.js"
import { canonical } from "../Model.js"

/** Changed whenever cached answers become invalid, or entries change their format. */
const version = 1

/**
 * The request has no key: it contains something that JSON cannot express, or `crypto.subtle` is missing (a page not
 * served over HTTPS).
 */
export class NoKey extends Data.TaggedError("NoKey")<{ readonly cause: unknown }> {}

/** The order of keys in these matters: it is part of what the model reads, or of its grammar. */
const verbatim: ReadonlySet<string> = new Set(["format", "parameters", "arguments"])

/** A deep copy with sorted keys. Values with a JSON form of their own use it here, too. */
const sorted = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(sorted)
  if (typeof value !== "object" || value === null || "toJSON" in value) return value
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))
  return Object.fromEntries(entries.map(([key, item]) => [key, verbatim.has(key) ? item : sorted(item)]))
}

/**
 * A request as text, with the owner if the answer is only for one. Every field of a request counts, including future
 * ones, except `keepAlive`.
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

/** The SHA-256 of a request and the versions of its model, in hexadecimal. */
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

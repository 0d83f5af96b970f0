/**
 * A registry by its address. What was read stays in use until something better came: a copy is asked about after half of its
 * time, in the background, and what is broken, empty or much smaller replaces nothing.
 */
import type * as HttpClient from "@effect/platform/HttpClient"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { RegistrySourceFailed } from "../errors/registry.js"
import * as Background from "../internal/background.js"
import * as Catalogue from "./catalogue.js"
import type { RegistryCopy, RegistryCopyStore } from "./registryCopies.js"
import * as Document from "./registryDocument.js"
import { failed, get } from "./registryRequest.js"
import type { RegistryUrl } from "./registryUrl.js"
import { type RegistrySource, sizeOf } from "./sourceStatus.js"

/** The first pause after a failure, in milliseconds; it doubles up to half of the source's `ttl`. */
const firstPause = 5_000

/** A source, and what was read of it. */
export interface Source {
  /** What is in use; empty before anything was read. */
  readonly now: () => Catalogue.Catalogue
  /** Reads it for the first time: a kept copy at once, else what the source answers. */
  readonly load: Effect.Effect<void>
  /** Keeps it up to date; never ends. */
  readonly follow: Effect.Effect<void>
  /** Asks the source now, unless that was done a moment ago. */
  readonly refresh: Effect.Effect<void>
  readonly status: (now: number) => RegistrySource
}

/** The share of what was there that must be left. */
const leastLeft = 0.5

/** Why a content is not taken over in place of the one before. */
const rejectionOf = (
  source: RegistryUrl,
  before: Catalogue.Catalogue,
  after: Catalogue.Catalogue
): RegistrySourceFailed | undefined => {
  const was = sizeOf(before)
  const is = sizeOf(after)
  if (is.servers + is.models === 0) {
    const [first] = after.warnings
    const why = first === undefined ? "" : ` (${first.message})`
    return failed(source, "empty", `names no server and no model that can be used${why}`)
  }
  if (source.acceptSmaller) return undefined
  for (const what of ["servers", "models"] as const) {
    if (is[what] < was[what] * leastLeft) {
      const detail = `has only ${is[what]} ${what} where there were ${was[what]}; acceptSmaller takes it all the same`
      return failed(source, "much-smaller", detail)
    }
  }
  return undefined
}

const recently = 60_000

/** `changed` runs after each content that differs from the one before. */
export const make = (
  client: HttpClient.HttpClient,
  copies: RegistryCopyStore,
  source: RegistryUrl,
  changed: Effect.Effect<void>
): Effect.Effect<Source> =>
  Effect.map(Effect.makeSemaphore(1), (permit) => {
    let copy: RegistryCopy | undefined
    let catalogue = Catalogue.empty
    let error: RegistrySourceFailed | undefined
    let triedAt = Number.NEGATIVE_INFINITY
    let failures = 0

    const parse = (text: string): Either.Either<Catalogue.Catalogue, RegistrySourceFailed> =>
      Either.mapLeft(Document.parse({ name: source.name, path: source.url }, text), (reason) =>
        failed(source, reason === "is empty" ? "empty" : "not-a-registry", reason)
      )

    const take = Effect.gen(function* () {
      const answer = yield* get(client, source, copies.conditional ? copy : undefined)
      const at = yield* Clock.currentTimeMillis
      if (copy !== undefined && (answer === "unchanged" || answer.text === copy.text)) {
        copy = answer === "unchanged" ? { ...copy, checkedAt: at } : { ...answer, checkedAt: at, readAt: copy.readAt }
        yield* copies.confirm(source.url, at)
        return false
      }
      if (answer === "unchanged")
        return yield* failed(source, "http-status", "answered HTTP 304 to a first request", 304)
      const read = yield* parse(answer.text)
      const wrong = rejectionOf(source, catalogue, read)
      if (wrong !== undefined) return yield* wrong
      copy = { ...answer, checkedAt: at, readAt: at }
      catalogue = read
      yield* copies.write(source.url, copy)
      return true
    })

    const told = (next: RegistrySourceFailed) =>
      error?.message === next.message
        ? Effect.void
        : Effect.logWarning(`${next.message}${copy === undefined ? "" : " The copy before stays in use."}`)

    const revalidate = permit.withPermits(1)(
      Effect.gen(function* () {
        triedAt = yield* Clock.currentTimeMillis
        const taken = yield* Effect.either(take)
        if (Either.isLeft(taken)) {
          failures++
          yield* told(taken.left)
          error = taken.left
          return
        }
        failures = 0
        error = undefined
        if (taken.right) yield* changed
      })
    )

    const pauseFrom = (now: number): number => {
      const half = source.ttl / 2
      if (failures > 0) return Math.min(half, firstPause * 2 ** Math.min(failures - 1, 20))
      return Math.max(0, (copy?.checkedAt ?? Number.NEGATIVE_INFINITY) + half - now)
    }

    const load = Effect.gen(function* () {
      const kept = yield* copies.read(source.url, source.maxBytes)
      const read = kept === undefined ? undefined : Either.getOrUndefined(parse(kept.text))
      if (kept !== undefined && read !== undefined && rejectionOf(source, Catalogue.empty, read) === undefined) {
        const now = yield* Clock.currentTimeMillis
        copy = { ...kept, checkedAt: Math.min(kept.checkedAt, now) }
        catalogue = read
        return
      }
      yield* revalidate
    })

    return {
      now: () => catalogue,
      load,
      follow: Effect.forever(
        Effect.flatMap(Clock.currentTimeMillis, (now) => Effect.zipRight(Background.pause(pauseFrom(now)), revalidate))
      ),
      refresh: Effect.flatMap(Clock.currentTimeMillis, (now) =>
        error === undefined && now - triedAt < recently ? Effect.void : revalidate
      ),
      status: (now) => ({
        source: source.name,
        kind: "url",
        ...sizeOf(catalogue),
        readAt: copy?.readAt,
        checkedAt: copy?.checkedAt,
        stale: copy !== undefined && now - copy.checkedAt > source.ttl,
        error
      })
    }
  })

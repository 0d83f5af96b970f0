/**
 * How much room the conversations of a folder take, which other processes write to as well.
 *
 * All of them are counted once, and then only what this process adds, until that is a sixteenth of all that there may
 * be: so a turn costs next to nothing, and so much is what each process may be wrong by. A count looks only at those that
 * have changed since the last one, of this process or of another.
 *
 * @since 0.1.0
 */
import type { PlatformError } from "@effect/platform/Error"
import * as Effect from "effect/Effect"
import { SessionsUnavailable } from "../Errors.js"
import { noRoom, ownerOf, victims } from "./eviction.js"

/** A time of change is as coarse as some clocks: what changed so lately may change again without a trace of it. */
const settled = 2_000

/** So many folders are looked at at the same time. */
const maxReaders = { concurrency: 16 } as const

/**
 * What is known of a conversation: when it was written to last, in milliseconds since the epoch.
 *
 * @since 0.1.0
 * @category models
 */
export interface Known {
  readonly id: string
  readonly usedAt: number
}

/**
 * What each conversation took, and when it was written to last then.
 *
 * @since 0.1.0
 * @category models
 */
export type Sizes = { readonly [id: string]: { readonly usedAt: number; readonly bytes: number } }

/**
 * - `list`: all conversations
 * - `sizeOf`: what one of them takes, in bytes
 * - `recall`, `note`: the last count, for the next one, whoever makes that
 * - `held`: whether one must stay
 * - `discard`: deletes one
 *
 * @since 0.1.0
 * @category models
 */
export interface DiskQuotaOptions {
  readonly maxBytes: number
  readonly now: () => number
  readonly list: Effect.Effect<ReadonlyArray<Known>, PlatformError>
  readonly sizeOf: (id: string) => Effect.Effect<number, PlatformError>
  readonly recall: Effect.Effect<Sizes, PlatformError>
  readonly note: (sizes: Sizes) => Effect.Effect<void, PlatformError>
  readonly held: (id: string) => boolean
  readonly discard: (id: string) => Effect.Effect<unknown, PlatformError>
}

/**
 * Makes room before so many bytes are added to a conversation: where all of them would take more than `maxBytes`, the
 * oldest are deleted, those of the same owner first, until a sixteenth is free, but for this one and those that are held.
 * Fails where that is not enough, and only conversations of other owners are left.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = ({
  discard,
  held,
  list,
  maxBytes,
  note,
  now,
  recall,
  sizeOf
}: DiskQuotaOptions): ((id: string, bytes: number) => Effect.Effect<void, PlatformError | SessionsUnavailable>) => {
  const slack = maxBytes / 16
  const permit = Effect.unsafeMakeSemaphore(1)
  /** What all of them took when they were counted last, and what was added since. */
  let counted: number | undefined
  let added = 0

  const isDue = (): boolean =>
    counted === undefined || added > slack || (counted <= maxBytes && counted + added > maxBytes)

  const count = Effect.fnUntraced(function* () {
    const began = now()
    const before = new Map(Object.entries(yield* recall))
    const all = yield* Effect.forEach(
      yield* list,
      ({ id, usedAt }) => {
        const known = before.get(id)
        return known?.usedAt === usedAt
          ? Effect.succeed({ id, usedAt, bytes: known.bytes })
          : Effect.map(sizeOf(id), (bytes) => ({ id, usedAt, bytes }))
      },
      maxReaders
    )
    const sure = all.filter(({ usedAt }) => usedAt < began - settled)
    yield* note(Object.fromEntries(sure.map(({ bytes, id, usedAt }) => [id, { usedAt, bytes }])))
    return all
  })

  const makeRoom = Effect.fnUntraced(function* (id: string, bytes: number) {
    if (!isDue()) return
    // What others add meanwhile counts, too.
    added = bytes
    const all = yield* count()
    let total = all.reduce((sum, one) => sum + one.bytes, 0)
    if (total + added > maxBytes) {
      const items = all.map((one) => ({ ...one, amount: one.bytes }))
      const keeps = (other: string) => other === id || held(other)
      const { chosen, fits } = victims(items, ownerOf(id), added, maxBytes - slack, keeps)
      for (const one of chosen) {
        yield* discard(one.id)
        total -= one.amount
      }
      // The slack is given up before a turn is refused.
      if (!fits && total + added > maxBytes) {
        added -= bytes
        counted = total
        return yield* new SessionsUnavailable({ reason: noRoom })
      }
    }
    counted = total
  })

  return (id, bytes) =>
    Effect.suspend(() => {
      added += bytes
      return isDue() ? permit.withPermits(1)(makeRoom(id, bytes)) : Effect.void
    })
}

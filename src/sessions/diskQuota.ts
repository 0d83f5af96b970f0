/**
 * The disk quota of a folder of conversations, which other processes write to as well.
 *
 * All are measured once; after that only this process's additions are counted, until they reach a sixteenth of the
 * quota: so a turn costs next to nothing, and each process may be off by that much. A new count only looks at what has
 * changed since the last one, of this process or another.
 */
import type { PlatformError } from "@effect/platform/Error"
import * as Effect from "effect/Effect"
import { SessionsUnavailable } from "../Errors.js"
import { noRoom, ownerOf, victims } from "./eviction.js"

/** File times are coarse: a recent change may be followed by another with the same time. */
const settled = 2_000

/** Maximum number of folders read at once. */
const maxReaders = { concurrency: 16 } as const

/** A conversation and its last modification, in milliseconds since the epoch. */
export interface Known {
  readonly id: string
  readonly usedAt: number
}

/** The size of each conversation, and its last modification at that time. */
export type Sizes = { readonly [id: string]: { readonly usedAt: number; readonly bytes: number } }

/** - `recall`, `note`: load and save the last count */
export interface DiskQuotaOptions {
  readonly maxBytes: number
  readonly now: () => number
  /** All conversations. */
  readonly list: Effect.Effect<ReadonlyArray<Known>, PlatformError>
  /** The size of one, in bytes. */
  readonly sizeOf: (id: string) => Effect.Effect<number, PlatformError>
  readonly recall: Effect.Effect<Sizes, PlatformError>
  readonly note: (sizes: Sizes) => Effect.Effect<void, PlatformError>
  /** Whether a conversation must stay. */
  readonly held: (id: string) => boolean
  /** Deletes one. */
  readonly discard: (id: string) => Effect.Effect<unknown, PlatformError>
}

/**
 * Makes room before bytes are added to a conversation: if the total would exceed `maxBytes`, the oldest are deleted,
 * those of the same owner first, until a sixteenth is free; never this one or those that are held. Fails if that is not
 * enough and only conversations of other owners are left.
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
  /** The total of the last count, plus what was added since. */
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
    // Additions of other processes meanwhile count, too.
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
      // The reserve is used up before a turn is rejected.
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

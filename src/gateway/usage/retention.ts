/** Removes usage that is older than it is kept for, in the background or on request. */
import type { SqlClient } from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import type { StoreUnavailable } from "../../Errors.js"
import { pause } from "../../internal/background.js"
import type * as Store from "../../Store.js"

const hourLength = 3_600_000
const dayLength = 24 * hourLength

/** Tokens of days are kept for the longest quota, a month, whatever becomes of the rest. */
const quotaDays = 32

/** What goes, or went. */
export interface Pruned {
  readonly rows: number
  readonly requests: number
}

interface Counted {
  readonly hour: number
  readonly rows: number
  readonly requests: number
}

/** Hours that have ended before a time: the one in which it is stays as a whole. */
const before = (time: number): number => Math.floor(time / hourLength) * hourLength

const count = (sql: SqlClient, until: number): Effect.Effect<ReadonlyArray<Counted>, SqlError> =>
  sql<Counted>`SELECT hour, COUNT(*) AS rows, CAST(SUM(requests) AS BIGINT) AS requests FROM aicortex_usage
    WHERE hour < ${until} GROUP BY hour ORDER BY hour`

const sumOf = (hours: ReadonlyArray<Counted>): Pruned =>
  hours.reduce((sum, one) => ({ rows: sum.rows + one.rows, requests: sum.requests + one.requests }), {
    rows: 0,
    requests: 0
  })

/** What is older than a time, in milliseconds since the epoch. */
export const olderThan = (store: Store.Service, time: number): Effect.Effect<Pruned, StoreUnavailable> =>
  Effect.map(
    store.use((sql) => count(sql, before(time))),
    sumOf
  )

/** Removes what is older than a time, hour by hour, so that no other use of the store waits long. */
export const prune = Effect.fnUntraced(function* (
  store: Store.Service,
  time: number,
  now: number
): Effect.fn.Return<Pruned, StoreUnavailable> {
  const hours = yield* store.use((sql) => count(sql, before(time)))
  for (const { hour } of hours) yield* store.use((sql) => sql`DELETE FROM aicortex_usage WHERE hour = ${hour}`)
  const day = Math.floor(Math.min(time, now - quotaDays * dayLength) / dayLength)
  yield* store.use((sql) => sql`DELETE FROM aicortex_key_tokens WHERE day < ${day}`)
  return sumOf(hours)
})

/**
 * How often what is old is looked for. Of several gateways on one store each does: there is nothing left for the
 * others.
 */
const interval = hourLength

/** Prunes until the scope closes; `retention` is in milliseconds, `undefined`: usage is kept for ever. */
export const run = (
  store: Store.Service,
  retention: () => number | undefined,
  log: (text: string) => void
): Effect.Effect<void, never, Scope.Scope> => {
  const once = Effect.suspend(() => {
    const kept = retention()
    if (kept === undefined) return Effect.void
    const now = Date.now()
    return Effect.match(prune(store, now - kept, now), {
      onSuccess: ({ requests }) => {
        if (requests > 0) log(`usage of ${requests} requests was older than it is kept for, and is removed`)
      },
      // It is tried again in an hour.
      onFailure: ({ reason }) => log(`old usage could not be removed: ${reason}`)
    })
  })
  // Gateways that start together do not all begin at once.
  const begin = Effect.flatMap(Random.nextRange(1_000, 30_000), pause)
  return Effect.asVoid(
    Effect.forkScoped(Effect.zipRight(begin, Effect.forever(Effect.zipRight(once, pause(interval)))))
  )
}

/**
 * The limits of keys in a store: one row for each key, which is replaced if nobody else has replaced it meanwhile. So an
 * exchange is two small statements, and no transaction that must reach the disk.
 */
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type { StoreUnavailable } from "../../Errors.js"
import type * as Store from "../../Store.js"
import { type Exchange, exchange, type Grant, type SharedLimits } from "./sharedLimits.js"

/** The longest pause before a row that another replica has replaced is read again, in milliseconds. */
const maxPause = 8

interface Row {
  readonly version: number
  readonly state: string
  readonly now: number
}

/** Exchanges with the other replicas that use this key. Its time is that of the store. */
export const exchangeIn = (
  store: Store.Service,
  key: string,
  wanted: Exchange
): Effect.Effect<Grant, StoreUnavailable> =>
  store.use((sql, dialect) => {
    const attempt = Effect.gen(function* () {
      const [row] = yield* sql<Row>`SELECT version, state, ${dialect.now(sql)} AS now
        FROM aicortex_limits WHERE key_name = ${key}`
      if (row === undefined) {
        yield* sql`INSERT INTO aicortex_limits (key_name, version, state) VALUES (${key}, 0, '{}')
          ON CONFLICT (key_name) DO NOTHING`
        return undefined
      }
      const [next, grant] = exchange(JSON.parse(row.state) as SharedLimits, wanted, row.now)
      const replaced =
        yield* sql`UPDATE aicortex_limits SET version = ${row.version + 1}, state = ${JSON.stringify(next)}
        WHERE key_name = ${key} AND version = ${row.version} RETURNING version`
      if (replaced.length > 0) return grant
      yield* Effect.flatMap(Random.nextRange(0, maxPause), (pause) => Effect.sleep(pause))
      return undefined
    })
    return Effect.repeat(attempt, { until: (grant): grant is Grant => grant !== undefined })
  })

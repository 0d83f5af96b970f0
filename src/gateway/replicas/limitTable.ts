/**
 * The limits of keys in a store: one row for each key, which is replaced if no other gateway has replaced it meanwhile.
 * So an exchange is two small statements, and no transaction that must reach the disk.
 */
import type { SqlClient } from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import { StoreUnavailable } from "../../Errors.js"
import type * as Store from "../../Store.js"
import { exchange, type Grant, type SharedLimits, type SliceExchange } from "./sharedLimits.js"

/** The longest pause before a row that another replica has replaced is read again, in milliseconds. */
const maxPause = 8

interface Row {
  readonly version: number
  readonly state: string
  readonly now: number
}

/**
 * Replaces the row of this name: with the outcome of `change` for its content, the result of `read`, and the time of
 * the store.
 */
export const replaceIn = <S, B, A>(
  store: Store.Service,
  name: string,
  read: (sql: SqlClient) => Effect.Effect<B, SqlError>,
  change: (state: S, extra: B, now: number) => readonly [next: S, result: A]
): Effect.Effect<A, StoreUnavailable> =>
  store.use((sql, dialect) => {
    const attempt: Effect.Effect<Option.Option<A>, SqlError> = Effect.gen(function* () {
      const [row] = yield* sql<Row>`SELECT version, state, ${dialect.now(sql)} AS now
        FROM aicortex_limits WHERE key_name = ${name}`
      if (row === undefined) {
        yield* sql`INSERT INTO aicortex_limits (key_name, version, state) VALUES (${name}, 0, '{}')
          ON CONFLICT (key_name) DO NOTHING`
        return Option.none()
      }
      const [next, result] = change(JSON.parse(row.state) as S, yield* read(sql), row.now)
      const replaced = yield* sql`UPDATE aicortex_limits
        SET version = ${row.version + 1}, state = ${JSON.stringify(next)}
        WHERE key_name = ${name} AND version = ${row.version} RETURNING version`
      if (replaced.length > 0) return Option.some(result)
      yield* Effect.flatMap(Random.nextRange(0, maxPause), (pause) => Effect.sleep(pause))
      return Option.none()
    })
    const done = Effect.repeat(attempt, { until: Option.isSome })
    return Effect.map(done, Option.getOrThrow)
  })

/**
 * Exchanges with the other replicas that use this key. A failure is `uncertain` where it may have been done all the
 * same.
 */
export type ExchangeLimits = (key: string, wanted: SliceExchange) => Effect.Effect<Grant, StoreUnavailable>

/** Over a store. Its time is that of the store. */
export const exchangeIn =
  (store: Store.Service): ExchangeLimits =>
  (key, wanted) =>
    Effect.suspend(() => {
      let isSent = false
      const replacing = replaceIn(
        store,
        key,
        () => Effect.void,
        (shared: SharedLimits, _, now) => {
          isSent = true
          return exchange(shared, wanted, now)
        }
      )
      return Effect.mapError(replacing, ({ reason }) => new StoreUnavailable({ reason, uncertain: isSent }))
    })

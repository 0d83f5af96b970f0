/** The request log in the store: read, pruned and written. */
import type { SqlClient } from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type { StoreUnavailable } from "../../Errors.js"
import type * as Store from "../../Store.js"

/** A request, as it is listed. Times are in milliseconds. */
export interface LoggedRequest {
  readonly id: string
  /** As its client, the access log and its answer name it. */
  readonly request_id: string
  /** When it ended, since the epoch. */
  readonly at: number
  readonly key: string | null
  readonly key_id: string | null
  readonly user: string | null
  readonly method: string
  readonly route: string
  readonly status: number
  readonly model: string | null
  readonly server: string | null
  readonly duration_ms: number
  readonly first_token_ms: number | null
  readonly prompt_tokens: number
  readonly cached_tokens: number
  readonly completion_tokens: number
  readonly attempts: number
  readonly stream: boolean
  readonly error: string | null
}

/** A row of the table. */
export interface Entry {
  readonly id: string
  readonly at: number
  readonly bytes: number
  readonly entry: string
  readonly request: string | null
  readonly response: string | null
}

/** One with its bodies, where they were asked for. */
export interface ShownRequest extends LoggedRequest {
  readonly request: string | null
  readonly response: string | null
}

const view = ({ entry, request, response }: Entry): ShownRequest => ({
  ...(JSON.parse(entry) as LoggedRequest),
  request,
  response
})

/** Rows of one statement. */
const chunk = 50

export const insert = Effect.fnUntraced(function* (
  sql: SqlClient,
  entries: ReadonlyArray<Entry>
): Effect.fn.Return<void, SqlError> {
  for (let i = 0; i < entries.length; i += chunk) {
    const rows = entries.slice(i, i + chunk).map((one) => ({ ...one }))
    // One that was added before its end was known.
    yield* sql`INSERT INTO aicortex_request_log ${sql.insert(rows)} ON CONFLICT (id) DO NOTHING`
  }
})

/** Which requests: the latest first, `before` a time; at most `limit`. */
export interface LogQuery {
  readonly limit: number
  readonly before?: number | undefined
  readonly since?: number | undefined
}

/** The longest list. */
export const maxListed = 1_000

export const list = (
  store: Store.Service,
  { before = Number.MAX_SAFE_INTEGER, limit, since = 0 }: LogQuery
): Effect.Effect<ReadonlyArray<LoggedRequest>, StoreUnavailable> =>
  Effect.map(
    store.use(
      (sql) => sql<{ entry: string }>`SELECT entry FROM aicortex_request_log
        WHERE at < ${before} AND at >= ${since} ORDER BY at DESC, id DESC LIMIT ${limit}`
    ),
    (rows) => rows.map(({ entry }) => JSON.parse(entry) as LoggedRequest)
  )

/** One of them; `undefined` where there is none. */
export const show = (store: Store.Service, id: string): Effect.Effect<ShownRequest | undefined, StoreUnavailable> =>
  Effect.map(
    store.use((sql) => sql<Entry>`SELECT * FROM aicortex_request_log WHERE id = ${id}`),
    ([row]) => (row === undefined ? undefined : view(row))
  )

/** The next ones with their bodies, oldest first, for exports; `after` is the last one of those before. */
export const page = (
  store: Store.Service,
  after: Pick<Entry, "at" | "id"> | undefined
): Effect.Effect<ReadonlyArray<ShownRequest>, StoreUnavailable> => {
  const { at, id } = after ?? { at: -1, id: "" }
  return Effect.map(
    store.use(
      (sql) => sql<Entry>`SELECT * FROM aicortex_request_log
        WHERE at > ${at} OR (at = ${at} AND id > ${id}) ORDER BY at, id LIMIT ${chunk}`
    ),
    (rows) => rows.map(view)
  )
}

/** What goes, or went. */
export interface Pruned {
  readonly requests: number
  readonly bytes: number
}

/** What is kept: not older than `age` milliseconds, and so many bytes. */
export interface Bounds {
  readonly age: number | undefined
  readonly bytes: number | undefined
}

/** The time of the newest request that has to go. */
const cutoff = Effect.fnUntraced(function* (
  sql: SqlClient,
  { age, bytes }: Bounds,
  now: number
): Effect.fn.Return<number, SqlError> {
  const byAge = age === undefined ? 0 : now - age
  if (bytes === undefined) return byAge
  const [row] = yield* sql<{ at: number | null }>`SELECT MAX(at) AS at FROM (
    SELECT at, SUM(bytes) OVER (ORDER BY at DESC, id DESC) AS held FROM aicortex_request_log) AS sums
    WHERE held > ${bytes}`
  return Math.max(byAge, row?.at == null ? 0 : row.at + 1)
})

/** Removes what is older or more than is kept; with `dryRun` it only returns what that is. */
export const prune = Effect.fnUntraced(function* (
  store: Store.Service,
  bounds: Bounds,
  now: number,
  dryRun = false
): Effect.fn.Return<Pruned, StoreUnavailable> {
  return yield* store.transaction((sql) =>
    Effect.gen(function* () {
      const time = yield* cutoff(sql, bounds, now)
      const [sum] = yield* sql<Pruned>`SELECT COUNT(*) AS requests, CAST(COALESCE(SUM(bytes), 0) AS BIGINT) AS bytes
        FROM aicortex_request_log WHERE at < ${time}`
      if (!dryRun) yield* sql`DELETE FROM aicortex_request_log WHERE at < ${time}`
      return sum ?? { requests: 0, bytes: 0 }
    })
  )
})

/**
 * Responses in a store that outlives the process: a response can be continued at any process that uses the store.
 *
 * Each row has the input and the output of one turn, and names the response that it continues. A response that is
 * removed stays as long as another continues it, as in the memory of a process.
 */
import type { SqlClient } from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { ResponseBounds } from "../config/gateway.js"
import type { StoreUnavailable } from "../Errors.js"
import { adviceOn, waitFor } from "../errors/advice.js"
import type * as Store from "../Store.js"
import * as ErrorResponse from "./http/errorResponse.js"
import { type NewResponse, overhead, type ResponseStore, type StoredResponse } from "./ResponseStore.js"

/** How many rows are read at once. */
const batch = 50

/** A use is noted at most so often, in milliseconds: reading a response is no reason to write each time. */
const coarseness = 60_000

interface Row extends StoredResponse {
  readonly owner: string
  readonly id: string
  readonly previous: string | null
  readonly bytes: number
  readonly all_bytes: number
  readonly needed: number
  readonly used_at: number
}

interface OwnerUsage {
  readonly owner: string
  count: number
  bytes: number
}

const usageByOwner = (sql: SqlClient) => sql<OwnerUsage>`SELECT owner,
    CAST(SUM(CASE WHEN removed = 0 THEN 1 ELSE 0 END) AS BIGINT) AS count,
    CAST(SUM(bytes) AS BIGINT) AS bytes
  FROM aicortex_responses GROUP BY owner`

/**
 * Marks a response as removed, and deletes what no response needs any more: so many bytes. `undefined` if there is
 * none.
 */
const forget = Effect.fnUntraced(function* (
  sql: SqlClient,
  owner: string,
  id: string
): Effect.fn.Return<number | undefined, SqlError> {
  const marked = yield* sql`UPDATE aicortex_responses SET removed = 1
    WHERE owner = ${owner} AND id = ${id} AND removed = 0 RETURNING id`
  if (marked.length === 0) return undefined
  let freed = 0
  let next: string | null = id
  while (next !== null) {
    const rows: ReadonlyArray<Row> = yield* sql<Row>`UPDATE aicortex_responses
      SET needed = needed - 1 WHERE owner = ${owner} AND id = ${next} RETURNING needed, previous, bytes`
    const [row] = rows
    if (row === undefined || row.needed > 0) break
    yield* sql`DELETE FROM aicortex_responses WHERE owner = ${owner} AND id = ${next}`
    freed += row.bytes
    next = row.previous
  }
  return freed
})

/** Whether an owner may hold this many bytes: beside an equal part of what others hold. */
const fits = (all: ReadonlyArray<OwnerUsage>, owner: string, size: number, { maxBytes }: ResponseBounds): boolean =>
  all.reduce((sum, one) => (one.owner === owner ? sum : sum + Math.min(one.bytes, size)), size) <= maxBytes

/** The owner that loses a response next: the one that holds most of what exceeds its limit. `undefined` if all fits. */
const loser = (all: ReadonlyArray<OwnerUsage>, { maxBytes, maxEntries }: ResponseBounds): OwnerUsage | undefined => {
  const count = all.reduce((sum, one) => sum + one.count, 0)
  const bytes = all.reduce((sum, one) => sum + one.bytes, 0)
  if (count <= maxEntries && bytes <= maxBytes) return undefined
  const amount = (one: OwnerUsage) => (bytes > maxBytes ? one.bytes : one.count)
  return all.filter((one) => one.count > 0).sort((a, b) => amount(b) - amount(a))[0]
}

/** Removes what has expired, and then from the owner that holds the most until all fits. */
const tidy = Effect.fnUntraced(function* (sql: SqlClient, bounds: ResponseBounds, now: number) {
  if (bounds.ttl !== Number.POSITIVE_INFINITY) {
    const expired = yield* sql<Row>`SELECT owner, id FROM aicortex_responses
      WHERE removed = 0 AND used_at <= ${now - bounds.ttl} ORDER BY used_at`
    for (const { id, owner } of expired) yield* forget(sql, owner, id)
  }
  const all = (yield* usageByOwner(sql)).map((one) => ({ ...one }))
  const queues = new Map<string, Array<{ readonly id: string }>>()
  while (true) {
    const most = loser(all, bounds)
    if (most === undefined) return
    const queue = queues.get(most.owner) ?? []
    queues.set(most.owner, queue)
    if (queue.length === 0) {
      queue.push(
        ...(yield* sql<{ id: string }>`SELECT id FROM aicortex_responses
          WHERE owner = ${most.owner} AND removed = 0 ORDER BY used_at, id LIMIT ${batch}`)
      )
    }
    const oldest = queue.shift()
    if (oldest === undefined) return
    most.count--
    most.bytes -= (yield* forget(sql, most.owner, oldest.id)) ?? 0
  }
})

/** The items of a turn. */
const itemsIn = ({ input, response }: StoredResponse): ReadonlyArray<{ readonly id?: unknown }> => {
  const { output } = JSON.parse(response) as { readonly output?: ReadonlyArray<{ readonly id?: unknown }> }
  return [...(JSON.parse(input) as ReadonlyArray<{ readonly id?: unknown }>), ...(output ?? [])]
}

/** Responses in this store; `now` is in milliseconds since the epoch. */
export const make = (store: Store.Service, now: () => number = Date.now): ResponseStore => {
  let bounds: ResponseBounds | undefined
  /** What was added since the bounds were last looked at: so they are not looked at for each response. */
  let added = { entries: 0, bytes: 0 }
  let looked = Number.NEGATIVE_INFINITY

  const run = async <A>(effect: Effect.Effect<A, StoreUnavailable>): Promise<A> => {
    const done = await Effect.runPromise(Effect.either(effect))
    if (Either.isRight(done)) return done.right
    const { reason } = done.left
    const message = `Kept responses cannot be reached: ${reason}. ${adviceOn(reason)}`
    const rejection = ErrorResponse.make(503, message, "responses_unavailable", null, waitFor(reason))
    throw new ErrorResponse.RequestRejected(rejection)
  }

  /** Whether this process keeps none: what others have stored is theirs. */
  const isOff = () => bounds?.maxEntries === 0
  /** What was used last before this time has expired. */
  const expiry = (time: number) =>
    bounds === undefined || bounds.ttl === Number.POSITIVE_INFINITY ? -1 : time - bounds.ttl

  const keepBounds = (sql: SqlClient, time: number): Effect.Effect<void, SqlError> => {
    if (bounds === undefined || isOff()) return Effect.void
    const { maxBytes, maxEntries, ttl } = bounds
    const isDue =
      added.entries > maxEntries / 64 || added.bytes > maxBytes / 64 || time - looked > Math.min(coarseness, ttl / 2)
    if (!isDue) return Effect.void
    return Effect.tap(tidy(sql, bounds, time), () => {
      added = { entries: 0, bytes: 0 }
      looked = time
      return Effect.void
    })
  }

  /** A response that is used; `undefined` if there is none. */
  const use = Effect.fnUntraced(function* (
    sql: SqlClient,
    owner: string,
    id: string,
    time: number
  ): Effect.fn.Return<Row | undefined, SqlError> {
    const [row] = yield* sql<Row>`SELECT * FROM aicortex_responses
      WHERE owner = ${owner} AND id = ${id} AND removed = 0 AND used_at > ${expiry(time)}`
    if (row !== undefined && time - row.used_at > Math.min(coarseness, (bounds?.ttl ?? coarseness) / 16)) {
      yield* sql`UPDATE aicortex_responses SET used_at = ${time} WHERE owner = ${owner} AND id = ${id}`
    }
    return row
  })

  const put = ({ id, input, owner, previous, response }: NewResponse) =>
    store.transaction((sql) =>
      Effect.gen(function* () {
        const time = now()
        const size = overhead + Buffer.byteLength(input) + Buffer.byteLength(response)
        let before = 0
        if (previous !== undefined) {
          // Counted first, so that no other process removes it meanwhile.
          const [row] = yield* sql<Row>`UPDATE aicortex_responses SET needed = needed + 1, used_at = ${time}
            WHERE owner = ${owner} AND id = ${previous} AND removed = 0 AND used_at > ${expiry(time)}
            RETURNING all_bytes`
          if (row === undefined) return "forgotten" as const
          before = row.all_bytes
        }
        const all = size + before
        // An owner that holds so little need not read what others hold.
        const others = bounds === undefined || all <= bounds.maxBytes / 64 ? [] : yield* usageByOwner(sql)
        if (bounds !== undefined && !fits(others, owner, all, bounds)) {
          yield* sql`UPDATE aicortex_responses SET needed = needed - 1
            WHERE owner = ${owner} AND id = ${previous ?? ""}`
          return "too-long" as const
        }
        yield* sql`INSERT INTO aicortex_responses
          (owner, id, previous, input, response, bytes, all_bytes, needed, created_at, used_at)
          VALUES (${owner}, ${id}, ${previous ?? null}, ${input}, ${response}, ${size}, ${all}, 1, ${time}, ${time})`
        added = { entries: added.entries + 1, bytes: added.bytes + size }
        yield* keepBounds(sql, time)
        return "kept" as const
      })
    )

  const chain = (owner: string, id: string) =>
    store.use((sql) =>
      Effect.gen(function* () {
        if ((yield* use(sql, owner, id, now())) === undefined) return undefined
        const rows = yield* sql<StoredResponse>`WITH RECURSIVE chain (previous, input, response, depth) AS (
            SELECT previous, input, response, CAST(0 AS BIGINT) FROM aicortex_responses
              WHERE owner = ${owner} AND id = ${id}
            UNION ALL
            SELECT r.previous, r.input, r.response, chain.depth + 1 FROM aicortex_responses r
              JOIN chain ON r.id = chain.previous WHERE r.owner = ${owner}
          ) SELECT input, response FROM chain ORDER BY depth DESC`
        return rows.length === 0 ? undefined : rows
      })
    )

  const items = (owner: string, ids: ReadonlyArray<string>) =>
    store.use((sql) =>
      Effect.gen(function* () {
        const since = expiry(now())
        const found = new Map<string, string>()
        const wanted = new Set(ids)
        for (let offset = 0; found.size < wanted.size; offset += batch) {
          const rows = yield* sql<StoredResponse>`SELECT input, response FROM aicortex_responses
            WHERE owner = ${owner} AND used_at > ${since}
            ORDER BY used_at DESC, id DESC LIMIT ${batch} OFFSET ${offset}`
          for (const item of rows.flatMap(itemsIn)) {
            if (typeof item.id === "string" && wanted.has(item.id) && !found.has(item.id)) {
              found.set(item.id, JSON.stringify(item))
            }
          }
          if (rows.length < batch) break
        }
        return ids.map((id) => found.get(id))
      })
    )

  return {
    bound: (given) => {
      bounds = given
      looked = Number.NEGATIVE_INFINITY
    },
    put: (draft) => run(put(draft)),
    chain: async (owner, id) => (isOff() ? undefined : run(chain(owner, id))),
    get: async (owner, id) =>
      isOff() ? undefined : (await run(store.use((sql) => use(sql, owner, id, now()))))?.response,
    items: async (owner, ids) => (isOff() ? ids.map(() => undefined) : run(items(owner, ids))),
    remove: async (owner, id) =>
      !isOff() && (await run(store.transaction((sql) => forget(sql, owner, id)))) !== undefined
  }
}

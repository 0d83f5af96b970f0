/** Room for conversations in a store: how many it holds, how many bytes, and which go where it is full. */
import type { SqlClient } from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import { SessionsUnavailable, type StoreUnavailable } from "../Errors.js"
import type * as Store from "../Store.js"
import type { Dialect } from "../store/dialect.js"
import { noRoom, ownerOf, victimOf } from "./eviction.js"
import { isFree } from "./sqlHold.js"

/** How many conversations of one owner are looked at, at once. */
const batch = 64

/** What is counted: conversations, or their bytes. */
type Amount = "count" | "bytes"

interface Owned {
  readonly owner: string
  readonly count: number
  readonly bytes: number
}

const owned = (sql: SqlClient) =>
  sql<Owned>`SELECT owner, COUNT(*) AS count, CAST(SUM(bytes) AS BIGINT) AS bytes FROM aicortex_sessions GROUP BY owner`

const oldest = (sql: SqlClient, dialect: Dialect, owner: string, offset: number) =>
  sql<{
    id: string
    bytes: number
  }>`SELECT id, bytes FROM aicortex_sessions WHERE owner = ${owner} AND ${isFree(sql, dialect)}
    ORDER BY used_at, id LIMIT ${batch} OFFSET ${offset}`

/** The conversations to remove so that `added` more of this one's owner fit; `fits` tells whether they do. */
export const victims = Effect.fnUntraced(function* (
  sql: SqlClient,
  dialect: Dialect,
  id: string,
  amount: Amount,
  added: number,
  capacity: number,
  keeps: (id: string) => Effect.Effect<boolean, SessionsUnavailable>
): Effect.fn.Return<
  { readonly chosen: ReadonlyArray<string>; readonly fits: boolean },
  SqlError | SessionsUnavailable
> {
  const writer = ownerOf(id)
  const held = new Map((yield* owned(sql)).map((one) => [one.owner, one[amount]]))
  held.set(writer, (held.get(writer) ?? 0) + added)
  let total = [...held.values()].reduce((sum, one) => sum + one, 0)
  const queues = new Map<string, { items: Array<{ id: string; bytes: number }>; read: number }>()
  const fixed = new Set<string>()
  const chosen: Array<string> = []
  while (total > capacity) {
    const owner = victimOf(held, writer, capacity, fixed)
    if (owner === undefined) break
    const queue = queues.get(owner) ?? { items: [], read: 0 }
    queues.set(owner, queue)
    if (queue.items.length === 0) {
      const more = yield* oldest(sql, dialect, owner, queue.read)
      if (more.length === 0) fixed.add(owner)
      queue.read += more.length
      queue.items.push(...more)
      continue
    }
    const item = queue.items.shift()
    if (item === undefined || (yield* keeps(item.id))) continue
    const size = amount === "count" ? 1 : item.bytes
    total -= size
    held.set(owner, (held.get(owner) ?? 0) - size)
    chosen.push(item.id)
  }
  return { chosen, fits: total <= capacity || held.size === 1 }
})

/** Removes a conversation; inside a transaction. False if there is none. */
export const remove = Effect.fnUntraced(function* (sql: SqlClient, id: string) {
  const gone = yield* sql`DELETE FROM aicortex_sessions WHERE id = ${id} RETURNING id`
  yield* sql`DELETE FROM aicortex_turns WHERE session_id = ${id}`
  return gone.length > 0
})

/** Removes a conversation if it is not in use, nor was since this time; inside a transaction. */
export const removeUnused = Effect.fnUntraced(function* (
  sql: SqlClient,
  dialect: Dialect,
  id: string,
  since: number = Number.MAX_SAFE_INTEGER
) {
  const gone = yield* sql`DELETE FROM aicortex_sessions
    WHERE id = ${id} AND used_at < ${since} AND ${isFree(sql, dialect)} RETURNING id`
  if (gone.length === 0) return false
  yield* sql`DELETE FROM aicortex_turns WHERE session_id = ${id}`
  return true
})

/** How the room is bounded. */
export interface Bounds {
  readonly maxSessions: number
  readonly maxBytes: number
  /** Whether a conversation must stay. */
  readonly held: (id: string) => Effect.Effect<boolean, SessionsUnavailable>
}

/** Makes room before something is added; fails where only conversations of other owners could make it. */
export const make = (store: Store.Service, { held, maxBytes, maxSessions }: Bounds) => {
  const evict = (id: string, amount: Amount, added: number, capacity: number) =>
    Effect.gen(function* () {
      const keeps = (other: string) => (other === id ? Effect.succeed(true) : held(other))
      const { chosen, fits } = yield* store.use((sql, dialect) =>
        victims(sql, dialect, id, amount, added, capacity, keeps)
      )
      for (const one of chosen) yield* store.transaction((sql, dialect) => removeUnused(sql, dialect, one))
      if (!fits) return yield* new SessionsUnavailable({ reason: noRoom })
    })

  /** The bytes of all conversations when they were last counted, and those that this process has added since. */
  let counted: number | undefined
  let added = 0
  const slack = maxBytes / 64
  const isDue = () => counted === undefined || added > slack || counted + added > maxBytes

  return {
    /** For one more conversation. */
    forSession: (id: string): Effect.Effect<void, StoreUnavailable | SessionsUnavailable> =>
      Effect.flatMap(
        store.use((sql) => sql<{ n: number }>`SELECT COUNT(*) AS n FROM aicortex_sessions`),
        ([found]) => ((found?.n ?? 0) < maxSessions ? Effect.void : evict(id, "count", 1, maxSessions))
      ),
    /** For more bytes of a conversation. */
    forBytes: (id: string, bytes: number): Effect.Effect<void, StoreUnavailable | SessionsUnavailable> =>
      Effect.suspend(() => {
        if (maxBytes === Number.POSITIVE_INFINITY) return Effect.void
        added += bytes
        if (!isDue()) return Effect.void
        return Effect.gen(function* () {
          const size = store.use(
            (sql) => sql<{ n: number }>`SELECT CAST(COALESCE(SUM(bytes), 0) AS BIGINT) AS n FROM aicortex_sessions`
          )
          const before = (yield* size)[0]?.n ?? 0
          if (before + bytes > maxBytes) yield* evict(id, "bytes", bytes, maxBytes)
          counted = before + bytes > maxBytes ? ((yield* size)[0]?.n ?? 0) : before
          added = bytes
        })
      })
  }
}

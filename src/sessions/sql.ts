/**
 * Conversations in a store: they outlive the process, and any number of processes use them at the same time.
 *
 * What is appended together is one row of `aicortex_turns`, under the number that the version of its conversation then
 * has: the version is compared and set in the same transaction, so no turn is lost, stored twice, or between others.
 */
import type { SqlClient } from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { SessionsUnavailable, type StoreUnavailable } from "../Errors.js"
import { toMilliseconds } from "../internal/units.js"
import type { Message } from "../Message.js"
import type * as Sessions from "../Sessions.js"
import type * as Store from "../Store.js"
import { ownerOf } from "./eviction.js"
import { decodeMessages, encodeMessages, withoutNul, wordsOf } from "./sqlMessages.js"
import * as Room from "./sqlRoom.js"
import { openingOf } from "./summary.js"
import * as Turns from "./turnQueue.js"

/** How many conversations are kept, and for how long: see `Settings.SessionPolicy`. */
export interface Options {
  /** Beyond it, the owner's least recently written one is removed; default 10,000. */
  readonly maxSessions?: number | undefined
  /** Approximate size of all of them; default: no limit. */
  readonly maxBytes?: number | undefined
  /** One that was not written to for this long is removed at its next use; default never. */
  readonly ttl?: Duration.DurationInput | undefined
}

/** The longest id, in UTF-16 units: an index of PostgreSQL does not take any length. */
const longestId = 512

const isId = (id: string): boolean => id !== "" && id.length <= longestId && !id.includes("\u0000")

/** How often it is asked whether a turn was stored, when the store was lost meanwhile, and the pause between. */
const confirmations = { times: 4, pause: 500 }

interface Row {
  readonly version: number
  readonly used_at: number
  readonly number: number | null
  readonly messages: string | null
}

/** The conversation with its turns as one statement, which sees one state of them. */
const select = (sql: SqlClient, id: string) =>
  sql<Row>`SELECT s.version, s.used_at, t.number, t.messages FROM aicortex_sessions s
    LEFT JOIN aicortex_turns t ON t.session_id = s.id WHERE s.id = ${id} ORDER BY t.number`

/** Conversations in this store. */
export const make = (
  store: Store.Service,
  { maxBytes = Number.POSITIVE_INFINITY, maxSessions = 10_000, ttl: lifetime = Number.POSITIVE_INFINITY }: Options = {}
): Effect.Effect<Sessions.Store> =>
  Effect.map(Effect.clock, (clock): Sessions.Store => {
    const ttl = toMilliseconds(lifetime)
    const now = () => clock.unsafeCurrentTimeMillis()
    const { heldSince, isHeld, turn } = Turns.make(now)
    const room = Room.make(store, { maxSessions, maxBytes, held: isHeld })

    const typed = <A>(effect: Effect.Effect<A, StoreUnavailable | SessionsUnavailable>) =>
      Effect.mapError(effect, (error) =>
        error._tag === "SessionsUnavailable" ? error : new SessionsUnavailable({ reason: error.reason })
      )
    const isExpired = (id: string, usedAt: number) => usedAt + ttl <= (heldSince(id) ?? now())
    const discard = (id: string) => store.transaction((sql) => Room.remove(sql, id))
    /** What has expired is as good as gone, and is removed here. */
    const expire = (id: string) =>
      ttl === Number.POSITIVE_INFINITY
        ? Effect.void
        : Effect.flatMap(
            store.use((sql) => sql<{ used_at: number }>`SELECT used_at FROM aicortex_sessions WHERE id = ${id}`),
            ([row]) => (row !== undefined && isExpired(id, row.used_at) ? Effect.asVoid(discard(id)) : Effect.void)
          )

    const load = Effect.fnUntraced(function* (id: string) {
      const rows = yield* store.use((sql) => select(sql, id))
      const [first] = rows
      if (first === undefined) return Option.none()
      if (isExpired(id, first.used_at)) {
        yield* discard(id)
        return Option.none()
      }
      const messages: Array<Message> = []
      for (const row of rows) {
        if (row.messages === null) continue
        messages.push(
          ...(yield* Effect.mapError(
            decodeMessages(row.messages),
            () =>
              new SessionsUnavailable({
                reason: `turn ${row.number} of ${id} cannot be read as part of a conversation`
              })
          ))
        )
      }
      return Option.some({ version: first.version, messages })
    })

    const append = Effect.fnUntraced(function* (id: string, expected: number, messages: ReadonlyArray<Message>) {
      const written = encodeMessages(messages)
      const bytes = written.length
      yield* expire(id)
      yield* room.forBytes(id, bytes)
      const opening = openingOf(messages)
      const words = wordsOf(messages)
      const mark = globalThis.crypto.randomUUID()
      const write = (sql: SqlClient): Effect.Effect<boolean, SqlError> =>
        Effect.gen(function* () {
          const time = now()
          const [row] = yield* sql<{ version: number }>`UPDATE aicortex_sessions
            SET version = version + 1, messages = messages + ${messages.length}, bytes = bytes + ${bytes},
              used_at = ${time}, opening = COALESCE(opening, ${opening === undefined ? null : withoutNul(opening)})
            WHERE id = ${id} AND version = ${expected} RETURNING version`
          if (row === undefined) return false
          yield* sql`INSERT INTO aicortex_turns (session_id, number, append_id, messages, words, bytes, created_at)
            VALUES (${id}, ${row.version}, ${mark}, ${written}, ${words}, ${bytes}, ${time})`
          return true
        })
      // The update waits for a transaction that is still ending.
      const confirm = store.transaction((sql) =>
        Effect.zipRight(
          sql`UPDATE aicortex_sessions SET version = version WHERE id = ${id}`,
          Effect.map(
            sql`SELECT number FROM aicortex_turns WHERE session_id = ${id} AND append_id = ${mark}`,
            (rows) => rows.length > 0
          )
        )
      )
      const confirmLater = (left: number): Effect.Effect<boolean, StoreUnavailable> =>
        Effect.catchAll(confirm, (error) =>
          left > 1
            ? Effect.delay(
                Effect.suspend(() => confirmLater(left - 1)),
                confirmations.pause
              )
            : Effect.fail(error)
        )
      return yield* Effect.catchTag(store.transaction(write), "StoreUnavailable", (error) =>
        error.uncertain ? confirmLater(confirmations.times) : Effect.fail(error)
      )
    }, Effect.uninterruptible)

    return {
      create: (id) =>
        Effect.gen(function* () {
          if (!isId(id)) return yield* new SessionsUnavailable({ reason: "its id cannot be kept" })
          yield* expire(id)
          yield* room.forSession(id)
          const time = now()
          const made = yield* store.transaction(
            (sql) => sql`INSERT INTO aicortex_sessions (id, owner, version, messages, bytes, created_at, used_at)
              VALUES (${id}, ${ownerOf(id)}, 0, 0, 0, ${time}, ${time}) ON CONFLICT (id) DO NOTHING RETURNING id`
          )
          return made.length > 0
        }).pipe(typed),
      load: (id) => (isId(id) ? typed(load(id)) : Effect.succeed(Option.none())),
      append: (id, expectedVersion, messages) =>
        isId(id) ? typed(append(id, expectedVersion, messages)) : Effect.succeed(false),
      reset: (id) =>
        isId(id)
          ? Effect.zipRight(
              expire(id),
              store.transaction((sql) =>
                Effect.gen(function* () {
                  const [row] = yield* sql`UPDATE aicortex_sessions
                    SET version = version + 1, messages = 0, bytes = 0, opening = NULL, used_at = ${now()}
                    WHERE id = ${id} RETURNING id`
                  if (row === undefined) return false
                  yield* sql`DELETE FROM aicortex_turns WHERE session_id = ${id}`
                  return true
                })
              )
            ).pipe(typed)
          : Effect.succeed(false),
      remove: (id) => (isId(id) ? typed(Effect.zipRight(expire(id), discard(id))) : Effect.succeed(false)),
      list: ({ limit = 50, prefix = "" } = {}) => {
        const since = ttl === Number.POSITIVE_INFINITY ? 0 : now() - ttl
        return store
          .use(
            (sql) => sql<{ id: string; used_at: number; messages: number; opening: string | null }>`
              SELECT id, used_at, messages, opening FROM aicortex_sessions
              WHERE used_at > ${since} AND substr(id, 1, ${[...prefix].length}) = ${withoutNul(prefix)}
              ORDER BY used_at DESC, id DESC LIMIT ${limit}`
          )
          .pipe(
            Effect.map((rows) =>
              rows.map(({ id, messages, opening, used_at }) => ({
                id,
                usedAt: used_at,
                messages,
                opening: opening ?? undefined
              }))
            ),
            typed
          )
      },
      // Turns are ordered within this process; between processes, whole turns follow each other.
      turn
    }
  })

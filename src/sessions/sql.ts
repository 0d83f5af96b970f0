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
import type { StoredTurn, TurnUsage } from "./record.js"
import * as Holds from "./sqlHold.js"
import { decodeMessages, encodeMessages, withoutNul, wordsOf } from "./sqlMessages.js"
import * as Record from "./sqlRecord.js"
import * as Room from "./sqlRoom.js"
import * as Selection from "./sqlSelection.js"
import { derivedTitle, found, type Hit, openingOf } from "./summary.js"
import * as Turns from "./turnQueue.js"

/** How many conversations are kept, and for how long: see `Settings.SessionPolicy`. */
export interface SqlStoreOptions {
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

/** How often a turn is written whose end was lost and that turned out not to be stored. */
const writes = 2

interface Row {
  readonly version: number
  readonly used_at: number
  readonly number: number | null
  readonly messages: string | null
}

interface FullRow extends Record.SessionRow {
  readonly number: number | null
  readonly said: string | null
  readonly usage: string | null
  readonly at: number | null
}

/** The conversation with its turns as one statement, which sees one state of them. */
const select = (sql: SqlClient, id: string) =>
  sql<Row>`SELECT s.version, s.used_at, t.number, t.messages FROM aicortex_sessions s
    LEFT JOIN aicortex_turns t ON t.session_id = s.id WHERE s.id = ${id} ORDER BY t.number`

/** The same with all that is kept of it. */
const selectAll = (sql: SqlClient, id: string) =>
  sql<FullRow>`SELECT s.id, s.title, s.metadata, s.created_at, s.used_at, s.messages, s.opening,
      t.number, t.messages AS said, t.usage, t.created_at AS at
    FROM aicortex_sessions s LEFT JOIN aicortex_turns t ON t.session_id = s.id WHERE s.id = ${id} ORDER BY t.number`

const decodeTurn = (id: string, number: number | null, text: string) =>
  Effect.mapError(
    decodeMessages(text),
    () => new SessionsUnavailable({ reason: `turn ${number} of ${id} cannot be read as part of a conversation` })
  )

/** Conversations in this store. `order` is that of their turns; default: of the turns in this process. */
export const make = (
  store: Store.Service,
  {
    maxBytes = Number.POSITIVE_INFINITY,
    maxSessions = 10_000,
    ttl: lifetime = Number.POSITIVE_INFINITY
  }: SqlStoreOptions = {},
  order?: Turns.TurnOrder
): Effect.Effect<Sessions.Store> =>
  Effect.map(Effect.clock, (clock): Sessions.Store => {
    const ttl = toMilliseconds(lifetime)
    const now = () => clock.unsafeCurrentTimeMillis()
    const { heldSince, turn } = order ?? Turns.orderOf(Turns.make(now))
    const isHeld = (id: string) => Effect.map(heldSince(id), (since) => since !== undefined)
    const holds = Holds.make(store, ttl, now)
    const room = Room.make(store, { maxSessions, maxBytes, held: isHeld })

    const typed = <A>(effect: Effect.Effect<A, StoreUnavailable | SessionsUnavailable>) =>
      Effect.mapError(effect, (error) =>
        error._tag === "SessionsUnavailable" ? error : new SessionsUnavailable({ reason: error.reason })
      )
    /** Those that were used later are kept. */
    const aliveSince = () => (ttl === Number.POSITIVE_INFINITY ? -1 : now() - ttl)
    const isExpired = (id: string, usedAt: number) =>
      usedAt + ttl > now()
        ? Effect.succeed(false)
        : Effect.flatMap(heldSince(id), (since) =>
            usedAt + ttl <= (since ?? now()) ? Effect.map(holds.isHeld(id), (isHeld) => !isHeld) : Effect.succeed(false)
          )
    const discard = (id: string) => store.transaction((sql) => Room.remove(sql, id))
    /** Unless it was used since. */
    const discardUnused = (id: string, usedAt: number) =>
      store.transaction((sql, dialect) => Room.removeUnused(sql, dialect, id, usedAt + 1))
    /** What has expired is as good as gone, and is removed here. */
    const expire = (id: string) =>
      ttl === Number.POSITIVE_INFINITY
        ? Effect.void
        : Effect.flatMap(
            store.use((sql) => sql<{ used_at: number }>`SELECT used_at FROM aicortex_sessions WHERE id = ${id}`),
            ([row]) =>
              row === undefined
                ? Effect.void
                : Effect.asVoid(Effect.whenEffect(discardUnused(id, row.used_at), isExpired(id, row.used_at)))
          )

    const load = Effect.fnUntraced(function* (
      id: string
    ): Effect.fn.Return<Option.Option<Sessions.Stored>, StoreUnavailable | SessionsUnavailable> {
      const rows = yield* store.use((sql) => select(sql, id))
      const [first] = rows
      if (first === undefined) return Option.none()
      if (yield* isExpired(id, first.used_at)) {
        return (yield* discardUnused(id, first.used_at)) ? Option.none() : yield* load(id)
      }
      if (!(yield* holds.begun(id, first.used_at))) return Option.none()
      const messages: Array<Message> = []
      for (const row of rows) {
        if (row.messages === null) continue
        messages.push(...(yield* decodeTurn(id, row.number, row.messages)))
      }
      return Option.some({ version: first.version, messages })
    })

    const read = Effect.fnUntraced(function* (id: string) {
      // A caller who never heard whether a turn was stored looks here before saying it again.
      const rows = yield* store.use((sql, dialect) =>
        Effect.zipRight(dialect.settled(sql, "aicortex_sessions", id), selectAll(sql, id))
      )
      const [first] = rows
      if (first === undefined || (yield* isExpired(id, first.used_at))) return Option.none()
      const turns: Array<StoredTurn> = []
      for (const { at, number, said, usage } of rows) {
        if (said === null) continue
        const used = Record.usageIn(usage)
        const messages = yield* decodeTurn(id, number, said)
        turns.push({ messages, at: at ?? 0, ...(used === undefined ? {} : { usage: used }) })
      }
      return Option.some({ summary: Record.summaryOf(first), turns })
    })

    const append = Effect.fnUntraced(function* (
      id: string,
      expected: number,
      messages: ReadonlyArray<Message>,
      usage?: TurnUsage
    ) {
      const written = encodeMessages(messages)
      const bytes = written.length
      yield* expire(id)
      yield* room.forBytes(id, bytes)
      const opening = openingOf(messages)
      const label = Record.labelOf(undefined, opening)
      const words = wordsOf(messages)
      const mark = globalThis.crypto.randomUUID()
      const write = (sql: SqlClient): Effect.Effect<boolean, SqlError> =>
        Effect.gen(function* () {
          const time = now()
          const [row] = yield* sql<{ version: number }>`UPDATE aicortex_sessions
            SET version = version + 1, messages = messages + ${messages.length}, bytes = bytes + ${bytes},
              used_at = ${time}, held_until = CASE WHEN held_until = ${holds.written(id)} THEN 0 ELSE held_until END,
              opening = COALESCE(opening, ${opening === undefined ? null : withoutNul(opening)}),
              label = CASE WHEN title IS NULL AND opening IS NULL THEN ${label} ELSE label END
            WHERE id = ${id} AND version = ${expected} RETURNING version`
          if (row === undefined) return false
          yield* sql`INSERT INTO aicortex_turns (session_id, number, append_id, messages, words, bytes, usage, created_at)
            VALUES (${id}, ${row.version}, ${mark}, ${written}, ${words}, ${bytes}, ${Record.usageText(usage)}, ${time})`
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
      const attempt = (left: number): Effect.Effect<boolean, StoreUnavailable> =>
        Effect.catchTag(store.transaction(write), "StoreUnavailable", (error) =>
          error.uncertain
            ? Effect.flatMap(confirmLater(confirmations.times), (isStored) => {
                if (isStored) return Effect.succeed(true)
                // Not a conflict, after which the caller would try for ever.
                return left > 1 ? attempt(left - 1) : Effect.fail(error)
              })
            : Effect.fail(error)
        )
      return yield* attempt(writes)
    }, Effect.uninterruptible)

    return {
      create: (id, seed = {}) =>
        Effect.gen(function* () {
          if (!isId(id)) return yield* new SessionsUnavailable({ reason: "its id cannot be kept" })
          yield* expire(id)
          yield* room.forSession(id)
          const { turns = [] } = seed
          if (turns.length > 0) {
            yield* room.forBytes(
              id,
              turns.reduce((sum, { messages }) => sum + encodeMessages(messages).length, 0)
            )
          }
          const time = now()
          const whole = { ...seed, createdAt: seed.createdAt ?? time, usedAt: seed.usedAt ?? time }
          const mark = globalThis.crypto.randomUUID()
          return yield* store.transaction((sql) => Record.insert(sql, id, whole, mark))
        }).pipe(typed),
      load: (id) => (isId(id) ? typed(load(id)) : Effect.succeed(Option.none())),
      append: (id, expectedVersion, messages, usage) =>
        isId(id) ? typed(append(id, expectedVersion, messages, usage)) : Effect.succeed(false),
      read: (id) => (isId(id) ? typed(read(id)) : Effect.succeed(Option.none())),
      update: (id, { metadata, title }) =>
        isId(id)
          ? Effect.zipRight(
              expire(id),
              store.transaction((sql) =>
                Effect.gen(function* () {
                  // The first statement writes, so that others wait.
                  const text = metadata === undefined ? null : JSON.stringify(metadata)
                  const [row] = yield* sql<{ opening: string | null }>`UPDATE aicortex_sessions
                    SET metadata = COALESCE(${text}, metadata) WHERE id = ${id} RETURNING opening`
                  if (row === undefined) return false
                  if (title !== undefined) {
                    const label = Record.labelOf(title ?? undefined, row.opening ?? undefined)
                    yield* sql`UPDATE aicortex_sessions SET title = ${title}, label = ${label} WHERE id = ${id}`
                  }
                  return true
                })
              )
            ).pipe(typed)
          : Effect.succeed(false),
      reset: (id) =>
        isId(id)
          ? Effect.zipRight(
              expire(id),
              store.transaction((sql) =>
                Effect.gen(function* () {
                  const [row] = yield* sql`UPDATE aicortex_sessions
                    SET version = version + 1, messages = 0, bytes = 0, opening = NULL, used_at = ${now()},
                      label = CASE WHEN title IS NULL THEN '' ELSE label END
                    WHERE id = ${id} RETURNING id`
                  if (row === undefined) return false
                  yield* sql`DELETE FROM aicortex_turns WHERE session_id = ${id}`
                  return true
                })
              )
            ).pipe(typed)
          : Effect.succeed(false),
      remove: (id) => (isId(id) ? typed(Effect.zipRight(expire(id), discard(id))) : Effect.succeed(false)),
      removeUnused: (id, since) =>
        typed(
          Effect.flatMap(isHeld(id), (held) =>
            held
              ? Effect.succeed(false)
              : Effect.zipRight(
                  holds.settled(id),
                  store.transaction((sql, dialect) => Room.removeUnused(sql, dialect, id, Math.ceil(since)))
                )
          )
        ),
      list: (selection = {}) =>
        store
          .use((sql, dialect) => Selection.sessions(sql, dialect, selection, aliveSince()))
          .pipe(
            Effect.map((rows) => rows.map(Record.summaryOf)),
            typed
          ),
      search: (words, selection = {}) =>
        store
          .use((sql, dialect) => Selection.turns(sql, dialect, words, selection, aliveSince()))
          .pipe(
            Effect.flatMap(
              Effect.forEach(({ at, id, messages, opening, title, turn }) =>
                Effect.map(decodeTurn(id, turn, messages), (said): Hit => {
                  const here = found(said, words) ?? found(said, []) ?? { role: "user", excerpt: "" }
                  return { id, title: title ?? derivedTitle(opening ?? undefined), turn, at, ...here }
                })
              )
            ),
            typed
          ),
      // Beyond the processes of one order, whole turns follow each other.
      turn: (id) => holds.turn(id, turn(id))
    }
  })

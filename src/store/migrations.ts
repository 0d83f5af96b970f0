/**
 * The tables of the store, as the steps that made them.
 *
 * A new table is a new entry of `migrations`, with a number that none has had; an entry that was released never changes.
 * A store takes each step that it has not taken yet, in the order of numbers, so steps must not depend on later numbers.
 * Its statements are the same text on both engines (see `dialect`), and may run where a part of them has run before:
 * `CREATE TABLE IF NOT EXISTS`. They run in one transaction, under a lock, once per store.
 *
 * Several versions of the program share a store while it is upgraded, so steps only add: a table, an index, a column with
 * a default. `least` says which step a program must know at least to use the store afterwards, and stays as it is where
 * a step only adds. A step that older programs cannot live with raises it, one release after the programs that can.
 *
 * The queries of a table stand in the module of the feature that it is for (`sessions/sql` is an example), over
 * `Store.use` and `Store.transaction`.
 */
import type { SqlClient } from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type { Dialect } from "./dialect.js"

/** One step of the schema. */
export interface Migration {
  /** Its name for ever, and its place in the order. */
  readonly id: number
  /** What it is for, in a word. */
  readonly name: string
  /** The step that a program must know to use the store after this one. */
  readonly least: number
  /** The same on both engines. */
  readonly statements: ReadonlyArray<string>
}

export const migrations: ReadonlyArray<Migration> = [
  {
    id: 1,
    name: "sessions",
    least: 1,
    statements: [
      `CREATE TABLE IF NOT EXISTS aicortex_sessions (
        id TEXT PRIMARY KEY,
        owner TEXT NOT NULL,
        version BIGINT NOT NULL,
        messages BIGINT NOT NULL,
        bytes BIGINT NOT NULL,
        opening TEXT,
        title TEXT,
        metadata TEXT NOT NULL DEFAULT '{}',
        created_at BIGINT NOT NULL,
        used_at BIGINT NOT NULL
      )`,
      "CREATE INDEX IF NOT EXISTS aicortex_sessions_owner ON aicortex_sessions (owner, used_at)",
      "CREATE INDEX IF NOT EXISTS aicortex_sessions_used ON aicortex_sessions (used_at)",
      // `words` is what was said, in lower case, for searches; `append_id` tells who wrote a turn.
      `CREATE TABLE IF NOT EXISTS aicortex_turns (
        session_id TEXT NOT NULL,
        number BIGINT NOT NULL,
        append_id TEXT NOT NULL,
        messages TEXT NOT NULL,
        words TEXT NOT NULL,
        bytes BIGINT NOT NULL,
        usage TEXT,
        created_at BIGINT NOT NULL,
        PRIMARY KEY (session_id, number)
      )`
    ]
  },
  {
    id: 2,
    name: "responses",
    least: 1,
    statements: [
      // `needed` counts the response itself and those that continue it; a removed one stays while another needs it.
      `CREATE TABLE IF NOT EXISTS aicortex_responses (
        owner TEXT NOT NULL,
        id TEXT NOT NULL,
        previous TEXT,
        input TEXT NOT NULL,
        response TEXT NOT NULL,
        bytes BIGINT NOT NULL,
        all_bytes BIGINT NOT NULL,
        needed BIGINT NOT NULL,
        removed BIGINT NOT NULL DEFAULT 0,
        created_at BIGINT NOT NULL,
        used_at BIGINT NOT NULL,
        PRIMARY KEY (owner, id)
      )`,
      "CREATE INDEX IF NOT EXISTS aicortex_responses_used ON aicortex_responses (used_at)"
    ]
  },
  {
    id: 3,
    name: "keys",
    least: 1,
    statements: [
      // `hash` is all that is stored of a key's text; each change has the next `version`.
      `CREATE TABLE IF NOT EXISTS aicortex_keys (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        hash TEXT NOT NULL,
        previous_hash TEXT,
        previous_until BIGINT,
        policy TEXT NOT NULL,
        created_at BIGINT NOT NULL,
        expires_at BIGINT,
        rotated_at BIGINT,
        revoked_at BIGINT,
        version BIGINT NOT NULL
      )`,
      "CREATE UNIQUE INDEX IF NOT EXISTS aicortex_keys_name ON aicortex_keys (name) WHERE revoked_at IS NULL",
      "CREATE UNIQUE INDEX IF NOT EXISTS aicortex_keys_version ON aicortex_keys (version)"
    ]
  },
  {
    id: 4,
    name: "usage",
    least: 1,
    statements: [
      `CREATE TABLE IF NOT EXISTS aicortex_usage (
        hour BIGINT NOT NULL,
        key_name TEXT NOT NULL,
        end_user TEXT NOT NULL,
        model TEXT NOT NULL,
        server TEXT NOT NULL,
        requests BIGINT NOT NULL,
        errors BIGINT NOT NULL,
        prompt_tokens BIGINT NOT NULL,
        cached_tokens BIGINT NOT NULL,
        completion_tokens BIGINT NOT NULL,
        reasoning_tokens BIGINT NOT NULL,
        first_tokens BIGINT NOT NULL,
        first_token_ms BIGINT NOT NULL,
        PRIMARY KEY (hour, key_name, end_user, model, server)
      )`,
      // The last batch of each process, so that none is counted twice.
      `CREATE TABLE IF NOT EXISTS aicortex_usage_writers (
        writer TEXT PRIMARY KEY,
        batch BIGINT NOT NULL,
        used_at BIGINT NOT NULL
      )`
    ]
  },
  {
    id: 5,
    name: "quotas",
    least: 1,
    statements: [
      // `day` counts from the epoch.
      `CREATE TABLE IF NOT EXISTS aicortex_key_tokens (
        key_name TEXT NOT NULL,
        day BIGINT NOT NULL,
        tokens BIGINT NOT NULL,
        PRIMARY KEY (key_name, day)
      )`
    ]
  },
  {
    id: 6,
    name: "page sessions",
    least: 1,
    statements: [
      // `hash` is all that is stored of a session; `key_hash` that of the key that opened it.
      `CREATE TABLE IF NOT EXISTS aicortex_page_sessions (
        hash TEXT PRIMARY KEY,
        key_id TEXT NOT NULL,
        key_hash TEXT NOT NULL,
        expires_at BIGINT NOT NULL
      )`
    ]
  },
  {
    id: 10,
    name: "session labels",
    least: 1,
    statements: [
      // What a conversation is called, in lower case, for searches.
      "ALTER TABLE aicortex_sessions ADD COLUMN label TEXT NOT NULL DEFAULT ''",
      "UPDATE aicortex_sessions SET label = LOWER(COALESCE(title, opening, ''))"
    ]
  },
  {
    id: 20,
    name: "limits over replicas",
    least: 1,
    statements: [
      // `state` is replaced as a whole where `version` is still the one that was read.
      `CREATE TABLE IF NOT EXISTS aicortex_limits (
        key_name TEXT PRIMARY KEY,
        version BIGINT NOT NULL,
        state TEXT NOT NULL
      )`
    ]
  },
  {
    id: 30,
    name: "request log",
    least: 1,
    statements: [
      // `entry` is JSON; `bytes` is the length of all texts of a row.
      `CREATE TABLE IF NOT EXISTS aicortex_request_log (
        id TEXT PRIMARY KEY,
        at BIGINT NOT NULL,
        bytes BIGINT NOT NULL,
        entry TEXT NOT NULL,
        request TEXT,
        response TEXT
      )`,
      "CREATE INDEX IF NOT EXISTS aicortex_request_log_at ON aicortex_request_log (at, id)"
    ]
  },
  {
    id: 40,
    name: "sessions in use",
    least: 1,
    statements: [
      // Until when it is in use, in the time of the store. Without an index, so that PostgreSQL changes the row in place.
      "ALTER TABLE aicortex_sessions ADD COLUMN held_until BIGINT NOT NULL DEFAULT 0"
    ]
  }
]

/** A store that newer programs have changed so that this one must not use it. */
export class NewerStore extends Data.TaggedError("NewerStore") {
  override get message() {
    return "a newer version of aicortex has changed this store so that this one cannot use it: upgrade this one"
  }
}

const table = "aicortex_migrations"

/** A step that has run. */
interface Applied {
  readonly id: number
  readonly least: number
}

const applied = (sql: SqlClient): Effect.Effect<ReadonlyArray<Applied>, SqlError> =>
  sql<Applied>`SELECT id, least FROM aicortex_migrations`

/** The steps that have not run yet: one with a smaller number may have been added later. */
const missing = (
  found: ReadonlyArray<Applied>,
  steps: ReadonlyArray<Migration>
): Effect.Effect<ReadonlyArray<Migration>, NewerStore> => {
  const least = Math.max(0, ...found.map((one) => one.least))
  if (least > 0 && !steps.some(({ id }) => id === least)) return Effect.fail(new NewerStore())
  const ran = new Set(found.map(({ id }) => id))
  return Effect.succeed(steps.filter(({ id }) => !ran.has(id)))
}

/** Brings the tables to what this program knows. A store that is ahead of it is used where it says that it may be. */
export const migrate = (
  sql: SqlClient,
  dialect: Dialect,
  steps: ReadonlyArray<Migration> = migrations
): Effect.Effect<void, SqlError | NewerStore> => {
  const run = Effect.gen(function* () {
    yield* dialect.lock(sql, "migrations")
    yield* sql.unsafe(
      `CREATE TABLE IF NOT EXISTS ${table} (id BIGINT PRIMARY KEY, name TEXT NOT NULL, least BIGINT NOT NULL, applied_at BIGINT NOT NULL)`
    )
    for (const { id, least, name, statements } of yield* missing(yield* applied(sql), steps)) {
      for (const statement of statements) yield* sql.unsafe(statement)
      const now = yield* Clock.currentTimeMillis
      yield* sql`INSERT INTO aicortex_migrations (id, name, least, applied_at) VALUES (${id}, ${name}, ${least}, ${now})`
    }
  })
  // Most starts find that there is nothing to do, and take no lock.
  return Effect.gen(function* () {
    if (yield* dialect.hasTable(sql, table)) {
      const left = yield* missing(yield* applied(sql), steps)
      if (left.length === 0) return
    }
    yield* sql.withTransaction(run)
  })
}

/**
 * What differs between SQLite and PostgreSQL. All other SQL is the same text on both:
 *
 * - types: `TEXT`, `BIGINT` (numbers, booleans as 0 and 1, times in milliseconds since the epoch), `DOUBLE PRECISION`;
 *   JSON is `TEXT` that the program reads and writes
 * - `ON CONFLICT … DO …`, `RETURNING`, `WITH RECURSIVE`, `LIMIT` and `OFFSET` work on both
 * - `LIKE` is case-sensitive on one of them only: compare texts that are lower-case already
 */
import type { SqlClient } from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import type { Fragment } from "@effect/sql/Statement"
import * as Effect from "effect/Effect"
import { described } from "./failure.js"

/** What differs between the engines. */
export interface Dialect {
  /** The engine's name. */
  readonly name: "sqlite" | "postgres"
  /** What people call it. */
  readonly label: string
  /**
   * Inside a transaction: no other transaction that locks this name runs until this one ends. In SQLite every
   * transaction has the whole store to itself anyway.
   */
  readonly lock: (sql: SqlClient, name: string) => Effect.Effect<void, SqlError>
  /**
   * Ends once the transactions that were changing this row have ended. Without it, a read may miss what a process that is
   * gone has asked to commit.
   */
  readonly settled: (sql: SqlClient, table: string, id: string) => Effect.Effect<void, SqlError>
  /** The time in milliseconds since the epoch, by the one clock that all who use the store have. */
  readonly now: (sql: SqlClient) => Fragment
  /** Whether there is a table of this name. */
  readonly hasTable: (sql: SqlClient, name: string) => Effect.Effect<boolean, SqlError>
  /** Whether a column of JSON objects has a member with this value, which is JSON and holds no others. */
  readonly hasMember: (sql: SqlClient, column: string, name: string, json: string) => Fragment
  /** Whether the statement, or its transaction, did nothing because others were in its way: it may be tried again. */
  readonly isConflict: (error: SqlError) => boolean
  /** Whether a transaction that failed while it ended may be stored all the same: its answer was lost on the way. */
  readonly endsUncertain: boolean
}

/** The code of the driver's error. */
const codeOf = ({ cause }: SqlError): string => {
  const code: unknown = typeof cause === "object" && cause !== null && "code" in cause ? cause.code : undefined
  return typeof code === "string" ? code : ""
}

export const sqlite: Dialect = {
  name: "sqlite",
  label: "the SQLite file",
  lock: () => Effect.void,
  settled: () => Effect.void,
  now: (sql) => sql`CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)`,
  hasTable: (sql, name) =>
    Effect.map(sql`SELECT name FROM sqlite_master WHERE type = 'table' AND name = ${name}`, (rows) => rows.length > 0),
  hasMember: (sql, column, name, json) =>
    sql`EXISTS (SELECT 1 FROM json_each(${sql.literal(column)}) AS e
      WHERE e.key = ${name} AND e.type = json_type(${json}) AND e.value IS json_extract(${json}, '$'))`,
  isConflict: (error) => /^SQLITE_(BUSY|LOCKED)/.test(codeOf(error)) || /database is locked/.test(described(error)),
  endsUncertain: false
}

/** Serialization failure, deadlock, lock not available. */
const conflicts = new Set(["40001", "40P01", "55P03"])

export const postgres: Dialect = {
  name: "postgres",
  label: "PostgreSQL",
  lock: (sql, name) => sql`SELECT pg_advisory_xact_lock(hashtextextended(${`aicortex:${name}`}, 0))`,
  settled: (sql, table, id) => Effect.asVoid(sql`SELECT id FROM ${sql(table)} WHERE id = ${id} FOR SHARE`),
  now: (sql) => sql`CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)`,
  hasTable: (sql, name) =>
    Effect.map(sql`SELECT to_regclass(${name}) IS NOT NULL AS found`, (rows) => rows[0]?.["found"] === true),
  hasMember: (sql, column, name, json) => sql`(${sql.literal(column)}::jsonb -> ${name}::text) = ${json}::jsonb`,
  isConflict: (error) => conflicts.has(codeOf(error)),
  endsUncertain: true
}

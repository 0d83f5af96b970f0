/**
 * SQLite through libSQL: one file, several processes at once (WAL).
 *
 * The driver is synchronous, so that waiting for another process inside it would stop this whole one: a lock that is
 * taken is waited for here, between attempts. There are two connections: one for single statements, and one for
 * transactions, of which the client runs one at a time. What a transaction has written is on the disk when it ends; what
 * a single statement has written outlives the process, but the last of it not a loss of power.
 */
import { closeSync, existsSync, openSync } from "node:fs"
import { dirname, resolve } from "node:path"
import type { SqlClient } from "@effect/sql/SqlClient"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type Database from "libsql"
import { makeFolderSync } from "../internal/makeFolderSync.js"
import type { Channel } from "./channel.js"
import { absent, importing, NoPlace } from "./packages.js"

/** How long a lock of another process is waited for, in milliseconds. */
const busyTimeout = 15_000

/** The longest pause between two attempts to get a lock, in milliseconds. */
const maxPause = 20

/** How many statements a connection keeps compiled. */
const maxStatements = 256

const isBusy = (error: unknown): boolean =>
  error instanceof Error && "code" in error && typeof error.code === "string" && error.code.startsWith("SQLITE_BUSY")

/** Tries again while another process has the lock. */
const patient = async <A>(attempt: () => A): Promise<A> => {
  const until = performance.now() + busyTimeout
  for (let pause = 1; ; pause = Math.min(maxPause, pause * 2)) {
    try {
      return attempt()
    } catch (error) {
      if (!isBusy(error) || performance.now() > until) throw error
      // Of equal pauses some processes would never have luck.
      await new Promise((resume) => setTimeout(resume, pause * (0.5 + Math.random())))
    }
  }
}

/** As `@effect/sql-libsql` calls a client. */
interface Statement {
  readonly sql: string
  readonly args: ReadonlyArray<unknown>
}

const isRead = (sql: string): boolean => /^\s*(SELECT|PRAGMA|EXPLAIN)\b/i.test(sql) || isRecursiveRead(sql)
const isRecursiveRead = (sql: string): boolean => /^\s*WITH\b/i.test(sql) && !/\b(INSERT|UPDATE|DELETE)\b/i.test(sql)

/** One connection. */
class Connection {
  private readonly statements = new Map<string, Database.Statement>()

  constructor(private readonly database: Database.Database) {}

  exec(sql: string): void {
    this.database.exec(sql)
  }

  run({ args, sql }: Statement): { readonly rows: ReadonlyArray<unknown> } {
    const statement = this.prepared(sql)
    if (statement.reader) return { rows: statement.all(args) }
    statement.run(args)
    return { rows: [] }
  }

  /**
   * Begins to write. Not as a compiled statement: one that finds the file locked stays open, and what is written
   * afterwards would wait for it to end.
   */
  begin(): void {
    this.exec("BEGIN IMMEDIATE")
  }

  commit(): void {
    try {
      this.exec("COMMIT")
    } catch (error) {
      this.rollback()
      throw error
    }
  }

  rollback(): void {
    // After some errors SQLite has rolled back already.
    if (this.database.inTransaction) this.exec("ROLLBACK")
  }

  close(): void {
    this.statements.clear()
    this.database.close()
  }

  private prepared(sql: string): Database.Statement {
    const known = this.statements.get(sql)
    if (known !== undefined) return known
    const statement = this.database.prepare(sql)
    const [oldest] = this.statements.keys()
    if (this.statements.size >= maxStatements && oldest !== undefined) this.statements.delete(oldest)
    this.statements.set(sql, statement)
    return statement
  }
}

/** A single statement, on its own. */
const single = (connection: Connection, statement: Statement) => {
  if (isRead(statement.sql)) return connection.run(statement)
  connection.begin()
  try {
    const result = connection.run(statement)
    connection.commit()
    return result
  } catch (error) {
    connection.rollback()
    throw error
  }
}

const opened = (connection: Connection) => ({
  execute: async (statement: Statement) => connection.run(statement),
  commit: async () => connection.commit(),
  rollback: async () => connection.rollback()
})

/** A transaction that could not begin: the client takes an error only from its first statement. */
const failed = (error: unknown): ReturnType<typeof opened> => ({
  execute: () => Promise.reject(error),
  commit: () => Promise.reject(error),
  rollback: async () => {}
})

/** Both connections as the client that `@effect/sql-libsql` wants. */
const clientOf = (singles: Connection, transactions: Connection) => ({
  execute: (statement: Statement) => patient(() => single(singles, statement)),
  transaction: () =>
    patient(() => transactions.begin()).then(
      () => opened(transactions),
      (error: unknown) => failed(error)
    )
})

/**
 * How often new messages are looked for while others send some, and otherwise; how long after one they still may; how
 * long a message can be read. In milliseconds.
 */
const pollInterval = 50
const quietInterval = 200
const companyTime = 5_000
const messageLife = 10_000

/** Of more own messages that were not read is not known whose they are. */
const maxOwn = 1_000

interface Stored {
  readonly id: number
  readonly text: string
}

const newer = "SELECT id, text FROM aicortex_messages WHERE id > ? ORDER BY id"

/**
 * Messages as rows, which everybody looks for. A table of no value: its rows are gone after seconds. A look is a call of
 * the driver and no Effect, which would cost fifty times as much: an idle process did nothing else.
 */
const channelOver = (sql: SqlClient, read: (statement: Statement) => ReadonlyArray<unknown>): Channel => {
  const table =
    sql`CREATE TABLE IF NOT EXISTS aicortex_messages (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT NOT NULL, at BIGINT NOT NULL)`.pipe(
      Effect.asVoid
    )
  let sent = 0
  /** Numbers of the last messages of this process that it has not read yet. */
  const own = new Set<number>()
  return {
    send: (text) =>
      Effect.gen(function* () {
        const now = Date.now()
        const rows = yield* sql<{ id: number }>`INSERT INTO aicortex_messages (text, at) VALUES (${text}, ${now})
          RETURNING id`
        if (own.size >= maxOwn) own.clear()
        for (const { id } of rows) own.add(id)
        if (sent++ % 100 === 0) yield* sql`DELETE FROM aicortex_messages WHERE at < ${now - messageLife}`
      }),
    listen: (hear) =>
      Effect.gen(function* () {
        yield* table
        const [newest] = yield* sql<{ id: number }>`SELECT COALESCE(MAX(id), 0) AS id FROM aicortex_messages`
        let last = newest?.id ?? 0
        let inCompanyUntil = 0
        const take = (rows: ReadonlyArray<Stored>) => {
          for (const { id, text } of rows) {
            last = id
            if (!own.delete(id)) inCompanyUntil = performance.now() + companyTime
            hear(text)
          }
        }
        const untilFailure = Effect.async<void>((resume) => {
          let timer: ReturnType<typeof setTimeout>
          const wait = () => {
            timer = setTimeout(poll, performance.now() < inCompanyUntil ? pollInterval : quietInterval)
          }
          const poll = () => {
            try {
              take(read({ sql: newer, args: [last] }) as ReadonlyArray<Stored>)
            } catch (error) {
              if (!isBusy(error)) return resume(Effect.void)
            }
            wait()
          }
          wait()
          return Effect.sync(() => clearTimeout(timer))
        })
        // Its failure is one of the client's.
        const look = Effect.suspend(() =>
          Effect.map(sql<Stored>`SELECT id, text FROM aicortex_messages WHERE id > ${last} ORDER BY id`, take)
        )
        return yield* Effect.forever(Effect.zipRight(untilFailure, look))
      }),
    dropSilent: () => {}
  }
}

/**
 * Opens the file. Where there is none it is made, and only this user may read it; or, where nothing is to be made, what is
 * opened is empty and in memory.
 */
export const open = (
  path: string,
  makes: boolean
): Effect.Effect<{ readonly sql: SqlClient; readonly channel: Channel }, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const [Driver, Libsql, Reactivity] = yield* importing(() =>
      Promise.all([
        // Its types do not say that a CommonJS module is imported as its default.
        import("libsql")
          .catch(absent)
          .then((module) => (module as unknown as { readonly default: typeof Database }).default),
        import("@effect/sql-libsql/LibsqlClient").catch(absent),
        import("@effect/experimental/Reactivity").catch(absent)
      ])
    )
    const file = resolve(path)
    const isThere = makes || existsSync(file)
    const connect = (synchronous: "NORMAL" | "FULL") =>
      Effect.gen(function* () {
        const connection = yield* Effect.acquireRelease(
          Effect.try({ try: () => new Connection(new Driver(isThere ? file : ":memory:")), catch: (error) => error }),
          (made) => Effect.sync(() => made.close())
        )
        const prepare = () => {
          connection.exec("PRAGMA journal_mode = WAL")
          connection.exec(`PRAGMA synchronous = ${synchronous}`)
        }
        yield* Effect.tryPromise({ try: () => patient(prepare), catch: (error) => error })
        return connection
      })
    const make = Effect.try({
      try: () => {
        makeFolderSync(dirname(file), 0o700)
        closeSync(openSync(file, "a", 0o600))
      },
      catch: (error) => (existsSync(file) || !(error instanceof Error) ? error : new NoPlace(error.message))
    })
    if (isThere) yield* make
    const transactions = yield* connect("FULL")
    // What is in the memory of a connection is only there.
    const singles = isThere ? yield* connect("NORMAL") : transactions
    const liveClient = clientOf(singles, transactions)
    type Options = Parameters<typeof Libsql.make>[0]
    const client = Libsql.make({ liveClient } as unknown as Options)
    const sql = yield* Effect.provideServiceEffect(client, Reactivity.Reactivity, Reactivity.make)
    return { sql, channel: channelOver(sql, (statement) => singles.run(statement).rows) }
  })

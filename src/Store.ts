/**
 * State that outlives a process and is shared by many: one SQL database, SQLite in a file or PostgreSQL.
 *
 * Each engine is a package of its own, which is loaded when a store is first used: `@effect/sql-libsql` with
 * `libsql` for a file, `@effect/sql-pg` for PostgreSQL.
 *
 * A new table is a step in `store/migrations`; its queries are written once for both engines, over `use` for a single
 * statement and `transaction` for several:
 *
 * ```ts
 * import type * as Store from "aicortex/Store"
 *
 * export const count = (store: Store.Service) =>
 *   store.use((sql) => sql<{ n: number }>`SELECT COUNT(*) AS n FROM aicortex_sessions`)
 * ```
 *
 * @since 0.4.0
 */
import type { SqlClient } from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { InvalidConfig, StoreUnavailable } from "./Errors.js"
import { type Address, parse } from "./store/address.js"
import type { Channel } from "./store/channel.js"
import { type Dialect, postgres, sqlite } from "./store/dialect.js"
import { described, isSqlError } from "./store/failure.js"
import { migrate, NewerStore } from "./store/migrations.js"
import { isAbsent, MissingBinary, MissingPackage, NoPlace } from "./store/packages.js"
import * as Postgres from "./store/postgres.js"
import * as Sqlite from "./store/sqlite.js"

/**
 * A store. It is opened, and its tables are brought up to date, when it is first used; one that could not be opened is
 * tried again at the next use.
 *
 * @since 0.4.0
 * @category models
 */
export interface Service {
  /** The engine. */
  readonly engine: "sqlite" | "postgres"
  /** Opens the store now, to know whether it can be. */
  readonly open: Effect.Effect<void, StoreUnavailable>
  /**
   * Runs statements, each on its own. A conflict with others is retried, so its other effects must be repeatable.
   */
  readonly use: <A, E>(
    run: (sql: SqlClient, dialect: Dialect) => Effect.Effect<A, E>
  ) => Effect.Effect<A, Exclude<E, SqlError> | StoreUnavailable>
  /**
   * Runs statements so that all of them are done, or none; in SQLite one transaction at a time. When it succeeds, all
   * is stored, also where the power fails. It is tried again where others were in its way, so what it does besides must
   * be repeatable. A failure that is `uncertain` came while it ended: all of it may be stored, or none.
   */
  readonly transaction: <A, E>(
    run: (sql: SqlClient, dialect: Dialect) => Effect.Effect<A, E>
  ) => Effect.Effect<A, Exclude<E, SqlError> | StoreUnavailable>
  /** What the processes that use the store tell each other. */
  readonly messages: Messages
}

/**
 * Messages between the processes that use a store at the same time. None is stored: a process that is not connected
 * misses them.
 *
 * @since 0.5.0
 * @category models
 */
export interface Messages {
  /** Tells everybody who listens, this process included; at most 7,500 bytes. */
  readonly send: (text: string) => Effect.Effect<void, StoreUnavailable>
  /** Receives messages from now on, until it fails or is interrupted. */
  readonly listen: (hear: (text: string) => void) => Effect.Effect<void, StoreUnavailable>
  /** Ends the connections on which nothing has come for so many milliseconds. */
  readonly dropSilent: (silence: number) => void
}

/**
 * The tag of the store.
 *
 * @since 0.4.0
 * @category tags
 */
export class Store extends Context.Tag("aicortex/Store")<Store, Service>() {}

interface Opened {
  readonly sql: SqlClient
  readonly channel: Channel
  readonly dialect: Dialect
}

/** How often statements that were in the way of others are tried. */
const maxAttempts = 12

const dialects = { sqlite, postgres } as const

const connect = (address: Address, makes: boolean): Effect.Effect<Omit<Opened, "dialect">, unknown, Scope.Scope> =>
  address.kind === "sqlite" ? Sqlite.open(address.path, makes) : Postgres.open(address.url)

/**
 * How a store is opened.
 *
 * @since 0.5.0
 * @category models
 */
export interface MakeOptions {
  /**
   * Whether a SQLite file that is not there is made; default `true`. Without it such a store is empty and in memory.
   */
  readonly create?: boolean | undefined
}

/** The password of an address must not be in any message, also not in one of a driver. */
const concealing = (address: Address): ((text: string) => string) => {
  if (address.kind === "sqlite") return (text) => text
  const url = Redacted.value(address.url)
  const { password } = new URL(url)
  const secrets = [url, password, decodeURIComponent(password)].filter((secret) => secret !== "")
  return (text) => secrets.reduce((rest, secret) => rest.replaceAll(secret, "…"), text)
}

const reasonOf = (error: unknown, address: Address): string => {
  if (error instanceof MissingPackage || error instanceof MissingBinary || error instanceof NewerStore)
    return error.message
  if (error instanceof NoPlace && address.kind === "sqlite") {
    return `${address.path} cannot be made (${error.message}): let AICORTEX_STORE, or \`store\` in the configuration file, name another place, or memory`
  }
  const words = isSqlError(error) ? described(error) : error instanceof Error ? error.message : String(error)
  return address.kind === "sqlite"
    ? `${address.path} cannot be used (${words})`
    : `PostgreSQL does not serve (${words})`
}

/**
 * A store at this address: a path, `file:PATH`, or `postgres://user:password@host/database`. Fails with `InvalidConfig`
 * where it is none.
 *
 * @since 0.4.0
 * @category constructors
 */
export const make = Effect.fnUntraced(function* (
  given: string | Redacted.Redacted,
  { create = true }: MakeOptions = {}
): Effect.fn.Return<Service, InvalidConfig, Scope.Scope> {
  const parsed = parse(given)
  if (Either.isLeft(parsed)) {
    return yield* new InvalidConfig({ source: "the options", field: "store", reason: parsed.left })
  }
  const address = parsed.right
  const dialect = dialects[address.kind]
  const conceal = concealing(address)
  const scope = yield* Effect.scope
  const permit = yield* Effect.makeSemaphore(1)
  let opened: Opened | undefined

  const unavailable = (error: unknown, uncertain = false) =>
    error instanceof StoreUnavailable
      ? error
      : new StoreUnavailable({
          reason: conceal(reasonOf(error, address)),
          uncertain,
          ...(isAbsent(error) ? { absent: true } : {})
        })

  const openNow = Effect.gen(function* () {
    if (opened !== undefined) return opened
    const own = yield* Scope.fork(scope, { _tag: "Sequential" })
    opened = yield* Scope.extend(connect(address, create), own).pipe(
      Effect.tap(({ sql }) => migrate(sql, dialect)),
      Effect.map((connected) => ({ ...connected, dialect })),
      Effect.catchAllCause((cause) => Effect.fail(Cause.squash(cause))),
      Effect.onExit((exit) => (Exit.isSuccess(exit) ? Effect.void : Scope.close(own, exit)))
    )
    return opened
  }).pipe(Effect.uninterruptible, permit.withPermits(1))

  const open: Effect.Effect<Opened, StoreUnavailable> = Effect.suspend(() =>
    opened === undefined ? Effect.mapError(openNow, (error) => unavailable(error)) : Effect.succeed(opened)
  )

  /** Tries again what was in the way of others, after a pause that differs from theirs. */
  const repeated = <A, E>(effect: Effect.Effect<A, E>) => {
    const attempt = (left: number, pause: number): Effect.Effect<A, E> =>
      Effect.catchAll(effect, (error) =>
        left > 0 && isSqlError(error) && dialect.isConflict(error)
          ? Effect.flatMap(Random.nextRange(pause / 2, pause), (time) =>
              Effect.zipRight(Effect.sleep(time), attempt(left - 1, Math.min(pause * 2, 200)))
            )
          : Effect.fail(error)
      )
    return attempt(maxAttempts - 1, 4)
  }

  const typed = <A, E>(effect: Effect.Effect<A, E>, uncertain: () => boolean) =>
    effect.pipe(
      // A connection that is lost at the end of a transaction.
      Effect.catchAllDefect((defect) => (isSqlError(defect) ? Effect.fail(defect) : Effect.die(defect))),
      Effect.mapError((error) =>
        isSqlError(error) ? unavailable(error, uncertain()) : (error as Exclude<E, SqlError>)
      )
    )

  const overChannel = (run: (channel: Channel) => Effect.Effect<void, SqlError>) =>
    Effect.flatMap(open, ({ channel }) => typed(repeated(run(channel)), () => false))

  return {
    engine: address.kind,
    messages: {
      send: (text) => overChannel((channel) => channel.send(text)),
      listen: (hear) => overChannel((channel) => channel.listen(hear)),
      dropSilent: (silence) => opened?.channel.dropSilent(silence)
    },
    open: Effect.asVoid(open),
    use: (run) => Effect.flatMap(open, ({ sql }) => typed(repeated(run(sql, dialect)), () => false)),
    transaction: (run) =>
      Effect.flatMap(open, ({ sql }) => {
        let ending = false
        const once = Effect.suspend(() => {
          ending = false
          return sql.withTransaction(
            Effect.tap(run(sql, dialect), () => {
              ending = true
              return Effect.void
            })
          )
        })
        return typed(repeated(once), () => ending && dialect.endsUncertain)
      })
  }
})

/**
 * A store at this address, as a layer.
 *
 * @since 0.4.0
 * @category layers
 */
export const layer = (address: string | Redacted.Redacted): Layer.Layer<Store, InvalidConfig> =>
  Layer.scoped(Store, make(address))

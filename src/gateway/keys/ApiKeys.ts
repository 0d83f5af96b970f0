/**
 * API keys that are made at run time, in the store. Only a hash of a key is stored: the key itself is shown once, when
 * it is made or rotated.
 *
 * Each change gives its row the next version, so caches of the keys read only what has changed.
 */
import type { SqlClient } from "@effect/sql/SqlClient"
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"
import type { StoreUnavailable } from "../../Errors.js"
import type * as Store from "../../Store.js"
import type { Dialect } from "../../store/dialect.js"
import * as Policy from "./keyPolicy.js"
import * as Secret from "./secret.js"

/** A key, without anything that it could be used with. Times are in milliseconds since the epoch. */
export interface ApiKey extends Policy.KeyPolicy {
  /** It is also in the key's text. */
  readonly id: string
  readonly name: string
  readonly createdAt: number
  readonly expiresAt?: number | undefined
  readonly rotatedAt?: number | undefined
  /** Until when the key before the last rotation is valid. */
  readonly previousUntil?: number | undefined
  readonly revokedAt?: number | undefined
}

/** A key and its text, which is not stored. */
export interface CreatedKey {
  readonly key: ApiKey
  readonly secret: Redacted.Redacted
}

/** What a gateway keeps in memory of a key. */
export interface StoredKey {
  readonly key: ApiKey
  readonly version: number
  readonly hash: Buffer
  readonly previousHash: Buffer | undefined
}

/** A key cannot be made, found or changed. */
export class KeyRefused extends Data.TaggedError("KeyRefused")<{
  readonly code: "invalid_key_field" | "key_name_taken" | "key_not_found" | "key_revoked"
  readonly field: string
  readonly reason: string
}> {
  override get message(): string {
    return this.reason
  }
}

interface Row {
  readonly id: string
  readonly name: string
  readonly hash: string
  readonly previous_hash: string | null
  readonly previous_until: number | null
  readonly policy: string
  readonly created_at: number
  readonly expires_at: number | null
  readonly rotated_at: number | null
  readonly revoked_at: number | null
  readonly version: number
}

const keyOf = (row: Row): ApiKey => ({
  ...Policy.decode(row.policy),
  id: row.id,
  name: row.name,
  createdAt: row.created_at,
  expiresAt: row.expires_at ?? undefined,
  rotatedAt: row.rotated_at ?? undefined,
  previousUntil: row.previous_until ?? undefined,
  revokedAt: row.revoked_at ?? undefined
})

const storedOf = (row: Row): StoredKey => ({
  key: keyOf(row),
  version: row.version,
  hash: Buffer.from(row.hash, "hex"),
  previousHash: row.previous_hash === null ? undefined : Buffer.from(row.previous_hash, "hex")
})

/** `expired` and `revoked` are no longer valid. */
export const stateOf = ({ expiresAt, revokedAt }: ApiKey, now: number): "active" | "expired" | "revoked" =>
  revokedAt !== undefined ? "revoked" : expiresAt !== undefined && expiresAt <= now ? "expired" : "active"

/** Keys in a store. A key is named by its id, or by its name while it is not revoked. */
export interface ApiKeys {
  readonly create: (given: Policy.NewKey) => Effect.Effect<CreatedKey, KeyRefused | StoreUnavailable>
  /** Those that are not revoked, or `all`; by name. */
  readonly list: (options: { readonly all: boolean }) => Effect.Effect<ReadonlyArray<ApiKey>, StoreUnavailable>
  readonly show: (named: string) => Effect.Effect<ApiKey, KeyRefused | StoreUnavailable>
  /** It is no longer valid; its name is free again. A key that is revoked already stays so. */
  readonly revoke: (named: string) => Effect.Effect<ApiKey, KeyRefused | StoreUnavailable>
  /** Another text for the same key; the one before stays valid for `grace` milliseconds. */
  readonly rotate: (named: string, grace: number) => Effect.Effect<CreatedKey, KeyRefused | StoreUnavailable>
  /** What has changed after this version, in the order of versions. */
  readonly changes: (after: number) => Effect.Effect<ReadonlyArray<StoredKey>, StoreUnavailable>
}

const find = Effect.fnUntraced(function* (sql: SqlClient, named: string) {
  const [row] = yield* sql<Row>`SELECT * FROM aicortex_keys
    WHERE id = ${named} OR (name = ${named} AND revoked_at IS NULL)
    ORDER BY CASE WHEN id = ${named} THEN 0 ELSE 1 END LIMIT 1`
  if (row !== undefined) return row
  // A key that was given by mistake must not be in a message.
  const shown = named.startsWith("sk-") ? "with this text; give its name or its id" : `'${named.slice(0, 100)}'`
  return yield* new KeyRefused({ code: "key_not_found", field: "id", reason: `There is no API key ${shown}.` })
})

/** The version of a change. The lock makes versions visible in their order. */
const nextVersion = Effect.fnUntraced(function* (sql: SqlClient, dialect: Dialect) {
  yield* dialect.lock(sql, "keys")
  const [row] = yield* sql<{ version: number }>`SELECT COALESCE(MAX(version), 0) + 1 AS version FROM aicortex_keys`
  return row?.version ?? 1
})

export const make = (store: Store.Service): ApiKeys => ({
  create: (given) =>
    Effect.gen(function* () {
      const wrong = Policy.checked(given)
      if (Either.isLeft(wrong)) return yield* new KeyRefused({ code: "invalid_key_field", ...wrong.left })
      const now = yield* Clock.currentTimeMillis
      const { id, secret } = Secret.make()
      const expiresAt = given.expiresIn === undefined ? null : now + given.expiresIn
      const row = yield* store.transaction((sql, dialect) =>
        Effect.gen(function* () {
          const version = yield* nextVersion(sql, dialect)
          const taken = yield* sql`SELECT id FROM aicortex_keys WHERE name = ${given.name} AND revoked_at IS NULL`
          if (taken.length > 0) {
            const reason = `There is an API key '${given.name}' already: revoke it, or take another name.`
            return yield* new KeyRefused({ code: "key_name_taken", field: "name", reason })
          }
          const [row] =
            yield* sql<Row>`INSERT INTO aicortex_keys (id, name, hash, policy, created_at, expires_at, version)
            VALUES (${id}, ${given.name}, ${Secret.hashOf(secret)}, ${Policy.encode(given)}, ${now}, ${expiresAt}, ${version})
            RETURNING *`
          return row as Row
        })
      )
      return { key: keyOf(row), secret: Redacted.make(secret) }
    }),
  list: ({ all }) =>
    store.use((sql) =>
      Effect.map(
        all
          ? sql<Row>`SELECT * FROM aicortex_keys ORDER BY name, created_at, id`
          : sql<Row>`SELECT * FROM aicortex_keys WHERE revoked_at IS NULL ORDER BY name, id`,
        (rows) => rows.map(keyOf)
      )
    ),
  show: (named) => store.use((sql) => Effect.map(find(sql, named), keyOf)),
  revoke: (named) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) =>
      store.transaction((sql, dialect) =>
        Effect.gen(function* () {
          const version = yield* nextVersion(sql, dialect)
          const row = yield* find(sql, named)
          if (row.revoked_at !== null) return keyOf(row)
          yield* sql`UPDATE aicortex_keys SET revoked_at = ${now}, version = ${version} WHERE id = ${row.id}`
          return keyOf({ ...row, revoked_at: now })
        })
      )
    ),
  rotate: (named, grace) =>
    Effect.gen(function* () {
      const now = yield* Clock.currentTimeMillis
      const until = grace > 0 ? now + grace : null
      const rotated = yield* store.transaction((sql, dialect) =>
        Effect.gen(function* () {
          const version = yield* nextVersion(sql, dialect)
          const row = yield* find(sql, named)
          if (row.revoked_at !== null) {
            const reason = `The API key '${row.name}' is revoked: make a new one.`
            return yield* new KeyRefused({ code: "key_revoked", field: "id", reason })
          }
          const secret = Secret.ofId(row.id)
          const previous = until === null ? null : row.hash
          yield* sql`UPDATE aicortex_keys SET hash = ${Secret.hashOf(secret)}, previous_hash = ${previous},
            previous_until = ${until}, rotated_at = ${now}, version = ${version} WHERE id = ${row.id}`
          return { row: { ...row, rotated_at: now, previous_until: until }, secret }
        })
      )
      return { key: keyOf(rotated.row), secret: Redacted.make(rotated.secret) }
    }),
  changes: (after) =>
    store.use((sql) =>
      Effect.map(sql<Row>`SELECT * FROM aicortex_keys WHERE version > ${after} ORDER BY version`, (rows) =>
        rows.map(storedOf)
      )
    )
})

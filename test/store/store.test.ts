import { readdirSync, statSync } from "node:fs"
import { join } from "node:path"
import { Store } from "aicortex"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { afterAll, afterEach, assert, beforeAll, describe, it } from "vitest"
import { parse } from "../../src/store/address.js"
import { postgres, sqlite } from "../../src/store/dialect.js"
import { type Migration, migrate, migrations } from "../../src/store/migrations.js"
import { type Database, engines, secretOfTests } from "../support/databases.js"

const run = <A, E>(effect: Effect.Effect<A, E>): Promise<A> => Effect.runPromise(effect)
const failure = <A, E>(effect: Effect.Effect<A, E>): Promise<E> => Effect.runPromise(Effect.flip(effect))

for (const engine of engines) {
  describe(`a store in ${engine.name}`, () => {
    let database: Database
    let scope: Scope.CloseableScope
    beforeAll(async () => {
      database = await engine.start()
    })
    afterAll(() => database.close())
    afterEach(() => run(Scope.close(scope, Exit.void)))
    const open = async (address?: string) => {
      scope ??= Effect.runSync(Scope.make())
      return run(Scope.extend(Store.make(address ?? (await database.address())), scope))
    }
    const fresh = async (address?: string) => {
      scope = Effect.runSync(Scope.make())
      return open(address)
    }

    it("is opened concurrently, and its tables are created once", async () => {
      const address = await database.address()
      scope = Effect.runSync(Scope.make())
      const stores = await Promise.all(Array.from({ length: 6 }, () => open(address)))
      await Promise.all(stores.map((store) => run(store.open)))
      const [first] = stores
      const rows = await run(
        (first as Store.Service).use((sql) => sql`SELECT id, name FROM aicortex_migrations ORDER BY id`)
      )
      assert.deepEqual(
        rows.map(({ id }) => id),
        migrations.map(({ id }) => id)
      )
    })

    it("numbers, texts and null are read back unchanged", async () => {
      const store = await fresh()
      await run(store.use((sql) => sql.unsafe("CREATE TABLE kinds (a BIGINT, b TEXT, c DOUBLE PRECISION, d TEXT)")))
      const values = [
        [2 ** 53 - 1, "你好 👋 '\" \\ %", 0.1, null],
        [-1, "", -1e300, "{}"],
        [0, "line\nline\ttab", 0, '{"a":"\\u0000"}']
      ] as const
      for (const [a, b, c, d] of values) {
        await run(store.use((sql) => sql`INSERT INTO kinds (a, b, c, d) VALUES (${a}, ${b}, ${c}, ${d})`))
      }
      const rows = await run(store.use((sql) => sql`SELECT a, b, c, d, COUNT(*) OVER () AS n FROM kinds`))
      assert.deepEqual(
        rows.map(({ a, b, c, d, n }) => [a, b, c, d, n]),
        values.map((row) => [...row, 3])
      )
    })

    it("a transaction is atomic, and others continue after a failed one", async () => {
      const store = await fresh()
      await run(store.use((sql) => sql.unsafe("CREATE TABLE words (word TEXT PRIMARY KEY)")))
      const insert = (word: string) => store.transaction((sql) => sql`INSERT INTO words (word) VALUES (${word})`)
      await run(insert("a"))
      const broken = store.transaction((sql) =>
        Effect.zipRight(sql`INSERT INTO words (word) VALUES ('b')`, sql`INSERT INTO words (word) VALUES ('a')`)
      )
      const error = await failure(broken)
      assert.strictEqual(error._tag, "StoreUnavailable")
      assert.isFalse(error.uncertain)
      const own = store.transaction((sql) =>
        Effect.zipRight(sql`INSERT INTO words (word) VALUES ('c')`, Effect.fail("no" as const))
      )
      assert.strictEqual(await failure(own), "no")
      const interrupted = store.transaction((sql) =>
        Effect.zipRight(sql`INSERT INTO words (word) VALUES ('d')`, Effect.never)
      )
      assert.isTrue(
        Either.isLeft(
          await run(Effect.either(Effect.timeoutFail(interrupted, { duration: 50, onTimeout: () => "late" })))
        )
      )
      await run(insert("e"))
      const rows = await run(store.use((sql) => sql<{ word: string }>`SELECT word FROM words ORDER BY word`))
      assert.deepEqual(
        rows.map(({ word }) => word),
        ["a", "e"]
      )
    })

    it("transactions that read and then write are isolated", async () => {
      const address = await database.address()
      scope = Effect.runSync(Scope.make())
      const stores = await Promise.all([open(address), open(address), open(address)])
      const [first] = stores
      await run(
        (first as Store.Service).use((sql) =>
          Effect.zipRight(sql.unsafe("CREATE TABLE counter (n BIGINT)"), sql.unsafe("INSERT INTO counter VALUES (0)"))
        )
      )
      const increment = (store: Store.Service) =>
        store.transaction((sql, dialect) =>
          Effect.gen(function* () {
            yield* dialect.lock(sql, "counter")
            const [row] = yield* sql<{ n: number }>`SELECT n FROM counter`
            yield* Effect.yieldNow()
            yield* sql`UPDATE counter SET n = ${(row?.n ?? 0) + 1}`
          })
        )
      await Promise.all(stores.flatMap((store) => Array.from({ length: 20 }, () => run(increment(store)))))
      const [row] = await run((first as Store.Service).use((sql) => sql<{ n: number }>`SELECT n FROM counter`))
      assert.strictEqual(row?.n, 60)
    })

    const dialect = engine.kind === "sqlite" ? sqlite : postgres
    const added: Migration = {
      id: Math.max(...migrations.map(({ id }) => id)) + 10,
      name: "later",
      least: 1,
      statements: ["CREATE TABLE IF NOT EXISTS later (id TEXT PRIMARY KEY)"]
    }

    it("versions one migration apart can share it, and a migration that excludes older ones says so", async () => {
      const address = await database.address()
      const store = await fresh(address)
      await run(store.open)
      const newer = (steps: ReadonlyArray<Migration>) => run(store.use((sql) => migrate(sql, dialect, steps)))
      await newer([...migrations, added])
      await newer([...migrations, added])
      await run(store.use((sql) => sql`INSERT INTO later (id) VALUES ('x')`))
      // The older version, started after the newer one.
      await run((await open(address)).open)
      await newer([...migrations, added, { ...added, id: added.id + 1, least: added.id + 1, statements: [] }])
      const error = await failure((await open(address)).open)
      assert.strictEqual(error._tag, "StoreUnavailable")
      assert.match(error.reason, /newer version of aicortex/)
    })

    it("a migration with a smaller number that was added later runs once, and processes without it continue", async () => {
      const address = await database.address()
      const store = await fresh(address)
      const late = { ...added, id: added.id - 1, name: "late", statements: ["CREATE TABLE late (id TEXT)"] }
      await run(store.use((sql) => migrate(sql, dialect, [...migrations, added])))
      for (let i = 0; i < 2; i++) await run(store.use((sql) => migrate(sql, dialect, [...migrations, late, added])))
      assert.isTrue(await run(store.use((sql, { hasTable }) => hasTable(sql, "late"))))
      await run((await open(address)).open)
    })

    it("a failed migration is rolled back, and runs the next time", async () => {
      const store = await fresh()
      await run(store.open)
      const broken = { ...added, statements: ["CREATE TABLE half (id TEXT)", "CREATE TABLE nonsense ("] }
      const outcome = await run(Effect.either(store.use((sql) => migrate(sql, dialect, [...migrations, broken]))))
      assert.isTrue(Either.isLeft(outcome))
      assert.isFalse(await run(store.use((sql, { hasTable }) => hasTable(sql, "half"))))
      await run(store.use((sql) => migrate(sql, dialect, [...migrations, added])))
      assert.isTrue(await run(store.use((sql, { hasTable }) => hasTable(sql, "later"))))
    })
  })
}

describe("an unusable store", () => {
  const make = (address: string) =>
    run(Effect.scoped(Effect.flatMap(Store.make(address), ({ open }) => Effect.either(open))))

  it("the error says why, without the password, and the store is tried again", async () => {
    for (const address of [
      `postgres://aicortex:${secretOfTests}@127.0.0.1:1/x`,
      `postgresql://aicortex:${secretOfTests}@localhost:1/x?sslmode=disable`
    ]) {
      const outcome = await make(address)
      const error = Either.getOrThrow(Either.flip(outcome))
      assert.strictEqual(error._tag, "StoreUnavailable")
      assert.match(error.reason, /PostgreSQL does not serve \(.*ECONNREFUSED/)
      assert.notInclude(JSON.stringify(error) + error.message + String(error.stack), secretOfTests)
    }
    const folder = await make("/dev/null/store.db")
    assert.include(Either.getOrThrow(Either.flip(folder)).reason, "/dev/null/store.db")
  })

  it("an address of another kind is an invalid setting", async () => {
    for (const address of [
      "mysql://a:b@c/d",
      "http://x",
      "libsql://db.example",
      "",
      "  ",
      "file:",
      "file://host/x",
      "a\u0000b"
    ]) {
      const error = await failure(Effect.scoped(Store.make(address)))
      assert.strictEqual(error._tag, "InvalidConfig", address)
      assert.strictEqual(error.field, "store")
      if (address.includes("@")) assert.notInclude(error.message, "a:b")
    }
  })

  it("file paths are accepted in any usual form", () => {
    const path = (address: string) => {
      const parsed = Either.getOrThrow(parse(address))
      return parsed.kind === "sqlite" ? parsed.path : "postgres"
    }
    assert.strictEqual(path("file:/a/b.db"), "/a/b.db")
    assert.strictEqual(path("file:///a/b.db"), "/a/b.db")
    assert.strictEqual(path("file:b.db"), "b.db")
    assert.strictEqual(path("file:/a%20b/c.db"), "/a b/c.db")
    assert.strictEqual(path("/a b/c#1?.db"), "/a b/c#1?.db")
    assert.strictEqual(path("C:\\a\\b.db"), "C:\\a\\b.db")
    assert.strictEqual(path("POSTGRES://u@h/d"), "postgres")
  })
})

describe("a file", () => {
  it("is readable by its user only", async () => {
    const [engine] = engines
    const database = await (engine ?? assert.fail("SQLite")).start()
    try {
      const address = await database.address()
      const folder = join(address, "..", "inner")
      const file = join(folder, "store.db")
      await run(Effect.scoped(Effect.flatMap(Store.make(file), ({ open }) => open)))
      assert.strictEqual(statSync(folder).mode & 0o077, 0)
      for (const name of readdirSync(folder)) assert.strictEqual(statSync(join(folder, name)).mode & 0o077, 0, name)
    } finally {
      await database.close()
    }
  })
})

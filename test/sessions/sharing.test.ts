import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { afterAll, assert, describe, it } from "vitest"
import { assistant, type Message, user } from "../../src/Message.js"
import * as Sessions from "../../src/Sessions.js"
import * as Store from "../../src/Store.js"
import * as SessionSql from "../../src/sessions/sql.js"

const home = mkdtempSync(join(tmpdir(), "aicortex-sharing-"))
const scope = Effect.runSync(Scope.make())
afterAll(async () => {
  await Effect.runPromise(Scope.close(scope, Exit.void))
  rmSync(home, { recursive: true, force: true })
})
let count = 0

const run = <A, E>(effect: Effect.Effect<A, E>): Promise<A> => Effect.runPromise(effect)
const inStore = (options: SessionSql.SqlStoreOptions) =>
  run(
    Store.make(join(home, `${count++}.db`)).pipe(
      Scope.extend(scope),
      Effect.flatMap((store) => SessionSql.make(store, options))
    )
  )

/** An id as `Sessions.create` makes them. */
const id = (owner: string, n: number) => `${owner}${n.toString(16).padStart(16, "0")}`
const say = (word: string): ReadonlyArray<Message> => [user(word), assistant(`re: ${word}`)]

const kinds: ReadonlyArray<readonly [string, (options: SessionSql.SqlStoreOptions) => Promise<Sessions.Store>]> = [
  ["memory", (options) => run(Sessions.makeStoreMemory(options))],
  ["a store", inStore]
]

for (const [kind, open] of kinds) {
  describe(`conversations of several owners in ${kind}`, () => {
    const alive = async (store: Sessions.Store, ids: ReadonlyArray<string>) => {
      const found = await Promise.all(ids.map((one) => run(store.load(one))))
      return ids.filter((_, i) => Option.isSome(found[i] as Option.Option<unknown>))
    }

    it("an owner that keeps creating conversations evicts only its own", async () => {
      const store = await open({ maxSessions: 40 })
      const good = Array.from({ length: 20 }, (_, n) => id("good-", n))
      for (const one of good) {
        await run(store.create(one))
        assert.isTrue(await run(store.append(one, 0, say("hello"))))
      }
      const flood = Array.from({ length: 100 }, (_, n) => id("flood-", n))
      for (const one of flood) assert.isTrue(await run(store.create(one)))
      assert.deepEqual(await alive(store, good), good)
      assert.deepEqual(await alive(store, flood), flood.slice(-20))
    })

    it("an owner that keeps writing evicts only its own", async () => {
      const store = await open({ maxBytes: 64_000 })
      const good = Array.from({ length: 4 }, (_, n) => id("good-", n))
      for (const one of good) {
        await run(store.create(one))
        assert.isTrue(await run(store.append(one, 0, say("x".repeat(2_000)))))
      }
      for (let n = 0; n < 40; n++) {
        await run(store.create(id("flood-", n)))
        await run(store.append(id("flood-", n), 0, say("x".repeat(5_000))))
      }
      assert.deepEqual(await alive(store, good), good)
    })

    it("an owner without any can store one although another one holds all", async () => {
      const store = await open({ maxSessions: 32 })
      const first = Array.from({ length: 32 }, (_, n) => id("first-", n))
      for (const one of first) await run(store.create(one))
      const late = [id("late-", 0), id("late-", 1)]
      for (const one of late) await run(store.create(one))
      // It lost no more than the other's reserve, and the late owner keeps what it has.
      for (let n = 2; n < 20; n++) await run(store.create(id("late-", n)))
      assert.isAtLeast((await alive(store, first)).length, 30)
      assert.isTrue((await alive(store, [id("late-", 19), id("late-", 18)])).length === 2)
    })

    it("a conversation that would take all space is refused, and the others remain", async () => {
      const store = await open({ maxBytes: 64_000 })
      const good = Array.from({ length: 5 }, (_, n) => id("good-", n))
      for (const one of good) {
        await run(store.create(one))
        await run(store.append(one, 0, say("x".repeat(2_000))))
      }
      await run(store.create(id("long-", 0)))
      const refusals: Array<string> = []
      for (let version = 0; version < 12 && refusals.length === 0; version++) {
        const added = await run(Effect.either(store.append(id("long-", 0), version, say("x".repeat(5_000)))))
        if (added._tag === "Left") refusals.push(added.left.reason)
        else assert.isTrue(added.right)
      }
      assert.match(refusals[0] ?? "", /all room for conversations is taken/)
      assert.deepEqual(await alive(store, good), good)
    })

    it("a single owner loses its oldest", async () => {
      const store = await open({ maxSessions: 3 })
      for (let n = 0; n < 5; n++) await run(store.create(id("", n)))
      assert.lengthOf(await run(store.list()), 3)
    })
  })
}

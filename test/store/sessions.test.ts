import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { afterAll, afterEach, assert, beforeAll, beforeEach, describe, it } from "vitest"
import { StoreUnavailable } from "../../src/Errors.js"
import { assistant, type Message, text, user } from "../../src/Message.js"
import * as Sessions from "../../src/Sessions.js"
import * as Store from "../../src/Store.js"
import * as SessionSql from "../../src/sessions/sql.js"
import { type Database, engines } from "../support/databases.js"
import { eventually } from "../support/gateway.js"

const run = <A, E>(effect: Effect.Effect<A, E>): Promise<A> => Effect.runPromise(effect)
const say = (word: string): ReadonlyArray<Message> => [user(word), assistant(`re: ${word}`)]
const id = (owner: string, n: number) => `${owner}${n.toString(16).padStart(16, "0")}`

/** Stands still until a test moves it. */
const makeClock = () => {
  let time = 1_000_000
  const clock: Clock.Clock = { ...Clock.make(), unsafeCurrentTimeMillis: () => time }
  return {
    clock,
    advance: (milliseconds: number) => {
      time += milliseconds
    }
  }
}

for (const engine of engines) {
  describe(`conversations in ${engine.name}`, () => {
    let database: Database
    let scope: Scope.CloseableScope
    beforeAll(async () => {
      database = await engine.start()
    })
    afterAll(() => database.close())
    beforeEach(() => {
      scope = Effect.runSync(Scope.make())
    })
    afterEach(() => run(Scope.close(scope, Exit.void)))
    const storeAt = (address: string) => run(Scope.extend(Store.make(address), scope))
    const open = async (options: SessionSql.SqlStoreOptions = {}, address?: string, clock = Clock.make()) =>
      run(Effect.withClock(SessionSql.make(await storeAt(address ?? (await database.address())), options), clock))
    const said = async (store: Sessions.Store, one: string) =>
      Option.map(await run(store.load(one)), ({ messages }) => messages.map(text)).pipe(Option.getOrUndefined)
    const alive = async (store: Sessions.Store, ids: ReadonlyArray<string>) => {
      const found = await Promise.all(ids.map((one) => run(store.load(one))))
      return ids.filter((_, i) => Option.isSome(found[i] as Option.Option<unknown>))
    }

    it("a turn whose commit is lost fails after a second attempt if it is not stored", async () => {
      const sound = await storeAt(await database.address())
      let attempts = 0
      let losing = false
      const store: Store.Service = {
        ...sound,
        transaction: (statements) =>
          sound.transaction((sql, dialect) =>
            Effect.tap(statements(sql, dialect), (done) =>
              losing && Object.is(done, true) && ++attempts
                ? new StoreUnavailable({ reason: "the line was cut", uncertain: true })
                : Effect.void
            )
          )
      }
      const sessions = await run(SessionSql.make(store))
      assert.isTrue(await run(sessions.create(id("a", 1))))
      losing = true
      attempts = 0
      const lost = await run(Effect.either(sessions.append(id("a", 1), 0, say("one"))))
      assert.isTrue(Either.isLeft(lost) && /the line was cut/.test(lost.left.reason))
      assert.strictEqual(attempts, 2)
      assert.deepEqual(await said(sessions, id("a", 1)), [])
      losing = false
      assert.isTrue(await run(sessions.append(id("a", 1), 0, say("two"))))
    })

    it.skipIf(engine.name !== "PostgreSQL")("a turn that is being stored is read once it is stored", async () => {
      const address = await database.address()
      const [sound, other] = [await storeAt(address), await storeAt(address)]
      const written = Effect.runSync(Deferred.make<void>())
      const mayCommit = Effect.runSync(Deferred.make<void>())
      const slow: Store.Service = {
        ...sound,
        transaction: (statements) =>
          sound.transaction((sql, dialect) =>
            Effect.tap(statements(sql, dialect), () =>
              Effect.zipRight(Deferred.succeed(written, undefined), Deferred.await(mayCommit))
            )
          )
      }
      assert.isTrue(await run((await run(SessionSql.make(sound))).create(id("a", 1))))
      const appended = run((await run(SessionSql.make(slow))).append(id("a", 1), 0, say("one")))
      await run(Deferred.await(written))
      let isRead = false
      const read = run((await run(SessionSql.make(other))).read(id("a", 1))).finally(() => {
        isRead = true
      })
      await eventually(async () => {
        const waiting = await run(
          other.use(
            (sql) =>
              sql`SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`
          )
        )
        return isRead || waiting.length === 1
      }, "a read that waits")
      assert.isFalse(isRead)
      await run(Deferred.succeed(mayCommit, undefined))
      assert.isTrue(await appended)
      assert.deepEqual(
        Option.map(await read, ({ turns }) => turns.map(({ messages }) => messages.map(text))),
        Option.some([["one", "re: one"]])
      )
    })

    it("store everything that a message may contain, for other processes", async () => {
      const address = await database.address()
      const store = await open({}, address)
      const messages: ReadonlyArray<Message> = [
        {
          role: "user",
          content: [
            { type: "text", text: "你好 👋\u0000 \ud800" },
            { type: "image", data: "AAAA", mediaType: "image/png" }
          ]
        },
        {
          role: "assistant",
          content: "",
          thinking: "Hm",
          toolCalls: [{ id: "1", name: "sky", arguments: { a: [1, null] } }]
        },
        { role: "tool", content: "blue", toolCallId: "1", toolName: "sky" },
        { role: "assistant", content: "Blue." }
      ]
      assert.isTrue(await run(store.create("a")))
      assert.isFalse(await run(store.create("a")))
      assert.deepEqual(await run(store.load("a")), Option.some({ version: 0, messages: [] }))
      assert.isTrue(await run(store.append("a", 0, messages)))
      const again = await open({}, address)
      assert.deepEqual(await run(again.load("a")), Option.some({ version: 1, messages }))
      assert.deepEqual(await run(again.load("b")), Option.none())
    })

    it("accept a turn only from a caller that knows the last one", async () => {
      const address = await database.address()
      const [one, two] = [await open({}, address), await open({}, address)]
      await run(one.create("a"))
      assert.isTrue(await run(one.append("a", 0, say("1"))))
      for (const version of [0, 2, 7, -1]) assert.isFalse(await run(two.append("a", version, say("late"))))
      assert.isTrue(await run(two.append("a", 1, say("2"))))
      assert.deepEqual(await said(one, "a"), ["1", "re: 1", "2", "re: 2"])
      assert.isFalse(await run(one.append("nobody", 0, say("x"))))
      assert.isTrue(await run(two.reset("a")))
      assert.deepEqual(await said(one, "a"), [])
      for (let version = 0; version < 3; version++) assert.isFalse(await run(one.append("a", version, say("late"))))
      assert.isTrue(await run(one.append("a", 3, say("new"))))
      assert.isTrue(await run(two.remove("a")))
      for (const gone of [one.remove("a"), one.reset("a"), one.append("a", 4, say("x"))])
        assert.isFalse(await run(gone))
    })

    it("an invalid id is refused, or unknown", async () => {
      const store = await open()
      for (const wrong of ["", "a\u0000b", "x".repeat(600)]) {
        assert.isTrue(Either.isLeft(await run(Effect.either(store.create(wrong)))))
        assert.deepEqual(await run(store.load(wrong)), Option.none())
        assert.isFalse(await run(store.append(wrong, 0, say("x"))))
        assert.isFalse(await run(store.reset(wrong)))
        assert.isFalse(await run(store.remove(wrong)))
      }
      const odd = "'; DROP TABLE aicortex_turns; -- %_😀"
      assert.isTrue(await run(store.create(odd)))
      assert.isTrue(await run(store.append(odd, 0, say("x"))))
      assert.deepEqual(await said(store, odd), ["x", "re: x"])
      assert.lengthOf(await run(store.list({ prefix: "'; DROP" })), 1)
      assert.lengthOf(await run(store.list({ prefix: "%" })), 0)
    })

    it("are listed, last written first", async () => {
      const { advance, clock } = makeClock()
      const store = await open({}, undefined, clock)
      assert.deepEqual(await run(store.list()), [])
      for (const one of ["x-1", "y-2", "x-3"]) {
        await run(store.create(one))
        await run(store.append(one, 0, say(`hello ${one} ${"é".repeat(300)}`)))
        advance(1)
      }
      await run(store.append("x-1", 1, say("again")))
      const all = await run(store.list())
      assert.deepEqual(
        all.map((one) => [one.id, one.messages]),
        [
          ["x-1", 4],
          ["x-3", 2],
          ["y-2", 2]
        ]
      )
      assert.strictEqual([...(all[0]?.opening ?? "")].length, 200)
      assert.deepEqual(
        (await run(store.list({ limit: 1, prefix: "x-" }))).map((one) => one.id),
        ["x-1"]
      )
    })

    it("expire, but not during an answer", async () => {
      const { advance, clock } = makeClock()
      const store = await open({ ttl: "5 minutes" }, undefined, clock)
      await run(store.create("a"))
      await run(store.append("a", 0, say("1")))
      const ticket = store.turn?.("a")
      advance(299_999)
      await run(store.append("a", 1, say("2")))
      advance(299_999)
      assert.isTrue(Option.isSome(await run(store.load("a"))))
      advance(1)
      assert.isTrue(Option.isSome(await run(store.load("a"))))
      ticket?.release()
      assert.deepEqual(await run(store.load("a")), Option.none())
      assert.lengthOf(await run(store.list()), 0)
    })

    /** What two gateways have in one store, the second of which has a clock of its own. */
    const gateways = async (options: SessionSql.SqlStoreOptions) => {
      const address = await database.address()
      const { clock, ...here } = makeClock()
      const { advance, clock: other } = makeClock()
      const shared = await storeAt(address)
      const heldUntil = async (one: string): Promise<number> => {
        const [row] = await run(
          shared.use((sql) => sql<{ n: number }>`SELECT held_until AS n FROM aicortex_sessions WHERE id = ${one}`)
        )
        return row?.n ?? Number.NaN
      }
      const [a, b] = [await open(options, address, clock), await open(options, address, other)]
      const sessionsOf = (store: Sessions.Store) =>
        run(Effect.provideService(Sessions.make, Sessions.SessionStore, store))
      return {
        a,
        b,
        sessions: await sessionsOf(a),
        others: await sessionsOf(b),
        shared,
        heldUntil,
        /** Both clocks. */
        pass: (milliseconds: number) => {
          here.advance(milliseconds)
          advance(milliseconds)
        },
        /** That of the other one. */
        advance
      }
    }
    const minute = 60_000

    it("in use at one gateway are not evicted by another, and are free with the end of the turn", async () => {
      const { b, heldUntil, others, pass, sessions } = await gateways({ maxSessions: 3 })
      const { id: used } = await run(sessions.create())
      const { id: idle } = await run(sessions.create())
      pass(10 * minute)
      const fill = async () => {
        for (let i = 0; i < 4; i++) {
          pass(1)
          await run(others.create())
        }
      }
      const turn = await run(sessions.begin(used))
      await fill()
      assert.deepEqual(await alive(b, [used, idle]), [used])
      await run(turn.commit(say("long")))
      assert.strictEqual(await heldUntil(used), 0)
      turn.release()
      assert.deepEqual(await said(b, used), ["long", "re: long"])
      pass(10 * minute)
      // A turn that fails stores nothing.
      const failed = await run(sessions.begin(used))
      await fill()
      failed.release()
      await eventually(async () => (await heldUntil(used)) === 0, "the turn is taken back")
      await fill()
      assert.deepEqual(await alive(b, [used]), [])
    })

    it("in use at one gateway do not expire at another, are listed there, and are not pruned", async () => {
      const { b, others, pass, sessions } = await gateways({ ttl: "1 hour" })
      const { id: used } = await run(sessions.create())
      pass(50 * minute)
      const turn = await run(sessions.begin(used))
      pass(20 * minute)
      assert.isTrue(Option.isSome(await run(b.read(used))))
      assert.deepEqual(await alive(b, [used]), [used])
      assert.isTrue(await run(b.update(used, { title: "Long" })))
      assert.deepEqual(
        (await run(others.list())).map(({ id }) => id),
        [used]
      )
      assert.deepEqual(await run(others.prune({ olderThan: 1 })), [])
      await run(turn.commit(say("long")))
      turn.release()
      assert.deepEqual(await said(b, used), ["long", "re: long"])
      pass(60 * minute)
      assert.deepEqual(await run(others.list()), [])
      assert.deepEqual(await alive(b, [used]), [])
    })

    it("a turn that lasts is known to others, whatever time they have", async () => {
      const { advance, b, heldUntil, others, sessions } = await gateways({ ttl: "2 seconds", maxSessions: 2 })
      const { id: used } = await run(sessions.create())
      const turn = await run(sessions.begin(used))
      assert.strictEqual(await heldUntil(used), 0)
      await eventually(async () => (await heldUntil(used)) > 0, "it has lasted")
      advance(60 * minute)
      for (let i = 0; i < 4; i++) await run(others.create())
      assert.deepEqual(await alive(b, [used]), [used])
      await run(turn.commit(say("long")))
      turn.release()
      assert.strictEqual(await heldUntil(used), 0)
    })

    it("a short turn after another one writes nothing more", async () => {
      const { heldUntil, pass, sessions } = await gateways({})
      const { id: one } = await run(sessions.create())
      for (let i = 0; i < 3; i++) {
        pass(59_999)
        const turn = await run(sessions.begin(one))
        assert.strictEqual(await heldUntil(one), 0)
        await run(turn.commit(say(`${i}`)))
        turn.release()
      }
      pass(60_000)
      const turn = await run(sessions.begin(one))
      assert.isAbove(await heldUntil(one), 0)
      turn.release()
    })

    it("what a gateway held that is gone is free after a minute by the time of the store", async () => {
      const { b, heldUntil, pass, sessions, shared } = await gateways({ ttl: "1 hour" })
      const { id: one } = await run(sessions.create())
      pass(50 * minute)
      const turn = await run(sessions.begin(one))
      pass(50 * minute)
      assert.deepEqual(await alive(b, [one]), [one])
      const [time] = await run(shared.use((sql, dialect) => sql<{ now: number }>`SELECT ${dialect.now(sql)} AS now`))
      assert.closeTo((await heldUntil(one)) - (time?.now ?? 0), minute, 20_000)
      const past = (time?.now ?? 0) - 1
      await run(shared.use((sql) => sql`UPDATE aicortex_sessions SET held_until = ${past} WHERE id = ${one}`))
      assert.deepEqual(await alive(b, [one]), [])
      turn.release()
    })

    it("deleted at another gateway during a turn are gone", async () => {
      const { b, heldUntil, others, pass, sessions } = await gateways({ ttl: "2 seconds" })
      const { id: one } = await run(sessions.create())
      pass(1_000)
      const turn = await run(sessions.begin(one))
      assert.isAbove(await heldUntil(one), 0)
      await run(others.remove(one))
      const lost = await run(Effect.either(turn.commit(say("late"))))
      assert.isTrue(Either.isLeft(lost) && lost.left._tag === "SessionNotFound")
      turn.release()
      assert.deepEqual(await alive(b, [one]), [])
      assert.isNaN(await heldUntil(one))
    })

    it.each(["first", "second"] as const)(
      "in use at two gateways stay in use when the turn of the %s one fails",
      async (failing) => {
        const { others, pass, sessions } = await gateways({})
        const { id: one } = await run(sessions.create())
        pass(50 * minute)
        const turns = { first: await run(sessions.begin(one)), second: await run(others.begin(one)) }
        const at = failing === "first" ? sessions : others
        turns[failing].release()
        assert.deepEqual(await run(at.prune({ olderThan: 1 })), [])
        turns[failing === "first" ? "second" : "first"].release()
        assert.lengthOf(await run(at.list()), 1)
      }
    )

    it("an owner that keeps creating or writing evicts only its own", async () => {
      const store = await open({ maxSessions: 40 })
      const good = Array.from({ length: 20 }, (_, n) => id("good-", n))
      for (const one of good) await run(store.create(one))
      const flood = Array.from({ length: 60 }, (_, n) => id("flood-", n))
      for (const one of flood) assert.isTrue(await run(store.create(one)))
      assert.deepEqual(await alive(store, good), good)
      assert.lengthOf(await alive(store, flood), 20)
      const small = await open({ maxBytes: 64_000 })
      for (const one of good.slice(0, 4)) {
        await run(small.create(one))
        assert.isTrue(await run(small.append(one, 0, say("x".repeat(2_000)))))
      }
      for (let n = 0; n < 20; n++) {
        await run(small.create(id("flood-", n)))
        await run(small.append(id("flood-", n), 0, say("x".repeat(5_000))))
      }
      assert.deepEqual(await alive(small, good.slice(0, 4)), good.slice(0, 4))
      assert.isBelow((await run(small.list({ prefix: "flood-" }))).length, 8)
    })

    it("a conversation that would take all space is refused", async () => {
      const store = await open({ maxBytes: 64_000 })
      const good = Array.from({ length: 5 }, (_, n) => id("good-", n))
      for (const one of good) {
        await run(store.create(one))
        await run(store.append(one, 0, say("x".repeat(2_000))))
      }
      await run(store.create(id("long-", 0)))
      const refusals: Array<string> = []
      for (let version = 0; version < 14 && refusals.length === 0; version++) {
        const added = await run(Effect.either(store.append(id("long-", 0), version, say("x".repeat(5_000)))))
        if (Either.isLeft(added)) refusals.push(added.left.reason)
      }
      assert.match(refusals[0] ?? "", /all room for conversations is taken/)
      assert.deepEqual(await alive(store, good), good)
    })
  })
}

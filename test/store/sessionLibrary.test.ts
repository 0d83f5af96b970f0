/** Titles, metadata, usage, lists, searches, exports, imports, copies and pruning: the same in memory and on each engine. */
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { assistant, type Message, user } from "../../src/Message.js"
import * as Sessions from "../../src/Sessions.js"
import * as Store from "../../src/Store.js"
import * as SessionSql from "../../src/sessions/sql.js"
import { type Database, engines } from "../support/databases.js"

const day = 86_400_000

const run = async <A, E>(effect: Effect.Effect<A, E>): Promise<A> => {
  const exit = await Effect.runPromiseExit(effect)
  if (Exit.isSuccess(exit)) return exit.value
  throw Cause.squash(exit.cause)
}

/** What it fails with: the tag, the field, the reason. */
const failure = async (effect: Effect.Effect<unknown, unknown>): Promise<string> => {
  const error = (await Effect.runPromise(Effect.flip(effect))) as { readonly [name: string]: unknown }
  return [error["_tag"], error["field"], error["reason"]].filter((one) => one !== undefined).join(" ")
}

interface Kind {
  readonly name: string
  readonly start: () => Promise<{
    readonly make: (clock: Clock.Clock) => Promise<Sessions.Store>
    readonly close: () => Promise<void>
  }>
}

const kinds: ReadonlyArray<Kind> = [
  {
    name: "memory",
    start: async () => ({
      make: (clock) => run(Effect.withClock(Sessions.makeStoreMemory(), clock)),
      close: async () => {}
    })
  },
  ...engines.map(
    (engine): Kind => ({
      name: engine.name,
      start: async () => {
        const database: Database = await engine.start()
        const scope = await run(Scope.make())
        return {
          make: async (clock) => {
            const store = await run(Scope.extend(Store.make(await database.address()), scope))
            return run(Effect.withClock(SessionSql.make(store), clock))
          },
          close: async () => {
            await run(Scope.close(scope, Exit.void))
            await database.close()
          }
        }
      }
    })
  )
]

const usage = { model: "m:1b", server: "http://gpu-1:11434", promptTokens: 10, completionTokens: 4, cachedTokens: 2 }

for (const kind of kinds) {
  describe(`conversations in ${kind.name}`, () => {
    let started: Awaited<ReturnType<Kind["start"]>>
    beforeAll(async () => {
      started = await kind.start()
    })
    afterAll(() => started.close())

    const begin = async () => {
      let time = 1_700_000_000_000
      const clock: Clock.Clock = { ...Clock.make(), unsafeCurrentTimeMillis: () => time }
      const store = await started.make(clock)
      const sessions = await run(
        Effect.withClock(Effect.provideService(Sessions.make, Sessions.SessionStore, store), clock)
      )
      const say = async (id: string, question: string, used?: Sessions.TurnUsage) => {
        const messages: ReadonlyArray<Message> = [user(question), assistant(`re: ${question}`)]
        const turn = await run(sessions.begin(id))
        await run(turn.commit(messages, used)).finally(turn.release)
      }
      const create = async (question?: string, options?: Sessions.CreateOptions) => {
        time += 1_000
        const { id } = await run(sessions.create(options))
        if (question !== undefined) await say(id, question)
        return id
      }
      const advance = (milliseconds: number) => {
        time += milliseconds
      }
      const now = () => time
      return { sessions, say, create, advance, now }
    }
    const ids = (all: ReadonlyArray<{ readonly id: string }>) => all.map(({ id }) => id)

    it("have a title, metadata, times and the usage of each answer", async () => {
      const { advance, create, now, say, sessions } = await begin()
      const id = await create()
      assert.include(await run(sessions.details(id)), { title: undefined, titled: false, messages: 0, turns: 0 })
      const created = now()
      await say(id, "  How\n high is\u0000 the Zugspitze?  ", usage)
      advance(5_000)
      await say(id, "And K2?", { ...usage, promptTokens: 30 })
      const details = await run(sessions.details(id))
      assert.include(details, { title: "How high is the Zugspitze?", titled: false, createdAt: created, messages: 4 })
      assert.deepEqual(details.usage, { promptTokens: 40, completionTokens: 8, cachedTokens: 4 })
      assert.strictEqual(details.usedAt, created + 5_000)
      const turns = await run(sessions.turns(id))
      assert.deepEqual(turns[0]?.usage, usage)
      assert.deepEqual(
        turns.map(({ at, messages }) => [at, messages.length]),
        [
          [created, 2],
          [created + 5_000, 2]
        ]
      )
      await run(sessions.update(id, { title: "  Höhen\n von Bergen ", metadata: { tags: ["a", { b: null }], n: 1.5 } }))
      const changed = await run(sessions.details(id))
      assert.include(changed, { title: "Höhen von Bergen", titled: true, usedAt: created + 5_000 })
      assert.deepEqual(changed.metadata, { tags: ["a", { b: null }], n: 1.5 })
      await run(sessions.update(id, { title: null }))
      assert.include(await run(sessions.details(id)), { title: "How high is the Zugspitze?", titled: false })
      await run(sessions.update(id, { title: "Kept" }))
      await run(sessions.reset(id))
      assert.include(await run(sessions.details(id)), { title: "Kept", messages: 0 })
      const long = await create("x".repeat(500))
      assert.strictEqual((await run(sessions.details(long))).title, `${"x".repeat(79)}…`)
      const named = await create("Hi", { title: "Named", metadata: { project: "x" }, messages: [user("a")] })
      assert.deepInclude(await run(sessions.details(named)), {
        title: "Named",
        metadata: { project: "x" },
        messages: 3
      })
      assert.match(await failure(sessions.details("nothing")), /SessionNotFound/)
      assert.match(await failure(sessions.update("nothing", { title: "x" })), /SessionNotFound/)
    })

    it("refuse invalid titles and metadata, and change nothing", async () => {
      const { create, sessions } = await begin()
      const id = await create("Hi", { title: "Before", metadata: { a: 1 } })
      const cyclic: Record<string, unknown> = { a: 1 }
      cyclic["self"] = [cyclic]
      const deep = Array.from({ length: 40 }).reduce<object>((inner) => ({ inner }), {})
      const wrong: ReadonlyArray<readonly [object, RegExp]> = [
        [{ title: "" }, /title must not be empty/],
        [{ title: " \n " }, /title must not be empty/],
        [{ title: "x".repeat(201) }, /title must have at most 200/],
        [{ title: "x".repeat(1e6) }, /title must have at most 200/],
        [{ title: "a\u0000b" }, /title must not have control/],
        [{ title: "\ud800" }, /title must not have control/],
        [{ title: 7 }, /title must be a text/],
        [{ metadata: cyclic }, /metadata self\[0\] must be JSON: it contains itself/],
        [{ metadata: deep }, /levels deep/],
        [{ metadata: { a: "x".repeat(20_000) } }, /at most 16384/],
        [{ metadata: { a: Array.from({ length: 100_000 }, () => 0) } }, /at most 16384/],
        [{ metadata: [] }, /must be an object/],
        [{ metadata: "x" }, /must be an object/],
        [{ metadata: { a: () => 1 } }, /a must be JSON/],
        [{ metadata: { a: 1n } }, /a must be JSON/],
        [{ metadata: { a: Number.NaN } }, /finite/],
        [{ metadata: { a: new Date() } }, /plain object/],
        [{ metadata: { a: "\u0000" } }, /NUL/],
        [
          {
            metadata: {
              get a() {
                throw new Error("no")
              }
            }
          },
          /cannot be read: no/
        ],
        [{ titel: "x" }, /there is no such option; did you mean title/]
      ]
      for (const [changes, reason] of wrong) {
        assert.match(await failure(sessions.update(id, changes as Sessions.Changes)), reason)
        assert.match(await failure(sessions.create(changes as Sessions.CreateOptions)), /InvalidRequest/)
      }
      assert.deepInclude(await run(sessions.details(id)), { title: "Before", metadata: { a: 1 } })
      assert.lengthOf(await run(sessions.list()), 1)
    })

    it("are listed by title, metadata, words and time, page by page", async () => {
      const { advance, create, now, sessions } = await begin()
      const a = await create("Äpfel und 100% Birnen", { metadata: { project: "fruit", n: 1, ok: true } })
      const b = await create("Trains_to Rome", { title: "Straße", metadata: { project: "travel", n: "1" } })
      const middle = now()
      advance(day)
      const c = await create("trainsXto", { metadata: { project: "fruit", ok: 1, none: null } })
      const list = async (options: Sessions.ListOptions) => ids(await run(sessions.list(options)))
      assert.deepEqual(await list({}), [c, b, a])
      assert.deepEqual(await list({ title: "äpfel" }), [a])
      assert.deepEqual(await list({ title: "STRASSE" }), [])
      assert.deepEqual(await list({ title: "straße" }), [b])
      assert.deepEqual(await list({ title: "100%" }), [a])
      assert.deepEqual(await list({ title: "%" }), [a])
      assert.deepEqual(await list({ text: "TRAINS_TO" }), [b])
      assert.deepEqual(await list({ text: "birnen äpfel" }), [a])
      assert.deepEqual(await list({ text: "re: trains" }), [c, b])
      assert.deepEqual(await list({ metadata: { project: "fruit" } }), [c, a])
      assert.deepEqual(await list({ metadata: { project: "fruit", ok: true } }), [a])
      assert.deepEqual(await list({ metadata: { n: 1 } }), [a])
      assert.deepEqual(await list({ metadata: { n: "1" } }), [b])
      assert.deepEqual(await list({ metadata: { none: null } }), [c])
      assert.deepEqual(await list({ metadata: { "'; DROP": 1 } }), [])
      assert.deepEqual(await list({ metadata: { toString: "x" } }), [])
      assert.deepEqual(await list({ since: middle }), [c, b])
      assert.deepEqual(await list({ until: new Date(middle) }), [a])
      assert.deepEqual(await list({ since: middle, until: middle + 1, title: "s" }), [b])
      for (let n = 0; n < 7; n++) await create(`more ${n}`)
      const seen: Array<string> = []
      let cursor: string | undefined
      do {
        const page: Sessions.Page<Sessions.Summary> = await run(sessions.page({ limit: 3, cursor }))
        seen.push(...ids(page.items))
        cursor = page.next
        // One that is new, or is used again, is not on later pages.
        if (seen.length === 3) await create("while it is read")
      } while (cursor !== undefined)
      assert.deepEqual(seen.slice(-3), [c, b, a])
      assert.strictEqual(new Set(seen).size, 10)
      const other = (await run(sessions.search("more", { limit: 1 }))).next
      for (const wrong of ["", "x", "e30", "!!", "WzEsMl0", other ?? "", "A".repeat(5_000)]) {
        assert.match(await failure(sessions.page({ cursor: wrong })), /InvalidRequest cursor must be the `next`/)
      }
      for (const [options, reason] of [
        [{ limit: 0 }, /limit/],
        [{ since: "yesterday" }, /since/],
        [{ until: Number.NaN }, /until/],
        [{ metadata: { a: {} } }, /metadata a must be a text, a number/],
        [{ metadata: 7 }, /metadata/],
        [{ text: "x ".repeat(2_000) }, /text must have at most/],
        [{ text: Array.from({ length: 20 }, (_, i) => `w${i}`).join(" ") }, /at most 16 words/],
        [{ titel: "x" }, /did you mean title/]
      ] as const) {
        assert.match(await failure(sessions.list(options as Sessions.ListOptions)), reason)
      }
    })

    it("are searched by turn, newest first", async () => {
      const { advance, create, say, sessions } = await begin()
      const a = await create(`${"long ago ".repeat(50)}the NEEDLE is here ${"and more ".repeat(50)}`)
      advance(day)
      const b = await create("nothing", { title: "Other" })
      await say(b, "the needle again: 50%_done")
      const { items } = await run(sessions.search("needle the"))
      assert.deepEqual(
        items.map(({ id, role, title, turn }) => [id, turn, role, title]),
        [
          [b, 2, "user", "Other"],
          [a, 1, "user", (await run(sessions.details(a))).title]
        ]
      )
      assert.match(items[1]?.excerpt ?? "", /^….*the NEEDLE is here.*…$/)
      assert.isBelow(items[1]?.excerpt.length ?? 0, 220)
      assert.deepEqual(ids((await run(sessions.search("50%_"))).items), [b])
      assert.deepEqual((await run(sessions.search("50_x"))).items, [])
      assert.deepEqual((await run(sessions.search("50x_"))).items, [])
      assert.deepEqual(ids((await run(sessions.search("needle", { title: "other" }))).items), [b])
      const first = await run(sessions.search("re:", { limit: 2 }))
      assert.deepEqual(
        first.items.map(({ id, turn }) => [id, turn]),
        [
          [b, 2],
          [b, 1]
        ]
      )
      const second = await run(sessions.search("re:", { limit: 2, cursor: first.next }))
      assert.deepEqual([ids(second.items), second.next], [[a], undefined])
      for (const text of ["", "  "]) assert.match(await failure(sessions.search(text)), /InvalidRequest text/)
      const list = (await run(sessions.page({ limit: 1 }))).next
      assert.match(await failure(sessions.search("re:", { cursor: list })), /cursor/)
    })

    it("are exported and imported unchanged, each completely or not at all", async () => {
      const { create, say, sessions } = await begin()
      const a = await create("one", { title: "First", metadata: { project: "x", list: [1, { a: null }] } })
      await say(a, "two", usage)
      const b = await create("private", { private: true })
      const all = Chunk.toReadonlyArray(await run(Stream.runCollect(sessions.exportAll())))
      assert.deepEqual(ids(all), [b, a])
      assert.deepInclude(all[1], { title: "First", private: false, version: 1 })
      assert.deepEqual(await run(sessions.exportSession(a)), all[1])
      assert.deepEqual(
        ids(Chunk.toReadonlyArray(await run(Stream.runCollect(sessions.exportAll({ title: "first" }))))),
        [a]
      )
      assert.include(
        Sessions.markdown(await run(sessions.exportSession(a))),
        "# First\n\n**You:** one\n\n**Model:** re: one"
      )
      const lines = all.map((one) => JSON.stringify(one)).join("\n")
      // Both are there already.
      const again = await run(sessions.importAll(lines))
      assert.deepEqual(
        [again.taken, again.refused.map(({ at, from }) => [at, from])],
        [
          [],
          [
            [1, b],
            [2, a]
          ]
        ]
      )
      const other = await begin()
      other.advance(day)
      const dry = await run(other.sessions.importAll(lines, { dryRun: true }))
      assert.deepEqual(
        dry.taken.map(({ at, from, id, messages }) => [at, from, id, messages]),
        [
          [1, b, b, 2],
          [2, a, a, 4]
        ]
      )
      assert.lengthOf(await run(other.sessions.list()), 0)
      const broken = { ...all[1], id: "0123456789abcdef", turns: [{ at: "soon", messages: [] }] }
      const mixed = await run(other.sessions.importAll(`${lines}\n{"a\n\n${JSON.stringify(broken)}\n`))
      assert.deepEqual(ids(mixed.taken as ReadonlyArray<{ id: string }>), [b, a])
      assert.deepEqual(
        mixed.refused.map(({ at, from }) => [at, from]),
        [
          [3, undefined],
          [5, "0123456789abcdef"]
        ]
      )
      assert.deepEqual(
        Chunk.toReadonlyArray(await run(Stream.runCollect(other.sessions.exportAll()))).map(
          ({ usedAt: _, ...one }) => one
        ),
        all.map(({ usedAt: _, ...one }) => one)
      )
      const copies = await run(other.sessions.importAll(all, { ids: "new", prefix: "team-", private: true }))
      assert.lengthOf(copies.taken, 2)
      for (const { id = "" } of copies.taken) {
        assert.match(id, /^team-[0-9a-f]{15}p$/)
        assert.isTrue(Sessions.isPrivate(id))
      }
      assert.lengthOf(await run(other.sessions.list()), 4)
    })

    it("are imported from AI Cortex, Oblix and lists of messages", async () => {
      const { now, sessions } = await begin()
      const history = [
        { role: "user", content: "My name is Alice." },
        { role: "assistant", content: "Nice to meet you, Alice!" },
        { role: "user", content: "And what did I say first?" },
        { role: "assistant", content: "Your name." }
      ]
      const oblix = {
        id: "3f0c5b1e-0000-4000-8000-000000000001",
        title: "Quantum",
        created_at: "2023-01-01T10:00:00Z",
        updated_at: "2023-01-02T10:00:00.123456+00:00",
        messages: history.map((one, i) => ({ id: `m${i}`, ...one, timestamp: `2023-01-01T10:00:0${i}Z` })),
        context: { topic: "physics" },
        metadata: { mood: "curious" }
      }
      const report = await run(sessions.importAll([history, { id: "a3f1c2d4", history }, oblix, { messages: history }]))
      assert.deepEqual(report.refused, [])
      assert.deepEqual(
        report.taken.map(({ from, messages }) => [from, messages]),
        [
          [undefined, 4],
          ["a3f1c2d4", 4],
          [oblix.id, 4],
          [undefined, 4]
        ]
      )
      assert.deepInclude(await run(sessions.details(report.taken[2]?.id ?? "")), {
        title: "Quantum",
        metadata: { mood: "curious", context: { topic: "physics" } },
        createdAt: Date.parse(oblix.created_at),
        usedAt: Date.parse("2023-01-02T10:00:00.123Z")
      })
      for (const { id = "" } of report.taken) {
        assert.deepEqual(await run(sessions.history(id)), history as ReadonlyArray<Message>)
        assert.strictEqual((await run(sessions.details(id))).turns, 2)
      }
      assert.lengthOf((await run(sessions.importAll(history))).taken, 1)
      assert.lengthOf((await run(sessions.importAll({ a3f1c2d4: history, b: history.slice(0, 2), c: [] }))).taken, 3)
      const future = await run(sessions.importAll({ ...oblix, updated_at: "2999-01-01T00:00:00Z" }))
      assert.isAtMost((await run(sessions.details(future.taken[0]?.id ?? ""))).usedAt, now())
      const before = (await run(sessions.list())).length
      const wrong: ReadonlyArray<readonly [unknown, RegExp]> = [
        [{ ...oblix, messages: "x" }, /must have messages/],
        [{ ...oblix, title: 7 }, /title: must be a text/],
        [{ ...oblix, created_at: "soon" }, /created_at: must be a time/],
        [{ ...oblix, metadata: [] }, /metadata: must be an object/],
        [{ ...oblix, context: { a: "x".repeat(20_000) } }, /metadata: must have at most/],
        [{ ...oblix, other: 1 }, /other: is not known/],
        [{ messages: [{ role: "robot", content: "x" }] }, /messages.0.role/],
        [{ messages: [{ role: "user", content: 7 }] }, /messages.0.content/],
        [{ messages: history, history }, /only one/],
        [{ object: "aicortex.session", version: 2 }, /version/],
        ["\u{1F600}", /must be a conversation/]
      ]
      const { refused, taken } = await run(sessions.importAll(wrong.map(([one]) => one)))
      assert.deepEqual(taken, [])
      for (const [i, [, reason]] of wrong.entries()) assert.match(refused[i]?.reason ?? "", reason)
      const cyclic: Record<string, unknown> = {}
      cyclic["self"] = cyclic
      for (const input of ["", "{", "[1", "7", "[]", "{}", 7, null, undefined, [], {}, cyclic, { a: 7 }, "a\nb"]) {
        assert.match(await failure(sessions.importAll(input)), /InvalidRequest input/)
      }
      assert.match(await failure(sessions.importAll([], { ids: "old" } as never)), /ids/)
      assert.lengthOf(await run(sessions.list()), before)
    })

    it("are copied, and independent afterwards", async () => {
      const { create, say, sessions } = await begin()
      const id = await create("one", { prefix: "team-", private: true, title: "T", metadata: { a: 1 } })
      await say(id, "two", usage)
      const { id: copy } = await run(sessions.copy(id))
      assert.match(copy, /^team-[0-9a-f]{15}p$/)
      assert.notStrictEqual(copy, id)
      assert.deepEqual(await run(sessions.turns(copy)), await run(sessions.turns(id)))
      assert.deepInclude(await run(sessions.details(copy)), { title: "T", metadata: { a: 1 } })
      await say(copy, "three")
      assert.lengthOf(await run(sessions.history(id)), 4)
      const { id: early } = await run(sessions.copy(id, { turns: 1, title: "Fork", metadata: {} }))
      assert.deepInclude(await run(sessions.details(early)), { title: "Fork", metadata: {}, turns: 1 })
      assert.lengthOf(await run(sessions.history(early)), 2)
      assert.match(await failure(sessions.copy("nothing")), /SessionNotFound/)
      assert.match(await failure(sessions.copy(id, { turns: -1 })), /turns/)
      assert.match(await failure(sessions.copy(id, { title: "" })), /title/)
    })

    it("are pruned by age, except those in use", async () => {
      const { advance, create, sessions } = await begin()
      const a = await create("old")
      const held = await create("old but in use")
      const mine = await create("old of another", { prefix: "team-" })
      advance(10 * day)
      const fresh = await create("new")
      const turn = await run(sessions.begin(fresh))
      const prune = async (options: Sessions.PruneOptions) => ids(await run(sessions.prune(options)))
      assert.deepEqual(await prune({ olderThan: "5 days", dryRun: true }), [mine, held, a])
      assert.lengthOf(await run(sessions.list()), 4)
      assert.deepEqual(await prune({ olderThan: 30 * day }), [])
      assert.deepEqual(await prune({ olderThan: "5 days", prefix: "team-" }), [mine])
      const used = await run(sessions.begin(held))
      assert.deepEqual(await prune({ olderThan: "5 days" }), [a])
      used.release()
      advance(1)
      assert.deepEqual(await prune({ olderThan: 0 }), [held])
      turn.release()
      assert.deepEqual(ids(await run(sessions.list())), [fresh])
      for (const wrong of [{}, { olderThan: -1 }, { olderThan: "soon" }, { olderThan: 1, since: 0 }]) {
        assert.match(await failure(sessions.prune(wrong as Sessions.PruneOptions)), /InvalidRequest/)
      }
    })
  })
}

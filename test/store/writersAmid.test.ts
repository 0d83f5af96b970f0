/** Writers of one conversation while others copy, rename, prune, import and delete: in memory and on each engine. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { assistant, text, user } from "../../src/Message.js"
import * as Sessions from "../../src/Sessions.js"
import * as Store from "../../src/Store.js"
import * as SessionSql from "../../src/sessions/sql.js"
import { engines } from "../support/databases.js"

type Service = Effect.Effect.Success<typeof Sessions.make>

interface Kind {
  readonly name: string
  /** As many users of one store, each as a process of its own would be. */
  readonly open: (users: number) => Promise<ReadonlyArray<Service>>
  readonly close: () => Promise<void>
}

const over = (store: Sessions.Store) => Effect.provideService(Sessions.make, Sessions.SessionStore, store)

const kinds: ReadonlyArray<{ readonly name: string; readonly start: () => Promise<Kind> }> = [
  {
    name: "memory",
    start: async () => ({
      name: "memory",
      open: (users) =>
        Effect.runPromise(
          Effect.flatMap(Sessions.makeStoreMemory(), (store) => Effect.replicateEffect(over(store), users))
        ).then((all) => [...all]),
      close: async () => {}
    })
  },
  ...engines.map((engine) => ({
    name: engine.name,
    start: async (): Promise<Kind> => {
      const database = await engine.start()
      const scope = await Effect.runPromise(Scope.make())
      return {
        name: engine.name,
        open: async (users) => {
          const address = await database.address()
          const one = Effect.flatMap(Scope.extend(Store.make(address), scope), (store) =>
            Effect.flatMap(SessionSql.make(store), over)
          )
          return [...(await Effect.runPromise(Effect.replicateEffect(one, users)))]
        },
        close: async () => {
          await Effect.runPromise(Scope.close(scope, Exit.void))
          await database.close()
        }
      }
    }
  }))
]

const writers = ["a", "b", "c"]
const rounds = 12
const say = (sessions: Service, id: string, word: string) =>
  Effect.scoped(
    Effect.flatMap(
      Effect.acquireRelease(sessions.begin(id), ({ release }) => Effect.promise(async () => release())),
      ({ commit }) => commit([user(word), assistant(`re: ${word}`)])
    )
  )
/** The questions; each turn must be whole. */
const asked = (turns: ReadonlyArray<Sessions.StoredTurn>): ReadonlyArray<string> =>
  turns.map(({ messages }) => {
    const [question = "", answer = ""] = messages.map(text)
    assert.deepEqual([messages.length, answer], [2, `re: ${question}`])
    return question
  })

for (const { name, start } of kinds) {
  describe(`writers of one conversation in ${name}, with concurrent changes of all kinds`, () => {
    let kind: Kind
    beforeAll(async () => {
      kind = await start()
    })
    afterAll(() => kind.close())

    it("lose, duplicate and reorder no turn; copies are consistent; deletions are permanent", async () => {
      const [main, other, ...each] = await kind.open(writers.length + 2)
      if (main === undefined || other === undefined) throw new Error("too few")
      const title = (n: number) => ({ title: `Title ${n}`, metadata: { n } })
      const result = await Effect.runPromise(
        Effect.gen(function* () {
          const { id } = yield* main.create({ metadata: { n: -1 } })
          const doomed = yield* Effect.replicateEffect(main.create(), 6)
          let isWriting = true
          const write = (sessions: Service, word: string) =>
            Effect.gen(function* () {
              for (let i = 0; i < rounds; i++) {
                yield* say(sessions, id, `${word}${i}`)
                // One that is deleted meanwhile takes no turn, and does not come back.
                const lost = doomed[i % doomed.length]?.id ?? ""
                yield* Effect.catchTag(say(sessions, lost, `${word}${i}`), "SessionNotFound", () => Effect.void)
              }
            })
          const copies: Array<string> = []
          const copy = Effect.gen(function* () {
            while (isWriting || copies.length < 3) {
              copies.push((yield* other.copy(id)).id)
              yield* Effect.sleep(1)
            }
          })
          const label = Effect.gen(function* () {
            let n = 0
            while (isWriting) {
              yield* other.update(id, title(n++))
              yield* main.update(id, title(n++))
              yield* Effect.sleep(2)
            }
            return n - 1
          })
          const clean = Effect.gen(function* () {
            for (const { id: gone } of doomed) {
              yield* Effect.sleep(2)
              yield* main.remove(gone)
              // Nothing is that old: a prune that counts wrongly would take the conversation.
              assert.deepEqual(yield* other.prune({ olderThan: "1 hour" }), [])
              // Those that are tidied up are others, and never in use.
              const idle = yield* main.create({ metadata: { idle: true } })
              yield* Effect.sleep(5)
              yield* other.prune({ olderThan: 0, metadata: { idle: true } })
              assert.isTrue((yield* Effect.either(main.details(idle.id)))._tag === "Left")
            }
          })
          const aside = yield* Effect.forkAll([Effect.asVoid(copy), clean])
          const labels = yield* Effect.fork(label)
          yield* Effect.all(
            each.map((sessions, i) => write(sessions, writers[i] ?? "")),
            { concurrency: "unbounded" }
          )
          isWriting = false
          yield* Fiber.join(aside)
          const last = yield* Fiber.join(labels)
          // A turn after all of it.
          yield* say(main, id, "end")
          const turns = asked(yield* other.turns(id))
          const copied = yield* Effect.forEach(copies, (one) => Effect.map(main.turns(one), asked))
          const left = yield* Effect.forEach(doomed, (one) => Effect.either(say(other, one.id, "late")))
          return { turns, copied, left, details: yield* main.details(id), last }
        })
      )
      const { copied, details, last, left, turns } = result
      assert.lengthOf(turns, writers.length * rounds + 1)
      assert.strictEqual(turns.at(-1), "end")
      for (const word of writers) {
        assert.deepEqual(
          turns.filter((turn) => turn.startsWith(word)),
          Array.from({ length: rounds }, (_, i) => `${word}${i}`)
        )
      }
      assert.isAtLeast(copied.length, 3)
      for (const one of copied) assert.deepEqual(one, turns.slice(0, one.length))
      assert.deepEqual(
        left.map(({ _tag }) => _tag),
        left.map(() => "Left")
      )
      assert.deepEqual(
        [details.title, details.metadata, details.messages],
        [`Title ${last}`, { n: last }, 2 * turns.length]
      )
    }, 120_000)
  })
}

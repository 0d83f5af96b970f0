/** Several processes that write to one conversation of a store, some of which are killed, and a store that goes away. */
import { once } from "node:events"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { assistant, text, user } from "../../src/Message.js"
import type * as Sessions from "../../src/Sessions.js"
import * as Store from "../../src/Store.js"
import * as SessionSql from "../../src/sessions/sql.js"
import { type Database, engines } from "../support/databases.js"
import { makeProgram, type Program } from "../support/storeProgram.js"

/** More kills: `AICORTEX_KILLS=200 npx vitest run test/store/writers.test.ts -t killed`. */
const kills = Number(process.env["AICORTEX_KILLS"] ?? 10)

let program: Program
beforeAll(async () => {
  program = await makeProgram("storeWriter")
})
afterAll(() => program.remove())

/** What a writer says is stored, until it ends. */
const acknowledged = async (
  child: ReturnType<Program["start"]>,
  first?: () => void
): Promise<ReadonlyArray<string>> => {
  let out = ""
  child.stdout?.setEncoding("utf8").on("data", (piece: string) => {
    if (out === "") first?.()
    out += piece
  })
  await once(child, "close")
  return out.split("\n").slice(0, -1)
}

const withSessions = <A>(address: string, use: (sessions: Sessions.Store) => Effect.Effect<A, unknown>) =>
  Effect.runPromise(
    Effect.scoped(
      Effect.gen(function* () {
        return yield* use(yield* SessionSql.make(yield* Store.make(address)))
      })
    )
  )

/** What was said, turn by turn; each must be whole. */
const turns = async (address: string, id: string): Promise<ReadonlyArray<string>> => {
  const { messages } = Option.getOrThrow(await withSessions(address, ({ load }) => load(id)))
  const words = messages.map(text)
  for (let i = 0; i < words.length; i += 2) assert.strictEqual(words[i + 1], `re: ${words[i]}`)
  return words.filter((_, i) => i % 2 === 0)
}

for (const engine of engines) {
  describe(`writers of one conversation in ${engine.name}`, () => {
    let database: Database
    beforeAll(async () => {
      database = await engine.start()
    })
    afterAll(() => database.close())

    it("eight concurrent processes produce one order, in which nothing is missing or duplicate", async () => {
      const address = await database.address()
      await withSessions(address, ({ create }) => create("a"))
      const names = ["a", "b", "c", "d", "e", "f", "g", "h"]
      const all = await Promise.all(names.map((name) => acknowledged(program.start(address, "a", name, "12"))))
      assert.deepEqual(
        all.map((words) => words.length),
        names.map(() => 12)
      )
      const words = await turns(address, "a")
      assert.lengthOf(words, 96)
      for (const [i, name] of names.entries()) {
        assert.deepEqual(
          words.filter((word) => word.startsWith(name)),
          all[i]
        )
      }
    }, 180_000)

    it(
      `a writer that is killed at ${kills} random moments leaves all that it was told is stored, and nothing half`,
      async () => {
        const address = await database.address()
        await withSessions(address, ({ create }) => create("a"))
        const told: Array<string> = []
        for (let i = 0; i < kills; i++) {
          const child = program.start(address, "a", `k${i}-`, "100000")
          told.push(...(await acknowledged(child, () => setTimeout(() => child.kill("SIGKILL"), Math.random() * 60))))
        }
        const words = await turns(address, "a")
        assert.deepEqual(
          told.filter((word) => !words.includes(word)),
          []
        )
        assert.strictEqual(new Set(words).size, words.length)
        // What was stored and not yet told is one turn of each at most.
        assert.isAtMost(words.length - told.length, kills)
        assert.isAtLeast(told.length, kills)
      },
      60_000 + kills * 6_000
    )

    it("during an outage, operations fail; afterwards it is used again, and has lost nothing", async (context) => {
      const { outage } = database
      if (outage === undefined) return context.skip()
      const address = await database.address()
      await withSessions(address, (sessions) =>
        Effect.gen(function* () {
          yield* sessions.create("a")
          const told: Array<string> = []
          const failures = new Set<string>()
          let ended = false
          const write = Effect.gen(function* () {
            for (let i = 0; !ended; i++) {
              const done = yield* Effect.either(
                Effect.gen(function* () {
                  const { version } = Option.getOrThrow(yield* sessions.load("a"))
                  return yield* sessions.append("a", version, [user(`w${i}`), assistant(`re: w${i}`)])
                })
              )
              if (done._tag === "Left") {
                failures.add(done.left._tag)
                yield* Effect.sleep(20)
              } else if (done.right) told.push(`w${i}`)
            }
          })
          const fiber = yield* Effect.fork(write)
          const until = (ready: () => boolean) => Effect.repeat(Effect.sleep(10), { until: ready })
          for (let round = 0; round < 2; round++) {
            const before = told.length
            yield* until(() => told.length > before + 5)
            failures.clear()
            yield* Effect.promise(outage.stop)
            yield* until(() => failures.size > 0)
            yield* Effect.promise(outage.start)
          }
          const before = told.length
          yield* until(() => told.length > before + 5)
          ended = true
          yield* Effect.flatten(Effect.exit(fiber.await).pipe(Effect.flatten))
          assert.deepEqual([...failures], ["SessionsUnavailable"])
          const { messages } = Option.getOrThrow(yield* sessions.load("a"))
          const words = messages.map(text).filter((word) => !word.startsWith("re: "))
          assert.strictEqual(new Set(words).size, words.length)
          assert.deepEqual(
            told.filter((word) => !words.includes(word)),
            []
          )
        })
      )
    }, 120_000)
  })
}

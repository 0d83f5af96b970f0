import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as TestClock from "effect/TestClock"
import * as fc from "fast-check"
import { SessionsUnavailable } from "../../src/Errors.js"
import * as History from "../../src/History.js"
import * as Message from "../../src/Message.js"
import * as Sessions from "../../src/Sessions.js"

const { assistant, system, user } = Message
const withMemory = (options?: Sessions.MemoryOptions) => Effect.provide(Sessions.layerMemory(options))
const say = (text: string): ReadonlyArray<Message.Message> => [user(text), assistant(`re: ${text}`)]
const texts = (messages: ReadonlyArray<Message.Message>) => messages.map(Message.text)

const turn = <A, E, R>(id: string, use: (turn: Sessions.Turn) => Effect.Effect<A, E, R>) =>
  Effect.flatMap(Sessions.Sessions, (sessions) =>
    Effect.acquireUseRelease(sessions.begin(id), use, (held) => Effect.sync(held.release))
  )

describe("Sessions", () => {
  it.effect("ids are 16 hexadecimal characters, all different", () =>
    Effect.gen(function* () {
      const sessions = yield* Sessions.Sessions
      const made = yield* Effect.all(Array.from({ length: 200 }, () => sessions.create()))
      for (const { id } of made) assert.match(id, /^[0-9a-f]{16}$/)
      assert.strictEqual(new Set(made.map(({ id }) => id)).size, 200)
    }).pipe(withMemory())
  )

  it.effect("an existing id is never reused", () =>
    Effect.gen(function* () {
      const store = yield* Sessions.makeStoreMemory()
      const requests: Array<string> = []
      const crowded = Layer.succeed(Sessions.SessionStore, {
        ...store,
        create: (id) => (requests.push(id) < 3 ? Effect.succeed(false) : store.create(id))
      })
      const session = yield* Effect.provide(
        Effect.flatMap(Sessions.Sessions, (sessions) => sessions.create()),
        Layer.provide(Sessions.layer, crowded)
      )
      assert.strictEqual(requests.length, 3)
      assert.strictEqual(new Set(requests).size, 3)
      assert.strictEqual(session.id, requests[2])
      assert.isTrue(yield* store.create("a"))
      assert.isTrue(yield* store.append("a", 0, say("kept")))
      assert.isFalse(yield* store.create("a"))
      assert.lengthOf(Option.getOrThrow(yield* store.load("a")).messages, 2)
    })
  )

  it.effect("an unknown id fails at once, with a helpful message", () =>
    Effect.gen(function* () {
      const sessions = yield* Sessions.Sessions
      const operations: ReadonlyArray<Effect.Effect<unknown, unknown>> = [
        sessions.resume("nope"),
        sessions.history("nope"),
        sessions.reset("nope"),
        sessions.remove("nope"),
        sessions.begin("nope")
      ]
      for (const operation of operations) {
        const error = yield* Effect.flip(operation)
        assert.deepInclude(error, { _tag: "SessionNotFound", id: "nope" })
        assert.include(String(error), "Session.create()")
        assert.notInclude(String(error), "Session(id=")
      }
    }).pipe(withMemory())
  )

  it.effect("a turn that is not committed leaves no trace", () =>
    Effect.gen(function* () {
      const sessions = yield* Sessions.Sessions
      const { id } = yield* sessions.create()
      yield* turn(id, ({ commit }) => commit(say("one")))
      yield* Effect.exit(turn(id, () => Effect.fail("the reply was not JSON")))
      assert.deepEqual(texts(yield* sessions.history(id)), ["one", "re: one"])
      assert.deepEqual(yield* sessions.resume(id), { id })
    }).pipe(withMemory())
  )

  it.effect("calls in one session run one after another and each sees those before it", () =>
    Effect.gen(function* () {
      const sessions = yield* Sessions.Sessions
      const { id } = yield* sessions.create()
      const seen: Array<number> = []
      let running = 0
      const fibers = yield* Effect.forEach([0, 1, 2, 3, 4], (i) =>
        Effect.fork(
          turn(id, ({ commit, history }) =>
            Effect.gen(function* () {
              assert.strictEqual(++running, 1)
              seen.push(history.length)
              yield* Effect.sleep(100 - i * 10)
              yield* commit(say(String(i)))
              running--
            })
          )
        )
      )
      yield* TestClock.adjust("1 second")
      yield* Fiber.joinAll(fibers)
      assert.deepEqual(seen, [0, 2, 4, 6, 8])
      const history = texts(yield* sessions.history(id))
      assert.deepEqual(
        history.filter((_, i) => i % 2 === 0),
        ["0", "1", "2", "3", "4"]
      )
    }).pipe(withMemory())
  )

  it.effect("the number of waiting turns is limited", () =>
    Effect.gen(function* () {
      const sessions = yield* Sessions.Sessions
      const { id } = yield* sessions.create()
      const first = yield* sessions.begin(id)
      const waiting = yield* Effect.forEach(Array.from({ length: 512 }), () => Effect.fork(turn(id, () => Effect.void)))
      yield* Effect.yieldNow()
      const refused = yield* Effect.flip(sessions.begin(id))
      assert.strictEqual(refused._tag, "SessionsUnavailable")
      assert.match(refused.message, /512 calls wait for their turn/)
      first.release()
      yield* Fiber.joinAll(waiting)
      const last = yield* sessions.begin(id)
      last.release()
    }).pipe(withMemory())
  )

  it.effect("different sessions do not wait for each other", () =>
    Effect.gen(function* () {
      const sessions = yield* Sessions.Sessions
      const one = yield* sessions.begin((yield* sessions.create()).id)
      const two = yield* sessions.begin((yield* sessions.create()).id)
      one.release()
      two.release()
    }).pipe(withMemory())
  )

  it.effect("an interruption leaves the queue, also in an uninterruptible region", () =>
    Effect.gen(function* () {
      const sessions = yield* Sessions.Sessions
      const { id } = yield* sessions.create()
      const first = yield* sessions.begin(id)
      const order: Array<string> = []
      const waits = (name: string) =>
        Effect.fork(turn(id, () => Effect.sync(() => order.push(name)))).pipe(Effect.tap(Effect.yieldNow()))
      yield* waits("a")
      const b = yield* waits("b")
      const c = yield* waits("c")
      assert.isTrue(Exit.isInterrupted(yield* Fiber.interrupt(b)))
      first.release()
      first.release()
      yield* Fiber.join(c)
      assert.deepEqual(order, ["a", "c"])
      // Nobody holds it any more.
      const last = yield* sessions.begin(id)
      last.release()
    }).pipe(withMemory())
  )

  it.effect("an interruption at the moment of the grant passes the lock on", () =>
    Effect.gen(function* () {
      const sessions = yield* Sessions.Sessions
      const { id } = yield* sessions.create()
      const first = yield* sessions.begin(id)
      const waiting = yield* Effect.fork(sessions.begin(id))
      yield* Effect.yieldNow()
      first.release()
      const exit = yield* Fiber.interrupt(waiting)
      if (Exit.isSuccess(exit)) exit.value.release()
      const last = yield* sessions.begin(id)
      last.release()
    }).pipe(withMemory())
  )

  it.effect("history is deeply frozen, and independent of the caller's objects", () =>
    Effect.gen(function* () {
      const sessions = yield* Sessions.Sessions
      const { id } = yield* sessions.create()
      const parts = [{ type: "text" as const, text: "look" }]
      const args = { deep: { list: [1, { x: 1 }] } }
      const mine: Array<Message.Message> = [
        { role: "user", content: parts },
        { role: "assistant", content: "", toolCalls: [{ id: "1", name: "t", arguments: args }] },
        { role: "tool", content: "3", toolCallId: "1", toolName: "t" },
        assistant("done")
      ]
      yield* turn(id, ({ commit }) => commit(mine))
      parts.push({ type: "text", text: "changed" })
      args.deep.list.push(2)
      mine.pop()
      const history = yield* sessions.history(id)
      assert.lengthOf(history, 4)
      const frozen = (value: unknown): boolean =>
        typeof value !== "object" || value === null || (Object.isFrozen(value) && Object.values(value).every(frozen))
      assert.isTrue(frozen(history))
      assert.deepEqual(history[0], { role: "user", content: [{ type: "text", text: "look" }] })
      assert.deepNestedInclude(history[1], { "toolCalls[0].arguments.deep.list": [1, { x: 1 }] })
      yield* turn(id, (held) => Effect.sync(() => assert.isTrue(frozen(held.history))))
      // A snapshot: later turns do not grow it.
      yield* turn(id, ({ commit }) => commit(say("more")))
      assert.lengthOf(history, 4)
    }).pipe(withMemory())
  )

  it.effect("reset clears the history and keeps the id; remove ends the session", () =>
    Effect.gen(function* () {
      const sessions = yield* Sessions.Sessions
      const { id } = yield* sessions.create()
      yield* turn(id, ({ commit }) => commit(say("one")))
      yield* sessions.reset(id)
      assert.deepEqual(yield* sessions.history(id), [])
      yield* turn(id, ({ commit, history }) => {
        assert.deepEqual(history, [])
        return commit(say("two"))
      })
      assert.deepEqual(texts(yield* sessions.history(id)), ["two", "re: two"])
      yield* sessions.remove(id)
      assert.strictEqual((yield* Effect.flip(sessions.resume(id)))._tag, "SessionNotFound")
    }).pipe(withMemory())
  )

  it.effect("a turn of a session that was removed meanwhile fails to commit, and those that wait fail too", () =>
    Effect.gen(function* () {
      const sessions = yield* Sessions.Sessions
      const { id } = yield* sessions.create()
      const held = yield* sessions.begin(id)
      const waiting = yield* Effect.fork(Effect.flip(sessions.begin(id)))
      yield* Effect.yieldNow()
      yield* sessions.remove(id)
      assert.strictEqual((yield* Effect.flip(held.commit(say("late"))))._tag, "SessionNotFound")
      // Who comes now need not wait for the turn that is under way.
      assert.strictEqual((yield* Effect.flip(sessions.begin(id)))._tag, "SessionNotFound")
      held.release()
      assert.strictEqual((yield* Fiber.join(waiting))._tag, "SessionNotFound")
      assert.deepEqual(yield* held.commit([]), undefined)
    }).pipe(withMemory())
  )

  it.effect("processes that share a store wait for each other's turns, in their order", () =>
    Effect.gen(function* () {
      const store = yield* Sessions.makeStoreMemory()
      const layer = Layer.provide(Sessions.layer, Layer.succeed(Sessions.SessionStore, store))
      const here = yield* Effect.provide(Sessions.Sessions, layer)
      const there = yield* Effect.provide(Sessions.Sessions, Layer.fresh(layer))
      const { id } = yield* here.create()
      const speak = (sessions: Sessions.Service, text: string) =>
        Effect.acquireUseRelease(
          sessions.begin(id),
          (held) => Effect.zipRight(Effect.yieldNow(), held.commit(say(`${held.history.length} ${text}`))),
          (held) => Effect.sync(held.release)
        )
      const first = yield* here.begin(id)
      const second = yield* Effect.fork(speak(there, "there"))
      yield* Effect.yieldNow()
      const third = yield* Effect.fork(speak(here, "here"))
      yield* Effect.yieldNow()
      yield* first.commit(say("0 first"))
      assert.lengthOf(yield* there.history(id), 2)
      first.release()
      yield* Fiber.join(second)
      yield* Fiber.join(third)
      const said = texts(yield* there.history(id)).filter((text) => !text.startsWith("re:"))
      assert.deepEqual(said, ["0 first", "2 there", "4 here"])
    })
  )

  it.effect("ids begin with the prefix that was asked for", () =>
    Effect.gen(function* () {
      const { id } = yield* Sessions.create({ prefix: "alice." })
      assert.match(id, /^alice\.[0-9a-f]{16}$/)
      assert.deepEqual(yield* Sessions.history(id), [])
    }).pipe(withMemory())
  )

  it.effect("an unreachable store is a failure that says so, and no turn remains", () =>
    Effect.gen(function* () {
      const store = yield* Sessions.makeStoreMemory()
      let broken = false
      const layer = Layer.succeed(Sessions.SessionStore, {
        ...store,
        load: (id) => (broken ? Effect.fail(new SessionsUnavailable({ reason: "the line is dead" })) : store.load(id))
      })
      const sessions = yield* Effect.provide(Sessions.Sessions, Layer.provide(Sessions.layer, layer))
      const { id } = yield* sessions.create()
      broken = true
      assert.strictEqual((yield* Effect.flip(sessions.begin(id)))._tag, "SessionsUnavailable")
      assert.match((yield* Effect.flip(sessions.history(id))).message, /the line is dead.*Try again/)
      broken = false
      const held = yield* sessions.begin(id)
      held.release()
    })
  )

  it.effect("with a store without turns, what another process stored meanwhile comes first", () =>
    Effect.gen(function* () {
      const { turn: _, ...store } = yield* Sessions.makeStoreMemory()
      const layer = Layer.provide(Sessions.layer, Layer.succeed(Sessions.SessionStore, store))
      const here = yield* Effect.provide(Sessions.Sessions, layer)
      const there = yield* Effect.provide(Sessions.Sessions, Layer.fresh(layer))
      const { id } = yield* here.create()
      const [mine, theirs] = [yield* here.begin(id), yield* there.begin(id)]
      yield* theirs.commit(say("theirs"))
      yield* mine.commit(say("mine"))
      yield* mine.commit(say("mine again"))
      assert.deepEqual(texts(yield* there.history(id)), [
        "theirs",
        "re: theirs",
        "mine",
        "re: mine",
        "mine again",
        "re: mine again"
      ])
    })
  )

  it.effect("the memory store is bounded: least recently used and idle sessions are evicted", () =>
    Effect.gen(function* () {
      const store = yield* Sessions.makeStoreMemory({ maxSessions: 2, ttl: 1000 })
      const exists = (id: string) => Effect.map(store.load(id), Option.isSome)
      yield* store.create("a")
      yield* store.create("b")
      assert.isTrue(yield* exists("a"))
      yield* store.create("c")
      assert.isFalse(yield* exists("b"))
      yield* TestClock.adjust(600)
      assert.isTrue(yield* store.reset("a"))
      yield* TestClock.adjust(600)
      assert.isTrue(yield* exists("a"))
      assert.isFalse(yield* exists("c"))
      yield* TestClock.adjust(1000)
      assert.isFalse(yield* store.append("a", 1, []))
      assert.isFalse(yield* store.reset("a"))
      assert.isFalse(yield* store.remove("a"))
      assert.isTrue(yield* store.create("a"))
    })
  )

  it.effect("the memory store has a limit of bytes, but always keeps the current conversation", () =>
    Effect.gen(function* () {
      const store = yield* Sessions.makeStoreMemory({ maxBytes: 10_000 })
      const exists = (id: string) => Effect.map(store.load(id), Option.isSome)
      const long = user("x".repeat(4_000))
      for (const id of ["a", "b"]) {
        yield* store.create(id)
        assert.isTrue(yield* store.append(id, 0, [long]))
      }
      yield* store.create("c")
      assert.isTrue(yield* store.append("c", 0, [long]))
      assert.isFalse(yield* exists("a"))
      assert.isTrue(yield* exists("b"))
      // What was said is free again when a conversation begins anew.
      assert.isTrue(yield* store.reset("b"))
      yield* store.create("d")
      assert.isTrue(yield* store.append("d", 0, [long]))
      assert.isTrue(yield* exists("c"))
      assert.isTrue(yield* store.remove("d"))
      const image = { type: "image" as const, data: "A".repeat(20_000), mediaType: "image/png" }
      assert.isTrue(yield* store.append("c", 1, [{ role: "user", content: [image] }]))
      assert.isFalse(yield* exists("b"))
      assert.isTrue(yield* exists("c"))
    })
  )

  it.effect("a session with a running answer is neither evicted nor expired", () =>
    Effect.gen(function* () {
      const sessions = yield* Sessions.Sessions
      const { id } = yield* sessions.create()
      const turn = yield* sessions.begin(id)
      yield* sessions.create()
      yield* sessions.create()
      yield* TestClock.adjust(5000)
      yield* sessions.create()
      yield* turn.commit([user("a"), assistant("b")])
      assert.strictEqual((yield* sessions.history(id)).length, 2)
      turn.release()
      turn.release()
      // From then on it is one like the others.
      yield* TestClock.adjust(5000)
      assert.strictEqual((yield* Effect.flip(sessions.history(id)))._tag, "SessionNotFound")
      // Who removes it, means it.
      const other = yield* sessions.create()
      const last = yield* sessions.begin(other.id)
      yield* sessions.remove(other.id)
      assert.strictEqual((yield* Effect.flip(last.commit([user("a")])))._tag, "SessionNotFound")
    }).pipe(Effect.provide(Sessions.layerMemory({ maxSessions: 2, ttl: 1000 })))
  )

  it("concurrent turns never lose, repeat or mix messages", async () => {
    const step = fc.record({
      session: fc.nat(1),
      start: fc.nat(20),
      work: fc.nat(20),
      outcome: fc.constantFrom("commit", "fail", "interrupt", "tools"),
      interruptAt: fc.nat(30)
    })
    type Step = typeof step extends fc.Arbitrary<infer T> ? T : never
    const program = (steps: ReadonlyArray<Step>) =>
      Effect.gen(function* () {
        const sessions = yield* Sessions.Sessions
        const ids = [(yield* sessions.create()).id, (yield* sessions.create()).id]
        const committed: Array<Set<string>> = [new Set(), new Set()]
        const yields = (n: number) => Effect.repeatN(Effect.yieldNow(), n)
        yield* Effect.forEach(
          steps,
          ({ interruptAt, outcome, session, start, work }, i) =>
            Effect.gen(function* () {
              const id = ids[session] ?? ""
              const said = outcome === "tools" ? [user(`${i}`), assistant(`a${i}`), assistant(`b${i}`)] : say(`${i}`)
              yield* yields(start)
              const gate = yield* Deferred.make<void>()
              const fiber = yield* Effect.fork(
                Effect.zipRight(
                  Deferred.await(gate),
                  turn(id, ({ commit, history }) =>
                    Effect.gen(function* () {
                      yield* yields(work)
                      assert.deepEqual(history, yield* sessions.history(id))
                      if (outcome === "fail") return yield* Effect.fail("failed")
                      yield* Effect.uninterruptible(
                        Effect.tap(
                          commit(said),
                          Effect.sync(() => committed[session]?.add(`${i}`))
                        )
                      )
                    })
                  )
                )
              )
              yield* Deferred.succeed(gate, undefined)
              if (outcome === "interrupt") {
                yield* yields(interruptAt)
                yield* Fiber.interrupt(fiber)
              } else {
                yield* Fiber.await(fiber).pipe(
                  Effect.tap((exit) => {
                    if (Exit.isFailure(exit) && exit.cause._tag === "Die") throw exit.cause.defect
                  })
                )
              }
            }),
          { concurrency: 30, discard: true }
        )
        for (const [session, id] of ids.entries()) {
          const history = texts(yield* sessions.history(id))
          const users = history.filter((text) => /^\d+$/.test(text))
          assert.strictEqual(new Set(users).size, users.length)
          assert.deepEqual(new Set(users), committed[session])
          const expected = users.flatMap((text) =>
            steps[Number(text)]?.outcome === "tools" ? [text, `a${text}`, `b${text}`] : [text, `re: ${text}`]
          )
          assert.deepEqual(history, expected)
          const free = yield* Effect.timeout(sessions.begin(id), "1 second")
          free.release()
        }
      })
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 30 }), (steps) =>
        Effect.runPromise(Effect.provide(program(steps), Sessions.layerMemory()))
      ),
      { numRuns: 100 }
    )
  })
})

describe("History.trim", () => {
  const call: Message.Message = { role: "assistant", content: "", toolCalls: [{ id: "1", name: "t", arguments: {} }] }
  const result: Message.Message = { role: "tool", content: "1", toolCallId: "1", toolName: "t" }
  const turns = (n: number) => Array.from({ length: n }, (_, i) => say(`${i}`.padEnd(30, "."))).flat()

  it("keeps everything that fits, in order: the caller's system prompt, the history, the question", () => {
    const { messages, trimmed } = History.trim(say("a"), [system("s"), user("b")], { contextLength: 100, reserve: 20 })
    assert.deepEqual(texts(messages), ["s", "a", "re: a", "b"])
    assert.strictEqual(trimmed, 0)
    const unknown = History.trim(turns(500), [user("b")], { contextLength: undefined, reserve: 20 })
    assert.strictEqual(unknown.trimmed, 0)
    assert.lengthOf(unknown.messages, 1001)
  })

  it("drops the oldest turns, each whole, and returns the number of messages", () => {
    const history = [user("x".repeat(300)), call, result, assistant("done"), ...say("near")]
    const { messages, trimmed } = History.trim(history, [system("s"), user("now")], { contextLength: 60, reserve: 10 })
    assert.deepEqual(texts(messages), ["s", "near", "re: near", "now"])
    assert.strictEqual(trimmed, 4)
  })

  it("keeps system messages, and the question if nothing else fits", () => {
    const history = [system("rules"), ...turns(3)]
    const { messages, trimmed } = History.trim(history, [user("q".repeat(900))], { contextLength: 64, reserve: 32 })
    assert.deepEqual(texts(messages).slice(0, 1), ["rules"])
    assert.lengthOf(messages, 2)
    assert.strictEqual(trimmed, 6)
  })

  it("counts images and tool calls", () => {
    const picture = user([{ type: "image", data: "AAAA", mediaType: "image/png" }])
    assert.strictEqual(History.estimateTokens(picture), 804)
    assert.strictEqual(History.estimateTokens(user("1234567")), 7)
    assert.isAbove(History.estimateTokens(call), 10)
    const { trimmed } = History.trim([picture, assistant("ok")], [user("q")], { contextLength: 500, reserve: 100 })
    assert.strictEqual(trimmed, 2)
  })

  it("never splits a turn, never exceeds the limit, and drops no more than needed", () => {
    const text = fc.string({ maxLength: 40 })
    const aTurn = fc.oneof(
      text.map(say),
      fc.tuple(text, text).map(([a, b]) => [user(a), call, result, assistant(b)]),
      text.map((a) => [user(a)])
    )
    fc.assert(
      fc.property(
        fc.array(
          fc.oneof(
            { weight: 5, arbitrary: aTurn },
            text.map((s) => [system(s)])
          ),
          { maxLength: 12 }
        ),
        fc.boolean(),
        fc.integer({ min: 0, max: 400 }),
        (parts, greeting, contextLength) => {
          const history = [...(greeting ? [assistant("Welcome!")] : []), ...parts.flat()]
          const fresh = [system("s"), user("q")]
          const { messages, trimmed } = History.trim(history, fresh, { contextLength, reserve: 30 })
          const kept = messages.slice(1, -1)
          assert.deepEqual([messages[0], messages.at(-1)], fresh)
          assert.strictEqual(kept.length + trimmed, history.length)
          // What is kept is every system message and a suffix of the rest that begins a turn.
          const rest = (all: ReadonlyArray<Message.Message>) => all.filter((m) => m.role !== "system")
          assert.deepEqual(
            kept.filter((m) => m.role === "system"),
            history.filter((m) => m.role === "system")
          )
          const suffix = rest(history).slice(rest(history).length - rest(kept).length)
          assert.deepEqual(rest(kept), suffix)
          if (trimmed > 0 && suffix.length > 0) assert.strictEqual(suffix[0]?.role, "user")
          const size = (all: ReadonlyArray<Message.Message>) =>
            all.reduce((sum, m) => sum + History.estimateTokens(m), 0)
          if (suffix.length > 0) assert.isAtMost(size(messages), contextLength - 30)
          if (trimmed > 0) {
            const older = rest(history).slice(0, rest(history).length - suffix.length)
            const start = Math.max(
              0,
              older.findLastIndex((m) => m.role === "user")
            )
            assert.isAbove(size(messages) + size(older.slice(start)), contextLength - 30)
          }
        }
      ),
      { numRuns: 1000 }
    )
  })
})

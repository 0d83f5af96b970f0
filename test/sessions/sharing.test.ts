import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as fc from "fast-check"
import { afterAll, assert, describe, it } from "vitest"
import { assistant, type Message, user } from "../../src/Message.js"
import * as Sessions from "../../src/Sessions.js"
import { ownerOf, victims } from "../../src/sessions/eviction.js"
import * as SessionFolder from "../../src/sessions/folder.js"

const home = mkdtempSync(join(tmpdir(), "aicortex-sharing-"))
afterAll(() => rmSync(home, { recursive: true, force: true }))
let count = 0
const newFolder = () => join(home, String(count++))

const run = <A, E>(effect: Effect.Effect<A, E>): Promise<A> => Effect.runPromise(effect)
const inFolder = (folder: string, options: Omit<SessionFolder.Options, "folder"> = {}) =>
  run(Effect.provide(SessionFolder.make({ folder, ...options }), NodeContext.layer))

/** An id as `Sessions.create` makes them. */
const id = (owner: string, n: number) => `${owner}${n.toString(16).padStart(16, "0")}`
const say = (word: string): ReadonlyArray<Message> => [user(word), assistant(`re: ${word}`)]

const kinds: ReadonlyArray<readonly [string, (options: Sessions.MemoryOptions) => Promise<Sessions.Store>]> = [
  ["memory", (options) => run(Sessions.makeStoreMemory(options))],
  ["a folder", (options) => inFolder(newFolder(), options)]
]

for (const [kind, open] of kinds) {
  describe(`conversations of several owners in ${kind}`, () => {
    const alive = async (store: Sessions.Store, ids: ReadonlyArray<string>) => {
      const found = await Promise.all(ids.map((one) => run(store.load(one))))
      return ids.filter((_, i) => Option.isSome(found[i] as Option.Option<unknown>))
    }

    it("an owner that creates without end deletes only its own", async () => {
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

    it("an owner that writes without end deletes only its own", async () => {
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

    it("an owner without any has room although another one holds all", async () => {
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

    it("one conversation that would take all room is refused, and the others stay", async () => {
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

    it("one owner alone loses its oldest", async () => {
      const store = await open({ maxSessions: 3 })
      for (let n = 0; n < 5; n++) await run(store.create(id("", n)))
      assert.lengthOf(await run(store.list()), 3)
    })
  })
}

describe("which conversations are deleted", () => {
  it("never one of an owner within its reserve, and as many as it takes", () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ owner: fc.integer({ min: 0, max: 5 }), amount: fc.integer({ min: 0, max: 9 }) }), {
          maxLength: 60
        }),
        fc.integer({ min: 0, max: 5 }),
        fc.integer({ min: 0, max: 9 }),
        fc.integer({ min: 1, max: 200 }),
        (items, writer, added, capacity) => {
          const all = items.map(({ amount, owner }, n) => ({ id: id(`o${owner}-`, n), usedAt: n, amount }))
          const { chosen: gone, fits } = victims(all, `o${writer}-`, added, capacity, () => false)
          const left = all.filter((item) => !gone.includes(item))
          const total = left.reduce((sum, { amount }) => sum + amount, added)
          assert.strictEqual(fits, total <= capacity || all.every((item) => ownerOf(item.id) === `o${writer}-`))
          // Only who holds more than its reserve, and has lost all else, is refused.
          if (!fits) assert.isAbove(added, capacity / 16 - 1)
          const heldBy = (list: typeof all, owner: string) =>
            list.filter((item) => ownerOf(item.id) === owner).reduce((sum, { amount }) => sum + amount, 0)
          for (const item of gone) {
            const owner = ownerOf(item.id)
            if (owner === `o${writer}-`) continue
            // Whoever lost to another held more than the reserve, and the writer no more than that.
            assert.isAbove(heldBy(all, owner), capacity / 16)
            assert.isAtMost(added, capacity / 6)
          }
        }
      )
    )
  })
})

describe("a folder of conversations that somebody else wrote into", () => {
  const damaged = async () => {
    const folder = newFolder()
    const store = await inFolder(folder)
    await run(store.create(id("", 1)))
    await run(store.append(id("", 1), 0, say("one")))
    writeFileSync(join(folder, "notes"), "mine")
    mkdirSync(join(folder, "pictures"))
    writeFileSync(join(folder, "pictures", "cat.png"), "cat")
    mkdirSync(join(folder, id("", 2)))
    writeFileSync(join(folder, id("", 2), "1.json"), "{ not JSON")
    return { folder, store }
  }

  it("is listed without what cannot be read, and goes on", async () => {
    const { store } = await damaged()
    const list = await run(store.list())
    assert.deepEqual(
      list.filter(({ messages }) => messages > 0).map((one) => one.id),
      [id("", 1)]
    )
    assert.isFalse(list.some((one) => one.id === "notes" || one.id === id("", 2)))
    assert.isTrue(await run(store.append(id("", 1), 1, say("two"))))
    assert.isTrue(Option.isNone(await run(store.load("notes"))))
    assert.isTrue(await run(store.create(id("", 3))))
  })

  it("keeps foreign files when it makes room", async () => {
    const { folder } = await damaged()
    const store = await inFolder(folder, { maxSessions: 2, maxBytes: 10_000 })
    for (let n = 10; n < 16; n++) {
      await run(store.create(id("", n)))
      await run(store.append(id("", n), 0, say("x".repeat(4_000))))
    }
    assert.isTrue(existsSync(join(folder, "notes")))
    assert.isTrue(existsSync(join(folder, "pictures", "cat.png")))
  })

  it("loses what killed processes left, and not what others are writing now", async () => {
    const folder = newFolder()
    mkdirSync(folder)
    const old = `.${globalThis.crypto.randomUUID()}`
    const oldTrash = `.${globalThis.crypto.randomUUID()}`
    const young = `.${globalThis.crypto.randomUUID()}`
    writeFileSync(join(folder, old), "half")
    mkdirSync(join(folder, oldTrash))
    writeFileSync(join(folder, oldTrash, "1.json"), "{}")
    writeFileSync(join(folder, young), "half")
    writeFileSync(join(folder, ".mine"), "mine")
    const hours = new Date(Date.now() - 7_200_000)
    utimesSync(join(folder, old), hours, hours)
    utimesSync(join(folder, oldTrash), hours, hours)
    utimesSync(join(folder, ".mine"), hours, hours)
    const store = await inFolder(folder)
    await run(store.create(id("", 1)))
    assert.sameMembers(readdirSync(folder), [young, ".mine", id("", 1)])
  })
})

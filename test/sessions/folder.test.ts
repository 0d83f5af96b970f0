import { fork } from "node:child_process"
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync
} from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as FileSystem from "@effect/platform/FileSystem"
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import { build } from "esbuild"
import * as fc from "fast-check"
import { afterAll, afterEach, assert, describe, expect, it } from "vitest"
import type { SessionsUnavailable } from "../../src/Errors.js"
import { assistant, type Message, text, user } from "../../src/Message.js"
import { createCortex } from "../../src/promise.js"
import type * as Sessions from "../../src/Sessions.js"
import * as SessionFolder from "../../src/sessions/folder.js"
import { startFakeOllama } from "../support/fakeServer.js"

const home = mkdtempSync(join(tmpdir(), "aicortex-sessions-"))
afterAll(() => rmSync(home, { recursive: true, force: true }))
let count = 0
const newFolder = () => join(home, String(count++))

const stops: Array<() => Promise<unknown>> = []
afterEach(async () => {
  await Promise.all(stops.splice(0).map((stop) => stop()))
})

const open = (folder: string, options: Omit<SessionFolder.Options, "folder"> = {}) =>
  Effect.runPromise(Effect.provide(SessionFolder.make({ folder, ...options }), NodeContext.layer))
const run = <A>(effect: Effect.Effect<A, SessionsUnavailable>): Promise<A> => Effect.runPromise(effect)
const said = async (store: Sessions.Store, id: string) =>
  Option.map(await run(store.load(id)), ({ messages }) => messages.map(text)).pipe(Option.getOrUndefined)
const say = (word: string): ReadonlyArray<Message> => [user(word), assistant(`re: ${word}`)]

describe("conversations in a folder", () => {
  it("outlive the process that made them, with everything that a message may hold", async () => {
    const folder = newFolder()
    const store = await open(folder)
    const messages: ReadonlyArray<Message> = [
      {
        role: "user",
        content: [
          { type: "text", text: "你好 👋" },
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
    assert.deepEqual(await run(store.load("a")), Option.some({ version: 0, messages: [] }))
    assert.isTrue(await run(store.append("a", 0, messages)))
    const again = await open(folder)
    assert.deepEqual(await run(again.load("a")), Option.some({ version: 1, messages }))
    assert.isTrue(await run(again.append("a", 1, say("more"))))
    assert.lengthOf((await said(store, "a")) ?? [], 6)
    assert.deepEqual(await run(store.load("b")), Option.none())
  })

  it("are for their user's eyes", async () => {
    const folder = newFolder()
    const store = await open(folder)
    await run(store.create("a"))
    await run(store.append("a", 0, say("secret")))
    assert.strictEqual(statSync(folder).mode & 0o077, 0)
    assert.strictEqual(statSync(join(folder, "a", "1.json")).mode & 0o077, 0)
  })

  it("an id that is taken is never taken over", async () => {
    const folder = newFolder()
    const store = await open(folder)
    assert.isTrue(await run(store.create("a")))
    await run(store.append("a", 0, say("kept")))
    assert.isFalse(await run((await open(folder)).create("a")))
    assert.deepEqual(await said(store, "a"), ["kept", "re: kept"])
  })

  it("an id that leads elsewhere is no id", async () => {
    const folder = newFolder()
    const store = await open(join(folder, "inner"))
    await run(store.create("a"))
    mkdirSync(join(folder, "outer"))
    writeFileSync(join(folder, "outer", "1.json"), JSON.stringify({ messages: say("no") }))
    for (const id of ["../outer", "..", ".", "", "a/../../outer", "/etc", "A", "a.b", "a\u0000", "x".repeat(200)]) {
      assert.deepEqual(await run(store.load(id)), Option.none(), id)
      assert.isFalse(await run(store.append(id, 1, say("x"))), id)
      assert.isFalse(await run(store.reset(id)), id)
      assert.isFalse(await run(store.remove(id)), id)
      assert.isTrue(Either.isLeft(await run(Effect.either(store.create(id)))), id)
    }
    assert.deepEqual(readdirSync(join(folder, "outer")), ["1.json"])
    assert.deepEqual(readdirSync(folder).sort(), ["inner", "outer"])
  })

  it("are added to only by who knows what was said last", async () => {
    const folder = newFolder()
    const [one, two] = [await open(folder), await open(folder)]
    await run(one.create("a"))
    assert.isTrue(await run(one.append("a", 0, say("1"))))
    assert.isFalse(await run(two.append("a", 0, say("late"))))
    assert.isFalse(await run(two.append("a", 7, say("early"))))
    assert.isTrue(await run(two.append("a", 1, say("2"))))
    assert.deepEqual(await said(one, "a"), ["1", "re: 1", "2", "re: 2"])
    assert.isFalse(await run(one.append("nobody", 0, say("x"))))
    assert.isFalse(existsSync(join(folder, "nobody")))
  })

  it("start over, and nothing of the conversation is left on the disk", async () => {
    const folder = newFolder()
    const [one, two] = [await open(folder), await open(folder)]
    await run(one.create("a"))
    for (let i = 0; i < 5; i++) assert.isTrue(await run(one.append("a", i, say(`secret ${i}`))))
    assert.isTrue(await run(two.reset("a")))
    assert.deepEqual(await said(one, "a"), [])
    for (const file of readdirSync(join(folder, "a")))
      assert.notInclude(readFileSync(join(folder, "a", file), "utf8"), "secret")
    // Whoever still knows the old one is told, whichever of its places are free again.
    for (let version = 0; version < 6; version++) assert.isFalse(await run(one.append("a", version, say("late"))))
    assert.deepEqual(await said(two, "a"), [])
    assert.isTrue(await run(one.append("a", 6, say("new"))))
    assert.deepEqual(await said(two, "a"), ["new", "re: new"])
    assert.isTrue(await run(two.remove("a")))
    assert.isFalse(await run(one.remove("a")))
    assert.isFalse(await run(one.reset("a")))
    assert.isFalse(await run(one.append("a", 7, say("x"))))
    assert.deepEqual(readdirSync(folder), [])
  })

  it("say which file cannot be read, and keep it", async () => {
    const folder = newFolder()
    const store = await open(folder)
    await run(store.create("a"))
    await run(store.append("a", 0, say("1")))
    const file = join(folder, "a", "1.json")
    writeFileSync(file, '{"messages": [{"role"')
    const error = Either.getOrThrow(Either.flip(await run(Effect.either(store.load("a")))))
    assert.include(error.message, file)
    assert.include(readFileSync(file, "utf8"), '"role"')
    // A part that is gone is no shorter conversation.
    await run(store.create("b"))
    for (let i = 0; i < 3; i++) await run(store.append("b", i, say(`${i}`)))
    rmSync(join(folder, "b", "2.json"))
    const gap = Either.getOrThrow(Either.flip(await run(Effect.either(store.load("b")))))
    assert.include(gap.message, "parts missing")
    const unusable = await open(join(file, "below"))
    assert.include(String(Either.getOrThrow(Either.flip(await run(Effect.either(unusable.create("a")))))), file)
  })

  it("so many are kept, and for so long", async () => {
    const folder = newFolder()
    const store = await open(folder, { maxSessions: 3, ttl: 3_600_000 })
    const age = (id: string, seconds: number) => {
      const time = Date.now() / 1000 - seconds
      utimesSync(join(folder, id), time, time)
    }
    for (const id of ["a", "b", "c"]) await run(store.create(id))
    age("a", 60)
    age("b", 120)
    age("c", 30)
    await run(store.create("d"))
    assert.deepEqual(readdirSync(folder).sort(), ["a", "c", "d"])
    assert.deepEqual(
      (await run(store.list())).map(({ id }) => id),
      ["d", "c", "a"]
    )
    age("a", 3_700)
    assert.deepEqual(await run(store.load("a")), Option.none())
    assert.isFalse(existsSync(join(folder, "a")))

    // One whose time is over while an answer is under way stays until that is stored.
    age("c", 3_598)
    const ticket = store.turn?.("c")
    await new Promise((resolve) => setTimeout(resolve, 2_200))
    assert.isTrue(Option.isSome(await run(store.load("c"))))
    ticket?.release()
    assert.deepEqual(await run(store.load("c")), Option.none())
  })

  const conversations = (folder: string) => readdirSync(folder).filter((id) => !id.startsWith("."))
  const bytesOf = (folder: string) =>
    conversations(folder).reduce(
      (sum, id) =>
        readdirSync(join(folder, id)).reduce((all, file) => all + statSync(join(folder, id, file)).size, sum),
      0
    )
  const long = () => say("x".repeat(1_000))

  it("so much room they take, and those that were not written to for longest go first", async () => {
    const folder = newFolder()
    const maxBytes = 50_000
    const store = await open(folder, { maxBytes })
    assert.isFalse(await run(store.append("nobody", 0, long())))
    const age = (id: string, seconds: number) => {
      const time = Date.now() / 1000 - seconds
      utimesSync(join(folder, id), time, time)
    }
    const ids = Array.from({ length: 60 }, (_, i) => `c${i}`)
    for (const [i, id] of ids.entries()) {
      await run(store.create(id))
      assert.isTrue(await run(store.append(id, 0, long())))
      assert.isAtMost(bytesOf(folder), maxBytes)
      age(id, 1_000 - i)
    }
    const left = ids.filter((id) => existsSync(join(folder, id)))
    assert.deepEqual(left, ids.slice(-left.length))
    // A sixteenth is made free, and no more than is needed for that and the turn.
    assert.isAbove(bytesOf(folder), maxBytes - maxBytes / 16 - 3_000)
    // What is under way stays, however old it is, and so does what is written to.
    const [oldest = ""] = left
    const ticket = store.turn?.(oldest)
    const last = ids.at(-1) ?? ""
    for (let version = 1; version < 30; version++) {
      age(last, 2_000)
      assert.isTrue(await run(store.append(last, version, long())))
    }
    assert.deepEqual(conversations(folder).sort(), [last, oldest].sort())
    ticket?.release()
    assert.isTrue(await run(store.append(last, 30, long())))
    assert.lengthOf((await said(store, last)) ?? [], 62)
  })

  it("several processes that share a folder share its room, but for what each has added since it counted", async () => {
    const folder = newFolder()
    const maxBytes = 50_000
    const stores = await Promise.all([
      open(folder, { maxBytes }),
      open(folder, { maxBytes }),
      open(folder, { maxBytes })
    ])
    await Promise.all(
      stores.map(async (store, who) => {
        for (let i = 0; i < 60; i++) {
          await run(store.create(`p${who}-${i}`))
          await run(store.append(`p${who}-${i}`, 0, long()))
        }
      })
    )
    assert.isAtMost(bytesOf(folder), maxBytes + (3 * maxBytes) / 16 + 3 * 3_000)
    // Whoever comes later counts what it finds.
    const late = await open(folder, { maxBytes })
    await run(late.create("late"))
    await run(late.append("late", 0, long()))
    assert.isAtMost(bytesOf(folder), maxBytes)
    assert.lengthOf((await said(late, "late")) ?? [], 2)
  })

  it("are looked at again only where they have changed", async () => {
    const folder = newFolder()
    const first = await open(folder)
    for (let i = 0; i < 40; i++) {
      await run(first.create(`c${i}`))
      for (let version = 0; version < 3; version++) await run(first.append(`c${i}`, version, say("x")))
      utimesSync(join(folder, `c${i}`), 1_000 + i, 1_000 + i)
    }
    let stats = 0
    const counting = FileSystem.FileSystem.pipe(
      Effect.map((fs) => ({
        ...fs,
        stat: (path: string) => {
          stats++
          return fs.stat(path)
        }
      })),
      Effect.provide(NodeContext.layer)
    )
    const maxBytes = 160_000
    const make = () =>
      Effect.runPromise(
        SessionFolder.make({ folder, maxBytes }).pipe(
          Effect.provideServiceEffect(FileSystem.FileSystem, counting),
          Effect.provide(NodeContext.layer)
        )
      )
    const store = await make()
    const append = async (version: number, size: number) => {
      stats = 0
      assert.isTrue(await run(store.append("c0", version, say("x".repeat(size)))))
      return stats
    }
    // Every file, once.
    assert.isAtLeast(await append(3, 10), 40 + 3 * 40)
    for (let version = 4; version < 8; version++) assert.strictEqual(await append(version, 10), 0)
    // More than a sixteenth: each conversation is looked at, but only the changed one into.
    const again = await append(8, 6_000)
    assert.isAtLeast(again, 40)
    assert.isAtMost(again, 40 + 10)
    assert.lengthOf(conversations(folder), 40)
    // Another process profits from what was counted, and counts anew where that cannot be read.
    const other = async () => {
      stats = 0
      const next = await make()
      const { version } = Option.getOrThrow(await run(next.load("c0")))
      assert.isTrue(await run(next.append("c0", version, say("x"))))
      return stats
    }
    assert.isAtMost(await other(), 40 + 20)
    writeFileSync(join(folder, ".sizes"), '{"c1": 5')
    assert.isAtLeast(await other(), 40 + 3 * 39)
    assert.isAtMost(await other(), 40 + 20)
  })

  it("are listed, the one that was used last first", async () => {
    const folder = newFolder()
    const store = await open(folder)
    assert.deepEqual(await run(store.list()), [])
    for (const [i, id] of ["x-1", "y-2", "x-3"].entries()) {
      await run(store.create(id))
      await run(store.append(id, 0, say(`hello ${id} ${"é".repeat(300)}`)))
      utimesSync(join(folder, id), 1_000 + i, 1_000 + i)
    }
    writeFileSync(join(folder, "notes.txt"), "mine")
    const all = await run(store.list())
    assert.deepEqual(
      all.map(({ id, messages, usedAt }) => [id, messages, usedAt]),
      [
        ["x-3", 2, 1_002_000],
        ["y-2", 2, 1_001_000],
        ["x-1", 2, 1_000_000]
      ]
    )
    assert.strictEqual([...(all[0]?.opening ?? "")].length, 200)
    assert.deepEqual(
      (await run(store.list({ limit: 1, prefix: "x-" }))).map(({ id }) => id),
      ["x-3"]
    )
  })

  it("any order of changes by several is as if they had come one after another", async () => {
    const step = fc.record({
      who: fc.nat(2),
      what: fc.constantFrom("say", "say", "say", "reset", "load"),
      yields: fc.nat(3)
    })
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 4, maxLength: 24 }), async (steps) => {
        const folder = newFolder()
        const stores = await Promise.all([open(folder), open(folder), open(folder)])
        await run(stores[0].create("a"))
        /** What was said and not yet forgotten by a reset that began later. */
        const done: Array<{ readonly word: string; readonly from: number; readonly to: number }> = []
        const resets: Array<{ readonly from: number; readonly to: number }> = []
        let clock = 0
        await Promise.all(
          steps.map(async ({ what, who, yields }, i) => {
            const store = stores[who] ?? stores[0]
            for (let n = 0; n < yields; n++) await new Promise((resolve) => setImmediate(resolve))
            const from = clock++
            if (what === "reset") {
              assert.isTrue(await run(store.reset("a")))
              resets.push({ from, to: clock++ })
            } else if (what === "say") {
              while (true) {
                const { version } = Option.getOrThrow(await run(store.load("a")))
                if (await run(store.append("a", version, say(`${i}`)))) break
              }
              done.push({ word: `${i}`, from, to: clock++ })
            } else {
              const words = (await said(store, "a")) ?? []
              for (let n = 0; n < words.length; n += 2) assert.strictEqual(words[n + 1], `re: ${words[n]}`)
              assert.strictEqual(new Set(words).size, words.length)
            }
          })
        )
        const left = ((await said(stores[0], "a")) ?? []).filter((_, n) => n % 2 === 0)
        for (const { from, to, word } of done) {
          const kept = left.includes(word)
          // Lost only if a reset may have come after it, kept only if none certainly did.
          if (!kept)
            assert.isTrue(
              resets.some((reset) => reset.to > from),
              `${word} was lost`
            )
          if (kept)
            assert.isFalse(
              resets.some((reset) => reset.from > to),
              `${word} came back`
            )
        }
        assert.strictEqual(new Set(left).size, left.length)
        assert.lengthOf(readdirSync(folder), 1)
      }),
      { numRuns: 20 }
    )
  })

  it("two processes at the same time lose nothing and repeat nothing", async () => {
    const folder = newFolder()
    const store = await open(folder)
    await run(store.create("a"))
    const root = fileURLToPath(new URL("../..", import.meta.url))
    // Inside node_modules, so that bare imports resolve.
    const cache = join(root, "node_modules", ".cache", "aicortex-test")
    mkdirSync(cache, { recursive: true })
    const outdir = mkdtempSync(join(cache, "sessions-"))
    stops.push(async () => rmSync(outdir, { recursive: true }))
    const program = join(outdir, "sessionWriter.mjs")
    await build({
      entryPoints: [join(root, "test/support/sessionWriter.ts")],
      outfile: program,
      bundle: true,
      format: "esm",
      platform: "node",
      target: "node20",
      external: ["node-llama-cpp"],
      alias: { aicortex: join(root, "src/index.ts") }
    })
    const writer = (name: string) =>
      new Promise<number | null>((resolve, reject) => {
        const child = fork(program, [folder, "a", name, "25"], { stdio: "inherit" })
        child.on("error", reject)
        child.on("exit", resolve)
      })
    expect(await Promise.all([writer("x"), writer("y")])).toEqual([0, 0])
    const words = ((await said(store, "a")) ?? []).filter((_, n) => n % 2 === 0)
    for (const name of ["x", "y"]) {
      assert.deepEqual(
        words.filter((word) => word.startsWith(name)),
        Array.from({ length: 25 }, (_, i) => `${name}${i}`)
      )
    }
    assert.lengthOf(words, 50)
    assert.deepEqual(readdirSync(folder), ["a"])
  })
})

describe("a fleet with a folder for its sessions", () => {
  it("goes on with a conversation of a process that has ended", async () => {
    const server = await startFakeOllama({ reply: ({ messages }) => `${messages.length}` })
    stops.push(server.stop)
    const folder = newFolder()
    const options = { servers: [server.url], model: "llama3.2:3b", configFile: false, sessions: { folder } } as const
    const first = createCortex(options)
    const session = await first.Session.create()
    assert.strictEqual(await first.chat("one", { session }), "1")
    await first.close()
    await using second = createCortex(options)
    const resumed = await second.Session.resume(session.id)
    assert.strictEqual(await second.chat("two", { session: resumed }), "3")
    const copy = await second.Session.create({ messages: await resumed.history() })
    assert.strictEqual(await second.chat("three", { session: copy }), "5")
    assert.lengthOf(await resumed.history(), 4)
    const list = await second.Session.list()
    assert.deepEqual(list.map(({ messages, opening }) => [messages, opening]).sort(), [
      [4, "one"],
      [6, "one"]
    ])
    assert.lengthOf(await second.Session.list({ limit: 1 }), 1)
    await expect(second.Session.list({ limit: 0 })).rejects.toMatchObject({ _tag: "InvalidRequest", field: "limit" })
    const wrong = [{ role: "nobody", content: "x" }] as never
    await expect(second.Session.create({ messages: wrong })).rejects.toMatchObject({ _tag: "InvalidRequest" })
    assert.lengthOf(await second.Session.list(), 2)
  })

  it("takes the folder from options, environment and file, in this order", async () => {
    const [given, named, filed] = [newFolder(), newFolder(), newFolder()]
    const file = join(home, "config.json")
    writeFileSync(file, JSON.stringify({ servers: ["http://127.0.0.1:1"], sessions: { folder: filed, ttl: 60 } }))
    const before = process.env["AICORTEX_SESSIONS"]
    try {
      const create = async (options: object) => {
        await using cortex = createCortex({ configFile: file, ...options })
        return (await cortex.Session.create()).id
      }
      delete process.env["AICORTEX_SESSIONS"]
      assert.deepEqual([await create({})], readdirSync(filed))
      process.env["AICORTEX_SESSIONS"] = named
      assert.deepEqual([await create({})], readdirSync(named))
      assert.deepEqual([await create({ sessions: { folder: given } })], readdirSync(given))
      await create({ sessions: { folder: false } })
      process.env["AICORTEX_SESSIONS"] = "off"
      await create({})
      for (const folder of [given, named, filed]) assert.lengthOf(readdirSync(folder), 1)
      for (const sessions of [{ folder: " " }, { folder: given, maxBytes: 0 }, { folder: given, maxSessions: 0 }]) {
        await expect(create({ sessions })).rejects.toMatchObject({ _tag: "InvalidConfig" })
      }
    } finally {
      if (before === undefined) delete process.env["AICORTEX_SESSIONS"]
      else process.env["AICORTEX_SESSIONS"] = before
    }
  })
})

import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync
} from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Logger from "effect/Logger"
import { build } from "esbuild"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import * as Cortex from "../../src/Cortex.js"
import * as Config from "../../src/config/resolve.js"
import { assistant, type Message, text, user } from "../../src/Message.js"
import * as Store from "../../src/Store.js"
import { importing, MissingPackage } from "../../src/store/packages.js"
import { type Database, engines } from "../support/databases.js"

const home = mkdtempSync(join(tmpdir(), "aicortex-import-"))
afterAll(() => rmSync(home, { recursive: true, force: true }))
const run = <A, E>(effect: Effect.Effect<A, E, NodeContext.NodeContext>): Promise<A> =>
  Effect.runPromise(Effect.provide(effect, NodeContext.layer))
let count = 0

type Entry = { readonly reset?: true; readonly messages: ReadonlyArray<Message> }

/** A conversation as earlier versions wrote it: what was added together is one file. */
const write = (folder: string, id: string, entries: ReadonlyArray<Entry>, first = 1) => {
  mkdirSync(join(folder, id), { recursive: true })
  for (const [i, entry] of entries.entries()) {
    writeFileSync(join(folder, id, `${first + i}.json`), JSON.stringify(entry))
  }
}

for (const engine of engines) {
  describe(`the conversations of a folder in ${engine.name}`, () => {
    let database: Database
    beforeAll(async () => {
      database = await engine.start()
    })
    afterAll(() => database.close())

    const folderOf = (ids: ReadonlyArray<string>) => {
      const folder = join(home, String(count++))
      mkdirSync(folder)
      for (const id of ids) {
        write(
          folder,
          id,
          [0, 1, 2].map((i) => ({ messages: [user(`${id} ${i}`), assistant(`re: ${i}`)] }))
        )
      }
      return folder
    }
    const open = (address: string, folder: string) =>
      Effect.flatMap(Store.make(address), (store) => Cortex.makeSessionStore({ folder }, store))
    const listed = (address: string, folder: string) =>
      run(
        Effect.scoped(
          Effect.gen(function* () {
            const sessions = yield* open(address, folder)
            const all = yield* sessions.list()
            return yield* Effect.forEach(all, ({ id }) =>
              Effect.map(Effect.flatten(sessions.load(id)), ({ messages }) => [id, messages.map(text).join()] as const)
            )
          })
        )
      ).then((entries) => Object.fromEntries(entries))

    const said = (id: string) => `${id} 0,re: 0,${id} 1,re: 1,${id} 2,re: 2`

    it("are imported once, by any number of processes and attempts, and the folder is kept aside", async () => {
      const folder = folderOf(["a", "b", "c"])
      const address = await database.address()
      const all = await Promise.all([listed(address, folder), listed(address, folder)])
      for (const found of all) assert.deepEqual(found, { a: said("a"), b: said("b"), c: said("c") })
      assert.isFalse(existsSync(folder))
      assert.deepEqual(readdirSync(`${folder}.imported`).sort(), ["a", "b", "c"])
      // What is removed does not come back, and what is added stays.
      await run(
        Effect.scoped(
          Effect.gen(function* () {
            const sessions = yield* open(address, folder)
            yield* sessions.remove("a")
            assert.isTrue(yield* sessions.append("b", 3, [user("more")]))
          })
        )
      )
      assert.deepEqual(await listed(address, folder), { b: `${said("b")},more`, c: said("c") })
    })

    it("keep their turns and times; turns before a reset are not among them", async () => {
      const folder = folderOf(["a"])
      const time = (file: string, seconds: number) => utimesSync(join(folder, file), seconds, seconds)
      for (const i of [1, 2, 3]) time(join("a", `${i}.json`), 1_700_000_000 + i)
      time("a", 1_700_000_003)
      // A reset that was killed before it had deleted the files before it, and one that had.
      write(folder, "b", [{ messages: [user("old")] }, { reset: true, messages: [] }, { messages: [user("new")] }])
      write(folder, "c", [{ reset: true, messages: [] }, { messages: [user("last")] }], 7)
      mkdirSync(join(folder, "d"))
      const address = await database.address()
      const [a, b, c, d] = await run(
        Effect.scoped(
          Effect.gen(function* () {
            const sessions = yield* open(address, folder)
            return yield* Effect.forEach(["a", "b", "c", "d"], (id) => Effect.flatten(sessions.read(id)))
          })
        )
      )
      const of = (one: typeof a) => one?.turns.map(({ messages }) => messages.map(text))
      assert.deepEqual(
        a?.turns.map(({ at }) => at),
        [1, 2, 3].map((i) => (1_700_000_000 + i) * 1_000)
      )
      assert.deepEqual(
        [a?.summary.createdAt, a?.summary.usedAt],
        [1_700_000_001, 1_700_000_003].map((seconds) => seconds * 1_000)
      )
      assert.deepEqual(of(a), [
        ["a 0", "re: 0"],
        ["a 1", "re: 1"],
        ["a 2", "re: 2"]
      ])
      assert.deepEqual([of(b), of(c), of(d)], [[["new"]], [["last"]], []])
    })

    it("an interrupted import is continued: a conversation that the store has is unchanged", async () => {
      const folder = folderOf(["a", "b"])
      const address = await database.address()
      const other = folderOf(["a"])
      await listed(address, other)
      await run(
        Effect.scoped(
          Effect.gen(function* () {
            const sessions = yield* open(address, other)
            yield* sessions.append("a", 3, [user("newer")])
          })
        )
      )
      assert.deepEqual(await listed(address, folder), { a: `${said("a")},newer`, b: said("b") })
    })

    it("unreadable files stay in the folder, and foreign files do not stop the import", async () => {
      const folder = folderOf(["a"])
      write(folder, "half", [{ messages: [user("x")] }])
      writeFileSync(join(folder, "half", "2.json"), "{")
      write(folder, "gap", [{ messages: [user("x")] }])
      write(folder, "gap", [{ messages: [user("y")] }], 3)
      write(folder, "headless", [{ messages: [user("y")] }], 2)
      writeFileSync(join(folder, "notes"), "mine")
      writeFileSync(join(folder, ".sizes"), "{}")
      symlinkSync(join(folder, "loop"), join(folder, "loop"))
      mkdirSync(join(folder, "With Capitals"))
      const lines: Array<string> = []
      const logger = Logger.replace(
        Logger.defaultLogger,
        Logger.make(({ message }) => void lines.push([message].flat().join(" ")))
      )
      const address = await database.address()
      const found = await run(
        Effect.scoped(Effect.flatMap(open(address, folder), (sessions) => sessions.list())).pipe(Effect.provide(logger))
      )
      assert.deepEqual(
        found.map(({ id }) => id),
        ["a"]
      )
      for (const name of ["half", "gap", "headless", "notes"]) {
        assert.include(readdirSync(`${folder}.imported`), name)
      }
      assert.deepEqual(
        lines.map((line) => /conversation (\w+) is not taken/.exec(line)?.[1] ?? /^\d of \d/.exec(line)?.[0]),
        ["gap", "half", "headless", "1 of 4"]
      )
    })
  })
}

it("a folder without a store is refused, and names the setting", async () => {
  const folder = join(home, "alone")
  const place = [
    { options: { sessions: { folder } }, field: "sessions.folder" },
    { options: { sessions: { folder }, store: false as const }, field: "sessions.folder" }
  ]
  for (const { field, options } of place) {
    const error = await run(Effect.flip(Config.settings({ configFile: false, ...options })))
    assert.strictEqual(error.field, field)
    assert.match(error.reason, /`store`/)
  }
  // Controls: with a store, and with none of both.
  await run(Config.settings({ configFile: false, sessions: { folder }, store: join(home, "s.db") }))
  await run(Config.settings({ configFile: false, sessions: { folder: false } }))
  assert.isFalse(existsSync(folder))
})
describe("the packages of a store", () => {
  it.each(["libsql", "@effect/sql-libsql", "@effect/sql-pg", "@effect/sql", "@effect/experimental"])(
    "where %s is missing, the error says how to install it",
    async (name) => {
      const missing = Object.assign(new Error(`Cannot find package '${name}' imported from /x/store/sqlite.js`), {
        code: "ERR_MODULE_NOT_FOUND"
      })
      const error = await run(Effect.flip(importing(() => Promise.reject(missing))))
      assert.instanceOf(error, MissingPackage)
      assert.match(String(error), new RegExp(`${name} is not installed: npm install .*${name}`))
      const other = new Error("a bug")
      assert.strictEqual(
        Either.getOrThrow(Either.flip(await run(Effect.either(importing(() => Promise.reject(other)))))),
        other
      )
    }
  )

  it("are not loaded by importing the library, and not in browser bundles", async () => {
    const { metafile } = await build({
      entryPoints: ["src/index.ts", "src/promise.ts", "src/browser.ts"],
      bundle: true,
      splitting: true,
      packages: "external",
      format: "esm",
      platform: "node",
      outdir: join(home, "out"),
      metafile: true
    })
    /** What is loaded with an output, without what is imported later. */
    const loaded = (file: string, seen = new Set<string>()): ReadonlySet<string> => {
      for (const { external, kind, path } of metafile.outputs[file]?.imports ?? []) {
        if (kind === "dynamic-import" || seen.has(path)) continue
        seen.add(path)
        if (external !== true) loaded(path, seen)
      }
      return seen
    }
    const entries = Object.entries(metafile.outputs).filter(([, { entryPoint }]) =>
      /^src\/(index|promise|browser)\.ts$/.test(entryPoint ?? "")
    )
    assert.lengthOf(entries, 3)
    for (const [file] of entries) {
      const packages = [...loaded(file)]
      // A control: the walk sees packages at all.
      assert.isTrue(packages.some((name) => name.startsWith("effect/")))
      assert.deepEqual(
        packages.filter((name) => /^(libsql|@libsql\/|pg$|@effect\/(sql|experimental))/.test(name)),
        [],
        file
      )
    }
  })
})

import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { build } from "esbuild"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import * as Cortex from "../../src/Cortex.js"
import { assistant, text, user } from "../../src/Message.js"
import * as Store from "../../src/Store.js"
import * as SessionFolder from "../../src/sessions/folder.js"
import { importing, MissingPackage } from "../../src/store/packages.js"
import { type Database, engines } from "../support/databases.js"

const home = mkdtempSync(join(tmpdir(), "aicortex-import-"))
afterAll(() => rmSync(home, { recursive: true, force: true }))
const run = <A, E>(effect: Effect.Effect<A, E, NodeContext.NodeContext>): Promise<A> =>
  Effect.runPromise(Effect.provide(effect, NodeContext.layer))
let count = 0

for (const engine of engines) {
  describe(`the conversations of a folder in ${engine.name}`, () => {
    let database: Database
    beforeAll(async () => {
      database = await engine.start()
    })
    afterAll(() => database.close())

    const folderOf = (ids: ReadonlyArray<string>) =>
      run(
        Effect.gen(function* () {
          const folder = join(home, String(count++))
          const sessions = yield* SessionFolder.make({ folder })
          for (const id of ids) {
            yield* sessions.create(id)
            for (let i = 0; i < 3; i++) yield* sessions.append(id, i, [user(`${id} ${i}`), assistant(`re: ${i}`)])
          }
          return folder
        })
      )
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

    it("are there once, whoever takes them in and however often, and the folder is kept aside", async () => {
      const folder = await folderOf(["a", "b", "c"])
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
            assert.isTrue(yield* sessions.append("b", 1, [user("more")]))
          })
        )
      )
      assert.deepEqual(await listed(address, folder), { b: `${said("b")},more`, c: said("c") })
    })

    it("an import that was interrupted is gone on with, and one that cannot be read stays in the folder", async () => {
      const folder = await folderOf(["a", "b"])
      const address = await database.address()
      const other = await folderOf(["a"])
      await listed(address, other)
      await run(
        Effect.scoped(
          Effect.gen(function* () {
            const sessions = yield* open(address, other)
            yield* sessions.append("a", 1, [user("newer")])
          })
        )
      )
      await folderOf([])
      const broken = await run(SessionFolder.make({ folder }))
      await run(broken.create("c"))
      writeFileSync(join(folder, "c", "1.json"), "{")
      assert.deepEqual(await listed(address, folder), { a: `${said("a")},newer`, b: said("b") })
      assert.include(readdirSync(`${folder}.imported`), "c")
    })
  })
}

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

  it("are not loaded by importing the library, nor bundled into what pages load", async () => {
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

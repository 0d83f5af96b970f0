/** An import of an old session folder whose process is killed in the middle, and gone on with by others. */
import { once } from "node:events"
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import * as Cortex from "../../src/Cortex.js"
import { assistant, text, user } from "../../src/Message.js"
import * as Store from "../../src/Store.js"
import { type Database, engines } from "../support/databases.js"
import { makeProgram, type Program } from "../support/storeProgram.js"

/** More kills: `AICORTEX_KILLS=200 npx vitest run test/store/killedImport.test.ts`. */
const kills = Number(process.env["AICORTEX_KILLS"] ?? 5)
const conversations = 120
const turns = 3

const home = mkdtempSync(join(tmpdir(), "aicortex-killed-import-"))
let program: Program
beforeAll(async () => {
  program = await makeProgram("storeImporter")
})
afterAll(() => {
  program.remove()
  rmSync(home, { recursive: true, force: true })
})

const ids = Array.from({ length: conversations }, (_, i) => `session-${String(i).padStart(4, "0")}`)
const said = (id: string) =>
  Array.from({ length: turns }, (_, turn) => [user(`${id} asks ${turn}`), assistant(`${id} hears ${turn}`)])

let folders = 0
const makeFolder = (): string => {
  const folder = join(home, `old ${folders++}`)
  for (const id of ids) {
    mkdirSync(join(folder, id), { recursive: true })
    for (const [i, messages] of said(id).entries())
      writeFileSync(join(folder, id, `${i + 1}.json`), JSON.stringify({ messages }))
  }
  return folder
}

/** A moment of an import: so long, in milliseconds, after it has turned to the store so often. */
interface Moment {
  readonly uses: number
  readonly pause: number
}

/** Imports, and is killed at a moment; whether it was before its end, and how often it turned to the store otherwise. */
const importing = async (address: string, folder: string, kill?: Moment) => {
  const child = program.start(address, folder, ...(kill === undefined ? [] : [`${kill.uses}`, `${kill.pause}`]))
  let out = ""
  child.stdout?.setEncoding("utf8").on("data", (piece: string) => {
    out += piece
  })
  await once(child, "close")
  assert.include(out, "begins")
  const uses = /ends after (\d+) uses\n$/.exec(out)?.[1]
  return { isWhole: uses !== undefined, uses: Number(uses) }
}

/** What is in the store, which nobody imports into now. */
const stored = (address: string) =>
  Effect.runPromise(
    Effect.scoped(
      Effect.gen(function* () {
        const sessions = yield* Cortex.makeSessionStore({}, yield* Store.make(address))
        const found = yield* sessions.list({ limit: conversations + 1 })
        return yield* Effect.forEach(found, ({ id }) => Effect.map(sessions.read(id), Option.getOrThrow))
      })
    ).pipe(Effect.provide(NodeContext.layer))
  )

/** Each that is there is whole, with its turns as they were; how many there are. */
const checked = async (address: string): Promise<number> => {
  const all = await stored(address)
  assert.strictEqual(new Set(all.map(({ summary }) => summary.id)).size, all.length)
  for (const { summary, turns } of all) {
    assert.deepEqual(
      turns.map(({ messages }) => messages.map(text)),
      said(summary.id).map((messages) => messages.map(text))
    )
    assert.strictEqual(summary.messages, 2 * turns.length)
  }
  return all.length
}

for (const engine of engines) {
  describe(`an import into ${engine.name}`, () => {
    let database: Database
    let uses = 0
    const momentAt = (part: number): Moment => ({ uses: Math.floor(part * uses), pause: Math.random() * 3 })
    beforeAll(async () => {
      database = await engine.start()
      const control = await importing(await database.address(), makeFolder())
      assert.isTrue(control.isWhole)
      uses = control.uses
      assert.isAbove(uses, 10)
    }, 60_000)
    afterAll(() => database.close())

    it(
      `that is killed at ${kills} moments leaves whole conversations, and the next one takes the rest, each once`,
      async () => {
        const amid = new Set<number>()
        for (let done = 0; done < kills; ) {
          const address = await database.address()
          const folder = makeFolder()
          // The folder is gone on with until an import came to its end.
          for (let left = 3; ; left--) {
            const after = left > 0 && done < kills ? momentAt(Math.random()) : undefined
            const { isWhole } = await importing(address, folder, after)
            if (after !== undefined) done++
            const found = await checked(address)
            if (isWhole) break
            assert.isTrue(existsSync(folder) || existsSync(`${folder}.imported`))
            if (found > 0 && found < conversations) amid.add(found)
            if (found < conversations) assert.lengthOf(readdirSync(folder), conversations)
          }
          assert.strictEqual(await checked(address), conversations)
          assert.isFalse(existsSync(folder))
          assert.lengthOf(readdirSync(`${folder}.imported`), conversations)
        }
        // Control: it was killed in the middle, and not only before and after.
        assert.isAtLeast(amid.size, Math.min(3, kills / 3))
      },
      60_000 + kills * 10_000
    )

    it("is done once by several concurrent processes, some of which are killed", async () => {
      const address = await database.address()
      const folder = makeFolder()
      const ends = await Promise.all([
        importing(address, folder),
        ...[0.3, 0.5, 0.8].map((part) => importing(address, folder, momentAt(part)))
      ])
      assert.isTrue(ends[0]?.isWhole)
      assert.strictEqual(await checked(address), conversations)
      assert.isFalse(existsSync(folder))
      assert.deepEqual(
        readdirSync(home).filter((name) => name.startsWith(`${folder.slice(home.length + 1)}.`)),
        [`${folder.slice(home.length + 1)}.imported`]
      )
    }, 60_000)
  })
}

import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { afterAll, assert, describe, it } from "vitest"
import { assistant, text, user } from "../../src/Message.js"
import * as SessionFolder from "../../src/sessions/folder.js"

const home = mkdtempSync(join(tmpdir(), "aicortex-strays-"))
afterAll(() => rmSync(home, { recursive: true, force: true }))
let count = 0

/** What may lie in the folder besides conversations, or in the place of one. */
const strays: { readonly [what: string]: (folder: string) => void } = {
  "a file named notes": (folder) => writeFileSync(join(folder, "notes"), "mine"),
  "a folder named notes": (folder) => mkdirSync(join(folder, "notes")),
  "a folder of somebody's files": (folder) => {
    mkdirSync(join(folder, "papers"))
    writeFileSync(join(folder, "papers", "a.txt"), "mine")
  },
  "a link to itself": (folder) => symlinkSync(join(folder, "loop"), join(folder, "loop")),
  "a link to the folder": (folder) => symlinkSync(folder, join(folder, "up")),
  "a link to nothing": (folder) => symlinkSync(join(folder, "nowhere"), join(folder, "gone")),
  "a file of 0 bytes in a conversation": (folder) => {
    mkdirSync(join(folder, "broken"))
    writeFileSync(join(folder, "broken", "1.json"), "")
  },
  "a folder in the place of a file": (folder) => {
    mkdirSync(join(folder, "broken", "1.json"), { recursive: true })
  },
  "names that are no ids": (folder) => {
    for (const name of ["With Capitals", "ümlaut", "a.b", "x".repeat(200)]) mkdirSync(join(folder, name))
  }
}

describe("a folder of sessions that holds something else", () => {
  it.each(Object.entries(strays))("%s stops neither list nor turns", async (_, put) => {
    const folder = join(home, String(count++))
    mkdirSync(folder)
    put(folder)
    const store = await Effect.runPromise(
      Effect.provide(SessionFolder.make({ folder, maxBytes: 1_000_000 }), NodeContext.layer)
    )
    const run = Effect.runPromise
    assert.isTrue(await run(store.create("mine")))
    assert.isTrue(await run(store.append("mine", 0, [user("Hi"), assistant("Well.")])))
    const list = await run(store.list())
    assert.isTrue(list.some(({ id, messages }) => id === "mine" && messages === 2))
    assert.isFalse(list.some(({ id }) => id === "broken" || id === "loop" || id === "gone"))
    const stored = await run(store.load("mine"))
    assert.deepEqual(
      Option.map(stored, ({ messages }) => messages.map(text)),
      Option.some(["Hi", "Well."])
    )
    assert.isTrue(await run(store.append("mine", 1, [user("And?"), assistant("Yes.")])))
    assert.isTrue(await run(store.remove("mine")))
  })
})

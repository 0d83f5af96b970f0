/** Sessions of the Promise face: titles, lists, searches, exports, imports, copies and pruning. */
import { type Cortex, createCortex } from "aicortex/promise"
import { expect, it } from "vitest"
import { startFakeOllama } from "../support/fakeServer.js"
import { useKeep } from "../support/keep.js"

const keep = useKeep()
const model = "m:1b"

const begin = async (): Promise<Cortex> => {
  const server = keep(await startFakeOllama({ models: [{ name: model }], reply: "Well." }))
  return keep(createCortex({ servers: [server.url], configFile: false }))
}

it("sessions store the usage of each answer, of text, streams and JSON", async () => {
  const cortex = await begin()
  const session = await cortex.Session.create({ title: "Mountains", metadata: { project: "x" } })
  await cortex.chat("one", { session, model })
  for await (const _ of await cortex.chat("two", { session, model, stream: true })) {
    // To its end.
  }
  const turns = await session.turns()
  expect(turns.map(({ messages }) => messages.length)).toEqual([2, 2])
  for (const { usage } of turns) expect(usage).toMatchObject({ model, completionTokens: expect.any(Number) })
  expect(await session.details()).toMatchObject({
    title: "Mountains",
    titled: true,
    metadata: { project: "x" },
    turns: 2
  })
  await session.update({ title: null })
  expect(await session.details()).toMatchObject({ title: "one", titled: false })
})

it("sessions are listed, searched, copied, exported, imported and pruned", async () => {
  const cortex = await begin()
  const { Session } = cortex
  const session = await Session.create({ messages: [{ role: "user", content: "Where is K2?" }] })
  const copy = await session.copy({ title: "Copy" })
  expect(copy.id).not.toBe(session.id)
  expect(await copy.history()).toEqual(await session.history())
  expect((await Session.list({ title: "copy" })).map(({ id }) => id)).toEqual([copy.id])
  const page = await Session.page({ limit: 1 })
  expect(page.items).toHaveLength(1)
  expect((await Session.page({ limit: 1, cursor: page.next })).next).toBeUndefined()
  expect((await Session.search("k2")).items.map(({ turn }) => turn)).toEqual([1, 1])
  const all = []
  for await (const one of Session.exportAll()) all.push(one)
  expect(all.map(({ id }) => id).sort()).toEqual([copy.id, session.id].sort())
  expect(await copy.toExport()).toEqual(all.find(({ id }) => id === copy.id))
  expect(await copy.toMarkdown()).toBe("# Copy\n\n**You:** Where is K2?\n")
  expect((await Session.importAll(all)).refused).toHaveLength(2)
  expect((await Session.importAll(all, { ids: "new" })).taken).toHaveLength(2)
  expect(await Session.prune({ olderThan: "1 day", dryRun: true })).toEqual([])
  await expect(Session.importAll("{")).rejects.toMatchObject({ _tag: "InvalidRequest", field: "input" })
  await expect(Session.page({ cursor: "x" })).rejects.toMatchObject({ _tag: "InvalidRequest", field: "cursor" })
  await expect(session.update({ title: "" })).rejects.toMatchObject({ _tag: "InvalidRequest", field: "title" })
  const failing = async () => {
    for await (const _ of Session.exportAll({ titel: "x" } as object)) return
  }
  await expect(failing()).rejects.toMatchObject({ _tag: "InvalidRequest" })
})

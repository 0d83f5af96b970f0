/** The models of this machine, with Promises. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createCortex } from "aicortex/promise"
import { afterAll, beforeAll, expect, it } from "vitest"
import { FakeHub, type HubFile } from "../support/fakeHub.js"
import { gguf } from "../support/gguf.js"

const root = mkdtempSync(join(tmpdir(), "aicortex-promise-"))
const demo = new URL("../../registry/demo/aicortex-demo.gguf", import.meta.url).pathname
let hub: FakeHub
let file: HubFile

beforeAll(async () => {
  hub = await FakeHub.start()
  file = hub.add("owner/tiny", "tiny.Q4_K_M.gguf", gguf({ weights: 400_000 }))
})
afterAll(async () => {
  await hub.stop()
  rmSync(root, { recursive: true, force: true })
})

const cortex = () =>
  createCortex({
    configFile: false,
    servers: [],
    models: { folder: mkdtempSync(join(root, "s-")), hub: hub.url, rangeBytes: 65_536 }
  })

it("a model is downloaded, found, listed, imported and deleted", async () => {
  await using one = cortex()
  const events: Array<string> = []
  const model = await one.pullModel("owner/tiny", { onEvent: ({ type }) => events.push(type) })
  expect(readFileSync(model.path).equals(file.bytes)).toBe(true)
  expect(events[0]).toBe("resolved")
  expect(events.at(-1)).toBe("done")
  expect(await one.localModel("hf:owner/tiny")).toEqual(model)
  expect(await one.localModel("owner/other")).toBeUndefined()
  await one.importModel(demo, { name: "demo" })
  expect((await one.localModels()).map(({ name }) => name)).toEqual(["demo", "owner/tiny:Q4_K_M"])
  await one.removeModel("demo")
  await expect(one.removeModel("demo")).rejects.toMatchObject({ _tag: "ModelNotStored" })
})

it("a signal cancels a download, and the next one continues", async () => {
  await using one = cortex()
  hub.forget()
  hub.behaviour = { piece: 2048, pace: 5 }
  const abort = new AbortController()
  const onEvent = ({ type }: { readonly type: string }) => {
    if (type === "progress" && hub.sent > 100_000) abort.abort(new Error("enough"))
  }
  await expect(one.pullModel("owner/tiny", { signal: abort.signal, onEvent })).rejects.toThrow("enough")
  hub.behaviour = {}
  const model = await one.pullModel("owner/tiny")
  expect(readFileSync(model.path).equals(file.bytes)).toBe(true)
  expect(hub.doubled(file)).toBeLessThanOrEqual(4 * 65_536)
})

it("control: invalid options and names are errors, and nothing is sent", async () => {
  await using one = cortex()
  hub.forget()
  await expect(one.pullModel("s3://x")).rejects.toMatchObject({ _tag: "InvalidModelReference" })
  await expect(one.pullModel("owner/tiny", { nam: "x" } as never)).rejects.toMatchObject({ _tag: "InvalidRequest" })
  await expect(one.importModel(demo, { copi: true } as never)).rejects.toMatchObject({ _tag: "InvalidRequest" })
  await expect(one.localModel(5 as never)).rejects.toMatchObject({ _tag: "InvalidRequest" })
  expect(hub.requests).toEqual([])
})

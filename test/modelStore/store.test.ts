import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync
} from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { afterAll, describe, expect, it } from "vitest"
import { layerTransport } from "../../src/Cortex.js"
import * as StoreHost from "../../src/cortex/modelStoreHost.js"
import * as ModelStore from "../../src/ModelStore.js"
import * as Settings from "../../src/Settings.js"
import { gguf } from "../support/gguf.js"

const root = mkdtempSync(join(tmpdir(), "aicortex-store-"))
afterAll(() => rmSync(root, { recursive: true, force: true }))

const demo = new URL("../../registry/demo/aicortex-demo.gguf", import.meta.url).pathname

const folder = () => mkdtempSync(join(root, "s-"))

const run = <A, E>(models: Settings.ModelPolicy, use: (store: ModelStore.Service) => Effect.Effect<A, E>): Promise<A> =>
  Effect.runPromise(
    Effect.flatMap(ModelStore.ModelStore, use).pipe(
      Effect.provide(
        Layer.provide(ModelStore.layer, [
          Settings.layer({ models }),
          NodeContext.layer,
          StoreHost.layer,
          layerTransport
        ])
      )
    )
  )

const failure = <A, E>(models: Settings.ModelPolicy, use: (store: ModelStore.Service) => Effect.Effect<A, E>) =>
  run(models, (store) => Effect.flip(use(store)))

describe("a local file", () => {
  it("is imported by reference: found, listed and removed, and the file remains", async () => {
    const models = { folder: join(folder(), "not", "there", "yet") }
    expect(await run(models, ({ list }) => list)).toEqual([])
    const model = await run(models, ({ importFile }) => importFile(demo, { name: "Demo/small:1" }))
    expect(model).toMatchObject({ name: "Demo/small:1", path: demo, kept: false, source: demo })
    expect(model.metadata).toMatchObject({ architecture: "llama", quantisation: "Q8_0", contextLength: 512 })
    expect(model.metadata.parameters).toBeGreaterThan(2_000_000)
    expect(await run(models, ({ find }) => find("demo/SMALL:1"))).toEqual(Option.some(model))
    expect(await run(models, ({ list }) => list)).toEqual([model])
    await run(models, ({ remove }) => remove("demo/small:1"))
    expect(existsSync(demo)).toBe(true)
    expect(await run(models, ({ list }) => list)).toEqual([])
    expect(await failure(models, ({ remove }) => remove("demo/small:1"))).toMatchObject({ _tag: "ModelNotStored" })
  })

  it("is imported as a copy, which is deleted with the model", async () => {
    const models = { folder: folder() }
    const model = await run(models, ({ importFile }) => importFile(demo, { copy: true }))
    expect(model.name).toBe("aicortex-demo")
    expect(model.path.startsWith(models.folder)).toBe(true)
    expect(readFileSync(model.path).equals(readFileSync(demo))).toBe(true)
    await run(models, ({ remove }) => remove("aicortex-demo"))
    expect(existsSync(model.path)).toBe(false)
    expect(existsSync(demo)).toBe(true)
  })

  it("is found by its path without an import, also if the path could be a file of a repository", async () => {
    const models = { folder: folder() }
    const found = await run(models, ({ find }) => find(demo))
    expect(Option.getOrThrow(found)).toMatchObject({ name: "aicortex-demo", path: demo, addedAt: 0 })
    const relative = await run(models, ({ parse }) => parse("registry/demo/aicortex-demo.gguf"))
    expect(relative.kind).toBe("file")
    expect(await run(models, ({ parse }) => parse("registry/demo/no-such.gguf"))).toMatchObject({ kind: "hub" })
  })

  it("includes all its parts", async () => {
    const models = { folder: folder() }
    const parts = folder()
    for (const i of [1, 2, 3]) {
      writeFileSync(
        join(parts, `big-0000${i}-of-00003.gguf`),
        gguf({ weights: 4000 * i, entries: { "split.count": 3 } })
      )
    }
    const model = await run(models, ({ importFile }) =>
      importFile(join(parts, "big-00002-of-00003.gguf"), { copy: true })
    )
    expect(model.name).toBe("big")
    expect(model.files.map(({ path }) => path.slice(-24))).toEqual([1, 2, 3].map((i) => `/big-0000${i}-of-00003.gguf`))
    expect(model.metadata.parameters).toBe(6000)
    rmSync(join(parts, "big-00003-of-00003.gguf"))
    const error = await failure(models, ({ importFile }) => importFile(join(parts, "big-00001-of-00003.gguf")))
    expect(error).toMatchObject({ _tag: "InvalidModelFile", file: join(parts, "big-00003-of-00003.gguf") })
  })

  const wrong: ReadonlyArray<readonly [string, Buffer, string]> = [
    ["empty", Buffer.alloc(0), "incomplete"],
    ["a web page", Buffer.from("<!DOCTYPE html><html>"), "web page"],
    ["a Git LFS pointer", Buffer.from("version https://git-lfs.github.com/spec/v1\noid sha256:1"), "Git LFS"],
    ["another format", Buffer.from("PK\u0003\u0004 and so on"), "not a GGUF"],
    ["of version 1", gguf({ version: 1 }), "version"],
    ["of the other byte order", gguf({ version: 3 << 24 }), "byte order"],
    ["cut off in its header", gguf().subarray(0, 700), "header"],
    ["cut off in its weights", gguf().subarray(0, -1), "incomplete"],
    [
      "damaged: a million entries",
      (() => {
        const bytes = gguf()
        bytes.writeBigUInt64LE(1_000_000n, 16)
        return bytes
      })(),
      "damaged"
    ],
    [
      "damaged: an endless text",
      (() => {
        const bytes = gguf()
        bytes.writeBigUInt64LE(0xffff_ffff_ffff_ffffn, 24)
        return bytes
      })(),
      "incomplete"
    ]
  ]
  it.each(wrong)("that is %s is not a model", async (_, bytes, words) => {
    const models = { folder: folder() }
    const file = join(folder(), "x.gguf")
    writeFileSync(file, bytes)
    const error = await failure(models, ({ importFile }) => importFile(file))
    expect(error._tag).toBe("InvalidModelFile")
    expect(error.message).toContain(words)
    expect(await run(models, ({ list }) => list)).toEqual([])
  })

  it("that is missing, or is a folder, is an error", async () => {
    const models = { folder: folder() }
    expect((await failure(models, ({ importFile }) => importFile("/no/such/x.gguf"))).message).toContain("no such file")
    expect((await failure(models, ({ importFile }) => importFile(root))).message).toContain("folder")
  })

  it("a header longer than the first read is read completely", async () => {
    const file = join(folder(), "long.gguf")
    writeFileSync(file, gguf({ vocabulary: 200_000 }))
    const models = { folder: folder() }
    const model = await run(models, ({ importFile }) => importFile(file))
    expect(model.metadata).toMatchObject({ contextLength: 2048, chatTemplate: true, quantisation: "Q4_K_M" })
  })
})

describe("names", () => {
  it("that another model has are refused; the same model is accepted", async () => {
    const models = { folder: folder() }
    const other = join(folder(), "other.gguf")
    writeFileSync(other, gguf())
    await run(models, ({ importFile }) => importFile(demo, { name: "one" }))
    await run(models, ({ importFile }) => importFile(demo, { name: "one" }))
    const error = await failure(models, ({ importFile }) => importFile(other, { name: "ONE" }))
    expect(error).toMatchObject({ _tag: "ModelNameTaken", model: "one", source: demo })
  })

  it.each(["../x", "/x", "a/../b", "a b", "", "x\u0000", "a:b:c", ".hidden", "a\\b"])("%j is invalid", async (name) => {
    const models = { folder: folder() }
    const error = await failure(models, ({ importFile }) => importFile(demo, { name }))
    expect(error._tag).toBe("InvalidModelReference")
  })

  it("aliases resolve to their models, also through other aliases, but not in a circle", async () => {
    const models = {
      folder: folder(),
      aliases: { small: "hf:owner/repo:q8_0", Best: "small", a: "b", b: "a", here: demo }
    }
    expect(await run(models, ({ parse }) => parse("best"))).toMatchObject({ kind: "hub", name: "owner/repo:Q8_0" })
    expect(await failure(models, ({ parse }) => parse("a"))).toMatchObject({ _tag: "InvalidModelReference" })
    expect(Option.getOrThrow(await run(models, ({ find }) => find("here"))).path).toBe(demo)
  })

  it("of repositories: without a quantization any stored one; with one only that", async () => {
    const models = { folder: folder() }
    await run(models, ({ importFile }) => importFile(demo, { name: "owner/repo:Q8_0" }))
    const find = (name: string) => run(models, (store) => Effect.map(store.find(name), Option.isSome))
    expect(await find("hf:Owner/Repo")).toBe(true)
    expect(await find("owner/repo:q8_0")).toBe(true)
    expect(await find("owner/repo:Q4_K_M")).toBe(false)
    expect(await find("owner/rep")).toBe(false)
  })
})

describe("changes of the folder", () => {
  it("a missing or changed file is reported, and not found", async () => {
    const models = { folder: folder() }
    const file = join(folder(), "mine.gguf")
    writeFileSync(file, gguf())
    await run(models, ({ importFile }) => importFile(file))
    truncateSync(file, 100)
    expect((await run(models, ({ list }) => list))[0]?.problem).toContain("has changed")
    rmSync(file)
    expect((await run(models, ({ list }) => list))[0]?.problem).toContain("is gone")
    expect(await failure(models, ({ find }) => find("mine"))).toMatchObject({ _tag: "InvalidModelFile" })
  })

  it("a link in place of a model's folder is not followed", async () => {
    const models = { folder: folder() }
    const elsewhere = folder()
    symlinkSync(elsewhere, join(models.folder, "model-aicortex-demo"))
    const error = await failure(models, ({ importFile }) => importFile(demo, { copy: true }))
    expect(error._tag).toBe("ModelStoreUnavailable")
    expect(existsSync(join(elsewhere, "aicortex-demo.gguf"))).toBe(false)
    writeFileSync(join(elsewhere, "keep"), "")
    await run(models, ({ remove }) => remove("aicortex-demo"))
    expect(existsSync(join(elsewhere, "keep"))).toBe(true)
  })

  it("a damaged record is skipped, and its paths are not followed out of the folder", async () => {
    const models = { folder: folder() }
    const model = await run(models, ({ importFile }) => importFile(demo, { name: "x", copy: true }))
    const record = join(models.folder, "model-x", "model.json")
    const text = readFileSync(record, "utf8")
    writeFileSync(record, text.replace('"file": "aicortex-demo.gguf"', `"file": "../../x.gguf"`))
    expect(await run(models, ({ list }) => list)).toEqual([])
    writeFileSync(record, text.slice(0, 20))
    expect(await run(models, ({ list }) => list)).toEqual([])
    writeFileSync(record, text)
    expect(await run(models, ({ list }) => list)).toEqual([model])
  })

  it("without a configured folder there is an error, and paths still work", async () => {
    expect(await failure({}, ({ list }) => list)).toMatchObject({ _tag: "ModelStoreUnavailable" })
    expect(Option.isSome(await run({}, ({ find }) => find(demo)))).toBe(true)
    mkdirSync(join(root, "file-in-place"), { recursive: true })
    writeFileSync(join(root, "file-in-place", "models"), "")
    const models = { folder: join(root, "file-in-place", "models") }
    expect(await failure(models, ({ list }) => list)).toMatchObject({ _tag: "ModelStoreUnavailable" })
  })
})

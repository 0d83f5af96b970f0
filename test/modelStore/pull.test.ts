import { createHash } from "node:crypto"
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync
} from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest"
import { FakeHub, type HubFile } from "../support/fakeHub.js"
import { gguf } from "../support/gguf.js"
import { modelOf, type Pulled, pull, pullFailure, run, type StoreOptions, withStore } from "../support/modelStore.js"

const root = mkdtempSync(join(tmpdir(), "aicortex-pull-"))
afterAll(() => rmSync(root, { recursive: true, force: true }))

let hub: FakeHub
let tiny: HubFile
let store: StoreOptions

beforeAll(async () => {
  hub = await FakeHub.start()
  tiny = hub.add("owner/tiny-GGUF", "tiny.Q4_K_M.gguf", gguf({ weights: 1_000_000 }))
})
afterAll(() => hub.stop())
beforeEach(() => {
  hub.behaviour = {}
  hub.forget()
  store = {
    folder: mkdtempSync(join(root, "s-")),
    hub: hub.url,
    rangeBytes: 128 * 1024,
    retryBackoff: 5,
    stallTimeout: 5_000
  }
})
afterEach(() => {
  for (const file of Object.keys(hub.files)) delete hub.files[file]
})

const folderOf = (name: string) => join(store.folder ?? "", `model-${name}`)

/** The files of a model's folder, without the record. */
const left = (name: string) => (existsSync(folderOf(name)) ? readdirSync(folderOf(name)).sort() : [])

const isEqual = (path: string, file: HubFile) => readFileSync(path).equals(file.bytes)

const resolved = (events: Pulled) => events.find((event) => event.type === "resolved")

describe("a model of a hub", () => {
  it("is downloaded in ranges, verified, and found by its name", async () => {
    const events = await pull(store, "owner/tiny-GGUF")
    const model = modelOf(events)
    expect(model).toMatchObject({
      name: "owner/tiny-GGUF:Q4_K_M",
      size: tiny.bytes.length,
      sha256: createHash("sha256").update(tiny.bytes).digest("hex"),
      source: "hf:owner/tiny-GGUF/tiny.Q4_K_M.gguf",
      revision: hub.commit,
      kept: true,
      metadata: { architecture: "llama", quantisation: "Q4_K_M", contextLength: 2048, parameters: 250_000 }
    })
    expect(isEqual(model.path, tiny)).toBe(true)
    expect(left("owner@tiny-gguf+q4_k_m")).toEqual(["model.json", "tiny.Q4_K_M.gguf"])
    expect(hub.doubled(tiny)).toBe(0)
    const ranges = hub.requests.filter(({ server }) => server === "files").map(({ range }) => range)
    expect(ranges.length).toBe(Math.ceil(tiny.bytes.length / (128 * 1024)))
    expect(resolved(events)).toMatchObject({ total: tiny.bytes.length, completed: 0, files: 1 })
    expect(events.some((event) => event.type === "progress" && event.completed === tiny.bytes.length)).toBe(true)
    for (const name of ["owner/tiny-gguf", "hf:owner/tiny-GGUF:q4_k_m", model.name, "hf.co/owner/tiny-GGUF"]) {
      expect(Option.getOrThrow(await run(store, ({ find }) => find(name))).path, name).toBe(model.path)
    }
  })

  it("that is present is not downloaded again, unless it has changed", async () => {
    const repository = "owner/changing"
    hub.add(repository, "m.Q8_0.gguf", gguf({ weights: 200_000 }))
    await pull(store, repository)
    hub.forget()
    const again = await pull(store, repository)
    expect(again.at(-1)).toMatchObject({ type: "done", fresh: false })
    expect(hub.requests.filter(({ server }) => server === "files")).toEqual([])
    const other = hub.add(repository, "m.Q8_0.gguf", gguf({ weights: 300_000 }))
    const model = modelOf(await pull(store, repository))
    expect(isEqual(model.path, other)).toBe(true)
    expect(left("owner@changing+q8_0")).toEqual(["m.Q8_0.gguf", "model.json"])
  })

  it("with a custom name, a file in a folder, or a branch is stored under its own name", async () => {
    hub.add("owner/many", "a/x.gguf", gguf({ weights: 4000 }))
    hub.add("owner/many", "x.Q5_K_M.gguf", gguf({ weights: 8000 }), "v2")
    expect(modelOf(await pull(store, "owner/many/a/x.gguf")).name).toBe("owner/many/a/x.gguf")
    expect(modelOf(await pull(store, "hf:owner/many/a/x.gguf", { name: "mine:1" })).name).toBe("mine:1")
    expect(Option.isSome(await run(store, ({ find }) => find("MINE:1")))).toBe(true)
    expect((await pullFailure(store, "owner/many", { name: "../x" }))._tag).toBe("InvalidModelReference")
    const taken = await pullFailure(store, "owner/tiny-GGUF", { name: "mine:1" })
    expect(taken).toMatchObject({ _tag: "ModelNameTaken", model: "mine:1" })
  })

  it("in several parts is downloaded part by part, and verified", async () => {
    const parts = [1, 2, 3].map((i) =>
      hub.add("owner/big", `Q4/big-Q4_K_M-0000${i}-of-00003.gguf`, gguf({ weights: 40_000 * i }))
    )
    const model = modelOf(await pull(store, "owner/big"))
    expect(model.name).toBe("owner/big:Q4_K_M")
    expect(model.files.length).toBe(3)
    model.files.forEach(({ path }, i) => {
      expect(path.endsWith(`-0000${i + 1}-of-00003.gguf`)).toBe(true)
      expect(isEqual(path, parts[i] as HubFile)).toBe(true)
    })
    expect(model.metadata.parameters).toBe(60_000)
    hub.add("owner/part", "x-00001-of-00002.gguf", gguf())
    expect(await pullFailure(store, "owner/part")).toMatchObject({ reason: "not-found" })
  })

  it("of Cortex's library resolves to the variant's branch, or the repository's default", async () => {
    const q4 = hub.add("cortexso/llama3.1", "model.gguf", gguf({ weights: 40_000 }), "8b-gguf-q4-km")
    const q8 = hub.add("cortexso/llama3.1", "model.gguf", gguf({ weights: 80_000 }), "8b-gguf-q8-0")
    hub.add("cortexso/llama3.1", "metadata.yml", Buffer.from("version: 1\nname: llama3.1\ndefault: 8b-gguf-q8-0\n"))
    const named = modelOf(await pull(store, "llama3.1:8b-gguf-q4-km"))
    expect(named.name).toBe("llama3.1:8b-gguf-q4-km")
    expect(isEqual(named.path, q4)).toBe(true)
    const standard = modelOf(await pull(store, "cortexso/llama3.1"))
    expect(standard.name).toBe("llama3.1:8b-gguf-q8-0")
    expect(isEqual(standard.path, q8)).toBe(true)
    delete hub.repositories["cortexso/llama3.1"]?.["main"]
    const list = await run(store, ({ quantisations }) => quantisations("cortex:llama3.1"))
    expect(list.map(({ chosen, name }) => [name, chosen])).toEqual([
      ["8b-gguf-q4-km", true],
      ["8b-gguf-q8-0", false]
    ])
    expect(await pullFailure(store, "llama3.1:8b-gguf-q5")).toMatchObject({ reason: "not-found" })
  })

  it("has quantizations: one that fits into free memory is chosen, and reported", async () => {
    for (const [name, weights] of [
      ["Q2_K", 40_000],
      ["Q4_K_M", 80_000],
      ["Q8_0", 160_000],
      ["F16", 320_000]
    ] as const) {
      hub.add("owner/quants", `m-${name}.gguf`, gguf({ weights }))
    }
    hub.add("owner/quants", "mmproj-F16.gguf", gguf())
    hub.add("owner/quants", "imatrix.gguf", gguf())
    hub.add("owner/quants", "README.md", Buffer.from("x"))
    const names = async (memory?: number) =>
      (
        await run({ ...store, ...(memory === undefined ? {} : { memory }) }, (one) => one.quantisations("owner/quants"))
      ).map(({ chosen, fits, name }) => `${name} ${fits}${chosen ? " chosen" : ""}`)
    expect(await names()).toEqual(["Q2_K undefined", "Q4_K_M undefined chosen", "Q8_0 undefined", "F16 undefined"])
    expect(await names(150_000)).toEqual(["Q2_K true", "Q4_K_M true chosen", "Q8_0 false", "F16 false"])
    expect(await names(60_000)).toEqual(["Q2_K true chosen", "Q4_K_M false", "Q8_0 false", "F16 false"])
    expect(await names(10)).toEqual(["Q2_K false chosen", "Q4_K_M false", "Q8_0 false", "F16 false"])
    expect(modelOf(await pull({ ...store, memory: 60_000 }, "owner/quants")).name).toBe("owner/quants:Q2_K")
    const error = await pullFailure(store, "owner/quants:Q6_K")
    expect(error).toMatchObject({ _tag: "ModelDownloadFailed", reason: "not-found" })
    expect(error.message).toContain("Q2_K, Q4_K_M, Q8_0, F16")
  })

  it("with an invalid name is an error, without a request", async () => {
    expect((await pullFailure(store, "llama3.2:3b"))._tag).toBe("InvalidModelReference")
    expect((await pullFailure(store, "s3://x/y.gguf"))._tag).toBe("InvalidModelReference")
    expect(hub.requests).toEqual([])
  })
})

describe("a file of a web server", () => {
  const address = (name: string) => `${hub.filesUrl}/files/${name}`

  it("is stored under its own name, without the URL's query", async () => {
    hub.files["some model.gguf"] = { bytes: gguf({ weights: 500_000 }), etag: '"1"' }
    const model = modelOf(await pull(store, `${address("some%20model.gguf")}?token=very-secret`))
    expect(model.name).toBe("some-model")
    expect(isEqual(model.path, hub.files["some model.gguf"])).toBe(true)
    expect(readFileSync(join(folderOf("some-model"), "model.json"), "utf8")).not.toContain("very-secret")
  })

  it("in several parts is downloaded completely", async () => {
    for (const i of [1, 2]) hub.files[`x-0000${i}-of-00002.gguf`] = { bytes: gguf({ weights: 20_000 * i }) }
    const model = modelOf(await pull(store, address("x-00001-of-00002.gguf")))
    expect(model.files.map(({ size }) => size)).toEqual(Object.values(hub.files).map(({ bytes }) => bytes.length))
  })

  it.each([
    ["knows no ranges", { ignoreRange: true }],
    ["cuts the first answers and knows no ranges", { ignoreRange: true, cuts: 2 }]
  ])(
    "whose server %s is downloaded whole",
    async (_, { cuts = 0, ...behaviour }: { ignoreRange: boolean; cuts?: number }) => {
      hub.files["w.gguf"] = { bytes: gguf({ weights: 500_000 }) }
      let answers = 0
      hub.behaviour = { ...behaviour, cutAfter: () => (answers++ < cuts ? 100_000 : undefined) }
      const model = modelOf(await pull(store, address("w.gguf")))
      expect(isEqual(model.path, hub.files["w.gguf"])).toBe(true)
      expect(answers).toBe(cuts + 1)
    }
  )

  it("that changes in between is downloaded from the beginning, and never mixed", async () => {
    const before = gguf({ weights: 500_000 })
    const after = gguf({ weights: 500_000 })
    const file: HubFile = { bytes: before, etag: '"1"' }
    hub.files["c.gguf"] = file
    hub.behaviour = {
      cutAfter: ({ range }) => {
        if (file.bytes === after || range?.startsWith("bytes=0-") === true) return undefined
        file.bytes = after
        file.etag = '"2"'
        return 1000
      }
    }
    const model = modelOf(await pull({ ...store, parallel: 1 }, address("c.gguf")))
    expect(readFileSync(model.path).equals(after)).toBe(true)
    expect(hub.requests.some(({ ifRange }) => ifRange === '"1"')).toBe(true)
  })

  it("that became shorter is downloaded from the beginning; one that keeps changing is an error", async () => {
    const file: HubFile = { bytes: gguf({ weights: 800_000 }), etag: '"1"' }
    hub.files["c.gguf"] = file
    hub.behaviour = { cutAfter: ({ range }) => (range?.startsWith("bytes=0-") === true ? undefined : 0) }
    await pullFailure({ ...store, parallel: 1, retries: 0 }, address("c.gguf"))
    hub.behaviour = {}
    Object.assign(file, { bytes: gguf({ weights: 8_000 }), etag: '"2"' })
    const model = modelOf(await pull(store, address("c.gguf")))
    expect(isEqual(model.path, file)).toBe(true)
    let tag = 2
    hub.files["d.gguf"] = { bytes: gguf({ weights: 800_000 }) }
    hub.behaviour = {
      refuse: () => {
        if (hub.files["d.gguf"] !== undefined) hub.files["d.gguf"].etag = `"${tag++}"`
        return undefined
      }
    }
    expect(await pullFailure({ ...store, parallel: 1 }, address("d.gguf"))).toMatchObject({ reason: "changed" })
  })
})

describe("invalid downloads", () => {
  it("a wrong checksum deletes the file, and the next attempt starts from the beginning", async () => {
    const file = hub.add("owner/liar", "l.Q8_0.gguf", gguf({ weights: 300_000 }))
    file.listedSha256 = "0".repeat(64)
    const error = await pullFailure(store, "owner/liar")
    expect(error).toMatchObject({ _tag: "ModelDownloadFailed", reason: "hash-mismatch" })
    expect(left("owner@liar+q8_0")).toEqual([])
    expect(await run(store, ({ list }) => list)).toEqual([])
    file.listedSha256 = undefined
    expect(isEqual(modelOf(await pull(store, "owner/liar")).path, file)).toBe(true)
  })

  it.each(["longer", "shorter"])("a listed length that is %s", async (which) => {
    const file = hub.add("owner/length", "l.Q8_0.gguf", gguf({ weights: 300_000 }))
    file.listedSize = file.bytes.length + (which === "longer" ? 1000 : -1000)
    expect(await pullFailure(store, "owner/length")).toMatchObject({ reason: "size-mismatch" })
    expect(left("owner@length+q8_0")).toEqual([])
  })

  it("a false length from the file host", async () => {
    hub.behaviour = { claimedSize: 5_000_000 }
    expect(await pullFailure(store, "owner/tiny-GGUF")).toMatchObject({ reason: "size-mismatch" })
    hub.files["x.gguf"] = { bytes: gguf() }
    const invented = await pullFailure({ ...store, retries: 1 }, `${hub.filesUrl}/files/x.gguf`)
    expect(["ModelDownloadFailed", "InvalidModelFile"]).toContain(invented._tag)
    expect(await run(store, ({ list }) => list)).toEqual([])
  })

  it.each([
    ["a web page", Buffer.from(`<!doctype html>${" ".repeat(400_000)}`), "web page"],
    ["no GGUF", Buffer.alloc(400_000), "not a GGUF"],
    ["a GGUF that is cut off", gguf({ weights: 400_000 }).subarray(0, 300_000), "incomplete"]
  ])("%s is not a model, and is not stored", async (_, bytes, words) => {
    hub.files["x.gguf"] = { bytes }
    const error = await pullFailure({ ...store, parallel: 1 }, `${hub.filesUrl}/files/x.gguf`)
    expect(error._tag).toBe("InvalidModelFile")
    expect(error.message).toContain(words)
    expect(left("x")).toEqual([])
    // The first range is enough to see that it is no model.
    if (words !== "incomplete") expect(hub.requests.length).toBe(1)
  })

  it("a link in place of the unfinished file is not written through", async () => {
    const elsewhere = join(root, "elsewhere")
    writeFileSync(elsewhere, "mine")
    await pull(store, "owner/tiny-GGUF")
    await run(store, ({ remove }) => remove("owner/tiny-GGUF:Q4_K_M"))
    const folder = folderOf("owner@tiny-gguf+q4_k_m")
    mkdirSync(folder, { recursive: true })
    symlinkSync(elsewhere, join(folder, "tiny.Q4_K_M.gguf.part"))
    const model = modelOf(await pull(store, "owner/tiny-GGUF"))
    expect(readFileSync(elsewhere, "utf8")).toBe("mine")
    expect(isEqual(model.path, tiny)).toBe(true)
  })

  it("a disk without enough space: nothing is downloaded", async () => {
    const error = await pullFailure({ ...store, freeBytes: 1000 }, "owner/tiny-GGUF")
    expect(error).toMatchObject({ _tag: "InsufficientDiskSpace", needed: tiny.bytes.length, available: 1000 })
    expect(hub.requests.filter(({ server }) => server === "files")).toEqual([])
    hub.files["x.gguf"] = { bytes: gguf({ weights: 100_000 }) }
    const other = await pullFailure({ ...store, freeBytes: 1000 }, `${hub.filesUrl}/files/x.gguf`)
    expect(other._tag).toBe("InsufficientDiskSpace")
  })
})

describe("a server in trouble", () => {
  it("with 429 and 503 at first is retried, not before Retry-After", async () => {
    let refused = 0
    hub.behaviour = {
      refuse: ({ server }) => {
        if (server !== "files" || refused >= 2) return undefined
        refused++
        return { status: refused === 1 ? 429 : 503, headers: { "retry-after": "0" } }
      }
    }
    const events = await pull({ ...store, parallel: 1 }, "owner/tiny-GGUF")
    expect(isEqual(modelOf(events).path, tiny)).toBe(true)
    expect(events.flatMap((event) => (event.type === "retry" ? [event.reason] : []))).toEqual([
      "rate-limited",
      "server-error"
    ])
  })

  it("with Retry-After causes a pause; more than ten minutes is an error", async () => {
    let first = true
    hub.behaviour = {
      refuse: ({ server }) => {
        if (server !== "files" || !first) return undefined
        first = false
        return { status: 429, headers: { "retry-after": "1" } }
      }
    }
    const events = await pull(store, "owner/tiny-GGUF")
    expect(events.find((event) => event.type === "retry")).toMatchObject({ wait: 1000 })
    await run(store, ({ remove }) => remove("owner/tiny-GGUF"))
    hub.behaviour = { refuse: () => ({ status: 429, headers: { "retry-after": "7200" } }) }
    const error = await pullFailure(store, "owner/tiny-GGUF")
    expect(error).toMatchObject({ reason: "rate-limited", status: 429 })
    expect(error.message).toContain("120 minutes")
  })

  it.each([
    ["server-error", { refuse: () => ({ status: 500 }) }],
    ["network", { cutAfter: () => 0 }],
    ["stalled", { stall: () => true }]
  ] as const)("that persists is an error: %s", async (reason, behaviour) => {
    hub.behaviour = behaviour
    const error = await pullFailure({ ...store, retries: 2, stallTimeout: 300 }, "owner/tiny-GGUF")
    expect(error).toMatchObject({ _tag: "ModelDownloadFailed", reason })
    expect(hub.requests.length).toBeLessThan(30)
  })

  it("that is unreachable is an error", async () => {
    const error = await pullFailure({ ...store, hub: "http://127.0.0.1:1", retries: 1 }, "owner/tiny-GGUF")
    expect(error).toMatchObject({ reason: "network" })
  })

  it.each([
    ["unauthorized", { token: "right" }, undefined, "HF_TOKEN"],
    ["unauthorized", { token: "right" }, "wrong", "refuses the token"],
    ["gated", { token: "right", gated: true }, undefined, "terms"],
    ["gated", { gated: true }, "any", "terms"]
  ] as const)("a repository that is %s is reported with advice", async (reason, behaviour, token, words) => {
    hub.behaviour = behaviour
    const error = await pullFailure({ ...store, ...(token === undefined ? {} : { token }) }, "owner/tiny-GGUF")
    expect(error).toMatchObject({ _tag: "ModelDownloadFailed", reason })
    expect(error.message).toContain(words)
    if (token !== undefined) expect(JSON.stringify(error)).not.toContain(`"${token}"`)
  })

  it("a server that is not a hub is reported", async () => {
    hub.files["x"] = { bytes: Buffer.from("<html>") }
    const error = await pullFailure({ ...store, hub: `${hub.filesUrl}/no/hub` }, "owner/tiny-GGUF")
    expect(error).toMatchObject({ reason: "not-found" })
  })
})

describe("redirects", () => {
  it("the token is sent to the hub, and never to another host", async () => {
    hub.behaviour = { token: "hf_secret" }
    const model = modelOf(await pull({ ...store, token: "hf_secret" }, "owner/tiny-GGUF"))
    expect(isEqual(model.path, tiny)).toBe(true)
    const tokens = (server: string) =>
      new Set(hub.requests.filter((one) => one.server === server).map(({ authorization }) => authorization))
    expect(tokens("hub")).toEqual(new Set(["Bearer hf_secret"]))
    expect(tokens("files")).toEqual(new Set([undefined]))
    hub.files["x.gguf"] = { bytes: gguf() }
    hub.forget()
    await pull({ ...store, token: "hf_secret" }, `${hub.filesUrl}/files/x.gguf`)
    expect(tokens("files")).toEqual(new Set([undefined]))
    for (const name of readdirSync(store.folder ?? "", { recursive: true, encoding: "utf8" })) {
      if (name.endsWith(".json"))
        expect(readFileSync(join(store.folder ?? "", name), "utf8")).not.toContain("hf_secret")
    }
  })

  it.each([
    ["to itself, without end", (file: string) => `/owner/tiny-GGUF/resolve/main/${file}`, "more than 10 times"],
    ["to a file", () => "file:///etc/passwd", "an address of file:"],
    ["to nothing", () => "http://", "no address"],
    ["with a password", () => "http://user:pass@127.0.0.1:1/", "password"]
  ])("%s are refused", async (_, redirect, words) => {
    hub.behaviour = { redirect }
    const error = await pullFailure(store, "owner/tiny-GGUF")
    expect(error).toMatchObject({ reason: "redirect" })
    expect(error.message).toContain(words)
  })
})

describe("two concurrent downloads", () => {
  it("share one download", async () => {
    hub.behaviour = { piece: 16 * 1024 }
    const both = await Promise.all([pull(store, "owner/tiny-GGUF"), pull(store, "owner/tiny-GGUF")])
    for (const events of both) expect(isEqual(modelOf(events).path, tiny)).toBe(true)
    expect(hub.doubled(tiny)).toBe(0)
    expect(both.filter((events) => events.at(-1)?.type === "done" && "fresh" in (events.at(-1) ?? {}))).toHaveLength(2)
    expect(both.map((events) => events.at(-1)).filter((event) => event?.type === "done" && event.fresh)).toHaveLength(1)
    expect(both.flat().some((event) => event.type === "waiting")).toBe(true)
  })

  it("the second continues where the first was cancelled", async () => {
    let begun = () => {}
    const started = new Promise<void>((resolve) => {
      begun = resolve
    })
    hub.behaviour = { piece: 4096, onBody: () => begun() }
    const abort = new AbortController()
    const first = withStore(store, (one) => Stream.runDrain(one.pull("owner/tiny-GGUF")), abort.signal)
    await started
    const second = pull(store, "owner/tiny-GGUF")
    abort.abort()
    expect((await first)._tag).toBe("Failure")
    expect(isEqual(modelOf(await second).path, tiny)).toBe(true)
    expect(await run(store, ({ list }) => Effect.map(list, (all) => all.length))).toBe(1)
  })
})

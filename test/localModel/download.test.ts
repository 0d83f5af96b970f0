/** The files of a model as a scope: names of a hub, aliases and paths, got through the store, on engines that stand in. */
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { afterAll, afterEach, beforeAll, vi } from "vitest"
import * as Cortex from "../../src/Cortex.js"
import { InvalidRequest, isChatError } from "../../src/Errors.js"
import * as LocalModel from "../../src/LocalModel.js"
import { LocalModel as PromiseModel } from "../../src/promise.js"
import { type FakeEngines, fakeEngines } from "../support/engines.js"
import { FakeHub } from "../support/fakeHub.js"
import { gguf } from "../support/gguf.js"

let hub: FakeHub
const bytes = gguf()

beforeAll(async () => {
  hub = await FakeHub.start()
  hub.add("owner/tiny-GGUF", "tiny-Q4_K_M.gguf", bytes)
  hub.add("cortexso/tiny", "model.gguf", bytes, "1b-gguf-q4-km")
  hub.files["own.gguf"] = { bytes }
})
afterAll(() => hub.stop())
afterEach(() => {
  vi.unstubAllEnvs()
  hub.behaviour = {}
})

/** Engines on PATH, a home of its own, and the hub. */
const use = (): FakeEngines => {
  const engines = fakeEngines(["llama-server"])
  hub.forget()
  const env = { ...engines.env, HOME: engines.folder, XDG_CONFIG_HOME: engines.folder, XDG_STATE_HOME: engines.folder }
  for (const [name, value] of Object.entries({ ...env, HF_ENDPOINT: hub.url })) vi.stubEnv(name, value)
  return engines
}

const failure = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => undefined,
    (error: unknown) => error
  )

const modelOf = (engines: FakeEngines) => {
  const { args = [] } = engines.calls().find(({ program }) => program === "llama-server") ?? {}
  return args[args.indexOf("--model") + 1]
}

const options = { engine: "llama-server" } as const

describe("open downloads missing files, once", () => {
  for (const [what, name] of [
    ["hf:", "hf:owner/tiny-GGUF:Q4_K_M"],
    ["a repository", "owner/tiny-GGUF"],
    ["Cortex's library", "tiny:1b-gguf-q4-km"],
    ["an address", "FILES/files/own.gguf"]
  ] as const) {
    it(`${what}: ${name}`, async () => {
      await using engines = use()
      const asked = name.replace("FILES", hub.filesUrl)
      for (let i = 0; i < 2; i++) {
        await using model = await PromiseModel.open(asked, options)
        assert.strictEqual((await model.chat("Hi")).content, "Hello there.")
        assert.isTrue(modelOf(engines)?.startsWith(join(engines.folder, "aicortex", "models")))
      }
      assert.strictEqual(hub.sent, bytes.length)
    })
  }

  it("a path and a file: URL are used in place", async () => {
    await using engines = use()
    for (const name of [engines.model, `file:${engines.model}`]) {
      await using _model = await PromiseModel.open(name, options)
    }
    assert.strictEqual(modelOf(engines), engines.model)
    assert.lengthOf(hub.requests, 0)
  })

  it("an alias of the configuration file, and one of the program", async () => {
    await using engines = use()
    const file = join(engines.folder, "config.json")
    writeFileSync(file, JSON.stringify({ models: { aliases: { small: "hf:owner/tiny-GGUF" } } }))
    vi.stubEnv("AICORTEX_CONFIG", file)
    {
      await using model = await PromiseModel.open("small", options)
      assert.strictEqual((await model.chat("Hi")).content, "Hello there.")
    }
    await using _own = await PromiseModel.open("mine", {
      ...options,
      models: { folder: join(engines.folder, "own"), hub: hub.url, aliases: { mine: "hf:owner/tiny-GGUF" } }
    })
    assert.include(
      engines
        .calls()
        .filter(({ program }) => program === "llama-server")
        .at(-1)
        ?.args?.join(" ") ?? "",
      join(engines.folder, "own")
    )
    assert.strictEqual(hub.sent, 2 * bytes.length)
  })
})

describe("download", () => {
  it("downloads the files and starts nothing; serve then sends no request", async () => {
    await using engines = use()
    await using model = new PromiseModel("hf:owner/tiny-GGUF", options)
    const heard: Array<string> = []
    await model.download({ onEvent: ({ type }) => heard.push(type) })
    assert.strictEqual(heard[0], "resolved")
    assert.strictEqual(heard.at(-1), "done")
    assert.isFalse(await model.running())
    assert.lengthOf(engines.calls(), 0)
    const before = hub.requests.length
    await model.download({ onEvent: ({ type }) => heard.push(`again ${type}`) })
    await model.serve()
    assert.lengthOf(hub.requests, before)
    assert.notInclude(heard.join(" "), "again")
  })

  it("a signal cancels it, and the next download continues", async () => {
    await using engines = use()
    const large = hub.add("owner/large", "large.gguf", gguf({ weights: 4 * 1024 * 1024 }))
    hub.behaviour = { piece: 16 * 1024, pace: 5 }
    const models = { rangeBytes: 64 * 1024, folder: join(engines.folder, "models"), hub: hub.url }
    await using model = new PromiseModel("owner/large/large.gguf", { ...options, models })
    const controller = new AbortController()
    const reason = new Error("enough")
    const error = await failure(
      model.download({
        signal: controller.signal,
        onEvent: (event) => {
          if (event.type === "progress" && event.completed > 300_000) controller.abort(reason)
        }
      })
    )
    assert.strictEqual(error, reason)
    hub.behaviour = {}
    await model.download()
    // At most the ranges that were under way came twice.
    assert.isBelow(hub.doubled(large), 5 * 64 * 1024)
    assert.strictEqual((await failure(model.url)) instanceof Error, true)
  })

  for (const [name, type] of [
    ["hf:owner/none", "ModelDownloadFailed"],
    ["no-such-model", "ModelNotStored"],
    ["hf:../x", "InvalidModelReference"]
  ] as const) {
    it(`${name}: ${type}, and nothing is started`, async () => {
      await using engines = use()
      await using model = new PromiseModel(name, options)
      for (const error of [await failure(model.download()), await failure(model.serve())]) {
        assert.isTrue(isChatError(error) && error._tag === type, String(error))
      }
      assert.lengthOf(engines.calls(), 0)
    })
  }

  it("an invalid option of models is refused", async () => {
    await using _engines = use()
    const error = await failure(PromiseModel.open("x", { models: { hub: "not an address" } }))
    assert.instanceOf(error, InvalidRequest)
    assert.match(error.message, /models\.hub/)
  })
})

it.live("the model store of a program with Effect is used", () =>
  Effect.gen(function* () {
    const engines = use()
    yield* Effect.addFinalizer(() => Effect.promise(() => engines[Symbol.asyncDispose]()))
    const folder = join(engines.folder, "store of the program")
    const ask = Effect.scoped(
      Effect.gen(function* () {
        const model = yield* LocalModel.scoped("hf:owner/tiny-GGUF", options)
        return (yield* model.chat("Hi")).content
      })
    )
    const layer = Cortex.layer({ servers: [], models: { folder, hub: hub.url } })
    assert.strictEqual(yield* Effect.provide(ask, layer), "Hello there.")
    assert.isTrue(modelOf(engines)?.startsWith(folder))
  }).pipe(Effect.scoped)
)

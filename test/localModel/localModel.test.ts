/** A model as a scope, over engines on PATH that note how they were called. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import { afterEach, vi } from "vitest"
import { EngineFailed, EngineNotInstalled, InvalidRequest, NotRunning } from "../../src/Errors.js"
import * as LocalModel from "../../src/LocalModel.js"
import { LocalModel as PromiseModel } from "../../src/promise.js"
import { type FakeEngines, fakeEngines, isAlive, listens, until } from "../support/engines.js"

afterEach(() => {
  vi.unstubAllEnvs()
})

const use = (names: ReadonlyArray<string>, does?: object): FakeEngines => {
  const engines = fakeEngines(names, does)
  for (const [name, value] of Object.entries(engines.env)) vi.stubEnv(name, value)
  // A home of its own: nothing of the user's is read.
  for (const name of ["HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"]) vi.stubEnv(name, engines.folder)
  return engines
}

/** The value behind a flag in the first call of a program. */
const flag = (engines: FakeEngines, name: string, program = "llama-server") => {
  const { args = [] } = engines.calls().find((call) => call.program === program) ?? {}
  return args.includes(name) ? args[args.indexOf(name) + 1] : undefined
}

const pidOf = (engines: FakeEngines): number => engines.calls().find(({ pid }) => pid !== undefined)?.pid ?? 0

describe("lifecycle of a model", () => {
  it("open serves, chat answers, and leaving the block stops it", async () => {
    await using engines = use(["llama-server"])
    let port = 0
    {
      await using model = await PromiseModel.open(engines.model, { engine: "llama-server" })
      const url = await model.url
      port = Number(new URL(url).port)
      assert.match(url, /^http:\/\/127\.0\.0\.1:\d+\/v1$/)
      assert.deepStrictEqual(await model.chat("Hi"), { role: "assistant", content: "Hello there." })
      const direct = await fetch(`${url}/models`)
      assert.strictEqual(direct.status, 200)
    }
    assert.isFalse(isAlive(pidOf(engines)))
    assert.isFalse(await listens(port))
  })

  it("manual lifecycle: not running, serve twice is one server, stop, and serve again", async () => {
    await using engines = use(["llama-server"])
    await using model = new PromiseModel(engines.model, { engine: "llama-server" })
    const fails = async () => {
      const error = await model.chat("Hi").then(
        () => undefined,
        (cause: unknown) => cause
      )
      assert.instanceOf(error, NotRunning)
      assert.match(error.message, /is not running.*Call serve\(\) first/)
    }
    await fails()
    const noUrl = await model.url.catch((cause: unknown) => cause)
    assert.instanceOf(noUrl, NotRunning)
    await model.download()
    assert.isFalse(await model.running())
    await Promise.all([model.serve(), model.serve()])
    await model.serve()
    assert.lengthOf(
      engines.calls().filter(({ pid }) => pid !== undefined),
      1
    )
    assert.strictEqual((await model.chat("Hi")).content, "Hello there.")
    await model.stop()
    await model.stop()
    await fails()
    await model.serve()
    assert.strictEqual((await model.chat("Hi")).content, "Hello there.")
    assert.lengthOf(
      engines.calls().filter(({ pid }) => pid !== undefined),
      2
    )
  })

  it("the error names a killed engine, and serve starts another", async () => {
    await using engines = use(["llama-server"])
    await using model = await PromiseModel.open(engines.model, { engine: "llama-server" })
    process.kill(pidOf(engines), "SIGKILL")
    await until("it is noticed", async () => !(await model.running()))
    const error = await model.chat("Hi").catch((cause: unknown) => cause)
    assert.instanceOf(error, NotRunning)
    await model.serve()
    assert.strictEqual((await model.chat("Hi")).content, "Hello there.")
  })

  it.live("an interruption in the middle of an answer stops the engine", () =>
    Effect.gen(function* () {
      const engines = use(["llama-server"], { words: Array(1000).fill("x"), delay: 50 })
      yield* Effect.addFinalizer(() => Effect.promise(() => engines[Symbol.asyncDispose]()))
      const begun = yield* Deferred.make<void>()
      const fiber = yield* Effect.fork(
        Effect.scoped(
          Effect.gen(function* () {
            const model = yield* LocalModel.scoped(engines.model, { engine: "llama-server" })
            yield* Stream.runForEach(model.stream("Hi"), () => Deferred.succeed(begun, undefined))
          })
        )
      )
      yield* Deferred.await(begun)
      const pid = pidOf(engines)
      assert.isTrue(isAlive(pid))
      yield* Fiber.interrupt(fiber)
      assert.isFalse(isAlive(pid))
    }).pipe(Effect.scoped)
  )

  it("an abort while it loads stops the engine", async () => {
    await using engines = use(["llama-server"], { loads: 60_000 })
    const controller = new AbortController()
    const opening = PromiseModel.open(engines.model, { engine: "llama-server", signal: controller.signal })
    await until("it was started", () => pidOf(engines) > 0)
    controller.abort(new Error("enough"))
    const error = await opening.catch((cause: unknown) => cause)
    assert.strictEqual((error as Error).message, "enough")
    assert.isFalse(isAlive(pidOf(engines)))
  })
})

describe("chat", () => {
  const asked = (engines: FakeEngines) =>
    engines.calls().flatMap(({ body, path }) => (path === "/v1/chat/completions" ? [body ?? {}] : []))

  it("history comes before the message and is not changed; developer is a role", async () => {
    await using engines = use(["llama-server"])
    await using model = await PromiseModel.open(engines.model, { engine: "llama-server" })
    for (const role of ["system", "developer"] as const) {
      const history = Object.freeze([
        Object.freeze({ role, content: "Be brief." }),
        Object.freeze({ role: "user" as const, content: "My name is Ada." }),
        Object.freeze({ role: "assistant" as const, content: "Hello Ada." })
      ])
      await model.chat("What is my name?", history)
      assert.lengthOf(history, 3)
      const messages = asked(engines).at(-1)?.["messages"] as ReadonlyArray<{ role: string; content: string }>
      assert.deepStrictEqual(
        messages.map(({ content }) => content),
        ["Be brief.", "My name is Ada.", "Hello Ada.", "What is my name?"]
      )
      assert.include(["system", "developer"], messages[0]?.role)
    }
    // Nothing was kept of it.
    await model.chat("Hi")
    assert.lengthOf(asked(engines).at(-1)?.["messages"] as ReadonlyArray<unknown>, 1)
  })

  it("a stream yields the pieces", async () => {
    await using engines = use(["llama-server"])
    await using model = await PromiseModel.open(engines.model, { engine: "llama-server" })
    const pieces: Array<string> = []
    for await (const event of await model.stream("Hi")) if (event.type === "token") pieces.push(event.content)
    assert.strictEqual(pieces.join(""), "Hello there.")
  })

  for (const [options, temperature, maxTokens] of [
    [{}, 0.8, undefined],
    [{ temp: 0, maxTokens: 0 }, 0, undefined],
    [{ temp: 1.5, maxTokens: 7 }, 1.5, 7]
  ] as const) {
    it(`${JSON.stringify(options)} are the defaults of requests`, async () => {
      await using engines = use(["llama-server"])
      await using model = await PromiseModel.open(engines.model, { engine: "llama-server", ...options })
      await model.chat("Hi")
      const body = asked(engines).at(-1) ?? {}
      assert.strictEqual(body["temperature"], temperature)
      assert.strictEqual(body["max_tokens"] ?? body["max_completion_tokens"], maxTokens)
      await model.chat("Hi", [], { temperature: 0.3 })
      assert.strictEqual(asked(engines).at(-1)?.["temperature"], 0.3)
    })
  }

  for (const [message, history] of [
    ["", []],
    [42, []],
    ["Hi", "no list"],
    ["Hi", [{ role: "nobody", content: "x" }]]
  ] as const) {
    it(`${JSON.stringify([message, history])} is refused`, async () => {
      await using engines = use(["llama-server"])
      await using model = await PromiseModel.open(engines.model, { engine: "llama-server" })
      const error = await model.chat(message as never, history as never).catch((cause: unknown) => cause)
      assert.instanceOf(error, InvalidRequest)
      assert.lengthOf(asked(engines), 0)
    })
  }
})

describe("fields of the model reach the engine", () => {
  for (const [options, expected] of [
    [{}, { "--ctx-size": "0", "--n-gpu-layers": "999", "--threads": "-1", "--temp": "0.8", "--predict": "-1" }],
    [
      { ctxSize: 4096, ngl: 0, threads: 3, temp: 0, maxTokens: 50, parallel: 2 },
      {
        "--ctx-size": "4096",
        "--n-gpu-layers": "0",
        "--threads": "3",
        "--temp": "0",
        "--predict": "50",
        "--parallel": "2"
      }
    ],
    [
      { ngl: 12, threads: 0 },
      { "--n-gpu-layers": "12", "--threads": "0" }
    ]
  ] as const) {
    it(`llama-server: ${JSON.stringify(options)}`, async () => {
      await using engines = use(["llama-server"])
      await using _model = await PromiseModel.open(engines.model, { engine: "llama-server", ...options })
      for (const [name, value] of Object.entries(expected)) assert.strictEqual(flag(engines, name), value, name)
      assert.strictEqual(flag(engines, "--model"), engines.model)
      assert.strictEqual(flag(engines, "--alias"), "tiny")
      assert.strictEqual(flag(engines, "--host"), "127.0.0.1")
    })
  }

  it("a container gets its image, the file and the same arguments, and is removed", async () => {
    await using engines = use(["podman"])
    {
      await using model = await PromiseModel.open(engines.model, {
        baseImage: "registry.local/own:1",
        ngl: 0,
        ctxSize: 512
      })
      assert.strictEqual((await model.chat("Hi")).content, "Hello there.")
    }
    const [{ args = [] } = {}] = engines.calls().filter((call) => call.program === "podman" && call.args?.[0] === "run")
    assert.include(args, "registry.local/own:1")
    assert.strictEqual(args[args.indexOf("--model") + 1], "/models/tiny.gguf")
    assert.include(args, `type=bind,source=${engines.folder},target=/models,readonly`)
    assert.strictEqual(args[args.indexOf("--n-gpu-layers") + 1], "0")
    assert.strictEqual(args[args.indexOf("--ctx-size") + 1], "512")
    const name = args[args.indexOf("--name") + 1] ?? ""
    assert.deepStrictEqual(engines.calls().at(-1)?.args, ["rm", "--force", name])
  })

  it("docker is taken where there is no podman, with RamaLama's image", async () => {
    await using engines = use(["docker"])
    await using _model = await PromiseModel.open(engines.model, { engine: "container" })
    const run = engines.calls().find(({ args = [] }) => args[0] === "run")
    assert.strictEqual(run?.program, "docker")
    assert.include(run?.args ?? [], "quay.io/ramalama/ramalama")
  })
})

describe("errors", () => {
  const opening = (file: string, options: object) => PromiseModel.open(file, options).catch((cause: unknown) => cause)

  for (const [options, field] of [
    [{ engine: "llama-server", baseImage: "x" }, "baseImage"],
    [{ engine: "aicortex", baseImage: "x" }, "baseImage"],
    [{ temp: 3 }, "temp"],
    [{ ngl: -2 }, "ngl"],
    [{ ctxSize: 0.5 }, "ctxSize"],
    [{ maxTokens: -1 }, "maxTokens"],
    [{ timeout: 0 }, "timeout"],
    [{ engine: "vllm" }, "engine"],
    [{ base_image: "x" }, "base_image"],
    [{ engine: "ollama" }, "engine"]
  ] as const) {
    it(`${JSON.stringify(options)}: ${field}`, async () => {
      await using engines = use(["llama-server", "podman", "ollama"])
      const error = await opening(engines.model, options)
      assert.instanceOf(error, InvalidRequest)
      assert.strictEqual(error.field, field)
      assert.lengthOf(engines.calls(), 0)
    })
  }

  it("the error names an engine that is not installed, and how to get it", async () => {
    await using engines = use([])
    for (const engine of ["llama-server", "container"]) {
      const error = await opening(engines.model, { engine })
      if (engine === "container" && !(error instanceof EngineNotInstalled)) continue
      assert.instanceOf(error, EngineNotInstalled)
      assert.strictEqual(error.engine, engine)
      assert.match(error.message, /Install/)
    }
  })

  it("the error has the last 80 lines of an engine that exits", async () => {
    await using engines = use(["llama-server"], { exit: 3 })
    const error = await opening(engines.model, { engine: "llama-server" })
    assert.instanceOf(error, EngineFailed)
    assert.match(error.reason, /exit code 3/)
    assert.lengthOf(error.log, 80)
    assert.strictEqual(error.log.at(-1), "error: the model cannot be loaded")
    assert.strictEqual(error.log[0], "line 22")
  })

  it("an engine that is not ready within timeout is stopped", async () => {
    await using engines = use(["llama-server"], { loads: 60_000 })
    const error = await opening(engines.model, { engine: "llama-server", timeout: 800 })
    assert.instanceOf(error, EngineFailed)
    assert.match(error.reason, /not ready within 0\.8 s/)
    assert.isFalse(isAlive(pidOf(engines)))
  })

  it("a missing file", async () => {
    await using engines = use(["llama-server"])
    const error = (await opening(`${engines.folder}/none.gguf`, {})) as { readonly _tag?: string }
    assert.strictEqual(error._tag, "InvalidModelFile")
  })
})

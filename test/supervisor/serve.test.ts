/** `aicortex serve` with the models of this machine. */
import { readdirSync, rmSync, writeFileSync } from "node:fs"
import OpenAI, { APIError } from "openai"
import { assert, beforeAll, describe, it } from "vitest"
import { defaultModelPath } from "../../src/backend/embedded.js"
import { build } from "../support/cliProcess.js"
import { isAlive, listens, until } from "../support/engines.js"
import { gguf } from "../support/gguf.js"
import { type LocalHome, localHome } from "../support/localHome.js"
import { serveIn } from "../support/serveLocal.js"

beforeAll(build, 120_000)

const timeout = 120_000
const demo = defaultModelPath()
const question = [{ role: "user" as const, content: "What is the capital of France?" }]

const clientOf = (url: string) => new OpenAI({ baseURL: `${url}/v1`, apiKey: "not-needed", maxRetries: 0 })

const ask = async (url: string, model: string, stream = false): Promise<string> => {
  const { chat } = clientOf(url)
  const common = { model, messages: question, temperature: 0 }
  if (!stream) return (await chat.completions.create(common)).choices[0]?.message.content ?? ""
  let text = ""
  for await (const chunk of await chat.completions.create({ ...common, stream: true })) {
    text += chunk.choices[0]?.delta.content ?? ""
  }
  return text
}

// biome-ignore lint/suspicious/noExplicitAny: answers are read freely.
const json = async (response: Response): Promise<any> => response.json()

const stateOf = (local: LocalHome, model: string) => local.engines(model)[0]?.state
const portOf = (url = ""): number => Number(new URL(url).port)
const namesAt = async (url: string): Promise<ReadonlyArray<string>> =>
  (await clientOf(url).models.list()).data.map(({ id }) => id).filter((id) => id !== "auto")

/** Waits until all that a supervisor held is gone, and what it has left in its folder. */
const nothingLeft = async (local: LocalHome, before: ReturnType<LocalHome["state"]>) => {
  const engines = before?.models.flatMap((model) => model.engines) ?? []
  const pids = [before?.pid ?? 0, ...engines.flatMap(({ pid }) => (pid === null ? [] : [pid]))]
  assert.isAbove(pids[0] ?? 0, 0)
  assert.deepStrictEqual(pids.filter(isAlive), [])
  // The supervisor's own port is the default one, which another supervisor may have by now.
  for (const { url } of engines) assert.isFalse(await listens(portOf(url)), url)
  assert.deepStrictEqual(readdirSync(local.folder).sort(), ["logs", "supervisor.log"])
}

describe("serve with models of this machine", () => {
  it("loads at the first request, is warm at the second, and leaves nothing", { timeout }, async () => {
    await using local = localHome({}, { models: { aliases: { small: "tiny" } } })
    await local.ok("pull", demo, "--name", "tiny")
    await using served = await serveIn(local)
    assert.include(served.said(), "models of this machine, loaded when they are asked for: tiny")
    assert.deepStrictEqual(await namesAt(served.url), ["small", "tiny"])
    assert.strictEqual(stateOf(local, "tiny"), "stopped")
    const loaded = async () => (await json(await fetch(`${served.url}/api/ps`))).models
    assert.deepStrictEqual(await loaded(), [])

    // Several at once wait for one load.
    const first = await Promise.all([
      ask(served.url, "tiny"),
      ask(served.url, "tiny", true),
      ask(served.url, "small"),
      fetch(`${served.url}/api/chat`, {
        method: "POST",
        body: JSON.stringify({ model: "tiny", messages: question, stream: false, options: { temperature: 0 } })
      }).then(async (response) => (await json(response)).message.content)
    ])
    for (const text of first) assert.include(text, "Paris")
    const [engine] = local.engines("tiny")
    assert.strictEqual(engine?.state, "ready")
    assert.include((await loaded())[0], { name: "tiny", context_length: 512 })
    assert.include(await ask(served.url, "tiny"), "Paris")
    assert.strictEqual(local.engines("tiny")[0]?.pid, engine?.pid)

    const before = local.state()
    assert.strictEqual(await served.end(), 0)
    await nothingLeft(local, before)
  })

  it("two models with memory for one take turns", { timeout }, async () => {
    await using local = localHome({}, { models: { memory: 3_000_000 } })
    await local.ok("pull", demo, "--name", "one")
    await local.ok("pull", demo, "--name", "two", "--copy")
    await using served = await serveIn(local)
    for (const [model, other] of [
      ["one", "two"],
      ["two", "one"]
    ] as const) {
      assert.include(await ask(served.url, model), "Paris")
      assert.strictEqual(stateOf(local, model), "ready")
      assert.strictEqual(stateOf(local, other), "stopped")
      assert.lengthOf(local.pids(), 1)
    }
    // A request that comes while the other one answers waits for its turn.
    const texts = await Promise.all([ask(served.url, "one", true), ask(served.url, "two", true)])
    for (const text of texts) assert.include(text, "Paris")
    assert.lengthOf(local.pids(), 1)
  })

  it("an idle model is unloaded, and loaded again on demand", { timeout }, async () => {
    await using local = localHome({}, { models: { keepAlive: 1 } })
    await local.ok("pull", demo, "--name", "tiny")
    await using served = await serveIn(local)
    for (let i = 0; i < 2; i++) {
      assert.include(await ask(served.url, "tiny"), "Paris")
      const [pid = 0] = local.pids()
      await until("it is unloaded", () => stateOf(local, "tiny") === "stopped")
      await until("its engine is gone", () => !isAlive(pid))
    }
  })

  it("several workers serve the same models, with one load", { timeout }, async () => {
    await using local = localHome()
    await local.ok("pull", demo, "--name", "tiny")
    await using served = await serveIn(local, ["--workers", "2"])
    const lists = await Promise.all(Array.from({ length: 6 }, () => namesAt(served.url)))
    for (const names of lists) assert.deepStrictEqual(names, ["tiny"])
    const texts = await Promise.all(Array.from({ length: 6 }, () => ask(served.url, "tiny")))
    for (const text of texts) assert.include(text, "Paris")
    assert.lengthOf(local.pids(), 1)
    const before = local.state()
    assert.strictEqual(await served.end(), 0)
    await nothingLeft(local, before)
  })

  it("a configuration reload keeps loaded models", { timeout }, async () => {
    await using local = localHome({}, {})
    await local.ok("pull", demo, "--name", "tiny")
    await using served = await serveIn(local)
    await ask(served.url, "tiny")
    const [pid = 0] = local.pids()
    const { length } = served.said()
    writeFileSync(local.home.file, JSON.stringify({ aliases: { another: "tiny" } }))
    await until("it is read", () => served.said().slice(length).includes("again"))
    assert.include(await ask(served.url, "another"), "Paris")
    assert.deepStrictEqual(local.pids(), [pid])
  })

  it("a model that is added while it runs is offered", { timeout }, async () => {
    await using local = localHome()
    await using served = await serveIn(local)
    assert.isUndefined(local.state())
    await local.ok("pull", demo, "--name", "late")
    await until("it is offered", async () => (await namesAt(served.url)).includes("late"))
    assert.include(await ask(served.url, "late"), "Paris")
  })
})

describe("models that cannot be loaded", () => {
  it("are a typed error with the engine's last lines; the others continue", { timeout }, async () => {
    await using local = localHome()
    const broken = local.home.write("broken.gguf", gguf())
    await local.ok("pull", broken, "--name", "broken")
    await local.ok("pull", demo, "--name", "tiny")
    await using served = await serveIn(local)
    for (const stream of [false, true, false]) {
      const error = await ask(served.url, "broken", stream).then(
        () => undefined,
        (error: unknown) => error
      )
      assert.instanceOf(error, APIError)
      assert.include(error, { status: 503, code: "engine_failed" })
      assert.match(error.message, /The engine aicortex cannot serve 'broken': it ended with exit code 1/)
      assert.match(error.message, /Its last lines:\n.*\S/)
    }
    assert.strictEqual(stateOf(local, "broken"), "failed")
    assert.deepStrictEqual(await namesAt(served.url), ["broken", "tiny"])
    assert.include(await ask(served.url, "tiny"), "Paris")
  })

  it("a model that cannot fit is an error at once, and one that loads for too long after its timeout", {
    timeout
  }, async () => {
    await using local = localHome({}, { models: { memory: 1_000_000 } })
    await local.ok("pull", demo, "--name", "large")
    await using served = await serveIn(local)
    const failed = (url: string) => ask(url, "large").catch((error: unknown) => error)
    const error = await failed(served.url)
    assert.instanceOf(error, APIError)
    assert.include(error, { status: 503, code: "engine_failed" })
    assert.match(error.message, /needs about 0\.003 GB/)
    await served.end()

    rmSync(local.home.file)
    writeFileSync(local.home.file, JSON.stringify({ gateway: { loadTimeout: 0.1 } }))
    await using hasty = await serveIn(local)
    const late = await failed(hasty.url)
    assert.instanceOf(late, APIError)
    assert.include(late, { status: 503, code: "model_loading" })
    assert.isNotEmpty(late.headers?.get("retry-after") ?? "")
    // It goes on loading for the next one.
    await until("it is loaded", () => stateOf(local, "large") === "ready")
    assert.include(await ask(hasty.url, "large"), "Paris")
  })
})

describe("supervisor ownership", () => {
  it("a running one is used, and stays", { timeout }, async () => {
    await using local = localHome()
    await local.ok("run", "-d", demo, "--port", "0")
    const [pid = 0] = local.pids()
    await using served = await serveIn(local)
    assert.include(served.said(), "aicortex-demo (loaded)")
    assert.include(await ask(served.url, "aicortex-demo"), "Paris")
    assert.strictEqual(await served.end(), 0)
    assert.isTrue(isAlive(pid))
    assert.strictEqual(stateOf(local, "aicortex-demo"), "ready")
  })

  it("one that it started stays with a model that somebody runs, and ends when it is killed", {
    timeout
  }, async () => {
    await using local = localHome()
    await local.ok("pull", demo, "--name", "tiny")
    {
      await using served = await serveIn(local)
      await local.ok("run", "-d", "tiny")
      await served.end()
      assert.strictEqual(stateOf(local, "tiny"), "ready")
      await local.ok("stop")
    }
    await using served = await serveIn(local)
    await ask(served.url, "tiny")
    const before = local.state()
    served.child.kill("SIGKILL")
    await until("the supervisor is gone", () => !isAlive(before?.pid ?? 0))
    await nothingLeft(local, before)
  })

  it("another one is started if it ended", { timeout }, async () => {
    await using local = localHome()
    await local.ok("pull", demo, "--name", "tiny")
    await using served = await serveIn(local)
    for (const end of ["stop", "kill"]) {
      const before = local.state()?.pid ?? 0
      if (end === "stop") await local.ok("stop")
      else process.kill(before, "SIGKILL")
      await until("another one runs", () => (local.state()?.pid ?? before) !== before)
      await until("it is offered", async () => (await namesAt(served.url)).includes("tiny"))
      assert.include(await ask(served.url, "tiny"), "Paris")
    }
  })

  it.each([
    ["--no-local", ["--no-local"], {}, {}],
    ["a setting", [], { gateway: { localModels: false } }, {}],
    ["a variable", [], {}, { AICORTEX_LOCAL_MODELS: "false" }]
  ] as const)("nothing is started with %s", { timeout }, async (_, args, config, env) => {
    await using local = localHome({}, config)
    await local.ok("pull", demo, "--name", "tiny")
    await using served = await serveIn(local, args, env)
    assert.deepStrictEqual(await namesAt(served.url), ["aicortex-demo"])
    assert.isUndefined(local.state())
    assert.notInclude(served.said(), "of this machine")
  })

  it("nothing is started without models", { timeout }, async () => {
    await using local = localHome()
    await using served = await serveIn(local)
    assert.deepStrictEqual(await namesAt(served.url), ["aicortex-demo"])
    assert.isUndefined(local.state())
  })
})

/** A model as a scope, on this package's own engine with the demo model. */
import { readdirSync, readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import OpenAI from "openai"
import { beforeAll } from "vitest"
import { defaultModelPath } from "../../src/backend/embedded.js"
import { InvalidRequest, isChatError, NotRunning } from "../../src/Errors.js"
import * as LocalModel from "../../src/LocalModel.js"
import { LocalModel as PromiseModel } from "../../src/promise.js"
import { build } from "../support/cliProcess.js"
import { isAlive, listens, until } from "../support/engines.js"
import { firstLine, program } from "../support/program.js"

beforeAll(build, 120_000)

const demo = defaultModelPath()
const question = "What is the capital of France?"
const answer = "The capital of France is Paris."
const engine = "aicortex"

const read = (path: string): string => {
  try {
    return readFileSync(path, "utf8")
  } catch {
    return ""
  }
}

/** The engines that a process has started, with their arguments. */
const enginesOf = (parent = process.pid) =>
  readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry))
    .filter((pid) => read(`/proc/${pid}/stat`).split(") ")[1]?.split(" ")[1] === String(parent))
    .map((pid) => ({ pid: Number(pid), args: read(`/proc/${pid}/cmdline`).split("\0") }))
    .filter(({ args }) => args.includes("engine"))

const failure = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => undefined,
    (error: unknown) => error
  )

const portOf = (url: string) => Number(new URL(url).port)

describe("the Promise face, method by method", () => {
  it("download, serve, chat, history, stream, url, stop", { timeout: 120_000 }, async () => {
    await using model = new PromiseModel("aicortex-demo", { temp: 0 })
    // Not running: nothing is started, and one guard knows the error.
    for (const error of [
      await failure(model.chat(question)),
      await failure(model.stream(question)),
      await failure(model.url)
    ]) {
      assert.instanceOf(error, NotRunning)
      assert.isTrue(isChatError(error))
      assert.match((error as Error).message, /not running.*Call serve\(\) first/)
    }
    await model.download()
    assert.isFalse(await model.running())

    await Promise.all([model.serve(), model.serve()])
    await model.serve()
    assert.isTrue(await model.running())
    if (process.platform === "linux") assert.lengthOf(enginesOf(), 1)

    assert.deepStrictEqual(await model.chat(question), { role: "assistant", content: answer })
    for (const role of ["system", "developer"] as const) {
      const history = Object.freeze([
        Object.freeze({ role, content: "You are a helpful assistant." }),
        Object.freeze({ role: "user" as const, content: question }),
        Object.freeze({ role: "assistant" as const, content: answer })
      ])
      const reply = await model.chat("What is the capital of Italy?", history)
      assert.deepStrictEqual(reply, { role: "assistant", content: "The capital of Italy is Rome." })
      assert.lengthOf(history, 3)
    }
    let text = ""
    for await (const event of await model.stream(question)) if (event.type === "token") text += event.content
    assert.strictEqual(text, answer)

    const url = await model.url
    assert.match(url, /^http:\/\/127\.0\.0\.1:\d+\/v1$/)
    const response = await fetch(`${url}/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: "aicortex-demo", messages: [{ role: "user", content: question }] })
    })
    const body = (await response.json()) as { choices: [{ message: { content: string } }] }
    assert.strictEqual(body.choices[0].message.content, answer)
    const client = new OpenAI({ baseURL: url, apiKey: "not-needed" })
    const completion = await client.chat.completions.create({
      model: model.model,
      messages: [
        { role: "system", content: "You are a helpful assistant." },
        { role: "user", content: question }
      ]
    })
    assert.strictEqual(completion.choices[0]?.message.content, answer)

    await model.stop()
    assert.isFalse(await listens(portOf(url)))
    assert.instanceOf(await failure(model.chat(question)), NotRunning)
    await model.serve()
    assert.strictEqual((await model.chat(question)).content, answer)
  })

  it("leaving the block stops it, also with a thrown error", { timeout: 120_000 }, async () => {
    let url = ""
    const boom = new Error("boom")
    const leave = async () => {
      await using model = await PromiseModel.open(demo)
      url = await model.url
      assert.isTrue(await listens(portOf(url)))
      throw boom
    }
    assert.strictEqual(await failure(leave()), boom)
    assert.isFalse(await listens(portOf(url)))
  })
})

describe("the Effect face", () => {
  it.live(
    "scoped, chat and stream; a failure, a defect and an interruption stop it",
    () =>
      Effect.gen(function* () {
        const urls: Array<string> = []
        const use = <E>(end: Effect.Effect<never, E>) =>
          Effect.scoped(
            Effect.gen(function* () {
              const model = yield* LocalModel.scoped(demo, { temp: 0, engine })
              urls.push(yield* model.url)
              assert.deepStrictEqual(yield* model.chat(question), { role: "assistant", content: answer })
              const pieces = yield* Stream.runCollect(model.stream(question))
              assert.strictEqual(
                [...pieces].map((event) => (event.type === "token" ? event.content : "")).join(""),
                answer
              )
              return yield* end
            })
          )
        assert.isTrue(Exit.isFailure(yield* Effect.exit(use(Effect.fail("no")))))
        assert.isTrue(Exit.isFailure(yield* Effect.exit(use(Effect.die("bug")))))
        const reached = yield* Deferred.make<void>()
        const fiber = yield* Effect.fork(use(Effect.zipRight(Deferred.succeed(reached, undefined), Effect.never)))
        yield* Deferred.await(reached)
        yield* Fiber.interrupt(fiber)
        assert.lengthOf(urls, 3)
        for (const url of urls) assert.isFalse(yield* Effect.promise(() => listens(portOf(url))))
      }),
    120_000
  )
})

describe("the end of the program", () => {
  for (const how of ["SIGKILL", "SIGTERM", "exit"] as const) {
    it(`${how}: the engine is gone`, { timeout: 120_000 }, async () => {
      await using user = await program(`
        import { LocalModel } from "aicortex/promise"
        const model = await LocalModel.open("aicortex-demo")
        console.log(await model.url)
        if (process.argv[2] === "exit") process.exit(3)
        setInterval(() => {}, 1000)
      `)
      const child = user.start([how])
      const port = portOf(await firstLine(child))
      if (how !== "exit") {
        const pids = process.platform === "linux" ? enginesOf(child.pid).map(({ pid }) => pid) : []
        if (process.platform === "linux") assert.lengthOf(pids, 1)
        child.kill(how)
        await until("the engine is gone", () => pids.every((pid) => !isAlive(pid)))
      }
      await until("its port is free", async () => !(await listens(port)))
    })
  }
})

describe("every field reaches the engine", () => {
  const withDefaults = {
    "--temp": "0.8",
    "--max-tokens": "0",
    "--ctx": "0",
    "--ngl": "-1",
    "--threads": "-1"
  }

  it.skipIf(process.platform !== "linux").each([
    [{}, withDefaults],
    [
      { temp: 0, maxTokens: 0, ctxSize: 0, ngl: 0, threads: 0 },
      { ...withDefaults, "--temp": "0", "--ngl": "0", "--threads": "0" }
    ],
    [
      { temp: 1.5, maxTokens: 7, ctxSize: 256, ngl: 2, threads: 1, parallel: 2 },
      { "--temp": "1.5", "--max-tokens": "7", "--ctx": "256", "--ngl": "2", "--threads": "1", "--parallel": "2" }
    ]
  ] as const)("%j, as arguments", async (options, expected) => {
    await using _model = await PromiseModel.open(demo, options)
    const [{ args = [] } = {}] = enginesOf()
    for (const [flag, value] of Object.entries(expected)) assert.strictEqual(args[args.indexOf(flag) + 1], value, flag)
  })

  it("temp, maxTokens and ctxSize have an effect", { timeout: 120_000 }, async () => {
    await using model = await PromiseModel.open(demo, { temp: 0, maxTokens: 3, ctxSize: 128 })
    const client = new OpenAI({ baseURL: await model.url, apiKey: "x", maxRetries: 0 })
    const ask = (content: string, more: object = {}) =>
      client.chat.completions.create({ model: "aicortex-demo", messages: [{ role: "user", content }], ...more })
    const { content } = await model.chat(question)
    for (let i = 0; i < 3; i++) {
      // What holds for chat() holds for other clients, too.
      const direct = await ask(question)
      assert.strictEqual(direct.choices[0]?.message.content, content)
      assert.strictEqual(direct.choices[0]?.finish_reason, "length")
      assert.strictEqual(direct.usage?.completion_tokens, 3)
    }
    // What a call says comes first.
    assert.strictEqual((await model.chat(question, [], { maxTokens: 100 })).content, answer)
    assert.strictEqual((await ask(question, { max_tokens: 100 })).choices[0]?.message.content, answer)
    const error = await failure(model.chat("many words ".repeat(200)))
    assert.instanceOf(error, InvalidRequest)
    assert.strictEqual(error.code, "context_length_exceeded")
  })

  it("without limits, an answer has its natural length", async () => {
    await using model = await PromiseModel.open(demo, { temp: 0, maxTokens: 0 })
    assert.isAbove((await model.chat("Tell me a short story about a friendly robot.")).content.length, 50)
  })
})

describe("the name of the model", () => {
  for (const [asked, name] of [
    [demo, "aicortex-demo"],
    [`file:${demo}`, "aicortex-demo"],
    ["aicortex-demo", "aicortex-demo"],
    ["hf:owner/repo:Q4_K_M", "hf:owner/repo:Q4_K_M"],
    ["https://example.com/models/own.gguf", "own"],
    ["owner/repo/own.gguf", "own"]
  ] as const) {
    it(`${asked.replace(demo, "PATH")} is ${name.replace(demo, "PATH")}`, async () => {
      await using model = new PromiseModel(asked)
      assert.strictEqual(model.model, name)
    })
  }

  it("is the name in requests and lists", async () => {
    await using model = await PromiseModel.open(demo, { temp: 0 })
    const client = new OpenAI({ baseURL: await model.url, apiKey: "x", maxRetries: 0 })
    const list = await client.models.list()
    assert.include(
      list.data.map(({ id }) => id),
      model.model
    )
    const { choices } = await client.chat.completions.create({
      model: model.model,
      messages: [{ role: "user", content: question }]
    })
    assert.strictEqual(choices[0]?.message.content, answer)
  })
})

describe("stop during the start", () => {
  it("serve fails, and nothing is left", async () => {
    await using model = new PromiseModel(demo)
    const serving = failure(model.serve())
    await until("it was started", () => process.platform !== "linux" || enginesOf().length > 0)
    await model.stop()
    const error = await serving
    assert.match((error as Error).message, /it was stopped/)
    assert.isTrue(isChatError(error))
    if (process.platform === "linux") await until("it is gone", () => enginesOf().length === 0)
    await model.serve()
    assert.isNotEmpty((await model.chat(question)).content)
  })
})

/** What a supervisor does with its models: memory, idle time, restarts, and requests that cross each other. */
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as Engines from "../../src/Engines.js"
import { EngineFailed, InvalidRequest } from "../../src/Errors.js"
import { decodeStartOptions, type StartOptions } from "../../src/LocalModels.js"
import * as ModelStore from "../../src/ModelStore.js"
import type { Usage } from "../../src/Servers.js"
import * as Manager from "../../src/supervisor/manager.js"

interface FakeEngine {
  readonly model: string
  readonly port: number
  ready: boolean
  readonly end: (how: string) => void
  readonly isAlive: () => boolean
}

const idle: Usage = { inFlight: 0, queued: 0, answered: 0, tokensPerSecond: undefined }

/** Models of 10 bytes each, so that one takes 11; the memory is for three. */
const memory = 33

const stored = (name: string, path = `/models/${name}.gguf`): ModelStore.StoredModel => ({
  name,
  path,
  size: 10,
  source: path,
  files: [{ path, size: 10 }],
  kept: true,
  metadata: { architecture: "llama", contextLength: 512, chatTemplate: true } as never,
  addedAt: 1
})

const names = ["a", "b", "c", "d"]

/** A manager over engines that are only noted; they answer at once, unless `loads` says otherwise. */
const setUp = Effect.fnUntraced(function* (given: { keepAlive?: number; loads?: boolean; endsSlowly?: boolean } = {}) {
  const engines: Array<FakeEngine> = []
  const lines: Array<string> = []
  const usage = new Map<string, Usage>()
  const released = Deferred.unsafeMake<void>(FiberId.none)
  let port = 40_000
  const spawn: Engines.SystemService["spawn"] = ({ args }) =>
    Effect.acquireRelease(
      Effect.sync(() => {
        const ended = Deferred.unsafeMake<string>(FiberId.none)
        let how: string | undefined
        const valueOf = (flag: string) => args[args.indexOf(flag) + 1] ?? ""
        const engine: FakeEngine = {
          model: valueOf("--alias"),
          port: Number(valueOf("--port")),
          ready: given.loads !== true,
          end: (text) => {
            if (how !== undefined) return
            how = text
            Deferred.unsafeDone(ended, Effect.succeed(text))
          },
          isAlive: () => how === undefined
        }
        const busy = engines.some((one) => one.isAlive() && one.port === engine.port)
        engines.push(engine)
        if (busy) engine.end("exit code 98")
        const child: Engines.Child = {
          pid: 2 ** 30 + engines.length,
          ended: Deferred.await(ended),
          end: () => how,
          log: () => Array.from({ length: 80 }, (_, i) => `line ${i}`)
        }
        return { child, engine }
      }),
      ({ engine }) =>
        (given.endsSlowly === true ? Deferred.await(released) : Effect.void).pipe(
          Effect.zipRight(Effect.sync(() => engine.end("signal SIGTERM")))
        )
    ).pipe(Effect.map(({ child }) => child))
  const system = Engines.System.of({
    find: (program) => Effect.succeed(program === "llama-server" ? "/bin/llama-server" : undefined),
    self: Effect.succeed(undefined),
    hasPackage: () => Effect.succeed(false),
    spawn,
    freePort: Effect.sync(() => ++port)
  })
  const client = HttpClient.make((request, url) =>
    Effect.sync(() => {
      const engine = engines.find((one) => one.isAlive() && String(one.port) === url.port)
      const status = engine === undefined ? 502 : engine.ready ? 200 : 503
      const body = url.pathname === "/v1/models" ? JSON.stringify({ data: [{ id: engine?.model }] }) : "{}"
      return HttpClientResponse.fromWeb(request, new Response(body, { status }))
    })
  )
  const all = new Map(names.map((name) => [name, stored(name)]))
  const store = ModelStore.ModelStore.of({
    parse: (name) => Effect.succeed({ kind: "ollama", name } as never),
    find: (name) =>
      Effect.succeed(
        Option.fromNullable(name.startsWith("/") ? stored(name.split("/").at(-1) ?? "", name) : all.get(name))
      ),
    list: Effect.succeed([...all.values()]),
    importFile: () => Effect.die("not used"),
    pull: () => Stream.die("not used"),
    quantisations: () => Effect.die("not used"),
    remove: () => Effect.die("not used")
  })
  const manager = yield* Manager.make({
    memory,
    keepAlive: given.keepAlive ?? 300_000,
    aliases: [],
    settingsOf: () => ({}),
    usage: (url) => usage.get(url) ?? idle,
    line: (_, text) => void lines.push(text),
    changed: () => {}
  }).pipe(
    Effect.provide(
      Engines.layer.pipe(
        Layer.provideMerge(Layer.succeed(Engines.System, system)),
        Layer.merge(Layer.succeed(HttpClient.HttpClient, client)),
        Layer.merge(Layer.succeed(ModelStore.ModelStore, store))
      )
    )
  )
  yield* manager.refresh
  const start = (name: string, options: StartOptions = {}) =>
    Effect.flatMap(decodeStartOptions(options), (checked) => manager.start(name, checked, checked.keepAlive))
  const urlOf = (name: string) => manager.models().find((one) => one.name === name)?.engines[0]?.url ?? ""
  return {
    ...manager,
    start,
    engines,
    lines,
    released,
    alive: () => engines.filter((one) => one.isAlive()),
    use: (name: string, of: Partial<Usage>) => void usage.set(urlOf(name), { ...idle, ...of }),
    running: () =>
      manager
        .models()
        .filter(({ engines }) => engines.some(({ state }) => state !== "stopped"))
        .map(({ name }) => name),
    stateOf: (name: string) => manager.models().find((one) => one.name === name)?.engines[0]
  }
})

/** Lets everything go on that can, without time passing. */
const settle = Effect.promise(async () => {
  for (let i = 0; i < 50; i++) await new Promise((resolve) => setImmediate(resolve))
})

/** Time passes in steps, as a supervisor looks once a second. */
const pass = (self: { readonly sweep: Effect.Effect<void> }, seconds: number) =>
  Effect.gen(function* () {
    for (let i = 0; i < seconds; i++) {
      yield* settle
      yield* TestClock.adjust(1_000)
      yield* settle
      yield* self.sweep
    }
    yield* settle
  })

const waitsFor = Effect.fnUntraced(function* <A, E>(effect: Effect.Effect<A, E>) {
  const fiber = yield* Effect.fork(effect)
  yield* settle
  return fiber
})

describe("memory", () => {
  it.scoped("the least recently used model is unloaded, not the first started", () =>
    Effect.gen(function* () {
      const self = yield* setUp()
      for (const name of ["a", "b", "c"]) {
        yield* self.start(name)
        yield* pass(self, 2)
      }
      self.use("a", { answered: 1 })
      yield* pass(self, 3)
      yield* self.start("d")
      assert.deepStrictEqual(self.running(), ["a", "c", "d"])
      assert.lengthOf(self.alive(), 3)
    })
  )

  for (const [what, usage] of [
    ["answers", { inFlight: 1 }],
    ["has requests that wait for it", { queued: 2 }]
  ] as const) {
    it.scoped(`one that ${what} is never unloaded; a start waits until there is room`, () =>
      Effect.gen(function* () {
        const self = yield* setUp()
        for (const name of ["a", "b", "c"]) yield* self.start(name)
        for (const name of ["a", "b", "c"]) self.use(name, usage)
        yield* pass(self, 5)
        const fiber = yield* waitsFor(self.start("d"))
        yield* pass(self, 30)
        assert.deepStrictEqual(self.running(), ["a", "b", "c"])
        self.use("b", { answered: 9 })
        yield* pass(self, 5)
        assert.strictEqual(yield* Fiber.join(fiber), "d")
        assert.deepStrictEqual(self.running(), ["a", "c", "d"])
      })
    )
  }

  it.scoped("if all stay busy, the start fails, with their names", () =>
    Effect.gen(function* () {
      const self = yield* setUp()
      for (const name of ["a", "b", "c"]) yield* self.start(name)
      for (const name of ["a", "b", "c"]) self.use(name, { inFlight: 1 })
      const fiber = yield* waitsFor(Effect.flip(self.start("d")))
      yield* pass(self, 62)
      const error = yield* Fiber.join(fiber)
      assert.instanceOf(error, EngineFailed)
      assert.match(error.message, /'d' cannot be served: there is no memory for it: a, b, c are busy/)
    })
  )

  it.scoped("a model used by another process stays loaded, though it reports that rarely", () =>
    Effect.gen(function* () {
      const self = yield* setUp()
      for (const name of ["a", "b", "c"]) yield* self.start(name)
      for (const name of ["b", "c"]) self.use(name, { inFlight: 1 })
      yield* pass(self, 10)
      yield* self.touch("a")
      const fiber = yield* waitsFor(self.start("d"))
      for (let i = 0; i < 4; i++) {
        yield* self.touch("a")
        yield* pass(self, 4)
        assert.include(self.running(), "a")
      }
      yield* pass(self, 4)
      assert.strictEqual(yield* Fiber.join(fiber), "d")
    })
  )

  it.scoped("a model that can never fit is refused at once", () =>
    Effect.gen(function* () {
      const self = yield* setUp()
      yield* self.start("a")
      const error = yield* Effect.flip(self.start("b", { replicas: 4 }))
      assert.match(error.message, /needs about .* set models\.memory/)
      assert.deepStrictEqual(self.running(), ["a"])
    })
  )

  it.scoped("a start that waits for memory does not block running models", () =>
    Effect.gen(function* () {
      const self = yield* setUp()
      for (const name of ["a", "b", "c"]) yield* self.start(name)
      for (const name of ["a", "b", "c"]) self.use(name, { inFlight: 1 })
      yield* waitsFor(Effect.exit(self.start("d")))
      assert.strictEqual(yield* self.start("a"), "a")
    })
  )

  it.scoped("a stopping model still counts its memory", () =>
    Effect.gen(function* () {
      const self = yield* setUp({ endsSlowly: true })
      for (const name of ["a", "b", "c"]) yield* self.start(name)
      yield* waitsFor(self.stop("a"))
      const fiber = yield* waitsFor(self.start("d"))
      yield* pass(self, 3)
      assert.lengthOf(self.engines, 3)
      assert.deepStrictEqual(self.running(), ["b", "c"])
      yield* Deferred.succeed(self.released, undefined)
      yield* pass(self, 2)
      assert.strictEqual(yield* Fiber.join(fiber), "d")
      assert.deepStrictEqual(self.running(), ["b", "c", "d"])
    })
  )
})

describe("keep-alive", () => {
  for (const [keepAlive, seconds, stays] of [
    [0, 1, true],
    [0, 3, false],
    ["10 seconds", 9, true],
    [10_000, 11, false],
    [-1, 100_000, true],
    [undefined, 100_000, true]
  ] as const) {
    it.scoped(`keepAlive ${keepAlive}: after ${seconds} s it ${stays ? "is there" : "is gone"}`, () =>
      Effect.gen(function* () {
        const self = yield* setUp()
        yield* self.start("a", keepAlive === undefined ? {} : { keepAlive })
        yield* pass(self, Math.min(seconds, 20))
        if (seconds > 20) yield* TestClock.adjust(seconds * 1_000)
        yield* self.sweep
        assert.strictEqual(self.running().includes("a"), stays)
        assert.strictEqual(self.alive().length, stays ? 1 : 0)
      })
    )
  }

  for (const [keepAlive, stays] of [
    [20_000, false],
    [0, false],
    [-1, true]
  ] as const) {
    it.scoped(`a request loads it; the setting ${keepAlive}: it ${stays ? "stays" : "goes"}`, () =>
      Effect.gen(function* () {
        const self = yield* setUp({ keepAlive })
        yield* self.want("a")
        yield* self.want("a")
        yield* settle
        assert.lengthOf(self.engines, 1)
        self.use("a", { inFlight: 1 })
        yield* pass(self, 40)
        assert.deepStrictEqual(self.running(), ["a"])
        self.use("a", { answered: 1 })
        yield* pass(self, 25)
        assert.strictEqual(self.running().length, stays ? 1 : 0)
      })
    )
  }

  it.scoped("a model whose load takes longer than its keep-alive still serves waiting requests", () =>
    Effect.gen(function* () {
      const self = yield* setUp({ keepAlive: 2_000, loads: true })
      yield* self.want("a")
      yield* pass(self, 20)
      assert.strictEqual(self.stateOf("a")?.state, "loading")
      for (const one of self.engines) one.ready = true
      yield* pass(self, 1)
      assert.strictEqual(self.stateOf("a")?.state, "ready")
      yield* pass(self, 5)
      assert.deepStrictEqual(self.running(), [])
    })
  )

  it.scoped("an explicit start sets the keep-alive, also after a request loaded it", () =>
    Effect.gen(function* () {
      const self = yield* setUp({ keepAlive: 5_000 })
      yield* self.want("a")
      yield* settle
      yield* self.start("a")
      yield* pass(self, 20)
      assert.deepStrictEqual(self.running(), ["a"])
      yield* self.start("a", { keepAlive: 3_000 })
      yield* pass(self, 10)
      assert.deepStrictEqual(self.running(), [])
    })
  )
})

describe("engines that exit", () => {
  it.scoped("are restarted after 1, 2, 4 and 8 s, and not after the fifth end within a minute", () =>
    Effect.gen(function* () {
      const self = yield* setUp()
      yield* self.start("a")
      for (const seconds of [1, 2, 4, 8]) {
        const before = self.engines.length
        self.engines.at(-1)?.end("signal SIGKILL")
        yield* settle
        assert.strictEqual(self.stateOf("a")?.state, "restarting")
        assert.strictEqual(self.stateOf("a")?.problem, "it ended with signal SIGKILL")
        yield* TestClock.adjust(seconds * 1_000 - 1)
        yield* settle
        assert.lengthOf(self.engines, before)
        yield* TestClock.adjust(1)
        yield* settle
        assert.lengthOf(self.engines, before + 1)
        assert.strictEqual(self.stateOf("a")?.state, "ready")
      }
      self.engines.at(-1)?.end("signal SIGKILL")
      yield* settle
      const { problem, restarts, state } = self.stateOf("a") ?? {}
      assert.deepStrictEqual([state, restarts], ["failed", 4])
      assert.match(problem ?? "", /signal SIGKILL; given up after 5 ends within 60 s/)
      yield* pass(self, 100)
      assert.lengthOf(self.engines, 5)
      // Whoever starts it again gets a new one.
      yield* self.start("a")
      assert.strictEqual(self.stateOf("a")?.state, "ready")
      assert.lengthOf(self.engines, 6)
    })
  )

  it.scoped("that end rarely are always restarted", () =>
    Effect.gen(function* () {
      const self = yield* setUp()
      yield* self.start("a")
      for (let i = 0; i < 12; i++) {
        yield* TestClock.adjust(30_000)
        self.engines.at(-1)?.end("exit code 1")
        yield* settle
        yield* TestClock.adjust(4_000)
        yield* settle
        assert.strictEqual(self.stateOf("a")?.state, "ready")
      }
    })
  )

  it.scoped("that end before the first answer fail the start with their last 80 lines", () =>
    Effect.gen(function* () {
      const self = yield* setUp({ loads: true })
      const fiber = yield* waitsFor(Effect.flip(self.start("a")))
      self.engines[0]?.end("exit code 1")
      yield* settle
      const error = yield* Fiber.join(fiber)
      assert.instanceOf(error, EngineFailed)
      assert.match(error.reason, /exit code 1/)
      assert.lengthOf(error.log, 80)
    })
  )

  it.scoped("one failing start does not block others", () =>
    Effect.gen(function* () {
      const self = yield* setUp({ loads: true })
      const fiber = yield* waitsFor(self.start("a", { replicas: 2 }))
      self.engines[0]?.end("exit code 1")
      yield* pass(self, 1)
      for (const one of self.engines) one.ready = true
      yield* pass(self, 1)
      assert.strictEqual(yield* Fiber.join(fiber), "a")
      assert.strictEqual(yield* self.start("a"), "a")
    })
  )
})

describe("concurrent requests", () => {
  it.scoped("concurrent starts share one engine", () =>
    Effect.gen(function* () {
      const self = yield* setUp({ loads: true })
      const fibers = yield* Effect.forEach([1, 2, 3], () => waitsFor(self.start("a")))
      yield* self.want("a")
      yield* settle
      assert.lengthOf(self.engines, 1)
      for (const one of self.engines) one.ready = true
      yield* pass(self, 1)
      assert.deepStrictEqual(yield* Effect.forEach(fibers, Fiber.join), ["a", "a", "a"])
      assert.lengthOf(self.engines, 1)
    })
  )

  it.scoped("stop during the load: the start fails, and nothing remains", () =>
    Effect.gen(function* () {
      const self = yield* setUp({ loads: true })
      const fiber = yield* waitsFor(self.start("a"))
      assert.isTrue(yield* self.stop("a"))
      const exit = yield* Fiber.await(fiber)
      assert.isTrue(Exit.isFailure(exit))
      assert.match(String(exit), /it was stopped/)
      assert.lengthOf(self.alive(), 0)
      assert.isFalse(yield* self.stop("a"))
    })
  )

  it.scoped("a start during the stop waits, and gets the same address", () =>
    Effect.gen(function* () {
      const self = yield* setUp({ endsSlowly: true })
      yield* self.start("a")
      const url = self.stateOf("a")?.url
      yield* waitsFor(self.stop("a"))
      const fiber = yield* waitsFor(self.start("a"))
      assert.lengthOf(self.engines, 1)
      yield* Deferred.succeed(self.released, undefined)
      yield* settle
      assert.strictEqual(yield* Fiber.join(fiber), "a")
      assert.strictEqual(self.stateOf("a")?.url, url)
      assert.lengthOf(self.alive(), 1)
    })
  )

  for (const [name, options, field] of [
    ["a", { contextSize: 4096 }, "contextSize"],
    ["a", { gpuLayers: 0 }, "gpuLayers"],
    ["a", { threads: 2 }, "threads"],
    ["a", { parallel: 8 }, "parallel"],
    ["a", { embeddings: true }, "embeddings"],
    ["a", { replicas: 2 }, "replicas"],
    ["/elsewhere/a", {}, "model"]
  ] as const) {
    it.scoped(
      `a start with other options is refused, not treated as the same: ${name} ${JSON.stringify(options)}`,
      () =>
        Effect.gen(function* () {
          const self = yield* setUp()
          yield* self.start("a", { contextSize: 512 })
          const error = yield* Effect.flip(self.start(name, options))
          assert.instanceOf(error, InvalidRequest)
          assert.strictEqual(error.field, field)
          assert.match(error.reason, /stop it first/)
          assert.strictEqual(yield* self.start("a", { contextSize: 512, keepAlive: -1 }), "a")
          assert.lengthOf(self.engines, 1)
        })
    )
  }
})

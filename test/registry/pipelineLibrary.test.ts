/** The registry's pipeline as a library: Effects with progress and typed errors, and Promise functions. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { createServer, type RequestListener } from "node:http"
import type { AddressInfo } from "node:net"
import { hostname, tmpdir } from "node:os"
import { join } from "node:path"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import { afterEach, assert, describe, it } from "vitest"
import * as Cortex from "../../src/Cortex.js"
import { createCortex, InvalidRequest } from "../../src/promise.js"
import * as RegistryPipeline from "../../src/RegistryPipeline.js"
import { unusedPort } from "../support/ports.js"

const closers: Array<() => void> = []
afterEach(() => {
  for (const close of closers.splice(0)) close()
})

const serve = async (answer: RequestListener): Promise<string> => {
  const server = createServer(answer)
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve))
  closers.push(() => {
    server.close()
    server.closeAllConnections()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

const at =
  (path: string, body: unknown): RequestListener =>
  (request, response) =>
    void response.writeHead(request.url === path ? 200 : 404).end(request.url === path ? JSON.stringify(body) : "no")

type Protocol = "ollama" | "openai"

const listing = (protocol: Protocol, ...names: ReadonlyArray<string>) =>
  protocol === "ollama"
    ? serve(
        at("/api/tags", { models: names.map((name) => ({ name, model: name, digest: `d-${name}`, details: null })) })
      )
    : serve(at("/v1/models", { object: "list", data: names.map((id) => ({ id, object: "model" })) }))

const makeFolder = (): string => {
  const folder = mkdtempSync(join(tmpdir(), "aicortex-pipeline-"))
  closers.push(() => rmSync(folder, { recursive: true }))
  return folder
}

type Row = { readonly [field: string]: unknown }
const rowsOf = (registry: string): ReadonlyArray<Row> =>
  readdirSync(registry).flatMap((name) => JSON.parse(readFileSync(join(registry, name), "utf8")).models)

const settings = { configFile: false as const, servers: [], registry: [] }

const runWith = <A, E>(
  effect: Effect.Effect<A, E, RegistryPipeline.RegistryPipeline>,
  options: Cortex.Options = settings
): Promise<A> => Effect.runPromise(Effect.provide(effect, Cortex.layer(options)))

const failureOf = <A, E>(effect: Effect.Effect<A, E, RegistryPipeline.RegistryPipeline>): Promise<E> =>
  runWith(Effect.flip(effect) as Effect.Effect<E, never, RegistryPipeline.RegistryPipeline>)

const off = async (): Promise<string> => `http://127.0.0.1:${await unusedPort()}`

describe.each(["ollama", "openai"] as const)("the steps over %s", (protocol) => {
  it("each accepts the output of the previous one as plain JSON, and together they give the result of refresh", async () => {
    const url = await listing(protocol, "llama3.2:3b", "qwen3:4b")
    const gone = await off()
    const registry = join(makeFolder(), "models")
    mkdirSync(registry)
    const old = { id: "kept", model_name: "llama3.2:3b", ip_port: url, date_added: "2025", perf_tokens_per_second: "9" }
    writeFileSync(join(registry, "llama.json"), JSON.stringify([old]))
    const copy = <A>(value: A): A => JSON.parse(JSON.stringify(value))

    const steps = Effect.gen(function* () {
      const { endpoints, rejected } = yield* RegistryPipeline.check({ sources: [registry, gone] })
      assert.deepEqual(endpoints, [protocol === "ollama" ? `${url}/api/tags` : url])
      assert.deepEqual(rejected, [{ source: gone, reason: "refused the connection" }])
      const { fetched } = yield* RegistryPipeline.fetch({ sources: copy(endpoints) })
      assert.lengthOf(fetched[0]?.models ?? [], 2)
      const { records } = yield* RegistryPipeline.resolve({ fetched: copy(fetched), registry })
      const shown = yield* RegistryPipeline.apply({ records: copy(records), registry, dryRun: true })
      assert.deepEqual(readdirSync(registry), ["llama.json"])
      const applied = yield* RegistryPipeline.apply({ records: copy(records), registry })
      assert.deepEqual(applied.changes, shown.changes)
      const again = yield* RegistryPipeline.refresh({ registry })
      return { applied, again }
    })
    const { again, applied } = await runWith(steps)
    assert.deepInclude(applied, { before: 1, after: 2, backup: null, dryRun: false })
    assert.deepInclude(again, { changes: [], files: { written: [], removed: [] }, backup: null })
    const rows = rowsOf(registry)
    assert.sameMembers(
      rows.map(({ model_name: name }) => name),
      ["llama3.2:3b", "qwen3:4b"]
    )
    assert.deepInclude(
      rows.find(({ model_name: name }) => name === "llama3.2:3b"),
      { id: "kept", date_added: "2025", perf_tokens_per_second: "9" }
    )
  })

  it("the Promise functions do the same, and report each server as soon as it answers", async () => {
    const url = await listing(protocol, "llama3.2:3b")
    const gone = await off()
    let release = () => {}
    const released = new Promise<void>((resolve) => {
      release = resolve
    })
    const held = await serve((_, response) => void released.then(() => response.writeHead(500).end()))
    const registry = join(makeFolder(), "models")
    await using cortex = createCortex(settings)
    const heard: Array<string> = []
    const applied = await cortex.registry.refresh({
      registry,
      sources: [url, gone, held],
      onEvent: (event) => {
        heard.push(event.type === "answered" || event.type === "rejected" ? event.server : event.type)
        // The slow one is not asked to answer before the others were told.
        if (heard.length === 2) release()
      }
    })
    assert.sameMembers(heard.slice(0, 2), [url, gone])
    assert.deepEqual(heard.slice(2), [held, "asked", "done"])
    assert.deepEqual(
      applied.changes.map(({ change, model, server }) => [change, model, server]),
      [["added", "llama3.2:3b", url]]
    )
    const { endpoints } = await cortex.registry.check({ sources: [registry] })
    const { fetched } = await cortex.registry.fetch({ sources: endpoints })
    const { records } = await cortex.registry.resolve({ fetched, registry })
    assert.deepEqual((await cortex.registry.apply({ records, registry, backup: true })).changes, [])
    await cortex.registry.apply({ records: [{ model_name: "qwen3:4b", ip_port: url }], registry, backup: true })
    const [newest] = await cortex.registry.backups({ registry })
    assert.strictEqual((await cortex.registry.restore({ registry })).restored, newest)
    assert.deepEqual(
      rowsOf(registry).map(({ model_name: name }) => name),
      ["llama3.2:3b"]
    )
    await cortex.registry.importFrom({ registry, sources: [{ name: "mine", text: "http://127.0.0.1:9\n" }] })
    assert.include(readFileSync(join(registry, "servers.json"), "utf8"), "http://127.0.0.1:9")
  })

  it.each(["families", "servers", "urls", undefined] as const)(
    "exports %s, which a registry takes in again",
    async (format) => {
      await using cortex = createCortex(settings)
      const [registry, other] = [join(makeFolder(), "models"), join(makeFolder(), "models")]
      const records = [
        { model_name: "qwen3:4b", ip_port: "http://127.0.0.1:9", perf_tokens_per_second: "94.3" },
        { model_name: "llama3:8b", ip_port: "http://127.0.0.1:9" },
        { model_name: "llama3:8b", ip_port: "http://127.0.0.1:10" }
      ]
      await cortex.registry.apply({ records, registry })
      writeFileSync(join(registry, "broken.json"), "{")
      const { files, registry: of, rejected } = await cortex.registry.exportAs({ registry, ...(format && { format }) })
      assert.strictEqual(of, registry)
      assert.match(rejected.map(({ source }) => source).join(), /broken\.json/)
      const expected = { families: ["llama.json", "qwen.json"], servers: ["servers.json"], urls: ["servers.txt"] }
      assert.sameMembers(
        files.map(({ name }) => name),
        expected[format ?? "servers"]
      )
      assert.deepEqual(readdirSync(registry).sort(), ["broken.json", "llama.json", "qwen.json"])
      await cortex.registry.importFrom({ registry: other, sources: files })
      const again = await cortex.registry.exportAs({ registry: other, format: "urls" })
      assert.strictEqual(again.files[0]?.text, "http://127.0.0.1:10\nhttp://127.0.0.1:9\n")
      if (format === "urls") return
      const facts = (row: Row) => [row["model_name"], row["ip_port"], Number(row["perf_tokens_per_second"] ?? 0)].join()
      assert.sameMembers(rowsOf(other).map(facts), records.map(facts))
    }
  )
})

describe("invalid input of a step", () => {
  it("is a typed error, before any server is asked or any file is written", async () => {
    const asked: Array<string | undefined> = []
    const url = await serve((request, response) => {
      asked.push(request.url)
      response.end()
    })
    const folder = makeFolder()
    const missing = join(folder, "none")
    const registry = join(folder, "models")
    mkdirSync(registry)
    const rows = Array.from({ length: 6 }, (_, i) => ({ model_name: `llama3:${i}b`, ip_port: "http://127.0.0.1:1" }))
    const text = JSON.stringify(rows)
    writeFileSync(join(registry, "llama.json"), text)
    const P = RegistryPipeline
    const cases: ReadonlyArray<
      readonly [Effect.Effect<unknown, { readonly _tag: string }, RegistryPipeline.RegistryPipeline>, object]
    > = [
      [P.check({ sources: [url], workers: 0 }), { _tag: "InvalidRequest", field: "workers" }],
      [P.check({ sources: [url], timeout: -1 }), { _tag: "InvalidRequest", field: "timeout" }],
      [P.check(), { _tag: "InvalidRequest", field: "registry" }],
      [P.check({ sources: [missing] }), { _tag: "RegistryFileFailed", path: missing }],
      [P.check({ sources: [{ name: "none", text: "" }] }), { _tag: "InvalidRequest", field: "sources" }],
      // biome-ignore lint/suspicious/noExplicitAny: wrong on purpose.
      [P.fetch({} as any), { _tag: "InvalidRequest", field: "sources" }],
      // biome-ignore lint/suspicious/noExplicitAny: wrong on purpose.
      [P.fetch({ sources: [url], worker: 3 } as any), { _tag: "InvalidRequest", field: "worker" }],
      [P.resolve({ fetched: [], registry: missing }), { _tag: "RegistryFileFailed", path: missing }],
      [P.apply({ records: [], registry }), { _tag: "RegistryChangeRefused", reason: "empty", registry }],
      [P.apply({ records: rows.slice(0, 2), registry }), { _tag: "RegistryChangeRefused", reason: "much-smaller" }],
      [
        P.apply({ records: { models: 7 }, registry, force: true }),
        { _tag: "RegistryChangeRefused", reason: "not-a-list" }
      ],
      [P.refresh({ registry: missing }), { _tag: "RegistryFileFailed", path: missing }],
      [P.restore({ registry }), { _tag: "RegistryFileFailed", path: registry }],
      [P.exportAs({ registry, format: "csv" as "urls" }), { _tag: "InvalidRequest", field: "format" }],
      [P.exportAs({ registry: join(registry, "none") }), { _tag: "RegistryFileFailed" }],
      [P.restore({ registry, backup: "../models" }), { _tag: "InvalidRequest", field: "backup" }]
    ]
    for (const [step, expected] of cases) assert.deepInclude(await failureOf(step), expected)
    assert.deepEqual(asked, [])
    const refused = await failureOf(P.refresh({ registry, sources: [url] }))
    assert.deepInclude(refused, { _tag: "RegistryUnanswered", asked: 2 })
    assert.strictEqual(readFileSync(join(registry, "llama.json"), "utf8"), text)
    assert.deepEqual(readdirSync(folder), ["models"])

    writeFileSync(join(registry, "qwen.json"), "{")
    const broken = await failureOf(P.apply({ records: rows, registry }))
    assert.deepInclude(broken, { _tag: "RegistryChangeRefused", reason: "unreadable" })
    // What is right is applied all the same.
    const { after } = await runWith(P.apply({ records: rows, registry, force: true }))
    assert.strictEqual(after, 6)
  })

  it("rejects the Promise functions with the same errors", async () => {
    await using cortex = createCortex(settings)
    const wrong = await cortex.registry
      .check({ sources: ["http://127.0.0.1:9"], workers: 2_000 })
      .catch((error) => error)
    assert.instanceOf(wrong, InvalidRequest)
    const refused = await cortex.registry.fetch({ sources: [await off()] }).catch((error) => error)
    assert.deepInclude(refused, { _tag: "RegistryUnanswered", asked: 1 })
    assert.lengthOf(refused.rejected, 1)
    const aborted = await cortex.registry.refresh({ signal: AbortSignal.abort("no") }).catch((error) => error)
    assert.strictEqual(aborted, "no")
  })
})

describe("a step that is interrupted", () => {
  it("sends no more requests, and leaves the registry unchanged", async () => {
    const folder = makeFolder()
    const registry = join(folder, "models")
    mkdirSync(registry)
    const closed: Array<Promise<void>> = []
    let requests = 0
    const asked = Effect.runSync(Deferred.make<void>())
    const silent = () =>
      serve((request) => {
        requests++
        closed.push(new Promise((resolve) => request.socket.once("close", () => resolve())))
        Effect.runSync(Deferred.succeed(asked, undefined))
      })
    const urls = await Promise.all([silent(), silent(), silent()])
    const text = JSON.stringify(urls.map((url) => ({ model_name: "llama3:8b", ip_port: url })))
    writeFileSync(join(registry, "llama.json"), text)
    const program = Effect.gen(function* () {
      const fiber = yield* Effect.fork(RegistryPipeline.refresh({ registry, workers: 1, timeout: "100 seconds" }))
      yield* Deferred.await(asked)
      yield* Fiber.interrupt(fiber)
    })
    await runWith(program)
    await Promise.all(closed)
    assert.strictEqual(requests, 1)
    assert.deepEqual(readdirSync(folder), ["models"])
    assert.strictEqual(readFileSync(join(registry, "llama.json"), "utf8"), text)
  })

  it("stops waiting for a folder that another process is changing", async () => {
    const registry = join(makeFolder(), "models")
    mkdirSync(registry)
    const owner = ".lock-other"
    writeFileSync(join(registry, owner), JSON.stringify({ host: "another machine", pid: 1 }))
    const url = await listing("ollama", "llama3:8b")
    const program = Effect.gen(function* () {
      const asked = yield* Deferred.make<void>()
      const refreshed = RegistryPipeline.refreshProgress({ registry, sources: [url] }).pipe(
        Stream.runForEach(({ type }) => (type === "asked" ? Deferred.succeed(asked, undefined) : Effect.void))
      )
      const fiber = yield* Effect.fork(refreshed)
      yield* Deferred.await(asked)
      return yield* Fiber.interrupt(fiber)
    })
    assert.isTrue(Exit.isInterrupted(await runWith(program)))
    assert.deepEqual(readdirSync(registry), [owner])
    // One of this machine that has ended is not waited for.
    writeFileSync(join(registry, owner), JSON.stringify({ host: hostname(), pid: 2 ** 30 }))
    const { after } = await runWith(RegistryPipeline.refresh({ registry, sources: [url] }))
    assert.strictEqual(after, 1)
    assert.deepEqual(readdirSync(registry), ["llama.json"])
    // Nor is one that was killed while it wrote its name down.
    writeFileSync(join(registry, `${owner}.new`), "")
    assert.strictEqual((await runWith(RegistryPipeline.refresh({ registry, sources: [url] }))).after, 1)
  })
})

describe("the progress of a step", () => {
  it("counts servers; the concurrency limit applies, and a silent one times out", async () => {
    let most = 0
    let now = 0
    const silent = () =>
      serve((request) => {
        most = Math.max(most, ++now)
        request.socket.once("close", () => now--)
      })
    const urls = await Promise.all(Array.from({ length: 6 }, silent))
    const good = await listing("ollama", "llama3:8b")
    const events = RegistryPipeline.fetchProgress({ sources: [...urls, good], workers: 3, timeout: "200 millis" })
    const told = [...(await runWith(Stream.runCollect(events)))]
    const servers = told.filter((event) => event.type !== "done")
    assert.deepEqual(
      servers.map(({ done, total }) => [done, total]),
      Array.from({ length: 7 }, (_, i) => [i + 1, 7])
    )
    assert.isAtMost(most, 3)
    assert.isAbove(most, 1)
    const silentOnes = servers.filter((event) => event.type === "rejected")
    assert.sameMembers(
      silentOnes.map(({ server }) => server),
      urls
    )
    for (const event of silentOnes) {
      if (event.type === "rejected") assert.match(event.reason, /did not say within 0.2 s/)
    }
    assert.strictEqual(told.at(-1)?.type, "done")
  })
})

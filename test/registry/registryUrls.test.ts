import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/TestClock"
import * as Cortex from "../../src/Cortex.js"
import { createCortex } from "../../src/promise.js"
import * as Registry from "../../src/Registry.js"
import { failure, useFleet } from "../support/fleet.js"
import { type RegistryHost, startRegistryHost } from "../support/registryHost.js"

const { cortex, keep, ollama, openai } = useFleet()
const host = async () => keep(await startRegistryHost())

const newFolder = () => {
  const folder = mkdtempSync(join(tmpdir(), "aicortex-urls-"))
  keep({
    [Symbol.asyncDispose]: async () => rmSync(folder, { recursive: true, force: true })
  })
  return folder
}

const servers = (...urls: ReadonlyArray<string>) => JSON.stringify({ servers: urls.map((url) => ({ url })) })
const many = (count: number) => Array.from({ length: count }, (_, i) => `http://127.0.0.1:${20_000 + i}`)

const quiet = Logger.replace(Logger.defaultLogger, Logger.none)

type Source = string | { readonly url: string; readonly [option: string]: unknown }

const layerOf = (registry: Source | ReadonlyArray<Source>, copies: string | false = false) =>
  Layer.provideMerge(
    Cortex.layer({
      configFile: false,
      servers: [],
      registry: registry as NonNullable<Cortex.Options["registry"]>,
      registryCopies: copies
    }),
    quiet
  )

const sources = Effect.flatMap(Registry.Registry, (registry) => registry.sources)
const source = Effect.map(sources, ([first]) => {
  if (first === undefined) throw new Error("there is no source")
  return first
})

/** Waits in real time, while the clock of the library stands still. */
const until = <A, E, R>(read: Effect.Effect<A, E, R>, holds: (value: A) => boolean): Effect.Effect<A, E, R> =>
  Effect.flatMap(read, (value) =>
    holds(value)
      ? Effect.succeed(value)
      : Effect.zipRight(
          Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 5))),
          until(read, holds)
        )
  )

const hour = 3_600_000

describe("a registry by URL", () => {
  const one = "http://127.0.0.1:20000"
  const forms: ReadonlyArray<readonly [string, string, string]> = [
    ["servers.json", "/servers.json", JSON.stringify({ servers: [{ url: one, models: ["m:1b"] }] })],
    ["a bare list of servers", "/list", JSON.stringify([{ url: one, models: ["m:1b"] }])],
    [
      "a list of what servers answered",
      "/fetched",
      JSON.stringify([{ source_url: `${one}/api/tags`, models: ["m:1b"] }])
    ],
    ["a family file", "/qwen.json", JSON.stringify([{ model_name: "m:1b", ip_port: "127.0.0.1:20000" }])],
    ["a family file in models", "/x.json", JSON.stringify({ models: [{ model_name: "m:1b", ip_port: one }] })],
    [
      "a page's data",
      "/page",
      JSON.stringify({ props: { pageProps: { models: [{ model_name: "m:1b", ip_port: one }] } } })
    ],
    ["a JSON list of addresses", "/a", JSON.stringify([one])],
    ["lines of addresses", "/a.txt", `\uFEFF# ours\r\n${one}\r\n\r\n127.0.0.1:20001\n`]
  ]
  it.live.each(forms)("%s", ([, path, text]) =>
    Effect.gen(function* () {
      const origin = yield* Effect.promise(host)
      origin.holds(text)
      const [read, found] = yield* Effect.provide(
        Effect.all([source, Effect.flatMap(Registry.Registry, (registry) => registry.servers)]),
        layerOf(`${origin.url}${path}`)
      )
      assert.isUndefined(read.error)
      assert.strictEqual(read.kind, "url")
      assert.isAtLeast(read.servers, 1)
      assert.strictEqual(found[0]?.url, one)
    })
  )

  const wrong: ReadonlyArray<readonly [string, string, (origin: RegistryHost) => void, Record<string, unknown>?]> = [
    ["a page of a hotel", "not-a-registry", (origin) => origin.holds("<html>Please log in</html>")],
    ["a word", "not-a-registry", (origin) => origin.holds("OK")],
    ["half of a JSON text", "not-a-registry", (origin) => origin.holds('{"servers":[{"url":"http://a')],
    ["JSON of another form", "not-a-registry", (origin) => origin.holds('{"error":"later"}')],
    ["nothing", "empty", (origin) => origin.holds("  \n")],
    ["no server", "empty", (origin) => origin.holds('{"servers":[]}')],
    ["servers without a usable address", "empty", (origin) => origin.holds('{"servers":[{"url":"ftp://a"},5]}')],
    ["an error", "http-status", (origin) => origin.answers((_, response) => response.writeHead(503).end())],
    [
      "304 to a first request",
      "http-status",
      (origin) => origin.answers((_, response) => response.writeHead(304).end())
    ],
    ["more than it may be", "too-large", (origin) => origin.holds(servers(...many(50))), { maxBytes: 100 }],
    ["a broken connection", "unreachable", (origin) => origin.answers((_, response) => response.destroy())],
    ["nothing in time", "timeout", (origin) => origin.answers(() => {}), { timeout: 50 }],
    [
      "redirects without end",
      "redirect",
      (origin) => origin.answers(({ path }, response) => response.writeHead(302, { location: `${path}x` }).end())
    ],
    ["a redirect to nowhere", "redirect", (origin) => origin.answers((_, response) => response.writeHead(302).end())],
    [
      "a redirect to a file",
      "redirect",
      (origin) => origin.answers((_, response) => response.writeHead(302, { location: "file:///etc/passwd" }).end())
    ]
  ]
  it.live.each(wrong)("%s is %s, and not a server", ([, reason, set, options = {}]) =>
    Effect.gen(function* () {
      const origin = yield* Effect.promise(host)
      set(origin)
      const [read, warnings, found] = yield* Effect.provide(
        Effect.all([
          source,
          Effect.flatMap(Registry.Registry, (registry) => registry.warnings),
          Effect.flatMap(Registry.Registry, (registry) => registry.servers)
        ]),
        layerOf({ url: `${origin.url}/servers.json`, ...options })
      )
      assert.strictEqual(read.error?._tag, "RegistrySourceFailed")
      assert.strictEqual(read.error?.reason, reason, read.error?.message)
      assert.isUndefined(read.readAt)
      assert.deepStrictEqual(found, [])
      assert.isTrue(warnings.some(({ file, reason }) => file === read.source && reason === read.error?.detail))
      assert.isAtMost(origin.requests.length, 6)
    })
  )

  it.effect("is revalidated after half of its lifetime, and replaced if it has changed", () =>
    Effect.gen(function* () {
      const origin = yield* Effect.promise(host)
      origin.holds(servers(...many(1)), '"one"')
      yield* Effect.gen(function* () {
        assert.strictEqual((yield* source).servers, 1)
        yield* TestClock.adjust(hour / 2 - 1)
        assert.lengthOf(origin.requests, 1)
        yield* TestClock.adjust(1)
        yield* Effect.promise(() => origin.asked(2))
        assert.strictEqual(origin.requests[1]?.headers["if-none-match"], '"one"')
        const same = yield* until(source, ({ checkedAt }) => checkedAt === hour / 2)
        assert.deepInclude(same, { readAt: 0, stale: false, servers: 1 })

        origin.holds(servers(...many(2)), '"two"')
        yield* TestClock.adjust(hour / 2)
        const next = yield* until(source, ({ servers }) => servers === 2)
        assert.deepInclude(next, { readAt: hour, checkedAt: hour, error: undefined })
        const all = yield* Effect.flatMap(Registry.Registry, (registry) => registry.servers)
        assert.deepStrictEqual(
          all.map(({ url }) => url),
          many(2)
        )
      }).pipe(Effect.provide(layerOf(`${origin.url}/servers.json`)))
    })
  )

  it.effect("is kept while the source is down, broken, empty or much smaller", () =>
    Effect.gen(function* () {
      const origin = yield* Effect.promise(host)
      const good = servers(...many(10))
      origin.holds(good)
      yield* Effect.gen(function* () {
        assert.strictEqual((yield* source).servers, 10)
        let asked = 1
        for (const [reason, set] of [
          ["http-status", () => origin.answers((_, response) => response.writeHead(500).end())],
          ["not-a-registry", () => origin.holds("<html>")],
          ["empty", () => origin.holds("[]", '"e"')],
          ["much-smaller", () => origin.holds(servers(...many(4)), '"s"')]
        ] as const) {
          set()
          yield* TestClock.adjust(hour / 2)
          yield* Effect.promise(() => origin.asked(++asked))
          const kept = yield* until(source, ({ error }) => error?.reason === reason)
          assert.strictEqual(kept.servers, 10)
          asked = origin.requests.length
        }
        const old = yield* source
        assert.isTrue(old.stale)
        assert.strictEqual(old.checkedAt, 0)

        // What is smaller by less is taken over.
        origin.holds(servers(...many(6)), '"l"')
        yield* TestClock.adjust(hour / 2)
        const taken = yield* until(source, ({ error }) => error === undefined)
        assert.strictEqual(taken.servers, 6)
        assert.isFalse(taken.stale)
      }).pipe(Effect.provide(layerOf(`${origin.url}/servers.json`)))
    })
  )

  it.effect("accepts a much smaller source on request", () =>
    Effect.gen(function* () {
      const origin = yield* Effect.promise(host)
      origin.holds(servers(...many(10)), '"ten"')
      yield* Effect.gen(function* () {
        assert.strictEqual((yield* source).servers, 10)
        origin.holds(servers(...many(1)), '"one"')
        yield* TestClock.adjust(hour / 2)
        yield* until(source, ({ servers }) => servers === 1)
      }).pipe(Effect.provide(layerOf({ url: `${origin.url}/servers.json`, acceptSmaller: true })))
    })
  )

  it.effect("that failed is retried soon, then less and less often", () =>
    Effect.gen(function* () {
      const origin = yield* Effect.promise(host)
      origin.answers((_, response) => response.writeHead(500).end())
      yield* Effect.gen(function* () {
        assert.strictEqual((yield* source).error?.status, 500)
        for (const [i, pause] of [5_000, 10_000, 20_000].entries()) {
          yield* TestClock.adjust(pause - 1)
          assert.lengthOf(origin.requests, i + 1)
          yield* TestClock.adjust(1)
          yield* Effect.promise(() => origin.asked(i + 2))
          yield* until(TestClock.sleeps(), (sleeps) => [...sleeps].length > 0)
        }
      }).pipe(Effect.provide(layerOf(`${origin.url}/servers.json`)))
    })
  )

  it.live("is served from the stored copy while the source is down, and then replaced", () =>
    Effect.gen(function* () {
      const folder = newFolder()
      const origin = yield* Effect.promise(host)
      origin.holds(servers(...many(3)), '"three"')
      const url = `${origin.url}/servers.json?token=hidden`
      const layer = layerOf({ url, apiKey: "very-secret" }, folder)
      assert.strictEqual((yield* Effect.provide(source, layer)).servers, 3)
      const [file = "", ...others] = readdirSync(folder)
      assert.deepStrictEqual(others, [])
      assert.notInclude(readFileSync(join(folder, file), "utf8"), "very-secret")

      // A copy that is a week old is in use at once, and asked about in the background.
      const old = (Date.now() - 7 * 24 * hour) / 1000
      yield* Effect.promise(() => import("node:fs/promises").then(({ utimes }) => utimes(join(folder, file), old, old)))
      origin.answers(() => {})
      const asked = Effect.promise(() => origin.asked(2))
      const kept = yield* Effect.provide(Effect.zipLeft(source, asked), layer)
      assert.deepInclude(kept, { servers: 3, stale: true })
      assert.strictEqual(kept.source, `${origin.url}/servers.json?…`)
      assert.strictEqual(origin.requests[1]?.headers["if-none-match"], '"three"')

      yield* Effect.promise(origin.stop)
      assert.strictEqual((yield* Effect.provide(source, layer)).servers, 3)

      // One that is broken is as if there were none.
      writeFileSync(join(folder, file), '{"version":1,')
      assert.strictEqual((yield* Effect.provide(source, layer)).servers, 0)
    })
  )

  it.live("keys are sent to their own host only", () =>
    Effect.gen(function* () {
      const origin = yield* Effect.promise(host)
      const other = yield* Effect.promise(host)
      other.holds(servers(...many(2)))
      origin.answers(({ path }, response) =>
        path === "/moved.json"
          ? response.writeHead(302, { location: `${other.url}/servers.json` }).end()
          : response.writeHead(301, { location: "/moved.json" }).end()
      )
      const ways: ReadonlyArray<Source> = [
        { url: `${origin.url}/servers.json`, apiKey: Redacted.make("secret-1"), headers: { "x-tenant": "secret-2" } },
        `${origin.url.replace("//", "//me:secret-1@")}/servers.json`
      ]
      for (const way of ways) {
        const read = yield* Effect.provide(source, layerOf(way))
        assert.strictEqual(read.servers, 2)
        assert.notInclude(JSON.stringify(read), "secret")
      }
      assert.lengthOf(origin.requests, 4)
      for (const { headers } of origin.requests) assert.isDefined(headers.authorization)
      assert.strictEqual(origin.requests[1]?.headers["x-tenant"], "secret-2")
      assert.lengthOf(other.requests, 2)
      for (const { headers } of other.requests) assert.notInclude(JSON.stringify(headers), "secret")
    })
  )

  it("provides servers for calls, with both protocols, complete and streamed", async () => {
    const servers = [await ollama(), await openai()]
    const origin = await host()
    for (const server of servers) {
      origin.holds(JSON.stringify([server.url]), `"${server.url}"`)
      const fleet = cortex([], { registry: `${origin.url}/a.json` })
      assert.strictEqual((await fleet.complete("hi")).server, server.url)
      let text = ""
      for await (const event of await fleet.chat("hi", { stream: true }))
        if (event.type === "token") text += event.content
      assert.isNotEmpty(text)
    }
  })

  it("that is silent delays calls to a configured server by two seconds at most", async () => {
    const server = await ollama()
    const origin = await host()
    origin.answers(() => {})
    const fleet = cortex([server], { registry: `${origin.url}/a.json` })
    const answer = await fleet.complete("hi")
    assert.strictEqual(answer.server, server.url)
    // It is still being asked.
    assert.lengthOf(origin.requests, 1)
  })

  it.each([
    ["https://", "is not an address"],
    [{ url: "ftp://host/x.json" }, "must begin with https:// or http://"],
    [{ url: "https://host/x.json", ttl: 0 }, "above 0"],
    [{ url: "https://host/x.json", headers: { host: "a" } }, "is set by what sends the request"],
    [{ url: "https://host/x.json", apiKey: "two words" }, "must be one word"]
  ])("%j is refused before any request", async (registry, reason) => {
    const fleet = keep(createCortex({ configFile: false, servers: [], registry: registry as string }))
    const error = await failure(fleet.registrySources())
    assert.strictEqual(error._tag, "InvalidConfig")
    assert.match(error.field, /^registry/)
    assert.include(error.message, reason)
  })
})

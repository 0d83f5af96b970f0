import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as FileSystem from "@effect/platform/FileSystem"
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientError from "@effect/platform/HttpClientError"
import type * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import * as Tracer from "effect/Tracer"
import { afterAll } from "vitest"
import * as Fleet from "../../src/Fleet.js"
import * as Model from "../../src/Model.js"
import * as Registry from "../../src/Registry.js"
import * as Server from "../../src/Server.js"
import * as Settings from "../../src/Settings.js"

// =============================================================================
// a scripted network and scripted folders
// =============================================================================

const builtIn = fileURLToPath(new URL("../../registry", import.meta.url))

interface Answer {
  readonly status?: number
  readonly body?: unknown
  /** In milliseconds; infinite: never. */
  readonly delay?: number
  /** The connection fails with this code. */
  readonly fails?: string
}

const tags = (...names: ReadonlyArray<string>): Answer => ({
  body: { models: names.map((name) => ({ name, model: name, size: 1, digest: "abc", details: { family: "llama" } })) }
})
const openai = (...names: ReadonlyArray<string>): Answer => ({
  body: { object: "list", data: names.map((id) => ({ id, object: "model" })) }
})
const hung: Answer = { delay: Number.POSITIVE_INFINITY }
const refused: Answer = { fails: "ECONNREFUSED" }

/** Routes are full addresses; an address without one refuses the connection. */
class Network {
  readonly routes = new Map<string, Answer>()
  readonly requests: Array<HttpClientRequest.HttpClientRequest> = []
  interrupted = 0

  on(address: string, answer: Answer): this {
    this.routes.set(address, answer)
    return this
  }
  ollama(url: string, ...names: ReadonlyArray<string>): this {
    return this.on(`${url}/api/tags`, tags(...names))
  }
  get asked(): ReadonlyArray<string> {
    return this.requests.map((request) => request.url)
  }
  count(url: string): number {
    return this.asked.filter((request) => request.startsWith(url)).length
  }

  readonly client = HttpClient.make((request) =>
    Effect.suspend(() => {
      // What a server holds in memory is asked with its list, and is not what these tests count.
      if (!request.url.endsWith("/api/ps")) this.requests.push(request)
      const answer = this.routes.get(request.url) ?? refused
      const reply =
        answer.fails === undefined
          ? Effect.succeed(
              HttpClientResponse.fromWeb(
                request,
                new Response(typeof answer.body === "string" ? answer.body : JSON.stringify(answer.body ?? {}), {
                  status: answer.status ?? 200
                })
              )
            )
          : Effect.fail(
              new HttpClientError.RequestError({
                request,
                reason: "Transport",
                cause: Object.assign(new Error("connect"), { code: answer.fails })
              })
            )
      const delayed =
        answer.delay === undefined
          ? reply
          : answer.delay === Number.POSITIVE_INFINITY
            ? Effect.zipRight(Effect.never, reply)
            : Effect.delay(reply, answer.delay)
      return Effect.onInterrupt(delayed, () => Effect.sync(() => this.interrupted++))
    })
  )
}

const folders: Array<string> = []
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true })
})

/** A folder with these files; what is not a string is written as JSON. */
const folderOf = (files: { readonly [name: string]: unknown }): string => {
  const folder = mkdtempSync(join(tmpdir(), "aicortex-registry-"))
  folders.push(folder)
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(join(folder, name), typeof content === "string" ? content : JSON.stringify(content))
  }
  return folder
}

interface World {
  readonly network?: Network
  readonly servers?: ReadonlyArray<string | Server.ServerOptions | Server.Server>
  readonly registry?: ReadonlyArray<string>
  readonly catalogue?: string
  readonly settings?: Partial<Settings.Settings>
  readonly onRead?: (file: string) => void
}

const small = folderOf({
  "llama.json": {
    models: [
      { model_name: "llama3.2:3b", family: "llama", parameter_size: "3B", size: 2e9 },
      { model_name: "llama3.1:70b", family: "llama", parameter_size: "70B" },
      { model_name: "llama3.2:latest", family: "llama", parameter_size: "3B" }
    ]
  },
  "qwen.json": {
    models: [
      { model_name: "qwen2.5:72b", family: "qwen", parameter_size: "72B" },
      { model_name: "qwen2.5:0.5b", family: "qwen", parameter_size: "0.5B" }
    ]
  },
  "others.json": {
    models: [
      { model_name: "smollm:135m", family: "others", parameter_size: "134.52M" },
      { model_name: "mystery", family: "others" },
      { model_name: "giant:1t", family: "others", parameter_size: "1T" }
    ]
  },
  "mistral.json": { models: [{ model_name: "mixtral:8x7b", family: "mistral", parameter_size: "8X7B" }] }
})

const isServer = (input: string | Server.ServerOptions | Server.Server): input is Server.Server =>
  typeof input !== "string" && "implicit" in input

const world = ({
  network = new Network(),
  servers = [],
  registry = [],
  catalogue = small,
  settings,
  onRead
}: World) => {
  const known = servers.map((input) =>
    isServer(input) ? input : Either.getOrThrow(Server.fromOptions(input, "the test"))
  )
  const files =
    onRead === undefined
      ? NodeFileSystem.layer
      : Layer.effect(
          FileSystem.FileSystem,
          Effect.map(FileSystem.FileSystem, (fs) => ({
            ...fs,
            readFileString: (file: string, encoding?: string) => {
              onRead(file)
              return fs.readFileString(file, encoding)
            }
          }))
        ).pipe(Layer.provide(NodeFileSystem.layer))
  const config = Settings.layer({ servers: known, registry, ...settings })
  return Registry.layer.pipe(
    Layer.provideMerge(Fleet.layer),
    Layer.provide([
      config,
      files,
      NodePath.layer,
      Layer.succeed(HttpClient.HttpClient, network.client),
      Layer.succeed(Registry.CatalogueLocation, catalogue)
    ])
  )
}

/** Runs a test with the registry of a world. */
const withRegistry = <A, E>(
  options: World,
  use: (registry: Registry.Service, fleet: Fleet.Service) => Effect.Effect<A, E>
): Effect.Effect<A, E> =>
  Effect.flatMap(Effect.all([Registry.Registry, Fleet.Fleet]), ([registry, fleet]) => use(registry, fleet)).pipe(
    Effect.provide(world(options))
  )

/** A place on a server, as a call takes it. */
const leaseOn = (fleet: Fleet.Service, url: string, model: string): Fleet.Lease => {
  const server = { ...Server.embedded, url }
  const host: Registry.Host = { server, protocol: "ollama", model, certain: true, performance: undefined }
  return fleet.lease(
    fleet.pool([host], () => Number.NaN),
    0
  )
}
const urls = (hosts: ReadonlyArray<Registry.Host>) => hosts.map((host) => host.server.url)

const a = "http://a:11434"
const b = "http://b:11434"
const c = "http://c:11434"

// =============================================================================
// Models
// =============================================================================

describe("Registry", () => {
  describe("the built-in catalogue", () => {
    it.effect("has its families and models at the first call, without server and network", () => {
      const network = new Network()
      return withRegistry({ network, catalogue: builtIn }, (registry) =>
        Effect.gen(function* () {
          assert.deepStrictEqual(yield* registry.families, ["deepseek", "gemma", "llama", "mistral", "others", "qwen"])
          const models = yield* registry.models()
          assert.strictEqual(models.length, 7312 + 1)
          assert.include(models, "gpt-oss:20b")
          assert.deepStrictEqual(yield* registry.warnings, [])
          assert.deepStrictEqual(network.asked, [])
        })
      )
    })

    it.effect("family names are case-insensitive; an unknown one has no models", () =>
      withRegistry({}, (registry) =>
        Effect.gen(function* () {
          assert.deepStrictEqual(yield* registry.models({ family: "QWEN" }), ["qwen2.5:0.5b", "qwen2.5:72b"])
          assert.deepStrictEqual(yield* registry.models({ family: "unknown" }), [])
        })
      )
    )

    it.effect("a missing folder is a warning and an empty catalogue", () =>
      withRegistry({ catalogue: "/nowhere/at/all" }, (registry) =>
        Effect.gen(function* () {
          assert.deepStrictEqual(yield* registry.models(), [Model.demoModel])
          const [warning, ...others] = yield* registry.warnings
          assert.strictEqual(warning?.file, "/nowhere/at/all")
          assert.strictEqual(others.length, 0)
        })
      )
    )

    it.effect("is not read for a chat with a model that a server has", () => {
      const read: Array<string> = []
      return withRegistry(
        { network: new Network().ollama(a, "llama3.2:3b"), servers: [a], onRead: (file) => read.push(file) },
        (registry) =>
          Effect.gen(function* () {
            yield* registry.locate("llama3.2:3b")
            assert.deepStrictEqual(read, [])
            yield* registry.models()
            assert.strictEqual(read.length, 4)
            yield* registry.models()
            yield* registry.modelInfo("mystery")
            assert.strictEqual(read.length, 4)
          })
      )
    })
  })

  describe("registry files", () => {
    it.effect("reads every format, nested details and numbers written as strings", () => {
      const registry = folderOf({
        "bare.json": [{ model_name: "bare:7b", size: "4096", context_length: "2048" }],
        "Page.json": { props: { pageProps: { models: [{ model: "page:7b", parameter_size: "7B" }] } } },
        "nested.json": {
          models: [
            { name: "nested:1b", details: { family: "gemma3", parameter_size: "999.89M", quantization_level: "Q8_0" } }
          ]
        },
        "fleet.json": {
          servers: [{ url: "gpu:11434", models: ["plain:7b", { model_name: "timed:7b", tokens_per_second: "12.5" }] }]
        },
        "notes.txt": "not a registry file"
      })
      const network = new Network()
      return withRegistry({ network, registry: [registry] }, (service) =>
        Effect.gen(function* () {
          assert.deepStrictEqual(yield* service.warnings, [])
          const families = yield* service.families
          assert.includeMembers([...families], ["bare", "page", "nested"])
          assert.notInclude(families, "fleet")
          const bare = yield* service.modelInfo("bare:7b")
          assert.strictEqual(bare.size, 4096)
          assert.strictEqual(bare.context_length, 2048)
          assert.strictEqual((yield* service.modelInfo("page:7b")).family, "page")
          const nested = yield* service.modelInfo("nested:1b")
          assert.strictEqual(nested.parameter_size, "999.89M")
          assert.strictEqual(nested.quantization_level, "Q8_0")
          assert.strictEqual((yield* service.modelInfo("plain:7b")).family, "others")
          const [timed] = yield* service.listModelServers("timed:7b")
          assert.strictEqual(timed?.url, "http://gpu:11434")
          assert.strictEqual(timed?.tokens_per_second, 12.5)
        })
      )
    })

    it.effect("reports the file, record and field of invalid data, and uses the rest", () => {
      const registry = folderOf({
        "broken.json": "{ not json",
        "strange.json": { hello: "world" },
        "mixed.json": [
          { model_name: "good:7b", size: "huge", parameter_size: "gigantic", details: null },
          { parameter_size: "7B" },
          "text",
          { model_name: "late:7b", ip_port: "ftp://x", capabilities: 1 },
          { model_name: "placed:7b", ip_port: "p:11434", ip_latitude: "91", perf_tokens_per_second: "fast" }
        ]
      })
      return withRegistry({ registry: [registry] }, (service) =>
        Effect.gen(function* () {
          const warnings = yield* service.warnings
          const places = warnings.map((w) => [w.file.slice(registry.length + 1), w.record, w.field])
          assert.deepStrictEqual(places, [
            ["broken.json", undefined, undefined],
            ["mixed.json", 0, "size"],
            ["mixed.json", 0, "parameter_size"],
            ["mixed.json", 1, "model_name"],
            ["mixed.json", 2, undefined],
            ["mixed.json", 3, "capabilities"],
            ["mixed.json", 3, "ip_port"],
            ["mixed.json", 4, "ip_latitude"],
            ["mixed.json", 4, "perf_tokens_per_second"],
            ["strange.json", undefined, undefined]
          ])
          assert.deepStrictEqual(yield* service.models({ family: "mixed" }), ["good:7b", "late:7b", "placed:7b"])
        })
      )
    })

    it.effect("the user's record overrides the built-in one, which fills gaps", () => {
      const registry = folderOf({ "llama.json": [{ model_name: "Llama3.2:3B", parameter_size: "3.21B" }] })
      return withRegistry({ registry: [registry] }, (service) =>
        Effect.gen(function* () {
          const info = yield* service.modelInfo("llama3.2:3b")
          assert.strictEqual(info.parameter_size, "3.21B")
          assert.strictEqual(info.size, 2e9)
        })
      )
    })

    it.effect("modelInfo has model facts and no addresses, digests or measurements", () => {
      const record = {
        id: "1",
        model_name: "mine:7b",
        ip_port: "http://10.0.0.1:11434",
        ip_city_name: "Bonn",
        digest: "abc",
        perf_response_text: "Hello",
        perf_tokens_per_second: "5",
        format: "gguf",
        date_added: "2026-01-01"
      }
      return withRegistry({ registry: [folderOf({ "mine.json": [record] })] }, (service) =>
        Effect.gen(function* () {
          assert.deepStrictEqual(yield* service.modelInfo("MINE:7b"), {
            model_name: "mine:7b",
            family: "mine",
            format: "gguf",
            date_added: "2026-01-01"
          })
        })
      )
    })

    it.effect("the built-in folder names no servers", () => {
      const catalogue = folderOf({ "x.json": [{ model_name: "x:7b", ip_port: "http://10.0.0.1:11434" }] })
      const network = new Network()
      return withRegistry({ network, catalogue }, (service) =>
        Effect.gen(function* () {
          assert.deepStrictEqual(yield* service.servers, [])
          assert.deepStrictEqual(yield* service.listModelServers("x:7b"), [])
          assert.deepStrictEqual(network.asked, [])
        })
      )
    })

    it.effect("records without a model or a server are skipped", () => {
      const registry = folderOf({
        "mine.json": [
          { parameter_size: "7B" },
          { ip_port: "http://a:11434" },
          { model_name: "mine:7b" },
          { model_name: "mine:7b", ip_port: null },
          { model_name: "mine:7b", ip_port: "http://a:11434" }
        ]
      })
      return withRegistry({ registry: [registry] }, (service) =>
        Effect.gen(function* () {
          const servers = yield* service.listModelServers("mine:7b")
          assert.deepStrictEqual(
            servers.map((server) => server.url),
            [a]
          )
          assert.deepStrictEqual(yield* service.listModelServers("other:7b"), [])
        })
      )
    })

    it.effect("registry files are read once, not once per lookup", () => {
      const read: Array<string> = []
      const registry = folderOf({ "mine.json": [{ model_name: "mine:7b", ip_port: "http://a:11434" }] })
      return withRegistry({ registry: [registry], onRead: (file) => read.push(file) }, (service) =>
        Effect.gen(function* () {
          for (const model of ["mine:7b", "other:7b", "third:7b"]) yield* service.listModelServers(model)
          assert.strictEqual(read.filter((file) => file.startsWith(registry)).length, 1)
          writeFileSync(join(registry, "more.json"), JSON.stringify([{ model_name: "more:7b" }]))
          yield* service.refresh
          assert.include(yield* service.models(), "more:7b")
        })
      )
    })
  })

  describe("models and searchModels", () => {
    const everywhere = new Network()
      .ollama(a, "llama3.2:3b", "own:7b")
      .ollama(b, "Llama3.2:3B", "own:7b", "llama3.2:latest")

    it.effect("a model of several servers and of the catalogue is listed once", () =>
      withRegistry({ network: everywhere, servers: [a, b] }, (registry) =>
        Effect.gen(function* () {
          const models = yield* registry.models()
          const keys = models.map(Model.canonical)
          assert.strictEqual(new Set(keys).size, keys.length)
          assert.include(models, "own:7b")
          assert.include(models, "mystery")
          const found = yield* registry.searchModels("llama3.2")
          assert.deepStrictEqual(found, ["llama3.2:3b", "llama3.2:latest"])
        })
      )
    )

    it.effect("available: only models of servers that answer", () =>
      withRegistry({ network: everywhere, servers: [a, b, c] }, (registry) =>
        Effect.gen(function* () {
          assert.deepStrictEqual(yield* registry.models({ available: true }), [
            "llama3.2:3b",
            "llama3.2:latest",
            "own:7b"
          ])
          assert.deepStrictEqual(yield* registry.models({ available: true, family: "llama" }), [
            "llama3.2:3b",
            "llama3.2:latest",
            "own:7b"
          ])
          assert.deepStrictEqual(yield* registry.models({ available: true, family: "others" }), [])
          assert.deepStrictEqual(yield* registry.searchModels("7", { available: true }), ["own:7b"])
        })
      )
    )

    it.effect("a search is for a substring: 70b does not find qwen2.5:72b", () =>
      withRegistry({}, (registry) =>
        Effect.gen(function* () {
          assert.deepStrictEqual(yield* registry.searchModels("70B"), ["llama3.1:70b"])
          assert.deepStrictEqual(yield* registry.searchModels("nothing"), [])
        })
      )
    )

    it.effect("the largest come first, then by name, then those of unknown size", () =>
      withRegistry({}, (registry) =>
        Effect.gen(function* () {
          assert.deepStrictEqual(yield* registry.searchModels(""), [
            "giant:1t",
            "qwen2.5:72b",
            "llama3.1:70b",
            "mixtral:8x7b",
            "llama3.2:3b",
            "llama3.2:latest",
            "qwen2.5:0.5b",
            "smollm:135m",
            "aicortex-demo",
            "mystery"
          ])
        })
      )
    )

    it.effect("min_params excludes a model of 134.52M, and unknown sizes", () =>
      withRegistry({}, (registry) =>
        Effect.gen(function* () {
          assert.deepStrictEqual(yield* registry.searchModels("", { minParams: "7b" }), [
            "giant:1t",
            "qwen2.5:72b",
            "llama3.1:70b",
            "mixtral:8x7b"
          ])
          assert.deepStrictEqual(yield* registry.searchModels("", { minParams: "0.5b", maxParams: "56b" }), [
            "mixtral:8x7b",
            "llama3.2:3b",
            "llama3.2:latest",
            "qwen2.5:0.5b"
          ])
          assert.deepStrictEqual(yield* registry.searchModels("", { minParams: "1t" }), ["giant:1t"])
        })
      )
    )

    it.effect("generation comes from the name", () =>
      withRegistry({}, (registry) =>
        Effect.gen(function* () {
          assert.deepStrictEqual(yield* registry.searchModels("", { generation: 2 }), ["qwen2.5:72b", "qwen2.5:0.5b"])
          assert.strictEqual((yield* registry.modelInfo("llama3.1:70b")).generation, 3)
        })
      )
    )

    it.effect("a wrong size or generation is an InvalidRequest that names it", () =>
      withRegistry({}, (registry) =>
        Effect.gen(function* () {
          const field = (options: Registry.SearchOptions) =>
            Effect.map(Effect.flip(registry.searchModels("", options)), (error) => error.field)
          assert.strictEqual(yield* field({ minParams: "large" }), "minParams")
          assert.strictEqual(yield* field({ maxParams: "7 bees" }), "maxParams")
          assert.strictEqual(yield* field({ generation: 1.5 }), "generation")
          assert.strictEqual(yield* field({ generation: 0 }), "generation")
        })
      )
    )

    it.effect("modelInfo: of the catalogue, else of a server, else ModelNotFound with suggestions", () =>
      withRegistry({ network: everywhere, servers: [a] }, (registry) =>
        Effect.gen(function* () {
          assert.strictEqual((yield* registry.modelInfo("LLAMA3.2")).model_name, "llama3.2:latest")
          assert.deepStrictEqual(yield* registry.modelInfo("own:7b"), {
            model_name: "own:7b",
            family: "llama",
            size: 1
          })
          const error = yield* Effect.flip(registry.modelInfo("lama3.2:3b"))
          assert.strictEqual(error._tag, "ModelNotFound")
          assert.strictEqual(error.suggestions[0], "llama3.2:3b")
        })
      )
    )
  })

  // ===========================================================================
  // servers
  // ===========================================================================

  describe("discovery", () => {
    it.effect("detects a server's protocol by the content of its answers", () => {
      const network = new Network()
        .ollama("http://ollama:1", "m:1b")
        .on("http://openai:1/api/tags", { status: 404, body: "404 page not found" })
        .on("http://openai:1/v1/models", openai("gpt"))
        .on("http://proxy:1/api/tags", { body: "<html>Welcome</html>" })
        .on("http://proxy:1/v1/models", openai("behind"))
        .on("http://llamacpp:1/api/tags", { body: { models: [{ name: "g" }], object: "list", data: [{ id: "g" }] } })
        .on("https://cloud/api/v1/models", openai("big"))
        .on("https://versioned/v1beta/openai/models", openai("newer"))
        .on("http://web:1/api/tags", { body: "<html>Welcome</html>" })
        .on("http://web:1/v1/models", { body: { data: "nothing" } })
        .on("http://empty:1/api/tags", { body: { models: null } })
      const servers = [
        "http://ollama:1",
        "http://openai:1",
        "http://proxy:1",
        "http://llamacpp:1",
        "https://cloud/api/v1",
        "https://versioned/v1beta/openai",
        "http://web:1",
        "http://empty:1"
      ]
      return withRegistry({ network, servers }, (registry) =>
        Effect.gen(function* () {
          const found = yield* registry.servers
          assert.deepStrictEqual(
            found.map(({ models, protocol, reachable }) => [protocol, reachable, ...models]),
            [
              ["ollama", true, "m:1b"],
              ["openai", true, "gpt"],
              ["openai", true, "behind"],
              ["openai", true, "g"],
              ["openai", true, "big"],
              ["openai", true, "newer"],
              [undefined, false],
              ["ollama", true]
            ]
          )
          assert.include(found[6]?.problem ?? "", "something else than a list of models")
          assert.strictEqual(network.count("https://cloud"), 1)
          assert.strictEqual(network.count("https://versioned"), 1)
          const [host] = yield* registry.locate("gpt")
          assert.strictEqual(host?.protocol, "openai")
        })
      )
    })

    it.each([
      ["http://v1", "http://v1/v1"],
      ["http://host:8000", "http://host:8000/v1"],
      ["http://host/behind/a/proxy", "http://host/behind/a/proxy/v1"],
      ["https://host/v1", "https://host/v1"],
      ["https://host/api/v4", "https://host/api/v4"],
      ["https://host/v1beta/openai", "https://host/v1beta/openai"],
      ["https://host/vision", "https://host/vision/v1"]
    ])("finds the OpenAI API of %s at %s", (url, base) => {
      assert.strictEqual(Server.openAIBase(url), base)
    })

    it.effect("sends requests to the configured servers only", () => {
      const network = new Network().ollama(a, "m:1b")
      const registry = folderOf({ "mine.json": [{ model_name: "r:1b", ip_port: c }] })
      return withRegistry({ network, servers: [a, b], registry: [registry] }, (service) =>
        Effect.gen(function* () {
          yield* service.locate("m:1b")
          yield* service.servers
          yield* service.randomLlmParams
          assert.isTrue(network.asked.every((url) => [a, b, c].some((server) => url.startsWith(`${server}/`))))
          assert.isAbove(network.count(a), 0)
        })
      )
    })

    it.effect("sends the key, and never shows it", () => {
      const network = new Network().on(`${a}/api/tags`, { status: 401, body: { error: "no" } })
      return withRegistry({ network, servers: [{ url: a, apiKey: "s3cret", protocol: "ollama" }] }, (registry) =>
        Effect.gen(function* () {
          const servers = yield* registry.servers
          assert.strictEqual(network.requests[0]?.headers["authorization"], "Bearer s3cret")
          assert.include(servers[0]?.problem ?? "", "key is missing or wrong")
          assert.notInclude(JSON.stringify([servers, yield* registry.listModelServers("m")]), "s3cret")
        })
      )
    })

    it.effect("adds no spans to the caller's trace", () => {
      const spans: Array<string> = []
      const native = Effect.runSync(Effect.tracer)
      const tracer = Tracer.make({
        span: (...args) => {
          spans.push(args[0])
          return native.span(...args)
        },
        context: native.context
      })
      return withRegistry({ network: new Network().ollama(a, "m:1b"), servers: [a] }, (registry) =>
        Effect.gen(function* () {
          yield* Effect.withSpan(registry.locate("m:1b"), "call")
          assert.deepStrictEqual(spans, ["call"])
        })
      ).pipe(Effect.withTracer(tracer))
    })

    it.effect("asks at most 20 servers concurrently", () => {
      const network = new Network()
      const servers = Array.from({ length: 40 }, (_, i) => `http://s${i}:1`)
      for (const server of servers) network.on(`${server}/api/tags`, { ...tags("m:1b"), delay: 100 })
      return withRegistry({ network, servers }, (registry) =>
        Effect.gen(function* () {
          const fiber = yield* Effect.fork(registry.servers)
          yield* TestClock.adjust(50)
          assert.strictEqual(network.requests.length, 20)
          yield* TestClock.adjust(200)
          assert.strictEqual((yield* Fiber.join(fiber)).filter((server) => server.reachable).length, 40)
        })
      )
    })

    it.effect("a server that is silent for 5 s counts as unreachable, and its request is aborted", () => {
      const network = new Network().on(`${a}/api/tags`, hung)
      return withRegistry({ network, servers: [a] }, (registry) =>
        Effect.gen(function* () {
          const fiber = yield* Effect.fork(registry.servers)
          yield* TestClock.adjust(4_999)
          assert.strictEqual(network.interrupted, 0)
          yield* TestClock.adjust(1)
          const [server] = yield* Fiber.join(fiber)
          assert.isFalse(server?.reachable)
          assert.include(server?.problem ?? "", "within 5 s")
          assert.strictEqual(network.interrupted, 1)
        })
      )
    })

    it.effect("running requests end with the layer", () => {
      const network = new Network().ollama(a, "m:1b").on(`${b}/api/tags`, hung)
      return Effect.gen(function* () {
        const scope = yield* Scope.make()
        const context = yield* Layer.buildWithScope(world({ network, servers: [a, b] }), scope)
        const fiber = yield* Effect.fork(
          Effect.provide(
            Effect.flatMap(Registry.Registry, (r) => r.locate("m:1b")),
            context
          )
        )
        yield* TestClock.adjust(250)
        assert.deepStrictEqual(urls(yield* Fiber.join(fiber)), [a])
        assert.strictEqual(network.interrupted, 0)
        yield* Scope.close(scope, Exit.void)
        assert.strictEqual(network.interrupted, 1)
      })
    })
  })

  describe("locate", () => {
    it.effect("returns the servers that have the model, with the name that each uses", () => {
      const network = new Network()
        .ollama(a, "Llama3.2:latest")
        .ollama(b, "llama3.2:3b")
        .on(`${c}/api/tags`, tags("llama3.2"))
      return withRegistry({ network, servers: [a, b, c] }, (registry) =>
        Effect.gen(function* () {
          for (const name of ["llama3.2", "LLAMA3.2:latest", "registry.ollama.ai/library/llama3.2"]) {
            const hosts = yield* registry.locate(name)
            assert.deepStrictEqual(
              hosts.map((host) => [host.server.url, host.model, host.certain, host.protocol]),
              [
                [a, "Llama3.2:latest", true, "ollama"],
                [c, "llama3.2", true, "ollama"]
              ]
            )
          }
          assert.deepStrictEqual(urls(yield* registry.locate("llama3.2:3b")), [b])
        })
      )
    })

    it.effect("sends no request while the lists are fresh, and one to each server when they are old", () => {
      const network = new Network().ollama(a, "m:1b").ollama(b, "m:1b", "n:1b")
      return withRegistry({ network, servers: [a, b], settings: { discoveryTtl: 60_000 } }, (registry) =>
        Effect.gen(function* () {
          yield* registry.locate("m:1b")
          assert.strictEqual(network.requests.length, 2)
          yield* TestClock.adjust(59_999)
          yield* registry.locate("m:1b")
          yield* registry.locate("n:1b")
          yield* registry.models()
          assert.strictEqual(network.requests.length, 2)
          yield* TestClock.adjust(1)
          yield* registry.locate("m:1b")
          assert.strictEqual(network.requests.length, 4)
        })
      )
    })

    it.effect("concurrent callers share one request, also if the first aborts", () => {
      const network = new Network().on(`${a}/api/tags`, { ...tags("m:1b"), delay: 3_000 })
      return withRegistry({ network, servers: [a] }, (registry) =>
        Effect.gen(function* () {
          const first = yield* Effect.fork(registry.locate("m:1b"))
          yield* TestClock.adjust(2_000)
          const others = yield* Effect.fork(
            Effect.all(
              Array.from({ length: 20 }, () => registry.locate("m:1b")),
              { concurrency: "unbounded" }
            )
          )
          yield* TestClock.adjust(500)
          yield* Fiber.interrupt(first)
          yield* TestClock.adjust(500)
          for (const hosts of yield* Fiber.join(others)) assert.deepStrictEqual(urls(hosts), [a])
          assert.strictEqual(network.requests.length, 1)
          assert.strictEqual(network.interrupted, 0)
        })
      )
    })

    it.effect("a previously silent server is waited for only briefly when a model is missing", () => {
      const network = new Network().on(`${a}/api/tags`, hung)
      return withRegistry({ network, servers: [a] }, (registry) =>
        Effect.gen(function* () {
          const first = yield* Effect.fork(registry.locate("m:1b"))
          yield* TestClock.adjust(5_000)
          assert.deepStrictEqual(
            (yield* Fiber.join(first)).map((host) => [host.server.url, host.certain]),
            [[a, false]]
          )
          yield* TestClock.adjust(5_000)
          const second = yield* Effect.fork(registry.locate("m:1b"))
          yield* TestClock.adjust(250)
          assert.deepStrictEqual(urls(yield* Fiber.join(second)), [a])
          network.on(`${a}/api/tags`, { ...tags("m:1b"), delay: 100 })
          yield* TestClock.adjust(10_000)
          const third = yield* Effect.fork(registry.locate("m:1b"))
          yield* TestClock.adjust(100)
          assert.strictEqual((yield* Fiber.join(third))[0]?.certain, true)
        })
      )
    })

    it.effect("a hung server delays a call for the grace time at most, and later calls not at all", () => {
      const network = new Network().ollama(a, "m:1b").on(`${b}/api/tags`, hung)
      return withRegistry({ network, servers: [b, a] }, (registry) =>
        Effect.gen(function* () {
          const fiber = yield* Effect.fork(registry.locate("m:1b"))
          yield* TestClock.adjust(249)
          assert.isNull(fiber.unsafePoll())
          yield* TestClock.adjust(1)
          assert.deepStrictEqual(urls(yield* Fiber.join(fiber)), [a])
          // These would wait for ever if they waited: no time passes.
          assert.deepStrictEqual(urls(yield* registry.locate("m:1b")), [a])
          yield* TestClock.adjust(5_000)
          assert.deepStrictEqual(urls(yield* registry.locate("m:1b")), [a])
          yield* TestClock.adjust(10_000)
          assert.deepStrictEqual(urls(yield* registry.locate("m:1b")), [a])
          assert.strictEqual(network.count(a), 1)
        })
      )
    })

    it.effect("a server that answers within the grace time is among the hosts", () => {
      const network = new Network().ollama(a, "m:1b").on(`${b}/api/tags`, { ...tags("m:1b"), delay: 100 })
      return withRegistry({ network, servers: [a, b] }, (registry) =>
        Effect.gen(function* () {
          const fiber = yield* Effect.fork(registry.locate("m:1b"))
          yield* TestClock.adjust(100)
          assert.deepStrictEqual(urls(yield* Fiber.join(fiber)), [a, b])
        })
      )
    })

    it.effect("a server that others only replace gets a second", () => {
      const network = new Network().ollama(b, "m:1b").on(`${a}/api/tags`, { ...tags("m:1b"), delay: 900 })
      return withRegistry({ network, servers: [a, { url: b, priority: 1 }] }, (registry) =>
        Effect.gen(function* () {
          const fiber = yield* Effect.fork(registry.locate("m:1b"))
          yield* TestClock.adjust(899)
          assert.isNull(fiber.unsafePoll())
          yield* TestClock.adjust(1)
          assert.deepStrictEqual(urls(yield* Fiber.join(fiber)), [a, b])
        })
      )
    })

    it.effect("but no longer, and a replacement gets no longer than others", () => {
      const network = new Network().ollama(b, "m:1b").on(`${a}/api/tags`, hung).on(`${c}/api/tags`, hung)
      const servers = [a, { url: b, priority: 1 }, { url: c, priority: 2 }]
      return withRegistry({ network, servers }, (registry) =>
        Effect.gen(function* () {
          const fiber = yield* Effect.fork(registry.locate("m:1b"))
          yield* TestClock.adjust(999)
          assert.isNull(fiber.unsafePoll())
          yield* TestClock.adjust(1)
          assert.deepStrictEqual(urls(yield* Fiber.join(fiber)), [b])
          assert.deepStrictEqual(urls(yield* registry.locate("m:1b")), [b])
        })
      )
    })

    it.effect("a recovered server is found within seconds, in the background", () => {
      const network = new Network().ollama(a, "m:1b")
      return withRegistry({ network, servers: [a, b] }, (registry) =>
        Effect.gen(function* () {
          assert.deepStrictEqual(urls(yield* registry.locate("m:1b")), [a])
          network.ollama(b, "m:1b")
          yield* registry.locate("m:1b")
          assert.strictEqual(network.count(b), 1)
          yield* TestClock.adjust(5_000)
          yield* registry.locate("m:1b")
          yield* TestClock.adjust(1)
          assert.deepStrictEqual(urls(yield* registry.locate("m:1b")), [a, b])
          assert.strictEqual(network.count(a), 1)
        })
      )
    })

    it.effect("an unknown model refreshes the lists, but at most once a second", () => {
      const network = new Network().ollama(a, "m:1b")
      return withRegistry({ network, servers: [a] }, (registry) =>
        Effect.gen(function* () {
          yield* registry.locate("m:1b")
          network.ollama(a, "m:1b", "new:1b")
          yield* TestClock.adjust(999)
          yield* Effect.flip(registry.locate("new:1b"))
          assert.strictEqual(network.requests.length, 1)
          yield* TestClock.adjust(1)
          assert.deepStrictEqual(urls(yield* registry.locate("new:1b")), [a])
          assert.strictEqual(network.requests.length, 2)
          yield* Effect.flip(registry.locate("never:1b"))
          assert.strictEqual(network.requests.length, 2)
        })
      )
    })

    it.effect("ModelNotFound for an unknown model, with suggestions from the servers", () =>
      withRegistry({ network: new Network().ollama(a, "own-model:7b"), servers: [a] }, (registry) =>
        Effect.gen(function* () {
          const typo = yield* Effect.flip(registry.locate("own-modle:7b"))
          assert.strictEqual(typo._tag, "ModelNotFound")
          assert.include(typo.message, "own-model:7b")
          const other = yield* Effect.flip(registry.locate("qwen2.5:7b"))
          assert.strictEqual(other._tag, "ModelNotFound")
          assert.deepInclude(other, { suggestions: [], available: ["own-model:7b"] })
          assert.include(other.message, "Your servers have: own-model:7b")
        })
      )
    )

    it.effect("and from the catalogue if there is no server", () =>
      withRegistry({}, (registry) =>
        Effect.gen(function* () {
          const error = yield* Effect.flip(registry.locate("qwen2.5:7b"))
          assert.strictEqual(error._tag, "ModelNotFound")
          assert.include(error.message, "Did you mean qwen2.5:72b")
        })
      )
    )

    it.effect("NoServers for a known model that no server has, or without servers", () =>
      Effect.gen(function* () {
        const requestCount = yield* withRegistry(
          { network: new Network().ollama(a, "m:1b"), servers: [a] },
          (registry) => Effect.flip(registry.locate("llama3.2:3b"))
        )
        assert.strictEqual(requestCount._tag, "NoServers")
        assert.deepInclude(requestCount, { model: "llama3.2:3b", servers: [a], available: ["m:1b"] })
        const nobody = yield* withRegistry({}, (registry) => Effect.flip(registry.locate("llama3.2:3b")))
        assert.deepInclude(nobody, { _tag: "NoServers", servers: [], available: [] })
        const unknown = yield* withRegistry({}, (registry) => Effect.flip(registry.locate("nonsense:7b")))
        assert.strictEqual(unknown._tag, "ModelNotFound")
      })
    )

    it.effect("servers whose list cannot be read are tried if none is certain", () => {
      const network = new Network().ollama(a, "m:1b")
      return withRegistry({ network, servers: [a, b, { url: c, protocol: "openai" }] }, (registry) =>
        Effect.gen(function* () {
          const hosts = yield* registry.locate("Llama3.2:3b")
          assert.deepStrictEqual(
            hosts.map((host) => [host.server.url, host.protocol, host.model, host.certain]),
            [
              [b, "ollama", "Llama3.2:3b", false],
              [c, "openai", "Llama3.2:3b", false]
            ]
          )
          assert.deepStrictEqual(urls(yield* registry.locate("m:1b")), [a])
        })
      )
    })

    it.effect("an unknown model is not searched on silent servers while others answer", () => {
      const network = new Network().ollama(a, "m:1b")
      return withRegistry({ network, servers: [a, b] }, (registry) =>
        Effect.gen(function* () {
          const error = yield* Effect.flip(registry.locate("llama3.2:3bb"))
          assert.strictEqual(error._tag, "ModelNotFound")
          assert.include(error.message, "Your servers have: m:1b")
          assert.include(error.message, `${b} could not be asked`)
        })
      )
    })

    it.effect("if no server answers, every server may have it", () =>
      withRegistry({ network: new Network(), servers: [a, b] }, (registry) =>
        Effect.gen(function* () {
          assert.deepStrictEqual(urls(yield* registry.locate("unheard:1b")), [a, b])
        })
      )
    )

    it.effect("a server that had it and is silent now comes after the certain ones", () => {
      const network = new Network().ollama(a, "m:1b").ollama(b, "M:1b")
      return withRegistry({ network, servers: [b, a], settings: { discoveryTtl: 60_000 } }, (registry) =>
        Effect.gen(function* () {
          assert.deepStrictEqual(urls(yield* registry.locate("m:1b")), [b, a])
          network.on(`${b}/api/tags`, refused)
          yield* TestClock.adjust(60_000)
          const hosts = yield* registry.locate("m:1b")
          assert.deepStrictEqual(
            hosts.map((host) => [host.server.url, host.model, host.certain]),
            [
              [a, "m:1b", true],
              [b, "M:1b", false]
            ]
          )
        })
      )
    })

    it.effect("an implicit server that does not answer is ignored", () => {
      const implicit: Server.Server = { ...Either.getOrThrow(Server.fromOptions(a, "")), implicit: true }
      const network = new Network()
      return withRegistry({ network, servers: [implicit] }, (registry) =>
        Effect.gen(function* () {
          const error = yield* Effect.flip(registry.locate("llama3.2:3b"))
          assert.deepInclude(error, { _tag: "NoServers", servers: [] })
          assert.deepStrictEqual(yield* registry.servers, [])
          network.ollama(a, "llama3.2:3b")
          yield* TestClock.adjust(1_000)
          assert.deepStrictEqual(urls(yield* registry.locate("llama3.2:3b")), [a])
          assert.strictEqual((yield* registry.servers).length, 1)
        })
      )
    })

    it.effect("an unchanged result is the same array, also while one that is down is asked again", () => {
      const network = new Network().ollama(a, "m:1b").on(`${b}/api/tags`, { delay: Number.POSITIVE_INFINITY })
      const servers = [a, b].map((url) => ({ url, protocol: "ollama" as const }))
      return withRegistry({ network, servers }, (registry) =>
        Effect.gen(function* () {
          const asking = yield* Effect.fork(registry.locate("m:1b"))
          yield* TestClock.adjust("5 seconds")
          const first = yield* Fiber.join(asking)
          assert.deepStrictEqual(urls(first), [a])
          yield* TestClock.adjust("5 seconds")
          const before = network.count(b)
          for (let i = 0; i < 3; i++) assert.strictEqual(yield* registry.locate("m:1b"), first)
          yield* TestClock.adjust(1)
          assert.strictEqual(network.count(b), before + 1)
        })
      )
    })

    it.effect("also if no server reports it", () =>
      withRegistry({ servers: [a, b] }, (registry) =>
        Effect.gen(function* () {
          const first = yield* registry.locate("llama3.2:3b")
          assert.deepStrictEqual(urls(first), [a, b])
          yield* TestClock.adjust("2 seconds")
          assert.strictEqual(yield* registry.locate("llama3.2:3b"), first)
        })
      )
    )

    it.effect("markAbsent: the server is excluded, and asked again", () => {
      const network = new Network().ollama(a, "m:1b").ollama(b, "m:1b")
      return withRegistry({ network, servers: [a, b] }, (registry) =>
        Effect.gen(function* () {
          yield* registry.locate("m:1b")
          network.ollama(a, "other:1b")
          yield* registry.markAbsent("m:1b", a)
          assert.deepStrictEqual(urls(yield* registry.locate("m:1b")), [b])
          yield* TestClock.adjust(1)
          assert.strictEqual(network.count(a), 2)
          assert.deepStrictEqual(urls(yield* registry.locate("other:1b")), [a])
          network.ollama(b, "other:1b")
          yield* registry.markAbsent("m:1b", b)
          const error = yield* Effect.flip(registry.locate("m:1b"))
          assert.strictEqual(error._tag, "ModelNotFound")
        })
      )
    })

    it.effect("markAbsent: a server that is then unreachable may still have it", () => {
      const network = new Network().ollama(a, "m:1b").ollama(b, "other:1b")
      return withRegistry({ network, servers: [a, b] }, (registry) =>
        Effect.gen(function* () {
          yield* registry.locate("m:1b")
          network.on(`${a}/api/tags`, refused)
          yield* registry.markAbsent("m:1b", a)
          const [first, ...more] = yield* registry.locate("m:1b")
          assert.deepInclude(first, { certain: false })
          assert.strictEqual(first?.server.url, a)
          assert.deepStrictEqual(
            more.map(({ server }) => server.url),
            []
          )
          // Whoever is back and has it no longer is believed.
          network.ollama(a, "other:1b")
          yield* TestClock.adjust("6 seconds")
          assert.strictEqual((yield* Effect.flip(registry.locate("m:1b")))._tag, "ModelNotFound")
        })
      )
    })

    it.effect("refresh asks all servers concurrently", () => {
      const network = new Network().ollama(a, "m:1b")
      return withRegistry({ network, servers: [a] }, (registry) =>
        Effect.gen(function* () {
          yield* registry.locate("m:1b")
          network.ollama(a, "n:1b")
          yield* registry.refresh
          assert.deepStrictEqual(yield* registry.models({ available: true }), ["n:1b"])
        })
      )
    })

    it.effect("missing: the same error, without requests", () => {
      const network = new Network().ollama(a, "m:1b")
      return withRegistry({ network, servers: [a] }, (registry) =>
        Effect.gen(function* () {
          assert.deepInclude(yield* Effect.flip(registry.missing("llama3.2:3b")), { _tag: "NoServers", servers: [a] })
          assert.strictEqual((yield* Effect.flip(registry.missing("nonsense:1b")))._tag, "ModelNotFound")
          assert.deepStrictEqual(network.asked, [])
        })
      )
    })

    it.effect("the built-in model is always available, without requests", () => {
      const network = new Network().ollama(a, "aicortex-demo:latest")
      return withRegistry({ network, servers: [a] }, (registry) =>
        Effect.gen(function* () {
          assert.deepStrictEqual(yield* registry.locate("aicortex-demo"), [
            {
              server: { ...Server.embedded, maxInFlight: 4 },
              protocol: "embedded",
              model: "aicortex-demo",
              certain: true,
              performance: undefined
            }
          ])
          assert.deepStrictEqual(network.asked, [])
          assert.include(yield* registry.models({ family: "others" }), "aicortex-demo")
          assert.deepInclude(yield* registry.modelInfo("aicortex-demo"), {
            parameter_size: "2.15M",
            quantization_level: "Q8_0",
            context_length: 512,
            size: 2_330_720
          })
        })
      )
    })

    it.effect("a settled answer needs no I/O and no search", () => {
      const network = new Network().ollama(a, "m:1b").ollama(b, "m:1b")
      return withRegistry({ network, servers: [a, b] }, (registry) =>
        Effect.gen(function* () {
          const first = yield* registry.locate("m:1b")
          const second = yield* registry.locate("m:1b")
          assert.strictEqual(yield* registry.locate("M:1b"), second)
          assert.deepStrictEqual(first, second)
        })
      )
    })
  })

  // ===========================================================================
  // servers of a model
  // ===========================================================================

  describe("listModelServers and serverInfo", () => {
    const record = (model: string, url: string, more: object) => ({ model_name: model, ip_port: url, ...more })
    const measured = folderOf({
      "mine.json": [
        record("m:1b", "http://a:11434/", {
          ip_city_name_en: "Bonn",
          ip_country_iso_code: "DE",
          ip_country_name: "Germany",
          ip_continent_code: "EU",
          ip_continent_name: "Europe",
          ip_latitude: "50.73",
          ip_longitude: 7.1,
          ip_organization: "Uni",
          perf_tokens_per_second: "94.25",
          perf_status: "success",
          perf_last_tested: "2026-05-05T00:00:00Z"
        }),
        record("m:1b", "b:11434", { perf_tokens_per_second: "1e9" }),
        record("m:1b", c, { perf_tokens_per_second: "80", perf_status: "error" })
      ]
    })
    const network = new Network().ollama(a, "m:1b").ollama(b, "m:1b").ollama(c, "m:1b")

    it.effect("speeds written as strings are numbers, at the top level and under performance", () =>
      withRegistry({ network, registry: [measured] }, (registry) =>
        Effect.gen(function* () {
          assert.deepStrictEqual(yield* registry.listModelServers("m:1b"), [
            {
              url: a,
              protocol: "ollama",
              location: {
                city: "Bonn",
                country: "DE",
                countryName: "Germany",
                continent: "Europe",
                latitude: 50.73,
                longitude: 7.1
              },
              organization: "Uni",
              tokens_per_second: 94.25,
              performance: { tokens_per_second: 94.25, last_tested: "2026-05-05T00:00:00Z" }
            },
            {
              url: b,
              protocol: "ollama",
              location: {},
              organization: undefined,
              tokens_per_second: undefined,
              performance: {}
            },
            {
              url: c,
              protocol: "ollama",
              location: {},
              organization: undefined,
              tokens_per_second: undefined,
              performance: {}
            }
          ])
        })
      )
    )

    it.effect("the speed of one model is not that of the server's others, and records of the same are one", () => {
      const registry = folderOf({
        "x.json": [
          record("m:1b", a, { perf_tokens_per_second: "50" }),
          record("n:1b", a, {}),
          record("n:1b", a, {}),
          record("o:1b", a, { perf_tokens_per_second: "7" })
        ]
      })
      const network = new Network().ollama(a, "m:1b", "n:1b", "o:1b")
      return withRegistry({ network, registry: [registry] }, (service) =>
        Effect.gen(function* () {
          const speeds = yield* Effect.forEach(["m:1b", "n:1b", "o:1b"], (model) =>
            Effect.map(service.listModelServers(model), (servers) => servers.map((one) => one.tokens_per_second))
          )
          assert.deepStrictEqual(speeds, [[50], [undefined], [7]])
        })
      )
    })

    it.effect("own measurements override those of files", () =>
      withRegistry({ network, registry: [measured] }, (registry, fleet) =>
        Effect.gen(function* () {
          leaseOn(fleet, a, "m:1b").succeed({ firstTokenTime: 10, tokensPerSecond: 20, keepAlive: 0 })
          const info = yield* registry.serverInfo("m:1b", a)
          assert.strictEqual(info.tokens_per_second, 20)
          assert.deepStrictEqual(info.performance, { tokens_per_second: 20 })
          const [host] = yield* registry.locate("m:1b")
          assert.strictEqual(host?.performance?.tokens_per_second, 94.25)
        })
      )
    )

    it.effect("a server of the settings and of a file are merged, with the location of the file", () =>
      withRegistry({ network, servers: [{ url: a, apiKey: "k" }], registry: [measured] }, (registry) =>
        Effect.gen(function* () {
          const hosts = yield* registry.locate("m:1b")
          assert.deepStrictEqual(urls(hosts), [a, b, c])
          assert.strictEqual(hosts[0]?.server.location?.city, "Bonn")
          assert.isDefined(hosts[0]?.server.authorization)
        })
      )
    )

    it.effect("a recorded server is listed while it is silent, and not once it reports that it lacks the model", () => {
      const registry = folderOf({ "mine.json": [record("m:1b", a, {}), record("m:1b", b, {}), record("n:1b", c, {})] })
      return withRegistry({ network: new Network().ollama(a, "other:1b"), registry: [registry] }, (service) =>
        Effect.gen(function* () {
          const infos = yield* service.listModelServers("m:1b")
          assert.deepStrictEqual(
            infos.map((info) => info.url),
            [b]
          )
          // c is recorded for another model only: there is no reason to try it.
          assert.deepStrictEqual(urls(yield* service.locate("m:1b")), [b])
        })
      )
    })

    it.effect("serverInfo: the first, or the requested one; else the reason", () =>
      withRegistry({ network, servers: [a, b] }, (registry) =>
        Effect.gen(function* () {
          assert.strictEqual((yield* registry.serverInfo("m:1b")).url, a)
          assert.strictEqual((yield* registry.serverInfo("m:1b", "b:11434/")).url, b)
          const error = yield* Effect.flip(registry.serverInfo("m:1b", "http://elsewhere:1"))
          assert.deepInclude(error, { _tag: "NoServers", servers: ["http://elsewhere:1"] })
          assert.strictEqual((yield* Effect.flip(registry.serverInfo("nope:1b")))._tag, "ModelNotFound")
          assert.strictEqual((yield* Effect.flip(registry.serverInfo("llama3.2:3b")))._tag, "NoServers")
        })
      )
    )
  })

  it.effect("a server's context limit overrides the model's", () => {
    const catalogued = "llama3.2:3b"
    const network = new Network()
      .ollama(a, catalogued)
      .on(`${a}/api/ps`, {
        body: { models: [{ name: catalogued, expires_at: "2100-01-01T00:00:00Z", context_length: 4096 }] }
      })
      .on("http://v:1/v1/models", { body: { object: "list", data: [{ id: catalogued, max_model_len: 8192 }] } })
      .on("http://w:1/v1/models", openai(catalogued))
    const vllm = { url: "http://v:1", protocol: "openai" as const }
    const context = (servers: ReadonlyArray<string | typeof vllm>) =>
      withRegistry({ network, servers, catalogue: builtIn }, (registry) =>
        Effect.gen(function* () {
          const before = yield* registry.modelInfo(catalogued)
          yield* registry.servers
          const after = yield* registry.modelInfo(catalogued)
          assert.strictEqual(after.quantization_level, before.quantization_level)
          return [before.context_length, after.context_length] as const
        })
      )
    return Effect.gen(function* () {
      const [known, same] = yield* context([{ url: "http://w:1", protocol: "openai" }])
      assert.isAbove(known ?? 0, 100_000)
      assert.strictEqual(same, known)
      assert.deepStrictEqual(yield* context([vllm]), [known, 8192])
      assert.deepStrictEqual(yield* context([a, vllm]), [known, 4096])
    })
  })

  it.effect("a server without a model list is recognized by its protocol: the problem says so", () =>
    withRegistry(
      {
        network: new Network().on("http://v:1/api/tags", { status: 404 }).on("http://v:1/v1/models", { status: 404 }),
        servers: ["http://v:1", "http://down:1"]
      },
      (registry) =>
        Effect.gen(function* () {
          const [unlisted, down] = yield* registry.servers
          assert.include(unlisted?.problem ?? "", "set its `protocol`")
          assert.notInclude(down?.problem ?? "", "protocol")
        })
    )
  )

  describe("llmParams and randomLlmParams", () => {
    const network = new Network()
      .ollama(a, "m:1b", "nomic-embed-text:latest")
      .ollama(b, "M:1b", "n:1b")
      .on("http://v:1/v1/models", openai("vllm"))
    const servers = [a, b, { url: "http://v:1", protocol: "openai" as const }]

    it.effect("without a model uses the configured one; OpenAI's clients get the address with its version", () =>
      withRegistry({ network, servers, settings: { model: "n:1b" } }, (registry) =>
        Effect.gen(function* () {
          assert.deepStrictEqual(yield* registry.llmParams(), { model: "n:1b", base_url: b, baseUrl: b })
          const url = "http://v:1/v1"
          assert.deepStrictEqual(yield* registry.llmParams("vllm"), { model: "vllm", base_url: url, baseUrl: url })
        })
      )
    )

    it.effect("chooses among the servers, and a resting one only as the last", () =>
      withRegistry({ network, servers }, (registry, fleet) =>
        Effect.gen(function* () {
          const sample = Effect.map(Effect.all(Array.from({ length: 60 }, () => registry.llmParams("m:1b"))), (all) =>
            [...new Set(all.map((params) => `${params.model} ${params.base_url}`))].sort()
          )
          assert.deepStrictEqual(yield* sample, [`M:1b ${b}`, `m:1b ${a}`])
          leaseOn(fleet, a, "m:1b").fail({ reason: "refused", message: "no" })
          assert.deepStrictEqual(yield* sample, [`M:1b ${b}`])
          leaseOn(fleet, b, "M:1b").fail({ reason: "refused", message: "no" })
          assert.strictEqual((yield* sample).length, 2)
        })
      ).pipe(Effect.withRandom(Random.make("seed")))
    )

    it.effect("random covers every chat model and every server with Ollama's protocol", () =>
      withRegistry({ network, servers }, (registry) =>
        Effect.gen(function* () {
          const all = yield* Effect.all(Array.from({ length: 200 }, () => registry.randomLlmParams))
          const counts = new Map<string, number>()
          for (const { base_url, model } of all) {
            counts.set(`${model} ${base_url}`, (counts.get(`${model} ${base_url}`) ?? 0) + 1)
          }
          assert.deepStrictEqual([...counts.keys()].sort(), [`M:1b ${b}`, `m:1b ${a}`, `n:1b ${b}`])
          for (const count of counts.values()) assert.isAbove(count, 20)
        })
      ).pipe(Effect.withRandom(Random.make("seed")))
    )

    it.effect("never returns an address that does not answer, for any model name", () =>
      withRegistry(
        { network: new Network().ollama(a, "m:1b"), servers: [a, "http://down:1"], settings: { discoveryTtl: 1_000 } },
        (registry) =>
          Effect.gen(function* () {
            const [only] = [
              ...new Set(
                (yield* Effect.all(Array.from({ length: 20 }, () => registry.llmParams("m:1b")))).map(
                  (found) => found.base_url
                )
              )
            ]
            assert.strictEqual(only, a)
          })
      ).pipe(
        Effect.zipRight(
          withRegistry({ servers: ["http://down:1"] }, (registry) =>
            Effect.gen(function* () {
              const unknown = yield* Effect.flip(registry.llmParams("nonsense"))
              assert.strictEqual(unknown._tag, "ModelNotFound")
              assert.include(unknown.message, "http://down:1")
              assert.strictEqual((yield* Effect.flip(registry.llmParams("llama3.2:3b")))._tag, "NoServers")
            })
          )
        )
      )
    )

    it.effect("never returns the built-in model; without a server the error says so", () =>
      withRegistry({}, (registry) =>
        Effect.gen(function* () {
          assert.strictEqual((yield* Effect.flip(registry.llmParams("aicortex-demo")))._tag, "NoServers")
          assert.strictEqual((yield* Effect.flip(registry.randomLlmParams))._tag, "NoServers")
        })
      )
    )
  })
})

/** The browser's entry over `fetch`, as far as it can run in Node; real browsers are in test/runtimes. */
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { afterEach, assert, describe, expect, it, vi } from "vitest"
import {
  AllServersFailed,
  type CortexOptions,
  createCortex,
  InvalidConfig,
  InvalidRequest,
  type KeyValueStorage,
  ModelNotFound
} from "../../src/browser.js"
import type { FakeOllamaOptions, FakeOpenAIOptions } from "../support/fakeServer.js"
import { unusedPort } from "../support/fakeServer.js"
import { type Fake, inOrder, model, useFleet } from "../support/fleet.js"
import { failureOf } from "../support/keep.js"

const fleet = useFleet()
const words = ["It", " is", " blue", ", because", " of", " 空", " and", " light", "."]
const whole = words.join("")
const question = "Why is the sky blue?"

const cortexOf = (servers: CortexOptions["servers"], options: CortexOptions = {}) =>
  fleet.keep(createCortex({ servers, model, storage: false, ...options }))

type Options = FakeOllamaOptions & FakeOpenAIOptions
const protocols: ReadonlyArray<readonly [string, (options?: Options) => Promise<Fake>]> = [
  ["Ollama", (options) => fleet.ollama({ reply: words, ...options })],
  ["llama.cpp", (options) => fleet.openai({ reply: words, flavour: "llamacpp", ...options })]
]
const ways = [
  ["whole", async (cortex: ReturnType<typeof cortexOf>) => cortex.chat(question)],
  ["stream", async (cortex: ReturnType<typeof cortexOf>) => (await cortex.chat(question, { stream: true })).text()]
] as const

afterEach(() => vi.unstubAllGlobals())

/** Keeps texts as a browser does. */
const memory = () => {
  const kept = new Map<string, string>()
  const storage: KeyValueStorage = {
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, value) => void kept.set(key, value)
  }
  /** As if all of it had been kept so long ago. */
  const age = (milliseconds: number) => {
    for (const [key, value] of kept) {
      const { at, text } = JSON.parse(value)
      kept.set(key, JSON.stringify({ at: at - milliseconds, text }))
    }
  }
  return { kept, storage, age }
}

describe.each(protocols)("over fetch, %s", (_, begin) => {
  describe.each(ways)("%s", (_, ask) => {
    it("answers", async () => {
      const server = await begin()
      assert.strictEqual(await ask(cortexOf([server.url])), whole)
    })

    it.each([
      ["is cut in the middle", { kind: "cut", after: 4 }],
      ["is cut in a line", { kind: "cutLine", after: 3 }],
      ["is reset before it begins", { kind: "reset" }],
      ["is a proxy's page", { kind: "garbage" }],
      ["is HTTP 500", { kind: "status", code: 500 }],
      ["ends without an end", { kind: "silentEnd", after: 5 }]
    ] as const)("continues on the next server if the answer %s", async (_, faults) => {
      const [first, second] = [await begin({ faults }), await begin()]
      const cortex = cortexOf(inOrder(first, second))
      assert.strictEqual(await ask(cortex), whole)
      assert.isAbove(first.chatRequests.length, 0)
      assert.isAbove(second.chatRequests.length, 0)
    })

    it("cancels the request when the caller aborts", async () => {
      const server = await begin({ faults: { kind: "stall", after: 2 } })
      const cortex = cortexOf([server.url])
      const leave = new AbortController()
      const answer = cortex.complete(question, { signal: leave.signal })
      await server.waitForChats(1)
      leave.abort(new Error("enough"))
      assert.strictEqual((await failureOf(answer, Error)).message, "enough")
      assert.isNumber(await server.chatRequests[0]?.closedByClient)
    })
  })

  it("the error says why no server answers, and in which phase", async () => {
    const port = await unusedPort()
    const protocol = (await begin()).protocol
    const cortex = cortexOf([{ url: `http://127.0.0.1:${port}`, protocol }], { defaults: { maxRetries: 1 } })
    const { attempts } = await failureOf(cortex.chat(question), AllServersFailed)
    expect(attempts[0]).toMatchObject({ reason: "refused", phase: "connect" })
  })

  it("applies backpressure to a server that is faster than its reader", async () => {
    const long = Array.from({ length: 2_000 }, (_, n) => ` ${n}`)
    const server = await begin({ reply: long, perToken: "burst" })
    const stream = await cortexOf([server.url]).chat(question, { stream: true })
    let text = ""
    for await (const event of stream) if (event.type === "token") text += event.content
    assert.strictEqual(text, long.join(""))
  })
})

describe("functions", () => {
  it("sessions, search, servers, bestServer and llmParams work without files", async () => {
    const server = await fleet.ollama({ reply: words, models: [model, "llama3.2:3b"] })
    const cortex = cortexOf([server.url])
    const session = await cortex.Session.create()
    await cortex.chat("One?", { session })
    await cortex.chat("Two?", { session })
    expect((await session.history()).map(({ role }) => role)).toEqual(["user", "assistant", "user", "assistant"])
    assert.lengthOf(server.chatRequests.at(-1)?.body.messages, 3)
    expect(await cortex.searchModels("llama")).toContain("llama3.2:3b")
    expect(await cortex.listServers()).toMatchObject([{ url: server.url, reachable: true }])
    expect(await cortex.bestServer(model)).toMatchObject({ url: server.url })
    expect(await cortex.getLlmParams(model)).toEqual({ model, base_url: server.url, baseUrl: server.url })
    await using copy = createCortex({ servers: [server.url], model, storage: false })
    await failureOf(copy.Session.resume(session.id), Error)
  })

  it("sends requests to configured servers only", async () => {
    await failureOf(cortexOf(undefined).chat(question), ModelNotFound)
  })

  it("says that the built-in model is not there", async () => {
    const error = await failureOf(cortexOf([]).chat(question, { model: "aicortex-demo" }), InvalidRequest)
    assert.include(error.message, "runs on Node only")
  })

  it.each([
    ["stateFile", { stateFile: "fleet.json" }],
    ["configFile", { configFile: false }],
    ["cacheFolder", { cacheFolder: "/tmp" }],
    ["proxy", { proxy: "http://proxy:3128" }],
    ["ca", { ca: "ca.pem" }],
    ["sessions.folder", { sessions: { folder: "/tmp" } }]
  ])("refuses %s, which needs files or connections of its own", async (field, options) => {
    const server = await fleet.ollama()
    const error = await failureOf(cortexOf([server.url], options as CortexOptions).chat(question), InvalidConfig)
    assert.strictEqual(error.field, field)
    assert.include(error.message, "does not exist in a browser")
    assert.isEmpty(server.requests)
  })
})

describe("error messages for failures that browsers do not explain", () => {
  const inPage = (origin: string) => {
    vi.stubGlobal("document", {})
    vi.stubGlobal("location", { origin })
  }
  const deadServer = async () => `http://127.0.0.1:${await unusedPort()}`
  const attempt = async (url: string, protocol: "ollama" | "openai" = "ollama") => {
    const cortex = cortexOf([{ url, protocol }], { defaults: { maxRetries: 1 } })
    const error = await failureOf(cortex.chat(question), AllServersFailed)
    return { attempt: error.attempts[0], message: error.message, servers: await cortex.listServers() }
  }

  it.each(["ollama", "openai"] as const)("list both possibilities, and how to allow the page: %s", async (protocol) => {
    inPage("https://chat.example.com")
    const { attempt: failed, message, servers } = await attempt(await deadServer(), protocol)
    assert.strictEqual(failed?.reason, "blocked")
    for (const text of [
      "cannot be reached",
      "CORS",
      "OLLAMA_ORIGINS=https://chat.example.com",
      "aicortex serve --cors https://chat.example.com"
    ]) {
      assert.include(message, text)
      assert.include(servers[0]?.problem, text)
    }
  })

  it("explain an https page with an http server", async () => {
    inPage("https://chat.example.com")
    vi.stubGlobal("fetch", async () => {
      throw new TypeError("Failed to fetch")
    })
    const { attempt: failed, message } = await attempt("http://gpu-1:11434")
    assert.strictEqual(failed?.reason, "blocked")
    assert.include(message, "mixed content")
    assert.notInclude(message, "OLLAMA_ORIGINS")
    // This machine itself is allowed.
    assert.include((await attempt("http://localhost:1")).message, "OLLAMA_ORIGINS")
  })

  it("need no permission for a server of the page's own origin", async () => {
    const url = await deadServer()
    inPage(url)
    const { attempt: failed, message } = await attempt(url)
    assert.strictEqual(failed?.reason, "network")
    assert.notInclude(message, "CORS")
  })

  it("are not used for other failures", async () => {
    inPage("https://chat.example.com")
    const server = await fleet.ollama({ faults: { kind: "status", code: 401 } })
    assert.strictEqual((await attempt(server.url)).attempt?.reason, "unauthorized")
    const cut = await fleet.ollama({ reply: words, faults: { kind: "cut", after: 3 } })
    assert.strictEqual((await attempt(cut.url)).attempt?.reason, "cut")
  })
})

describe("what a page stores", () => {
  const lists = (server: Fake) =>
    server.requests.filter(({ path, status }) => /\/(tags|models)$/.test(path) && status === 200)

  it.each(protocols)("model lists, for the next visit: %s", async (_, begin) => {
    const server = await begin()
    const { age, kept, storage } = memory()
    const visit = async () => {
      await using cortex = createCortex({ servers: [server.url], model, storage })
      assert.strictEqual(await cortex.chat(question), whole)
      return lists(server).length
    }
    const first = await visit()
    assert.isAbove(first, 0)
    assert.isAbove(kept.size, 0)
    assert.strictEqual(await visit(), first)
    // No longer believed.
    age(301_000)
    assert.isAbove(await visit(), first)
  })

  it("no list that was requested with a key, and nothing if storing is off", async () => {
    const server = await fleet.openai({ reply: words, apiKey: "secret-key" })
    const { kept, storage } = memory()
    await using cortex = createCortex({ servers: [{ url: server.url, apiKey: "secret-key" }], model, storage })
    assert.strictEqual(await cortex.chat(question), whole)
    assert.strictEqual(kept.size, 0)
    vi.stubGlobal("localStorage", {
      getItem: () => assert.fail("was read"),
      setItem: () => assert.fail("was written")
    })
    await cortexOf([(await fleet.ollama()).url]).chat(question)
  })

  it("continues without storage space or permission", async () => {
    const server = await fleet.ollama({ reply: words })
    const storage: KeyValueStorage = {
      getItem: () => {
        throw new Error("SecurityError")
      },
      setItem: () => {
        throw new Error("QuotaExceededError")
      }
    }
    assert.strictEqual(await cortexOf([server.url], { storage }).chat(question), whole)
  })

  it("registry files, by URL", async () => {
    let requestCount = 0
    let status = 200
    let asked: (() => void) | undefined
    const files = createServer((_, response) => {
      requestCount++
      asked?.()
      response.writeHead(status).end(JSON.stringify([{ model_name: "gemma9:900b", model: "gemma9:900b" }]))
    })
    await new Promise<void>((resolve) => files.listen(0, "127.0.0.1", resolve))
    try {
      const registry = `http://127.0.0.1:${(files.address() as AddressInfo).port}/models/gemma.json`
      const { age, storage } = memory()
      const search = async () => {
        await using cortex = createCortex({ servers: [], registry, storage })
        const found = await cortex.searchModels("gemma9")
        return { found, families: await cortex.families(), warnings: await cortex.registryWarnings() }
      }
      expect(await search()).toMatchObject({ found: ["gemma9:900b"], warnings: [] })
      expect((await search()).families).toContain("gemma")
      assert.strictEqual(requestCount, 1)
      // Too old, and there is no newer one: better than none. It is asked for in the background.
      age(3_700_000)
      status = 500
      const again = new Promise<void>((resolve) => {
        asked = resolve
      })
      await using old = createCortex({ servers: [], registry, storage })
      assert.deepStrictEqual(await old.searchModels("gemma9"), ["gemma9:900b"])
      await again
      assert.strictEqual(requestCount, 2)
      await using empty = createCortex({ servers: [], registry, storage: false })
      assert.isEmpty(await empty.searchModels("gemma9"))
      assert.include((await empty.registryWarnings())[0]?.message, "HTTP 500")
    } finally {
      files.closeAllConnections()
      files.close()
    }
  })
})

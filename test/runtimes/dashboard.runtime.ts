/** The page of the gateway in a real Chromium, over fakes and over the built-in model. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { createRequire } from "node:module"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { gzipSync } from "node:zlib"
import { Benchmark, Errors, type Gateway } from "aicortex"
import * as Effect from "effect/Effect"
import { type Browser, type BrowserContextOptions, chromium, type Page, type Route } from "playwright-core"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import type * as LocalModels from "../../src/LocalModels.js"
import { type FakeServer, startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { eventually, startGateway, type TestGateway } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"

const root = fileURLToPath(new URL("../..", import.meta.url))
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8")
const model = "llama3.2:3b"
const keep = useKeep()
/** Set to a folder, the screenshots of the documentation are written there. */
const pictures = process.env["AICORTEX_TEST_PICTURES"]

let browser: Browser
beforeAll(async () => {
  browser = await chromium.launch({
    executablePath: process.env["AICORTEX_TEST_CHROMIUM"] ?? "chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
  })
})
afterAll(() => browser?.close())

const markdown = `## Why the sky is blue

Sunlight meets **air molecules**, which scatter short waves far more than long ones: *Rayleigh scattering*.

| colour | wavelength | scattered |
|---|---|---|
| blue | 450 nm | strongly |
| red | 700 nm | little |

\`\`\`python
def scattered(nm):
    return (550 / nm) ** 4
\`\`\`

1. Blue comes from every direction.
2. At sunset the way through the air is longer.
`
const ollama = async (options: Parameters<typeof startFakeOllama>[0] = {}) =>
  keep(
    await startFakeOllama({
      models: [model, "qwen2.5-coder:7b", "nomic-embed-text"],
      loaded: [model],
      reply: markdown,
      perToken: 2,
      ...options
    })
  )
const openai = async (options: Parameters<typeof startFakeOpenAI>[0] = {}) =>
  keep(await startFakeOpenAI({ models: [model], reply: markdown, perToken: 2, ...options }))
const serve = async (servers: ReadonlyArray<FakeServer>, options: Gateway.Options = {}) =>
  keep(
    await startGateway([], options, { cortex: { servers: servers.map(({ url }, priority) => ({ url, priority })) } })
  )

const deferred = () => {
  let resolve = () => {}
  const promise = new Promise<void>((done) => {
    resolve = done
  })
  return { promise, resolve }
}

/** A page, and all that went wrong in it. */
const open = async (gateway: TestGateway, path = "", options: BrowserContextOptions = {}) => {
  const context = await browser.newContext({
    viewport: { width: 1360, height: 900 },
    reducedMotion: "reduce",
    ...options
  })
  keep({ [Symbol.asyncDispose]: () => context.close() })
  const page = await context.newPage()
  const problems: Array<string> = []
  const hosts = new Set<string>()
  page.on("pageerror", (error) => problems.push(error.message))
  page.on("console", (message) => {
    if (message.type() === "error" && !/status of (40[0-9]|501)/.test(message.text())) problems.push(message.text())
  })
  page.on("request", (request) => {
    if (!/^(data|blob):/.test(request.url())) hosts.add(new URL(request.url()).host)
  })
  await page.goto(`${gateway.url}/${path}`)
  return { page, problems, hosts }
}

const chat = (gateway: TestGateway, body: object = {}, init: RequestInit = {}) =>
  gateway.post("/v1/chat/completions", { model, messages: [{ role: "user", content: "Hi" }], ...body }, init)

const picture = async (page: Page, name: string): Promise<void> => {
  if (pictures === undefined) return
  mkdirSync(pictures, { recursive: true })
  await page.screenshot({ path: join(pictures, `${name}.png`) })
}

/** What axe-core finds on a screen that has its heading. */
const violations = async (page: Page): Promise<ReadonlyArray<string>> => {
  await page.getByRole("heading", { level: 1 }).first().waitFor()
  // The page allows no script but its own; the test's comes in from outside.
  await page.evaluate(axe)
  return page.evaluate(async () => {
    // biome-ignore lint/suspicious/noExplicitAny: what the page has.
    const { violations } = await (globalThis as any).axe.run((globalThis as any).document, {
      runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    })
    return violations.map(
      // biome-ignore lint/suspicious/noExplicitAny: what axe tells.
      ({ help, id, nodes }: any) => `${id}: ${help}: ${nodes.map(({ html }: any) => html.slice(0, 160)).join(" | ")}`
    )
  })
}

const screens = [
  "fleet",
  "live",
  "playground",
  "models",
  "usage",
  "keys",
  "benchmarks",
  "connect",
  "settings",
  "api"
] as const

describe("the page", () => {
  it("is small, and loads nothing from other hosts", async () => {
    const folder = join(root, "dist/dashboard")
    const sizeOf = (names: ReadonlyArray<string>) =>
      names.reduce((sum, name) => sum + gzipSync(readFileSync(join(folder, name)), { level: 9 }).length, 0)
    const files = readdirSync(folder)
    const viewer = files.filter((name) => name.startsWith("apiViewer-"))
    expect(viewer).toHaveLength(1)
    expect(sizeOf(files.filter((name) => !viewer.includes(name)))).toBeLessThan(150 * 1024)
    expect(sizeOf(viewer)).toBeLessThan(180 * 1024)
    const gateway = await serve([await ollama()])
    const { hosts, page, problems } = await open(gateway)
    const loaded: Array<string> = []
    page.on("request", (request) => loaded.push(request.url()))
    const isViewer = (url: string) => url.includes("apiViewer")
    for (const screen of screens.filter((name) => name !== "api")) {
      await page.goto(`${gateway.url}/#/${screen}`)
      await page.getByRole("heading", { level: 1 }).first().waitFor()
    }
    // The viewer is loaded by who looks at it.
    expect(loaded.filter(isViewer)).toEqual([])
    await page.goto(`${gateway.url}/#/api`)
    await page.locator("openapi-explorer").getByText("A fleet of language-model servers").waitFor()
    expect(loaded.some(isViewer)).toBe(true)
    expect([...hosts]).toEqual([new URL(gateway.url).host])
    expect(problems).toEqual([])
  })

  const looks: ReadonlyArray<readonly [string, BrowserContextOptions]> = [
    ["light", { colorScheme: "light" }],
    ["dark", { colorScheme: "dark" }],
    ["phone", { colorScheme: "light", viewport: { width: 390, height: 844 }, hasTouch: true }],
    ["phone-dark", { colorScheme: "dark", viewport: { width: 390, height: 844 } }]
  ]
  it.each(looks)("has no accessibility violation on any screen (%s)", async (look, options) => {
    const busy = await ollama({ perToken: 25 })
    const broken = await openai({ faults: { kind: "status", code: 503 } })
    const gateway = await serve([broken, await ollama({ perToken: 10, faults: { kind: "cut", after: 12 } }), busy])
    const { page, problems } = await open(gateway, "#/fleet", options)
    await page.getByRole("status").filter({ hasText: "Live" }).waitFor()
    // Each server may be chosen, and a conversation stays where it was: others begin until it is the one that breaks.
    let asked = 0
    await eventually(async () => {
      const messages = [{ role: "user", content: `Question ${++asked}` }]
      await (await chat(gateway, { stream: true, messages })).text()
      return /"resumes"/.test(await (await gateway.get("/requests")).text())
    }, "an answer is resumed")
    await chat(gateway, { model: "nope" })
    const running = [1, 2, 3].map(() => chat(gateway, { stream: true }).then((response) => response.text()))
    await busy.waitForChats(1)
    for (const screen of screens) {
      await page.goto(`${gateway.url}/#/${screen}`)
      await page.getByRole("heading", { level: 1 }).first().waitFor()
      if (screen === "fleet") await page.getByRole("article").nth(2).waitFor()
      if (screen === "live") {
        await page.getByText("resumed").first().waitFor()
        await page.locator(".request .expand", { hasText: "resumed" }).first().click()
        await page.getByText("Asked for").waitFor()
      }
      if (screen === "api") {
        const viewer = page.locator("openapi-explorer")
        await viewer.locator(".nav-bar-path, .endpoint-head", { hasText: "/v1/chat/completions" }).first().click()
        await viewer.getByRole("button", { name: "Execute" }).first().click()
        await viewer.getByText(/Status: OK/).waitFor()
      }
      if (screen === "playground") {
        await page.getByLabel("Message", { exact: true }).fill("Why is the sky blue?")
        await page.keyboard.press("Enter")
        await page.getByText("At sunset").waitFor()
      }
      await picture(page, `${screen}-${look}`)
      expect([screen, await violations(page)]).toEqual([screen, []])
      const wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
      expect([screen, wide]).toEqual([screen, 0])
    }
    await Promise.all(running)
    expect(problems).toEqual([])
  })
})

describe("a request", () => {
  it("whose server is killed in mid-answer is shown as resumed within a second", async () => {
    const dying = await ollama({ perToken: 30 })
    const gateway = await serve([dying, await ollama({ perToken: 30 })])
    const { page } = await open(gateway, "#/live")
    await page.getByRole("status").filter({ hasText: "Live" }).waitFor()
    const answer = chat(gateway, { stream: true }).then((response) => response.text())
    await page.getByText("streaming").waitFor()
    await dying.strike({ kind: "kill", how: "rst" })
    const seen = page
      .getByText("resumed", { exact: true })
      .waitFor()
      .then(() => performance.now())
    await eventually(async () => /"resumes"/.test(await (await gateway.get("/requests")).text()), "it is resumed")
    const resumed = performance.now()
    expect((await seen) - resumed).toBeLessThan(1_000)
    await page.getByText("failed: the connection").waitFor()
    expect(await answer).toContain("[DONE]")
    await page.getByText("done", { exact: true }).waitFor()
  })

  it("that began before the page subscribed, or while its list was loading, is shown", async () => {
    const slow = await ollama({ perToken: 60, reply: "word ".repeat(2_000) })
    const gateway = await serve([slow])
    const page = await (await browser.newContext()).newPage()
    const { promise: held, resolve: release } = deferred()
    const lists: Array<Promise<void>> = []
    // The lists are those of before the request, and come after it has begun.
    await page.route("**/requests", async (route) => {
      const response = await route.fetch()
      lists.push(held.then(() => route.fulfill({ response })))
    })
    await page.goto(`${gateway.url}/#/live`)
    await page.getByRole("status").filter({ hasText: "Live" }).waitFor()
    await eventually(() => lists.length === 2, "the list is asked for when the events are heard, too")
    const answer = chat(gateway, { stream: true })
      .then((response) => response.text())
      .catch(() => "broken")
    await page.getByRole("button", { name: /^Cancel/ }).waitFor()
    release()
    await Promise.all(lists)
    await page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    await page.getByRole("button", { name: /^Cancel/ }).click()
    expect(await answer).toBe("broken")
    await page.context().close()
  })

  it("can be cancelled by an administrator", async () => {
    const slow = await ollama({ perToken: 60, reply: "word ".repeat(2_000) })
    const gateway = await serve([slow])
    const { page } = await open(gateway, "#/live")
    await page.getByRole("status").filter({ hasText: "Live" }).waitFor()
    const answer = chat(gateway, { stream: true })
      .then((response) => response.text())
      .catch(() => "broken")
    await page.getByRole("button", { name: /^Cancel/ }).click()
    await page.getByText("An administrator cancelled it.").waitFor()
    expect(await answer).toBe("broken")
    await eventually(() => slow.inFlight() === 0, "the server is left")
  })
})

describe("operations of administrators", () => {
  it("drain, wake, load, unload, pull and remove", async () => {
    const one = await ollama()
    const gateway = await serve([one])
    const { page } = await open(gateway)
    const card = page.getByRole("article", { name: "Server server-1" })
    await card.getByRole("button", { name: "Drain" }).click()
    await card.getByText("draining").waitFor()
    await card.getByRole("button", { name: "Wake" }).click()
    await card.getByText("up", { exact: true }).waitFor()
    await card.getByRole("button", { name: "Rest" }).click()
    await card.getByText(/an administrator lets it rest/).waitFor()
    await card.getByRole("button", { name: "Wake" }).click()
    await card.getByRole("button", { name: `Unload ${model}` }).click()
    await card.getByRole("button", { name: `Load ${model}` }).click()
    await card.getByRole("button", { name: `Unload ${model}` }).waitFor()
    await card.getByLabel("Model to pull on server-1").fill("tiny:1b")
    await card.getByRole("button", { name: "Pull" }).click()
    await card.getByText("tiny:1b").waitFor()
    page.on("dialog", (dialog) => void dialog.accept())
    await card.getByRole("button", { name: "Remove tiny:1b" }).click()
    await card.getByText("tiny:1b").waitFor({ state: "detached" })
  })
})

describe("a gateway with keys", () => {
  const keys = [
    { name: "root", key: "key-of-the-administrator", admin: true },
    { name: "ann", key: "key-of-ann" }
  ]

  it("asks for a key, does not store it, and applies its permissions", async () => {
    const gateway = await serve([await ollama()], { keys })
    const { page, problems } = await open(gateway)
    const addresses: Array<string> = []
    page.on("request", (request) => addresses.push(request.url()))
    expect(await violations(page)).toEqual([])
    await page.getByLabel("API key").fill("wrong")
    await page.keyboard.press("Enter")
    await page.getByText("The API key is wrong.").waitFor()
    await page.getByLabel("API key").fill("key-of-ann")
    await page.keyboard.press("Enter")
    await page.getByRole("article", { name: "Server server-1" }).waitFor()
    expect(await page.getByRole("button", { name: "Drain" }).count()).toBe(0)
    await page.goto(`${gateway.url}/#/playground`)
    await page.getByLabel("Message", { exact: true }).fill("my secret question")
    await page.keyboard.press("Enter")
    await page.getByText("At sunset").waitFor()
    await page.reload()
    await page.getByRole("button", { name: "Sign out ann" }).waitFor()
    const kept = await page.evaluate("JSON.stringify([document.cookie, { ...localStorage }, { ...sessionStorage }])")
    expect(kept).toBe('["",{},{}]')
    expect(addresses.filter((url) => /key-of|secret|question/.test(url))).toEqual([])
    expect(gateway.log.join("\n")).not.toMatch(/key-of|secret question/)
    await page.getByRole("button", { name: "Sign out ann" }).click()
    await page.getByLabel("API key").fill("key-of-the-administrator")
    await page.keyboard.press("Enter")
    await page.goto(`${gateway.url}/#/fleet`)
    await page.getByRole("button", { name: "Drain" }).click()
    await page.getByText("draining").waitFor()
    expect(problems).toEqual([])
  })
})

describe("the API viewer", () => {
  it("sends requests with the page's session, and shows the response", async () => {
    const keys = [{ name: "root", key: "key-of-the-administrator", admin: true }]
    const one = await ollama()
    const gateway = await serve([one], { keys })
    const { page, problems } = await open(gateway)
    await page.getByLabel("API key").fill("key-of-the-administrator")
    await page.keyboard.press("Enter")
    await page.getByRole("link", { name: "API", exact: true }).click()
    const viewer = page.locator("openapi-explorer")
    const choose = async (method: string, path: string) => {
      const entry = viewer
        .locator(".nav-bar-path")
        .filter({ hasText: new RegExp(`^\\s*${method}\\s*${path}\\s*$`, "i") })
      await entry.click()
    }
    const execute = () => viewer.getByRole("button", { name: "Execute" }).click()
    await choose("post", "/v1/chat/completions")
    await execute()
    await viewer.getByText(/At sunset/).waitFor()
    expect(one.chatRequests).toHaveLength(1)
    // As a stream.
    await viewer
      .getByLabel("REQUEST BODY")
      .fill(JSON.stringify({ model, stream: true, messages: [{ role: "user", content: "Hi" }] }))
    await execute()
    await viewer.getByText("[DONE]").waitFor()
    // What changes something has the token besides the cookie.
    await choose("post", "/servers/\\{id\\}")
    await viewer.locator("[data-pname=id]").fill("server-1")
    await execute()
    await viewer.getByText(/Status: OK/).waitFor()
    await page.getByRole("link", { name: "Fleet", exact: true }).click()
    await page.getByText(/an administrator lets it rest/).waitFor()
    // An error is shown as it is, and back again the viewer works.
    await page.getByRole("link", { name: "API", exact: true }).click()
    await choose("post", "/v1/embeddings")
    await viewer.getByLabel("REQUEST BODY").fill('{"model": 7}')
    await execute()
    await viewer.getByText(/Status: Bad Request/).waitFor()
    expect(problems).toEqual([])
  })
})

describe("models", () => {
  /** A machine with one model, and a hub that has others. */
  const machine = () => {
    const asked: Array<readonly [string, object]> = []
    let isLoaded = false
    let told: (task: LocalModels.PullTask) => void = () => {}
    let task: LocalModels.PullTask | undefined
    const tell = (changes: Partial<LocalModels.PullTask>) => {
      task = {
        id: "task-1",
        model: "owner/big:Q4_K_M",
        state: "running",
        phase: "downloading",
        completed: 0,
        total: 4e9,
        stored: null,
        error: null,
        ...task,
        ...changes
      }
      told(task)
      return task
    }
    const engine = (): LocalModels.Engine => ({
      model: "tiny",
      state: "ready",
      engine: "aicortex",
      url: "http://127.0.0.1:1",
      protocol: "openai",
      pid: 1,
      processStart: null,
      memory: 2e8,
      readyAt: 0,
      tokensPerSecond: 40,
      inFlight: 0,
      slots: 4,
      restarts: 0,
      problem: null,
      log: []
    })
    const control: LocalModels.Control = {
      models: () => [
        {
          name: "tiny",
          names: [],
          path: "/models/tiny.gguf",
          size: 1.5e8,
          contextSize: 4_096,
          family: "llama",
          embeddings: false,
          engines: isLoaded ? [engine()] : []
        }
      ],
      tasks: () => (task === undefined ? [] : [task]),
      observe: (observer) => {
        told = observer
        return () => {}
      },
      run: (operation, body) =>
        Effect.suspend((): Effect.Effect<unknown, LocalModels.OperationError> => {
          asked.push([operation, body])
          if (operation === "quantisations") {
            const of = (name: string, size: number, fits: boolean, chosen: boolean) => ({ name, size, fits, chosen })
            const quantisations = [
              of("Q4_K_M", 4e9, true, true),
              of("Q8_0", 8e9, true, false),
              of("F16", 16e9, false, false)
            ]
            return Effect.succeed({ model: "owner/big", quantisations })
          }
          if (operation === "start") isLoaded = true
          if (operation === "stop") isLoaded = false
          if (operation === "remove")
            return Effect.fail(new Errors.InvalidRequest({ field: "model", reason: "is in use" }))
          if (operation === "pull") return Effect.succeed({ task: tell({}), isNew: true })
          if (operation === "cancelPull") return Effect.succeed(tell({ state: "cancelled" }))
          return Effect.succeed({ model: "tiny", stopped: true })
        }),
      hardware: Effect.succeed({
        cpu: { arch: "x64", cores: 8, model: "Example CPU" },
        os: { name: "linux", version: "6" },
        ram: { total: 32e9, available: 11e9 },
        storage: { total: 1e12, available: 3e11 },
        gpus: [{ id: "0", name: "Example GPU", vendor: null, driver_version: null, total_vram: 24e9, free_vram: 20e9 }]
      }),
      engines: Effect.succeed([])
    }
    return { control, asked, tell }
  }

  it("of this machine and of the fleet are loaded, unloaded, pulled and removed", async () => {
    const { asked, control, tell } = machine()
    const one = await ollama()
    const gateway = keep(await startGateway([one.url, (await openai()).url], {}, { local: control }))
    const { page, problems } = await open(gateway, "#/models")
    page.on("dialog", (dialog) => void dialog.accept())
    const here = page.getByRole("region", { name: "This machine" })
    await here.getByText("11 GB").waitFor()
    await here.getByText("20 GB").waitFor()
    await here.getByRole("button", { name: "Load tiny on this machine", exact: true }).click()
    await here.getByText("tiny is loaded").waitFor()
    await here.getByRole("button", { name: "Unload tiny on this machine", exact: true }).click()
    await here.getByRole("button", { name: "Load tiny on this machine", exact: true }).waitFor()
    await here.getByRole("button", { name: "Remove tiny" }).click()
    await here.getByText("is in use").waitFor()

    await page.getByRole("status").filter({ hasText: "Live" }).waitFor()
    await here.getByLabel("Model to pull to this machine").fill("owner/big")
    await here.getByRole("button", { name: "What fits?" }).click()
    await here.getByRole("row", { name: /^F16 16 GB too large/ }).waitFor()
    await picture(page, "models-light")
    expect(await violations(page)).toEqual([])
    await here.getByRole("button", { name: "Pull Q4_K_M" }).click()
    await here.getByText("The download of owner/big:Q4_K_M has begun").waitFor()
    expect(asked.find(([operation]) => operation === "pull")?.[1]).toMatchObject({ model: "owner/big:Q4_K_M" })
    tell({ completed: 1e9, phase: "downloading the rest" })
    await here.getByText("1.0 GB of 4.0 GB").waitFor()
    await here.getByRole("button", { name: "Stop the download" }).click()
    await here.getByText("failed", { exact: true }).waitFor()
    expect(asked.at(-1)).toEqual(["cancelPull", { task: "task-1" }])

    const servers = page.getByRole("region", { name: "The fleet", exact: true })
    await servers.getByRole("button", { name: `Unload ${model} on server-1`, exact: true }).click()
    await servers.getByRole("button", { name: `Load ${model} on server-1`, exact: true }).click()
    await servers.getByText(`${model} is loaded on server-1`).waitFor()
    await servers.getByLabel("Model to pull to a server").fill("other:1b")
    await servers.getByLabel("Server to pull it to").selectOption("server-1")
    await servers.getByRole("button", { name: "Pull" }).click()
    await servers.getByRole("rowheader", { name: "other:1b" }).waitFor()
    await servers.getByLabel("Filter models by name").fill("other")
    await servers.getByRole("rowheader", { name: model }).waitFor({ state: "detached" })
    await servers.getByRole("button", { name: "Remove other:1b from server-1" }).click()
    await servers.getByRole("rowheader", { name: "other:1b" }).waitFor({ state: "detached" })
    // What cannot be changed is not offered.
    expect(await page.getByRole("button", { name: / server-2$/ }).count()).toBe(0)
    expect(problems).toEqual([])
  })
})

const temporary = (): string => {
  const folder = mkdtempSync(join(tmpdir(), "aicortex-page-"))
  keep({ [Symbol.asyncDispose]: async () => rmSync(folder, { recursive: true, force: true }) })
  return folder
}

describe("benchmarks and settings", () => {
  it("are compared, also over time, and shown with their sources", async () => {
    const folder = temporary()
    const [one, two] = [await ollama(), await ollama()]
    const result = (server: FakeServer, at: number, tokensPerSecond: number): Benchmark.Result => ({
      server: server.url,
      model,
      at: Date.UTC(2026, 0, at, 12),
      firstTokenTime: 5_000 / tokensPerSecond,
      tokensPerSecond,
      promptTokensPerSecond: 9 * tokensPerSecond,
      measured: { tokensPerSecond },
      claimed: {},
      disagrees: false,
      phases: [],
      complete: at !== 2,
      notes: at === 4 ? ["The long prompt was left out: its <b>context</b> is small."] : []
    })
    const results = [result(one, 1, 40), result(one, 2, 44), result(one, 4, 55), result(two, 3, 80), result(two, 4, 60)]
    writeFileSync(join(folder, "benchmarks.json"), Benchmark.encodeResults(results))
    const servers = [one, two].map(({ url }, priority) => ({ url, priority }))
    const cortex = { servers, stateFile: join(folder, "state.json"), discoveryTtl: 45_000 }
    const gateway = keep(await startGateway([], {}, { cortex }))
    const { page, problems } = await open(gateway, "#/benchmarks")
    await page.getByRole("row", { name: /server-1 55 \+25 %/ }).waitFor()
    await page.getByRole("row", { name: /server-2 60 −25 %/ }).waitFor()
    await page.getByRole("button", { name: `History of ${model} on server-1` }).click()
    const history = page.getByRole("region", { name: `History of ${model} on server-1` })
    await history.getByText("its <b>context</b> is small").waitFor()
    await history.getByRole("row", { name: /^2026-01-02 12:00 not complete/ }).waitFor()
    expect(await history.getByRole("row").count()).toBe(4)
    await picture(page, "benchmarks-light")
    expect(await violations(page)).toEqual([])

    await page.getByRole("link", { name: "Settings" }).click()
    await page.getByRole("row", { name: /discoveryTtl.* 45 s flag/ }).waitFor()
    await page.getByLabel("Only what is given").check()
    await page.getByRole("row", { name: /^firstTokenTimeout/ }).waitFor({ state: "detached" })
    await picture(page, "settings-given-light")
    expect(await violations(page)).toEqual([])
    await page.getByLabel("Filter settings").fill("no such thing")
    await page.getByText("No setting fits.").waitFor()
    expect(await page.content()).not.toContain(one.url)
    expect(problems).toEqual([])
  })
})

describe("usage and keys", () => {
  /** Gateways that keep usage and keys. */
  const stored = async () => {
    const folder = temporary()
    const servers = [(await ollama({ reply: "Well." })).url, (await openai({ reply: "Well." })).url]
    return keep(await startGateway(servers, {}, { cortex: { store: join(folder, "store.db") } }))
  }
  const ask = (gateway: TestGateway, key: string, user: string, asked: string = model) =>
    chat(gateway, { user, model: asked }, { headers: { authorization: `Bearer ${key}` } }).then((response) =>
      response.text()
    )

  it("are shown and changed with permission", async () => {
    const gateway = await stored()
    const { page, problems } = await open(gateway, "#/keys")
    const addresses: Array<string> = []
    page.on("request", (request) => addresses.push(request.url()))
    page.on("dialog", (dialog) => void dialog.accept())
    await page.getByText("The store has no keys.").waitFor()

    // The first key, with which this page goes on; each is shown once.
    const create = async (name: string, role: string, fill?: () => Promise<unknown>): Promise<string> => {
      await page.getByRole("button", { name: "New key" }).click()
      const dialog = page.getByRole("dialog", { name: "New key" })
      await dialog.getByLabel("Name").fill(name)
      await dialog.getByLabel("Role").selectOption(role)
      await fill?.()
      if (name === "ann") {
        await picture(page, "new-key-light")
        expect(await violations(page)).toEqual([])
      }
      await page.keyboard.press("Enter")
      const told = page.getByRole("dialog", { name: `The key ${name}` })
      const key = (await told.locator("pre").textContent()) ?? ""
      expect(key).toMatch(/^sk-aic-/)
      await told.getByRole("button", { name: "I have stored it" }).click()
      await page.getByRole("row", { name: new RegExp(`^${name} `) }).waitFor()
      expect(await page.content()).not.toContain(key)
      return key
    }
    const root = await create("ops", "admin")
    await page.getByRole("button", { name: "Sign out ops" }).waitFor()
    const ann = await create("ann", "use", async () => {
      await page.getByRole("textbox", { name: "Models" }).fill("llama3.2*, auto")
      await page.getByText("Limits and quotas").click()
      await page.getByLabel("Requests a minute").fill("600")
      await page.getByLabel("Tokens a day").fill("100000")
    })
    await page.getByText("600 requests a minute, 100,000 tokens a day").waitFor()
    // What the gateway refuses is told in its words.
    await page.getByRole("button", { name: "New key" }).click()
    await page.getByLabel("Name").fill("ann")
    await page.keyboard.press("Enter")
    await page.getByRole("dialog").getByText("There is an API key 'ann' already").waitFor()
    await page.keyboard.press("Escape")
    await page.getByRole("dialog").waitFor({ state: "detached" })

    for (const user of ["carl", "dora", "=1+1"]) await ask(gateway, ann, user)
    await ask(gateway, root, "<img src=x onerror=hacked=1>", "qwen2.5-coder:7b")
    await page.getByRole("link", { name: "Usage" }).click()
    await page.getByRole("row", { name: /^qwen2.5-coder:7b 1 / }).waitFor()
    await page.getByRole("row", { name: /^llama3.2:3b 3 / }).waitFor()
    await page.getByLabel("By", { exact: true }).selectOption("user")
    await page.getByRole("row", { name: /^dora 1 / }).waitFor()
    await page.getByLabel("Show", { exact: true }).selectOption("Requests")
    await page.getByLabel("Last", { exact: true }).selectOption("24 hours")
    await page.getByRole("row", { name: /^carl 1 / }).waitFor()
    expect(await page.locator(".bars canvas").count()).toBe(1)
    const [file] = await Promise.all([page.waitForEvent("download"), page.getByText("Download CSV").click()])
    expect(file.suggestedFilename()).toBe("usage.csv")
    const csv = readFileSync(await file.path(), "utf8")
    expect(csv).toMatch(/^hour,key,key_id,user,model,server,requests,/)
    expect(csv).toMatch(/,ann,[^,]+,carl,llama3.2:3b,/)
    expect(csv).toContain(`"'=1+1"`)
    await page.getByLabel("By", { exact: true }).selectOption("model")
    await page.getByRole("row", { name: /^llama3.2:3b 3 / }).waitFor()
    await picture(page, "usage-light")
    expect(await violations(page)).toEqual([])

    // Who only uses models sees their own usage, and no keys.
    const other = await open(gateway, "#/keys")
    await other.page.getByLabel("API key").fill(ann)
    await other.page.keyboard.press("Enter")
    await other.page.getByRole("button", { name: "Sign out ann" }).waitFor()
    expect(await other.page.getByRole("link", { name: "Keys" }).count()).toBe(0)
    await other.page.getByRole("link", { name: "Usage" }).click()
    await other.page.getByText("The usage of your key.").waitFor()
    await other.page.getByRole("row", { name: /^llama3.2:3b 3 / }).waitFor()
    expect(await other.page.getByText("qwen2.5-coder:7b").count()).toBe(0)

    // Rotated, the text before stays as long as was said; revoked, its page ends too.
    await page.getByRole("link", { name: "Keys" }).click()
    await page.getByRole("button", { name: "Rotate ann" }).click()
    await page.getByLabel("The text before stays valid for").selectOption("a day")
    await page.getByRole("button", { name: "Rotate", exact: true }).click()
    const rotated = (await page.getByRole("dialog").locator("pre").textContent()) ?? ""
    await page.getByRole("button", { name: "I have stored it" }).click()
    expect((await gateway.get("/fleet", { headers: { authorization: `Bearer ${rotated}` } })).status).toBe(200)
    await picture(page, "keys-light")
    await page.getByRole("button", { name: "Revoke ann" }).click()
    await other.page.getByLabel("API key").waitFor()
    await page.getByRole("row", { name: /^ann / }).waitFor({ state: "detached" })
    await page.getByLabel("Revoked ones too").check()
    await page.getByRole("row", { name: /^ann revoked/ }).waitFor()
    expect(await page.evaluate("globalThis.hacked")).toBeUndefined()
    expect(addresses.filter((url) => url.includes("sk-aic"))).toEqual([])
    expect([...problems, ...other.problems]).toEqual([])
  })
})

describe("a hostile model", () => {
  const hostile = [
    "<script>globalThis.hacked = 1</script><img src=x onerror='globalThis.hacked = 2'><iframe src='javascript:hacked=3'></iframe>",
    "[click](javascript:globalThis.hacked=4) [data](data:text/html,<script>hacked=5</script>) [ok](https://example.com/a)",
    "<svg onload='globalThis.hacked=6'></svg> **<b onmouseover=hacked=7>bold</b>**",
    "\u001b]8;;https://evil.example\u0007link\u001b]8;;\u0007 \u001b[2J\u001b[31mred\u0000\u0008",
    "abc\u202egnp.exe\u2066\u2069 \u200fend",
    "`".repeat(3_000),
    "*".repeat(3_000),
    "> ".repeat(2_000),
    "- ".repeat(2_000),
    "|".repeat(2_000),
    "x".repeat(300_000),
    "THE END"
  ].join("\n\n")

  it("does nothing", async () => {
    const server = await ollama({ reply: [hostile], models: [model, "<img src=x onerror=hacked=8>:1b"] })
    const gateway = await serve([server])
    const { hosts, page, problems } = await open(gateway, "#/playground")
    await page.getByLabel("Message", { exact: true }).fill("<script>hacked=9</script>")
    await page.keyboard.press("Enter")
    await page.getByText("first token").waitFor()
    await page.getByText("THE END").waitFor()
    expect(await page.evaluate("globalThis.hacked")).toBeUndefined()
    expect(await page.locator(".answer :is(script, img, iframe, svg:not(.icon), b[onmouseover])").count()).toBe(0)
    const text = (await page.locator(".answer").textContent()) ?? ""
    expect(text).toContain("<script>")
    // biome-ignore lint/suspicious/noControlCharactersInRegex: none of these may be left.
    expect(text).not.toMatch(/[\u0000-\u0008\u001b\u200f\u202a-\u202e\u2066-\u2069]/)
    const wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    expect(wide).toBe(0)
    await page.goto(`${gateway.url}/#/fleet`)
    await page.getByRole("article").waitFor()
    expect(await page.evaluate("globalThis.hacked")).toBeUndefined()
    expect([...hosts]).toEqual([new URL(gateway.url).host])
    expect(problems).toEqual([])
  })

  it("opens only its safe links, as elements", async () => {
    const reply = ["[bad](javascript:alert(1)) [good](https://example.com/a) <https://b.example> `code` **bold**"]
    const gateway = await serve([await ollama({ reply })])
    const { page } = await open(gateway, "#/playground")
    await page.getByLabel("Message", { exact: true }).fill("Hi")
    await page.keyboard.press("Enter")
    await page.locator(".answer strong", { hasText: "bold" }).waitFor()
    const links = await page.locator(".answer a").evaluateAll((all) =>
      // biome-ignore lint/suspicious/noExplicitAny: the DOM is not among the types of this project.
      all.map((link: any) => `${link.href} ${link.rel}`)
    )
    expect(links).toEqual([
      "https://example.com/a noopener noreferrer nofollow",
      "https://b.example/ noopener noreferrer nofollow"
    ])
  })
})

describe("the playground", () => {
  it("runs two models side by side, stops, repeats, and shows the request as code", async () => {
    const one = await ollama({ perToken: 40, reply: "word ".repeat(500) })
    const gateway = await serve([one])
    const { page } = await open(gateway, "#/playground")
    await page.getByRole("button", { name: "Side by side" }).click()
    await page.getByLabel("Model 1").selectOption(model)
    await page.getByLabel("Model 2").selectOption("qwen2.5-coder:7b")
    await page.getByLabel("System prompt").fill("Be brief.")
    await page.getByLabel("Max tokens").fill("400")
    await page.getByLabel("Message", { exact: true }).fill("Count.")
    await page.keyboard.press("Enter")
    await one.waitForChats(2)
    expect(one.chatRequests.map(({ body }) => body.model).sort()).toEqual([model, "qwen2.5-coder:7b"])
    await page.locator(".answer", { hasText: "word" }).nth(1).waitFor()
    await page.getByRole("button", { name: "Stop" }).click()
    await page.getByText("stopped").nth(1).waitFor()
    await eventually(() => one.inFlight() === 0, "the servers are left")
    await one.setBehaviour({ perToken: 1, reply: "Done now." })
    await page.getByRole("button", { name: "Regenerate" }).click()
    await page.locator(".answer", { hasText: "Done now." }).nth(1).waitFor()
    expect(await page.locator(".turn").count()).toBe(1)
    await page.getByRole("slider", { name: /^Top P/ }).fill("0.5")
    await page.getByText("Tools and JSON schema").click()
    await page.getByLabel("Tools (JSON)").fill('[{"type":"function","function":{"name":"weather"}}]')
    await page.getByText("The request as code").click()
    for (const [name, words] of [
      ["curl", "/v1/chat/completions"],
      ["openai", "baseURL"],
      ["aicortex", "createCortex"],
      ["aicortex", '"topP": 0.5'],
      ["aicortex", '"name": "weather"']
    ] as const) {
      await page.getByRole("button", { name, exact: true }).click()
      await page.locator(".as-code pre", { hasText: words }).waitFor()
    }
    await page.getByLabel("Tools (JSON)").fill("{not json")
    await page.getByLabel("Message", { exact: true }).fill("Again")
    await page.keyboard.press("Enter")
    await page.getByText("The list of tools is not JSON").first().waitFor()
    expect(one.chatRequests).toHaveLength(4)
  })

  it("stores conversations: open, continue, retry, rename and delete", async () => {
    const one = await ollama({ reply: "First answer.", perToken: 1 })
    const gateway = await serve([one])
    const { page, problems } = await open(gateway, "#/playground")
    const addresses: Array<string> = []
    page.on("request", (request) => addresses.push(request.url()))
    page.on("dialog", (dialog) => void dialog.accept())
    const say = async (text: string, answer: string) => {
      await page.getByLabel("Message", { exact: true }).fill(text)
      await page.keyboard.press("Enter")
      await page.locator(".turn", { hasText: text }).locator(".answer", { hasText: answer }).waitFor()
      await page.getByRole("button", { name: "Send" }).waitFor()
    }
    const sessions = async () =>
      ((await (await gateway.get("/v1/sessions")).json()) as { data: Array<{ id: string; message_count: number }> })
        .data
    const sent = () => JSON.stringify(one.chatRequests.at(-1)?.body.messages)
    await page.getByLabel("System prompt").fill("Be brief.")
    await say("Who was Ada?", "First answer.")
    await one.setBehaviour({ reply: "Second answer.", perToken: 1 })
    await say("And Grace?", "Second answer.")
    expect(sent()).toMatch(/Be brief.*Who was Ada\?.*First answer.*And Grace\?/)
    expect(sent().match(/Be brief/g)).toHaveLength(1)
    expect(await sessions()).toHaveLength(1)

    // Asked again, the answer takes the place of the one before.
    await one.setBehaviour({ reply: "Another answer.", perToken: 1 })
    await page.getByRole("button", { name: "Regenerate" }).click()
    await page.locator(".turn", { hasText: "And Grace?" }).locator(".answer", { hasText: "Another answer." }).waitFor()
    await page.getByRole("button", { name: "Send" }).waitFor()
    expect(sent()).not.toContain("Second answer.")
    expect(sent()).toContain("First answer.")
    const [kept, ...others] = await sessions()
    expect(others).toEqual([])
    const read = async (id: string) => JSON.stringify(await (await gateway.get(`/v1/sessions/${id}`)).json())
    expect(await read(kept?.id ?? "")).not.toContain("Second answer.")

    // What is broken off is not stored, and yet the next question knows of it.
    await one.setBehaviour({ reply: "slow ".repeat(500), perToken: 40 })
    await page.getByLabel("Message", { exact: true }).fill("Tell me more.")
    await page.keyboard.press("Enter")
    await page.locator(".answer", { hasText: "slow" }).waitFor()
    await page.getByRole("button", { name: "Stop" }).click()
    await page.getByRole("button", { name: "Send" }).waitFor()
    await one.setBehaviour({ reply: "Third answer.", perToken: 1 })
    await say("Shorter.", "Third answer.")
    expect(sent()).toMatch(/Another answer.*Tell me more.*slow.*Shorter/)

    // Another one, and back.
    await page.getByRole("button", { name: "New conversation" }).click()
    await page.getByLabel("System prompt").fill("")
    await say("Something else", "Third answer.")
    expect(sent()).not.toContain("Ada")
    await page.getByRole("button", { name: "Conversations" }).click()
    const list = page.getByRole("complementary", { name: "Conversations" })
    await list.getByRole("button", { name: "Who was Ada?", exact: true }).click()
    await page.locator(".turn", { hasText: "Shorter." }).waitFor()
    expect(await page.locator(".turn").count()).toBe(4)
    await one.setBehaviour({ reply: "Fourth answer.", perToken: 1 })
    await say("Continue.", "Fourth answer.")
    expect(await page.content()).not.toContain(one.url)
    expect(sent()).toMatch(/Be brief.*Ada.*Shorter.*Third answer.*Continue/)
    expect(await sessions()).toHaveLength(2)
    await list.getByRole("button", { name: "Rename Who was Ada?" }).click()
    await list.getByLabel("Title of Who was Ada?").and(page.locator(":focus")).waitFor()
    await page.keyboard.type("Two pioneers")
    await page.keyboard.press("Enter")
    await list.getByRole("button", { name: "Two pioneers", exact: true }).waitFor()
    await picture(page, "conversations-light")
    expect(await violations(page)).toEqual([])
    await list.getByLabel("Filter conversations").fill("pioneers")
    await list.getByRole("button", { name: "Something else", exact: true }).waitFor({ state: "detached" })
    await list.getByRole("button", { name: "Delete Two pioneers" }).click()
    await list.getByText("None fits.").waitFor()
    expect(await page.locator(".turn").count()).toBe(0)
    expect(await sessions()).toHaveLength(1)
    expect(addresses.filter((url) => /Ada|pioneers|brief|answer/i.test(decodeURIComponent(url)))).toEqual([])
    expect(problems).toEqual([])
  })

  it("reports what could not be stored, and continues with what is on the page", async () => {
    const one = await ollama({ reply: "First answer.", perToken: 1 })
    const gateway = await serve([one])
    const { page, problems } = await open(gateway, "#/playground")
    const failing = async (route: Route) => {
      const response = await route.fetch()
      const body = (await response.text()).replace(
        "data: [DONE]",
        ": x-aicortex-warning: session_not_stored\n\ndata: [DONE]"
      )
      // What could not be stored is not there.
      await gateway.get(`/v1/sessions/${response.headers()["x-aicortex-session"]}`, { method: "DELETE" })
      await route.fulfill({ response, body })
    }
    await page.route("**/v1/chat/completions", failing)
    const say = async (text: string) => {
      await page.getByLabel("Message", { exact: true }).fill(text)
      await page.keyboard.press("Enter")
      await page.locator(".turn", { hasText: text }).locator(".answer", { hasText: "answer." }).waitFor()
      await page.getByRole("button", { name: "Send" }).waitFor()
    }
    await say("Who was Ada?")
    await page.getByText("could not store this answer").waitFor()
    expect(await violations(page)).toEqual([])
    await page.unroute("**/v1/chat/completions", failing)
    await say("And Grace?")
    expect(JSON.stringify(one.chatRequests.at(-1)?.body.messages)).toMatch(/Who was Ada\?.*First answer.*And Grace\?/)
    expect(await page.getByText("could not store this answer").count()).toBe(1)
    expect(problems).toEqual([])
  })

  it("shows thinking separately, and sends images", async () => {
    const one = await openai({ reply: { thinking: ["Let me see."], tokens: "Blue." } })
    const gateway = await serve([one])
    const { page } = await open(gateway, "#/playground")
    await page.getByLabel("Model", { exact: true }).selectOption(model)
    const pixel = Buffer.from(
      "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
      "base64"
    )
    await page.locator("input[type=file]").setInputFiles({ name: "a.png", mimeType: "image/png", buffer: pixel })
    await page.getByLabel("Message", { exact: true }).fill("What is this?")
    await page.keyboard.press("Enter")
    await page.locator(".answer", { hasText: "Blue." }).waitFor()
    expect(await page.locator(".thinking").textContent()).toContain("Let me see.")
    expect(JSON.stringify(one.chatRequests[0]?.body)).toContain("image_url")
  })
})

describe("a page that stays open", () => {
  it("unsubscribes after 15 hidden seconds, and subscribes again when it is shown", async () => {
    const gateway = await serve([await ollama({ perToken: 200 })])
    const context = await browser.newContext()
    keep({ [Symbol.asyncDispose]: () => context.close() })
    const page = await context.newPage()
    await page.clock.install()
    const asked: Array<string> = []
    /** Streams of events that are open. */
    let open = 0
    const isStream = (url: string) => new URL(url).pathname === "/events"
    page.on("request", (request) => {
      asked.push(new URL(request.url()).pathname)
      if (isStream(request.url())) open++
    })
    page.on("requestfailed", (request) => {
      if (isStream(request.url())) open--
    })
    /** Chromium without a screen shows every page: this tells the page what a browser would. */
    const turn = (state: "hidden" | "visible") =>
      page.evaluate((value) => {
        // biome-ignore lint/suspicious/noExplicitAny: the DOM is not among the types of this project.
        const { document, Event } = globalThis as any
        Object.defineProperty(document, "visibilityState", { configurable: true, value })
        Object.defineProperty(document, "hidden", { configurable: true, value: value === "hidden" })
        document.dispatchEvent(new Event("visibilitychange"))
      }, state)
    const live = () => page.getByRole("status").filter({ hasText: "Live" })
    await page.goto(`${gateway.url}/#/live`)
    await live().waitFor()
    expect(open).toBe(1)

    // Looked away from for a moment, it goes on.
    await turn("hidden")
    await page.clock.runFor(14_000)
    await turn("visible")
    await page.clock.runFor(20_000)
    expect([open, asked.filter((path) => path === "/events").length]).toEqual([1, 1])

    await turn("hidden")
    await page.clock.runFor(14_000)
    expect(open).toBe(1)
    await page.clock.runFor(2_000)
    await eventually(() => open === 0, "it has left")
    asked.length = 0
    const meanwhile = await chat(gateway, { stream: true })
    await page.clock.runFor(120_000)
    expect(asked).toEqual([])

    await turn("visible")
    await eventually(() => open === 1, "it is back")
    await live().waitFor()
    // What began while nobody looked is there.
    await page.locator(".request.running").waitFor()
    expect(asked).toContain("/fleet")
    await meanwhile.body?.cancel()
  })

  it("does not grow with the number of events", async () => {
    const gateway = await serve([await ollama({ reply: "Hi.", perToken: "burst" })])
    const { page } = await open(gateway, "#/live")
    await page.getByRole("status").filter({ hasText: "Live" }).waitFor()
    const many = async (count: number) => {
      for (let i = 0; i < count; i += 20) {
        await Promise.all(Array.from({ length: 20 }, () => chat(gateway).then((response) => response.text())))
      }
    }
    const elements = () => page.evaluate<number>("document.querySelectorAll('*').length")
    await many(240)
    await page.locator(".request").nth(39).waitFor()
    const before = await elements()
    await many(600)
    await eventually(async () => (await page.locator(".request.running").count()) === 0, "all have ended")
    expect(Math.abs((await elements()) - before)).toBeLessThan(400)
    expect(await page.locator(".request").count()).toBe(40)
  })
})

/** The page of a real `aicortex serve` process in Chromium: the demo model, a server that dies, and a long time. */
import { type Browser, chromium, type Page } from "playwright-core"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { build, makeHome } from "../support/cliProcess.js"
import { useDemoServers } from "../support/demoProcess.js"
import { type FakeServer, startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"

const model = "llama3.2:3b"
/** For how long the page is open in the last test, in its own time; an hour is `AICORTEX_TEST_PAGE_MINUTES=60`. */
const minutes = Number(process.env["AICORTEX_TEST_PAGE_MINUTES"] ?? "9")

let browser: Browser
let url = ""
const servers: Array<FakeServer> = []
const closing: Array<() => Promise<unknown>> = []

beforeAll(async () => {
  build()
  servers.push(
    await startFakeOllama({ models: [model], loaded: [model], perToken: 30, reply: "word ".repeat(100) }),
    await startFakeOpenAI({ models: [model], perToken: 30, reply: "word ".repeat(100) })
  )
  const demo = await useDemoServers()
  closing.push(async () => demo.close())
  // The first one is asked first.
  const urls = [...servers.map(({ url }) => url), `${(await demo.start()).url}/v1`]
  const home = makeHome({ servers: urls.map((url, priority) => ({ url, priority })) })
  const child = home.start(["serve", "--port", "0", "--no-local"])
  const ended = new Promise((resolve) => child.once("exit", resolve))
  closing.push(async () => {
    child.kill("SIGTERM")
    await ended
    await home[Symbol.asyncDispose]()
    await Promise.all(servers.map(({ stop }) => stop()))
  })
  url = await new Promise<string>((resolve, reject) => {
    let said = ""
    const take = (piece: unknown) => {
      said += String(piece)
      const found = /listening on (http:\/\/[\w.]+:\d+)/.exec(said)?.[1]
      if (found !== undefined) resolve(found)
    }
    child.stdout?.on("data", take)
    child.stderr?.on("data", take)
    child.once("exit", (code) => reject(new Error(`serve ended with ${code}: ${said}`)))
  })
  browser = await chromium.launch({
    executablePath: process.env["AICORTEX_TEST_CHROMIUM"] ?? "chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
  })
  closing.push(() => browser.close())
})
afterAll(async () => {
  for (const close of closing.reverse()) await close()
})

const open = async (prepare: (page: Page) => Promise<unknown> = async () => {}, screen = "live"): Promise<Page> => {
  const context = await browser.newContext({ viewport: { width: 1360, height: 900 }, reducedMotion: "reduce" })
  const page = await context.newPage()
  await prepare(page)
  await page.goto(`${url}/#/${screen}`)
  return page
}

describe("the page of aicortex serve", () => {
  it("chats with the demo model, and shows the request", async () => {
    const page = await open(undefined, "playground")
    await page.getByLabel("Model", { exact: true }).first().selectOption("tiny:2m")
    await page.getByLabel("Message", { exact: true }).fill("What is the capital of France?")
    await page.keyboard.press("Enter")
    await page.getByText("Paris").first().waitFor()
    await page.goto(`${url}/#/live`)
    await page.getByText("tiny:2m").first().waitFor()
    await page.context().close()
  })

  it("a server that is killed in mid-answer is shown as resumed within a second", async () => {
    const page = await open()
    await page.getByRole("status").filter({ hasText: "Live" }).waitFor()
    const answer = fetch(`${url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model, stream: true, messages: [{ role: "user", content: "Hi" }] })
    }).then((response) => response.text())
    await page.getByText("streaming").waitFor()
    const [dying] = servers
    await dying?.strike({ kind: "kill", how: "rst" })
    const killed = performance.now()
    await page.getByText("resumed", { exact: true }).waitFor()
    expect(performance.now() - killed).toBeLessThan(1_000)
    expect(await answer).toContain("[DONE]")
    await page.context().close()
  })

  it("does not grow while it is open", async () => {
    const page = await open(async (page) => {
      await page.clock.install()
      // The test is the gateway's events: an hour of them comes in a minute.
      await page.addInitScript(() => {
        const scope = globalThis as never as { EventSource: unknown; sources: Array<EventTarget> }
        scope.sources = []
        scope.EventSource = class extends EventTarget {
          onopen: (() => void) | null = null
          constructor() {
            super()
            scope.sources.push(this)
            queueMicrotask(() => this.onopen?.())
          }
          close() {}
        }
      })
    })
    await page.clock.runFor(2_000)
    await page.getByRole("heading", { level: 1 }).waitFor()
    const devtools = await page.context().newCDPSession(page)
    const minute = async (from: number): Promise<void> => {
      await page.evaluate(
        ({ from, model }) => {
          const { sources } = globalThis as never as { sources: Array<EventTarget> }
          const source = sources.at(-1)
          const tell = (type: string, data: object) =>
            source?.dispatchEvent(new MessageEvent(type, { data: JSON.stringify(data) }))
          for (let i = 0; i < 120; i++) {
            const id = `x-${from * 120 + i}`
            const server = `server-${(i % 2) + 1}`
            const head = {
              id,
              request_id: `req-${id}`,
              at: Date.now(),
              route: "/v1/chat/completions",
              key: null,
              model
            }
            const attempt = { attempt: 1, server, model, began_ms: 1, loads: false, hedge: false }
            tell("request", { kind: "begin", ...head, stream: true })
            tell("request", { kind: "attempt", id, attempt })
            tell("request", { kind: "attempt", id, attempt: { ...attempt, connected_ms: 2, first_token_ms: 9 } })
            const attempts = [{ ...attempt, connected_ms: 2, first_token_ms: 9, ended_ms: 50, outcome: "success" }]
            const end = { ...head, stream: true, attempts, status: 200, duration_ms: 50, first_token_ms: 9, server }
            tell("request", { kind: "end", ...end, tries: 1, prompt_tokens: 9, completion_tokens: 99, error: null })
            tell("download", {
              action: "pull",
              model: `m${i}:1b`,
              server,
              state: "progress",
              status: "",
              at: Date.now()
            })
          }
        },
        { from, model }
      )
      await page.clock.runFor(60_000)
    }
    /** What is left after a collection: the heap in megabytes, and nodes. */
    const size = async () => {
      for (let i = 0; i < 3; i++) await devtools.send("HeapProfiler.collectGarbage")
      const { usedSize } = await devtools.send("Runtime.getHeapUsage")
      const { jsEventListeners, nodes } = await devtools.send("Memory.getDOMCounters")
      return { heap: usedSize / 2 ** 20, nodes, listeners: jsEventListeners }
    }
    // All that is bounded is full after five minutes, which is the longest of its charts.
    const sizes: Array<Awaited<ReturnType<typeof size>>> = []
    for (let now = 0; now < minutes; now++) {
      await minute(now)
      if (now >= 5 && (now - 5) % Math.ceil((minutes - 5) / 4) === 0) sizes.push(await size())
    }
    sizes.push(await size())
    if (process.env["AICORTEX_TEST_PAGE_MINUTES"] !== undefined) process.stdout.write(`${JSON.stringify(sizes)}\n`)
    // The page has shown what it was told.
    await page.clock.runFor(1_000)
    await page.getByText("server-2").first().waitFor()
    expect(await page.locator(".request").count()).toBeGreaterThan(20)
    const [first, last] = [sizes[0], sizes.at(-1)]
    expect(first && last && last.heap - first.heap).toBeLessThan(1)
    expect(first && last && last.nodes - first.nodes).toBeLessThan(200)
    expect(first && last && last.listeners - first.listeners).toBeLessThan(50)
    await page.context().close()
  })
})

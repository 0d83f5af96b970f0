/** The page of the gateway in a real Chromium, over fakes and over the built-in model. */
import { mkdirSync, readdirSync, readFileSync } from "node:fs"
import { createRequire } from "node:module"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { gzipSync } from "node:zlib"
import type { Gateway } from "aicortex"
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { type FakeServer, startFakeOllama, startFakeOpenAI } from "../support/fakeServer.js"
import { startGateway, type TestGateway } from "../support/gateway.js"
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
    if (message.type() === "error" && !/status of 40[0-9]/.test(message.text())) problems.push(message.text())
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

/** What axe-core finds. */
const violations = async (page: Page): Promise<ReadonlyArray<string>> => {
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

const screens = ["fleet", "live", "playground", "connect", "settings", "api"] as const

describe("the page", () => {
  it("is small, and asks no other host for anything", async () => {
    const folder = join(root, "dist/dashboard")
    const sizes = readdirSync(folder).map((name) => gzipSync(readFileSync(join(folder, name)), { level: 9 }).length)
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThan(150 * 1024)
    const gateway = await serve([await ollama()])
    const { hosts, page, problems } = await open(gateway)
    for (const screen of screens) {
      await page.goto(`${gateway.url}/#/${screen}`)
      await page.getByRole("heading", { level: 1 }).waitFor()
    }
    expect([...hosts]).toEqual([new URL(gateway.url).host])
    expect(problems).toEqual([])
  })

  const looks: ReadonlyArray<readonly [string, BrowserContextOptions]> = [
    ["light", { colorScheme: "light" }],
    ["dark", { colorScheme: "dark" }],
    ["phone", { colorScheme: "light", viewport: { width: 390, height: 844 }, hasTouch: true }],
    ["phone-dark", { colorScheme: "dark", viewport: { width: 390, height: 844 } }]
  ]
  it.each(looks)("has no violation of accessibility on any screen (%s)", async (look, options) => {
    const busy = await ollama({ perToken: 25 })
    const broken = await openai({ faults: { kind: "status", code: 503 } })
    const gateway = await serve([broken, await ollama({ faults: [{ kind: "cut", after: 12 }] }), busy])
    const { page, problems } = await open(gateway, "#/fleet", options)
    await page.getByText("Live", { exact: true }).first().waitFor()
    await chat(gateway, { stream: true }).then((response) => response.text())
    await chat(gateway, { model: "nope" })
    const running = [1, 2, 3].map(() => chat(gateway, { stream: true }).then((response) => response.text()))
    await busy.waitForChats(1)
    for (const screen of screens) {
      await page.goto(`${gateway.url}/#/${screen}`)
      await page.getByRole("heading", { level: 1 }).waitFor()
      if (screen === "fleet") await page.getByRole("article").nth(2).waitFor()
      if (screen === "live") {
        await page.getByText("resumed").first().waitFor()
        await page.locator(".request .expand", { hasText: "resumed" }).first().click()
        await page.getByText("Asked for").waitFor()
      }
      if (screen === "api") await page.getByText("/v1/chat/completions", { exact: true }).click()
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

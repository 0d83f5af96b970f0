/** `aicortex/browser` in a page of a real Chromium: over fakes, and over `aicortex serve`. */
import { type ChildProcess, spawn } from "node:child_process"
import { readFile } from "node:fs/promises"
import { createServer, type Server } from "node:http"
import { type AddressInfo, connect, createServer as createTcpServer } from "node:net"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { type Browser, chromium, type Page } from "playwright-core"
import { afterAll, assert, beforeAll, describe, expect, it } from "vitest"
import { unusedPort } from "../support/fakeServer.js"
import { type Fake, inOrder, model, useFleet } from "../support/fleet.js"

const fleet = useFleet()
const root = fileURLToPath(new URL("../..", import.meta.url))
const bundle = join(root, "dist/bundle")
const words = ["It", " is", " blue", ", because", " of", " 空", " and", " light", "."]
const whole = words.join("")

const listening = (server: Server) =>
  new Promise<number>((resolve) => server.listen(0, "127.0.0.1", () => resolve((server.address() as AddressInfo).port)))

/** What the page does, in its own words: everything goes through `window.chat`. */
const html = `<!doctype html><meta charset="utf-8"><title>Chat</title>
<p id="answer"></p>
<script type="module">
  import * as aicortex from "/browser.js"
  window.aicortex = aicortex
  window.cortexOf = (options) => aicortex.createCortex(options)
</script>`

const foreignHost = "chat.example.com"
/** The origin of a page that a server allows only if it is told to. */
let foreign: string
let browser: Browser
let site: Server
let origin: string

const serveFile = async (path: string): Promise<readonly [string, string | Buffer] | undefined> => {
  if (path === "/") return ["text/html; charset=utf-8", html]
  if (!/^\/[\w.-]+\.js$/.test(path)) return undefined
  return ["text/javascript", await readFile(join(bundle, path.slice(1)))]
}

beforeAll(async () => {
  site = createServer((request, response) => {
    void serveFile(request.url ?? "").then((file) => {
      if (file === undefined) response.writeHead(404).end()
      else response.writeHead(200, { "content-type": file[0] }).end(file[1])
    })
  })
  origin = `http://127.0.0.1:${await listening(site)}`
  foreign = origin.replace("127.0.0.1", foreignHost)
  browser = await chromium.launch({
    executablePath: process.env["AICORTEX_TEST_CHROMIUM"] ?? "chromium",
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-dev-shm-usage",
      // The same site under a name that nobody takes for this machine's.
      `--host-resolver-rules=MAP ${foreignHost} 127.0.0.1`
    ]
  })
}, 120_000)

afterAll(async () => {
  await browser?.close()
  site?.closeAllConnections()
  site?.close()
})

const open = async (from = origin): Promise<Page> => {
  const context = await browser.newContext()
  fleet.keep({ [Symbol.asyncDispose]: () => context.close() })
  const page = await context.newPage()
  await page.goto(from)
  await page.waitForFunction("window.cortexOf !== undefined")
  return page
}

interface Outcome {
  readonly text?: string
  readonly restarts?: number
  readonly servers?: ReadonlyArray<string>
  readonly tag?: string
  readonly message?: string
}

/** Streams one answer into the page. */
const stream = (page: Page, servers: ReadonlyArray<object | string>, options: object = {}): Promise<Outcome> =>
  page.evaluate(
    async ([servers, model, options]) => {
      // biome-ignore lint/suspicious/noExplicitAny: what the page has.
      const cortex = (globalThis as any).cortexOf({ servers, model, ...options })
      // biome-ignore lint/suspicious/noExplicitAny: the DOM is not among the types of this project.
      const answer = (globalThis as any).document.querySelector("#answer")
      answer.textContent = ""
      const requests: Array<string> = []
      let restarts = 0
      try {
        for await (const event of await cortex.chat("Why is the sky blue?", { stream: true })) {
          if (event.type === "token") answer.textContent += event.content
          if (event.type === "meta" && event.meta.server !== undefined) requests.push(event.meta.server)
          if (event.type === "restart") restarts++
        }
        return { text: answer.textContent, servers: requests, restarts }
      } catch (error) {
        const { _tag, message } = error as { readonly _tag: string; readonly message: string }
        return { tag: _tag, message, text: answer.textContent }
      } finally {
        await cortex.close()
      }
    },
    [servers, model, options] as const
  )

type Options = Parameters<typeof fleet.ollama>[0] & Parameters<typeof fleet.openai>[0]
const protocols: ReadonlyArray<readonly [string, (options?: Options) => Promise<Fake>]> = [
  ["Ollama", (options) => fleet.ollama({ reply: words, ...options })],
  ["vLLM", (options) => fleet.openai({ reply: words, flavour: "vllm", ...options })]
]

describe.each(protocols)("a page over two servers, %s", (_, begin) => {
  it("chats, keeps sessions, and finds models and servers", async () => {
    const servers = inOrder(await begin(), await begin())
    const page = await open()
    const result = await page.evaluate(
      async ([servers, model]) => {
        // biome-ignore lint/suspicious/noExplicitAny: what the page has.
        const cortex = (globalThis as any).cortexOf({ servers, model })
        const session = await cortex.Session.create()
        const text = await cortex.chat("Why?", { session })
        await cortex.chat("And why that?", { session })
        return {
          text,
          turns: (await session.history()).length,
          found: await cortex.searchModels(model),
          reachable: (await cortex.listServers()).map((server: { readonly reachable: boolean }) => server.reachable),
          best: (await cortex.bestServer(model)).url,
          params: (await cortex.getLlmParams(model)).model
        }
      },
      [servers, model] as const
    )
    expect(result).toMatchObject({ text: whole, turns: 4, found: [model], reachable: [true, true], params: model })
    expect(servers.map(({ url }) => url)).toContain(result.best)
  })

  it("streams, is interrupted, and continues with the other server", async () => {
    const cut = await begin({ faults: { kind: "cut", after: 4 } })
    const well = await begin()
    const page = await open()
    expect(await stream(page, inOrder(well))).toMatchObject({ text: whole, restarts: 0 })
    expect(await stream(page, inOrder(cut, well))).toEqual({
      text: whole,
      restarts: 0,
      servers: [cut.url, well.url]
    })
    assert.strictEqual(await page.textContent("#answer"), whole)
  })

  it("cancels the request when the page is closed", async () => {
    const stalling = await begin({ faults: { kind: "stall", after: 2 } })
    const page = await open()
    void stream(page, inOrder(stalling)).catch(() => {})
    await stalling.waitForChats(1)
    await page.waitForFunction("document.querySelector('#answer').textContent !== ''")
    await page.close()
    // The browser asks first whether it may.
    assert.isNumber(await stalling.chatRequests.find(({ method }) => method === "POST")?.closedByClient)
  })
})

describe("a page over `aicortex serve`", () => {
  /** A gateway of its own process; ends with the test. */
  const serve = async (upstream: Fake, ...flags: ReadonlyArray<string>): Promise<string> => {
    const port = await unusedPort()
    const args = ["serve", "--port", String(port), ...flags]
    const child: ChildProcess = spawn(process.execPath, [join(root, "dist/bin.js"), ...args], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { PATH: process.env["PATH"], HOME: "/nonexistent", AICORTEX_STATE: "off", AICORTEX_SERVERS: upstream.url }
    })
    let said = ""
    child.stdout?.on("data", (text) => {
      said += text
    })
    child.stderr?.on("data", (text) => {
      said += text
    })
    fleet.keep({
      [Symbol.asyncDispose]: () =>
        new Promise<void>((resolve) => {
          if (child.exitCode !== null) return resolve()
          child.once("exit", () => resolve())
          child.kill("SIGTERM")
        })
    })
    const url = `http://127.0.0.1:${port}`
    const ended = new Promise<never>((_, reject) =>
      child.once("exit", (code) => reject(new Error(`serve ended with ${code}: ${said}`)))
    )
    const isUp = async (): Promise<void> => {
      const answer = await fetch(`${url}/health`).catch(() => undefined)
      if (answer?.ok !== true) return new Promise((resolve) => setTimeout(resolve, 50)).then(isUp)
    }
    await Promise.race([isUp(), ended])
    return url
  }

  /** Lets so many bytes of an answer to a chat through, then drops the connection: a gateway that dies. */
  const dyingAfter = async (url: string, bytes: number): Promise<string> => {
    const { hostname, port } = new URL(url)
    const proxy = createTcpServer((client) => {
      const upstream = connect(Number(port), hostname)
      let isChat = false
      let left = bytes
      client.on("data", (part) => {
        isChat ||= /^POST \/(api|v1)\/chat/m.test(part.toString("latin1"))
        upstream.write(part)
      })
      upstream.on("data", (part) => {
        client.write(isChat ? part.subarray(0, left) : part)
        if (isChat) left -= part.length
        if (left <= 0) client.end(() => upstream.destroy())
      })
      for (const [one, other] of [
        [client, upstream],
        [upstream, client]
      ] as const) {
        one.on("error", () => other.destroy())
        one.on("close", () => other.destroy())
      }
    })
    const own = await new Promise<number>((resolve) =>
      proxy.listen(0, "127.0.0.1", () => resolve((proxy.address() as AddressInfo).port))
    )
    fleet.keep({ [Symbol.asyncDispose]: async () => void proxy.close() })
    return `http://127.0.0.1:${own}`
  }

  it("that allows it: chats, streams, loses its gateway, and continues with another", async () => {
    const upstream = await fleet.ollama({ reply: words, perToken: 20 })
    const [first, second] = await Promise.all([serve(upstream, "--cors", origin), serve(upstream, "--cors", origin)])
    const page = await open()
    expect(await stream(page, [first])).toMatchObject({ text: whole })
    const dying = await dyingAfter(first, 700)
    const servers = [
      { url: dying, priority: 0 },
      { url: second, priority: 1 }
    ]
    expect(await stream(page, servers)).toMatchObject({ text: whole, servers: [dying, second] })
  })

  it("that does not allow it: the error lists both possibilities and the flag, which works", async () => {
    const upstream = await fleet.ollama({ reply: words })
    const page = await open(foreign)
    const gateway = await serve(upstream)
    const { message, tag } = await stream(page, [{ url: gateway, protocol: "ollama" }], {
      defaults: { maxRetries: 1 }
    })
    assert.strictEqual(tag, "AllServersFailed")
    for (const text of [gateway, "cannot be reached", "CORS", `aicortex serve --cors ${foreign}`]) {
      assert.include(message, text)
    }
    expect(await stream(page, [await serve(upstream, "--cors", foreign)])).toMatchObject({ text: whole })
  })
})

describe("failures that the browser does not explain", () => {
  it("a page over https may not ask a server over http", async () => {
    const context = await browser.newContext()
    fleet.keep({ [Symbol.asyncDispose]: () => context.close() })
    const page = await context.newPage()
    await page.route("https://chat.example.com/**", async (route) => {
      const file = await serveFile(new URL(route.request().url()).pathname)
      await (file === undefined
        ? route.fulfill({ status: 404 })
        : route.fulfill({ contentType: file[0], body: file[1] }))
    })
    await page.goto("https://chat.example.com/")
    await page.waitForFunction("window.cortexOf !== undefined")
    const { message } = await stream(page, [{ url: "http://gpu-1.example.com:11434", protocol: "ollama" }], {
      defaults: { maxRetries: 1 }
    })
    assert.include(message, "mixed content")
  })

  it("an Ollama that does not allow the page's origin, and one that is down", async () => {
    const page = await open(foreign)
    const ollama = await fleet.ollama({ reply: words })
    for (const url of [ollama.url, `http://127.0.0.1:${await unusedPort()}`]) {
      const { message } = await stream(page, [{ url, protocol: "ollama" }], { defaults: { maxRetries: 1 } })
      assert.include(message, `OLLAMA_ORIGINS=${foreign}`)
    }
    assert.isNotEmpty(ollama.requests)
    assert.isEmpty(ollama.requests.filter(({ status }) => status !== 403))
  })
})

it("keeps the lists of models in localStorage, and asks again once they are old", async () => {
  const server = await fleet.ollama({ reply: words })
  const lists = () => server.requests.filter(({ path, method }) => path === "/api/tags" && method === "GET").length
  const page = await open()
  await stream(page, [server.url])
  const first = lists()
  await page.reload()
  await page.waitForFunction("window.cortexOf !== undefined")
  expect(await stream(page, [server.url])).toMatchObject({ text: whole })
  assert.strictEqual(lists(), first)
  await stream(page, [server.url], { discoveryTtl: 1 })
  assert.isAbove(lists(), first)
})

import { spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { rootCertificates } from "node:tls"
import { fileURLToPath } from "node:url"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { startFakeOllama } from "../support/fakeServer.js"
import { useKeep } from "../support/keep.js"

const keep = useKeep()
const root = fileURLToPath(new URL("../..", import.meta.url))
const bin = join(root, "dist/bin.js")
const home = mkdtempSync(join(tmpdir(), "aicortex-network-"))
const file = join(home, "config.json")
const pem = join(home, "ca.pem")
const model = "m:1b"

beforeAll(() => {
  const built = spawnSync(process.execPath, [join(root, "scripts/setup.mjs")], { encoding: "utf8" })
  expect(built.status, built.stderr).toBe(0)
  writeFileSync(pem, rootCertificates[0] ?? "")
}, 120_000)
afterAll(() => rmSync(home, { recursive: true, force: true }))

const env = { PATH: process.env["PATH"] ?? "", HOME: home, AICORTEX_CONFIG: file }
const config = (settings: object, more: Record<string, string>, ...args: ReadonlyArray<string>) => {
  writeFileSync(file, JSON.stringify(settings))
  const { status, stdout, stderr } = spawnSync(process.execPath, [bin, "config", ...args], {
    encoding: "utf8",
    env: { ...env, ...more }
  })
  expect(status, stderr).toBe(0)
  return stdout
}

describe("aicortex config", () => {
  it.each<[string, object, Record<string, string>, RegExp, string | false, string]>([
    ["none", {}, {}, /^proxy +off +default$/m, false, "default"],
    [
      "the file's, without its password",
      { proxy: "http://me:s3cret@proxy:3128" },
      {},
      /^proxy +http:\/\/…@proxy:3128 +the file$/m,
      "http://…@proxy:3128",
      "the file"
    ],
    [
      "the environment's, before the file's",
      { proxy: "http://other" },
      { AICORTEX_PROXY: "http://s3cret@env:1", NO_PROXY: "a.example, b" },
      /^proxy +http:\/\/…@env:1 +AICORTEX_PROXY$/m,
      "http://…@env:1",
      "AICORTEX_PROXY"
    ],
    [
      "off",
      { proxy: "http://other" },
      { AICORTEX_PROXY: "off" },
      /^proxy +off +AICORTEX_PROXY$/m,
      false,
      "AICORTEX_PROXY"
    ]
  ])("shows the effective proxy: %s", (_, settings, more, line, shown, origin) => {
    const text = config(settings, more)
    expect(text).toMatch(line)
    const json = config(settings, more, "--json")
    const reported = JSON.parse(json)
    expect(reported.settings.proxy).toBe(shown)
    expect(reported.origins.proxy).toBe(origin)
    expect(text + json).not.toContain("s3cret")
  })

  it("shows whether there are custom certificates", () => {
    expect(config({}, {})).toMatch(/^ca +0 certificate files +default$/m)
    expect(config({ ca: pem }, {})).toMatch(/^ca +1 certificate files? +the file$/m)
    expect(JSON.parse(config({ ca: [pem, pem] }, {}, "--json"))).toMatchObject({ origins: { ca: "the file" } })
  })
})

describe("aicortex serve", () => {
  const serve = async (settings: object, ...args: ReadonlyArray<string>) => {
    writeFileSync(file, JSON.stringify(settings))
    const child = spawn(process.execPath, [bin, "serve", "--port", "0", "--json", ...args], {
      env,
      stdio: ["ignore", "pipe", "pipe"]
    })
    const ended = once(child, "exit")
    keep({
      [Symbol.asyncDispose]: async () => {
        child.kill("SIGKILL")
        await ended
      }
    })
    let said = ""
    child.stderr.on("data", (part) => {
      said += part
    })
    const listens = async () => {
      for await (const line of createInterface({ input: child.stdout })) {
        const [, url] = /"url": *"([^"]+)"/.exec(line) ?? []
        if (url !== undefined) return url
      }
      await ended
      throw new Error(said)
    }
    return listens()
  }
  const ask = (url: string) =>
    fetch(`${url}/api/chat`, {
      method: "POST",
      body: JSON.stringify({ model, stream: false, messages: [{ role: "user", content: "Hi" }] })
    })

  it.each([
    ["a flag", {}, ["--max-retries", "2"], 2],
    ["the file", { gateway: { maxRetries: 3 } }, [], 3],
    ["a flag, before the file", { gateway: { maxRetries: 3 } }, ["--max-retries", "1"], 1]
  ] as const)("the number of attempts comes from %s", async (_, settings, args, times) => {
    const server = keep(await startFakeOllama({ models: [model], faults: { kind: "status", code: 500 } }))
    const url = await serve({ ...settings, servers: [server.url] }, ...args)
    const refused = await ask(url)
    expect([refused.status, server.chatRequests.length]).toEqual([502, times])
  })

  it("uses the proxy and the certificate authorities of flags", async () => {
    const server = keep(await startFakeOllama({ models: [model], reply: "Through.", exposed: true }))
    const requests: Array<string> = []
    const proxy = createServer((request, response) => {
      requests.push(request.url ?? "")
      const { pathname } = new URL(request.url ?? "")
      const parts: Array<Buffer> = []
      request.on("data", (part) => parts.push(part))
      request.on("end", async () => {
        const body = parts.length === 0 ? {} : { body: Buffer.concat(parts).toString() }
        const answer = await fetch(`${server.url}${pathname}`, { method: request.method ?? "GET", ...body })
        response.writeHead(answer.status).end(await answer.text())
      })
    })
    await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve))
    keep({
      [Symbol.asyncDispose]: async () => {
        proxy.closeAllConnections()
        await new Promise((resolve) => proxy.close(resolve))
      }
    })
    const address = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`
    // Nobody but the proxy knows where that is.
    const settings = { servers: ["http://gpu.invalid:11434"] }
    const url = await serve(settings, "--proxy", address, "--ca", pem)
    const answer = await ask(url)
    expect(await answer.json()).toMatchObject({ message: { content: "Through." } })
    expect(requests).toContain("http://gpu.invalid:11434/api/chat")
    const count = requests.length
    const without = await serve({ ...settings, proxy: address }, "--proxy", "off")
    expect((await ask(without)).status).toBeGreaterThanOrEqual(400)
    expect(requests.length).toBe(count)
    await expect(serve({}, "--ca", join(home, "none.pem"))).rejects.toThrow("none.pem")
    await expect(serve({}, "--proxy", "ftp://x")).rejects.toThrow(/proxy/)
  })
})

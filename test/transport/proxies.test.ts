import { execFileSync } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { createServer, request as forward, type Server } from "node:http"
import { createServer as createSecure } from "node:https"
import { type AddressInfo, connect } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Redacted from "effect/Redacted"
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest"
import type { CortexOptions } from "../../src/promise.js"
import { proxyOf } from "../../src/transport/proxies.js"
import { eventsOf, failure, model, textOf, useFleet } from "../support/fleet.js"
import { unusedPort } from "../support/ports.js"

const fleet = useFleet()
const home = mkdtempSync(join(tmpdir(), "aicortex-proxies-"))
const key = join(home, "key.pem")
const certificate = join(home, "certificate.pem")

beforeAll(() => {
  const names = "subjectAltName=DNS:gpu.internal,IP:127.0.0.1"
  const args = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=gpu.internal"]
  execFileSync("openssl", [...args, "-addext", names, "-keyout", key, "-out", certificate], { stdio: "ignore" })
})
afterAll(() => rmSync(home, { recursive: true, force: true }))
afterEach(() => vi.unstubAllEnvs())

const opened = async (server: Server) => {
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  return fleet.keep({
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      server.close()
    }
  })
}

/** A proxy that takes everything to one port of this machine, whatever host it is asked for. */
const startProxy = async (to: number, password?: string) => {
  const requests: Array<string> = []
  const allowed = (given: string | undefined) =>
    password === undefined || given === `Basic ${Buffer.from(password).toString("base64")}`
  const server = createServer((request, response) => {
    requests.push(`${request.method} ${request.url}`)
    if (!allowed(request.headers["proxy-authorization"])) {
      response.writeHead(407).end()
      return
    }
    const { pathname, search } = new URL(request.url ?? "")
    const { method, headers } = request
    const on = forward({ port: to, path: pathname + search, method, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers)
      answer.pipe(response)
    })
    on.on("error", () => response.destroy())
    request.pipe(on)
  })
  server.on("connect", (request, socket) => {
    requests.push(`CONNECT ${request.url}`)
    socket.on("error", () => {})
    if (!allowed(request.headers["proxy-authorization"])) {
      socket.end("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
      return
    }
    const on = connect(to, "127.0.0.1", () => {
      socket.write("HTTP/1.1 200 Connection Established\r\n\r\n")
      on.pipe(socket)
      socket.pipe(on)
    })
    on.on("error", () => socket.destroy())
    socket.on("close", () => on.destroy())
  })
  const { port } = await opened(server)
  return { url: `http://127.0.0.1:${port}`, port, asked: requests }
}

type Protocol = "ollama" | "openai"

/** The same server, over TLS. */
const startSecure = async (protocol: Protocol) => {
  const plain = await fleet[protocol]({ reply: "Hello" })
  const server = createSecure({ key: readFileSync(key), cert: readFileSync(certificate) }, (request, response) => {
    const { headers, method, url } = request
    const on = forward({ port: plain.port, path: url, method, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers)
      answer.pipe(response)
    })
    on.on("error", () => response.destroy())
    request.pipe(on)
  })
  return (await opened(server)).port
}

describe.each(["ollama", "openai"] as const)("a proxy (%s)", (protocol) => {
  it.each<[string, (url: string) => CortexOptions, (url: string) => { readonly [name: string]: string }]>([
    ["the option", (url: string) => ({ proxy: url }), () => ({})],
    ["an option with a password", (url: string) => ({ proxy: { http: Redacted.make(url) } }), () => ({})],
    ["HTTP_PROXY", () => ({}), (url: string) => ({ HTTP_PROXY: url })],
    ["http_proxy", () => ({}), (url: string) => ({ http_proxy: url })],
    ["AICORTEX_PROXY", () => ({}), (url: string) => ({ AICORTEX_PROXY: url })]
  ])("forwards requests to HTTP servers (%s)", async (_, options, variables) => {
    const server = await fleet[protocol]({ reply: "Hello" })
    const proxy = await startProxy(server.port, "user:pass word")
    const url = proxy.url.replace("//", "//user:pass%20word@")
    const file = join(home, "config.json")
    writeFileSync(file, "{}")
    for (const [name, value] of Object.entries(variables(url))) vi.stubEnv(name, value)
    const cortex = fleet.cortex([{ url: "http://gpu.internal:8080", protocol }], { ...options(url), configFile: file })
    expect(await cortex.listServers()).toMatchObject([{ reachable: true, models: [model] }])
    expect(await cortex.complete("Hi", { maxRetries: 1 })).toMatchObject({ text: "Hello", attempts: [] })
    expect(textOf(await eventsOf(await cortex.chat("Hi", { stream: true, maxRetries: 1 })))).toBe("Hello")
    expect(proxy.asked.every((one) => /^(GET|POST) http:\/\/gpu\.internal:8080\//.test(one))).toBe(true)
    expect(server.requests.some(({ headers }) => "proxy-authorization" in headers && protocol === "openai")).toBe(
      protocol === "openai"
    )
  })

  it("forwards requests to HTTPS servers, whose certificates are checked", async () => {
    const proxy = await startProxy(await startSecure(protocol), "user:pw")
    const server = { url: "https://gpu.internal", protocol }
    const through = proxy.url.replace("//", "//user:pw@")
    const cortex = fleet.cortex([server], { proxy: through, ca: certificate })
    expect(await cortex.complete("Hi", { maxRetries: 1 })).toMatchObject({ text: "Hello", attempts: [] })
    expect(new Set(proxy.asked)).toEqual(new Set(["CONNECT gpu.internal:443"]))
    const distrustful = fleet.cortex([server], { proxy: through })
    const [found] = await distrustful.listServers()
    expect(found).toMatchObject({ reachable: false })
    expect(found?.problem).toContain("certificate that it signed itself")
  })

  it.each(["http://gpu.internal", "https://gpu.internal"])("that is down is named as the cause (%s)", async (url) => {
    const gone = `127.0.0.1:${await unusedPort()}`
    const cortex = fleet.cortex([{ url, protocol }], { proxy: `http://user:secret@${gone}` })
    const error = await failure(cortex.complete("Hi", { maxRetries: 1 }))
    expect(error).toMatchObject({ _tag: "AllServersFailed", attempts: [{ reason: "refused" }] })
    expect(error.message).toContain(`(through the proxy http://${gone})`)
    const [found] = await cortex.listServers()
    expect(found?.problem).toBe(`could not be asked: the proxy http://${gone} refused the connection`)
    expect(error.message + found?.problem).not.toContain("secret")
  })

  it("that requires a password is named as the cause, without the password", async () => {
    const server = await fleet[protocol]({ reply: "Hello" })
    const proxy = await startProxy(server.port, "user:right")
    const through = proxy.url.replace("//", "//user:wr0ng@")
    for (const url of ["http://gpu.internal", "https://gpu.internal"]) {
      const cortex = fleet.cortex([{ url, protocol }], { proxy: through })
      const error = await failure(cortex.complete("Hi", { maxRetries: 1 }))
      expect(error.message).toMatch(/407/)
      expect(error.message).not.toContain("wr0ng")
    }
    expect(server.requests).toEqual([])
  })

  it.each<[string, object, { readonly [name: string]: string }]>([
    ["loopback", {}, {}],
    ["off by the option", { proxy: false }, {}],
    ["off by AICORTEX_PROXY", {}, { AICORTEX_PROXY: "off" }]
  ])("is bypassed (%s)", async (_, options, variables) => {
    const server = await fleet[protocol]({ reply: "Hello" })
    const proxy = await startProxy(server.port)
    const file = join(home, "config.json")
    writeFileSync(file, "{}")
    for (const [name, value] of Object.entries({ HTTP_PROXY: proxy.url, ...variables })) vi.stubEnv(name, value)
    const cortex = fleet.cortex([server], { ...options, configFile: file })
    expect(await cortex.complete("Hi", { maxRetries: 1 })).toMatchObject({ text: "Hello" })
    expect(proxy.asked).toEqual([])
  })

  it("is used for this machine too if configured", async () => {
    const server = await fleet[protocol]({ reply: "Hello" })
    const proxy = await startProxy(server.port)
    const cortex = fleet.cortex([server], { proxy: { http: proxy.url, loopback: true } })
    expect(await cortex.complete("Hi", { maxRetries: 1 })).toMatchObject({ text: "Hello" })
    expect(proxy.asked.length).toBeGreaterThan(1)
  })

  it("a custom certificate authority is trusted without a proxy too, from a file of settings", async () => {
    const port = await startSecure(protocol)
    const file = join(home, "trusted.json")
    writeFileSync(
      file,
      JSON.stringify({ ca: [certificate], servers: [{ url: `https://127.0.0.1:${port}`, protocol }] })
    )
    const cortex = fleet.cortex([], { configFile: file, servers: undefined })
    expect(await cortex.complete("Hi", { maxRetries: 1 })).toMatchObject({ text: "Hello" })
  })
})

describe("NO_PROXY", () => {
  const through = (no: string, origin: string) =>
    proxyOf({ http: Redacted.make("http://p"), https: undefined, no, loopback: false }, origin) !== undefined
  it.each([
    ["", "http://gpu.internal", true],
    ["*", "http://gpu.internal", false],
    ["gpu.internal", "http://gpu.internal:8080", false],
    ["internal", "http://gpu.internal", false],
    [".internal", "http://gpu.internal", false],
    ["*.internal", "http://gpu.internal", false],
    ["other, GPU.internal", "http://gpu.internal", false],
    ["gpu.internal:8080", "http://gpu.internal:8080", false],
    ["gpu.internal:8080", "http://gpu.internal", true],
    ["pu.internal", "http://gpu.internal", true],
    ["10.0.0.1", "http://10.0.0.1:11434", false],
    ["fd00::1", "http://[fd00::1]:11434", false],
    ["", "http://localhost:1", false],
    ["", "http://127.3.2.1:1", false],
    ["", "http://[::1]:1", false],
    ["", "https://gpu.internal", true]
  ])("'%s' and %s", (no, origin, expected) => {
    expect(through(no, origin)).toBe(expected && !origin.startsWith("https:"))
  })
})

describe("invalid settings", () => {
  it.each<[string, object, string]>([
    ["no address", { proxy: "socks5://p" }, "proxy"],
    ["an empty one", { proxy: "" }, "proxy"],
    ["an unknown field", { proxy: { ftp: "http://p" } }, "proxy.ftp"],
    ["a number", { proxy: 1 }, "proxy"],
    ["a file that is not there", { ca: join(home, "missing.pem") }, "ca"],
    ["a file that is none", { ca: fileURL() }, "ca"]
  ])("%s", async (_, options, field) => {
    const cortex = fleet.cortex(["http://127.0.0.1:9"], options)
    expect(await failure(cortex.listServers())).toMatchObject({ _tag: "InvalidConfig", field })
  })

  it("never show a password", async () => {
    const cortex = fleet.cortex(["http://127.0.0.1:9"], { proxy: "ftp://user:s3cret@p" })
    expect((await failure(cortex.listServers())).message).not.toContain("s3cret")
  })
})

function fileURL(): string {
  const file = join(home, "no-certificate.pem")
  writeFileSync(file, "nothing")
  return file
}

describe("addresses in environment variables", () => {
  it.each([
    [`"0.0.0.0:11434"`, "http://127.0.0.1:11434"],
    ["'http://gpu-1:8000'", "http://gpu-1:8000"],
    [`  " gpu-1 " `, "http://gpu-1:11434"],
    [":8000", "http://127.0.0.1:8000"],
    ["::1", "http://[::1]:11434"],
    ["[::1]:8000", "http://[::1]:8000"],
    ["::", "http://[::1]:11434"],
    ["0.0.0.0", "http://127.0.0.1:11434"]
  ])("OLLAMA_HOST %s, and AICORTEX_SERVERS", async (value, url) => {
    const file = join(home, "empty.json")
    writeFileSync(file, "{}")
    const found = async () =>
      (await fleet.cortex([], { configFile: file, servers: undefined }).listServers()).map((one) => one.url)
    vi.stubEnv("OLLAMA_HOST", value)
    expect(await found()).toEqual([url])
    vi.stubEnv("AICORTEX_SERVERS", `${value}, "http://127.0.0.1:9"`)
    expect(await found()).toEqual([url, "http://127.0.0.1:9"])
  })

  it("a number alone is not an address", async () => {
    vi.stubEnv("OLLAMA_HOST", "11434")
    const file = join(home, "empty.json")
    writeFileSync(file, "{}")
    const error = await failure(fleet.cortex([], { configFile: file, servers: undefined }).listServers())
    expect(error).toMatchObject({ _tag: "InvalidConfig" })
    expect(error.message).toContain(":11434")
  })
})

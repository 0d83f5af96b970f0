/** Servers whose address leads to no model server: what another attempt cannot change is not tried again. */
import { execFileSync } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { createServer, type RequestListener, type Server } from "node:http"
import { createServer as createSecure } from "node:https"
import { createRequire } from "node:module"
import { type AddressInfo, createServer as createTcpServer, type Socket } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { it as effectIt } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest"
import * as Chat from "../../src/Chat.js"
import * as Cortex from "../../src/Cortex.js"
import { AllServersFailed } from "../../src/promise.js"
import { chats, eventsOf, type Fake, failure, model, textOf, useFleet } from "../support/fleet.js"
import { startGateway } from "../support/gateway.js"
import { unusedPort } from "../support/ports.js"

const fleet = useFleet()
/** The object that Node itself looks names up with: an ES module has a copy of its functions. */
const dns = createRequire(import.meta.url)("node:dns") as typeof import("node:dns")
const home = mkdtempSync(join(tmpdir(), "aicortex-addresses-"))
const key = join(home, "key.pem")
const certificate = join(home, "certificate.pem")

beforeAll(() => {
  const args = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=gpu.internal"]
  execFileSync("openssl", [...args, "-keyout", key, "-out", certificate], { stdio: "ignore" })
})
afterAll(() => rmSync(home, { recursive: true, force: true }))
afterEach(() => vi.restoreAllMocks())

/** An attempt that were made again would come after ten minutes: no test here lasts so long. */
const retryBackoff = 600_000
const reply = "Here I am."

/** What stands at an address: how often it was asked to answer, which is not counted where nothing can be read. */
interface Place {
  readonly url: string
  readonly asked?: () => number
}

const opened = async (server: Server): Promise<number> => {
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  fleet.keep({
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      server.close()
    }
  })
  return (server.address() as AddressInfo).port
}

const site = async (listener: RequestListener): Promise<Required<Place>> => {
  let asked = 0
  const port = await opened(
    createServer((request, response) => {
      let body = ""
      request.setEncoding("utf8").on("data", (part: string) => (body += part))
      request.on("end", () => {
        // Looking for an API, its paths are asked with nothing.
        if (body.includes(model)) asked++
        listener(request, response)
      })
    })
  )
  return { url: `http://127.0.0.1:${port}`, asked: () => asked }
}

/** A port that does this with each request; one that has a body is counted. */
const raw = async (answer: (socket: Socket) => void): Promise<Required<Place>> => {
  let asked = 0
  const sockets = new Set<Socket>()
  const server = createTcpServer((socket) => {
    sockets.add(socket)
    socket.on("error", () => {})
    socket.once("data", (bytes) => {
      if (bytes.includes(model)) asked++
      answer(socket)
    })
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  fleet.keep({
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy()
      server.close()
    }
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked: () => asked }
}

const page = "<!doctype html>\n<html><head><title>Welcome!</title></head><body>It works.</body></html>\n"
const answering = (status: number, type: string, body: string) => () =>
  site((_, response) => response.writeHead(status, { "content-type": type }).end(body))

/** From now on these names are resolved so, each time by the next of the codes; `undefined`: to this machine. */
const resolve = (names: { readonly [name: string]: () => string | undefined }) => {
  const lookup = dns.lookup
  vi.spyOn(dns, "lookup").mockImplementation(((
    name: string,
    options: object,
    done: (...all: Array<unknown>) => void
  ) => {
    const next = names[name]
    if (next === undefined) return lookup(name, options, done as never)
    const code = next()
    if (code === undefined) return lookup("127.0.0.1", options, done as never)
    done(Object.assign(new Error(`getaddrinfo ${code} ${name}`), { code, syscall: "getaddrinfo", hostname: name }))
  }) as never)
}

interface Kind {
  readonly start: () => Promise<Place>
  readonly reason: string
  readonly says: RegExp
}

const kinds: ReadonlyArray<readonly [string, Kind]> = [
  [
    "a name that does not exist",
    {
      start: async () => {
        resolve({ "gone.internal": () => "ENOTFOUND" })
        return { url: "http://gone.internal:11434" }
      },
      reason: "dns",
      says: /ENOTFOUND gone\.internal/
    }
  ],
  [
    "a redirect",
    {
      start: () => site((_, response) => response.writeHead(302, { location: "https://login.example/" }).end()),
      reason: "malformed",
      says: /redirects to https:\/\/login\.example\//
    }
  ],
  ["a web page", { start: answering(200, "text/html; charset=utf-8", page), reason: "malformed", says: /a web page/ }],
  [
    "a page that is not there",
    { start: answering(404, "text/html", page), reason: "server-error", says: /the path is wrong/ }
  ],
  [
    "a path that is not there",
    { start: answering(404, "text/plain", "404 page not found\n"), reason: "server-error", says: /the path is wrong/ }
  ],
  [
    "an untrusted certificate",
    {
      start: async () => {
        const port = await opened(
          createSecure({ key: readFileSync(key), cert: readFileSync(certificate) }, (_, response) => response.end("{}"))
        )
        return { url: `https://127.0.0.1:${port}` }
      },
      reason: "tls",
      says: /certificate/
    }
  ],
  [
    "https where there is no TLS",
    {
      start: async () => ({ url: (await answering(200, "text/html", page)()).url.replace("http:", "https:") }),
      reason: "tls",
      says: /speaks no TLS: its address may begin with http:/
    }
  ],
  [
    "http where there is TLS (an alert)",
    {
      start: () => raw((socket) => socket.end(Buffer.from([0x15, 3, 1, 0, 2, 2, 0x46]))),
      reason: "tls",
      says: /expects TLS: its address may begin with https:/
    }
  ],
  [
    "a port of another protocol",
    {
      start: () => raw((socket) => socket.end("SSH-2.0-OpenSSH_9.6\r\n")),
      reason: "malformed",
      says: /does not speak HTTP: check its address/
    }
  ],
  ...[
    "Client sent an HTTP request to an HTTPS server.\n",
    "<html>\r\n<head><title>400 The plain HTTP request was sent to HTTPS port</title></head>\r\n</html>\r\n"
  ].map((body, i): readonly [string, Kind] => [
    `http where there is TLS (${["Go", "nginx"][i]})`,
    { start: answering(400, "text/plain", body), reason: "tls", says: /expects TLS: its address may begin with https:/ }
  ])
]

const protocols = [undefined, "ollama", "openai"] as const
const serverOf = ({ url }: Place, protocol: (typeof protocols)[number]) =>
  protocol === undefined ? { url } : { url, protocol }

/** How often the place was asked since; what cannot be counted there was asked as often as the error says. */
const counted = (place: Place, before: number): number => (place.asked === undefined ? 1 : place.asked() - before)

describe.each(kinds)("%s", (_, { reason, says, start }) => {
  const one = { reason, message: expect.stringMatching(says), lasting: true }

  it.each(protocols)("is tried once, also where more attempts are allowed (protocol: %s)", async (protocol) => {
    const place = await start()
    const cortex = fleet.cortex([serverOf(place, protocol)])
    for (const options of [{ retryBackoff }, { retryBackoff, maxRetries: 5 }]) {
      const calls = [
        () => cortex.chat("Hi", options),
        async () => eventsOf(await cortex.chat("Hi", { ...options, stream: true })),
        () => cortex.embed("Hi", { model, ...options })
      ]
      for (const call of calls) {
        const before = place.asked?.() ?? 0
        const error = await failure(call())
        expect(error).toMatchObject({ _tag: "AllServersFailed", attempts: [one] })
        expect(error.attempts).toHaveLength(1)
        expect(error.message).toContain("Check their addresses, or add another:")
        expect(counted(place, before)).toBe(1)
      }
    }
  })

  it("the gateway says so at once", async () => {
    const place = await start()
    await using gateway = await startGateway([place.url])
    const messages = [{ role: "user", content: "Hi" }]
    for (const [path, body] of [
      ["/v1/chat/completions", { model, messages }],
      ["/v1/chat/completions", { model, messages, stream: true }],
      ["/v1/messages", { model, messages, max_tokens: 9 }],
      ["/api/chat", { model, messages }],
      ["/v1/embeddings", { model, input: "Hi" }]
    ] as const) {
      const before = place.asked?.() ?? 0
      const response = await gateway.post(path, body)
      const text = await response.text()
      expect([response.status, text]).toEqual([502, expect.stringContaining("(1 attempt: ")])
      expect(counted(place, before)).toBe(1)
    }
  })

  it("costs a fleet that has a good server nothing", async () => {
    const place = await start()
    const capabilities = ["completion", "embedding"]
    const good = await fleet.ollama({ models: [{ name: model, capabilities }], reply })
    const cortex = fleet.cortex([
      { url: place.url, protocol: "ollama", priority: 0 },
      { url: good.url, priority: 1 }
    ])
    expect(await cortex.chat("Hi", { retryBackoff })).toBe(reply)
    expect(textOf(await eventsOf(await cortex.chat("Hi", { retryBackoff, stream: true })))).toBe(reply)
    expect((await cortex.embed("Hi", { model, retryBackoff })).server).toBe(good.url)
  })

  it("other servers are tried as often as usual, and it is reported once", async () => {
    const place = await start()
    const [back, down] = await Promise.all([fleet.ollama({ reply }), fleet.ollama()])
    await down.setBehaviour({ faults: { kind: "status", code: 500 }, faultOn: "all" })
    const known = (...servers: ReadonlyArray<Fake>) =>
      fleet.cortex([
        { url: place.url, protocol: "ollama" },
        ...servers.map(({ url }) => ({ url, protocol: "ollama" }) as const)
      ])
    for (const options of [{ retryBackoff: 1 }, { retryBackoff: 1, maxRetries: 6 }]) {
      const error = await failure(known(down).chat("Hi", options))
      expect(error).toBeInstanceOf(AllServersFailed)
      const there = error.attempts.filter(({ server }: { server: string }) => server === place.url)
      expect(there).toEqual([expect.objectContaining(one)])
      expect(error.attempts.length - there.length).toBeGreaterThanOrEqual(3)
    }
    // Its own list was never read, as that of the wrong address: it is asked until it answers.
    await back.setBehaviour({ faultOn: "all", faults: (n) => (n < 4 ? { kind: "status", code: 500 } : undefined) })
    expect(await known(back).chat("Hi", { retryBackoff: 1 })).toBe(reply)
  })
})

describe("what another attempt may change is tried again", () => {
  it("a name that cannot be resolved for the moment", async () => {
    const server = await fleet.ollama({ reply })
    let left = 5
    resolve({ "soon.internal": () => (left-- > 0 ? "EAI_AGAIN" : undefined) })
    const cortex = fleet.cortex([{ url: server.url.replace("127.0.0.1", "soon.internal"), protocol: "ollama" }])
    const answer = await cortex.complete("Hi", { retryBackoff: 1 })
    expect(answer.text).toBe(reply)
    expect(answer.attempts).not.toHaveLength(0)
    for (const attempt of answer.attempts) {
      expect(attempt).toMatchObject({ reason: "dns", message: expect.stringContaining("EAI_AGAIN") })
      expect(attempt).not.toHaveProperty("lasting")
    }
  })

  it("a server that refuses: it may be there in a moment", async () => {
    const port = await unusedPort()
    const cortex = fleet.cortex([{ url: `http://127.0.0.1:${port}`, protocol: "ollama" }])
    const error = await failure(cortex.chat("Hi", { retryBackoff: 1 }))
    expect(error.attempts).toHaveLength(6)
    expect(error.attempts[5]).not.toHaveProperty("lasting")
    expect(error.message).toContain("Check that the servers are up, or add another:")
  })

  const hint = /if the server expects TLS, its address begins with https:/
  const closings: ReadonlyArray<readonly [string, () => Promise<Place>]> = [
    [
      "Node's server with TLS",
      async () => {
        const port = await opened(createSecure({ key: readFileSync(key), cert: readFileSync(certificate) }))
        return { url: `http://127.0.0.1:${port}` }
      }
    ],
    ["one that closes", () => raw((socket) => socket.end())],
    ["one that resets", () => raw((socket) => socket.resetAndDestroy())]
  ]

  it.each(closings)(
    "a connection that is closed without an answer, and TLS is named as a cause: %s",
    async (_, start) => {
      const place = await start()
      for (const protocol of ["ollama", "openai"] as const) {
        const cortex = fleet.cortex([serverOf(place, protocol)])
        const options = { retryBackoff: 1 }
        for (const call of [() => cortex.chat("Hi", options), () => cortex.embed("Hi", { model, ...options })]) {
          const error = await failure(call())
          expect(error.attempts).toHaveLength(6)
          for (const attempt of error.attempts) {
            expect(attempt).toMatchObject({ reason: "reset", message: expect.stringMatching(hint) })
          }
        }
        const [listed] = await cortex.listServers()
        expect(listed?.problem).toMatch(hint)
      }
    }
  )

  it("TLS is not named where a server has shown its models before", async () => {
    const server = await fleet.ollama()
    const cortex = fleet.cortex([server])
    await cortex.listServers()
    await server.setBehaviour({ faults: { kind: "reset" }, faultOn: "all" })
    const error = await failure(cortex.chat("Hi", { retryBackoff: 1 }))
    for (const attempt of error.attempts) {
      expect(attempt).toMatchObject({ reason: "reset", message: expect.not.stringMatching(hint) })
    }
  })

  const disturbed = [
    ["a page of its proxy", { kind: "garbage" }],
    ["a path that its proxy does not know", { kind: "status", code: 404, body: page }],
    ["a redirect of its proxy", { kind: "status", code: 302, headers: { location: "/starting" } }]
  ] as const

  it.each(disturbed)("%s, where a server has shown its models before", async (_, fault) => {
    for (const start of [fleet.ollama, fleet.openai]) {
      const server = await start({ reply })
      const cortex = fleet.cortex([server])
      await cortex.listServers()
      await server.setBehaviour({ faults: [fault, fault, fault], faultOn: "chat" })
      expect(await cortex.chat("Hi", { retryBackoff: 1 })).toBe(reply)
      expect(chats(server)).toEqual([4])
    }
  })

  it.each(disturbed)("%s, where it failed in another way just before", async (_, fault) => {
    const server = await fleet.ollama({ reply })
    const cut = { kind: "cut" } as const
    const list = { kind: "status", code: 503 } as const
    let asked = 0
    await server.setBehaviour({
      faults: (_, body) => (body?.messages === undefined ? list : [cut, fault, fault][asked++]),
      faultOn: "all"
    })
    const cortex = fleet.cortex([{ url: server.url, protocol: "ollama" }])
    const answer = await cortex.complete("Hi", { retryBackoff: 1 })
    expect([answer.text, answer.attempts.length]).toEqual([reply, 3])
  })
})

effectIt.scoped("in Effect too, where it is an error of the stream", () =>
  Effect.gen(function* () {
    const place = yield* Effect.promise(answering(200, "text/html", page))
    const layer = Cortex.layer({ servers: [place.url], configFile: false, model })
    for (const call of [Chat.complete("Hi", { retryBackoff }), Stream.runDrain(Chat.stream("Hi", { retryBackoff }))]) {
      const before = place.asked()
      const error = yield* Effect.flip(Effect.provide(Effect.asVoid(call), layer))
      expect(error).toMatchObject({ _tag: "AllServersFailed", attempts: [{ lasting: true }] })
      expect(place.asked() - before).toBe(1)
    }
  })
)

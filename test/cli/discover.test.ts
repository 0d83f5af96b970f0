import { once } from "node:events"
import { existsSync, readFileSync } from "node:fs"
import { createRequire } from "node:module"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { assert, beforeAll, describe, it } from "vitest"
import { announce, isLoopback } from "../../src/cli/mdns/announce.js"
import { browse } from "../../src/cli/mdns/browse.js"
import { build, ended, makeHome } from "../support/cliProcess.js"
import { useFleet } from "../support/fleet.js"

const { keep, ollama } = useFleet()

/** On the loopback interface, and on the port that every program uses. */
const place = { interface: "127.0.0.1" }

let count = 0
const newName = () => `test ${process.pid} ${count++}`

/** Announces until the test ends, or until it is closed. */
const announced = async (name: string, port: number, host = "127.0.0.1") => {
  const scope = await Effect.runPromise(Scope.make())
  await Effect.runPromise(Scope.extend(announce({ name, port, host }, place), scope))
  const close = () => Effect.runPromise(Scope.close(scope, Exit.void))
  keep({ [Symbol.asyncDispose]: close })
  return { close }
}

interface Raw {
  readonly respond: (packet: object) => void
  readonly on: (event: string, listener: (packet: { readonly answers: ReadonlyArray<RawAnswer> }) => void) => void
  readonly destroy: (done: () => void) => void
}
interface RawAnswer {
  readonly name: string
  readonly type: string
  readonly ttl: number
  readonly data: unknown
}

/** Another program in the network, which may say anything. */
const other = async (): Promise<Raw> => {
  const make = createRequire(import.meta.url)("multicast-dns") as (options: object) => Raw & NodeJS.EventEmitter
  const raw = make({ ...place, bind: "0.0.0.0" })
  await once(raw, "ready")
  keep({ [Symbol.asyncDispose]: () => new Promise((resolve) => raw.destroy(() => resolve())) })
  return raw
}

const found = (wait = 400) => Effect.runPromise(browse(wait, place))

beforeAll(build, 600_000)

describe("servers in the local network", () => {
  it("an announced gateway is found with its address and version, and sends a goodbye", async () => {
    const name = newName()
    const { close } = await announced(name, 8123)
    const one = (await found()).find((server) => server.name === name)
    assert.deepInclude(one, { kind: "aicortex", url: "http://127.0.0.1:8123" })
    assert.match(one?.version ?? "", /^\d+\.\d+\.\d+/)
    const raw = await other()
    const goodbye = new Promise<RawAnswer>((resolve) =>
      raw.on("response", ({ answers }) => {
        for (const answer of answers) if (answer.ttl === 0 && String(answer.data).startsWith(name)) resolve(answer)
      })
    )
    await close()
    assert.deepInclude(await goodbye, { name: "_aicortex._tcp.local", type: "PTR" })
    assert.isUndefined((await found()).find((server) => server.name === name))
  })

  it("an Ollama server is found also if its records arrive separately; hostile records do no harm", async () => {
    const raw = await other()
    const name = newName()
    const instance = `${name}._ollama._tcp.local`
    raw.on("query", () => {
      raw.respond({ answers: [{ name: "_ollama._tcp.local", type: "PTR", ttl: 120, data: instance }] })
      raw.respond({
        answers: [{ name: instance, type: "SRV", ttl: 120, data: { port: 11_999, target: `${name}.local` } }]
      })
      raw.respond({ answers: [{ name: `${name}.local`, type: "A", data: "127.0.0.1" }] })
      const evil = `evil\u001b[2J${name}._ollama._tcp.local`
      raw.respond({
        answers: [
          { name: "_ollama._tcp.local", type: "PTR", ttl: 120, data: evil },
          { name: evil, type: "SRV", ttl: 120, data: { port: 11_998, target: `${name}.local` } },
          { name: evil, type: "TXT", ttl: 120, data: ["path=/../..@host/\u001b", "version=\u001b[31m1"] },
          { name: "_ollama._tcp.local", type: "PTR", ttl: 120, data: `nowhere${name}._ollama._tcp.local` },
          { name: `nowhere${name}._ollama._tcp.local`, type: "SRV", data: { port: 0, target: "x.local" } }
        ]
      })
    })
    const mine = (await found()).filter((server) => server.name.includes(name))
    assert.deepStrictEqual(mine.map(({ kind, url }) => [kind, url]).sort(), [
      ["ollama", "http://127.0.0.1:11998"],
      ["ollama", "http://127.0.0.1:11999"]
    ])
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for.
    assert.notMatch(JSON.stringify(mine), /\\u001b|\u001b/)
  })

  it("a server is listed without a connection; --yes connects, counts models, and adds the ones that answer", async () => {
    const server = await ollama({ models: ["a:1b", "b:1b"] })
    const [up, down] = [newName(), newName()]
    await announced(up, server.port)
    await announced(down, 9)
    await using home = makeHome()
    const args = ["discover", "--interface", "127.0.0.1", "--wait", "1"]
    const listed = await home.run([...args, "--json"])
    assert.strictEqual(listed.code, 0, listed.err)
    const { added, servers } = JSON.parse(listed.out)
    const one = servers.find((server: { readonly name: string }) => server.name === up)
    assert.deepInclude(one, { url: server.url, models: null, known: false })
    assert.deepStrictEqual(added, [])
    const plain = await home.run(args)
    assert.include(plain.out, server.url)
    assert.include(plain.err, "none of them was connected to")
    assert.lengthOf(server.requests, 0)

    const yes = await home.run([...args, "--yes", "--json"])
    assert.strictEqual(yes.code, 0, yes.err)
    const report = JSON.parse(yes.out)
    assert.include(report.added, server.url)
    assert.notInclude(report.added, "http://127.0.0.1:9")
    const again = report.servers.find((server: { readonly name: string }) => server.name === up)
    assert.deepStrictEqual(again.models, ["a:1b", "b:1b"])
    const file = `${home.path}/aicortex/config.json`
    assert.isTrue(existsSync(file))
    assert.include(readFileSync(file, "utf8"), server.url)
    const known = JSON.parse((await home.run([...args, "--json"])).out)
    assert.isTrue(known.servers.find((server: { readonly name: string }) => server.name === up).known)
  })

  it("a gateway on loopback is not announced, and says so", async () => {
    await using home = makeHome()
    const child = home.start(["serve", "--port", "0", "--announce"])
    const end = ended(child)
    let err = ""
    await new Promise<void>((resolve) => {
      child.stderr?.on("data", (piece: Buffer) => {
        err += String(piece)
        if (err.includes("not announced")) resolve()
      })
    })
    child.kill("SIGTERM")
    assert.strictEqual((await end).code, 0)
    for (const host of ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost"]) assert.isTrue(isLoopback(host), host)
    for (const host of ["0.0.0.0", "::", "192.168.1.2"]) assert.isFalse(isLoopback(host), host)
  })
})

/** The questions of `aicortex discover` on a terminal, and a gateway that announces itself on an address of the network. */
import { existsSync, readFileSync } from "node:fs"
import { networkInterfaces } from "node:os"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { assert, beforeAll, describe, it, vi } from "vitest"
import { announce } from "../../src/cli/mdns/announce.js"
import { bin, build, ended, makeHome } from "../support/cliProcess.js"
import { startFakeOllama } from "../support/fakeServer.js"
import { useKeep } from "../support/keep.js"
import { hasTerminals, startTerminal } from "../support/terminal.js"

vi.setConfig({ testTimeout: 120_000 })
const keep = useKeep()
beforeAll(build, 600_000)

const announced = async (name: string, port: number) => {
  const scope = await Effect.runPromise(Scope.make())
  const place = { interface: "127.0.0.1" }
  await Effect.runPromise(Scope.extend(announce({ name, port, host: "127.0.0.1" }, place), scope))
  keep({ [Symbol.asyncDispose]: () => Effect.runPromise(Scope.close(scope, Exit.void)) })
}

describe.skipIf(!hasTerminals)("aicortex discover on a terminal", () => {
  const discover = async (name: string) => {
    const server = keep(await startFakeOllama({ models: ["a:1b"] }))
    await announced(name, server.port)
    const home = keep(makeHome())
    const env = { PATH: process.env["PATH"], HOME: home.path, XDG_CONFIG_HOME: home.path, TERM: "xterm-256color" }
    const command = [process.execPath, bin, "discover", "--interface", "127.0.0.1", "--wait", "1"]
    const terminal = startTerminal(command, { env, columns: 160 })
    keep({ [Symbol.asyncDispose]: async () => terminal.stop() })
    await terminal.shows("Connect and list their models?")
    assert.include(terminal.screen(), server.url)
    assert.lengthOf(server.requests, 0)
    return { server, terminal, file: `${home.path}/aicortex/config.json` }
  }

  it("connects to a server only after a yes, and adds the chosen ones", async () => {
    const { file, server, terminal } = await discover(`terminal ${process.pid} yes`)
    terminal.type("y")
    await terminal.shows(`Add ${server.url} to`)
    assert.isAbove(server.requests.length, 0)
    assert.isFalse(existsSync(file))
    terminal.type("y")
    assert.strictEqual(await terminal.ended, 0)
    assert.include(readFileSync(file, "utf8"), server.url)
  })

  it("a no to the first question connects to no server", async () => {
    const { file, server, terminal } = await discover(`terminal ${process.pid} no`)
    terminal.type("n")
    assert.strictEqual(await terminal.ended, 0)
    assert.lengthOf(server.requests, 0)
    assert.isFalse(existsSync(file))
  })

  it("a no to the second question adds nothing", async () => {
    const { file, server, terminal } = await discover(`terminal ${process.pid} later`)
    terminal.type("y")
    await terminal.shows(`Add ${server.url} to`)
    terminal.type("n")
    assert.strictEqual(await terminal.ended, 0)
    assert.isFalse(existsSync(file))
  })
})

/** An address of this machine that others can reach. */
const address = Object.values(networkInterfaces())
  .flat()
  .find((one) => one?.family === "IPv4" && !one.internal)?.address

if (address === undefined) {
  process.stderr.write(
    "\n!!! SKIPPED: this machine has no address but loopback: nothing is announced on another !!!\n\n"
  )
}

describe.skipIf(address === undefined)("aicortex serve --announce on an address of the network", () => {
  it("is found by discover, and is gone after it ended", async () => {
    const home = keep(makeHome({ servers: [] }))
    const args = ["serve", "--port", "0", "--host", address ?? "", "--announce", "--api-key", "k"]
    const child = home.start(args)
    keep({ [Symbol.asyncDispose]: async () => void child.kill("SIGKILL") })
    const end = ended(child)
    const url = await new Promise<string>((resolve, reject) => {
      let said = ""
      const take = (piece: unknown) => {
        said += String(piece)
        const found = /listening on (http:\/\/[\w.]+:\d+)/.exec(said)?.[1]
        if (found !== undefined) resolve(found)
      }
      child.stdout?.on("data", take)
      child.stderr?.on("data", take)
      child.once("exit", (code) => reject(new Error(`it ended with ${code}: ${said}`)))
    })
    const port = new URL(url).port
    const found = async (): Promise<ReadonlyArray<{ readonly kind: string; readonly url: string }>> => {
      const { code, err, out } = await home.run(["discover", "--interface", address ?? "", "--wait", "1", "--json"])
      assert.strictEqual(code, 0, err)
      return JSON.parse(out).servers
    }
    const mine = (await found()).find((server) => new URL(server.url).port === port)
    assert.deepInclude(mine, { kind: "aicortex" })
    child.kill("SIGTERM")
    assert.strictEqual((await end).code, 0)
    assert.isUndefined((await found()).find((server) => new URL(server.url).port === port))
  })
})

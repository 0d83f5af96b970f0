/** What is left of usage where a gateway is killed, and where it is stopped, on each engine. */
import * as Effect from "effect/Effect"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import * as Store from "../../src/Store.js"
import { build, ended, makeHome } from "../support/cliProcess.js"
import { type Database, engines } from "../support/databases.js"
import { startFakeOllama } from "../support/fakeServer.js"
import { eventually } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"

const keep = useKeep()
beforeAll(() => build(), 240_000)

for (const engine of engines) {
  describe(`usage in ${engine.name}`, () => {
    let database: Database
    beforeAll(async () => {
      database = await engine.start()
    }, 180_000)
    afterAll(() => database.close())

    it("is stored within moments: SIGKILL loses only the latest, SIGTERM nothing", {
      timeout: 240_000
    }, async () => {
      const home = keep(makeHome())
      const server = keep(await startFakeOllama({ models: ["a:1b"], reply: "Well." }))
      const address = await database.address()
      const serve = async () => {
        const env = { AICORTEX_STORE: address, AICORTEX_SERVERS: server.url }
        const child = home.start(["serve", "--port", "0", "--no-local"], env)
        let said = ""
        child.stderr?.on("data", (part: Buffer) => {
          said += part
        })
        const end = ended(child)
        keep({
          [Symbol.asyncDispose]: async () => {
            child.kill("SIGKILL")
            await end
          }
        })
        await eventually(() => {
          if (child.exitCode !== null) throw new Error(said)
          return said.includes("listening on ")
        }, "it listens")
        const url = /listening on (\S+)/.exec(said)?.[1] ?? ""
        const ask = async (count: number) => {
          for (let i = 0; i < count; i++) {
            const body = JSON.stringify({ model: "a:1b", messages: [{ role: "user", content: "Hi" }] })
            const headers = { "content-type": "application/json" }
            const response = await fetch(`${url}/v1/chat/completions`, { method: "POST", headers, body })
            expect([response.status, await response.text()]).toEqual([200, expect.stringContaining("Well.")])
          }
        }
        const stop = async (signal: NodeJS.Signals) => {
          child.kill(signal)
          await end
        }
        return { ask, stop }
      }
      const stored = () =>
        Effect.runPromise(
          Effect.scoped(
            Effect.flatMap(Store.make(address), ({ use }) =>
              use((sql) => sql<{ n: number | null }>`SELECT SUM(requests) AS n FROM aicortex_usage`)
            )
          )
        ).then(([row]) => Number(row?.n ?? 0))

      const killed = await serve()
      await killed.ask(10)
      // While it runs, without being asked to.
      await eventually(async () => (await stored()) === 10, "the first requests are stored")
      await killed.ask(5)
      await killed.stop("SIGKILL")
      const left = await stored()
      expect(left).toBeGreaterThanOrEqual(10)
      expect(left).toBeLessThanOrEqual(15)
      // The next one goes on with what is there, and what it has counted last is stored when it is stopped.
      const stopped = await serve()
      await stopped.ask(4)
      await stopped.stop("SIGTERM")
      expect(await stored()).toBe(left + 4)
    })
  })
}

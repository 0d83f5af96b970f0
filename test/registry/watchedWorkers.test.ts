/** A gateway of several processes takes over a registry file that changes: each of them, without dropping a request. */
import type { ChildProcess } from "node:child_process"
import { writeFileSync } from "node:fs"
import { setTimeout as sleep } from "node:timers/promises"
import { assert, beforeAll, describe, it, vi } from "vitest"
import { build, makeHome } from "../support/cliProcess.js"
import { startFakeOllama } from "../support/fakeServer.js"
import { useKeep } from "../support/keep.js"

vi.setConfig({ testTimeout: 120_000 })
const keep = useKeep()
beforeAll(build, 600_000)

const model = "m:1b"
const workers = 2

/** The address at which the gateway listens. */
const listening = (child: ChildProcess): Promise<string> =>
  new Promise((resolve, reject) => {
    let said = ""
    const take = (piece: unknown) => {
      said += String(piece)
      const url = /listening on (http:\/\/[\w.]+:\d+)/.exec(said)?.[1]
      if (url !== undefined) resolve(url)
    }
    child.stdout?.on("data", take)
    child.stderr?.on("data", take)
    child.once("exit", (code) => reject(new Error(`it ended with ${code}: ${said}`)))
  })

describe("aicortex serve --workers 2 with a registry that is watched", () => {
  it("every worker uses the new registry, and each request is answered", async () => {
    const [old, young] = [
      keep(await startFakeOllama({ models: [model], reply: "old" })),
      keep(await startFakeOllama({ models: [model], reply: "young" }))
    ]
    const home = keep(makeHome({ servers: [] }))
    const list = ({ url }: { readonly url: string }) => JSON.stringify({ servers: [{ url }] })
    const file = home.write("servers.json", list(old))
    const args = ["serve", "--port", "0", "--workers", String(workers), "--registry-source", file]
    const child = home.start(args)
    keep({ [Symbol.asyncDispose]: async () => void child.kill("SIGKILL") })
    const url = await listening(child)

    /** Each request comes over a connection of its own, which any worker may take. */
    const ask = async (): Promise<string> => {
      const response = await fetch(`${url}/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json", connection: "close" },
        body: JSON.stringify({ model, messages: [{ role: "user", content: "Hi" }] })
      })
      const text = await response.text()
      assert.strictEqual(response.status, 200, text)
      return JSON.parse(text).choices[0].message.content
    }
    assert.strictEqual(await ask(), "old")
    const answers: Array<string> = []
    let ended = false
    const asking = Array.from({ length: 4 }, async () => {
      while (!ended) answers.push(await ask())
    })
    while (answers.length === 0) await Promise.race([sleep(20), Promise.all(asking)])
    writeFileSync(file, list(young))
    /** So many in a row that each worker has answered some of them. */
    const enough = 40
    while (answers.length < enough || answers.slice(-enough).some((text) => text !== "young")) {
      await Promise.race([sleep(20), Promise.all(asking)])
    }
    ended = true
    await Promise.all(asking)
    assert.include(answers, "old")
    assert.deepEqual([...new Set(answers)].sort(), ["old", "young"])
  })
})

import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { assert, describe, it } from "vitest"
import type { Cortex } from "../../src/promise.js"
import { eventsOf, type Fake, textOf, useFleet } from "../support/fleet.js"
import { startGateway } from "../support/gateway.js"

const { cortex, keep, ollama, openai } = useFleet()

const newFolder = () => {
  const folder = mkdtempSync(join(tmpdir(), "aicortex-watch-"))
  keep({ [Symbol.asyncDispose]: async () => rmSync(folder, { recursive: true, force: true }) })
  return folder
}

const listOf = (servers: ReadonlyArray<Pick<Fake, "url">>): string =>
  `${JSON.stringify({ servers: servers.map(({ url }) => ({ url })) }, undefined, 2)}\n`

/** The ways in which editors and programs save a file. */
const ways: ReadonlyArray<readonly [string, (file: string, text: string) => Promise<void>]> = [
  ["in its place", async (file, text) => writeFileSync(file, text)],
  [
    "beside it, and then renamed",
    async (file, text) => {
      writeFileSync(`${file}.tmp`, text)
      renameSync(`${file}.tmp`, file)
    }
  ],
  [
    "with the old one moved away first",
    async (file, text) => {
      renameSync(file, `${file}~`)
      writeFileSync(file, text)
      rmSync(`${file}~`)
    }
  ],
  [
    "in two steps",
    async (file, text) => {
      writeFileSync(file, text.slice(0, text.length / 2))
      await sleep(30)
      writeFileSync(file, text)
    }
  ]
]

const urlsOf = async (fleet: Cortex): Promise<ReadonlyArray<string>> =>
  (await fleet.listServers()).map(({ url }) => url).sort()

/** Waits until the fleet has exactly these servers. */
const has = async (fleet: Cortex, ...servers: ReadonlyArray<Fake>): Promise<void> => {
  const wanted = servers.map(({ url }) => url).sort()
  while (JSON.stringify(await urlsOf(fleet)) !== JSON.stringify(wanted)) await sleep(10)
}

describe("the files of a registry are watched", () => {
  it.each(ways)("a file that is saved %s", async (_, save) => {
    const [one, two] = [await ollama(), await openai()]
    const file = join(newFolder(), "servers.json")
    writeFileSync(file, listOf([one]))
    const fleet = cortex([], { registry: file })
    await has(fleet, one)
    await save(file, listOf([two]))
    await has(fleet, two)
    assert.strictEqual((await fleet.complete("hi")).server, two.url)
    await save(file, listOf([one, two]))
    await has(fleet, one, two)
  })

  it("files that are added, changed and removed in a folder, and a folder that is created later", async () => {
    const [one, two] = [await ollama(), await openai()]
    const folder = join(newFolder(), "later")
    const fleet = cortex([], { registry: folder })
    await has(fleet)
    mkdirSync(folder)
    writeFileSync(join(folder, "a.json"), listOf([one]))
    await has(fleet, one)
    writeFileSync(join(folder, "b.json"), listOf([two]))
    await has(fleet, one, two)
    rmSync(join(folder, "a.json"))
    await has(fleet, two)
  })

  it("an invalid file keeps its last content, and is reported", async () => {
    const [one, two] = [await ollama(), await openai()]
    const folder = newFolder()
    const file = join(folder, "servers.json")
    writeFileSync(file, listOf([one]))
    const fleet = cortex([], { registry: folder })
    await has(fleet, one)
    for (const broken of ["", '{"servers":[{"url":', "<html>", '{"error":1}']) {
      writeFileSync(file, broken)
      for (;;) {
        const [source] = await fleet.registrySources()
        if (source?.error !== undefined) {
          assert.strictEqual(source.error.reason, "not-a-registry")
          assert.include(source.error.detail, "what it held before stays in use")
          break
        }
        await sleep(10)
      }
      assert.deepStrictEqual(await urlsOf(fleet), [one.url])
      assert.strictEqual((await fleet.complete("hi")).server, one.url)
      const [warning, ...others] = await fleet.registryWarnings()
      assert.include(warning?.message, file)
      assert.deepStrictEqual(others, [])
      writeFileSync(file, listOf([one]))
      while ((await fleet.registrySources())[0]?.error !== undefined) await sleep(10)
    }
    writeFileSync(file, listOf([two]))
    await has(fleet, two)
  })

  it("a stream on a removed server continues to its end", async () => {
    const tokens = Array.from({ length: 40 }, (_, i) => `${i} `)
    for (const start of [ollama, openai]) {
      const [old, next] = [await start({ reply: tokens, perToken: 20 }), await ollama()]
      const file = join(newFolder(), "servers.json")
      writeFileSync(file, listOf([old]))
      const fleet = cortex([], { registry: file })
      const stream = await fleet.chat("hi", { stream: true })
      const whole = fleet.complete("hi")
      await old.waitForChats(2)
      writeFileSync(file, listOf([next]))
      await has(fleet, next)
      assert.strictEqual((await fleet.complete("hi")).server, next.url)
      const events = await eventsOf(stream)
      assert.strictEqual(textOf(events), tokens.join(""))
      assert.isFalse(events.some(({ type }) => type === "error"))
      const answer = await whole
      assert.strictEqual(answer.server, old.url)
      assert.strictEqual(answer.text, tokens.join(""))
      assert.lengthOf(old.chatRequests, 2)
    }
  })
})

describe("a gateway with a watched registry", () => {
  it("that is written 20 times under load: no request fails", async () => {
    const servers = [await ollama(), await openai(), await ollama()]
    const file = join(newFolder(), "servers.json")
    writeFileSync(file, listOf(servers.slice(0, 2)))
    const gateway = keep(await startGateway([], {}, { cortex: { registry: file } }))
    let stopped = false
    let answered = 0
    const failures: Array<string> = []
    const ask = async (stream: boolean) => {
      const messages = [{ role: "user", content: "hi" }]
      const response = await gateway.post("/v1/chat/completions", { model: "m:1b", stream, messages })
      const text = await response.text()
      answered++
      const whole = stream ? text.includes("[DONE]") : response.ok
      if (!whole || text.includes('"error"')) failures.push(text)
    }
    const load = Array.from({ length: 8 }, async (_, i) => {
      while (!stopped) await ask(i % 2 === 0)
    })
    for (let i = 0; i < 20; i++) {
      const chosen = [servers[i % 3], servers[(i + 1) % 3]].flatMap((server) => server ?? [])
      const before = chosen[1]?.chatRequests.length ?? 0
      await ways[i % ways.length]?.[1](file, listOf(chosen))
      // The one that was not there before is asked.
      while ((chosen[1]?.chatRequests.length ?? 0) < before + 5) await sleep(5)
    }
    stopped = true
    await Promise.all(load)
    assert.isAtLeast(answered, 200)
    assert.deepStrictEqual(failures, [])
    for (const server of servers) assert.isNotEmpty(server.chatRequests)
  })
})

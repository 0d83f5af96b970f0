/** `aicortex serve --dry-run`. */
import { existsSync, readdirSync, rmSync } from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { build, type Home, makeHome } from "../support/cliProcess.js"

const secrets = ["sk-of-server-123", "sk-of-ann-12345", "sk-of-flag-12345", "hf_secret123"]

describe("aicortex serve --dry-run", () => {
  let home: Home
  let asked = 0
  const server = createServer((_, response) => {
    asked++
    response.end("{}")
  })
  let url = ""

  beforeAll(async () => {
    build()
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    home = makeHome({
      servers: [{ url, apiKey: secrets[0] }],
      aliases: { small: ["a:1b"] },
      models: { token: secrets[3] },
      gateway: {
        port: 8123,
        defaultModel: "best",
        aliases: { best: ["a:1b", "b:1b"] },
        keys: [{ name: "ann", key: secrets[1] }],
        log: "json"
      }
    })
  }, 120_000)
  afterAll(async () => {
    server.close()
    await home[Symbol.asyncDispose]()
  })

  it("prints what would be served and the source of each setting, without keys", async () => {
    const env = { PORT: "8456" }
    const [json, text] = await Promise.all([
      home.run(["serve", "--dry-run", "--json", "--strict", "--workers", "3", "--no-local"], env),
      home.run(["serve", "--dry-run", "--strict", "--workers", "3", "--no-local"], env)
    ])
    expect([json.code, json.err, text.code, text.err]).toEqual([0, "", 0, ""])
    const { settings, ...found } = JSON.parse(json.out)
    expect(found).toMatchObject({
      ok: true,
      refused: [],
      address: "http://127.0.0.1:8456",
      workers: 3,
      file: home.file,
      exists: true,
      servers: [{ url, key: true }],
      models: { default: "best", local: null },
      keys: ["ann"]
    })
    expect([...found.models.aliases].sort()).toEqual(["best", "small"])
    expect(settings["gateway.port"]).toEqual({ value: 8456, from: "PORT" })
    expect(settings["gateway.strict"]).toEqual({ value: true, from: "--strict" })
    expect(settings["gateway.log"]).toEqual({ value: "json", from: "the file" })
    expect(settings["gateway.drain"]).toEqual({ value: 30, from: "default" })
    expect(settings["gateway.keys"]).toEqual({ value: ["ann"], from: "the file" })
    expect(settings["gateway.localModels"]).toEqual({ value: false, from: expect.stringContaining("--") })
    for (const line of [
      /address\s+http:\/\/127.0.0.1:8456 \(3 workers\)/,
      /API keys\s+ann\n/,
      /local models\s+off\n/
    ]) {
      expect(text.out).toMatch(line)
    }
    expect(text.out).toMatch(/gateway\.strict\s+true\s+--strict\n/)
    for (const secret of secrets) expect(json.out + text.out).not.toContain(secret)
    expect(asked).toBe(0)
  })

  it("starts no process, opens no port and writes no file", async () => {
    const store = join(home.path, "a.db")
    const { code, out } = await home.run(["serve", "--dry-run", "--json"], { AICORTEX_STORE: store })
    expect(code).toBe(0)
    const found = JSON.parse(out)
    expect(found).toMatchObject({ models: { local: [] }, notes: ["the store is a file that would be made"] })
    expect(found.settings.store).toEqual({ value: store, from: "AICORTEX_STORE" })
    // Without a configured store it is a file under the state folder, unless there is to be none.
    const [standard, none] = await Promise.all(
      [[], ["--store", "memory"]].map(async (flags) =>
        JSON.parse((await home.run(["serve", "--dry-run", "--json", ...flags])).out)
      )
    )
    const file = join(home.path, ".local/state/aicortex/store.db")
    expect(standard.settings.store).toEqual({ value: file, from: "default" })
    expect(none).toMatchObject({ notes: [], settings: { store: { value: false, from: "--store" } } })
    // One that is there may have keys.
    const there = home.write("there.db", "")
    const kept = await home.run(["serve", "--dry-run", "--json", "--store", there])
    expect(JSON.parse(kept.out).notes).toEqual([expect.stringContaining("the store is not opened")])
    rmSync(there)
    const config = await home.run(["config", "--json"], { AICORTEX_STORE: "postgres://ann:hush@db/chats" })
    expect(JSON.parse(config.out).settings.store).toMatch(/^postgres:\/\/.*@db\/chats$/)
    expect(config.out).not.toContain("hush")
    expect(existsSync(join(home.path, ".local"))).toBe(false)
    expect(readdirSync(home.path)).toEqual(["config.json"])
  })

  it.each([
    ["no key for other machines", ["--host", "0.0.0.0", "--config", "open.json"], /no API key/],
    ["a wrong setting of the fleet", ["--config", "servers.json"], /servers/],
    ["a wrong setting of the gateway", ["--config", "port.json"], /gateway\.port/],
    ["a variable of a key that is not set", ["--config", "keys.json"], /NO_SUCH_KEY is not set/],
    ["a key that cannot be sent", ["--api-key", "two words"], /--api-key must be one word/],
    ["a file that is not there", ["--config", "none.json"], /--config: there is no file/]
  ])("refuses %s, with exit code 1 and one line", async (_, words, reason) => {
    home.write("open.json", JSON.stringify({ servers: [url] }))
    home.write("servers.json", JSON.stringify({ servers: ["ftp://gpu"] }))
    home.write("port.json", JSON.stringify({ servers: [url], gateway: { port: -1 } }))
    home.write(
      "keys.json",
      JSON.stringify({ servers: [url], gateway: { keys: [{ name: "a", key: { env: "NO_SUCH_KEY" } }] } })
    )
    const placed = words.map((word) => (word.endsWith(".json") ? join(home.path, word) : word))
    const { code, err, out } = await home.run(["serve", "--dry-run", "--json", ...placed])
    expect(code).toBe(1)
    const found = JSON.parse(out)
    expect(found.ok).toBe(false)
    expect(found.refused).toHaveLength(1)
    expect(found.refused[0]).toMatch(reason)
    expect(err).toMatch(/^aicortex: it would not be served: /)
    expect(err.trimEnd().split("\n")).toHaveLength(1)
  })
})

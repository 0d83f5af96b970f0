/** The store of the command line where none is configured: a SQLite file under the state folder. */
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { beforeAll, expect, it } from "vitest"
import { build, ended, makeHome } from "../support/cliProcess.js"
import { startFakeOllama } from "../support/fakeServer.js"
import { eventually } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"

const keep = useKeep()
beforeAll(() => build(), 240_000)

const model = "a:1b"

/** A home whose state folder is a file, so that nothing can be made in it: root may write anywhere else. */
const withoutPlace = () => {
  const home = keep(makeHome())
  return { home, env: { XDG_STATE_HOME: home.write("state", "no folder") } }
}

it("is created by commands that write, and not by those that only read", { timeout: 240_000 }, async () => {
  const home = keep(makeHome())
  const folder = join(home.path, ".local/state/aicortex")
  const store = join(folder, "store.db")
  const reading = [
    ["sessions", "--json"],
    ["sessions", "export"],
    ["usage", "--json"],
    ["keys", "list", "--json"],
    ["requests", "--json"]
  ]
  const read = async () =>
    (await Promise.all(reading.map((words) => home.run(words)))).map(({ code, out }) => [code, out])
  expect(await read()).toEqual([
    [0, "[]\n"],
    [0, ""],
    [0, "[]\n"],
    [0, "[]\n"],
    [0, "[]\n"]
  ])
  expect(existsSync(store)).toBe(false)
  // A named one is not made by them either, and none is kept where there is to be none.
  const other = join(home.path, "other.db")
  expect((await home.run(["keys", "list", "--store", other])).code).toBe(0)
  expect(existsSync(other)).toBe(false)
  const off = await home.run(["keys", "create", "ann", "--store", "memory"])
  expect([off.code, off.err]).toEqual([2, expect.stringContaining("the store is off")])
  expect(existsSync(store)).toBe(false)
  // A control: what writes makes it, and the others read it.
  expect((await home.run(["keys", "create", "ann"])).code).toBe(0)
  expect(readdirSync(folder).filter((name) => name.startsWith("store.db"))).toContain("store.db")
  expect(JSON.parse((await home.run(["keys", "list", "--json"])).out)).toMatchObject([{ name: "ann" }])
})

it("is shared by a gateway, the terminal and later gateways", { timeout: 240_000 }, async () => {
  const home = keep(makeHome())
  const server = keep(await startFakeOllama({ models: [model], reply: ({ messages }) => `${messages.length}` }))
  const env = { AICORTEX_SERVERS: server.url }
  const serve = async (...flags: ReadonlyArray<string>) => {
    const child = home.start(["serve", "--port", "0", "--no-local", ...flags], env)
    let said = ""
    child.stderr?.on("data", (part: Buffer) => {
      said += part
    })
    const end = ended(child)
    const stop = async () => {
      child.kill("SIGTERM")
      await end
    }
    keep({ [Symbol.asyncDispose]: stop })
    await eventually(() => {
      if (child.exitCode !== null) throw new Error(said)
      return /listening on (\S+)/.test(said)
    }, "it listens")
    const url = /listening on (\S+)/.exec(said)?.[1] ?? ""
    const post = async (path: string, body: object) => {
      const headers = { "content-type": "application/json" }
      return (await (await fetch(`${url}${path}`, { method: "POST", headers, body: JSON.stringify(body) })).json()) as {
        id: string
        choices?: ReadonlyArray<{ message: { content: string } }>
      }
    }
    return { url, post, stop, said: () => said }
  }
  const first = await serve()
  const { id } = await first.post("/v1/sessions", {})
  const turn = { model, session: id, messages: [{ role: "user", content: "Hi" }] }
  expect((await first.post("/v1/chat/completions", turn)).choices?.[0]?.message.content).toBe("1")
  // While it runs, another process goes on with the conversation, and it sees that.
  const said = await home.run(["chat", "And?", "--model", model, "--session", id], env)
  expect([said.code, said.out, said.err]).toEqual([0, "3\n", ""])
  expect((await first.post("/v1/chat/completions", turn)).choices?.[0]?.message.content).toBe("5")
  await first.stop()
  const second = await serve()
  expect((await second.post("/v1/chat/completions", turn)).choices?.[0]?.message.content).toBe("7")
  const [usage, none] = await Promise.all([home.run(["usage", "--json"]), serve("--store", "memory")])
  // That of the second one may not be stored yet.
  expect(JSON.parse(usage.out)).toMatchObject([{ model, requests: expect.toSatisfy((n) => n === 2 || n === 3) }])
  const absent = await fetch(`${none.url}/v1/sessions/${id}`)
  expect(absent.status).toBe(404)
})

it("if it cannot be created, commands that need it fail and name the setting, and others use memory and say so", {
  timeout: 240_000
}, async () => {
  const { env, home } = withoutPlace()
  const server = keep(await startFakeOllama({ models: [model], reply: "Well." }))
  const servers = { ...env, AICORTEX_SERVERS: server.url }
  const [key, named, chat, kept] = await Promise.all([
    home.run(["keys", "create", "ann"], servers),
    home.run(["serve", "--port", "0", "--store", join(home.path, "state", "x.db")], servers),
    home.run(["chat", "Hi", "--model", model], servers),
    home.run(["sessions", "create"], servers)
  ])
  for (const { code, err, out } of [key, named, kept]) {
    expect([code, out]).toEqual([1, ""])
    expect(err).toMatch(/\.db cannot be made .*AICORTEX_STORE/)
  }
  expect([chat.code, chat.out]).toEqual([0, "Well.\n"])
  expect(chat.err).not.toContain("store")
  const child = home.start(["serve", "--port", "0", "--no-local"], servers)
  let said = ""
  child.stderr?.on("data", (part: Buffer) => {
    said += part
  })
  const end = ended(child)
  await eventually(() => said.includes("listening on") || child.exitCode !== null, "it listens")
  child.kill("SIGTERM")
  await end
  expect(said).toMatch(/everything is kept in memory and ends with this process: .*store\.db cannot be made/)
  expect(said).toContain("listening on")
})

it("imports the conversations of an older version's folder once, and says so", { timeout: 120_000 }, async () => {
  const home = keep(makeHome())
  const old = join(home.path, ".local/state/aicortex/sessions")
  for (const id of ["0123456789abcdef", "fedcba9876543210"]) {
    mkdirSync(join(old, id), { recursive: true })
    writeFileSync(join(old, id, "1.json"), JSON.stringify({ messages: [{ role: "user", content: `Of ${id}.` }] }))
  }
  const first = await home.run(["sessions", "--json"])
  expect(JSON.parse(first.out)).toHaveLength(2)
  expect(first.err).toMatch(/2 conversations of .*sessions are in the store now; the folder is kept as .*imported/)
  expect(existsSync(old)).toBe(false)
  const again = await home.run(["sessions", "--json"])
  expect(JSON.parse(again.out)).toHaveLength(2)
  expect(again.err).toBe("")
})

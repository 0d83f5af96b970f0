/** `aicortex keys`, and `aicortex serve` over the same store. */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import OpenAI from "openai"
import { beforeAll, expect, it } from "vitest"
import { build, ended, type Home, makeHome } from "../support/cliProcess.js"
import { startFakeOllama } from "../support/fakeServer.js"
import { eventually } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"

const keep = useKeep()
beforeAll(() => build(), 240_000)

const serve = async (home: Home, args: ReadonlyArray<string>, env: NodeJS.ProcessEnv) => {
  const child = home.start(["serve", "--port", "0", ...args], env)
  let said = ""
  for (const output of [child.stdout, child.stderr]) {
    output?.on("data", (part: Buffer) => {
      said += part
    })
  }
  const end = ended(child)
  keep({
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGKILL")
      await end
    }
  })
  let url = ""
  await eventually(() => {
    url = /http:\/\/[\w.]+:\d+/.exec(said)?.[0] ?? ""
    if (url === "" && child.exitCode !== null) throw new Error(said)
    return url !== ""
  }, "it listens")
  return { child, url, said: () => said, end }
}

it("creates, lists, shows, rotates and revokes keys, with immediate effect on gateways", {
  timeout: 240_000
}, async () => {
  const home = keep(makeHome())
  const server = keep(await startFakeOllama({ models: ["a:1b", "b:1b"], reply: "Well." }))
  const store = join(home.path, "store.db")
  const env = { AICORTEX_STORE: store, AICORTEX_SERVERS: server.url }
  const ok = async (...args: ReadonlyArray<string>): Promise<string> => {
    const { code, err, out } = await home.run(["keys", ...args], env)
    expect([code, args, err]).toEqual([0, args, expect.any(String)])
    return out
  }
  const key = (await ok("create", "alice", "--allow", "a*", "--requests-per-minute", "60", "--expires", "90d")).trim()
  expect(key).toMatch(/^sk-aic-[0-9A-Za-z]{12}-[0-9A-Za-z]{49}$/)
  const one = await serve(home, [], env)
  const workers = await serve(home, ["--workers", "2"], env)
  const chat = (url: string, apiKey: string, model = "a:1b") =>
    new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 }).chat.completions.create({
      model,
      messages: [{ role: "user", content: "Hi" }]
    })
  for (const { url } of [one, workers]) {
    expect((await chat(url, key)).choices[0]?.message.content).toBe("Well.")
    await expect(chat(url, key, "b:1b")).rejects.toMatchObject({ status: 403, code: "model_not_allowed" })
    expect((await fetch(`${url}/models`)).status).toBe(401)
  }
  const made = JSON.parse(await ok("create", "ops", "--role", "admin", "--note", "the team's", "--json"))
  expect(made).toMatchObject({ name: "ops", role: "admin", note: "the team's", expires_at: null })
  const headers = { authorization: `Bearer ${made.key}` }
  expect((await fetch(`${one.url}/keys`, { headers })).status).toBe(200)

  const table = await ok("list")
  expect(table).toMatch(/^ID +Name +Role +State +Models +Limits +Expires +Note\n/)
  expect(table).toMatch(/ alice +use +active +a\* +60 requests\/min +\d{4}-/)
  expect(await ok()).toBe(table)
  const shown = await ok("show", made.id)
  expect(shown).toMatch(/^ID +\w+\nName +ops\nState +active\nRole +admin\nModels +all\n/)
  expect(table + shown).not.toContain(key)

  const next = (await ok("rotate", "alice")).trim()
  for (const { url } of [one, workers]) {
    expect((await chat(url, next)).choices[0]?.message.content).toBe("Well.")
    await eventually(async () => (await chat(url, key).catch(({ status }) => status)) === 401, "the old key is denied")
  }
  await ok("revoke", "alice")
  for (const { url } of [one, workers]) {
    await eventually(async () => (await chat(url, next).catch(({ status }) => status)) === 401, "the key is denied")
  }
  expect(JSON.parse(await ok("list", "--json")).map(({ name }: { name: string }) => name)).toEqual(["ops"])
  expect(await ok("list", "--all")).toMatch(/ alice +use +revoked /)
  const stored = readFileSync(store).toString("latin1")
  for (const secret of [key, next, made.key]) expect(stored).not.toContain(secret)
  for (const { said } of [one, workers]) expect(said()).not.toContain("sk-aic-")
})

it("refuses impossible values", { timeout: 120_000 }, async () => {
  const home = keep(makeHome())
  const env = { AICORTEX_STORE: join(home.path, "store.db") }
  const refused = async (args: ReadonlyArray<string>, variables: NodeJS.ProcessEnv = env) => {
    const { code, err, out } = await home.run(["keys", ...args], variables)
    expect(out).toBe("")
    return `${code}: ${err.trim()}`
  }
  await home.run(["keys", "create", "alice"], env)
  const table: ReadonlyArray<readonly [ReadonlyArray<string>, RegExp]> = [
    [["create"], /^2: .*NAME/],
    [["create", "alice"], /^1: .*There is an API key 'alice' already/],
    [["create", "sk-abc"], /^2: .*NAME must be a name, and not a key/],
    [["create", "b", "--requests-per-minute", "0"], /^2: .*--requests-per-minute must be .*1 to 1000000000/],
    [["create", "b", "--max-concurrent", "x"], /^2: .*--max-concurrent must be/],
    [["create", "b", "--expires", "soon"], /^2: .*--expires must be a time such as 30d or 12h/],
    [["create", "b", "--expires", "0s"], /^2: .*--expires must be/],
    [["create", "b", "--role", "owner"], /^2: .*--role must be one of use, manage, admin/],
    [["create", "b", "--allow", "x".repeat(201)], /^2: .*--allow must be names of models/],
    [["rotate", "alice", "--grace", "31d"], /^2: .*--grace must be/],
    [["show", "bob"], /^1: .*There is no API key 'bob'/],
    [["revoke", "sk-aic-secret"], /^1: .*There is no API key with this text/]
  ]
  for (const [args, words] of table) expect(await refused(args)).toMatch(words)
  expect(await refused(["list"], { AICORTEX_STORE: "memory" })).toMatch(/^2: .*the store is off: give --store ADDRESS/)
})

it("usage survives SIGTERM, and is printed as a table, JSON and CSV", { timeout: 240_000 }, async () => {
  const home = keep(makeHome())
  const server = keep(await startFakeOllama({ models: ["a:1b"], reply: "Well." }))
  const env = { AICORTEX_STORE: join(home.path, "store.db"), AICORTEX_SERVERS: server.url }
  const key = (await home.run(["keys", "create", "alice"], env)).out.trim()
  const { child, end, url } = await serve(home, [], env)
  const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 })
  const ask = () =>
    openai.chat.completions.create({ model: "a:1b", user: "=1+1", messages: [{ role: "user", content: "Hi" }] })
  const answers = await Promise.all(Array.from({ length: 15 }, ask))
  child.kill("SIGTERM")
  expect((await end).code).toBe(0)
  const ok = async (...args: ReadonlyArray<string>): Promise<string> => {
    const { code, err, out } = await home.run(["usage", ...args], env)
    expect([code, err]).toEqual([0, ""])
    return out
  }
  const tokens = answers.reduce((sum, { usage }) => sum + (usage?.completion_tokens ?? 0), 0)
  expect(JSON.parse(await ok("--json", "--by", "key,user,model"))).toEqual([
    expect.objectContaining({
      key: "alice",
      user: "=1+1",
      model: "a:1b",
      requests: 15,
      errors: 0,
      completion_tokens: tokens
    })
  ])
  expect(await ok()).toMatch(/^Key +Model +Requests .*\nalice +a:1b +15 +0 /)
  expect(await ok("--by", "user", "--csv", "--since", "24h")).toMatch(/^user,requests,.*\r\n"'=1\+1",15,0,/)
  for (const [args, words] of [
    [["--by", "size"], /--by must be some of key, user/],
    [["--since", "soon"], /--since must be a time such as 24h/],
    [["--csv", "--json"], /--csv and --json/]
  ] as const) {
    const { code, err } = await home.run(["usage", ...args], env)
    expect([code, err]).toEqual([2, expect.stringMatching(words)])
  }
})

it("`usage prune` shows what would be removed, removes it, and requires a time", { timeout: 240_000 }, async () => {
  const home = keep(makeHome())
  const server = keep(await startFakeOllama({ models: ["a:1b"], reply: "Well." }))
  const env = { AICORTEX_STORE: join(home.path, "store.db"), AICORTEX_SERVERS: server.url }
  const gateway = await serve(home, [], env)
  const body = JSON.stringify({ model: "a:1b", messages: [{ role: "user", content: "Hi" }] })
  const headers = { "content-type": "application/json" }
  expect((await fetch(`${gateway.url}/v1/chat/completions`, { method: "POST", body, headers })).status).toBe(200)
  gateway.child.kill("SIGTERM")
  await gateway.end
  const prune = (...args: ReadonlyArray<string>) => home.run(["usage", "prune", "--json", ...args], env)
  const all = ["--before", "2999-01-01"]
  expect(JSON.parse((await prune(...all, "--dry-run")).out)).toEqual({ rows: 1, requests: 1, dryRun: true })
  expect(JSON.parse((await prune(...all)).out)).toEqual({ rows: 1, requests: 1, dryRun: false })
  expect(JSON.parse((await prune(...all)).out)).toMatchObject({ requests: 0 })
  for (const [args, words] of [
    [[], "--before is needed"],
    [["--before", "soon"], "--before must be a time"]
  ] as const) {
    const { code, err } = await prune(...args)
    expect([code, err]).toEqual([2, expect.stringContaining(words)])
  }
})

/** `aicortex requests` over the store of a gateway that logs its requests. */
import { join } from "node:path"
import { beforeAll, expect, it } from "vitest"
import { build, type Ended, makeHome } from "../support/cliProcess.js"
import { startFakeOllama } from "../support/fakeServer.js"
import { startGateway } from "../support/gateway.js"
import { useKeep } from "../support/keep.js"

const keep = useKeep()
beforeAll(() => build(), 240_000)

const lines = ({ out }: Ended) => out.trimEnd().split("\n")

it("lists, shows, exports and prunes logged requests, and lists what it does not accept", {
  timeout: 240_000
}, async () => {
  const home = keep(makeHome())
  const store = join(home.path, "store.db")
  const requests = (...args: ReadonlyArray<string>) => home.run(["requests", ...args], { AICORTEX_STORE: store })
  const ollama = keep(await startFakeOllama({ models: ["a:1b"], reply: "One two \u001b[31mthree." }))
  const start = (gateway: object) => startGateway([ollama.url], gateway, { cortex: { store } })
  const ask = async (gateway: Awaited<ReturnType<typeof start>>, more: object = {}) => {
    const body = { model: "a:1b", messages: [{ role: "user", content: "Hi" }], ...more }
    await (await gateway.post("/v1/chat/completions", body)).text()
  }
  {
    // A gateway that logs nothing.
    await using silent = await start({})
    await ask(silent)
  }
  const [nothing, empty, noLines] = await Promise.all([requests(), requests("--json"), requests("export")])
  expect([nothing.code, nothing.out, nothing.err]).toEqual([0, "", expect.stringContaining("serve --request-log")])
  expect([empty.out, noLines.out]).toEqual(["[]\n", ""])

  {
    await using gateway = await start({ requestLog: "bodies" })
    await ask(gateway)
    await ask(gateway, { model: "none" })
    await ask(gateway, { stream: true })
  }
  const [table, listed, last, recent, older] = await Promise.all([
    requests(),
    requests("list", "--json"),
    requests("list", "--last", "2", "--json"),
    requests("list", "--since", "1h", "--json"),
    requests("list", "--since", "2999-01-01", "--json")
  ])
  expect(lines(table)[0]).toMatch(/^ID +Time +Key +Model +Server +Status +ms +Tokens +Error$/)
  expect(lines(table).slice(1)).toEqual([
    expect.stringMatching(/ 200 .* -$/),
    expect.stringMatching(/ 404 .* model_not_found$/),
    expect.stringMatching(/ 200 .* -$/)
  ])
  const all = JSON.parse(listed.out) as ReadonlyArray<{ id: string; status: number; stream: boolean }>
  expect(all).toMatchObject([
    { status: 200, stream: true, model: "a:1b" },
    { status: 404, error: "model_not_found" },
    { status: 200, stream: false, model: "a:1b", error: null }
  ])
  expect(JSON.parse(last.out)).toEqual(all.slice(0, 2))
  expect(JSON.parse(recent.out)).toEqual(all)
  expect(older.out).toBe("[]\n")

  const id = all[2]?.id ?? ""
  const [shown, json, exported, would] = await Promise.all([
    requests("show", id),
    requests("show", id, "--json"),
    requests("export"),
    requests("prune", "--before", "0s", "--dry-run", "--json")
  ])
  expect(shown.out).toMatch(/^status +200$/m)
  expect(shown.out).toContain("One two ")
  // A body that a terminal could take for commands is harmless.
  expect(shown.out).not.toContain("\u001b")
  expect(JSON.parse(json.out)).toMatchObject({ id, request: expect.stringContaining('"Hi"') })
  expect(lines(exported).map((line) => JSON.parse(line).id)).toEqual(all.map((one) => one.id).reverse())
  expect(JSON.parse(would.out)).toMatchObject({ requests: 3, dryRun: true })

  const wrong: ReadonlyArray<readonly [ReadonlyArray<string>, number, RegExp]> = [
    [["list", "--last", "0"], 2, /--last must be .*1/],
    [["list", "--last", "many"], 2, /--last must be/],
    [["list", "--since", "soon"], 2, /--since must be a time such as 24h/],
    [["show"], 2, /ID/],
    [["show", "nothing"], 1, /there is no request 'nothing' in the log/],
    [["prune"], 2, /--before is needed/],
    [["prune", "--before", "x"], 2, /--before must be a time/],
    [["list", "--store", "memory"], 2, /the store is off/],
    [["list", "--store", "mysql://db"], 2, /--store/]
  ]
  const refused = await Promise.all(wrong.map(([args]) => requests(...args)))
  for (const [i, { code, err, out }] of refused.entries()) {
    const [args, expected, words] = wrong[i] ?? [[], 0, /$^/]
    expect([args, code, out, err]).toEqual([args, expected, "", expect.stringMatching(words)])
  }

  const pruned = await requests("prune", "--before", "0s")
  expect([pruned.code, pruned.err]).toEqual([0, expect.stringMatching(/3 requests \(\d+ bytes\) are removed/)])
  expect((await requests("--json")).out).toBe("[]\n")
})

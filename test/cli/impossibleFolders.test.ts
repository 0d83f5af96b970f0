/** Settings that name a place where no folder can be made: each is an error at once that names the setting. */
import { join } from "node:path"
import { beforeAll, expect, it } from "vitest"
import { build, ended, makeHome } from "../support/cliProcess.js"
import { startFakeOllama } from "../support/fakeServer.js"
import { useKeep } from "../support/keep.js"

const keep = useKeep()
beforeAll(() => build(), 240_000)

const model = "a:1b"
/** Node's own recursion never ends below the first. */
const places = ["/proc/none/of/it", "/dev/null/x"]

it.runIf(process.platform === "linux").each(places)("below %s", { timeout: 240_000 }, async (place) => {
  const home = keep(makeHome())
  const server = keep(await startFakeOllama({ models: [model], reply: "Well." }))
  const run = async (words: ReadonlyArray<string>, env: NodeJS.ProcessEnv) => {
    const child = home.start(words, { AICORTEX_SERVERS: server.url, ...env })
    const timer = setTimeout(() => child.kill("SIGKILL"), 60_000)
    const end = await ended(child)
    clearTimeout(timer)
    return end
  }
  const store = { AICORTEX_STORE: `file:${place}/store.db` }
  for (const words of [
    ["sessions", "create"],
    ["keys", "create", "ann"],
    ["serve", "--port", "0", "--no-local"],
    ["serve", "--port", "0", "--no-local", "--workers", "2"]
  ]) {
    const { code, err, out } = await run(words, store)
    expect([code, out], words.join(" ")).toEqual([1, ""])
    expect(err).toMatch(/store\.db cannot be made \(.*mkdir.*\): let AICORTEX_STORE, .* name another place/)
  }
  const servers = await run(["servers", "add", server.url], { AICORTEX_CONFIG: join(place, "config.json") })
  expect([servers.code, servers.err]).toEqual([expect.any(Number), expect.stringContaining(join(place, "config.json"))])
  expect(servers.code).not.toBe(0)
  // What is only kept for the next run stops nothing.
  const chat = await run(["chat", "Hi", "--model", model], {
    AICORTEX_STATE: join(place, "state.json"),
    XDG_CACHE_HOME: place
  })
  expect([chat.code, chat.out]).toEqual([0, "Well.\n"])
  expect(chat.err).toMatch(/state\.json.*cannot be (read|written)/)
  const cached = await run(["chat", "Hi", "--model", model, "--cache"], { XDG_CACHE_HOME: place })
  expect([cached.code, cached.out]).toEqual([0, "Well.\n"])
  const local = await run(["start"], { XDG_STATE_HOME: place })
  expect(local.code).not.toBe(0)
  expect(local.code).not.toBe(null)
  expect(local.err).toMatch(/ \W?(\/proc\/none|\/dev\/null)/)
})

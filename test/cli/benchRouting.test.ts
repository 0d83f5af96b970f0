/** What later commands make of a benchmark: which server is best, and which one a chat goes to. */
import { type IntervalHistogram, monitorEventLoopDelay } from "node:perf_hooks"
import { afterEach, beforeAll, describe, expect, it, vi } from "vitest"
import { build, type Home, makeHome } from "../support/cliProcess.js"
import { type LoadedServer, type Service, startLoadedServer } from "../support/loadedServer.js"

vi.setConfig({ testTimeout: 240_000, hookTimeout: 240_000 })

const kept = new Set<AsyncDisposable>()
const keep = <A extends AsyncDisposable>(one: A): A => {
  kept.add(one)
  return one
}
beforeAll(build)
afterEach(async () => {
  for (const one of kept) await one[Symbol.asyncDispose]()
  kept.clear()
})

const start = async (service: () => Service, listDelay = 0): Promise<LoadedServer> =>
  keep(await startLoadedServer(service, listDelay))

const homeOf = (servers: ReadonlyArray<LoadedServer>, more: ReadonlyArray<object> = []): Home =>
  keep(
    makeHome({
      servers: servers.map(({ url }, i) => ({ url, protocol: "openai", ...more[i] })),
      model: "m"
    })
  )

const quick = ["--runs", "1", "--concurrency", "1", "--output-tokens", "8", "--prompt-tokens", "100"]
// So slow that a busy machine does not make the fast one as slow.
const slow: Service = { gap: 400, tokens: 6 }
const fast: Service = { gap: 2, tokens: 6 }

const bench = async ({ run }: Home) => {
  const { code, err } = await run(["bench", "-m", "m", ...quick])
  expect([code, err]).toEqual([0, ""])
}
const best = async ({ run }: Home, strategy: string): Promise<string> => {
  const { code, err, out } = await run(["best", "m", "--strategy", strategy])
  expect([code, err]).toEqual([0, ""])
  return out.trim()
}
/**
 * A call takes the first server that has the model where another one has not told its list within 250 ms. A machine can
 * be so busy; then it is not known which one it would have gone to.
 */
const inTime = (servers: ReadonlyArray<LoadedServer>, delay: IntervalHistogram): boolean =>
  Math.max(...servers.map(({ times }) => times.answer)) - Math.min(...servers.map(({ times }) => times.list)) < 200 &&
  delay.max < 100_000_000

/** Whether a chat goes to this one of the servers. */
const goesTo = async ({ run }: Home, servers: ReadonlyArray<LoadedServer>, wanted: string, routing: string) => {
  const delay = monitorEventLoopDelay()
  delay.enable()
  // The delays of the command itself are not seen from here: it may be late once or twice, and is not each time.
  for (let late = 0; ; ) {
    delay.reset()
    const before = servers.map(({ bodies }) => bodies.length)
    const { code, err } = await run(["chat", "Hello", "-m", "m", "--routing", routing])
    expect([code, err]).toEqual([0, ""])
    const asked = servers.filter(({ bodies }, i) => bodies.length > (before[i] ?? 0)).map(({ url }) => url)
    if (asked.join() === wanted) break
    if (inTime(servers, delay) && ++late === 3) expect(asked).toEqual([wanted])
  }
  delay.disable()
}

describe("after a benchmark", () => {
  it.each([0, 1])(
    "fastest and balanced go to the faster server, and to the other one when that has changed (%i)",
    async (at) => {
      const services = [slow, slow]
      services[at] = fast
      const servers = [await start(() => services[0] ?? slow), await start(() => services[1] ?? slow)]
      const home = homeOf(servers)
      for (const faster of [at, 1 - at]) {
        services[faster] = fast
        services[1 - faster] = slow
        await bench(home)
        const { url = "" } = servers[faster] ?? {}
        for (const routing of ["fastest", "balanced"]) expect(await best(home, routing)).toBe(url)
        await goesTo(home, servers, url, "fastest")
        await goesTo(home, servers, url, "balanced")
      }
    }
  )

  it("nearest picks the nearest server, however slow it is", async () => {
    const servers = [await start(() => fast), await start(() => slow)]
    const places = [
      { location: { latitude: -33.9, longitude: 151.2 } },
      { location: { latitude: 52.5, longitude: 13.4 } }
    ]
    const home = homeOf(servers, places)
    const env = { AICORTEX_LOCATION: "52.4,13.1" }
    const nearHome: Home = { ...home, run: (args, more) => home.run(args, { ...env, ...more }) }
    await bench(nearHome)
    expect(await best(nearHome, "nearest")).toBe(servers[1]?.url)
    await goesTo(nearHome, servers, servers[1]?.url ?? "", "nearest")
    expect(await best(nearHome, "fastest")).toBe(servers[0]?.url)
  })

  it("a server with false counters does not win", async () => {
    const servers = [await start(() => ({ ...slow, claims: 1_000_000 })), await start(() => ({ gap: 30, tokens: 6 }))]
    const home = homeOf(servers)
    await bench(home)
    for (const routing of ["fastest", "balanced"]) {
      expect(await best(home, routing)).toBe(servers[1]?.url)
      await goesTo(home, servers, servers[1]?.url ?? "", routing)
    }
  })
})

describe("aicortex best in a new process", () => {
  it("waits for the late model list of the faster server", async () => {
    const servers = [await start(() => slow), await start(() => fast, 700)]
    const home = homeOf(servers)
    await bench(home)
    expect(await best(home, "fastest")).toBe(servers[1]?.url)
  })

  it("does not wait forever for a silent server", async () => {
    const [first, silent] = [await start(() => slow), await start(() => fast, Number.POSITIVE_INFINITY)]
    const home = homeOf([first, silent], [])
    expect(await best(home, "fastest")).toBe(first.url)
  })
})

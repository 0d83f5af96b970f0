/** `aicortex bench` as a load generator for one server. */
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest"
import { build, ended, type Home, makeHome } from "../support/cliProcess.js"
import { useDemoServers } from "../support/demoProcess.js"
import { type LoadedServer, type Service, startLoadedServer } from "../support/loadedServer.js"

vi.setConfig({ testTimeout: 120_000, hookTimeout: 240_000 })

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

const start = async (service: (number: number) => Service): Promise<LoadedServer> =>
  keep(await startLoadedServer(service))
const home = (): Home => keep(makeHome())

describe("aicortex bench with --rate or --profile", () => {
  it("shows latencies and goodput in tables, as JSON, and as a chart", async () => {
    const server = await start((number) => (number % 4 === 3 ? { first: 1_500 } : {}))
    const { path, run } = home()
    const args = ["bench", `${server.url}/v1`, "-m", "m", "--profile", "concurrent", "--concurrency", "10"]
    const more = ["--requests", "20", "--slo", "ttft=500ms,latency=1m", "--warmup", "0", "--cooldown", "0"]
    const shown = await run([...args, ...more])
    expect(shown.err).toBe("")
    expect(shown.code).toBe(0)
    expect(shown.out).toMatch(/concurrent 10 +20 +0 +0 .*75\.0 %/)
    expect(shown.out).toMatch(
      /^Time to first token .*\nInter-token latency .*\nTime per output token .*\nRequest latency /m
    )
    expect(server.bodies).toHaveLength(20)

    const chart = join(path, "load.svg")
    const json = await run([...args, ...more, "--json", "--chart", chart])
    const report = JSON.parse(json.out)
    expect(report).toMatchObject({ ended: "complete", model: "m", trace: "random", seed: 42, requests: 20 })
    expect(report.slo).toEqual({ ttft: 500, latency: 60_000 })
    expect(report.steps[0].goodput).toMatchObject({ requests: 15, attainment: 0.75 })
    expect(Object.keys(report.steps[0].latency)).toEqual(["count", "mean", "min", "p50", "p90", "p95", "p99", "max"])
    expect(readFileSync(chart, "utf8")).toMatch(/^<svg .*concurrent, 10 at a time, 75 % within the limits/s)
  })

  it("sends the key from a variable, and a conversation", async () => {
    const server = await start(() => ({}))
    const args = ["bench", server.url, "-m", "m", "--profile", "synchronous", "--requests", "3", "--trace", "chat"]
    const { code } = await home().run([...args, "--turns", "3", "--api-key-env", "MY_KEY"], { MY_KEY: "secret" })
    expect(code).toBe(0)
    expect(server.authorizations).toEqual(["Bearer secret", "Bearer secret", "Bearer secret"])
    expect(server.bodies.map(({ messages }) => messages.length)).toEqual([1, 3, 5])
  })

  it("ends at Ctrl-C with the results so far", async () => {
    const server = await start((number) => (number < 6 ? {} : { first: Number.POSITIVE_INFINITY }))
    const { path, start: spawn } = home()
    const chart = join(path, "load.svg")
    const child = spawn(["bench", server.url, "-m", "m", "--rate", "40", "--duration", "10m", "--chart", chart])
    const done = ended(child)
    await expect.poll(() => server.bodies.length, { timeout: 60_000 }).toBeGreaterThan(20)
    child.kill("SIGINT")
    const { code, out } = await done
    expect(code).toBe(130)
    expect(out).toMatch(/poisson 40\.0\/s /)
    expect(out).toMatch(/stopped: these are the results so far/)
    expect(existsSync(chart)).toBe(true)
  })

  it("fails if nothing was answered", async () => {
    const server = await start(() => ({ status: 503 }))
    const { code, err, out } = await home().run(["bench", server.url, "-m", "m", "--profile", "synchronous"])
    expect(code).toBe(1)
    expect(out).toMatch(/\d+ failed: .*status 503 as planned/)
    expect(out).toMatch(/nothing but failures/)
    expect(err).toMatch(/no request was answered/)
  })

  it.each([
    [["--rate", "5"], /--model/],
    [["--rate", "5", "-m", "m", "http://127.0.0.1:8"], /name the one server/],
    [["--rate", "5", "-m", "m", "--all"], /--all cannot be combined with --rate or --profile/],
    [["-m", "m", "--slo", "ttft=1s"], /--slo is for loading a server: give --rate or --profile/],
    [["--rate", "5", "-m", "m", "--slo", "tttf=1s"], /--slo must be limits such as/],
    [["--rate", "5", "-m", "m", "--slo", "ttft=1s,ttft=2s"], /names ttft twice/],
    [["--rate", "5", "-m", "m", "--duration", "0"], /--duration must be a time above 0/],
    [["--rate", "0", "-m", "m"], /--rate must be a number above 0/],
    [["--profile", "poissson", "-m", "m"], /--profile must be one of synchronous/],
    [["--rate", "5", "-m", "m", "--api-key-env", "NO_KEY"], /the environment has no NO_KEY/]
  ])("%j is an error of the command line", async (flags, message) => {
    const server = await start(() => ({}))
    const { code, err } = await home().run(["bench", server.url, ...flags])
    expect(err).toMatch(message)
    expect(code).toBe(2)
    expect(server.bodies).toEqual([])
  })
})

describe("the demo engine", async () => {
  const demo = await useDemoServers()
  afterAll(demo.close)

  it("answers under load, and counts tokens", async () => {
    const { url } = keep(await demo.start())
    const args = ["--profile", "concurrent", "--concurrency", "2", "--requests", "4", "--output-tokens", "16"]
    const { code, err, out } = await home().run([
      "bench",
      url,
      "-m",
      "tiny:2m",
      ...args,
      "--prompt-tokens",
      "20",
      "--json"
    ])
    expect(err).toBe("")
    expect(code).toBe(0)
    const [step] = JSON.parse(out).steps
    expect(step.requests).toMatchObject({ sent: 4, succeeded: 4, failed: 0 })
    expect(step.outputTokens.max).toBeGreaterThan(1)
    expect(step.outputTokens.max).toBeLessThanOrEqual(17)
    expect(step.ttft.p50).toBeGreaterThan(0)
    expect(step.latency.p50).toBeGreaterThan(step.ttft.p50)
  })
})

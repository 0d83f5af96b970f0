/**
 * What the monitors cost, as a share of a core. First for each reading of the machine, and for each check of a line with
 * the throughput that its list of models shows. Then as it is in use: two processes that differ in nothing but the
 * monitors, at the same time, by the processor time that each takes, with its threads and the programs that it runs.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { readFileSync } from "node:fs"
import { createInterface } from "node:readline"
import { setTimeout as sleep } from "node:timers/promises"
import * as HttpClient from "@effect/platform/HttpClient"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as Conditions from "../src/Conditions.js"
import * as Cortex from "../src/Cortex.js"
import { LineTracker } from "../src/conditions/connectivity.js"
import { thresholdsOf } from "../src/conditions/thresholds.js"
import { ResourceReader } from "../src/cortex/resourceReader.js"
import * as Fleet from "../src/Fleet.js"
import { throughputOf } from "../src/fleet/throughput.js"
import { probe } from "../src/Probes.js"
import { fromOptions } from "../src/Server.js"
import * as Settings from "../src/Settings.js"
import * as HttpOverTransport from "../src/transport/httpClient.js"
import * as Undici from "../src/transport/undici.js"

const quick = process.argv.includes("--quick")
const readings = quick ? 5 : 30
const checks = quick ? 20 : 200
/** As often as `Conditions` reads, and checks a line, in milliseconds. */
const interval = 5_000
const lineInterval = 30_000
/** Remote servers that are checked. */
const lines = 4
const target = 0.5
/** How long both processes are watched, in slices, in milliseconds. */
const slice = quick ? 3_000 : 10_000
const slices = quick ? 4 : 6

/** Ticks of this process and of its children that ended (Linux), else only its own, in milliseconds. */
const used = (): number => {
  try {
    const fields = readFileSync("/proc/self/stat", "utf8")
      .replace(/^.*\) /s, "")
      .split(" ")
    const children = Number(fields[13]) + Number(fields[14])
    const { system, user } = process.cpuUsage()
    return (user + system) / 1_000 + children * 10
  } catch {
    const { system, user } = process.cpuUsage()
    return (user + system) / 1_000
  }
}

const say = (text: string) => process.stdout.write(`${text}\n`)

const readMachine = async (): Promise<number> => {
  const reader = new ResourceReader()
  const before = used()
  const first = await reader.read()
  const start = used() - before
  // The package gives the same figures again within 200 ms; a pause lets each reading do its work.
  const from = used()
  let took = 0
  for (let i = 0; i < readings; i++) {
    await sleep(250)
    const began = performance.now()
    await reader.read()
    took += performance.now() - began
  }
  const each = (used() - from) / readings
  await reader.close()
  say(`read: ${JSON.stringify(first)}`)
  say(`the first reading: ${start.toFixed(0)} ms of a processor, once`)
  say(`each reading: ${each.toFixed(2)} ms of a processor, ${(took / readings).toFixed(1)} ms long`)
  return (100 * each) / interval
}

/** A server of its own process, whose list of models is as long as those of hosts of many models. */
const program = `
const data = Array.from({ length: 1000 }, (_, i) => ({ id: "vendor/model-" + i + "-" + "x".repeat(80), object: "model" }))
const body = JSON.stringify({ object: "list", data })
const server = require("node:http").createServer((_, res) => {
  res.setHeader("content-type", "application/json")
  res.end(body)
})
server.listen(0, "127.0.0.1", () => process.stdout.write(server.address().port + "\\n"))
`

const startServer = async () => {
  const child = spawn(process.execPath, ["-e", program], { stdio: ["ignore", "pipe", "inherit"] })
  const [port] = await once(child.stdout, "data")
  return { url: `http://127.0.0.1:${String(port).trim()}`, stop: () => child.kill("SIGKILL") }
}

const checkLines = async (): Promise<number> => {
  const { stop, url } = await startServer()
  const server = Either.getOrThrow(fromOptions({ url, protocol: "openai", local: false }, "bench"))
  const thresholds = thresholdsOf({})
  const run = Effect.gen(function* () {
    const client = yield* HttpClient.HttpClient
    const fleet = yield* Fleet.Fleet
    const tracker = new LineTracker(url, thresholds)
    const check = Effect.map(probe(client, server), ({ took }) => {
      const { roundTrip } = fleet.snapshot(url, "")
      const [last] = fleet.transfers(url).slice(-1)
      const throughput = last === undefined ? undefined : throughputOf(last, roundTrip, thresholds.throughput)
      return tracker.observe({ reached: 1, lost: 0, latency: took, throughput }, Date.now())
    })
    for (let i = 0; i < checks / 4; i++) yield* check
    const from = used()
    let line = yield* check
    for (let i = 1; i < checks; i++) line = yield* check
    return { each: (used() - from) / checks, line }
  })
  const services = Layer.merge(Fleet.layer, Layer.provide(HttpOverTransport.layer, Undici.layer))
  const { each, line } = await Effect.runPromise(Effect.provide(run, Layer.provide(services, Settings.layer({}))))
  stop()
  say(`checked: ${JSON.stringify(line)}`)
  say(`each check of a line, with a list of 1,000 models: ${each.toFixed(2)} ms of a processor`)
  return (100 * lines * each) / lineInterval
}

/** One of the two processes: a whole fleet, with the monitors or without; says what it has used whenever it is asked. */
const runSide = async (side: string, urls: ReadonlyArray<string>): Promise<never> => {
  const servers = urls.map((url) => ({ url, protocol: "openai" as const, local: false }))
  const replaced = side === "monitors" ? {} : { conditions: Conditions.layerTest() }
  const asked = createInterface({ input: process.stdin })
  // Whoever started it has ended.
  asked.on("close", () => process.exit())
  const run = Effect.gen(function* () {
    const conditions = yield* Conditions.Conditions
    let readings = 0
    if (side === "monitors") {
      yield* Effect.fork(
        Stream.runForEach(conditions.changes, () =>
          Effect.sync(() => {
            readings++
          })
        )
      )
    }
    yield* conditions.snapshot
    asked.on("line", () => say(JSON.stringify({ used: used(), readings })))
    say("ready")
    return yield* Effect.never
  })
  return Effect.runPromise(Effect.provide(run, Cortex.layer({ configFile: false, servers }, replaced)))
}

const startSide = async (side: string, urls: ReadonlyArray<string>) => {
  const child = spawn(process.execPath, [process.argv[1] ?? "", "--side", side, ...urls], {
    stdio: ["pipe", "pipe", "inherit"]
  })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const next = async (): Promise<string> => {
    const { done, value } = await lines.next()
    if (done === true) throw new Error(`The process of the side "${side}" has ended.`)
    return value
  }
  await next()
  return {
    read: async (): Promise<{ readonly used: number; readonly readings: number }> => {
      child.stdin.write("\n")
      return JSON.parse(await next())
    },
    stop: () => child.kill("SIGKILL")
  }
}

/** The share of a core in percent that the monitors take, as both processes show it. */
const watchBoth = async (): Promise<number> => {
  const servers = await Promise.all(Array.from({ length: lines }, startServer))
  const urls = servers.map(({ url }) => url)
  const floor = await startSide("floor", urls)
  const monitors = await startSide("monitors", urls)
  // What a start has to compile is not a part of what is paid all the time.
  await sleep(slice)
  const shares: Array<readonly [floor: number, monitors: number]> = []
  let told = 0
  for (let n = 0; n < slices; n++) {
    const began = performance.now()
    const from = [await floor.read(), await monitors.read()] as const
    await sleep(slice)
    const to = [await floor.read(), await monitors.read()] as const
    const took = performance.now() - began
    told += to[1].readings - from[1].readings
    shares.push([(100 * (to[0].used - from[0].used)) / took, (100 * (to[1].used - from[1].used)) / took])
  }
  for (const { stop } of [floor, monitors, ...servers]) stop()
  const mean = (of: (pair: readonly [number, number]) => number): number =>
    shares.reduce((sum, pair) => sum + of(pair), 0) / shares.length
  const [without, with_] = [mean(([floor]) => floor), mean(([, monitors]) => monitors)]
  const seconds = (slice * slices) / 1_000
  say(`${seconds} s of each at the same time, in ${slices} slices, ${told} readings and checks:`)
  say(`  without monitors ${without.toFixed(3)} % of a core, with them ${with_.toFixed(3)} %`)
  say(`  per slice, without/with: ${shares.map(([a, b]) => `${a.toFixed(2)}/${b.toFixed(2)}`).join(" ")}`)
  return with_ - without
}

const at = process.argv.indexOf("--side")
if (at !== -1) await runSide(process.argv[at + 1] ?? "", process.argv.slice(at + 2))

const machine = await readMachine()
const line = await checkLines()
say(`${machine.toFixed(3)} % of a core at one reading in 5 s, ${line.toFixed(3)} % at ${lines} checks in 30 s`)
say(`${(machine + line).toFixed(3)} % of a core by what each reading and check costs`)
const share = await watchBoth()
say(`${share.toFixed(3)} % of a core in use (target ${target} %): ${share <= target ? "ok" : "MISS"}`)
process.exitCode = share <= target ? 0 : 1

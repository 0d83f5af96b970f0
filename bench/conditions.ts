/**
 * What the monitors cost, as a share of a core: processor time of this process and of the programs that it runs, for each
 * reading of the machine, and for each check of a line with the throughput that its list of models shows.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { readFileSync } from "node:fs"
import { setTimeout as sleep } from "node:timers/promises"
import * as HttpClient from "@effect/platform/HttpClient"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
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

const checkLines = async (): Promise<number> => {
  const child = spawn(process.execPath, ["-e", program], { stdio: ["ignore", "pipe", "inherit"] })
  const [port] = await once(child.stdout, "data")
  const url = `http://127.0.0.1:${String(port).trim()}`
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
  child.kill("SIGKILL")
  say(`checked: ${JSON.stringify(line)}`)
  say(`each check of a line, with a list of 1,000 models: ${each.toFixed(2)} ms of a processor`)
  return (100 * lines * each) / lineInterval
}

const machine = await readMachine()
const line = await checkLines()
const share = machine + line
say(`${machine.toFixed(3)} % of a core at one reading in 5 s, ${line.toFixed(3)} % at ${lines} checks in 30 s`)
say(`${share.toFixed(3)} % of a core (target ${target} %): ${share <= target ? "ok" : "MISS"}`)
process.exitCode = share <= target ? 0 : 1

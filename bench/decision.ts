/** What one routing decision costs, over the columns alone and as a call meets it, and what `auto` costs. `node bench/decision.mjs`; see README.md. */
import { writeFileSync } from "node:fs"
import { parseArgs } from "node:util"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { Routing } from "../src/ChatRequest.js"
import * as Fleet from "../src/Fleet.js"
import * as Prng from "../src/internal/prng.js"
import * as Router from "../src/Router.js"
import * as ConversationKey from "../src/router/conversationKey.js"
import { fromOptions, type Host } from "../src/Server.js"
import * as Settings from "../src/Settings.js"
import { median, table } from "./harness.js"
import { selectionOver, selectionTarget, shapes } from "./selection.js"

const usage = (message: string): never => {
  console.error(`${message}\nUsage: node bench/decision.mjs [--quick] [--strict] [--json FILE]`)
  process.exit(2)
}

const readOptions = () => {
  try {
    return parseArgs({
      options: {
        quick: { type: "boolean", default: false },
        strict: { type: "boolean", default: false },
        json: { type: "string" }
      }
    }).values
  } catch (error) {
    return usage(error instanceof Error ? error.message : String(error))
  }
}

const options = readOptions()
const rounds = options.quick ? 5 : 41
/** How long one round of one strategy takes, in milliseconds. */
const batch = options.quick ? 5 : 30

const strategies = Routing.literals

/** In microseconds, by the number of servers; larger fleets than the first two are shown without a target. */
const targets: ReadonlyMap<number, number> = new Map([
  [100, 5],
  [10_000, 50]
])
const sizes = [10, 100, 1_000, 10_000]

/** A fleet that has been at work: every server has shown what it can do, most hold the model, some rest or are full. */
const busyFleet = (size: number) => {
  const fleet = Effect.runSync(Effect.provideService(Fleet.make, Settings.CurrentSettings, Settings.empty))
  const random = Prng.make(size)
  const hosts: ReadonlyArray<Host> = Array.from({ length: size }, (_, i) => ({
    server: Either.getOrThrow(fromOptions({ url: `http://s${i}:11434`, protocol: "ollama" }, "bench")),
    protocol: "ollama",
    model: "m",
    certain: true,
    performance: undefined
  }))
  const pool = fleet.pool(hosts, () => 1 + random() * 100)
  for (let at = 0; at < size; at++) {
    const lease = fleet.lease(pool, at)
    lease.answered()
    lease.succeed({
      firstTokenTime: 100 + random() * 1_000,
      tokensPerSecond: 10 + random() * 90,
      promptTokens: 500,
      promptTime: 50 + random() * 1_000,
      keepAlive: random() < 0.8 ? Fleet.defaultKeepAlive : -1
    })
    if (random() < 0.02) fleet.lease(pool, at).fail({ reason: "server-error", message: "" })
    for (let n = Math.floor(random() * 5); n > 0; n--) fleet.lease(pool, at)
  }
  return { fleet, pool }
}

interface Row {
  readonly strategy: Routing
  readonly size: number
  /** Microseconds. */
  readonly decision: number
  readonly whole: number
}

const time = (once: () => void): number => {
  let count = 0
  const began = performance.now()
  let took = 0
  while (took < batch) {
    for (let k = 0; k < 8; k++) once()
    count += 8
    took = performance.now() - began
  }
  return (took * 1_000) / count
}

let sink = 0
const cases = sizes.flatMap((size) => {
  const { fleet, pool } = busyFleet(size)
  return strategies.map((strategy) => {
    const random = Prng.make(1)
    const now = Date.now
    const tried = new Uint8Array(size)
    const circumstances = { now: Date.now(), random, tokens: 500 }
    const traveller = { conversation: () => ConversationKey.named("c"), tokens: () => 500 }
    return {
      strategy,
      size,
      decide: () => {
        sink += Router.pick(strategy, pool, tried, circumstances)
      },
      whole: () => {
        const route = new Router.RoutePlan(pool, strategy, fleet, random, now, traveller)
        const at = route.next()
        if (at >= 0) route.lease(at).cancel()
      }
    }
  })
})

interface SelectionRow {
  readonly models: number
  readonly servers: number
  /** Microseconds. */
  readonly selection: number
}

const selections = shapes.map((shape) => ({ ...shape, select: selectionOver(shape), samples: [] as Array<number> }))

const samples = cases.map(() => ({ decide: [] as Array<number>, whole: [] as Array<number> }))
for (let round = -2; round < rounds; round++) {
  for (const [k, { decide, whole }] of cases.entries()) {
    const a = time(decide)
    const b = time(whole)
    if (round < 0) continue
    samples[k]?.decide.push(a)
    samples[k]?.whole.push(b)
  }
  for (const { samples, select } of selections) {
    const took = time(() => {
      sink += select().length
    })
    if (round >= 0) samples.push(took)
  }
}
if (Number.isNaN(sink)) throw new Error("A decision was no number.")

const rows: ReadonlyArray<Row> = cases.map(({ size, strategy }, k) => ({
  strategy,
  size,
  decision: median(samples[k]?.decide ?? []),
  whole: median(samples[k]?.whole ?? [])
}))

console.log(`One routing decision, in microseconds: median of ${rounds} rounds (with the whole route of a call: made, asked
once, a place taken and given back). Four fifths of the servers hold the model, a fiftieth rest, a fifth are full.
`)
const show = (size: number, of: (row: Row) => number) => (strategy: Routing) =>
  of(rows.find((row) => row.size === size && row.strategy === strategy) as Row)
console.log(
  table(
    ["strategy", ...sizes.map((size) => `${size} servers`)],
    strategies.map((strategy) => [
      strategy,
      ...sizes.map(
        (size) =>
          `${show(size, (row) => row.decision)(strategy).toFixed(2)} (${show(size, (row) => row.whole)(strategy).toFixed(2)})`
      )
    ])
  )
)

const missed = rows.filter(({ decision, size }) => decision > (targets.get(size) ?? Number.POSITIVE_INFINITY))
for (const [size, target] of targets) {
  const worst = rows.filter((row) => row.size === size).reduce((a, b) => (b.decision > a.decision ? b : a))
  const verdict = worst.decision <= target ? "ok" : "MISS"
  console.log(
    `\n${size} servers: at most ${target} µs; the slowest is ${worst.strategy}, ${worst.decision.toFixed(2)} µs ${verdict}`
  )
}

const selectionRows: ReadonlyArray<SelectionRow> = selections.map(({ models, samples, servers }) => ({
  models,
  servers,
  selection: median(samples)
}))
console.log("\nOne choice of `auto` among 10,000 candidates, in microseconds, with the reading of the request.\n")
console.log(
  table(
    ["models", "servers", "per choice", `at most ${selectionTarget}`],
    selectionRows.map(({ models, selection, servers }) => [
      String(models),
      String(servers),
      selection.toFixed(1),
      selection <= selectionTarget ? "ok" : "MISS"
    ])
  )
)
const slow = selectionRows.filter(({ selection }) => selection > selectionTarget)

if (options.json !== undefined) {
  writeFileSync(options.json, `${JSON.stringify([...rows, ...selectionRows], undefined, 1)}\n`)
}
if (options.strict && missed.length + slow.length > 0) process.exitCode = 1

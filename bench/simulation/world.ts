/** The fleet and the traffic of one seeded run, as plain data: equal for every policy. */
import * as Prng from "../../src/internal/prng.js"
import type { Scenario } from "./scenarios.js"

export interface ModelSpec {
  readonly name: string
  readonly gigabytes: number
  /** Work per token, against the 8B model. */
  readonly cost: number
  readonly popularity: number
}

export const models: ReadonlyArray<ModelSpec> = [
  { name: "3b", gigabytes: 2.5, cost: 0.45, popularity: 0.34 },
  { name: "8b", gigabytes: 5.5, cost: 1, popularity: 0.38 },
  { name: "14b", gigabytes: 10, cost: 1.8, popularity: 0.18 },
  { name: "32b", gigabytes: 21, cost: 3.8, popularity: 0.08 },
  { name: "70b", gigabytes: 42, cost: 8, popularity: 0.02 }
]

/** Tokens per second of the 8B model alone on the machine; memory in GB; disk in GB/s. */
interface Machine {
  readonly share: number
  readonly decode: number
  readonly prefill: number
  readonly memory: number
  readonly disk: number
  readonly parallel: number
}

const machines: ReadonlyArray<Machine> = [
  { share: 0.15, decode: 90, prefill: 3600, memory: 48, disk: 2.4, parallel: 4 },
  { share: 0.3, decode: 105, prefill: 4200, memory: 24, disk: 1.6, parallel: 4 },
  { share: 0.2, decode: 48, prefill: 1600, memory: 16, disk: 1, parallel: 2 },
  { share: 0.2, decode: 40, prefill: 1200, memory: 12, disk: 0.8, parallel: 2 },
  { share: 0.15, decode: 20, prefill: 450, memory: 8, disk: 0.5, parallel: 1 }
]

export interface ServerSpec {
  readonly decode: number
  readonly prefill: number
  readonly memory: number
  readonly disk: number
  /** Requests that a loaded model answers at once; further ones wait in line inside the server. */
  readonly parallel: number
  /** Seconds to it and back. */
  readonly roundTrip: number
  /** On its disk. */
  readonly models: ReadonlyArray<number>
  /** In its memory when the run begins. */
  readonly loaded: ReadonlyArray<number>
}

/** One question. `after` is the question before it in its conversation, which it follows by `think` seconds. */
export interface Job {
  readonly id: number
  readonly model: number
  readonly session: number
  readonly prompt: number
  readonly output: number
  readonly arrival: number
  readonly next: number
  readonly think: number
}

export type Mode = "up" | "hung" | "error" | "down"

export interface Outage {
  readonly server: number
  readonly mode: Exclude<Mode, "up">
  readonly from: number
  readonly to: number
}

export interface World {
  readonly servers: ReadonlyArray<ServerSpec>
  readonly hosts: ReadonlyArray<Int32Array>
  readonly jobs: ReadonlyArray<Job>
  readonly outages: ReadonlyArray<Outage>
  /** Seconds in which questions arrive from outside. */
  readonly duration: number
}

/** How much each further request at work on a GPU slows down the others: batching makes it less than 1. */
export const crowding = 0.4

/** Seconds from the request to a model in memory. */
export const loadTime = (server: ServerSpec, model: ModelSpec): number =>
  Math.min(30, Math.max(10, 7 + model.gigabytes / server.disk))

/** Memory that a loaded model takes besides its weights (contexts), as a share of them. */
export const footprint = (model: ModelSpec): number => model.gigabytes * 1.1

export const requestsFor = (servers: number): number =>
  servers <= 10 ? 3_000 : servers <= 100 ? 8_000 : servers <= 1_000 ? 40_000 : 150_000

type Random = () => number

const exponential = (random: Random, mean: number): number => -Math.log(1 - random()) * mean

const normal = (random: Random): number => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())

const lengths = (random: Random, middle: number, spread: number, least: number, most: number): number =>
  Math.round(Math.min(most, Math.max(least, middle * Math.exp(spread * normal(random)))))

const shuffled = <A>(values: ReadonlyArray<A>, random: Random): Array<A> => {
  const out = [...values]
  for (let i = out.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1))
    const held = out[i] as A
    out[i] = out[j] as A
    out[j] = held
  }
  return out
}

const makeServers = (count: number, scenario: Scenario, random: Random): ReadonlyArray<ServerSpec> => {
  const order: Array<Machine> = []
  let sum = 0
  for (const machine of machines) {
    sum += machine.share
    while (order.length < Math.round(sum * count)) order.push(machine)
  }
  return shuffled(order, random).map((machine) => {
    const speed = 0.75 + 0.5 * random()
    const memory = machine.memory * (machine.memory <= 8 ? 1 : scenario.memory)
    const present = models.flatMap((model, index) =>
      (scenario.only ?? index) === index && footprint(model) <= memory && random() < scenario.placement ? [index] : []
    )
    if (present.length === 0) present.push(scenario.only ?? (random() < 0.5 ? 0 : 1))
    const loaded: Array<number> = []
    let free = memory
    if (scenario.warm) {
      for (const index of shuffled(present, random)) {
        const size = footprint(models[index] as ModelSpec)
        if (size <= free) {
          free -= size
          loaded.push(index)
        }
      }
    }
    return {
      decode: machine.decode * speed,
      prefill: machine.prefill * speed,
      memory,
      disk: machine.disk * (0.75 + 0.5 * random()),
      parallel: scenario.parallel ?? machine.parallel,
      roundTrip: 0.002 + exponential(random, 0.01),
      models: present,
      loaded
    }
  })
}

/** Requests per second that keep a fleet busy, if every server always had the right model in memory. */
const capacity = (servers: ReadonlyArray<ServerSpec>): number => {
  let sum = 0
  for (const server of servers) {
    const together = server.parallel / (1 + crowding * (server.parallel - 1))
    sum += (server.decode * together) / 220
  }
  return sum
}

const makeJobs = (
  servers: ReadonlyArray<ServerSpec>,
  hosts: ReadonlyArray<Int32Array>,
  requests: number,
  scenario: Scenario,
  random: Random
): { readonly jobs: ReadonlyArray<Job>; readonly duration: number } => {
  const total = capacity(servers)
  // A model asks for no more than its hosts could give if they did little else.
  const weights = models.map((model, index) => {
    const own = capacity([...(hosts[index] as Int32Array)].map((server) => servers[server] as ServerSpec))
    return Math.min(model.popularity, (0.3 * own) / total / model.cost)
  })
  const mean = models.reduce((a, model, index) => a + model.cost * (weights[index] as number), 0)
  const totalWeight = weights.reduce((a, b) => a + b, 0)
  const rate = (scenario.load * total * totalWeight) / mean
  const burst = scenario.bursts
  // Bursts take `length` seconds out of every `every`, and are `times` as dense as the rest.
  const calm = burst === undefined ? 1 : 1 / (1 + ((burst.times - 1) * burst.length) / burst.every)
  const turns = scenario.turns
  const draw = (shift: number): number => {
    let left = random() * totalWeight
    for (let i = 0; i < weights.length; i++) {
      left -= weights[i] as number
      // In a fleet whose users change their minds, two models swap their popularity halfway through.
      if (left < 0) return shift === 0 ? i : ([1, 2, 0, 3, 4][i] as number)
    }
    return 0
  }
  const jobs: Array<Job> = []
  const duration = requests / rate
  const peak = burst === undefined ? rate : rate * calm * burst.times
  const conversations = turns === undefined ? 1 : 1 / turns
  let time = 0
  let session = 0
  while (jobs.length < requests) {
    time += exponential(random, 1 / (peak * conversations))
    if (burst !== undefined) {
      const inside = time % burst.every >= burst.every - burst.length
      if (!inside && random() >= 1 / burst.times) continue
    }
    const shift = scenario.drift && time > duration / 2 ? 1 : 0
    let model = draw(shift)
    if ((hosts[model] as Int32Array).length === 0) model = draw(0)
    const output = () => lengths(random, 140, 0.7, 8, 800)
    if (turns === undefined) {
      const id = jobs.length
      jobs.push({
        id,
        model,
        session: -1,
        prompt: lengths(random, 350, 0.9, 20, 3_000),
        output: output(),
        arrival: time,
        next: -1,
        think: 0
      })
    } else {
      let prompt = lengths(random, 600, 0.6, 100, 2_000)
      const count = 1 + Math.floor(exponential(random, turns - 0.5))
      for (let turn = 0; turn < count && jobs.length < requests; turn++) {
        const id = jobs.length
        const last = turn === count - 1 || id === requests - 1
        const answer = output()
        jobs.push({
          id,
          model,
          session,
          prompt,
          output: answer,
          arrival: turn === 0 ? time : -1,
          next: last ? -1 : id + 1,
          think: turn === 0 ? 0 : 2 + exponential(random, 8)
        })
        prompt = Math.min(8_000, prompt + answer + lengths(random, 60, 0.8, 5, 600))
      }
      session++
    }
  }
  return { jobs, duration: time }
}

const makeOutages = (count: number, duration: number, scenario: Scenario, random: Random): ReadonlyArray<Outage> => {
  const outages: Array<Outage> = []
  const order = shuffled(
    Array.from({ length: count }, (_, i) => i),
    random
  )
  let taken = 0
  const some = (share: number): ReadonlyArray<number> => {
    const from = taken
    if (share > 0) taken += Math.max(1, Math.round(share * count))
    return order.slice(from, taken)
  }
  // Half of those that hang have done so before the run begins.
  for (const server of some(scenario.hung)) {
    const from = random() < 0.5 ? 0 : (random() * duration) / 2
    outages.push({ server, mode: "hung", from, to: Number.POSITIVE_INFINITY })
  }
  for (const server of some(scenario.broken)) {
    outages.push({ server, mode: "error", from: 0, to: Number.POSITIVE_INFINITY })
  }
  for (const server of some(scenario.flapping)) {
    let time = exponential(random, 60)
    while (time < duration * 2) {
      const to = time + 2 + exponential(random, 20)
      outages.push({ server, mode: random() < 0.5 ? "down" : "error", from: time, to })
      time = to + 5 + exponential(random, 60)
    }
  }
  return outages
}

export const makeWorld = (scenario: Scenario, count: number, requests: number, seed: number): World => {
  const servers = makeServers(count, scenario, Prng.make(seed * 4 + 1))
  const hosts = models.map((_, model) =>
    Int32Array.from(servers.flatMap((server, index) => (server.models.includes(model) ? [index] : [])))
  )
  const { jobs, duration } = makeJobs(servers, hosts, requests, scenario, Prng.make(seed * 4 + 2))
  const outages = makeOutages(count, duration, scenario, Prng.make(seed * 4 + 3))
  return { servers, hosts, jobs, outages, duration }
}

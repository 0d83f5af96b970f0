import { describe, expect, it } from "vitest"
import { oracle, random, roundRobin } from "../../bench/simulation/baselines.js"
import { contenders } from "../../bench/simulation/contenders.js"
import { clientRules, simulate } from "../../bench/simulation/engine.js"
import { measure, spread } from "../../bench/simulation/metrics.js"
import type { Contender, Policy } from "../../bench/simulation/policy.js"
import { leastBusy, warm } from "../../bench/simulation/router.js"
import { type Scenario, scenarios } from "../../bench/simulation/scenarios.js"
import { trial } from "../../bench/simulation/trial.js"
import { makeWorld } from "../../bench/simulation/world.js"

const scenario = (name: string): Scenario => {
  const found = scenarios.find((scenario) => scenario.name === name)
  if (found === undefined) throw new Error(`There is no scenario ${name}.`)
  return found
}

/** Checks what an honest simulation tells a policy: each start has one end, and nothing comes after it. */
const audited = (
  contender: Contender
): { readonly contender: Contender; readonly open: Set<number>; starts: number } => {
  const audit = { contender, open: new Set<number>(), starts: 0 }
  const close = (id: number) => {
    if (!audit.open.delete(id)) throw new Error(`Request ${id} ended without a start.`)
  }
  return Object.assign(audit, {
    contender: {
      ...contender,
      make: (client, truth) => {
        const policy = contender.make(client, truth)
        return {
          ...policy,
          start(server, request, now) {
            if (audit.open.has(request.id)) throw new Error(`Request ${request.id} is at two servers.`)
            if (!client.hosts(request.model).includes(server)) throw new Error("The server does not have the model.")
            audit.open.add(request.id)
            audit.starts++
            policy.start(server, request, now)
          },
          end(server, request, counters, now) {
            close(request.id)
            if (counters.waitTime < -1e-6 || counters.promptTime < 0) throw new Error("Time runs backwards.")
            policy.end(server, request, counters, now)
          },
          failed(server, request, failure, now) {
            close(request.id)
            policy.failed(server, request, failure, now)
          },
          cancelled(server, request, now) {
            close(request.id)
            policy.cancelled(server, request, now)
          }
        } satisfies Policy
      }
    } satisfies Contender
  })
}

describe("the fleet simulation", () => {
  it("has equal outcomes for equal seeds, and different ones for others", () => {
    const run = (seed: number) => JSON.stringify(trial(scenario("everything"), 20, 300, seed, contenders))
    expect(run(1)).toBe(run(1))
    expect(run(2)).not.toBe(run(1))
  })

  it("loses no request and counts none twice, with any failures", () => {
    for (const { name } of scenarios) {
      const world = makeWorld(scenario(name), 20, 400, 3)
      for (const contender of [random, oracle, leastBusy, warm]) {
        const audit = audited(contender)
        const outcome = simulate(world, scenario(name), audit.contender, 3)
        expect([...audit.open], `${name}, ${contender.name}`).toEqual([])
        expect(audit.starts).toBe(outcome.attempts)
        const answered = outcome.served.reduce((a, b) => a + b, 0)
        expect(outcome.perServer.reduce((a, b) => a + b, 0)).toBe(answered)
        // What is served has had a first token, within the patience of its user.
        const honest = outcome.ttft.every(
          (time, id) => time > 0 && (outcome.served[id] === 0 || time <= clientRules.patience + 1)
        )
        expect(honest).toBe(true)
      }
    }
  })

  it("has an oracle that no strategy beats by much on average", () => {
    for (const name of ["steady", "uniform", "hung", "cold"]) {
      const results = [1, 2, 3].map((seed) => trial(scenario(name), 20, 500, seed, contenders))
      const mean = (policy: string) =>
        spread(results.map((list) => list.find((result) => result.name === policy)?.measures.mean ?? Number.NaN)).median
      for (const { name: policy } of contenders)
        expect(mean(policy), `${name}, ${policy}`).toBeGreaterThan(0.8 * mean("oracle"))
    }
  })

  it("least-busy and warm meet the targets in a fleet of forty", () => {
    for (const name of ["steady", "bursts", "hung", "error", "flapping"]) {
      const results = [1, 2, 3].map((seed) =>
        trial(scenario(name), 40, 4_000, seed, [random, roundRobin, oracle, leastBusy, warm])
      )
      for (const { name: subject } of [leastBusy, warm]) {
        const against = (policy: string) =>
          spread(
            results.map((list) => {
              const of = (wanted: string) => list.find((result) => result.name === wanted)?.measures.p99 ?? Number.NaN
              return of(subject) / of(policy)
            })
          ).median
        expect(against("oracle"), `${name}, ${subject}`).toBeLessThanOrEqual(1.5)
        expect(against("random"), `${name}, ${subject}`).toBeLessThanOrEqual(0.5)
        expect(against("round-robin"), `${name}, ${subject}`).toBeLessThanOrEqual(0.5)
        for (const list of results) expect(list.find((result) => result.name === subject)?.lost, name).toBe(0)
      }
    }
  })

  it("sends no requests to a hung server after the first timeouts", () => {
    const hung: Scenario = { ...scenario("steady"), only: 1, placement: 1 }
    const world = makeWorld(hung, 10, 1_500, 1)
    const broken = { ...world, outages: [{ server: 0, mode: "hung", from: 0, to: Number.POSITIVE_INFINITY } as const] }
    const touches: Array<number> = []
    const watched: Contender = {
      ...leastBusy,
      make: (client, truth) => {
        const policy = leastBusy.make(client, truth)
        return {
          ...policy,
          start(server, request, now) {
            if (server === 0) touches.push(now)
            policy.start(server, request, now)
          }
        }
      }
    }
    const outcome = simulate(broken, hung, watched, 1)
    const first = touches[0] ?? 0
    // What was sent before the first timeout; then one probe after 60 s, 120 s and so on.
    const later = touches.filter((time) => time > first + clientRules.firstTokenTimeout)
    expect(later.length).toBeLessThanOrEqual(Math.ceil(outcome.ended / 60))
    expect(measure(broken, outcome, clientRules.patience).failed).toBe(0)
  })
})

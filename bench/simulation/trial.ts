/** All contenders on one world. */
import { clientRules, simulate } from "./engine.js"
import { type Measures, measure } from "./metrics.js"
import type { Contender } from "./policy.js"
import type { Scenario } from "./scenarios.js"
import { makeWorld } from "./world.js"

export interface Result {
  readonly name: string
  readonly measures: Measures
  /** Questions that failed here, and that the oracle answered. */
  readonly lost: number
}

export const trial = (
  scenario: Scenario,
  servers: number,
  requests: number,
  seed: number,
  contenders: ReadonlyArray<Contender>
): ReadonlyArray<Result> => {
  const world = makeWorld(scenario, servers, requests, seed)
  const outcomes = contenders
    .filter(({ limit }) => limit === undefined || servers <= limit)
    .map((contender) => ({ name: contender.name, outcome: simulate(world, scenario, contender, seed) }))
  const oracle = outcomes.find(({ name }) => name === "oracle")?.outcome.served
  return outcomes.map(({ name, outcome }) => {
    let lost = 0
    for (let id = 0; id < requests; id++) if (outcome.served[id] === 0 && oracle?.[id] === 1) lost++
    return { name, measures: measure(world, outcome, clientRules.patience), lost }
  })
}

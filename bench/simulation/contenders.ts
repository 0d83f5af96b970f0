/** Everybody who takes part, in the order of the tables. */
import { leastConnections, oracle, random, roundRobin, twoChoices } from "./baselines.js"
import type { Contender } from "./policy.js"
import { routers } from "./router.js"

export const contenders: ReadonlyArray<Contender> = [
  random,
  roundRobin,
  leastConnections,
  twoChoices,
  ...routers,
  oracle
]

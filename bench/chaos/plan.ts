/** What befalls which server, and when: a pure function of the seed. */
import * as Prng from "../../src/internal/prng.js"
import type { Strike } from "../../test/support/faults.js"

/** A server as far as the plan knows it. Processes can only be killed, stopped and slowed. */
export interface Member {
  readonly name: string
  readonly models: ReadonlyArray<string>
  readonly process: boolean
}

/** After so many milliseconds the server with this index is struck, or restored where there is no strike. */
export interface Step {
  readonly after: number
  readonly server: number
  readonly strike: Strike | undefined
}

const pick = <A>(random: () => number, from: ReadonlyArray<A>): A | undefined =>
  from[Math.floor(random() * from.length)]

const strikes: ReadonlyArray<(random: () => number) => Strike> = [
  (random) => ({ kind: "kill", how: random() < 0.5 ? "fin" : "rst" }),
  (random) => ({ kind: "kill", how: random() < 0.5 ? "fin" : "rst" }),
  () => ({ kind: "stall" }),
  () => ({ kind: "stall" }),
  (random) => ({ kind: "cut", at: place(random), how: random() < 0.5 ? "fin" : "rst" }),
  (random) => ({ kind: "cut", at: place(random), how: random() < 0.5 ? "fin" : "rst" }),
  (random) => ({ kind: "slow", ms: 10 + Math.floor(random() * 40) }),
  () => ({ kind: "status", code: 500 }),
  (random) => ({ kind: "status", code: 429, ...(random() < 0.5 ? { retryAfter: 1 } : {}) }),
  () => ({ kind: "notFound" }),
  () => ({ kind: "garbage" }),
  (random) => ({ kind: "malformed", at: place(random) }),
  (random) => ({ kind: "errorLine", at: place(random) }),
  (random) => ({ kind: "silentEnd", at: place(random) })
]

/** The ends of an answer matter as much as all that is between them. */
const place = (random: () => number): number => {
  const where = random()
  return where < 0.2 ? 0 : where > 0.7 ? 1 : random()
}

/** A process takes its time to come back, so it is left alone most of the time. */
const seldom = (random: () => number, from: ReadonlyArray<number>, members: ReadonlyArray<Member>) => {
  const fakes = from.filter((i) => members[i]?.process !== true)
  return fakes.length > 0 && random() < 0.7 ? fakes : from
}

const forProcesses = new Set<Strike["kind"]>(["kill", "stall", "slow"])

/** Steps without end. At every moment each model has a server that nothing befalls. */
export function* plan(seed: number, members: ReadonlyArray<Member>): Generator<Step, never> {
  const random = Prng.make(seed)
  const struck = new Set<number>()
  const spares = (server: number): boolean =>
    (members[server]?.models ?? []).every((model) =>
      members.some((other, i) => i !== server && !struck.has(i) && other.models.includes(model))
    )
  while (true) {
    const after = Math.floor(10 + random() * 110)
    const able = members.flatMap((_, i) => (!struck.has(i) && spares(i) ? [i] : []))
    const restores = able.length === 0 || (struck.size > 0 && random() < 0.45)
    const server = pick(random, seldom(random, restores ? [...struck] : able, members))
    if (server === undefined) throw new Error("every model needs two servers")
    if (restores) {
      struck.delete(server)
      yield { after, server, strike: undefined }
      continue
    }
    const possible = members[server]?.process === true ? forProcesses : undefined
    let strike = pick(random, strikes)?.(random)
    while (strike === undefined || possible?.has(strike.kind) === false) strike = pick(random, strikes)?.(random)
    struck.add(server)
    yield { after, server, strike }
  }
}

/** What a table calls it. */
export const nameOf = (strike: Strike): string =>
  strike.kind === "status" ? String(strike.code) : strike.kind === "notFound" ? "404 model" : strike.kind

/** A step in words. */
export const describe = ({ after, server, strike }: Step, members: ReadonlyArray<Member>): string => {
  const { kind = "restored", ...rest } = strike ?? {}
  const details = Object.entries(rest).map(
    ([key, value]) => `${key} ${typeof value === "number" ? +value.toFixed(2) : value}`
  )
  return `+${after} ms  ${members[server]?.name}: ${[kind, ...details].join(", ")}`
}

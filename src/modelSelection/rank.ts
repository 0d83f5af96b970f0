/** Which models of the servers suit a request, the best one first. */
import type { Snapshot } from "../fleet/snapshot.js"
import { canonical, generation, type ModelInfo } from "../Model.js"
import { type Host, isLocal } from "../Server.js"
import type { ModelCandidate } from "./candidate.js"
import { fits } from "./memory.js"
import type { Requirements } from "./needs.js"
import type { Placement } from "./policy.js"
import { isSuitable, sizeOf } from "./suitable.js"

/** A model, what is known about it, and its servers. */
interface Offer {
  readonly model: string
  readonly info: ModelInfo
  readonly hosts: ReadonlyArray<Host>
}

/** What a choice depends on besides the request. */
export interface Conditions {
  /** What is known of a server for a model. */
  readonly snapshot: (url: string, model: string) => Snapshot
  /** In milliseconds since the epoch. */
  readonly now: number
  /** Memory of this machine that a server could still use, in bytes; `undefined`: not known. */
  readonly memory: number | undefined
  /** The model that goes before its equals, in canonical form. */
  readonly preferred: string
  /** Which servers go first, if any. */
  readonly placement?: Placement | undefined
  /** Whether remote servers are left out. */
  readonly localOnly?: boolean | undefined
}

/** A model with what speaks for it, the most important first. */
interface Scored {
  readonly model: string
  readonly score: ReadonlyArray<number>
  readonly resident: boolean
  readonly fits: boolean
  /** It has a server among those that go first. */
  readonly placed: boolean
}

/** The better one first; of equals, by their names. */
const compare = (a: Scored, b: Scored): number => {
  for (let i = 0; i < a.score.length; i++) {
    const difference = (b.score[i] ?? 0) - (a.score[i] ?? 0)
    if (difference !== 0) return difference
  }
  return a.model < b.model ? -1 : 1
}

const scoreOf = (
  { hosts, info, model }: Offer,
  certain: number,
  needed: number,
  { localOnly, memory, now, placement, preferred, snapshot }: Conditions
): Scored => {
  let placed = placement === undefined ? 1 : 0
  let rested = 0
  let resident = 0
  let idle = 0
  let fitting = 0
  for (const host of hosts) {
    if (localOnly === true && !isLocal(host.server)) continue
    const { breaker, inFlight, residentUntil = 0 } = snapshot(host.server.url, host.model)
    if (breaker === "open") continue
    rested = 1
    if (placed === 0 && placement?.prefers(host.server) === true) placed = 1
    // Only Ollama loads a model when it is asked for it.
    if (host.protocol !== "ollama" || residentUntil > now) {
      resident = 1
      fitting = 1
      if (inFlight === 0) idle = 1
    } else if (fitting === 0 && fits(info, host, memory)) fitting = 1
  }
  const { context_length: context } = info
  const room = context === undefined || context >= needed ? 1 : 0
  const chosen = canonical(model) === preferred ? 1 : 0
  // Of those that may be too large, the smallest is the most likely to run.
  const excess = fitting === 0 ? (info.size ?? 0) : 0
  const score = [
    room,
    rested,
    fitting,
    certain,
    placed,
    resident,
    chosen,
    idle,
    -excess,
    sizeOf(info),
    generation(model) ?? 0
  ]
  return { model, score, resident: resident === 1, fits: fitting === 1, placed: placed === 1 }
}

const reasonOf = ({ fits, resident }: Scored, count: number): string => {
  if (count === 1) return "the only one that can answer this"
  if (resident) return "loaded already"
  return fits ? `the most capable of ${count}` : "the smallest, though memory may not suffice"
}

/** The models that suit a request. `reserve` are the tokens that its answer may have. */
export const rank = (
  offers: ReadonlyArray<Offer>,
  wanted: Requirements,
  reserve: number,
  conditions: Conditions
): ReadonlyArray<ModelCandidate> => {
  const scored: Array<Scored> = []
  const { localOnly, placement } = conditions
  for (const offer of offers) {
    if (localOnly === true && !offer.hosts.some(({ server }) => isLocal(server))) continue
    const certain = isSuitable(offer.info, wanted)
    if (certain > 0) scored.push(scoreOf(offer, certain, wanted.prompt + reserve, conditions))
  }
  scored.sort(compare)
  return scored.map((one) => {
    const candidate = chosen(one.model, reasonOf(one, scored.length))
    if (placement === undefined) return candidate
    const prefers = ({ server }: Host) => placement.prefers(server)
    return one.placed
      ? { ...candidate, prefers, reason: `${candidate.reason}; ${placement.reason}` }
      : { ...candidate, prefers }
  })
}

/** A model that was chosen. */
export const chosen = (model: string, reason: string): ModelCandidate => ({
  model,
  accepts: undefined,
  name: model,
  auto: true,
  reason
})

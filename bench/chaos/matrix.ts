/** Fault × phase × outcome: what became of every request that a fault hit. */
import type { FailureReason } from "../../src/Errors.js"
import { table } from "../harness.js"
import type { Outcome } from "./chaos.js"
import type { Hit } from "./servers.js"

export const phases = ["connect", "first token", "mid-stream", "last chunk", "idle"] as const

/**
 * - `there`: the same server answered all the same
 * - `next`: another server answered, from the beginning
 * - `resumed`: another server went on with what had been given out
 * - `failed`: the call failed, or its text was not the expected one
 * - `none`: there was nobody to notice
 */
export type Fate = "there" | "next" | "resumed" | "failed" | "none"

export interface Matrix {
  /** How often, by fault, phase and fate. */
  readonly cells: ReadonlyMap<string, ReadonlyMap<(typeof phases)[number], ReadonlyMap<Fate, number>>>
  /** Attempts that failed although nothing had befallen their server. */
  readonly unexplained: ReadonlyArray<string>
}

/** What a failed attempt shows of a server that never saw it. */
const unseen = (reason: FailureReason, isProcess: boolean): string | undefined => {
  switch (reason) {
    case "refused":
    case "reset":
    case "network":
      return "kill"
    case "connect-timeout":
    case "first-token-timeout":
    case "idle-timeout":
      return isProcess ? "stall" : undefined
    case "cut":
      return isProcess ? "kill" : undefined
    default:
      return undefined
  }
}

export const matrixOf = (
  hits: ReadonlyArray<Hit>,
  outcomes: ReadonlyArray<Outcome>,
  processes: ReadonlySet<string>
): Matrix => {
  const cells = new Map<string, Map<(typeof phases)[number], Map<Fate, number>>>()
  const count = (fault: string, phase: (typeof phases)[number], fate: Fate) => {
    const row = cells.get(fault) ?? new Map()
    cells.set(fault, row)
    const cell = row.get(phase) ?? new Map()
    row.set(phase, cell)
    cell.set(fate, (cell.get(fate) ?? 0) + 1)
  }
  const byId = new Map(outcomes.map((outcome) => [outcome.question.id, outcome]))
  const known = new Set<string>()
  const trials = new Map<string, string>()
  for (const hit of hits) {
    if (hit.phase === "idle") {
      count(hit.fault, "idle", "none")
      continue
    }
    const outcome = hit.id === undefined ? undefined : byId.get(hit.id)
    if (outcome === undefined) {
      trials.set(hit.server, hit.fault)
      continue
    }
    known.add(`${outcome.question.id} ${hit.server}`)
    count(hit.fault, hit.phase, fateOf(outcome, hit.server, hit.phase))
  }
  const unexplained: Array<string> = []
  for (const outcome of outcomes) {
    for (const { message, phase, reason, server } of outcome.attempts) {
      if (known.has(`${outcome.question.id} ${server}`)) continue
      const fault = unseen(reason, processes.has(server)) ?? trials.get(server)
      if (fault === undefined) unexplained.push(`${server}, ${phase}: ${reason}, ${message}`)
      else count(fault, "connect", fateOf(outcome, server, "connect"))
    }
  }
  return { cells, unexplained }
}

const fateOf = (outcome: Outcome, server: string, phase: Exclude<Hit["phase"], "idle">): Fate => {
  if (outcome.problem !== undefined) return "failed"
  if (!outcome.attempts.some((attempt) => attempt.server === server)) return "there"
  return outcome.question.stream && (phase === "mid-stream" || phase === "last chunk") ? "resumed" : "next"
}

const fates: ReadonlyArray<Fate> = ["there", "next", "resumed", "failed", "none"]

export const show = ({ cells }: Matrix): string =>
  table(
    ["fault", ...phases],
    [...cells].sort().map(([fault, row]) => [
      fault,
      ...phases.map((phase) => {
        const cell = row.get(phase)
        if (cell === undefined) return "-"
        return fates
          .flatMap((fate) =>
            cell.has(fate) ? [fate === "none" ? `${cell.get(fate)}` : `${fate} ${cell.get(fate)}`] : []
          )
          .join(", ")
      })
    ])
  )

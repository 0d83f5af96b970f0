/** Measures one model on one server: a warm-up, each prompt alone, and the short one several times at once. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Backend, ServerFailure } from "../Backend.js"
import * as ChatRequest from "../ChatRequest.js"
import type * as Fleet from "../Fleet.js"
import type { Columns } from "../fleet/columns.js"
import { limitReason } from "../fleet/remoteLimit.js"
import { type Host, isLocal } from "../Server.js"
import type { Budget } from "./budget.js"
import type { CheckedOptions } from "./options.js"
import { defaults } from "./options.js"
import { charactersPerToken, type PromptKind, promptOf } from "./prompts.js"
import type { Result, Skipped } from "./report.js"
import { type Sample, send } from "./request.js"
import { type PhaseSamples, resultOf } from "./statistics.js"

/** What a measurement needs. */
export interface Measuring {
  readonly fleet: Fleet.Service
  readonly backend: Backend
  readonly host: Host
  /** The columns of the model's servers, and the index of this one. */
  readonly columns: Columns
  readonly at: number
  readonly budget: Budget
  readonly options: CheckedOptions
  readonly random: () => number
  /** The time in milliseconds with their fractions, for durations. */
  readonly precise: () => number
  /** Requests that the server itself reports; `undefined` if it does not. */
  readonly inFlight: Effect.Effect<number | undefined>
}

/** Why a measurement ended early. */
interface Stopped {
  readonly reason: Skipped["reason"]
  readonly message: string
}

const warmUpTokens = 8

const lackMessage = {
  time: "the time of the benchmark is used up",
  requests: "the benchmark may send no more requests",
  tokens: "the benchmark may spend no more tokens"
} as const

const isStopped = (outcome: Sample | Stopped | ServerFailure): outcome is Stopped =>
  "reason" in outcome &&
  (outcome.reason === "busy" || outcome.reason === "budget" || outcome.reason === "remote-tokens")

export const measure = Effect.fnUntraced(function* (given: Measuring, now: () => number) {
  const { at, backend, budget, columns, fleet, host, inFlight, options, precise, random } = given
  const { server } = host
  const runs = options.runs ?? defaults.runs
  const outputTokens = options.outputTokens ?? defaults.outputTokens
  const limits = ChatRequest.limits({})
  const remote = !isLocal(server)
  let own = 0

  const others = (): Stopped | undefined => {
    const { inFlight, queued = 0 } = fleet.snapshot(server.url, host.model)
    const count = inFlight - own + queued
    return count === 0 ? undefined : { reason: "busy", message: `${count} other requests are in flight or wait here` }
  }

  /** What stands in the way of so many more requests of so many tokens. */
  const obstacle = (requests: number, tokens: number): Stopped | undefined => {
    const lacking = budget.lacks(requests, tokens)
    if (lacking !== undefined) return { reason: "budget", message: lackMessage[lacking] }
    const { limit = Number.POSITIVE_INFINITY, used } = fleet.remoteTokens()
    if (remote && used + requests * tokens > limit) {
      return { reason: "remote-tokens", message: `remote servers may have ${limit} tokens on a day, and had ${used}` }
    }
    const reached = remote ? fleet.remoteLimit() : undefined
    if (reached !== undefined) return { reason: "remote-tokens", message: limitReason(reached) }
    return others()
  }

  const one = (kind: PromptKind, maxTokens: number, counts: boolean) =>
    Effect.suspend((): Effect.Effect<Sample, ServerFailure | Stopped> => {
      const prompt = promptOf(kind, options.promptTokens ?? defaults.promptTokens, random)
      const promptTokens = Math.ceil(prompt.length / charactersPerToken)
      const stopped = obstacle(1, promptTokens + maxTokens)
      if (stopped !== undefined) return Effect.fail(stopped)
      const request: ChatRequest.ChatRequest = {
        ...ChatRequest.make({ maxTokens, lenient: true }, host.model, [{ role: "user", content: prompt }], "text"),
        // Not every model takes other values than its own.
        temperature: undefined,
        topP: undefined
      }
      let settle: (tokens: number) => void = () => {}
      const take = () => {
        own++
        settle = budget.reserve(promptTokens + maxTokens)
        return fleet.lease(columns, at)
      }
      const spend = (tokens: number): void => {
        own--
        settle(tokens)
        if (remote) {
          const prompt = Math.min(promptTokens, tokens)
          const completion = tokens - prompt
          fleet.spendRemoteTokens(Math.ceil(tokens), { model: host.model, prompt, cached: 0, completion })
        }
      }
      return send({ backend, host, take, request, promptTokens, limits, now: precise, spend, counts })
    })

  /** Its samples; nothing if the budget ended, or other requests came, before all of them were there. */
  const phase = Effect.fnUntraced(function* (prompt: PromptKind, concurrency: number) {
    const requests = runs * concurrency
    const length = promptOf(prompt, options.promptTokens ?? defaults.promptTokens, () => 0).length
    const tokens = Math.ceil(length / charactersPerToken) + outputTokens
    const told = concurrency === 1 ? yield* inFlight : undefined
    const stopped: Stopped | undefined =
      told !== undefined && told > 0
        ? { reason: "busy", message: `the server has ${told} requests in flight` }
        : obstacle(requests, tokens)
    if (stopped !== undefined) return yield* Effect.fail(stopped)
    const samples: Array<Sample> = []
    const failures: Array<string> = []
    const began = precise()
    const each = one(prompt, outputTokens, concurrency === 1).pipe(
      Effect.flatMap((sample) => {
        samples.push(sample)
        const busy = others()
        return busy === undefined ? Effect.void : Effect.fail(busy)
      }),
      Effect.catchAll((problem) => {
        if (isStopped(problem)) return Effect.fail(problem)
        failures.push(problem.message)
        return Effect.void
      })
    )
    const all = Effect.forEach(Array.from({ length: requests }), () => each, { concurrency, discard: true })
    const done = yield* Effect.timeoutOption(all, budget.timeLeft)
    if (Option.isNone(done)) return yield* Effect.fail<Stopped>({ reason: "budget", message: lackMessage.time })
    return { prompt, concurrency, samples, failures, took: precise() - began } satisfies PhaseSamples
  })

  const cold = (fleet.snapshot(server.url, host.model).residentUntil ?? 0) <= now() && host.protocol === "ollama"
  const warmUp = one("short", warmUpTokens, true).pipe(Effect.timeoutOption(budget.timeLeft), Effect.either)
  const skip = (stopped: Stopped | ServerFailure): Skipped => ({
    server: server.url,
    model: host.model,
    ...(isStopped(stopped) ? stopped : { reason: "failed", message: stopped.message })
  })

  const told = yield* inFlight
  if (told !== undefined && told > 0) {
    return skip({ reason: "busy", message: `the server has ${told} requests in flight` })
  }
  const first = yield* warmUp
  if (first._tag === "Left") return skip(first.left)
  if (Option.isNone(first.right)) return skip({ reason: "budget", message: lackMessage.time })
  const { firstTokenTime, loadTime } = first.right.value

  const most = Math.min(options.concurrency ?? defaults.concurrency, server.maxInFlight ?? Number.POSITIVE_INFINITY)
  const phases: Array<PhaseSamples> = []
  const plan: ReadonlyArray<readonly [PromptKind, number]> = [
    ["short", 1],
    ["long", 1],
    ...(most > 1 ? [["short", most] as const] : [])
  ]
  let stopped: Stopped | undefined
  for (const [prompt, concurrency] of plan) {
    const samples = yield* Effect.either(phase(prompt, concurrency))
    if (samples._tag === "Left") {
      stopped = samples.left
      break
    }
    phases.push(samples.right)
    // All that follows would fail too.
    if (samples.right.samples.length === 0 && prompt === "short") break
  }
  // What was disturbed, or measured beside other requests, is worth nothing.
  if (stopped !== undefined && (stopped.reason === "busy" || phases.length === 0)) return skip(stopped)
  const place = { server: server.url, model: host.model, at: now() }
  const load = cold ? (loadTime ?? firstTokenTime) : undefined
  const result = resultOf(place, phases, stopped === undefined, load, options.tolerance ?? defaults.tolerance)
  if (result === undefined) {
    const message = phases[0]?.failures[0] ?? "nothing was answered"
    return { server: server.url, model: host.model, reason: "failed", message } satisfies Skipped
  }
  return stopped === undefined
    ? result
    : { ...result, notes: [...result.notes, `not all was measured: ${stopped.message}`] }
})

/** Whether a measurement came to an end. */
export const isResult = (outcome: Result | Skipped): outcome is Result => "phases" in outcome

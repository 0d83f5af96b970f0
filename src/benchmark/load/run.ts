/** Runs a load test: one step after the other, within the budget. */
import * as Effect from "effect/Effect"
import * as Mailbox from "effect/Mailbox"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import type { Backend } from "../../Backend.js"
import type * as Fleet from "../../Fleet.js"
import { isLocal, type Server } from "../../Server.js"
import { Budget } from "../budget.js"
import type { CheckedLoad } from "./options.js"
import type { LoadEnd, LoadProgress, LoadReport, LoadStep } from "./report.js"
import { type Plan, Step, type StepContext } from "./step.js"
import * as Trace from "./trace.js"

/** The interval of progress reports. */
const progressInterval = "250 millis"

/** What a load test needs. */
export interface LoadNeeds {
  readonly server: Server
  readonly backend: Backend
  readonly fleet: Fleet.Service
  readonly options: CheckedLoad
  /** In milliseconds since the epoch. */
  readonly now: () => number
  /** In milliseconds with their fractions, for durations. */
  readonly precise: () => number
}

class LoadTest {
  private readonly done: Array<LoadStep> = []
  private step: Step | undefined
  private readonly steps: number
  private end: LoadEnd | undefined
  private readonly at: number
  private readonly budget: Budget
  private readonly context: StepContext

  constructor(private readonly needs: LoadNeeds) {
    const { backend, fleet, now, options, precise, server } = needs
    this.at = now()
    this.steps = options.profile === "sweep" ? options.steps : 1
    this.budget = new Budget(now, this.at + options.maxTime, options.maxRequests, options.maxTokens)
    const remote = !isLocal(server)
    this.context = {
      server,
      backend,
      options,
      prompt: Trace.make(options),
      now: precise,
      reserve: (tokens) => {
        const lacking = this.budget.lacks(1, tokens)
        if (lacking !== undefined) return lacking
        const { limit = Number.POSITIVE_INFINITY, used } = fleet.remoteTokens()
        if (remote && (used + tokens > limit || fleet.remoteLimit() !== undefined)) return "remote-tokens"
        const settle = this.budget.reserve(tokens)
        return (used) => {
          settle(used)
          // The number of output tokens is not part of this: those cost most.
          const { model } = options
          if (remote && used > 0) {
            fleet.spendRemoteTokens(Math.ceil(used), { model, prompt: 0, cached: 0, completion: used })
          }
        }
      }
    }
  }

  readonly report = (): LoadReport => {
    const { model, seed, slo, trace } = this.needs.options
    const { step } = this
    return {
      at: this.at,
      took: this.needs.now() - this.at,
      server: this.needs.server.url,
      model,
      trace,
      seed,
      ...(slo === undefined ? {} : { slo }),
      requests: this.budget.requests,
      tokens: this.budget.tokens,
      ended: this.end ?? "stopped",
      steps: step === undefined ? this.done : [...this.done, step.summary]
    }
  }

  progress(done: boolean): LoadProgress {
    const { step } = this
    return {
      done,
      step: Math.min(this.steps, this.done.length + (done ? 0 : 1)),
      steps: this.steps,
      sent: step?.requests.length ?? 0,
      ended: step?.ended ?? 0,
      failed: step?.failed ?? 0,
      inFlight: step?.inFlight.size ?? 0,
      report: this.report
    }
  }

  /** Runs all steps; an interruption stops the servers' work, and what was measured so far stays. */
  readonly run: Effect.Effect<void> = Effect.gen(this, function* () {
    for (let number = 0; number < this.steps && this.end === undefined; number++) {
      const end = yield* this.runStep(this.planOf(number))
      if (end !== "complete") this.end = end
    }
    this.end ??= "complete"
  })

  private runStep(plan: Plan): Effect.Effect<LoadEnd> {
    return Effect.async((resume) => {
      const step = new Step(this.context, plan, () => {
        this.done.push(step.summary)
        this.step = undefined
        resume(Effect.succeed(step.end))
      })
      this.step = step
      step.start()
      return Effect.sync(() => step.stop())
    })
  }

  private planOf(number: number): Plan {
    const { concurrency, maxConcurrency, profile, rate = 1 } = this.needs.options
    switch (profile) {
      case "synchronous":
        return { profile, concurrency: 1 }
      case "concurrent":
        return { profile, concurrency }
      case "throughput":
        return { profile, concurrency: maxConcurrency }
      case "constant":
      case "poisson":
        return { profile, rate }
      case "sweep":
        return this.sweepPlan(number)
    }
  }

  /** The slowest, the fastest, and then at equal distances between the rates that those two had. */
  private sweepPlan(number: number): Plan {
    if (number === 0) return { profile: "synchronous", concurrency: 1 }
    if (number === 1) return { profile: "throughput", concurrency: this.needs.options.maxConcurrency }
    const least = this.done[0]?.requestsPerSecond ?? 0
    const most = Math.max(least, this.done[1]?.requestsPerSecond ?? 0)
    const rate = least + ((most - least) * (number - 1)) / (this.steps - 2)
    return { profile: "constant", rate: Math.max(rate, 0.01) }
  }
}

/** Its progress; the last element has the whole report. */
export const loadTest = (needs: LoadNeeds): Stream.Stream<LoadProgress> =>
  Stream.unwrapScoped(
    Effect.gen(function* () {
      const test = new LoadTest(needs)
      const mailbox = yield* Mailbox.make<LoadProgress>()
      const tell = Effect.suspend(() => mailbox.offer(test.progress(false)))
      yield* Effect.forkScoped(Effect.interruptible(Effect.repeat(tell, Schedule.spaced(progressInterval))))
      yield* Effect.forkScoped(
        Effect.interruptible(
          Effect.zipRight(
            test.run,
            Effect.suspend(() => Effect.zipRight(mailbox.offer(test.progress(true)), mailbox.end))
          )
        )
      )
      return Mailbox.toStream(mailbox)
    })
  )

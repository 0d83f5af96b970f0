/** From requests to figures. */
import type { LoadObjectives } from "./options.js"
import type { LoadDistribution, LoadGoodput, LoadStep } from "./report.js"
import type { LoadRequest } from "./request.js"

/** A schedule is kept if 99 % of the requests are sent at most so many milliseconds late. */
const tolerableLateness = 50

/** Of fewer requests none is left out as warm-up or cool-down. */
const fewRequests = 10

/** The distribution of these values. */
export const distribution = (values: ReadonlyArray<number>): LoadDistribution => {
  const sorted = Float64Array.from(values).sort()
  const rank = (part: number): number => sorted[Math.max(0, Math.ceil(part * sorted.length) - 1)] ?? 0
  const count = sorted.length
  return {
    count,
    mean: count === 0 ? 0 : sorted.reduce((sum, value) => sum + value, 0) / count,
    min: sorted[0] ?? 0,
    p50: rank(0.5),
    p90: rank(0.9),
    p95: rank(0.95),
    p99: rank(0.99),
    max: sorted[count - 1] ?? 0
  }
}

const latencyOf = ({ endedAt = 0, sentAt }: LoadRequest): number => endedAt - sentAt
const ttftOf = ({ firstAt = 0, sentAt }: LoadRequest): number => firstAt - sentAt

/** `undefined` of a single token. */
const tpotOf = (request: LoadRequest): number | undefined =>
  request.outputTokens > 1 ? (latencyOf(request) - ttftOf(request)) / (request.outputTokens - 1) : undefined

const gapsOf = ({ pieceTimes }: LoadRequest): ReadonlyArray<number> =>
  pieceTimes.slice(1).map((time, i) => time - (pieceTimes[i] ?? time))

const meanGapOf = ({ pieceTimes }: LoadRequest): number =>
  pieceTimes.length < 2 ? 0 : ((pieceTimes.at(-1) ?? 0) - (pieceTimes[0] ?? 0)) / (pieceTimes.length - 1)

const isWithin = (value: number | undefined, limit: number | undefined): boolean =>
  limit === undefined || value === undefined || value <= limit

/** Whether a request that succeeded kept all limits. */
const isGood = (request: LoadRequest, { itl, latency, tpot, ttft }: LoadObjectives): boolean =>
  isWithin(ttftOf(request), ttft) &&
  isWithin(meanGapOf(request), itl) &&
  isWithin(tpotOf(request), tpot) &&
  isWithin(latencyOf(request), latency)

const sum = (values: ReadonlyArray<number>): number => values.reduce((all, value) => all + value, 0)

/** A step as far as it has come. Times are in milliseconds since it began. */
export interface StepState {
  readonly profile: LoadStep["profile"]
  readonly rate: number | undefined
  readonly concurrency: number | undefined
  readonly requests: ReadonlyArray<LoadRequest>
  /** When the last request was sent, or would have been. */
  readonly sendingEnded: number
  readonly took: number
  readonly maxInFlight: number
  readonly limited: number
  readonly maxConcurrency: number
  readonly warmup: number
  readonly cooldown: number
  readonly slo: LoadObjectives | undefined
}

const failuresOf = (requests: ReadonlyArray<LoadRequest>): LoadStep["failures"] => {
  const counts = new Map<string, number>()
  for (const { message } of requests) counts.set(message, (counts.get(message) ?? 0) + 1)
  return [...counts].map(([message, count]) => ({ message, count })).sort((a, b) => b.count - a.count)
}

const goodputOf = (
  counted: ReadonlyArray<LoadRequest>,
  succeeded: ReadonlyArray<LoadRequest>,
  slo: LoadObjectives,
  seconds: number
): LoadGoodput => {
  const good = succeeded.filter((request) => isGood(request, slo))
  return {
    requests: good.length,
    requestsPerSecond: good.length / seconds,
    outputTokensPerSecond: sum(good.map(({ outputTokens }) => outputTokens)) / seconds,
    attainment: counted.length === 0 ? 0 : good.length / counted.length
  }
}

/** The tokens of an answer that came in this time. */
const tokensBetween = ({ outputTokens, pieceTimes }: LoadRequest, from: number, to: number): number => {
  if (pieceTimes.length === 0) return 0
  return (outputTokens * pieceTimes.filter((time) => time > from && time <= to).length) / pieceTimes.length
}

/** The figures of a step. Requests that are still in flight are not in them. */
export const stepOf = (state: StepState): LoadStep => {
  const { concurrency, cooldown, limited, maxConcurrency, maxInFlight, profile, rate, slo, warmup } = state
  // Of a few requests each counts.
  const few = state.requests.length < fewRequests
  const [from, to] = few ? [0, state.sendingEnded] : [state.sendingEnded * warmup, state.sendingEnded * (1 - cooldown)]
  const window = Math.max(to - from, 0.001)
  const seconds = window / 1_000
  const counted = state.requests.filter(({ scheduledAt }) => few || (scheduledAt >= from && scheduledAt < to))
  const by = (outcome: LoadRequest["outcome"]) => counted.filter((request) => request.outcome === outcome)
  const [succeeded, failed, cancelled] = [by("succeeded"), by("failed"), by("cancelled")]
  const completed = state.requests.filter(
    ({ endedAt = Number.POSITIVE_INFINITY, outcome }) => outcome === "succeeded" && endedAt > from && endedAt <= to
  )
  const server = succeeded.filter(({ counted }) => counted).length
  const lateness =
    rate === undefined
      ? undefined
      : distribution(counted.map(({ scheduledAt, sentAt }) => Math.max(0, sentAt - scheduledAt)))
  const notes: Array<string> = []
  if (limited > 0) {
    notes.push(
      `${limited} requests waited because ${maxConcurrency} were in flight, so that the load was less than planned`
    )
  } else if (lateness !== undefined && lateness.p99 > tolerableLateness) {
    notes.push(`requests were sent up to ${Math.round(lateness.p99)} ms late (p99): this machine is too busy`)
  }
  if (cancelled.length > 0) {
    notes.push(
      `${cancelled.length} requests had no complete answer when the step ended, and are in no latency: ` +
        "true latencies are longer"
    )
  }
  if (server < succeeded.length) {
    notes.push(`the server did not count the tokens of ${succeeded.length - server} answers: they are estimated`)
  }
  return {
    profile,
    ...(rate === undefined ? {} : { rate }),
    ...(concurrency === undefined ? {} : { concurrency }),
    took: state.took,
    window,
    requests: {
      sent: state.requests.length,
      excluded: state.requests.length - counted.length,
      succeeded: succeeded.length,
      failed: failed.length,
      cancelled: cancelled.length
    },
    sentPerSecond: counted.length / seconds,
    requestsPerSecond: completed.length / seconds,
    outputTokensPerSecond: sum(state.requests.map((request) => tokensBetween(request, from, to))) / seconds,
    ttft: distribution(succeeded.map(ttftOf)),
    itl: distribution(succeeded.flatMap(gapsOf)),
    tpot: distribution(succeeded.map(tpotOf).filter((value) => value !== undefined)),
    latency: distribution(succeeded.map(latencyOf)),
    promptTokens: distribution(succeeded.map(({ promptTokens }) => promptTokens)),
    outputTokens: distribution(succeeded.map(({ outputTokens }) => outputTokens)),
    counts: { server, estimated: succeeded.length - server },
    ...(slo === undefined ? {} : { goodput: goodputOf(counted, succeeded, slo, seconds) }),
    ...(lateness === undefined ? {} : { lateness }),
    maxInFlight,
    limited,
    failures: failuresOf(failed),
    notes
  }
}

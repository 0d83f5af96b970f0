/** From samples to speeds. */
import type { PromptKind } from "./prompts.js"
import type { Percentiles, Phase, Result } from "./report.js"
import type { Sample } from "./request.js"

/** A shorter difference between the times to first token of the two prompts, in milliseconds, is mostly noise. */
const minDifference = 20

/** The value that this part of the others does not exceed, by the nearest rank; 0 of none. */
const percentile = (values: ReadonlyArray<number>, part: number): number => {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(part * sorted.length) - 1)] ?? 0
}

const median = (values: ReadonlyArray<number>): number => percentile(values, 0.5)

/** Of times, where longer is worse; or of speeds, where lower is. */
const percentiles = (values: ReadonlyArray<number>, worse: "higher" | "lower"): Percentiles =>
  worse === "higher"
    ? { p50: median(values), p95: percentile(values, 0.95) }
    : {
        p50: -median(values.map((value) => -value)),
        p95: -percentile(
          values.map((value) => -value),
          0.95
        )
      }

const known = (values: ReadonlyArray<number | undefined>): ReadonlyArray<number> =>
  values.filter((value) => value !== undefined)

/** The samples of a phase: `took` is how long all of it took, in milliseconds. */
export interface PhaseSamples {
  readonly prompt: PromptKind
  readonly concurrency: number
  readonly samples: ReadonlyArray<Sample>
  readonly failures: ReadonlyArray<string>
  readonly took: number
}

const phaseOf = ({ concurrency, failures, prompt, samples, took }: PhaseSamples): Phase => ({
  prompt,
  concurrency,
  requests: samples.length,
  failed: failures.length,
  promptTokens: median(samples.map((sample) => sample.promptTokens)),
  outputTokens: median(samples.map((sample) => sample.outputTokens)),
  firstTokenTime: percentiles(
    samples.map((sample) => sample.firstTokenTime),
    "higher"
  ),
  tokensPerSecond: percentiles(
    samples.map((sample) => sample.measuredSpeed),
    "lower"
  ),
  throughput: (samples.reduce((sum, { outputTokens }) => sum + outputTokens, 0) * 1_000) / Math.max(took, 0.001)
})

const noteOf = ({ concurrency, failures, prompt, samples }: PhaseSamples): ReadonlyArray<string> =>
  failures.length === 0
    ? []
    : [
        `${failures.length} of ${failures.length + samples.length} requests with the ${prompt} prompt${
          concurrency === 1 ? "" : `, ${concurrency} at a time,`
        } failed: ${failures[0]}`
      ]

/** Whether the difference of two speeds is more than is tolerated. */
const differs = (claimed: number, measured: number, tolerance: number): boolean =>
  claimed > measured * (1 + tolerance) || measured > claimed * (1 + tolerance)

const rounded = (speed: number): string => (speed < 10 ? speed.toFixed(1) : String(Math.round(speed)))

/** Prompt tokens per second, by our clock: what the long prompt takes longer than the short one. */
const promptSpeed = (
  short: ReadonlyArray<Sample>,
  long: ReadonlyArray<Sample>
): { readonly speed: number | undefined; readonly exact: boolean } => {
  if (long.length === 0) return { speed: undefined, exact: false }
  const time = median(long.map((sample) => sample.firstTokenTime))
  const tokens = median(long.map((sample) => sample.promptTokens))
  const more = time - median(short.map((sample) => sample.firstTokenTime))
  const moreTokens = tokens - median(short.map((sample) => sample.promptTokens))
  if (more >= minDifference && moreTokens > 0) return { speed: (moreTokens * 1_000) / more, exact: true }
  return { speed: tokens > 0 && time > 0 ? (tokens * 1_000) / time : undefined, exact: false }
}

/** What a model on a server has shown; `undefined` where nothing was answered. */
export const resultOf = (
  place: Pick<Result, "server" | "model" | "at">,
  phases: ReadonlyArray<PhaseSamples>,
  complete: boolean,
  loadTime: number | undefined,
  tolerance: number
): Result | undefined => {
  const alone = (prompt: PromptKind) =>
    phases.find((phase) => phase.prompt === prompt && phase.concurrency === 1)?.samples ?? []
  const [short, long] = [alone("short"), alone("long")]
  if (short.length === 0) return undefined
  const all = [...short, ...long]
  const measured = median(all.map((sample) => sample.measuredSpeed))
  const claims = known(all.map((sample) => sample.claimedSpeed))
  const claimed = claims.length === 0 ? undefined : median(claims)
  const prompt = promptSpeed(short, long)
  const promptClaims = known((long.length > 0 ? long : short).map((sample) => sample.claimedPromptSpeed))
  const claimedPrompt = promptClaims.length === 0 ? undefined : median(promptClaims)
  const notes: Array<string> = []
  const compare = (what: string, theirs: number | undefined, ours: number | undefined) => {
    if (theirs === undefined || ours === undefined || !differs(theirs, ours, tolerance)) return
    notes.push(`${what}: the server says ${rounded(theirs)} tokens/s, our clock says ${rounded(ours)}`)
  }
  compare("output", claimed, measured)
  if (prompt.exact) compare("prompt", claimedPrompt, prompt.speed)
  const disagrees = notes.length > 0
  // Counters are exact where they are true; where they are not, a server shall not win by them.
  const believed = (theirs: number | undefined, ours: number): number =>
    theirs === undefined || theirs > ours * (1 + tolerance) ? ours : theirs
  const promptTokensPerSecond = prompt.speed === undefined ? undefined : believed(claimedPrompt, prompt.speed)
  return {
    ...place,
    firstTokenTime: median(short.map((sample) => sample.firstTokenTime)),
    tokensPerSecond: believed(claimed, measured),
    ...(promptTokensPerSecond === undefined ? {} : { promptTokensPerSecond }),
    measured: {
      tokensPerSecond: measured,
      ...(prompt.speed === undefined ? {} : { promptTokensPerSecond: prompt.speed })
    },
    claimed: {
      ...(claimed === undefined ? {} : { tokensPerSecond: claimed }),
      ...(claimedPrompt === undefined ? {} : { promptTokensPerSecond: claimedPrompt })
    },
    disagrees,
    ...(loadTime === undefined ? {} : { loadTime }),
    phases: phases.filter(({ samples }) => samples.length > 0).map(phaseOf),
    complete,
    notes: [...notes, ...phases.flatMap(noteOf)]
  }
}

/** The steps of a load test as bars in SVG. */
import type { LoadReport, LoadStep } from "../../Benchmark.js"
import { bar, document, left, rounded, text } from "./svg.js"

const top = 60
const rowHeight = 78

const colors = { tokens: "#2a78d6", ttft: "#eb6834", latency: "#8a5cc2" }

const most = (steps: ReadonlyArray<LoadStep>, of: (step: LoadStep) => number): number => Math.max(0, ...steps.map(of))

/** Three bars for each step: output tokens per second, time to first token, and latency (p95). */
export const loadChartOf = ({ at, model, server, steps }: LoadReport): string => {
  const fastest = most(steps, ({ outputTokensPerSecond }) => outputTokensPerSecond)
  const longest = most(steps, ({ latency }) => latency.p95)
  const rows = steps.map((step, i) => {
    const y = top + i * rowHeight
    const { concurrency, goodput, latency, outputTokensPerSecond, profile, rate, ttft } = step
    const load = rate === undefined ? `${profile}, ${concurrency} at a time` : `${profile}, ${rounded(rate)} requests/s`
    const good = goodput === undefined ? "" : `, ${Math.round(goodput.attainment * 100)} % within the limits`
    return (
      text(left, y + 12, `${load}${good}`) +
      bar(outputTokensPerSecond, fastest, y + 18, colors.tokens, `${rounded(outputTokensPerSecond)} tokens/s`) +
      bar(ttft.p95, longest, y + 34, colors.ttft, `${rounded(ttft.p95)} ms to the first token (p95)`) +
      bar(latency.p95, longest, y + 50, colors.latency, `${rounded(latency.p95)} ms to the last token (p95)`)
    )
  })
  return document({
    label: "Load test",
    title: `${model} at ${server}, ${new Date(at).toISOString()}`,
    height: top + steps.length * rowHeight,
    rows
  })
}

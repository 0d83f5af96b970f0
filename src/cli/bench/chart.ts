/** The results of a benchmark as a bar chart in SVG. */
import type { Result } from "../../Benchmark.js"
import { bar, document, left, rounded, text } from "./svg.js"

const rowHeight = 62
const top = 60

/** Two bars for each model on each server: output tokens per second, and time to first token. */
export const chartOf = (results: ReadonlyArray<Result>, at: number): string => {
  const sorted = [...results].sort((a, b) => b.tokensPerSecond - a.tokensPerSecond)
  const fastest = Math.max(0, ...results.map(({ tokensPerSecond }) => tokensPerSecond))
  const longest = Math.max(0, ...results.map(({ firstTokenTime }) => firstTokenTime))
  const rows = sorted.map(({ disagrees, firstTokenTime, model, server, tokensPerSecond }, i) => {
    const y = top + i * rowHeight
    const note = disagrees ? " (its counters disagree)" : ""
    return (
      text(left, y + 12, `${server}  ${model}${note}`) +
      bar(tokensPerSecond, fastest, y + 18, "#2a78d6", `${rounded(tokensPerSecond)} tokens/s`) +
      bar(firstTokenTime, longest, y + 34, "#eb6834", `${rounded(firstTokenTime)} ms to the first token`)
    )
  })
  return document({
    label: "Speed of servers",
    title: `Output tokens per second and time to first token, ${new Date(at).toISOString()}`,
    height: top + sorted.length * rowHeight,
    rows
  })
}

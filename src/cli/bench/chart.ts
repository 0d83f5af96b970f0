/** The results of a benchmark as a bar chart in SVG. */
import type { Result } from "../../Benchmark.js"

const width = 800
const left = 20
const right = 20
const rowHeight = 62
const top = 60
const barHeight = 12

/** Names come from servers: no character that XML cannot hold, and none that means something there. */
const escape = (text: string): string =>
  text
    .replace(/[^\t\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/gu, "\ufffd")
    .replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)

const rounded = (value: number): string => (value < 10 ? value.toFixed(1) : String(Math.round(value)))

const bar = (value: number, most: number, y: number, color: string, text: string): string => {
  const length = most > 0 ? Math.max(1, ((width - left - right - 200) * value) / most) : 1
  return (
    `<rect x="${left}" y="${y}" width="${length.toFixed(1)}" height="${barHeight}" fill="${color}"/>` +
    `<text x="${(left + length + 6).toFixed(1)}" y="${y + barHeight - 2}" class="value">${escape(text)}</text>`
  )
}

/** Two bars for each model on each server: output tokens per second, and time to first token. */
export const chartOf = (results: ReadonlyArray<Result>, at: number): string => {
  const sorted = [...results].sort((a, b) => b.tokensPerSecond - a.tokensPerSecond)
  const fastest = Math.max(0, ...results.map(({ tokensPerSecond }) => tokensPerSecond))
  const longest = Math.max(0, ...results.map(({ firstTokenTime }) => firstTokenTime))
  const rows = sorted.map(({ disagrees, firstTokenTime, model, server, tokensPerSecond }, i) => {
    const y = top + i * rowHeight
    const note = disagrees ? " (its counters disagree)" : ""
    return (
      `<text x="${left}" y="${y + 12}">${escape(`${server}  ${model}${note}`)}</text>` +
      bar(tokensPerSecond, fastest, y + 18, "#2a78d6", `${rounded(tokensPerSecond)} tokens/s`) +
      bar(firstTokenTime, longest, y + 34, "#eb6834", `${rounded(firstTokenTime)} ms to the first token`)
    )
  })
  const height = top + sorted.length * rowHeight
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" aria-label="Speed of servers">`,
    '<style>text{font:13px sans-serif;fill:#222}.value{font-size:11px;fill:#555}</style><rect width="100%" height="100%" fill="#fff"/>',
    `<text x="${left}" y="28" font-weight="bold">Output tokens per second and time to first token, ${new Date(at).toISOString()}</text>`,
    ...rows,
    "</svg>"
  ].join("\n")}\n`
}

/**
 * Durations in Go's format, which Ollama uses: `300ms`, `1.5h`, `1h30m`, `-1s`, `0`.
 *
 * @internal
 */

const units: { readonly [unit: string]: number } = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  μs: 1e-3,
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000
}

// Linear-time matching: a run of digits can be read in one way only.
const part = /(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)/g
const whole = new RegExp(`^[+-]?(?:0|(?:${part.source})+)$`)

/** Go's limit. */
const longest = 2 ** 63 * 1e-6

/**
 * In milliseconds; `undefined` if the text is not a duration.
 *
 * @internal
 */
export const parse = (text: string): number | undefined => {
  if (!whole.test(text)) return undefined
  let total = 0
  for (const [, amount, unit = ""] of text.matchAll(part)) total += Number(amount) * (units[unit] ?? 0)
  if (total >= longest) return undefined
  return text.startsWith("-") ? -total : total
}

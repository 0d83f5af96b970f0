/** Formats sizes and times. */

const units = ["B", "kB", "MB", "GB", "TB"]

/** Bytes with a unit, in powers of 1000 as Ollama does: `2.0 GB`. */
export const bytes = (count: number): string => {
  let value = count
  let at = 0
  while (value >= 999.5 && at < units.length - 1) {
    value /= 1000
    at++
  }
  const digits = at === 0 || value >= 100 ? 0 : 1
  return `${value.toFixed(digits)} ${units[at]}`
}

/** Seconds in one unit or two: `45 s`, `4 min`, `2 h 5 min`, `3 d`. */
export const seconds = (count: number): string => {
  const whole = Math.max(0, Math.round(count))
  if (whole < 90) return `${whole} s`
  const minutes = Math.round(whole / 60)
  if (minutes < 90) return `${minutes} min`
  const hours = Math.floor(minutes / 60)
  if (hours >= 48) return `${Math.floor(hours / 24)} d`
  return minutes % 60 === 0 ? `${hours} h` : `${hours} h ${minutes % 60} min`
}

/** A number in a server's reply. */
export const numberOf = (value: unknown): number | undefined =>
  typeof value === "number" && Number.isFinite(value) ? value : undefined

/** A string in a server's reply; `undefined` if it is empty. */
export const textOf = (value: unknown): string | undefined =>
  typeof value === "string" && value !== "" ? value : undefined

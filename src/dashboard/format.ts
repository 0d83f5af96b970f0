/** Numbers and times for people. */

const digits = (value: number): string => (value < 10 ? value.toFixed(1) : Math.round(value).toString())

export const milliseconds = (value: number | null | undefined): string => {
  if (value === null || value === undefined) return "–"
  if (value < 1_000) return `${Math.round(value)} ms`
  return value < 60_000
    ? `${digits(value / 1_000)} s`
    : `${Math.floor(value / 60_000)} min ${Math.round((value % 60_000) / 1_000)} s`
}

export const bytes = (value: number | null | undefined): string => {
  if (value === null || value === undefined) return "–"
  const units = ["B", "kB", "MB", "GB", "TB"]
  let at = 0
  let rest = value
  while (rest >= 1_000 && at < units.length - 1) {
    rest /= 1_000
    at++
  }
  return `${at === 0 ? rest : digits(rest)} ${units[at]}`
}

export const speed = (value: number | null | undefined): string =>
  value === null || value === undefined ? "–" : `${digits(value)} tok/s`

/** A number without more digits than it is worth. */
export const amount = (value: number | null | undefined): string =>
  value === null || value === undefined ? "–" : digits(value)

export const count = (value: number | null | undefined): string =>
  value === null || value === undefined ? "–" : value.toLocaleString("en")

/** From now on, or since then. */
export const span = (at: number, now: number): string => {
  const seconds = Math.max(0, Math.round(Math.abs(at - now) / 1_000))
  if (seconds < 60) return `${seconds} s`
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min`
  if (seconds < 172_800) return `${Math.floor(seconds / 3_600)} h`
  return `${Math.floor(seconds / 86_400)} days`
}

export const clock = (at: number): string => new Date(at).toLocaleTimeString("en", { hour12: false })

/** Text of a stranger: without what a terminal, or the direction of the text around it, would obey. */
export const harmless = (text: string): string =>
  text
    .replace(
      /\u001b\[[0-?]*[ -/]*[@-~]|\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/g,
      ""
    )
    .replace(/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "")

/** A number in a few characters. */
export const short = (value: number): string => {
  const units = ["", "k", "M", "G", "T"]
  let at = 0
  let rest = value
  while (Math.abs(rest) >= 1_000 && at < units.length - 1) {
    rest /= 1_000
    at++
  }
  return `${Number(rest.toFixed(rest < 10 ? 2 : 1))}${units[at]}`
}

/** The hour or the day that begins then, in UTC. */
export const moment = (at: number, span: number): string => {
  const text = new Date(at).toISOString()
  return span < 86_400_000 ? text.slice(11, 16) : text.slice(5, 10)
}

export const date = (text: string | null): string => (text === null ? "–" : text.slice(0, 16).replace("T", " "))

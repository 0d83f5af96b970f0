/** Prometheus text format (version 0.0.4): writing it, and merging the metrics of several processes. */

export type Kind = "counter" | "gauge" | "histogram"

/** One metric with all of its series, one line each. */
export interface Family {
  readonly name: string
  readonly help: string
  readonly kind: Kind
  readonly lines: Array<string>
}

/** The content type of the text. */
export const contentType = "text/plain; version=0.0.4; charset=utf-8"

const escape = (value: string): string => value.replace(/[\\"\n]/g, (c) => (c === "\n" ? "\\n" : `\\${c}`))

/** Labels as written between braces. */
export const labels = (all: Iterable<readonly [name: string, value: string]>): string =>
  Array.from(all, ([name, value]) => `${name}="${escape(value)}"`).join(",")

const number = (value: number): string =>
  value === Number.POSITIVE_INFINITY ? "+Inf" : value === Number.NEGATIVE_INFINITY ? "-Inf" : String(value)

const line = (name: string, labels: string, value: number): string =>
  `${name}${labels === "" ? "" : `{${labels}}`} ${number(value)}`

export const family = (name: string, kind: Kind, help: string): Family => ({ name, kind, help, lines: [] })

/** Adds a series with one value. */
export const add = ({ lines, name }: Family, labels: string, value: number): void => {
  lines.push(line(name, labels, value))
}

/** Adds a histogram. `below` of each bucket is the number of values up to its bound. */
export const addHistogram = (
  { lines, name }: Family,
  labels: string,
  buckets: Iterable<readonly [bound: number, below: number]>,
  count: number,
  sum: number
): void => {
  const more = labels === "" ? "" : `${labels},`
  for (const [bound, below] of buckets) {
    if (bound < Number.POSITIVE_INFINITY) lines.push(line(`${name}_bucket`, `${more}le="${bound}"`, below))
  }
  lines.push(
    line(`${name}_bucket`, `${more}le="+Inf"`, count),
    line(`${name}_sum`, labels, sum),
    line(`${name}_count`, labels, count)
  )
}

const head = ({ help, kind, name }: Omit<Family, "lines">): string =>
  `# HELP ${name} ${help.replace(/[\\\n]/g, (c) => (c === "\n" ? "\\n" : "\\\\"))}\n# TYPE ${name} ${kind}\n`

/** Metrics without series are omitted. */
export const write = (families: Iterable<Family>): string => {
  let text = ""
  for (const one of families) if (one.lines.length > 0) text += `${head(one)}${one.lines.join("\n")}\n`
  return text
}

/** Values that all processes share are not summed. */
const shared: ReadonlySet<string> = new Set([
  "aicortex_server_up",
  "aicortex_server_models",
  "aicortex_breaker_state",
  "aicortex_remote_tokens_today",
  "aicortex_remote_tokens_limit",
  "aicortex_store_up",
  "aicortex_replicas",
  "aicortex_build_info"
])

/**
 * Merges the metrics of several processes: counters are added, shared values take the maximum. `texts` are as `write`
 * makes them.
 */
export const merge = (texts: ReadonlyArray<string>): string => {
  const families = new Map<string, { help: string; type: string; readonly series: Map<string, number> }>()
  for (const text of texts) {
    let current = { help: "", type: "", series: new Map<string, number>() }
    let highest = false
    for (const line of text.split("\n")) {
      if (line === "") continue
      if (line.startsWith("# HELP ")) {
        const name = line.slice(7, line.indexOf(" ", 7))
        const known = families.get(name)
        if (known === undefined) {
          current = { help: line, type: "", series: new Map() }
          families.set(name, current)
        } else current = known
        highest = shared.has(name)
      } else if (line.startsWith("#")) current.type = line
      else {
        const at = line.lastIndexOf(" ")
        const series = line.slice(0, at)
        const value = Number(line.slice(at + 1).replace("Inf", "Infinity"))
        const before = current.series.get(series)
        current.series.set(series, before === undefined ? value : highest ? Math.max(before, value) : before + value)
      }
    }
  }
  let merged = ""
  for (const { help, series, type } of families.values()) {
    merged += `${help}\n${type}\n`
    for (const [name, value] of series) merged += `${name} ${number(value)}\n`
  }
  return merged
}

/** What remains of a process that has ended: its counters, not its gauges. Otherwise counters would appear to reset. */
export const countersOnly = (text: string): string => {
  let kept = ""
  for (const part of text.split(/^(?=# HELP )/m)) if (!/^# TYPE \S+ gauge$/m.test(part)) kept += part
  return kept
}

/**
 * Reads figures as Prometheus does (text format 0.0.4), and more strictly: what its `promtool check metrics` warns of is
 * an error here.
 */

export interface Sample {
  readonly name: string
  readonly labels: { readonly [name: string]: string }
  readonly value: number
}

export interface Family {
  readonly name: string
  readonly help: string
  readonly type: string
  readonly samples: Array<Sample>
}

const nameForm = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/
const labelForm = /^[a-zA-Z_][a-zA-Z0-9_]*$/
const valueForm = /^([+-]?Inf|NaN|[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?)$/
const types = ["counter", "gauge", "histogram", "summary", "untyped"]

const wrong = (line: string, why: string): never => {
  throw new Error(`${why}: ${line}`)
}

/** Braces and what is between them; gives back the labels and how much was read. */
const readLabels = (line: string, start: number): { labels: { [name: string]: string }; end: number } => {
  const labels: { [name: string]: string } = {}
  let at = start + 1
  while (line[at] !== "}") {
    const equals = line.indexOf("=", at)
    const name = line.slice(at, equals)
    if (equals === -1 || !labelForm.test(name) || name.startsWith("__")) wrong(line, `bad label '${name}'`)
    if (name in labels) wrong(line, `label '${name}' stands twice`)
    if (line[equals + 1] !== '"') wrong(line, "a label's value must be quoted")
    let value = ""
    at = equals + 2
    for (; line[at] !== '"'; at++) {
      const c = line[at]
      if (c === undefined) wrong(line, "a label's value does not end")
      if (c !== "\\") {
        value += c
        continue
      }
      const escaped = { n: "\n", "\\": "\\", '"': '"' }[line[++at] ?? ""]
      value += escaped ?? wrong(line, "bad escape")
    }
    labels[name] = value
    at++
    if (line[at] === ",") at++
    else if (line[at] !== "}") wrong(line, "bad labels")
  }
  return { labels, end: at + 1 }
}

const number = (text: string): number => Number(text.replace("Inf", "Infinity"))

const checkHistogram = ({ name, samples }: Family): void => {
  const series = new Map<string, { buckets: Array<[number, number]>; sum?: number; count?: number }>()
  for (const { labels, name: part, value } of samples) {
    const { le, ...own } = labels
    const key = JSON.stringify(own)
    const known = series.get(key) ?? { buckets: [] }
    series.set(key, known)
    if (part === `${name}_bucket`) known.buckets.push([number(le ?? wrong(part, "a bucket without le")), value])
    else if (le !== undefined) wrong(part, "le outside of a bucket")
    else if (part === `${name}_sum`) known.sum = value
    else if (part === `${name}_count`) known.count = value
    else wrong(part, `does not belong to ${name}`)
  }
  for (const [key, { buckets, count, sum }] of series) {
    if (sum === undefined || count === undefined) wrong(key, `${name} without sum or count`)
    buckets.forEach(([bound, below], i) => {
      const before = buckets[i - 1]
      if (before !== undefined && !(before[0] < bound && before[1] <= below))
        wrong(key, `${name}: buckets out of order`)
    })
    const last = buckets.at(-1)
    if (last?.[0] !== Number.POSITIVE_INFINITY || last[1] !== count) wrong(key, `${name}: +Inf is not the count`)
  }
}

/** Throws at the first thing that is wrong. */
export const parse = (text: string): ReadonlyMap<string, Family> => {
  if (!text.endsWith("\n")) throw new Error("the text must end with a new line")
  const families = new Map<string, Family>()
  const seen = new Set<string>()
  let current: Family | undefined
  let help: { name: string; text: string } | undefined
  for (const line of text.slice(0, -1).split("\n")) {
    if (line.startsWith("# HELP ")) {
      const [, name = "", words = ""] = /^# HELP (\S+) (.+)$/.exec(line) ?? wrong(line, "bad HELP")
      help = { name, text: words }
      continue
    }
    if (line.startsWith("# TYPE ")) {
      const [, name = "", type = ""] = /^# TYPE (\S+) (\S+)$/.exec(line) ?? wrong(line, "bad TYPE")
      if (!nameForm.test(name) || !types.includes(type)) wrong(line, "bad name or type")
      if (help?.name !== name) wrong(line, "no HELP before it")
      if (families.has(name)) wrong(line, "stands twice")
      if ((type === "counter") !== name.endsWith("_total")) wrong(line, "counters, and only they, end in _total")
      if (/(milliseconds|_ms|minutes|kilobytes|_count|_sum|_bucket)$/.test(name)) wrong(line, "not in base units")
      current = { name, help: help?.text ?? "", type, samples: [] }
      families.set(name, current)
      continue
    }
    if (line.startsWith("#") || line === "") wrong(line, "neither a comment that is known nor a sample")
    const [name = ""] = /^[^{ ]+/.exec(line) ?? []
    const { end, labels } = line[name.length] === "{" ? readLabels(line, name.length) : { labels: {}, end: name.length }
    const value = line.slice(end + 1)
    if (line[end] !== " " || !valueForm.test(value)) wrong(line, "bad value")
    if (current === undefined) return wrong(line, "no TYPE before it")
    const parts = current.type === "histogram" ? ["_bucket", "_sum", "_count"] : [""]
    if (!parts.some((part) => name === `${current?.name}${part}`)) wrong(line, `stands among those of ${current.name}`)
    const key = JSON.stringify([name, Object.entries(labels).sort()])
    if (seen.has(key)) wrong(line, "the series stands twice")
    seen.add(key)
    if (current.type !== "gauge" && number(value) < 0) wrong(line, "below zero")
    current.samples.push({ name, labels, value: number(value) })
  }
  for (const family of families.values()) {
    if (family.samples.length === 0) wrong(family.name, "no samples")
    if (family.type === "histogram") checkHistogram(family)
  }
  return families
}

/** Figures that are well-formed; `value` adds up the series that have these labels, `labels` are all that one has. */
export const metrics = (text: string) => {
  const families = parse(text)
  const samples = [...families.values()].flatMap((family) => family.samples)
  const chosen = (name: string, labels: { readonly [name: string]: string }) =>
    samples.filter((one) => one.name === name && Object.entries(labels).every(([key, v]) => one.labels[key] === v))
  return {
    families,
    value: (name: string, labels: { readonly [name: string]: string } = {}): number | undefined => {
      const found = chosen(name, labels)
      return found.length === 0 ? undefined : found.reduce((sum, { value }) => sum + value, 0)
    },
    series: chosen
  }
}

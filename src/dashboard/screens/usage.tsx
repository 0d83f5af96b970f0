import { useMemo, useState } from "preact/hooks"
import { href } from "../api"
import * as Format from "../format"
import { type Bar, Bars, colors } from "../parts/bars"
import { useData } from "../parts/data"
import { Code, Empty, Problem, Tile, Title } from "../parts/small"
import { session, useStore } from "../store"

type Row = Readonly<Record<string, string | number | null>>
interface Usage {
  readonly usage: ReadonlyArray<Row>
}

const day = 86_400_000
const periods = {
  "24 hours": { span: 3_600_000, count: 24, by: "hour" },
  "7 days": { span: day, count: 7, by: "day" },
  "30 days": { span: day, count: 30, by: "day" },
  "90 days": { span: day, count: 90, by: "day" }
} as const
type Period = keyof typeof periods

const groups = { model: "Model", server: "Server", key: "Key", user: "End user" } as const
type Group = keyof typeof groups

const number = (row: Row, name: string): number => Number(row[name] ?? 0)
const tokensOf = (row: Row): number => number(row, "prompt_tokens") + number(row, "completion_tokens")
const measures = {
  Tokens: tokensOf,
  Requests: (row: Row) => number(row, "requests"),
  Errors: (row: Row) => number(row, "errors"),
  Cost: (row: Row) => number(row, "cost")
} as const
type Measure = keyof typeof measures

const nameOf = (row: Row, group: Group): string => {
  const name = Format.harmless(String(row[group] ?? ""))
  return name === "" ? (group === "user" ? "not named" : group === "key" ? "without a key" : "none") : name
}

/** The groups that have most first; those beyond the colours are one. */
const seriesOf = (rows: ReadonlyArray<Row>, group: Group, measure: (row: Row) => number): ReadonlyArray<string> => {
  const sums = new Map<string, number>()
  for (const row of rows) sums.set(nameOf(row, group), (sums.get(nameOf(row, group)) ?? 0) + measure(row))
  const names = [...sums].sort((a, b) => b[1] - a[1]).map(([name]) => name)
  return names.length <= colors ? names : [...names.slice(0, colors - 1), "others"]
}

const Select = <A extends string>({
  label,
  options,
  set,
  value
}: {
  readonly label: string
  readonly value: A
  readonly options: ReadonlyArray<readonly [A, string]>
  readonly set: (value: A) => void
}) => (
  <label class="inline">
    {label}
    <select aria-label={label} value={value} onChange={(event) => set(event.currentTarget.value as A)}>
      {options.map(([one, words]) => (
        <option key={one} value={one}>
          {words}
        </option>
      ))}
    </select>
  </label>
)

/** Clear words where nothing is kept. */
export const NoStore = ({ what }: { readonly what: string }) => (
  <section class="card">
    <p>This gateway has no store, so it keeps no {what}. Start it with one: a file, or a PostgreSQL database.</p>
    <Code label="Shell" text="aicortex serve --store aicortex.db" />
  </section>
)

/** What requests have used. */
export const UsageScreen = () => {
  const [period, setPeriod] = useState<Period>("7 days")
  const [group, setGroup] = useState<Group>("model")
  const [measure, setMeasure] = useState<Measure>("Tokens")
  const { by, count, span } = periods[period]
  const from = Math.floor(Date.now() / span) * span - (count - 1) * span
  const since = new Date(from).toISOString()
  const over = useData<Usage>(`/usage?by=${by},${group}&since=${since}`, 30_000)
  const table = useData<Usage>(`/usage?by=${group}&since=${since}`, 30_000)
  const role = useStore(session)?.role
  const rows = over.value?.usage
  const totals = table.value?.usage ?? []
  const value = measures[measure]
  const names = useMemo(() => seriesOf(rows ?? [], group, value), [rows, group, value])
  const bars = useMemo((): ReadonlyArray<Bar> => {
    const all = Array.from({ length: count }, (_, i) => ({ at: from + i * span, values: names.map(() => 0) }))
    for (const row of rows ?? []) {
      const bar = all[Math.round((Date.parse(String(row[by])) - from) / span)]
      if (bar === undefined) continue
      const at = names.indexOf(nameOf(row, group))
      const series = at === -1 ? names.length - 1 : at
      bar.values[series] = (bar.values[series] ?? 0) + value(row)
    }
    return all
  }, [rows, names, by, count, from, group, span, value])
  const sum = (name: string) => totals.reduce((all, row) => all + number(row, name), 0)
  const costs = totals.some((row) => typeof row["cost"] === "number")
  const money = (amount: number) => amount.toLocaleString("en", { maximumFractionDigits: amount < 1 ? 4 : 2 })
  const sorted = [...totals].sort((a, b) => value(b) - value(a))
  const problem = over.problem ?? table.problem
  if (problem?.status === 501)
    return (
      <>
        <Title name="Usage" />
        <NoStore what="usage" />
      </>
    )
  return (
    <>
      <Title name="Usage">
        <Select
          label="By"
          value={group}
          set={setGroup}
          options={Object.entries(groups) as ReadonlyArray<[Group, string]>}
        />
        <Select
          label="Show"
          value={measure}
          set={setMeasure}
          options={(Object.keys(measures) as Array<Measure>)
            .filter((one) => one !== "Cost" || costs)
            .map((one) => [one, one])}
        />
        <Select
          label="Last"
          value={period}
          set={setPeriod}
          options={(Object.keys(periods) as Array<Period>).map((one) => [one, one])}
        />
        <span class="push" />
        <a
          class="button small"
          download="usage.csv"
          href={href(`/usage?by=${by},key,user,model,server&since=${since}&format=csv`)}
        >
          Download CSV
        </a>
      </Title>
      <Problem of={problem} />
      {role === "use" ? <p class="dim">The usage of your key.</p> : null}
      <dl class="tiles">
        <Tile label="Requests" value={Format.count(sum("requests"))} />
        <Tile label="Errors" value={Format.count(sum("errors"))} />
        <Tile
          label="Prompt tokens"
          value={Format.short(sum("prompt_tokens"))}
          {...(sum("cached_tokens") === 0 ? {} : { note: `${Format.short(sum("cached_tokens"))} cached` })}
        />
        <Tile label="Answer tokens" value={Format.short(sum("completion_tokens"))} />
        {costs ? <Tile label="Cost" value={money(sum("cost"))} /> : null}
      </dl>
      {rows === undefined ? (
        problem === undefined ? (
          <Empty>Reading the usage…</Empty>
        ) : null
      ) : (
        <>
          <figure class="card chart">
            <figcaption>
              {names.map((name, i) => (
                <span key={name} class={`key series-${Math.min(i, colors - 1) + 1}`}>
                  <bdi>{name}</bdi>
                </span>
              ))}
              <span class="push" />
              <span>{by === "hour" ? "hours" : "days"} in UTC</span>
            </figcaption>
            <Bars
              names={names}
              bars={bars}
              span={span}
              label={`${measure} by ${groups[group].toLowerCase()} in the last ${period}; the table below has the sums`}
            />
          </figure>
          <section class="card" aria-label={`Usage by ${groups[group].toLowerCase()}`}>
            {sorted.length === 0 ? (
              <Empty>Nothing was used in this time.</Empty>
            ) : (
              <div class="scroll" tabIndex={0} role="region" aria-label="Sums">
                <table>
                  <thead>
                    <tr>
                      <th scope="col">{groups[group]}</th>
                      {[
                        "Requests",
                        "Errors",
                        "Prompt tokens",
                        "Cached",
                        "Answer tokens",
                        "Thinking",
                        "First token"
                      ].map((name) => (
                        <th scope="col" class="number" key={name}>
                          {name}
                        </th>
                      ))}
                      {costs ? (
                        <th scope="col" class="number">
                          Cost
                        </th>
                      ) : null}
                    </tr>
                  </thead>
                  <tbody>
                    {sorted.slice(0, 200).map((row) => (
                      <tr key={nameOf(row, group)}>
                        <th scope="row">
                          <bdi>{nameOf(row, group)}</bdi>
                        </th>
                        {[
                          "requests",
                          "errors",
                          "prompt_tokens",
                          "cached_tokens",
                          "completion_tokens",
                          "reasoning_tokens"
                        ].map((name) => (
                          <td class="number" key={name}>
                            {Format.count(number(row, name))}
                          </td>
                        ))}
                        <td class="number">{Format.milliseconds(row["first_token_ms"] as number | null)}</td>
                        {costs ? (
                          <td class="number">{row["cost"] === null ? "–" : money(number(row, "cost"))}</td>
                        ) : null}
                      </tr>
                    ))}
                  </tbody>
                </table>
              </div>
            )}
            {sorted.length > 200 ? <Empty>{sorted.length - 200} more: the CSV has them.</Empty> : null}
          </section>
        </>
      )}
    </>
  )
}

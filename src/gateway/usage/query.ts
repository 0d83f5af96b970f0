/** Reads usage from the store: what was used since a time, by any of the things that it is counted by. */
import type { SqlClient } from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type { StoreUnavailable } from "../../Errors.js"
import type { Prices } from "../../fleet/prices.js"
import type * as Store from "../../Store.js"

/** What usage may be grouped by. */
export const dimensions = ["key", "user", "model", "server", "hour", "day"] as const
export type Dimension = (typeof dimensions)[number]

/** More rows are not given at once. */
export const maxRows = 100_000

const expressions: { readonly [D in Dimension]: string } = {
  key: "key_name",
  user: "end_user",
  model: "model",
  server: "server",
  hour: "hour",
  day: "hour - hour % 86400000"
}

/** Which usage. Times are in milliseconds since the epoch. */
export interface UsageQuery {
  readonly by: ReadonlyArray<Dimension>
  /** From the hour in which this is. */
  readonly since: number
  /** Of this key alone: its id, or the name of one of the settings. */
  readonly key?: string | undefined
}

const sums = [
  "requests",
  "errors",
  "prompt_tokens",
  "cached_tokens",
  "completion_tokens",
  "reasoning_tokens",
  "first_tokens",
  "first_token_sum"
] as const

type Sums = { [name in (typeof sums)[number]]: number }

/** A row: what it is grouped by, then the sums; times are ISO 8601, and what is not known is `null`. */
export type UsageRow = { readonly [name: string]: string | number | null }

/** The columns after those of the grouping. */
export const measures = [
  "requests",
  "errors",
  "prompt_tokens",
  "cached_tokens",
  "completion_tokens",
  "reasoning_tokens",
  "first_token_ms",
  "cost",
  "currency"
] as const

/**
 * The columns of the grouping: a key has its id in addition to its name, because another key may have had that name
 * before.
 */
export const groupColumns = (by: ReadonlyArray<Dimension>): ReadonlyArray<string> =>
  by.flatMap((one) => (one === "key" ? ["key", "key_id"] : [one]))

interface SumRow extends Readonly<Sums> {
  readonly [group: string]: string | number
}

const select = (
  sql: SqlClient,
  by: ReadonlyArray<Dimension>,
  { key, since }: UsageQuery
): Effect.Effect<ReadonlyArray<SumRow>, SqlError> => {
  const names = by.map((one, i) => `${expressions[one]} AS g${i}`)
  const groups = by.map((one) => expressions[one])
  const sum = (name: string) =>
    `CAST(COALESCE(SUM(${name === "first_token_sum" ? "first_token_ms" : name}), 0) AS BIGINT) AS ${name}`
  const columns = [...names, ...sums.map(sum)].join(", ")
  const from = Math.floor(since / 3_600_000) * 3_600_000
  const rest = groups.length === 0 ? "" : `GROUP BY ${groups.join(", ")} ORDER BY ${groups.join(", ")}`
  const mine = key === undefined ? sql`` : sql`AND key_name = ${key}`
  return sql<SumRow>`SELECT ${sql.literal(columns)} FROM aicortex_usage
    WHERE hour >= ${from} ${mine} ${sql.literal(rest)} LIMIT ${maxRows + 1}`
}

/** The names of keys by their ids. Those of the settings have no id: their names are stored. */
const namesOf = (sql: SqlClient): Effect.Effect<ReadonlyMap<string, string>, SqlError> =>
  Effect.map(
    sql<{ readonly id: string; readonly name: string }>`SELECT id, name FROM aicortex_keys`,
    (rows) => new Map(rows.map(({ id, name }) => [id, name]))
  )

/** What a row is made of: costs are known by models, whatever is asked for. */
interface Group extends Sums {
  readonly values: ReadonlyArray<string | number>
  cost: number | null
  unpriced: boolean
}

const tokensOf = (one: SumRow) => one.prompt_tokens + one.completion_tokens

const grouped = (
  found: ReadonlyArray<SumRow>,
  by: ReadonlyArray<Dimension>,
  asked: ReadonlyArray<Dimension>,
  prices: Prices | undefined
): ReadonlyArray<Group> => {
  const groups = new Map<string, Group>()
  const model = asked.indexOf("model")
  for (const one of found) {
    const values = by.map((_, i) => one[`g${i}`] ?? "")
    const id = JSON.stringify(values)
    let group = groups.get(id)
    if (group === undefined) {
      const none = Object.fromEntries(sums.map((name) => [name, 0])) as Sums
      group = { ...none, values, cost: null, unpriced: false }
      groups.set(id, group)
    }
    for (const name of sums) group[name] += one[name]
    if (prices === undefined) continue
    const { cached_tokens: cached, completion_tokens: completion, prompt_tokens: prompt } = one
    const cost = prices.cost(String(one[`g${model}`] ?? ""), { prompt, cached, completion })
    if (cost !== undefined) group.cost = (group.cost ?? 0) + cost
    else if (tokensOf(one) > 0) group.unpriced = true
  }
  return [...groups.values()]
}

/** Without what binary fractions add. */
const rounded = (cost: number): number => Number(cost.toFixed(9))

/**
 * The rows, in the order of what they are grouped by; more than `maxRows` where there are more. Costs are those of
 * today's prices; where tokens of a model without a price are among them, a row has none.
 */
export const rows = (
  store: Store.Service,
  query: UsageQuery,
  labelOf: (server: string) => string = (server) => server,
  prices?: Prices
): Effect.Effect<ReadonlyArray<UsageRow>, StoreUnavailable> => {
  const { by } = query
  const asked = prices === undefined || by.includes("model") ? by : [...by, "model" as const]
  const read = store.use((sql) =>
    Effect.zip(select(sql, asked, query), by.includes("key") ? namesOf(sql) : Effect.succeed(new Map<string, string>()))
  )
  return Effect.map(read, ([found, names]) =>
    grouped(found, by, asked, prices).map(({ cost, first_token_sum, first_tokens, unpriced, values, ...counts }) => {
      const group = by.flatMap((one, i): ReadonlyArray<readonly [string, string | number | null]> => {
        const value = values[i] ?? ""
        if (one === "hour" || one === "day") {
          return [[one, new Date(Number(value)).toISOString().replace(".000Z", "Z")]]
        }
        if (one === "key") {
          const name = names.get(String(value))
          return [
            ["key", name ?? value],
            ["key_id", name === undefined ? null : value]
          ]
        }
        return [[one, one === "server" && value !== "" ? labelOf(String(value)) : value]]
      })
      const known = cost !== null && !unpriced
      return {
        ...Object.fromEntries(group),
        ...counts,
        first_token_ms: first_tokens === 0 ? null : Math.round(first_token_sum / first_tokens),
        cost: known ? rounded(cost) : null,
        currency: known ? (prices?.currency ?? null) : null
      }
    })
  )
}

/** A text that a spreadsheet would take for a formula begins with an apostrophe. */
const cell = (value: string | number | null): string => {
  if (typeof value !== "string") return value === null ? "" : String(value)
  const safe = /^[=+\-@\t\r\n|%]/.test(value) ? `'${value}` : value
  return /[",\r\n;']/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe
}

/** As CSV (RFC 4180), with a line of names. */
export const csv = (by: ReadonlyArray<Dimension>, rows: ReadonlyArray<UsageRow>): string => {
  const names = [...groupColumns(by), ...measures]
  return [names.join(","), ...rows.map((row) => names.map((name) => cell(row[name] ?? null)).join(","))]
    .map((line) => `${line}\r\n`)
    .join("")
}

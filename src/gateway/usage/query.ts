/** Reads usage from the store: what was used since a time, by any of the things that it is counted by. */
import type { SqlClient } from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type { StoreUnavailable } from "../../Errors.js"
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
  /** Of this key alone. */
  readonly key?: string | undefined
}

interface Sums {
  readonly requests: number
  readonly errors: number
  readonly prompt_tokens: number
  readonly cached_tokens: number
  readonly completion_tokens: number
  readonly reasoning_tokens: number
  readonly first_tokens: number
  readonly first_token_sum: number
}

/** A row: what it is grouped by, then the sums; times are ISO 8601. */
export type UsageRow = { readonly [name: string]: string | number | null }

/** The columns after those of the grouping. */
export const measures = [
  "requests",
  "errors",
  "prompt_tokens",
  "cached_tokens",
  "completion_tokens",
  "reasoning_tokens",
  "first_token_ms"
] as const

const select = (sql: SqlClient, { by, key, since }: UsageQuery): Effect.Effect<ReadonlyArray<Sums>, SqlError> => {
  const names = by.map((one, i) => `${expressions[one]} AS g${i}`)
  const groups = by.map((one) => expressions[one])
  const sum = (name: string, as = name) => `CAST(COALESCE(SUM(${name}), 0) AS BIGINT) AS ${as}`
  const columns = [
    ...names,
    ...measures.slice(0, -1).map((name) => sum(name)),
    sum("first_tokens"),
    sum("first_token_ms", "first_token_sum")
  ].join(", ")
  const from = Math.floor(since / 3_600_000) * 3_600_000
  const rest = groups.length === 0 ? "" : `GROUP BY ${groups.join(", ")} ORDER BY ${groups.join(", ")}`
  const mine = key === undefined ? sql`` : sql`AND key_name = ${key}`
  return sql<Sums & { readonly [group: string]: string | number }>`SELECT ${sql.literal(columns)} FROM aicortex_usage
    WHERE hour >= ${from} ${mine} ${sql.literal(rest)} LIMIT ${maxRows + 1}`
}

/** The rows, in the order of what they are grouped by; more than `maxRows` where there are more. */
export const rows = (
  store: Store.Service,
  query: UsageQuery,
  labelOf: (server: string) => string = (server) => server
): Effect.Effect<ReadonlyArray<UsageRow>, StoreUnavailable> =>
  Effect.map(
    store.use((sql) => select(sql, query)),
    (found) =>
      found.map((row) => {
        const values = row as unknown as { readonly [name: string]: string | number }
        const group = query.by.map((one, i) => {
          const value = values[`g${i}`] ?? ""
          if (one === "hour" || one === "day") return [one, new Date(Number(value)).toISOString().replace(".000Z", "Z")]
          return [one, one === "server" && value !== "" ? labelOf(String(value)) : value]
        })
        const { first_token_sum, first_tokens, ...sums } = row
        return {
          ...Object.fromEntries(group),
          ...Object.fromEntries(measures.slice(0, -1).map((name) => [name, sums[name as keyof typeof sums]])),
          first_token_ms: first_tokens === 0 ? null : Math.round(first_token_sum / first_tokens)
        }
      })
  )

/** A text that a spreadsheet would take for a formula begins with an apostrophe. */
const cell = (value: string | number | null): string => {
  if (typeof value !== "string") return value === null ? "" : String(value)
  const safe = /^[=+\-@\t\r\n|%]/.test(value) ? `'${value}` : value
  return /[",\r\n;']/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe
}

/** As CSV (RFC 4180), with a line of names. */
export const csv = (by: ReadonlyArray<Dimension>, rows: ReadonlyArray<UsageRow>): string => {
  const names = [...by, ...measures]
  return [names.join(","), ...rows.map((row) => names.map((name) => cell(row[name] ?? null)).join(","))]
    .map((line) => `${line}\r\n`)
    .join("")
}

/** Runs `aicortex usage`. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { pricesOf } from "../../fleet/prices.js"
import * as Usage from "../../gateway/usage/query.js"
import * as Retention from "../../gateway/usage/retention.js"
import { UsageError } from "../errors.js"
import { spanOf } from "../keys/flags.js"
import * as Output from "../output.js"
import { type StoreFlags, withStore } from "../storeLayer.js"
import * as Table from "../table.js"

interface Flags extends StoreFlags {
  readonly by: string | undefined
  readonly since: string | undefined
  readonly csv: boolean
  readonly json: boolean
}

const wrong = (message: string, command = ["usage"]) => new UsageError({ message, command })

const byOf = (text: string): Effect.Effect<ReadonlyArray<Usage.Dimension>, UsageError> => {
  const names = text.split(",").map((one) => one.trim())
  const found = names.flatMap((name) => Usage.dimensions.filter((one) => one === name))
  return found.length === names.length && new Set(found).size === found.length
    ? Effect.succeed(found)
    : Effect.fail(
        wrong(`--by must be some of ${Usage.dimensions.join(", ")}, each once, separated by commas, not '${text}'`)
      )
}

export const timeOf = (
  flag: string,
  text: string,
  now: number,
  command?: Array<string>
): Effect.Effect<number, UsageError> => {
  const span = spanOf(text)
  const time =
    span !== undefined && span >= 0 ? now - span : /^\d{4}-\d\d-\d\d/.test(text) ? Date.parse(text) : Number.NaN
  return Number.isNaN(time)
    ? Effect.fail(wrong(`--${flag} must be a time such as 24h, 30d or 2026-01-31, not '${text}'`, command))
    : Effect.succeed(time)
}

const titles: { readonly [name: string]: string } = {
  key: "Key",
  key_id: "Key ID",
  user: "User",
  model: "Model",
  server: "Server",
  hour: "Hour",
  day: "Day",
  requests: "Requests",
  errors: "Errors",
  prompt_tokens: "Prompt tokens",
  cached_tokens: "Cached",
  completion_tokens: "Output tokens",
  reasoning_tokens: "Reasoning",
  first_token_ms: "First token (ms)"
}

export const run = Effect.fnUntraced(function* (flags: Flags) {
  const by = yield* byOf(flags.by ?? "key,model")
  const since = yield* timeOf("since", flags.since ?? "7d", yield* Clock.currentTimeMillis)
  if (flags.csv && flags.json) return yield* wrong("--csv and --json: give one of them")
  const { prices, rows } = yield* withStore(
    flags,
    ["usage"],
    (store, settings) => {
      const prices = pricesOf(settings.prices)
      return Effect.map(Usage.rows(store, { by, since }, undefined, prices), (rows) => ({ prices, rows }))
    },
    true
  )
  if (rows.length > Usage.maxRows) {
    return yield* wrong(`--by has more than ${Usage.maxRows} rows: ask for less time, or group by less`)
  }
  if (flags.csv) return yield* Output.write(Usage.csv(by, rows))
  if (flags.json) return yield* Output.writeJson(rows)
  if (rows.length === 0) return yield* Output.notice("nothing was used in this time")
  // Where no price is known there is no cost.
  const measures = Usage.measures.filter((name) => name !== "currency" && (name !== "cost" || prices !== undefined))
  // Ids distinguish keys that have had one name.
  const keys = new Set(rows.map(({ key, key_id }) => JSON.stringify([key, key_id])))
  const isClear = keys.size === new Set(rows.map(({ key }) => key)).size
  const groups = isClear ? by : Usage.groupColumns(by)
  const names = [...groups, ...measures]
  const cells = rows.map((row) => names.map((name) => String(row[name] ?? "-") || "-"))
  const title = (name: string) => (name === "cost" ? `Cost (${prices?.currency})` : (titles[name] ?? name))
  yield* Output.write(Table.table(names.map(title), cells))
})

interface PruneFlags extends StoreFlags {
  readonly before: string | undefined
  readonly dryRun: boolean
  readonly json: boolean
}

export const prune = Effect.fnUntraced(function* ({ dryRun, json, before, ...flags }: PruneFlags) {
  const command = ["usage", "prune"]
  if (before === undefined) return yield* wrong("--before is needed: what ended before goes", command)
  const now = yield* Clock.currentTimeMillis
  const time = yield* timeOf("before", before, now, command)
  const gone = yield* withStore(
    flags,
    command,
    (store) => (dryRun ? Retention.olderThan(store, time) : Retention.prune(store, time, now)),
    true
  )
  if (json) return yield* Output.writeJson({ ...gone, dryRun })
  const what = `usage of ${gone.requests} requests (${gone.rows} rows)`
  yield* Output.notice(dryRun ? `${what} would be removed` : `${what} is removed`)
})

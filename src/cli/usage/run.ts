/** Runs `aicortex usage`. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Usage from "../../gateway/usage/query.js"
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

const wrong = (message: string) => new UsageError({ message, command: ["usage"] })

const byOf = (text: string): Effect.Effect<ReadonlyArray<Usage.Dimension>, UsageError> => {
  const names = text.split(",").map((one) => one.trim())
  const found = names.flatMap((name) => Usage.dimensions.filter((one) => one === name))
  return found.length === names.length && new Set(found).size === found.length
    ? Effect.succeed(found)
    : Effect.fail(
        wrong(`--by must be some of ${Usage.dimensions.join(", ")}, each once, separated by commas, not '${text}'`)
      )
}

const sinceOf = (text: string, now: number): Effect.Effect<number, UsageError> => {
  const span = spanOf(text)
  const time =
    span !== undefined && span >= 0 ? now - span : /^\d{4}-\d\d-\d\d/.test(text) ? Date.parse(text) : Number.NaN
  return Number.isNaN(time)
    ? Effect.fail(wrong(`--since must be a time such as 24h, 30d or 2026-01-31, not '${text}'`))
    : Effect.succeed(time)
}

const titles: { readonly [name: string]: string } = {
  key: "Key",
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
  const since = yield* sinceOf(flags.since ?? "7d", yield* Clock.currentTimeMillis)
  if (flags.csv && flags.json) return yield* wrong("--csv and --json: give one of them")
  const rows = yield* withStore(flags, ["usage"], (store) => Usage.rows(store, { by, since }))
  if (rows.length > Usage.maxRows) {
    return yield* wrong(`--by has more than ${Usage.maxRows} rows: ask for less time, or group by less`)
  }
  if (flags.csv) return yield* Output.write(Usage.csv(by, rows))
  if (flags.json) return yield* Output.writeJson(rows)
  if (rows.length === 0) return yield* Output.notice("nothing was used in this time")
  const names = [...by, ...Usage.measures]
  const cells = rows.map((row) => names.map((name) => String(row[name] ?? "-") || "-"))
  yield* Output.write(
    Table.table(
      names.map((name) => titles[name] ?? name),
      cells
    )
  )
})

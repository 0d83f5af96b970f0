/** Which conversations the flags of `aicortex sessions` mean. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Sessions from "../../Sessions.js"
import { UsageError } from "../errors.js"
import { spanOf } from "../keys/flags.js"

export interface FilterFlags {
  readonly title?: string | undefined
  readonly text?: string | undefined
  readonly metadata?: ReadonlyArray<string>
  readonly since?: string | undefined
  readonly until?: string | undefined
}

export interface ListFlags extends FilterFlags {
  readonly limit: number | undefined
  readonly cursor: string | undefined
}

export const isUnfiltered = ({ metadata = [], since, text, title, until }: FilterFlags): boolean =>
  metadata.length === 0 && [since, text, title, until].every((one) => one === undefined)

const wrong = (command: string, message: string) => new UsageError({ message, command: command.split(" ") })

const timeOf = (command: string, flag: string, given: string, now: number): Effect.Effect<number, UsageError> => {
  const span = spanOf(given)
  const time =
    span !== undefined && span >= 0 ? now - span : /^\d{4}-\d\d-\d\d/.test(given) ? Date.parse(given) : Number.NaN
  return Number.isNaN(time)
    ? Effect.fail(wrong(command, `--${flag} must be a time such as 24h, 30d or 2026-01-31, not '${given}'`))
    : Effect.succeed(time)
}

/** A value is JSON where it is a number, true, false, null or a quoted text, and else the text itself. */
const valueOf = (text: string): string | number | boolean | null => {
  if (!/^(-?\d|true$|false$|null$|")/.test(text)) return text
  try {
    return JSON.parse(text) as string | number | boolean | null
  } catch {
    return text
  }
}

/** The filter that these flags mean. */
export const filter = Effect.fnUntraced(function* (
  command: string,
  { metadata = [], since, text, title, until }: FilterFlags
): Effect.fn.Return<Sessions.Filter, UsageError> {
  const now = yield* Clock.currentTimeMillis
  const members: Array<readonly [string, string | number | boolean | null]> = []
  for (const one of metadata) {
    const at = one.indexOf("=")
    if (at < 1) return yield* wrong(command, `--metadata must be NAME=VALUE, not '${one}'`)
    members.push([one.slice(0, at), valueOf(one.slice(at + 1))])
  }
  return {
    ...(title === undefined ? {} : { title }),
    ...(text === undefined ? {} : { text }),
    ...(members.length === 0 ? {} : { metadata: Object.fromEntries(members) }),
    ...(since === undefined ? {} : { since: yield* timeOf(command, "used-since", since, now) }),
    ...(until === undefined ? {} : { until: yield* timeOf(command, "used-before", until, now) })
  }
})

export const listOptions = (command: string, { cursor, limit, ...flags }: ListFlags) =>
  Effect.map(filter(command, flags), (options): Sessions.ListOptions => ({ ...options, limit, cursor }))

/**
 * Counts what requests have used, in plain memory, and adds it to the store each second: no request waits for that.
 *
 * A batch has the number of its writer, so that one whose end is not known is added once, however often it is tried. While
 * the store is away, counts stay in memory.
 */
import { randomUUID } from "node:crypto"
import type { SqlClient } from "@effect/sql/SqlClient"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { StoreUnavailable } from "../../Errors.js"
import type * as Store from "../../Store.js"
import type { RequestContext } from "../http/RequestContext.js"
import * as StoreWriter from "../storeWriter.js"

const hour = 3_600_000

/** More counters than this are not kept between two batches: names of end users are the clients' own. */
const maxCounters = 10_000
const others = "(others)"

/** Rows of one statement. */
const chunk = 100

/** How long the number of a writer that is gone is kept, in milliseconds. */
const writerLife = 7 * 24 * hour

/** A row of the store: what was used in one hour by one key (its id, or its name in the settings), end user, model and server. */
interface Counter {
  readonly hour: number
  readonly key_name: string
  readonly end_user: string
  readonly model: string
  readonly server: string
  requests: number
  errors: number
  prompt_tokens: number
  cached_tokens: number
  completion_tokens: number
  reasoning_tokens: number
  first_tokens: number
  first_token_ms: number
}

const sums = [
  "requests",
  "errors",
  "prompt_tokens",
  "cached_tokens",
  "completion_tokens",
  "reasoning_tokens",
  "first_tokens",
  "first_token_ms"
] as const satisfies ReadonlyArray<keyof Counter>

const additions = sums.map((name) => `${name} = aicortex_usage.${name} + excluded.${name}`).join(", ")

interface Batch {
  readonly number: number
  readonly counters: ReadonlyArray<Counter>
}

const addTo = Effect.fnUntraced(function* (sql: SqlClient, writer: string, { counters, number }: Batch, now: number) {
  const first =
    yield* sql`INSERT INTO aicortex_usage_writers (writer, batch, used_at) VALUES (${writer}, ${number}, ${now})
    ON CONFLICT (writer) DO UPDATE SET batch = excluded.batch, used_at = excluded.used_at
    WHERE aicortex_usage_writers.batch < excluded.batch RETURNING batch`
  if (first.length === 0) return
  for (let i = 0; i < counters.length; i += chunk) {
    yield* sql`INSERT INTO aicortex_usage ${sql.insert(counters.slice(i, i + chunk).map((one) => ({ ...one })))}
      ON CONFLICT (hour, key_name, end_user, model, server) DO UPDATE SET ${sql.literal(additions)}`
  }
  const days = new Map<string, { readonly key_name: string; readonly day: number; tokens: number }>()
  for (const { completion_tokens, hour: at, key_name, prompt_tokens } of counters) {
    const day = Math.floor(at / (24 * hour))
    const known = days.get(`${day} ${key_name}`) ?? { key_name, day, tokens: 0 }
    known.tokens += prompt_tokens + completion_tokens
    days.set(`${day} ${key_name}`, known)
  }
  const all = [...days.values()].filter(({ key_name, tokens }) => key_name !== "" && tokens > 0)
  for (let i = 0; i < all.length; i += chunk) {
    yield* sql`INSERT INTO aicortex_key_tokens ${sql.insert(all.slice(i, i + chunk))}
      ON CONFLICT (key_name, day) DO UPDATE SET tokens = aicortex_key_tokens.tokens + excluded.tokens`
  }
  if (number === 1) yield* sql`DELETE FROM aicortex_usage_writers WHERE used_at < ${now - writerLife}`
})

const keyOf = ({ end_user, hour, key_name, model, server }: Counter): string =>
  `${hour}\n${key_name}\n${end_user}\n${model}\n${server}`

export class UsageRecorder {
  private counters = new Map<string, Counter>()
  private last: Counter | undefined
  private pending: Batch | undefined
  private readonly writer = randomUUID()
  private number = 0

  constructor(
    private readonly store: Store.Service,
    private readonly log: (text: string) => void
  ) {}

  /** Counts a request to a model that has ended. */
  record({ endUser = "", identity = "", record }: RequestContext, status: number): void {
    const isError = record.error !== undefined || (status >= 400 && status !== 499)
    // A name that is none of a model is the client's own.
    const model = status >= 400 && status < 500 && record.url === "" ? "" : (record.model ?? "")
    const counter = this.counterOf(Math.floor(Date.now() / hour) * hour, identity, endUser, model, record.url)
    counter.requests++
    if (isError) counter.errors++
    counter.prompt_tokens += record.promptTokens
    counter.cached_tokens += record.cachedTokens
    counter.completion_tokens += record.completionTokens
    counter.reasoning_tokens += record.reasoningTokens
    if (record.firstToken !== undefined) {
      counter.first_tokens++
      counter.first_token_ms += Math.round(record.firstToken)
    }
  }

  private counterOf(hour: number, key: string, user: string, model: string, server: string): Counter {
    // Most requests are counted where the one before was: a name for each would cost more than the counting.
    const { last } = this
    if (
      last !== undefined &&
      last.server === server &&
      last.model === model &&
      last.key_name === key &&
      last.end_user === user &&
      last.hour === hour
    ) {
      return last
    }
    this.last = this.namedCounter(hour, key, user, model, server)
    return this.last
  }

  private namedCounter(hour: number, key: string, user: string, model: string, server: string): Counter {
    const name = `${hour}\n${key}\n${user}\n${model}\n${server}`
    const known = this.counters.get(name)
    if (known !== undefined) return known
    if (this.counters.size >= maxCounters && user !== others) return this.namedCounter(hour, key, others, model, server)
    const counter: Counter = {
      hour,
      key_name: key,
      end_user: user,
      model,
      server,
      requests: 0,
      errors: 0,
      prompt_tokens: 0,
      cached_tokens: 0,
      completion_tokens: 0,
      reasoning_tokens: 0,
      first_tokens: 0,
      first_token_ms: 0
    }
    this.counters.set(name, counter)
    return counter
  }

  /** Tokens of a key that are counted and not stored yet. */
  unstored(key: string): number {
    let sum = 0
    for (const all of [this.counters.values(), this.pending?.counters ?? []]) {
      for (const one of all) if (one.key_name === key) sum += one.prompt_tokens + one.completion_tokens
    }
    return sum
  }

  /** The next batch: one that could not be added before goes first. */
  private take(): Batch | undefined {
    if (this.pending !== undefined || this.counters.size === 0) return this.pending
    // In one order, so that gateways that add at once do not wait for each other in a circle.
    const counters = [...this.counters.values()].sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1))
    this.counters = new Map()
    this.last = undefined
    this.pending = { number: ++this.number, counters }
    return this.pending
  }

  private readonly addOne: Effect.Effect<boolean, StoreUnavailable> = Effect.suspend(() => {
    const batch = this.take()
    if (batch === undefined) return Effect.succeed(false)
    return Effect.map(
      this.store.transaction((sql) => addTo(sql, this.writer, batch, Date.now())),
      () => {
        this.pending = undefined
        return true
      }
    )
  })

  private readonly storeWriter = StoreWriter.make({
    writeOne: this.addOne,
    log: (text) => this.log(text),
    words: {
      away: "usage is kept in memory until the store is back",
      back: "usage is stored again",
      last: "the last usage was not stored"
    }
  })

  /** Adds all that is counted to the store. */
  readonly flush = this.storeWriter.flush

  /** Adds counts each second, and the last ones when the scope closes. */
  readonly run = this.storeWriter.run
}

/** Counts into this store until the scope closes. */
export const make = (
  store: Store.Service,
  log: (text: string) => void
): Effect.Effect<UsageRecorder, never, Scope.Scope> =>
  Effect.suspend(() => {
    const recorder = new UsageRecorder(store, log)
    return Effect.as(recorder.run, recorder)
  })

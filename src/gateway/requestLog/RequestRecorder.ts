/**
 * Writes the requests to models into the log in the store, each second, apart from requests: none waits for it. What
 * waits to be written is bounded; beyond that, requests are not logged, and the operator sees how many.
 */
import { randomBytes } from "node:crypto"
import type { SqlClient } from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { StoreUnavailable } from "../../Errors.js"
import { pause } from "../../internal/background.js"
import type * as Store from "../../Store.js"
import type { RequestContext } from "../http/RequestContext.js"
import { maxLoggedBody } from "../http/transcript.js"
import * as StoreWriter from "../storeWriter.js"
import { pathsOf, redacted, redactedText } from "./loggedBody.js"
import * as Table from "./table.js"

/** What may wait to be written. */
const maxWaitingBytes = 32 * 1024 * 1024
const maxWaiting = 20_000

/** Of one statement's transaction. */
const batchSize = 500

/** How often what is kept too long is removed, in milliseconds. */
const pruneInterval = 10 * 60_000

const longestName = 200
const clip = (name: string | undefined): string | null => name?.slice(0, longestName) ?? null
const tenths = (milliseconds: number): number => Math.round(milliseconds * 10) / 10

/** The settings of the log. */
export interface LogSettings {
  readonly requestLog: "off" | "metadata" | "bodies"
  readonly requestLogAge: number
  readonly requestLogBytes: number
  readonly requestLogRedact: ReadonlyArray<string>
}

const cut = (text: string): string => (text.length > maxLoggedBody ? `${text.slice(0, maxLoggedBody)}… (cut)` : text)

export class RequestRecorder {
  private waiting: Array<Table.Entry> = []
  private waitingBytes = 0
  private lost = 0
  private count = 0
  private readonly writer = randomBytes(4).toString("hex")
  private settings: LogSettings | undefined

  constructor(
    private readonly store: Store.Service,
    private readonly log: (text: string) => void
  ) {}

  /** Logs a request to a model that has ended; `label` is the name of its server that clients see. */
  record(settings: LogSettings, context: RequestContext, status: number, duration: number): void {
    this.settings = settings
    const { requestLog } = settings
    if (requestLog === "off") return
    if (this.waiting.length >= maxWaiting || this.waitingBytes >= maxWaitingBytes) {
      this.lost++
      return
    }
    const { caller, endUser, id, identity, record, request: incoming, route } = context
    const at = Date.now()
    // Clients choose the names of their requests: two may have one.
    const own = `${at.toString(36)}-${(++this.count).toString(36)}-${this.writer}`
    const entry: Table.LoggedRequest = {
      id: own,
      request_id: id,
      at,
      key: caller ?? null,
      key_id: identity ?? null,
      user: endUser ?? null,
      method: incoming.method ?? "",
      route,
      status,
      model: clip(record.model),
      server: record.server ?? null,
      duration_ms: tenths(duration),
      first_token_ms: record.firstToken === undefined ? null : tenths(record.firstToken),
      prompt_tokens: record.promptTokens,
      cached_tokens: record.cachedTokens,
      completion_tokens: record.completionTokens,
      attempts: record.attempts,
      stream: record.streamed,
      error: record.error ?? null
    }
    const paths = pathsOf(settings.requestLogRedact)
    const { transcript } = context
    const request = transcript === undefined ? null : cut(JSON.stringify(redacted(transcript.body, paths)))
    const response = transcript === undefined ? null : redactedText(transcript.answer, paths)
    const text = JSON.stringify(entry)
    const bytes = text.length + (request?.length ?? 0) + (response?.length ?? 0)
    this.waiting.push({ id: own, at, bytes, entry: text, request, response })
    this.waitingBytes += bytes
  }

  private readonly writeOne: Effect.Effect<boolean, StoreUnavailable> = Effect.suspend(() => {
    const batch = this.waiting.slice(0, batchSize)
    if (batch.length === 0) return Effect.succeed(false)
    const insert = (sql: SqlClient): Effect.Effect<void, SqlError> => Table.insert(sql, batch)
    return Effect.map(this.store.transaction(insert), () => {
      this.waiting.splice(0, batch.length)
      for (const { bytes } of batch) this.waitingBytes -= bytes
      return true
    })
  })

  private readonly storeWriter = StoreWriter.make({
    writeOne: this.writeOne,
    log: (text) => this.log(text),
    words: {
      away: "the request log waits for the store",
      back: "the request log is written again",
      last: "the last requests were not logged"
    },
    written: () => {
      if (this.lost > 0) this.log(`${this.lost} requests were not logged: too many waited for the store`)
      this.lost = 0
    }
  })

  /** Writes all that waits. */
  readonly flush = this.storeWriter.flush

  private readonly prune = Effect.suspend(() => {
    if (this.settings === undefined || this.settings.requestLog === "off") return Effect.void
    const { requestLogAge: age, requestLogBytes: bytes } = this.settings
    return Effect.catchAll(Table.prune(this.store, { age, bytes }, Date.now()), ({ reason }) =>
      Effect.sync(() => this.log(`the request log could not be pruned: ${reason}`))
    )
  })

  /** Writes each second, and what is left when the scope closes; removes what is kept too long. */
  readonly run: Effect.Effect<void, never, Scope.Scope> = Effect.suspend(() =>
    Effect.zipRight(
      this.storeWriter.run,
      Effect.asVoid(Effect.forkScoped(Effect.forever(Effect.zipRight(pause(pruneInterval), this.prune))))
    )
  )
}

/** Logs into this store until the scope closes. */
export const make = (
  store: Store.Service,
  log: (text: string) => void
): Effect.Effect<RequestRecorder, never, Scope.Scope> =>
  Effect.suspend(() => {
    const recorder = new RequestRecorder(store, log)
    return Effect.as(recorder.run, recorder)
  })

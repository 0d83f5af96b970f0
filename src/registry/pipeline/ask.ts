/**
 * Asks servers for their models: so many at once, each within its time, every failure with its reason. There is no
 * fiber per server: see `discoveryWorkers`.
 */
import type * as HttpClient from "@effect/platform/HttpClient"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Mailbox from "effect/Mailbox"
import * as Stream from "effect/Stream"
import type { Server } from "../../Server.js"
import * as PlainRequests from "../../transport/plainRequests.js"
import * as Discovery from "../discovery.js"
import * as Workers from "../discoveryWorkers.js"
import { type Listing, ListingFailed } from "../listing.js"
import type { Rejected } from "./record.js"
import type { Fetched } from "./resolve.js"

/** How servers are asked. */
export interface AskOptions {
  /** How many are asked at once. */
  readonly workers: number
  /** How long each of them may take, in milliseconds. */
  readonly timeout: number
}

/**
 * A server that was asked.
 *
 * @since 0.4.0
 * @category models
 */
export interface Asked {
  /** How many servers have been asked so far, this one included. */
  readonly done: number
  /** How many are asked in all. */
  readonly total: number
  /** How many were left out so far. */
  readonly rejected: number
  /** Its address. */
  readonly server: string
}

/**
 * A server that answered with a list of models.
 *
 * @since 0.4.0
 * @category models
 */
export interface ServerAnswered extends Asked {
  /** What happened. */
  readonly type: "answered"
  /** Its list. */
  readonly fetched: Fetched
}

/**
 * A server that was left out.
 *
 * @since 0.4.0
 * @category models
 */
export interface ServerRejected extends Asked {
  /** What happened. */
  readonly type: "rejected"
  /** Why, as it completes "the server …". */
  readonly reason: string
}

/**
 * What becomes of each server that is asked.
 *
 * @since 0.4.0
 * @category models
 */
export type AskEvent = ServerAnswered | ServerRejected

/** What servers said, in their order, and which of them said nothing of use. */
export interface Answers {
  readonly fetched: ReadonlyArray<Fetched>
  readonly rejected: ReadonlyArray<Rejected>
}

/** A longer list is not one of a server's models. */
const maxModels = 10_000

const detailFields: ReadonlySet<string> = new Set([
  "parent_model",
  "format",
  "families",
  "parameter_size",
  "quantization_level"
])

const fetchedOf = (server: Server, { api, digests, models, protocol }: Listing): Fetched => ({
  source_url: protocol === "ollama" && api === undefined ? `${server.url}/api/tags` : server.url,
  ...(protocol === "ollama" ? {} : { protocol }),
  models: [...models].map(([key, info]) => {
    const { family, model_name: name, ...rest } = info
    const details: { [field: string]: unknown } = { family }
    const item: { [field: string]: unknown } = { name, model: name, digest: digests.get(key) }
    for (const [field, value] of Object.entries(rest)) (detailFields.has(field) ? details : item)[field] = value
    return { ...item, details }
  })
})

const outcomeOf = (server: Server, exit: Exit.Exit<Listing, ListingFailed>): Fetched | string => {
  if (Exit.isSuccess(exit)) {
    const { models } = exit.value
    return models.size > maxModels ? `names more than ${maxModels} models` : fetchedOf(server, exit.value)
  }
  return exit.cause._tag === "Fail" ? exit.cause.error.reason : "could not be asked"
}

/** The answers in the order of these servers. */
export const answersFrom = (servers: ReadonlyArray<Server>, events: ReadonlyArray<AskEvent>): Answers => {
  const order = new Map(servers.map(({ url }, index) => [url, index]))
  const sorted = [...events].sort((a, b) => (order.get(a.server) ?? 0) - (order.get(b.server) ?? 0))
  return {
    fetched: sorted.flatMap((event) => (event.type === "answered" ? [event.fetched] : [])),
    rejected: sorted.flatMap((event) =>
      event.type === "rejected" ? [{ source: event.server, reason: event.reason }] : []
    )
  }
}

/** Asks all servers. `hear` is called with each event before the stream emits it. */
export const askAll = (
  client: HttpClient.HttpClient,
  servers: ReadonlyArray<Server>,
  { timeout, workers }: AskOptions,
  hear: (event: AskEvent) => void
): Stream.Stream<AskEvent> =>
  Stream.unwrapScoped(
    Effect.gen(function* () {
      const send = PlainRequests.of(client, yield* Effect.runtime<never>())
      const answers = yield* Mailbox.make<AskEvent>()
      const total = servers.length
      let done = 0
      let rejected = 0
      const add = yield* Workers.make<Server, Listing, ListingFailed>(yield* Effect.scope, {
        concurrency: workers,
        timeout,
        onTimeout: () => Discovery.timedOut(timeout),
        run: (server, _, finish) => {
          const inquiry = new Discovery.DiscoveryRequests(send, server)
          Discovery.ask(inquiry).then(
            (found) => finish(found instanceof ListingFailed ? Exit.fail(found) : Exit.succeed(found)),
            (defect) => finish(Exit.die(defect))
          )
          return () => inquiry.cancel()
        },
        settle: (server, exit) => {
          if (Exit.isFailure(exit) && exit.cause._tag === "Die")
            return void answers.unsafeDone(Exit.failCause(exit.cause))
          const outcome = outcomeOf(server, exit)
          done++
          if (typeof outcome === "string") rejected++
          const about = { server: server.url, done, total, rejected }
          const event: AskEvent =
            typeof outcome === "string"
              ? { type: "rejected", ...about, reason: outcome }
              : { type: "answered", ...about, fetched: outcome }
          hear(event)
          answers.unsafeOffer(event)
          if (done === total) answers.unsafeDone(Exit.void)
        }
      })
      if (total === 0) answers.unsafeDone(Exit.void)
      yield* add(servers)
      return Mailbox.toStream(answers)
    })
  )

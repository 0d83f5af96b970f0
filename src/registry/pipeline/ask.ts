/** Asks servers for their models: so many at once, each within its time, every failure with its reason. */
import type * as HttpClient from "@effect/platform/HttpClient"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { Server } from "../../Server.js"
import * as Discovery from "../discovery.js"
import type { Listing } from "../listing.js"
import type { Rejected } from "./record.js"
import type { Fetched } from "./resolve.js"

/** How servers are asked. */
export interface AskOptions {
  /** How many are asked at once. */
  readonly workers: number
  /** How long each of them may take, in milliseconds. */
  readonly timeout: number
  /** Called after each server. */
  readonly progress: (done: number, rejected: number) => void
}

/** What the servers said, in their order, and which of them said nothing of use. */
export interface Asked {
  readonly fetched: ReadonlyArray<Fetched>
  readonly rejected: ReadonlyArray<Rejected>
}

/** A longer list is not one of a server's models. */
const maxModels = 10_000

const fetchedOf = (server: Server, { api, digests, models, protocol }: Listing): Fetched => ({
  source_url: protocol === "ollama" && api === undefined ? `${server.url}/api/tags` : server.url,
  ...(protocol === "ollama" ? {} : { protocol }),
  models: [...models].map(([key, info]) => {
    const { family, model_name: name, ...rest } = info
    const details: { [field: string]: unknown } = { family }
    const item: { [field: string]: unknown } = { name, model: name, digest: digests.get(key) }
    for (const [field, value] of Object.entries(rest)) {
      const isDetail = ["parent_model", "format", "families", "parameter_size", "quantization_level"].includes(field)
      ;(isDetail ? details : item)[field] = value
    }
    return { ...item, details }
  })
})

/** Asks one server. */
const ask = (
  client: HttpClient.HttpClient,
  server: Server,
  timeout: number
): Effect.Effect<Either.Either<Fetched, string>> =>
  Discovery.attempt(client, server).pipe(
    Effect.timeoutFail({ duration: timeout, onTimeout: () => Discovery.timedOut(timeout) }),
    Effect.map((listing) =>
      listing.models.size > maxModels
        ? Either.left(`names more than ${maxModels} models`)
        : Either.right(fetchedOf(server, listing))
    ),
    Effect.catchAll(({ reason }) => Effect.succeed(Either.left(reason)))
  )

/** Asks them all. */
export const askAll = (
  client: HttpClient.HttpClient,
  servers: ReadonlyArray<Server>,
  { progress, timeout, workers }: AskOptions
): Effect.Effect<Asked> =>
  Effect.suspend(() => {
    let done = 0
    let failed = 0
    const one = (server: Server) =>
      Effect.map(ask(client, server, timeout), (answer) => {
        done++
        if (Either.isLeft(answer)) failed++
        progress(done, failed)
        return Either.mapLeft(answer, (reason): Rejected => ({ source: server.url, reason }))
      })
    return Effect.map(Effect.forEach(servers, one, { concurrency: workers }), (answers) => ({
      fetched: answers.flatMap((answer) => (Either.isRight(answer) ? [answer.right] : [])),
      rejected: answers.flatMap((answer) => (Either.isLeft(answer) ? [answer.left] : []))
    }))
  })

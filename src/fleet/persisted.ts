/**
 * What was learned of servers, as JSON that outlives the process. It contains addresses and figures: no key, no user
 * name or password, and nothing of any conversation.
 */
import * as Either from "effect/Either"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import { SavedStateWarning } from "../Errors.js"
import type { Breaker } from "./breaker.js"
import { maxPlaces } from "./lease.js"
import { mergeRemoteTokens, SavedRemoteTokens } from "./remoteTokens.js"
import { maxPlausibleSpeed, type ServerState } from "./state.js"

const optional = <A, I>(schema: Schema.Schema<A, I>) => Schema.optionalWith(schema, { exact: true })

const Moment = Schema.Number.pipe(Schema.finite(), Schema.nonNegative())
const Figure = Schema.Number.pipe(Schema.finite(), Schema.nonNegative())

const Rest = Schema.Struct({
  /** Until when, in wall-clock time. */
  until: Moment,
  /** After how many consecutive failures. */
  strikes: Schema.NonNegativeInt
})

const PersistedModel = Schema.Struct({
  /** Its name. */
  model: Schema.NonEmptyString,
  /** When it was used last. */
  usedAt: Moment,
  /** Whether it has answered there. */
  proven: Schema.Boolean,
  /** How fast it answers. */
  tokensPerSecond: optional(Figure.pipe(Schema.lessThanOrEqualTo(maxPlausibleSpeed))),
  /** How long it takes to its first token. */
  firstTokenTime: optional(Figure),
  /** How fast it reads prompts. */
  promptTokensPerSecond: optional(Figure),
  /** When it was measured. */
  benchmarkedAt: optional(Moment),
  /** The part of the time to its first token that is neither load nor prompt nor waiting: the network. */
  overhead: optional(Figure),
  /** How many requests it answers at once. */
  places: optional(Schema.Int.pipe(Schema.between(1, maxPlaces))),
  /** Until when it is loaded. */
  residentUntil: optional(Moment),
  /** How long it is not asked there. */
  rest: optional(Rest)
})

const PersistedServer = Schema.Struct({
  /** Its address. */
  url: Schema.NonEmptyString,
  /** When it was used last. */
  usedAt: Moment,
  /** How long a request takes to it and back. */
  roundTrip: optional(Figure),
  /** How long it is not asked. */
  rest: optional(Rest),
  /** What was learned of its models. */
  models: Schema.Array(PersistedModel)
})
type PersistedServer = typeof PersistedServer.Type
type PersistedModel = typeof PersistedModel.Type

/**
 * The persisted form. Durations are in milliseconds, times in milliseconds since the epoch.
 *
 * @since 0.1.0
 * @category models
 */
export const Persisted = Schema.Struct({
  /** The version of the form. */
  version: Schema.Literal(1),
  /** When it was saved. */
  savedAt: Moment,
  /** What was learned of each server. */
  servers: Schema.Array(PersistedServer),
  /** The tokens of remote servers on a day. */
  remoteTokens: optional(SavedRemoteTokens)
})
/**
 * @since 0.1.0
 * @category models
 */
export type Persisted = typeof Persisted.Type

const decodeJson = Schema.decodeUnknownEither(Schema.parseJson(Persisted))
const encodeJson = Schema.encodeSync(Schema.parseJson(Persisted))

/**
 * The text that is kept.
 *
 * @since 0.1.0
 * @category combinators
 */
export const encode = (saved: Persisted): string => encodeJson(saved)

/**
 * Reads what `encode` wrote. `source` names its origin in the warning.
 *
 * @since 0.1.0
 * @category combinators
 */
export const decode = (text: string, source: string): Either.Either<Persisted, SavedStateWarning> =>
  Either.mapLeft(decodeJson(text), (error) => {
    const [issue] = ParseResult.ArrayFormatter.formatErrorSync(error)
    const field = issue === undefined || issue.path.length === 0 ? "" : `${issue.path.join(".")}: `
    return new SavedStateWarning({ source, reason: `${field}${issue?.message ?? "it cannot be read"}` })
  })

/** Entries unused for this long are dropped, in milliseconds: 30 days. */
const longest = 30 * 24 * 3_600_000

/** JSON has no `undefined`: the schema requires unknown values to be absent. */
const defined = <A extends object>(record: { readonly [K in keyof A]: A[K] | undefined }): A =>
  Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined)) as A

const restOf = ({ restsUntil, failures: strikes }: Breaker, now: number) =>
  restsUntil > now || strikes > 0 ? { until: Math.max(0, restsUntil), strikes } : undefined

/** The part of these servers' state worth keeping. */
export const save = (
  servers: Iterable<ServerState>,
  now: number,
  remoteTokens: SavedRemoteTokens | undefined
): Persisted => ({
  version: 1,
  savedAt: now,
  ...(remoteTokens === undefined ? {} : { remoteTokens }),
  servers: [...servers].flatMap((server): ReadonlyArray<PersistedServer> => {
    const models = server.models.flatMap((state): ReadonlyArray<PersistedModel> => {
      if (!(state.usedAt > 0) || now - state.usedAt > longest) return []
      const { firstTokenTime, learns, model, overhead, places, promptSpeed, proven, residentUntil, usedAt } = state
      return [
        defined<PersistedModel>({
          model,
          usedAt,
          proven,
          tokensPerSecond: state.tokensPerSecond,
          firstTokenTime,
          promptTokensPerSecond: promptSpeed,
          benchmarkedAt: state.benchmarkedAt,
          overhead,
          places: learns ? places : undefined,
          residentUntil: residentUntil > now && Number.isFinite(residentUntil) ? residentUntil : undefined,
          rest: restOf(state.breaker, now)
        })
      ]
    })
    if (models.length === 0) return []
    const usedAt = Math.max(...models.map((model) => model.usedAt))
    return [
      defined<PersistedServer>({
        url: server.url,
        usedAt,
        roundTrip: server.roundTrip,
        rest: restOf(server.breaker, now),
        models
      })
    ]
  })
})

/**
 * A restored breaker rests at most for its remaining rest. If the clock was set back since, the elapsed rest is
 * unknown: one probe is allowed.
 */
const resume = (
  breaker: Breaker,
  rest: PersistedServer["rest"],
  now: number,
  savedAt: number,
  longestRest: number
): void => {
  if (rest === undefined || breaker.restsUntil !== 0) return
  breaker.failures = rest.strikes
  if (rest.until === 0) return
  breaker.restsUntil = savedAt > now ? now : Math.min(rest.until, now + Math.min(longestRest, rest.until - savedAt))
}

/** Restores what was kept, unless something was learned since. `longestRest` is in milliseconds. */
export const restore = (
  saved: Persisted,
  serverState: (url: string) => ServerState,
  now: number,
  longestRest: number
): void => {
  for (const { models, rest, roundTrip, url } of saved.servers) {
    const server = serverState(url)
    server.roundTrip ??= roundTrip
    resume(server.breaker, rest, now, saved.savedAt, longestRest)
    for (const kept of models) {
      const state = server.model(kept.model)
      if (state.usedAt > kept.usedAt) continue
      state.usedAt = Math.min(kept.usedAt, now)
      state.proven = kept.proven
      state.tokensPerSecond = kept.tokensPerSecond
      state.firstTokenTime = kept.firstTokenTime
      state.promptSpeed = kept.promptTokensPerSecond
      state.benchmarkedAt = kept.benchmarkedAt === undefined ? undefined : Math.min(kept.benchmarkedAt, now)
      state.overhead = kept.overhead
      state.keptPlaces = kept.places
      if (state.learns && kept.places !== undefined) state.places = kept.places
      if (kept.residentUntil !== undefined && kept.residentUntil > state.residentUntil) {
        state.residentUntil = kept.residentUntil
      }
      resume(state.breaker, kept.rest, now, saved.savedAt, longestRest)
    }
    server.changed()
  }
}

/**
 * Merges two states, possibly of two processes: the newer of each entry.
 *
 * @since 0.1.0
 * @category combinators
 */
export const merge = (ours: Persisted, theirs: Persisted): Persisted => {
  const servers = new Map(ours.servers.map((server) => [server.url, server]))
  for (const other of theirs.servers) {
    if (ours.savedAt - other.usedAt > longest) continue
    const own = servers.get(other.url)
    if (own === undefined) {
      servers.set(other.url, other)
      continue
    }
    const models = new Map(other.models.map((model) => [model.model, model]))
    for (const model of own.models) {
      if ((models.get(model.model)?.usedAt ?? 0) <= model.usedAt) models.set(model.model, model)
    }
    servers.set(other.url, { ...(own.usedAt >= other.usedAt ? own : other), models: [...models.values()] })
  }
  const remoteTokens = mergeRemoteTokens(ours.remoteTokens, theirs.remoteTokens)
  return { ...ours, servers: [...servers.values()], ...(remoteTokens === undefined ? {} : { remoteTokens }) }
}

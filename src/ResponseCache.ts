/**
 * Caches answers for identical requests: off unless a call (`cache: true`) or the settings enable it.
 *
 * - Identical means: the same model in the same version on the servers, conversation, system prompt, sampling options,
 *   tools, format. Not: timeouts, routing, the session as such, `keepAlive`
 * - Only complete answers are cached. Not: a failure, an answer that broke, was cancelled, was cut off by a server's
 *   filter or is empty, nor one that did not match the requested schema. A call whose tools are executed here bypasses
 *   the cache altogether, because their effects would not be repeated
 * - A sampled answer (`temperature` above 0, no `seed`) is cached like any other: enabling the cache asks for
 *   the same answer again
 * - Concurrent identical calls share one answer. It continues until the last of them has left
 *
 * A new version of a model is noticed when its servers' lists are refreshed (`discoveryTtl`).
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Runtime from "effect/Runtime"
import type { CheckedOptions as CallOptions, ChatRequest, Routing } from "./ChatRequest.js"
import type { ChatError, ModelNotFound, NoServers, StreamInterrupted } from "./Errors.js"
import type { Call, OpenAnswer, Result } from "./Failover.js"
import { Registry } from "./Registry.js"
import { type Entry, make as makeEntry } from "./responseCache/entry.js"
import * as Key from "./responseCache/key.js"
import { Reader, SharedAnswer, type SharedAnswerHost } from "./responseCache/sharedAnswer.js"
import { defaults, ResponseCacheStore } from "./responseCache/store.js"
import { CurrentSettings, type Settings } from "./Settings.js"
import * as Telemetry from "./Telemetry.js"

export {
  /**
   * @since 0.1.0
   * @category models
   */
  Entry
} from "./responseCache/entry.js"
export {
  type Bounds,
  defaults,
  layerStoreMemory,
  makeStoreMemory,
  ResponseCacheStore,
  type Store
} from "./responseCache/store.js"

// =============================================================================
// metrics
// =============================================================================

/**
 * Every call that uses the cache counts once: as a hit, a miss, or shared.
 *
 * @since 0.1.0
 * @category metrics
 */
export const metrics: typeof Telemetry.cache = Telemetry.cache

// =============================================================================
// Service
// =============================================================================

/**
 * The cache options of a call.
 *
 * @since 0.1.0
 * @category models
 */
export interface CacheRequest {
  /**
   * What is asked; `routing`, `ttl` and the call's limits, but for its deadline, must be equal too for two calls to
   * share an answer in progress.
   */
  readonly request: ChatRequest
  /** The routing strategy of the call. */
  readonly routing: Routing
  /** Maximum age and lifetime, in milliseconds. */
  readonly ttl: number
  /** The request to cache the answer under, if it is another one. */
  readonly keepAs?: ChatRequest | undefined
  /** Only the same owner gets the answer, unless the settings share it. */
  readonly owner?: string | undefined
  /** Whether only local servers may be asked: such a call shares no answer under way with one that may leave. */
  readonly private?: boolean | undefined
  /** Ignores a cached answer, but caches this one. */
  readonly renew?: boolean | undefined
  /** Whether an answer may be cached. */
  readonly accepts?: ((result: Result) => boolean) | undefined
}

/**
 * Starts an answer. Nothing is asked or sent before it is called.
 *
 * @since 0.1.0
 * @category models
 */
export type StartCall = (call: Call) => OpenAnswer

/**
 * Cached answers, and answers in progress that several equal calls share.
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /**
   * What begins an answer that may be a kept or a shared one; `upstream` finds the servers, where they are needed, and
   * may be run for other callers than this one. The `complete` of a call must not go on.
   */
  readonly prepare: (
    cacheRequest: CacheRequest,
    upstream: Effect.Effect<StartCall, ChatError>
  ) => Effect.Effect<StartCall, ModelNotFound | NoServers | ChatError>
  /** Deletes all answers; those in progress are neither cached nor joined any more. */
  readonly clear: Effect.Effect<void>
}

/**
 * The tag of the service.
 *
 * @since 0.1.0
 * @category tags
 */
export class ResponseCache extends Context.Tag("aicortex/ResponseCache")<ResponseCache, Service>() {}

/**
 * How long a call's answer is cached; `undefined`: not at all.
 *
 * @since 0.1.0
 * @category accessors
 */
export const ttlOf = (option: CallOptions["cache"], { cache }: Settings): number | undefined => {
  if (option === false || (option === undefined && cache === undefined)) return undefined
  return (typeof option === "object" ? option.ttl : undefined) ?? cache?.ttl ?? defaults.ttl
}

const nothing = () => {}
const any = () => true

/**
 * The service, over those that it needs.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.gen(function* () {
  const store = yield* ResponseCacheStore
  const registry = yield* Registry
  const settings = yield* CurrentSettings
  const clock = yield* Effect.clock
  const fork = Runtime.runFork(yield* Effect.runtime<never>())
  // Interruptible, whatever region the services were made in.
  const runFork = <A, E>(effect: Effect.Effect<A, E>) => fork(Effect.interruptible(effect))
  const now = () => clock.unsafeCurrentTimeMillis()
  const limit = settings.cache?.maxBytes ?? defaults.maxBytes

  /** Answers in progress, by what calls must have in common to share one. */
  const shared = new Map<string, SharedAnswer>()
  const writing = new Set<Fiber.RuntimeFiber<void>>()
  let generation = 0

  yield* Effect.addFinalizer(() => Effect.suspend(() => Fiber.awaitAll(writing)))
  for (const metric of Object.values(metrics)) metric.register()

  const launch = (
    id: string,
    key: string,
    cacheRequest: CacheRequest,
    call: Call,
    upstream: Effect.Effect<StartCall, ChatError>,
    broken: StreamInterrupted | undefined
  ): SharedAnswer => {
    const born = generation
    const forget = (answer: SharedAnswer): void => {
      if (shared.get(id) === answer) shared.delete(id)
    }
    const host: SharedAnswerHost = {
      now,
      unreachable: registry.unreachable,
      limit,
      hit: broken === undefined ? () => metrics.hits.unsafeUpdate(1, []) : nothing,
      missed: broken === undefined ? () => metrics.misses.unsafeUpdate(1, []) : nothing,
      shared: broken === undefined ? () => metrics.shared.unsafeUpdate(1, []) : nothing,
      closed: forget,
      abandoned: (answer) => {
        forget(answer)
        runFork(Fiber.interruptFork(search))
      },
      completed: (answer, result, course, wanted) => {
        const entry = course === undefined || !wanted ? undefined : makeEntry(result, course, now(), cacheRequest.ttl)
        if (entry === undefined || born !== generation) {
          forget(answer)
          return
        }
        // Available here until the store has it.
        answer.entry = entry
        const write = runFork(Effect.uninterruptible(store.put(key, entry, cacheRequest.owner)))
        writing.add(write)
        write.addObserver(() => {
          writing.delete(write)
          forget(answer)
        })
      }
    }
    const answer = new SharedAnswer(host, call)
    shared.set(id, answer)

    const usable = (entry: Entry): boolean => now() < entry.expiresAt && now() - entry.storedAt < cacheRequest.ttl
    const kept =
      cacheRequest.renew === true || broken !== undefined
        ? Effect.succeed(Option.none<Entry>())
        : Effect.map(store.get(key), Option.filter(usable))
    const { deadline: _, maxAttempts, ...limits } = call.limits
    const search = runFork(
      Effect.flatMap(
        kept,
        Option.match({
          onSome: (entry) => Effect.succeed(() => answer.found(entry)),
          onNone: () =>
            Effect.map(
              upstream,
              (begin) => () =>
                answer.begun(
                  begin({
                    request: call.request,
                    limits: {
                      ...limits,
                      deadline: undefined,
                      maxAttempts:
                        maxAttempts === undefined ? maxAttempts : maxAttempts - (broken?.attempts.length ?? 0)
                    },
                    began: call.began,
                    events: broken === undefined,
                    preface: [],
                    complete: undefined,
                    closed: undefined,
                    trace: call.trace,
                    context: call.context
                  })
                )
            )
        })
      )
    )
    search.addObserver((exit) => {
      if (Exit.isFailure(exit)) {
        answer.fail(Cause.squash(exit.cause))
        return
      }
      if (answer.isOver) return
      exit.value()
      if (answer.entry !== undefined) forget(answer)
    })
    return answer
  }

  const prepare: Service["prepare"] = Effect.fnUntraced(
    function* (cacheRequest, upstream) {
      const { keepAs = cacheRequest.request, request, routing } = cacheRequest
      const hosts = yield* registry.locate(request.model)
      const digests = hosts.flatMap(({ digest }) => (digest === undefined ? [] : [digest]))
      const owner = settings.cache?.shared === true ? undefined : cacheRequest.owner
      const key = yield* Key.make(keepAs, digests, owner)
      const callKey = keepAs === request ? key : yield* Key.make(request, digests, owner)
      return (call: Call): OpenAnswer => {
        const { deadline: _, ...limits } = call.limits
        const id = JSON.stringify([
          callKey,
          key,
          cacheRequest.ttl,
          cacheRequest.renew === true,
          cacheRequest.private === true,
          routing,
          request.keepAlive,
          limits
        ])
        const take = (id: string, broken?: StreamInterrupted): SharedAnswer =>
          shared.get(id) ?? launch(id, key, cacheRequest, call, upstream, broken)
        return new Reader(
          call,
          take(id),
          { now, unreachable: registry.unreachable },
          cacheRequest.accepts ?? any,
          (broken) => take(`${id} again`, broken)
        )
      }
    },
    (effect, _, upstream) =>
      Effect.catchTag(effect, "NoKey", ({ cause }) =>
        Effect.zipRight(Effect.logWarning(`A call skips the response cache: it has no key (${cause})`), upstream)
      )
  )

  return ResponseCache.of({
    prepare,
    clear: Effect.suspend(() => {
      generation++
      shared.clear()
      return Effect.zipRight(Fiber.awaitAll(writing), store.clear)
    })
  })
})

/**
 * The service as a layer.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<ResponseCache, never, ResponseCacheStore | Registry | CurrentSettings> = Layer.scoped(
  ResponseCache,
  make
)

// =============================================================================
// accessors
// =============================================================================

/**
 * Deletes all answers.
 *
 * @since 0.1.0
 * @category accessors
 */
export const clear: Effect.Effect<void, never, ResponseCache> = Effect.flatMap(ResponseCache, (cache) => cache.clear)

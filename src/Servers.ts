/**
 * Servers that come and go while the program runs: the engines of this machine's models. They are merged with those
 * that are configured, and a model that is not loaded yet is one whose server takes no request yet: requests wait for
 * it in the queue of the model.
 *
 * @since 0.3.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type { ModelInfo } from "./Model.js"
import type { Server } from "./Server.js"

/**
 * A server with one model that need not be asked what it has.
 *
 * @since 0.3.0
 * @category models
 */
export interface LocalServer {
  /** The server; its `maxInFlight` is how many requests it takes now, 0 while it is loading. */
  readonly server: Server
  /** What is known of its model. */
  readonly info: ModelInfo
  /** Other names that it answers to. */
  readonly names?: ReadonlyArray<string> | undefined
  /** Why it cannot answer; `undefined` if it can, or will. */
  readonly problem: string | undefined
}

/**
 * How a server is used by this process.
 *
 * @since 0.3.0
 * @category models
 */
export interface Usage {
  /** Requests in flight. */
  readonly inFlight: number
  /** Requests that wait for it. */
  readonly queued: number
  /** Requests that it has answered so far. */
  readonly answered: number
  /** How fast it wrote lately, in tokens per second. */
  readonly tokensPerSecond: number | undefined
}

/**
 * The servers in addition to the configured ones.
 *
 * @since 0.3.0
 * @category models
 */
export interface Service {
  /** Those that there are now. */
  readonly now: () => ReadonlyArray<LocalServer>
  /** The same at each change. */
  readonly changes: Stream.Stream<ReadonlyArray<LocalServer>>
  /** A request asks for a model whose server takes none yet. It returns at once. */
  readonly wanted: (model: string) => void
  /** Is given what tells how servers are used; returns what ends that. */
  readonly observe: (usage: (url: string, model: string) => Usage) => () => void
}

const none: Service = { now: () => [], changes: Stream.empty, wanted: () => {}, observe: () => () => {} }

/**
 * The tag of the servers in addition to the configured ones; default: none.
 *
 * @since 0.3.0
 * @category tags
 */
export class Servers extends Context.Reference<Servers>()("aicortex/Servers", {
  defaultValue: (): Service => none
}) {}

/**
 * A list that can be set. `wanted` is called with models that were requested and are not loaded.
 *
 * @since 0.3.0
 * @category constructors
 */
export const make = (
  wanted: (model: string) => void
): Effect.Effect<{
  readonly service: Service
  readonly set: (servers: ReadonlyArray<LocalServer>) => Effect.Effect<void>
  /** How a server is used by all fleets of this process. */
  readonly usage: (url: string, model: string) => Usage
}> =>
  Effect.map(SubscriptionRef.make<ReadonlyArray<LocalServer>>([]), (ref) => {
    let current: ReadonlyArray<LocalServer> = []
    const observers = new Set<(url: string, model: string) => Usage>()
    return {
      service: {
        now: () => current,
        changes: ref.changes,
        wanted,
        observe: (usage) => {
          observers.add(usage)
          return () => observers.delete(usage)
        }
      },
      usage: (url, model) => {
        let sum: Usage = { inFlight: 0, queued: 0, answered: 0, tokensPerSecond: undefined }
        for (const usage of observers) {
          const one = usage(url, model)
          sum = {
            inFlight: sum.inFlight + one.inFlight,
            queued: sum.queued + one.queued,
            answered: sum.answered + one.answered,
            tokensPerSecond: one.tokensPerSecond ?? sum.tokensPerSecond
          }
        }
        return sum
      },
      set: (servers) =>
        Effect.suspend(() => {
          current = servers
          return SubscriptionRef.set(ref, servers)
        })
    }
  })

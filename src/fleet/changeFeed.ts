/** Publishes fleet changes to subscribers. Without subscribers it costs one comparison. */
import * as Effect from "effect/Effect"
import * as Mailbox from "effect/Mailbox"
import * as Stream from "effect/Stream"
import { type Snapshot, snapshotOf } from "./snapshot.js"
import type { ServerState } from "./state.js"

/**
 * A change of a server's state for a model: a request started, got its first token or ended, the breaker opened or
 * closed, or the server reported its loaded models. `at` is in milliseconds since the epoch.
 *
 * @since 0.1.0
 * @category models
 */
export interface Change {
  /** When, in milliseconds since the epoch. */
  readonly at: number
  /** The server's address. */
  readonly server: string
  /** The model; empty where the server has been asked for none. */
  readonly model: string
  /** The state after the change. */
  readonly snapshot: Snapshot
}

/** A subscriber slower than the fleet loses the oldest changes. */
const capacity = 1_024

export interface ChangeFeed {
  readonly changes: Stream.Stream<Change>
  /** `listener` is called at once at each change; gives what ends it. */
  readonly onChange: (listener: (server: string, model: string) => void) => () => void
  /** A change of one model, or of every model of the server. */
  readonly publish: (server: ServerState, model: string | undefined, now: number) => void
}

export const make = (): ChangeFeed => {
  const listeners = new Set<Mailbox.Mailbox<Change>>()
  const called = new Set<(server: string, model: string) => void>()
  const listen = Effect.acquireRelease(
    Effect.tap(Mailbox.make<Change>({ capacity, strategy: "sliding" }), (mailbox) =>
      Effect.sync(() => listeners.add(mailbox))
    ),
    (mailbox) =>
      Effect.zipRight(
        Effect.sync(() => listeners.delete(mailbox)),
        mailbox.shutdown
      )
  )
  return {
    changes: Stream.unwrapScoped(Effect.map(listen, Mailbox.toStream)),
    onChange: (listener) => {
      called.add(listener)
      return () => called.delete(listener)
    },
    publish: (server, model, now) => {
      for (const listener of called) {
        if (model !== undefined || server.models.length === 0) listener(server.url, model ?? "")
        else for (const state of server.models) listener(server.url, state.model)
      }
      if (listeners.size === 0) return
      if (server.models.length === 0) {
        const change = { at: now, server: server.url, model: "", snapshot: snapshotOf(server, "", now) }
        for (const listener of listeners) listener.unsafeOffer(change)
      }
      const one = model === undefined ? undefined : server.find(model)
      for (const state of one === undefined ? server.models : [one]) {
        const change = {
          at: now,
          server: server.url,
          model: state.model,
          snapshot: snapshotOf(server, state.model, now)
        }
        for (const listener of listeners) listener.unsafeOffer(change)
      }
    }
  }
}

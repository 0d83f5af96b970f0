/**
 * The store of cached answers, and one in the memory of this process.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { type Entry, sizeOf } from "./entry.js"

/**
 * Stores answers by key.
 *
 * @since 0.1.0
 * @category models
 */
export interface Store {
  /** The entry, unless it has expired. */
  readonly get: (key: string) => Effect.Effect<Option.Option<Entry>>
  /** Replaces an earlier entry; a store may evict anything at any time, entries of `owner` before those of others. */
  readonly put: (key: string, entry: Entry, owner?: string) => Effect.Effect<void>
  /** Removes all entries. */
  readonly clear: Effect.Effect<void>
}

/**
 * The tag of the store of answers.
 *
 * @since 0.1.0
 * @category tags
 */
export class ResponseCacheStore extends Context.Tag("aicortex/ResponseCacheStore")<ResponseCacheStore, Store>() {}

/**
 * Bounds of a store. Beyond them, the owner with the most entries loses its least recently used one.
 *
 * @since 0.1.0
 * @category models
 */
export interface Bounds {
  /** How many answers; default 1,000. */
  readonly maxEntries?: number | undefined
  /** How many bytes all of them have together; default 67,108,864 (64 MiB). */
  readonly maxBytes?: number | undefined
}

/**
 * Default number of answers, total bytes, and lifetime in milliseconds.
 *
 * @since 0.1.0
 * @category constants
 */
export const defaults = { maxEntries: 1_000, maxBytes: 64 * 1024 * 1024, ttl: 3_600_000 } as const

/**
 * A store in memory.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeStoreMemory = (bounds?: Bounds): Effect.Effect<Store> =>
  Effect.map(Effect.clock, (clock) => {
    const { maxBytes = defaults.maxBytes, maxEntries = defaults.maxEntries } = bounds ?? {}
    /** Least recently used first. */
    const entries = new Map<string, { readonly entry: Entry; readonly size: number; readonly owner: string }>()
    const held = new Map<string, { count: number; bytes: number }>()
    let bytes = 0

    const remove = (key: string): void => {
      const item = entries.get(key)
      if (item === undefined) return
      bytes -= item.size
      entries.delete(key)
      const own = held.get(item.owner)
      if (own === undefined) return
      own.count--
      own.bytes -= item.size
      if (own.count === 0) held.delete(item.owner)
    }
    const evict = (by: "count" | "bytes"): void => {
      let most = ""
      let amount = -1
      for (const [owner, own] of held) {
        if (own[by] <= amount) continue
        most = owner
        amount = own[by]
      }
      for (const [key, { owner }] of entries) {
        if (owner !== most) continue
        remove(key)
        return
      }
    }
    return {
      get: (key) =>
        Effect.sync(() => {
          const item = entries.get(key)
          if (item === undefined) return Option.none()
          if (clock.unsafeCurrentTimeMillis() >= item.entry.expiresAt) {
            remove(key)
            return Option.none()
          }
          entries.delete(key)
          entries.set(key, item)
          return Option.some(item.entry)
        }),
      put: (key, entry, owner = "") =>
        Effect.sync(() => {
          remove(key)
          const size = sizeOf(entry)
          if (size > maxBytes) return
          entries.set(key, { entry, size, owner })
          bytes += size
          const own = held.get(owner) ?? { count: 0, bytes: 0 }
          held.set(owner, own)
          own.count++
          own.bytes += size
          while (entries.size > maxEntries) evict("count")
          while (bytes > maxBytes) evict("bytes")
        }),
      clear: Effect.sync(() => {
        entries.clear()
        held.clear()
        bytes = 0
      })
    }
  })

/**
 * Keeps answers in the memory of this process.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerStoreMemory = (bounds?: Bounds): Layer.Layer<ResponseCacheStore> =>
  Layer.effect(ResponseCacheStore, makeStoreMemory(bounds))

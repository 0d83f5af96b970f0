/**
 * The store of conversations, and one in the memory of this process.
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { SessionsUnavailable } from "../Errors.js"
import { toMilliseconds } from "../internal/units.js"
import type { Message } from "../Message.js"
import { noRoom, ownerOf, victimOf } from "./eviction.js"
import { sizeOf } from "./size.js"
import { type ListOptions, newest, type Summary, summary } from "./summary.js"
import * as Turns from "./turnQueue.js"

/**
 * A stored conversation. `version` changes with every change of the conversation.
 *
 * @since 0.1.0
 * @category models
 */
export interface Stored {
  /** Changes with every change of the conversation. */
  readonly version: number
  /** The messages, the oldest first. */
  readonly messages: ReadonlyArray<Message>
}

/**
 * A place in the queue of a conversation: `wait` until it is the first one, and `release` it in any case.
 *
 * @since 0.1.0
 * @category models
 */
export interface Ticket extends Turns.TurnTicket {}

/**
 * Stores conversations. Each operation is atomic, also between processes that share a store, and fails if the store is
 * unavailable.
 *
 * @since 0.1.0
 * @category models
 */
export interface Store {
  /** False if the id exists; it stays unchanged. */
  readonly create: (id: string) => Effect.Effect<boolean, SessionsUnavailable>
  /** The conversation, if it exists. */
  readonly load: (id: string) => Effect.Effect<Option.Option<Stored>, SessionsUnavailable>
  /** Adds all messages, if the conversation exists and still has this version; else false. */
  readonly append: (
    id: string,
    expectedVersion: number,
    messages: ReadonlyArray<Message>
  ) => Effect.Effect<boolean, SessionsUnavailable>
  /** Removes the messages and keeps the id; false if the conversation does not exist. */
  readonly reset: (id: string) => Effect.Effect<boolean, SessionsUnavailable>
  /** Removes the conversation; false if it does not exist. */
  readonly remove: (id: string) => Effect.Effect<boolean, SessionsUnavailable>
  /** The conversations, most recently used first. */
  readonly list: (options?: ListOptions) => Effect.Effect<ReadonlyArray<Summary>, SessionsUnavailable>
  /**
   * A place in the conversation's queue, which all users of the store share. Until it is released, the store does not
   * evict the conversation. Without `turn`, calls only wait for those of their own process, and concurrent messages of
   * others are interleaved.
   */
  readonly turn?: (id: string) => Ticket
}

/**
 * The tag of the store of conversations.
 *
 * @since 0.1.0
 * @category tags
 */
export class SessionStore extends Context.Tag("aicortex/SessionStore")<SessionStore, Store>() {}

/**
 * Owners (the prefixes of `Sessions.create`) share the store: each loses its own oldest conversations first, and takes room
 * from others only while it holds less than an equal part, at most a sixteenth.
 *
 * @since 0.1.0
 * @category models
 */
export interface MemoryOptions {
  /**
   * Beyond it the owner's least recently used one is evicted; default 10,000. One with an answer in progress is never
   * evicted.
   */
  readonly maxSessions?: number | undefined
  /**
   * Approximate total size; beyond it they are evicted in the same order, except the one used last; default 268,435,456
   * (256 MiB).
   */
  readonly maxBytes?: number | undefined
  /** A conversation unused for this long is evicted: milliseconds, or another duration; default never. */
  readonly ttl?: Duration.DurationInput | undefined
}

const defaultMaxBytes = 256 * 1024 * 1024

interface Entry extends Stored {
  readonly usedAt: number
  readonly bytes: number
  /** Counts uses, because several may happen within a millisecond. */
  readonly use: number
}

/** The conversations of one owner. */
interface Owned {
  readonly entries: Map<string, Entry>
  bytes: number
}

const empty = { messages: Object.freeze([]), bytes: 0 }

/**
 * A store in memory.
 *
 * @since 0.1.0
 * @category constructors
 */
export const makeStoreMemory = (options?: MemoryOptions): Effect.Effect<Store> =>
  Effect.map(Effect.clock, (clock) => {
    const { maxBytes = defaultMaxBytes, maxSessions = 10_000 } = options ?? {}
    const ttl = toMilliseconds(options?.ttl ?? Number.POSITIVE_INFINITY)
    /** Of each owner, least recently used first. */
    const owners = new Map<string, Owned>()
    const { isHeld, turn } = Turns.make()
    let count = 0
    let bytes = 0
    let uses = 0

    const forget = (id: string): boolean => {
      const owner = ownerOf(id)
      const owned = owners.get(owner)
      const entry = owned?.entries.get(id)
      if (owned === undefined || entry === undefined) return false
      owned.entries.delete(id)
      owned.bytes -= entry.bytes
      if (owned.entries.size === 0) owners.delete(owner)
      bytes -= entry.bytes
      count--
      return true
    }
    const find = (id: string): Entry | undefined => {
      const entry = owners.get(ownerOf(id))?.entries.get(id)
      if (entry === undefined || isHeld(id) || clock.unsafeCurrentTimeMillis() - entry.usedAt < ttl) return entry
      forget(id)
      return undefined
    }
    const put = (id: string, stored: Pick<Entry, "version" | "messages" | "bytes">): void => {
      forget(id)
      const owner = ownerOf(id)
      let owned = owners.get(owner)
      if (owned === undefined) {
        owned = { entries: new Map(), bytes: 0 }
        owners.set(owner, owned)
      }
      owned.entries.set(id, { ...stored, usedAt: clock.unsafeCurrentTimeMillis(), use: uses++ })
      owned.bytes += stored.bytes
      bytes += stored.bytes
      count++
    }
    const expire = (now: number): void => {
      if (ttl === Number.POSITIVE_INFINITY) return
      for (const { entries } of [...owners.values()]) {
        for (const [id, entry] of entries) {
          if (now - entry.usedAt < ttl) break
          if (!isHeld(id)) forget(id)
        }
      }
    }
    /** Makes room for `id`, which needs this much more; false if only other owners could make it. */
    const makeRoom = (id: string, more: { readonly count: number; readonly bytes: number }): boolean => {
      expire(clock.unsafeCurrentTimeMillis())
      const writer = ownerOf(id)
      const shrink = (capacity: number, added: number, total: () => number, amount: (owned: Owned) => number) => {
        const fixed = new Set<string>()
        while (total() + added > capacity) {
          const held = new Map([...owners].map(([owner, owned]) => [owner, amount(owned)]))
          held.set(writer, (held.get(writer) ?? 0) + added)
          const owner = victimOf(held, writer, capacity, fixed)
          if (owner === undefined) return held.size === 1
          const ids = owners.get(owner)?.entries.keys() ?? []
          const oldest = Array.from(ids).find((one) => one !== id && !isHeld(one))
          if (oldest === undefined) fixed.add(owner)
          else forget(oldest)
        }
        return true
      }
      const counts = shrink(
        maxSessions,
        more.count,
        () => count,
        ({ entries }) => entries.size
      )
      return (
        counts &&
        shrink(
          maxBytes,
          more.bytes,
          () => bytes,
          (owned) => owned.bytes
        )
      )
    }
    const full = new SessionsUnavailable({ reason: noRoom })
    return {
      create: (id) =>
        Effect.suspend(() => {
          if (find(id) !== undefined) return Effect.succeed(false)
          if (!makeRoom(id, { count: 1, bytes: 0 })) return Effect.fail(full)
          put(id, { version: 0, ...empty })
          return Effect.succeed(true)
        }),
      load: (id) =>
        Effect.sync(() => {
          const entry = find(id)
          if (entry === undefined) return Option.none()
          put(id, entry)
          return Option.some({ version: entry.version, messages: entry.messages })
        }),
      append: (id, expectedVersion, messages) =>
        Effect.suspend(() => {
          const entry = find(id)
          if (entry === undefined || entry.version !== expectedVersion) return Effect.succeed(false)
          const added = sizeOf(messages)
          if (!makeRoom(id, { count: 0, bytes: added })) return Effect.fail(full)
          put(id, {
            version: entry.version + 1,
            messages: Object.freeze([...entry.messages, ...messages]),
            bytes: entry.bytes + added
          })
          return Effect.succeed(true)
        }),
      reset: (id) =>
        Effect.sync(() => {
          const entry = find(id)
          if (entry === undefined) return false
          put(id, { version: entry.version + 1, ...empty })
          return true
        }),
      remove: (id) => Effect.sync(() => find(id) !== undefined && forget(id)),
      list: (options) =>
        Effect.sync(() => {
          const now = clock.unsafeCurrentTimeMillis()
          // Reversed, so that the most recently used comes first, also within the same millisecond.
          const all = [...owners.values()]
            .flatMap(({ entries }) => [...entries].map(([id, entry]) => ({ id, usedAt: entry.usedAt, entry })))
            .sort((a, b) => b.entry.use - a.entry.use)
          return newest(
            all.filter(({ id, usedAt }) => isHeld(id) || now - usedAt < ttl),
            options
          ).map(({ entry, id, usedAt }) => summary(id, usedAt, entry.messages))
        }),
      turn: (id) => {
        // An evicted conversation does not come back.
        find(id)
        return turn(id)
      }
    }
  })

/**
 * Keeps conversations in the memory of this process.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerStoreMemory = (options?: MemoryOptions): Layer.Layer<SessionStore> =>
  Layer.effect(SessionStore, makeStoreMemory(options))

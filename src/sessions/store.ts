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
import {
  type Changes,
  type Metadata,
  messagesOf,
  noMetadata,
  type Seed,
  type StoredTurn,
  type TurnUsage
} from "./record.js"
import { sizeOf } from "./size.js"
import { found, type Hit, isSelected, openingOf, type Selection, type Summary, summary } from "./summary.js"
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
 * A conversation with all that is kept of it.
 *
 * @since 0.4.0
 * @category models
 */
export interface StoredRecord {
  /** Its title, metadata and times. */
  readonly summary: Summary
  /** Its turns, the oldest first. */
  readonly turns: ReadonlyArray<StoredTurn>
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
  /** Makes a conversation with all that it begins with, or nothing; false if the id exists, which stays unchanged. */
  readonly create: (id: string, seed?: Seed) => Effect.Effect<boolean, SessionsUnavailable>
  /** The conversation, if it exists. */
  readonly load: (id: string) => Effect.Effect<Option.Option<Stored>, SessionsUnavailable>
  /** Adds all messages as one turn, if the conversation exists and still has this version; else false. */
  readonly append: (
    id: string,
    expectedVersion: number,
    messages: ReadonlyArray<Message>,
    usage?: TurnUsage
  ) => Effect.Effect<boolean, SessionsUnavailable>
  /**
   * All of a conversation, as it is at one moment; it does not count as a use. A turn that is being appended is waited
   * for, also one of a process that is gone: what is not there is not appended later.
   */
  readonly read: (id: string) => Effect.Effect<Option.Option<StoredRecord>, SessionsUnavailable>
  /** Changes the title or the metadata, but neither the version nor the time of use; false if there is none. */
  readonly update: (id: string, changes: Changes) => Effect.Effect<boolean, SessionsUnavailable>
  /** Removes the messages and keeps the id; false if the conversation does not exist. */
  readonly reset: (id: string) => Effect.Effect<boolean, SessionsUnavailable>
  /** Removes the conversation; false if it does not exist. */
  readonly remove: (id: string) => Effect.Effect<boolean, SessionsUnavailable>
  /** Removes the conversation if it was not used since this time and no call has its turn; else false. */
  readonly removeUnused: (id: string, since: number) => Effect.Effect<boolean, SessionsUnavailable>
  /** The conversations, most recently used first: 50, unless `limit` says otherwise. */
  readonly list: (selection?: Selection) => Effect.Effect<ReadonlyArray<Summary>, SessionsUnavailable>
  /** The turns that have all these words, which are in lower case; the newest first, at most 50 or `limit`. */
  readonly search: (
    words: ReadonlyArray<string>,
    selection?: Selection
  ) => Effect.Effect<ReadonlyArray<Hit>, SessionsUnavailable>
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

interface Content extends Stored {
  readonly turns: ReadonlyArray<StoredTurn>
  readonly title: string | undefined
  readonly metadata: Metadata
  readonly createdAt: number
  readonly bytes: number
}

interface Entry extends Content {
  readonly usedAt: number
  /** Counts uses, because several may happen within a millisecond. */
  readonly use: number
}

/** The newest first. */
const compareHits = (a: Pick<Hit, "at" | "id" | "turn">, b: Pick<Hit, "at" | "id" | "turn">): number =>
  b.at - a.at || (a.id === b.id ? b.turn - a.turn : a.id < b.id ? 1 : -1)

/** The conversations of one owner. */
interface Owned {
  readonly entries: Map<string, Entry>
  bytes: number
}

const empty = { messages: Object.freeze([]), turns: Object.freeze([]), bytes: 0 }

const summaryOf = (id: string, { createdAt, messages, metadata, title, usedAt }: Entry): Summary =>
  summary({ id, title, metadata, createdAt, usedAt, messages: messages.length, opening: openingOf(messages) })

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
    const put = (id: string, stored: Content, usedAt = clock.unsafeCurrentTimeMillis(), use = uses++): void => {
      forget(id)
      const owner = ownerOf(id)
      let owned = owners.get(owner)
      if (owned === undefined) {
        owned = { entries: new Map(), bytes: 0 }
        owners.set(owner, owned)
      }
      owned.entries.set(id, { ...stored, usedAt, use })
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
    /** Those that have not expired, most recently used first, also within the same millisecond. */
    const alive = () => {
      const now = clock.unsafeCurrentTimeMillis()
      return [...owners.values()]
        .flatMap(({ entries }) => [...entries].map(([id, entry]) => ({ id, entry })))
        .filter(({ entry, id }) => isHeld(id) || now - entry.usedAt < ttl)
        .sort((a, b) => b.entry.usedAt - a.entry.usedAt || b.entry.use - a.entry.use)
    }
    const selected = (selection: Selection) =>
      alive()
        .map(({ entry, id }) => ({ entry, one: summaryOf(id, entry) }))
        .filter(({ entry, one }) => isSelected(one, () => entry.turns.map(({ messages }) => messages), selection))
    return {
      create: (id, { metadata = noMetadata, title, turns = [], ...times } = {}) =>
        Effect.suspend(() => {
          if (find(id) !== undefined) return Effect.succeed(false)
          const messages = Object.freeze(messagesOf(turns))
          const size = sizeOf(messages)
          if (!makeRoom(id, { count: 1, bytes: size })) return Effect.fail(full)
          const now = clock.unsafeCurrentTimeMillis()
          const { createdAt = now, usedAt = now } = times
          put(id, { version: turns.length, messages, turns, bytes: size, title, metadata, createdAt }, usedAt)
          return Effect.succeed(true)
        }),
      load: (id) =>
        Effect.sync(() => {
          const entry = find(id)
          if (entry === undefined) return Option.none()
          put(id, entry)
          return Option.some({ version: entry.version, messages: entry.messages })
        }),
      append: (id, expectedVersion, messages, usage) =>
        Effect.suspend(() => {
          const entry = find(id)
          if (entry === undefined || entry.version !== expectedVersion) return Effect.succeed(false)
          const added = sizeOf(messages)
          if (!makeRoom(id, { count: 0, bytes: added })) return Effect.fail(full)
          const at = clock.unsafeCurrentTimeMillis()
          put(id, {
            ...entry,
            version: entry.version + 1,
            messages: Object.freeze([...entry.messages, ...messages]),
            turns: [...entry.turns, { messages, at, ...(usage === undefined ? {} : { usage }) }],
            bytes: entry.bytes + added
          })
          return Effect.succeed(true)
        }),
      read: (id) =>
        Effect.sync(() => {
          const entry = find(id)
          return entry === undefined
            ? Option.none()
            : Option.some({ summary: summaryOf(id, entry), turns: entry.turns })
        }),
      update: (id, { metadata, title }) =>
        Effect.sync(() => {
          const entry = find(id)
          if (entry === undefined) return false
          // In place: the order of use stays.
          owners.get(ownerOf(id))?.entries.set(id, {
            ...entry,
            ...(title === undefined ? {} : { title: title ?? undefined }),
            ...(metadata === undefined ? {} : { metadata })
          })
          return true
        }),
      reset: (id) =>
        Effect.sync(() => {
          const entry = find(id)
          if (entry === undefined) return false
          put(id, { ...entry, version: entry.version + 1, ...empty })
          return true
        }),
      remove: (id) => Effect.sync(() => find(id) !== undefined && forget(id)),
      removeUnused: (id, since) =>
        Effect.sync(() => {
          const entry = find(id)
          return entry !== undefined && entry.usedAt < since && !isHeld(id) && forget(id)
        }),
      list: (selection = {}) =>
        Effect.sync(() => {
          const { after, limit = 50 } = selection
          const all = selected(selection)
          const at =
            after === undefined ? -1 : all.findIndex(({ one }) => one.id === after.id && one.usedAt === after.time)
          const rest =
            after === undefined || at >= 0
              ? all.slice(at + 1)
              : // It is gone, or was used again.
                all.filter(({ one }) => one.usedAt < after.time)
          return rest.slice(0, limit).map(({ one }) => one)
        }),
      search: (words, selection = {}) =>
        Effect.sync(() => {
          const { after, limit = 50 } = selection
          return selected(selection)
            .flatMap(({ entry, one }) =>
              entry.turns.flatMap(({ at, messages }, i): ReadonlyArray<Hit> => {
                const here = found(messages, words)
                return here === undefined ? [] : [{ id: one.id, title: one.title, turn: i + 1, at, ...here }]
              })
            )
            .sort(compareHits)
            .filter(
              (hit) =>
                after === undefined || compareHits(hit, { at: after.time, id: after.id, turn: after.turn ?? 0 }) > 0
            )
            .slice(0, limit)
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

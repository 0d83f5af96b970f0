/**
 * Conversations that the library remembers: a policy (one call at a time, whole turns, frozen history) over a small
 * store.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { SessionNotFound } from "./Errors.js"
import type { Message } from "./Message.js"

// =============================================================================
// store
// =============================================================================

/**
 * A conversation as a store keeps it. `version` changes with every change of the conversation.
 *
 * @since 0.1.0
 * @category models
 */
export interface Stored {
  readonly version: number
  readonly messages: ReadonlyArray<Message>
}

/**
 * What holds conversations. Each operation is atomic, also between processes that share a store.
 *
 * - `create`: false if there is one with this id, which stays as it is
 * - `append`: adds all messages, if the conversation exists and still has this version; else false
 * - `reset`, `remove`: false if there is none
 * - `hold`: until the function it gives back is called, the store does not forget this conversation by itself, because
 *   an answer for it is under way. A store that never does that needs none
 *
 * @since 0.1.0
 * @category models
 */
export interface Store {
  readonly create: (id: string) => Effect.Effect<boolean>
  readonly load: (id: string) => Effect.Effect<Option.Option<Stored>>
  readonly append: (id: string, expectedVersion: number, messages: ReadonlyArray<Message>) => Effect.Effect<boolean>
  readonly reset: (id: string) => Effect.Effect<boolean>
  readonly remove: (id: string) => Effect.Effect<boolean>
  readonly hold?: (id: string) => () => void
}

/**
 * @since 0.1.0
 * @category tags
 */
export class SessionStore extends Context.Tag("aicortex/SessionStore")<SessionStore, Store>() {}

/**
 * - `maxSessions`: beyond it the one that was not used for longest is forgotten; default 10,000. One that an answer is under way
 *   for is never forgotten
 * - `ttl`: a conversation not used for so long is forgotten, in milliseconds; default never
 *
 * @since 0.1.0
 * @category models
 */
export interface MemoryOptions {
  readonly maxSessions?: number | undefined
  readonly ttl?: number | undefined
}

interface Entry extends Stored {
  readonly usedAt: number
}

/**
 * @since 0.1.0
 * @category constructors
 */
export const makeStoreMemory = (options?: MemoryOptions): Effect.Effect<Store> =>
  Effect.map(Effect.clock, (clock) => {
    const { maxSessions = 10_000, ttl = Number.POSITIVE_INFINITY } = options ?? {}
    /** The one that was not used for longest comes first. */
    const entries = new Map<string, Entry>()
    /** How many answers are under way for each. */
    const held = new Map<string, number>()

    const find = (id: string): Entry | undefined => {
      const entry = entries.get(id)
      if (entry === undefined || held.has(id) || clock.unsafeCurrentTimeMillis() - entry.usedAt < ttl) return entry
      entries.delete(id)
      return undefined
    }
    const put = (id: string, stored: Stored): void => {
      entries.delete(id)
      entries.set(id, { ...stored, usedAt: clock.unsafeCurrentTimeMillis() })
    }
    const evict = (): void => {
      const now = clock.unsafeCurrentTimeMillis()
      for (const [id, entry] of entries) {
        if (entries.size <= maxSessions && now - entry.usedAt < ttl) return
        if (!held.has(id)) entries.delete(id)
      }
    }
    return {
      create: (id) =>
        Effect.sync(() => {
          if (find(id) !== undefined) return false
          put(id, { version: 0, messages: Object.freeze([]) })
          evict()
          return true
        }),
      load: (id) =>
        Effect.sync(() => {
          const entry = find(id)
          if (entry === undefined) return Option.none()
          put(id, entry)
          return Option.some({ version: entry.version, messages: entry.messages })
        }),
      append: (id, expectedVersion, messages) =>
        Effect.sync(() => {
          const entry = find(id)
          if (entry === undefined || entry.version !== expectedVersion) return false
          put(id, { version: entry.version + 1, messages: Object.freeze([...entry.messages, ...messages]) })
          return true
        }),
      reset: (id) =>
        Effect.sync(() => {
          const entry = find(id)
          if (entry === undefined) return false
          put(id, { version: entry.version + 1, messages: Object.freeze([]) })
          return true
        }),
      remove: (id) => Effect.sync(() => find(id) !== undefined && entries.delete(id)),
      hold: (id) => {
        held.set(id, (held.get(id) ?? 0) + 1)
        return () => {
          const left = (held.get(id) ?? 1) - 1
          if (left > 0) held.set(id, left)
          else held.delete(id)
        }
      }
    }
  })

/**
 * Keeps conversations in this process, which they end with.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerStoreMemory = (options?: MemoryOptions): Layer.Layer<SessionStore> =>
  Layer.effect(SessionStore, makeStoreMemory(options))

// =============================================================================
// sessions
// =============================================================================

/**
 * A conversation, by its id.
 *
 * @since 0.1.0
 * @category models
 */
export interface Session {
  readonly id: string
}

/**
 * The right to speak in a conversation: no other call has it until `release`, which may come more than once.
 *
 * `commit` adds what was said, all at once. What is never committed leaves no trace. It fails where the conversation
 * was removed meanwhile.
 *
 * @since 0.1.0
 * @category models
 */
export interface Turn {
  readonly history: ReadonlyArray<Message>
  readonly commit: (messages: ReadonlyArray<Message>) => Effect.Effect<void, SessionNotFound>
  readonly release: () => void
}

/**
 * - `resume`: fails at once where there is no such conversation
 * - `history`: frozen, down to the last part of a message
 * - `reset`: forgets what was said; the id stays
 * - `begin`: waits until every earlier turn of the conversation has been released. An interruption while it waits
 *   gives up the place; after that the caller must see to `release`, as `Effect.acquireUseRelease` does
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  readonly create: () => Effect.Effect<Session>
  readonly resume: (id: string) => Effect.Effect<Session, SessionNotFound>
  readonly history: (id: string) => Effect.Effect<ReadonlyArray<Message>, SessionNotFound>
  readonly reset: (id: string) => Effect.Effect<void, SessionNotFound>
  readonly remove: (id: string) => Effect.Effect<void, SessionNotFound>
  readonly begin: (id: string) => Effect.Effect<Turn, SessionNotFound>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class Sessions extends Context.Tag("aicortex/Sessions")<Sessions, Service>() {}

// =============================================================================
// implementation
// =============================================================================

/** A frozen copy of plain data, all the way down. */
const freeze = <A>(value: A): A => {
  if (Array.isArray(value)) return Object.freeze(value.map(freeze)) as A
  if (typeof value !== "object" || value === null) return value
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype !== Object.prototype && prototype !== null) return value
  return Object.freeze(Object.fromEntries(Object.entries(value).map(([key, item]) => [key, freeze(item)]))) as A
}

/** What a store hands out need not be frozen; what was frozen by `commit` is not copied again. */
const frozen = (messages: ReadonlyArray<Message>): ReadonlyArray<Message> =>
  Object.isFrozen(messages) && messages.every(Object.isFrozen) ? messages : freeze(messages)

const makeId = (): string =>
  Array.from(globalThis.crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join(
    ""
  )

interface Ticket {
  readonly wait: Effect.Effect<void>
  /** Gives up the lock, or the place in the queue. */
  readonly release: () => void
}

/** First come, first served, for each key. A key that nobody holds takes no room. */
const makeLocks = () => {
  /** The first of each queue holds the lock. */
  const queues = new Map<string, Array<() => void>>()

  return (key: string): Ticket => {
    let granted = false
    let notify: (() => void) | undefined
    const grant = (): void => {
      granted = true
      notify?.()
    }
    const queue = queues.get(key)
    if (queue === undefined) {
      queues.set(key, [grant])
      granted = true
    } else {
      queue.push(grant)
    }
    return {
      wait: Effect.async((resume) => {
        notify = () => resume(Effect.void)
        if (granted) notify()
      }),
      release: () => {
        const queue = queues.get(key)
        const at = queue?.indexOf(grant) ?? -1
        if (queue === undefined || at < 0) return
        queue.splice(at, 1)
        if (queue.length === 0) queues.delete(key)
        else if (at === 0) queue[0]?.()
      }
    }
  }
}

/**
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.gen(function* () {
  const store = yield* SessionStore
  const lock = makeLocks()

  const load = (id: string): Effect.Effect<Stored, SessionNotFound> =>
    Effect.flatMap(
      store.load(id),
      Option.match({ onNone: () => Effect.fail(new SessionNotFound({ id })), onSome: Effect.succeed })
    )
  const orNotFound = (id: string, found: Effect.Effect<boolean>): Effect.Effect<void, SessionNotFound> =>
    Effect.flatMap(found, (ok) => (ok ? Effect.void : Effect.fail(new SessionNotFound({ id }))))

  const create = Effect.fnUntraced(function* () {
    let id = makeId()
    while (!(yield* store.create(id))) id = makeId()
    return Object.freeze({ id })
  })

  const append = Effect.fnUntraced(function* (id: string, known: Stored, messages: ReadonlyArray<Message>) {
    let { version } = known
    // Another process, or a reset, may have been faster. The turn is still true, and goes after what is there now.
    while (!(yield* store.append(id, version, messages))) version = (yield* load(id)).version
  })

  const begin = (id: string): Effect.Effect<Turn, SessionNotFound> =>
    Effect.suspend(() => {
      const ticket = lock(id)
      // The first look tells at once that there is nothing to wait for.
      return load(id).pipe(
        Effect.zipRight(ticket.wait),
        Effect.zipRight(load(id)),
        Effect.interruptible,
        Effect.map((stored): Turn => {
          let letGo = store.hold?.(id)
          return {
            history: frozen(stored.messages),
            commit: (messages) =>
              messages.length === 0 ? Effect.void : Effect.suspend(() => append(id, stored, freeze(messages))),
            release: () => {
              letGo?.()
              letGo = undefined
              ticket.release()
            }
          }
        }),
        Effect.onError(() => Effect.sync(ticket.release))
      )
    }).pipe(Effect.uninterruptible)

  return Sessions.of({
    create,
    resume: (id) => Effect.as(load(id), Object.freeze({ id })),
    history: (id) => Effect.map(load(id), ({ messages }) => frozen(messages)),
    reset: (id) => orNotFound(id, store.reset(id)),
    remove: (id) => orNotFound(id, store.remove(id)),
    begin
  })
})

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<Sessions, never, SessionStore> = Layer.effect(Sessions, make)

/**
 * Conversations in this process, which they end with.
 *
 * @since 0.1.0
 * @category layers
 */
export const layerMemory = (options?: MemoryOptions): Layer.Layer<Sessions> =>
  Layer.provide(layer, layerStoreMemory(options))

// =============================================================================
// accessors
// =============================================================================

/**
 * A new conversation.
 *
 * @since 0.1.0
 * @category accessors
 */
export const create = (): Effect.Effect<Session, never, Sessions> => Effect.flatMap(Sessions, (self) => self.create())

/**
 * A conversation that exists; fails with `SessionNotFound` at once where there is none.
 *
 * @since 0.1.0
 * @category accessors
 */
export const resume = (id: string): Effect.Effect<Session, SessionNotFound, Sessions> =>
  Effect.flatMap(Sessions, (self) => self.resume(id))

/**
 * The turns of a conversation: a deeply read-only copy.
 *
 * @since 0.1.0
 * @category accessors
 */
export const history = (id: string): Effect.Effect<ReadonlyArray<Message>, SessionNotFound, Sessions> =>
  Effect.flatMap(Sessions, (self) => self.history(id))

/**
 * Forgets the turns of a conversation; its id stays.
 *
 * @since 0.1.0
 * @category accessors
 */
export const reset = (id: string): Effect.Effect<void, SessionNotFound, Sessions> =>
  Effect.flatMap(Sessions, (self) => self.reset(id))

/**
 * Removes a conversation: from now on its id is unknown.
 *
 * @since 0.1.0
 * @category accessors
 */
export const remove = (id: string): Effect.Effect<void, SessionNotFound, Sessions> =>
  Effect.flatMap(Sessions, (self) => self.remove(id))

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
import * as Schema from "effect/Schema"
import { decodeMessages } from "./ChatRequest.js"
import { type InvalidRequest, SessionNotFound, SessionsUnavailable } from "./Errors.js"
import { decoder, optional, wholeFrom, withoutNulls } from "./internal/optionSchemas.js"
import type { Message } from "./Message.js"
import { layerStoreMemory, type MemoryOptions, SessionStore, type Stored } from "./sessions/store.js"
import type { ListOptions, Summary } from "./sessions/summary.js"
import * as Turns from "./sessions/turnQueue.js"

export {
  layerStoreMemory,
  type MemoryOptions,
  makeStoreMemory,
  SessionStore,
  type Store,
  type Stored,
  type Ticket
} from "./sessions/store.js"

export type { ListOptions, Summary } from "./sessions/summary.js"

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
  /** The id by which calls name it. */
  readonly id: string
}

/**
 * Why a conversation is not available: its id is unknown, or its store does not respond.
 *
 * @since 0.1.0
 * @category errors
 */
export type Unreachable = SessionNotFound | SessionsUnavailable

/**
 * The turn of a call in a conversation: no other call has it until `release`, which may be called more than once.
 *
 * `commit` adds the messages all at once. Without it nothing is stored. It fails if the conversation was removed
 * meanwhile, or the store cannot be written to.
 *
 * @since 0.1.0
 * @category models
 */
export interface Turn {
  /** The id of the conversation. */
  readonly id: string
  /** The messages before this turn, the oldest first. */
  readonly history: ReadonlyArray<Message>
  /**
   * Adds the messages of the turn all at once. Fails if the conversation was removed meanwhile, or the store cannot be
   * written to.
   */
  readonly commit: (messages: ReadonlyArray<Message>) => Effect.Effect<void, Unreachable>
  /** Lets the next turn begin. May be called more than once. */
  readonly release: () => void
}

/**
 * How a conversation begins.
 *
 * @since 0.1.0
 * @category models
 */
export interface CreateOptions {
  /** The beginning of the id, to keep the conversations of several owners apart. */
  readonly prefix?: string | undefined
  /** Whether all its calls stay on local servers, from now on and wherever it is resumed; default `false`. */
  readonly private?: boolean | undefined
  /** Initial messages, such as the history of another conversation. */
  readonly messages?: ReadonlyArray<Message> | undefined
}

/**
 * Conversations, each with one turn at a time.
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /** Fails with `InvalidRequest` where `messages` are none; an unknown option is an error, never dropped. */
  readonly create: (options?: CreateOptions) => Effect.Effect<Session, SessionsUnavailable | InvalidRequest>
  /** What conversations there are, the one that was used last first. */
  readonly list: (options?: ListOptions) => Effect.Effect<ReadonlyArray<Summary>, SessionsUnavailable | InvalidRequest>
  /** Fails at once where there is no such conversation. */
  readonly resume: (id: string) => Effect.Effect<Session, Unreachable>
  /** Frozen, down to the last part of a message. */
  readonly history: (id: string) => Effect.Effect<ReadonlyArray<Message>, Unreachable>
  /** Forgets what was said; the id stays. */
  readonly reset: (id: string) => Effect.Effect<void, Unreachable>
  /** Removes the conversation: from now on its id is unknown. */
  readonly remove: (id: string) => Effect.Effect<void, Unreachable>
  /**
   * Waits until every earlier turn of the conversation has been released, and fails with `SessionsUnavailable` where
   * 512 wait already. An interruption while it waits gives up the place; after that the caller must see to `release`,
   * as `Effect.acquireUseRelease` does.
   */
  readonly begin: (id: string) => Effect.Effect<Turn, Unreachable>
}

/**
 * The tag of the service.
 *
 * @since 0.1.0
 * @category tags
 */
export class Sessions extends Context.Tag("aicortex/Sessions")<Sessions, Service>() {}

// =============================================================================
// implementation
// =============================================================================

/** A deeply frozen copy of plain data. */
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

const createOptions = decoder(
  Schema.Struct({
    prefix: optional(Schema.String),
    private: optional(Schema.Boolean),
    messages: optional(Schema.Unknown)
  })
)
const listOptions = decoder(Schema.Struct({ limit: optional(wholeFrom(1)), prefix: optional(Schema.String) }))

const makeId = (): string =>
  Array.from(globalThis.crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join(
    ""
  )

/** The id says it, so that no store can lose it. It is no digit of an id. */
const privateMark = "p"
const privateId = /[0-9a-f]{15}p$/

/**
 * Whether a conversation was created as private: its calls stay on local servers.
 *
 * @since 0.2.0
 * @category guards
 */
export const isPrivate = (id: string): boolean => privateId.test(id)

/**
 * The service, over those that it needs.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.gen(function* () {
  const store = yield* SessionStore
  const own = Turns.make()

  const load = (id: string): Effect.Effect<Stored, Unreachable> =>
    Effect.flatMap(
      store.load(id),
      Option.match({ onNone: () => Effect.fail(new SessionNotFound({ id })), onSome: Effect.succeed })
    )
  const orNotFound = (
    id: string,
    found: Effect.Effect<boolean, SessionsUnavailable>
  ): Effect.Effect<void, Unreachable> =>
    Effect.flatMap(found, (ok) => (ok ? Effect.void : Effect.fail(new SessionNotFound({ id }))))

  const append = Effect.fnUntraced(function* (id: string, known: Stored, messages: ReadonlyArray<Message>) {
    let { version } = known
    // Another process, or a reset, may have been faster. The turn is still valid, and is appended to what is there now.
    while (!(yield* store.append(id, version, messages))) version = (yield* load(id)).version
  })

  const create = Effect.fnUntraced(function* (options?: CreateOptions) {
    const { messages, prefix = "", private: isPrivate = false } = yield* createOptions(withoutNulls(options ?? {}))
    const none = messages === undefined || (Array.isArray(messages) && messages.length === 0)
    const said = none ? [] : freeze(yield* decodeMessages(messages))
    const newId = () => prefix + (isPrivate ? `${makeId().slice(0, -1)}${privateMark}` : makeId())
    let id = newId()
    while (!(yield* store.create(id))) id = newId()
    if (said.length > 0) {
      yield* Effect.catchTag(append(id, { version: 0, messages: [] }, said), "SessionNotFound", () =>
        Effect.fail(new SessionsUnavailable({ reason: "it was removed as soon as it was made" }))
      )
    }
    return Object.freeze({ id })
  })

  const list = (options?: ListOptions) => Effect.flatMap(listOptions(options ?? {}), (checked) => store.list(checked))

  const begin = (id: string): Effect.Effect<Turn, Unreachable> =>
    Effect.suspend(() => {
      const ticket = store.turn?.(id) ?? own.turn(id)
      // Tells at once whether there is anything to wait for.
      return load(id).pipe(
        Effect.zipRight(ticket.wait),
        Effect.zipRight(load(id)),
        Effect.interruptible,
        Effect.map(
          (stored): Turn => ({
            id,
            history: frozen(stored.messages),
            commit: (messages) =>
              messages.length === 0 ? Effect.void : Effect.suspend(() => append(id, stored, freeze(messages))),
            release: ticket.release
          })
        ),
        Effect.onError(() => Effect.sync(ticket.release))
      )
    }).pipe(Effect.uninterruptible)

  return Sessions.of({
    create,
    list,
    resume: (id) => Effect.as(load(id), Object.freeze({ id })),
    history: (id) => Effect.map(load(id), ({ messages }) => frozen(messages)),
    reset: (id) => orNotFound(id, store.reset(id)),
    remove: (id) => orNotFound(id, store.remove(id)),
    begin
  })
})

/**
 * The service as a layer.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<Sessions, never, SessionStore> = Layer.effect(Sessions, make)

/**
 * Keeps conversations in the memory of this process.
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
 * A new conversation, or the copy of one: `create({ messages })`.
 *
 * @since 0.1.0
 * @category accessors
 */
export const create = (
  options?: CreateOptions
): Effect.Effect<Session, SessionsUnavailable | InvalidRequest, Sessions> =>
  Effect.flatMap(Sessions, (self) => self.create(options))

/**
 * What conversations there are, the one that was used last first: 50, unless `limit` says otherwise.
 *
 * @since 0.1.0
 * @category accessors
 */
export const list = (
  options?: ListOptions
): Effect.Effect<ReadonlyArray<Summary>, SessionsUnavailable | InvalidRequest, Sessions> =>
  Effect.flatMap(Sessions, (self) => self.list(options))

/**
 * A conversation that exists; fails with `SessionNotFound` at once where there is none.
 *
 * @since 0.1.0
 * @category accessors
 */
export const resume = (id: string): Effect.Effect<Session, Unreachable, Sessions> =>
  Effect.flatMap(Sessions, (self) => self.resume(id))

/**
 * The turns of a conversation: a deeply read-only copy.
 *
 * @since 0.1.0
 * @category accessors
 */
export const history = (id: string): Effect.Effect<ReadonlyArray<Message>, Unreachable, Sessions> =>
  Effect.flatMap(Sessions, (self) => self.history(id))

/**
 * Deletes the turns of a conversation; its id stays.
 *
 * @since 0.1.0
 * @category accessors
 */
export const reset = (id: string): Effect.Effect<void, Unreachable, Sessions> =>
  Effect.flatMap(Sessions, (self) => self.reset(id))

/**
 * Removes a conversation: from now on its id is unknown.
 *
 * @since 0.1.0
 * @category accessors
 */
export const remove = (id: string): Effect.Effect<void, Unreachable, Sessions> =>
  Effect.flatMap(Sessions, (self) => self.remove(id))

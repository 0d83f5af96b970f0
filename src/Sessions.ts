/**
 * Conversations that the library remembers: a policy (one call at a time, whole turns, frozen history) over a small
 * store.
 *
 * @since 0.1.0
 */
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type { Usage } from "./ChatEvent.js"
import { decodeMessages } from "./ChatRequest.js"
import { InvalidRequest, SessionNotFound, type SessionsUnavailable } from "./Errors.js"
import { addUsage } from "./failover/usage.js"
import { decoder, optional, withoutNulls } from "./internal/optionSchemas.js"
import type { Message } from "./Message.js"
import * as Archive from "./sessions/archive.js"
import { type Exported, exported } from "./sessions/exported.js"
import * as Ids from "./sessions/ids.js"
import { checkMetadata, checkTitle } from "./sessions/labels.js"
import { type Changes, freeze, frozen, type Metadata, type StoredTurn, type TurnUsage } from "./sessions/record.js"
import { filterOf, listOf, pageOf, wordsIn } from "./sessions/selection.js"
import { layerStoreMemory, type MemoryOptions, SessionStore, type Stored, type StoredRecord } from "./sessions/store.js"
import type { Filter, Hit, ListOptions, Page, Summary } from "./sessions/summary.js"
import * as Turns from "./sessions/turnQueue.js"

export type {
  CopyOptions,
  Imported,
  ImportOptions,
  ImportReport,
  PruneOptions,
  Refused
} from "./sessions/archive.js"
export { type Exported, type ExportedTurn, markdown } from "./sessions/exported.js"
export { isPrivate } from "./sessions/ids.js"
export type { Changes, Metadata, Seed, StoredTurn, TurnUsage } from "./sessions/record.js"

export {
  layerStoreMemory,
  type MemoryOptions,
  makeStoreMemory,
  SessionStore,
  type Store,
  type Stored,
  type StoredRecord,
  type Ticket
} from "./sessions/store.js"
export type { After, Filter, Hit, ListOptions, Page, Selection, Summary } from "./sessions/summary.js"

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
   * Adds the messages of the turn all at once, with what their answer has used. Fails if the conversation was removed
   * meanwhile, or the store cannot be written to.
   */
  readonly commit: (messages: ReadonlyArray<Message>, usage?: TurnUsage) => Effect.Effect<void, Unreachable>
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
  /** What it is called, at most 200 characters; default: its first question in short. */
  readonly title?: string | undefined
  /** A small JSON object, for programs: at most 16,384 characters. */
  readonly metadata?: Metadata | undefined
}

/**
 * A conversation with its figures.
 *
 * @since 0.4.0
 * @category models
 */
export interface Details extends Summary {
  /** How many turns it has. */
  readonly turns: number
  /** What all of its answers have used together, as far as that is known. */
  readonly usage: Usage
}

/**
 * Whose turns are searched.
 *
 * @since 0.4.0
 * @category models
 */
export interface SearchOptions extends Omit<ListOptions, "text"> {}

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
  /** The same with where it goes on. */
  readonly page: (options?: ListOptions) => Effect.Effect<Page<Summary>, SessionsUnavailable | InvalidRequest>
  /** The turns in which all words of this text were said, the newest first; case does not matter. */
  readonly search: (
    text: string,
    options?: SearchOptions
  ) => Effect.Effect<Page<Hit>, SessionsUnavailable | InvalidRequest>
  /** Title, metadata, times and figures. */
  readonly details: (id: string) => Effect.Effect<Details, Unreachable>
  /** The turns with their times and what their answers have used. Frozen. */
  readonly turns: (id: string) => Effect.Effect<ReadonlyArray<StoredTurn>, Unreachable>
  /** Changes the title or the metadata. */
  readonly update: (id: string, changes: Changes) => Effect.Effect<void, Unreachable | InvalidRequest>
  /** Another conversation with the same turns, of the same owner, and private where this one is. */
  readonly copy: (id: string, options?: Archive.CopyOptions) => Effect.Effect<Session, Unreachable | InvalidRequest>
  /** A conversation as JSON, which can be imported again. */
  readonly exportSession: (id: string) => Effect.Effect<Exported, Unreachable>
  /** All conversations that a filter means, or all; one that is removed meanwhile is left out. */
  readonly exportAll: (options?: Filter) => Stream.Stream<Exported, SessionsUnavailable | InvalidRequest>
  /**
   * Takes conversations of JSON, or of a text of JSON or JSON lines: own exports, and those of AI Cortex and Oblix. All
   * are checked before the first is stored, and each is stored as a whole or not at all; the report tells which. Fails
   * with `InvalidRequest` where there is no conversation to be found.
   */
  readonly importAll: (
    input: unknown,
    options?: Archive.ImportOptions
  ) => Effect.Effect<Archive.ImportReport, InvalidRequest>
  /**
   * Removes conversations that were not used for a time, and tells which; one with an answer in progress stays.
   */
  readonly prune: (
    options: Archive.PruneOptions
  ) => Effect.Effect<ReadonlyArray<Summary>, SessionsUnavailable | InvalidRequest>
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

const createOptions = decoder(
  Schema.Struct({
    prefix: optional(Schema.String),
    private: optional(Schema.Boolean),
    messages: optional(Schema.Unknown),
    title: optional(Schema.Unknown),
    metadata: optional(Schema.Unknown)
  })
)
const changeOptions = decoder(Schema.Struct({ title: optional(Schema.Unknown), metadata: optional(Schema.Unknown) }))

/** How many conversations an export looks at, at once. */
const exportBatch = 100

/**
 * The service, over those that it needs.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.gen(function* () {
  const store = yield* SessionStore
  const clock = yield* Effect.clock
  const archive = Archive.make(store, () => clock.unsafeCurrentTimeMillis())
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

  const append = Effect.fnUntraced(function* (
    id: string,
    known: Stored,
    messages: ReadonlyArray<Message>,
    usage: TurnUsage | undefined
  ) {
    let { version } = known
    // Another process, or a reset, may have been faster. The turn is still valid, and is appended to what is there now.
    while (!(yield* store.append(id, version, messages, usage))) version = (yield* load(id)).version
  })

  const create = Effect.fnUntraced(function* (options?: CreateOptions) {
    const given = yield* createOptions(withoutNulls(options ?? {}))
    const { messages, prefix = "", private: isPrivate = false } = given
    const none = messages === undefined || (Array.isArray(messages) && messages.length === 0)
    const said = none ? [] : freeze(yield* decodeMessages(messages))
    const seed = {
      title: given.title === undefined ? undefined : yield* checkTitle(given.title),
      metadata: given.metadata === undefined ? undefined : yield* checkMetadata(given.metadata),
      turns: said.length === 0 ? [] : [{ messages: said, at: clock.unsafeCurrentTimeMillis() }]
    }
    let id = Ids.newId(prefix, isPrivate)
    while (!(yield* store.create(id, seed))) id = Ids.newId(prefix, isPrivate)
    return Object.freeze({ id })
  })

  const page = Effect.fnUntraced(function* (options?: ListOptions) {
    const { limit, ...selection } = yield* listOf(options)
    const found = yield* store.list({ ...selection, limit: limit + 1 })
    return pageOf(found, limit, ({ id, usedAt }) => ({ time: usedAt, id }))
  })

  const search = Effect.fnUntraced(function* (text: string, options?: SearchOptions) {
    const words = typeof text === "string" ? yield* wordsIn(text, "text") : []
    if (words.length === 0)
      return yield* new InvalidRequest({ field: "text", reason: "must have a word to search for" })
    const { limit, words: _, ...selection } = yield* listOf(options, true)
    const found = yield* store.search(words, { ...selection, limit: limit + 1 })
    return pageOf(found, limit, ({ at, id, turn }) => ({ time: at, id, turn }))
  })

  const read = (id: string): Effect.Effect<StoredRecord, Unreachable> =>
    Effect.flatMap(
      store.read(id),
      Option.match({ onNone: () => Effect.fail(new SessionNotFound({ id })), onSome: Effect.succeed })
    )

  const details = (id: string) =>
    Effect.map(
      read(id),
      ({ summary, turns }): Details => ({
        ...summary,
        turns: turns.length,
        usage: turns.reduce<Usage>((sum, { usage }) => {
          if (usage === undefined) return sum
          const { model: _, server: _server, ...tokens } = usage
          return addUsage(sum, tokens)
        }, {})
      })
    )

  const update = Effect.fnUntraced(function* (id: string, changes: Changes) {
    const isReset = typeof changes === "object" && changes !== null && changes.title === null
    const given = yield* changeOptions(withoutNulls(changes))
    const checked: Changes = {
      ...(isReset ? { title: null } : given.title === undefined ? {} : { title: yield* checkTitle(given.title) }),
      ...(given.metadata === undefined ? {} : { metadata: yield* checkMetadata(given.metadata) })
    }
    yield* orNotFound(id, store.update(id, checked))
  })

  const exportAll = (options?: Filter): Stream.Stream<Exported, SessionsUnavailable | InvalidRequest> =>
    Stream.unwrap(
      Effect.map(filterOf(options), (selection) =>
        Stream.paginateChunkEffect(undefined as Summary | undefined, (last) =>
          Effect.gen(function* () {
            const after = last === undefined ? {} : { after: { time: last.usedAt, id: last.id } }
            const found = yield* store.list({ ...selection, ...after, limit: exportBatch })
            const all: Array<Exported> = []
            for (const { id } of found) {
              const one = yield* store.read(id)
              if (Option.isSome(one)) all.push(exported(one.value))
            }
            const more = found.length < exportBatch ? Option.none() : Option.fromNullable(found.at(-1))
            return [Chunk.unsafeFromArray(all), more] as const
          })
        )
      )
    )

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
            commit: (messages, usage) =>
              messages.length === 0 ? Effect.void : Effect.suspend(() => append(id, stored, freeze(messages), usage)),
            release: ticket.release
          })
        ),
        Effect.onError(() => Effect.sync(ticket.release))
      )
    }).pipe(Effect.uninterruptible)

  return Sessions.of({
    create,
    list: (options) => Effect.map(page(options), ({ items }) => items),
    page,
    search,
    details,
    turns: (id) => Effect.map(read(id), ({ turns }) => freeze(turns)),
    update,
    copy: archive.copy,
    exportSession: (id) => Effect.map(read(id), exported),
    exportAll,
    importAll: archive.import,
    prune: archive.prune,
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

/**
 * What conversations there are, and where the list goes on: `next` is the `cursor` of the next page.
 *
 * @example
 * import { Sessions } from "aicortex"
 * import { Effect } from "effect"
 *
 * const titles = Sessions.page({ title: "invoice", limit: 20 }).pipe(
 *   Effect.map(({ items, next }) => ({ titles: items.map(({ title }) => title), next }))
 * )
 *
 * @since 0.4.0
 * @category accessors
 */
export const page = (
  options?: ListOptions
): Effect.Effect<Page<Summary>, SessionsUnavailable | InvalidRequest, Sessions> =>
  Effect.flatMap(Sessions, (self) => self.page(options))

/**
 * The turns in which all words of a text were said, the newest first: 50, unless `limit` says otherwise.
 *
 * @since 0.4.0
 * @category accessors
 */
export const search = (
  text: string,
  options?: SearchOptions
): Effect.Effect<Page<Hit>, SessionsUnavailable | InvalidRequest, Sessions> =>
  Effect.flatMap(Sessions, (self) => self.search(text, options))

/**
 * The title, metadata, times and figures of a conversation.
 *
 * @since 0.4.0
 * @category accessors
 */
export const details = (id: string): Effect.Effect<Details, Unreachable, Sessions> =>
  Effect.flatMap(Sessions, (self) => self.details(id))

/**
 * The turns of a conversation, with their times and what their answers have used.
 *
 * @since 0.4.0
 * @category accessors
 */
export const turns = (id: string): Effect.Effect<ReadonlyArray<StoredTurn>, Unreachable, Sessions> =>
  Effect.flatMap(Sessions, (self) => self.turns(id))

/**
 * Changes the title or the metadata of a conversation; a title of `null` is made of its first question again.
 *
 * @since 0.4.0
 * @category accessors
 */
export const update = (id: string, changes: Changes): Effect.Effect<void, Unreachable | InvalidRequest, Sessions> =>
  Effect.flatMap(Sessions, (self) => self.update(id, changes))

/**
 * A copy of a conversation, which goes its own way.
 *
 * @since 0.4.0
 * @category accessors
 */
export const copy = (
  id: string,
  options?: Archive.CopyOptions
): Effect.Effect<Session, Unreachable | InvalidRequest, Sessions> =>
  Effect.flatMap(Sessions, (self) => self.copy(id, options))

/**
 * A conversation as JSON, which `importAll` takes again.
 *
 * @since 0.4.0
 * @category accessors
 */
export const exportSession = (id: string): Effect.Effect<Exported, Unreachable, Sessions> =>
  Effect.flatMap(Sessions, (self) => self.exportSession(id))

/**
 * All conversations as JSON, or those that a filter means.
 *
 * @since 0.4.0
 * @category accessors
 */
export const exportAll = (options?: Filter): Stream.Stream<Exported, SessionsUnavailable | InvalidRequest, Sessions> =>
  Stream.unwrap(Effect.map(Sessions, (self) => self.exportAll(options)))

/**
 * Takes conversations of JSON, or of a text of JSON or JSON lines, and returns what it imported and what it refused.
 *
 * @since 0.4.0
 * @category accessors
 */
export const importAll = (
  input: unknown,
  options?: Archive.ImportOptions
): Effect.Effect<Archive.ImportReport, InvalidRequest, Sessions> =>
  Effect.flatMap(Sessions, (self) => self.importAll(input, options))

/**
 * Removes conversations that were not used for a time; `dryRun` only tells which.
 *
 * @since 0.4.0
 * @category accessors
 */
export const prune = (
  options: Archive.PruneOptions
): Effect.Effect<ReadonlyArray<Summary>, SessionsUnavailable | InvalidRequest, Sessions> =>
  Effect.flatMap(Sessions, (self) => self.prune(options))

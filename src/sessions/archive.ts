/** Conversations taken out of a store and into it: copies, imports, and what is pruned. */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { InvalidRequest, SessionNotFound, type SessionsUnavailable } from "../Errors.js"
import { decoder, optional, pause, wholeFrom, withoutNulls } from "../internal/optionSchemas.js"
import { ownerOf } from "./eviction.js"
import * as Ids from "./ids.js"
import { candidates, type Draft, type ImportedSession } from "./imported.js"
import { checkMetadata, checkTitle } from "./labels.js"
import { type Metadata, messagesOf } from "./record.js"
import { filterOf } from "./selection.js"
import type { Store } from "./store.js"
import type { Filter, Summary } from "./summary.js"

/**
 * How a conversation is copied.
 *
 * @since 0.4.0
 * @category models
 */
export interface CopyOptions {
  /** The title of the copy; default: that of the original. */
  readonly title?: string | undefined
  /** The metadata of the copy; default: that of the original. */
  readonly metadata?: Metadata | undefined
  /** Only the first turns, as many as this; default: all. */
  readonly turns?: number | undefined
}

/**
 * How conversations are imported.
 *
 * @since 0.4.0
 * @category models
 */
export interface ImportOptions {
  /**
   * `keep`: under the ids that they had, where those are ids of this library and free; one that exists already is refused.
   * `new`: as copies with new ids. Default: `keep`.
   */
  readonly ids?: "keep" | "new" | undefined
  /** The beginning of all ids, to keep the conversations of several owners apart. */
  readonly prefix?: string | undefined
  /** Whether all of them are private, also those that were not; default `false`. */
  readonly private?: boolean | undefined
  /** Checks all, and writes nothing. */
  readonly dryRun?: boolean | undefined
}

/**
 * An imported conversation.
 *
 * @since 0.4.0
 * @category models
 */
export interface Imported {
  /** Its place among the conversations of the input; the first is 1. In JSON lines it is the line. */
  readonly at: number
  /** Its id here; with `dryRun` the id that it had, if it keeps that one. */
  readonly id: string | undefined
  /** The id that it had. */
  readonly from: string | undefined
  /** How many messages it has. */
  readonly messages: number
}

/**
 * A conversation that was not imported; nothing of it is stored.
 *
 * @since 0.4.0
 * @category models
 */
export interface Refused {
  /** Its place among the conversations of the input; the first is 1. In JSON lines it is the line. */
  readonly at: number
  /** The id that it had. */
  readonly from: string | undefined
  /** Why it was not. */
  readonly reason: string
}

/**
 * What has come of an import.
 *
 * @since 0.4.0
 * @category models
 */
export interface ImportReport {
  /** Stored, each with all of its turns. */
  readonly taken: ReadonlyArray<Imported>
  /** Not stored. */
  readonly refused: ReadonlyArray<Refused>
}

/**
 * Which conversations are pruned.
 *
 * @since 0.4.0
 * @category models
 */
export interface PruneOptions extends Omit<Filter, "since" | "until"> {
  /** Only those that were not used for this long: milliseconds, or a duration such as "30 days". */
  readonly olderThan: Duration.DurationInput
  /** Only tells which ones, and removes nothing. */
  readonly dryRun?: boolean | undefined
}

const copyOptions = decoder(
  Schema.Struct({
    title: optional(Schema.Unknown),
    metadata: optional(Schema.Unknown),
    turns: optional(wholeFrom(0))
  })
)
const importOptions = decoder(
  Schema.Struct({
    ids: optional(Schema.Literal("keep", "new")),
    prefix: optional(Schema.String),
    private: optional(Schema.Boolean),
    dryRun: optional(Schema.Boolean)
  })
)
const pruneOptions = decoder(
  Schema.Struct({
    olderThan: optional(pause),
    dryRun: optional(Schema.Boolean),
    prefix: optional(Schema.Unknown),
    title: optional(Schema.Unknown),
    text: optional(Schema.Unknown),
    metadata: optional(Schema.Unknown)
  })
)

/** How many conversations are looked at, at once. */
const batch = 200

const exists = "a conversation of this id exists already: it can be imported as a copy with a new id"

/** All functions over this store. */
export const make = (store: Store, now: () => number) => {
  /** Stores it under a new id. */
  const createNew = Effect.fnUntraced(function* (owner: string, isPrivate: boolean, seed: Draft["seed"]) {
    let id = Ids.newId(owner, isPrivate)
    while (!(yield* store.create(id, seed))) id = Ids.newId(owner, isPrivate)
    return id
  })

  const copy = Effect.fnUntraced(function* (
    id: string,
    options: CopyOptions = {}
  ): Effect.fn.Return<{ readonly id: string }, SessionNotFound | SessionsUnavailable | InvalidRequest> {
    const given = yield* copyOptions(withoutNulls(options))
    const title = given.title === undefined ? undefined : yield* checkTitle(given.title)
    const metadata = given.metadata === undefined ? undefined : yield* checkMetadata(given.metadata)
    const found = yield* store.read(id)
    if (Option.isNone(found)) return yield* new SessionNotFound({ id })
    const { summary, turns } = found.value
    const own = summary.titled ? summary.title : undefined
    const seed = {
      title: title ?? own,
      metadata: metadata ?? summary.metadata,
      turns: given.turns === undefined ? turns : turns.slice(0, given.turns)
    }
    return Object.freeze({ id: yield* createNew(ownerOf(id), Ids.isPrivate(id), seed) })
  })

  /** Stores one that is valid, or tells why it cannot be. */
  const take = Effect.fnUntraced(function* (
    { at, draft }: { readonly at: number; readonly draft: Draft },
    { dryRun = false, ids = "keep", prefix = "", private: isPrivate = false }: ImportOptions
  ): Effect.fn.Return<Either.Either<Imported, string>, SessionsUnavailable> {
    const { id: from, seed } = draft
    const stays = isPrivate || draft.private
    const taken = { at, from, messages: messagesOf(seed.turns).length }
    const keeps = ids === "keep" && from !== undefined && Ids.isIdOf(prefix, from) && Ids.isPrivate(from) === stays
    if (dryRun) {
      if (keeps && Option.isSome(yield* store.read(from))) return Either.left(exists)
      return Either.right({ ...taken, id: keeps ? from : undefined })
    }
    if (!keeps) return Either.right({ ...taken, id: yield* createNew(prefix, stays, seed) })
    return (yield* store.create(from, seed)) ? Either.right({ ...taken, id: from }) : Either.left(exists)
  })

  const importAll = Effect.fnUntraced(function* (
    input: unknown,
    options: ImportOptions = {}
  ): Effect.fn.Return<ImportReport, InvalidRequest> {
    const given = yield* importOptions(withoutNulls(options))
    // All are checked before the first is written.
    const all: ReadonlyArray<ImportedSession> = yield* candidates(input, now())
    const taken: Array<Imported> = []
    const refused: Array<Refused> = []
    let failed: SessionsUnavailable | undefined
    for (const { at, draft, id } of all) {
      const refuse = (reason: string) => refused.push({ at, from: id, reason })
      if (Either.isLeft(draft)) refuse(draft.left)
      else if (failed !== undefined) refuse(`not tried, because an earlier one failed: ${failed.message}`)
      else {
        const done = yield* Effect.either(take({ at, draft: draft.right }, given))
        if (Either.isLeft(done)) {
          failed = done.left
          refuse(failed.message)
        } else if (Either.isLeft(done.right)) refuse(done.right.left)
        else taken.push(done.right.right)
      }
    }
    return { taken, refused }
  })

  const prune = Effect.fnUntraced(function* (
    options: PruneOptions
  ): Effect.fn.Return<ReadonlyArray<Summary>, InvalidRequest | SessionsUnavailable> {
    const { dryRun = false, olderThan, ...filter } = yield* pruneOptions(withoutNulls(options))
    if (olderThan === undefined) return yield* new InvalidRequest({ field: "olderThan", reason: "is missing" })
    const until = now() - olderThan
    const selection = { ...(yield* filterOf(filter)), until }
    const gone: Array<Summary> = []
    let last: Summary | undefined
    while (true) {
      const after = last === undefined ? {} : { after: { time: last.usedAt, id: last.id } }
      const some = yield* store.list({ ...selection, ...after, limit: batch })
      for (const one of some) {
        // One that was used meanwhile stays.
        if (dryRun || (yield* store.removeUnused(one.id, until))) gone.push(one)
      }
      last = some.at(-1)
      if (last === undefined || some.length < batch) return gone
    }
  })

  return { copy, import: importAll, prune }
}

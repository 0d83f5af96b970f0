/**
 * Conversations in a folder. They outlive the process, and several processes may use the folder at the same time.
 *
 * Each conversation is a subfolder. Messages appended together are one immutable file in it: `1.json`, `2.json` and so
 * on. A file is written under a temporary name and then hard-linked to its final one, which fails if another process
 * created that first: appends need no lock, are atomic, and never overwrite each other. A reset is a file too; the files
 * before it no longer count and are deleted. Names that begin with a dot are not conversations: temporary files, and
 * `.sizes`, the cached sizes for the disk quota.
 *
 * @since 0.1.0
 */
import type { PlatformError } from "@effect/platform/Error"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { flow } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { SessionsUnavailable } from "../Errors.js"
import { toMilliseconds } from "../internal/units.js"
import { Message } from "../Message.js"
import { SessionStore, type Store } from "../Sessions.js"
import * as DiskQuota from "./diskQuota.js"
import { noRoom, ownerOf, victims } from "./eviction.js"
import { messagesOf, noMetadata } from "./record.js"
import { found, type Hit, isSelected, openingOf, type Selection, summary } from "./summary.js"
import * as Turns from "./turnQueue.js"

/**
 * Owners (the prefixes of `Sessions.create`) share the folder as they share a store in memory: each owner's own
 * conversations are evicted first.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options {
  /** Created on first use. */
  readonly folder: string
  /**
   * Beyond it, creating one deletes the owner's least recently written conversation; default 10,000. A conversation with
   * an answer in flight in this process is never deleted.
   */
  readonly maxSessions?: number | undefined
  /**
   * Approximate total size of their files. Beyond it conversations are deleted in the same order, except the one being
   * written, until a sixteenth is free. Each process that writes to the folder may be off by a sixteenth; default: no
   * limit.
   */
  readonly maxBytes?: number | undefined
  /** A conversation not written to for this time is deleted on its next use: milliseconds, or another duration; default never. */
  readonly ttl?: Duration.DurationInput | undefined
}

/** Other ids could point outside the folder, or be equal on case-insensitive file systems. */
const isId = (id: string): boolean => /^[a-z0-9-]{1,128}$/.test(id)

const Entry = Schema.parseJson(
  Schema.Struct({
    /** The messages before it no longer count. */
    reset: Schema.optionalWith(Schema.Literal(true), { exact: true }),
    messages: Schema.Array(Message)
  })
)
type Entry = typeof Entry.Type
const decode = Schema.decode(Entry)
const encode = Schema.encodeSync(Entry)
const written = (entry: Entry): Uint8Array => new TextEncoder().encode(encode(entry))

const Sizes = Schema.parseJson(
  Schema.Record({ key: Schema.String, value: Schema.Struct({ usedAt: Schema.Number, bytes: Schema.NonNegativeInt }) })
)
const decodeSizes = Schema.decodeOption(Sizes)
const encodeSizes = Schema.encodeSync(Sizes)

/** Maximum number of attempts to read a conversation that other processes are changing. */
const maxReadings = 20

/** Maximum number of files read at the same time. */
const readers = { concurrency: 16 } as const

/** Names made by `away`: files being written, and conversations being deleted. */
const temporaryName = /^\.[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

/** A temporary file older than this, in milliseconds, was left by a process that died. */
const abandoned = 3_600_000

/** Modification time, in milliseconds since the epoch. */
const timeOf = ({ mtime }: FileSystem.File.Info): number =>
  Option.match(mtime, { onNone: () => 0, onSome: (date) => date.getTime() })

const numberOf = (file: string): number | undefined => {
  const digits = /^([1-9]\d{0,14})\.json$/.exec(file)?.[1]
  return digits === undefined ? undefined : Number(digits)
}

type Reason = "NotFound" | "AlreadyExists" | "BadResource"

const is = (reason: Reason, error: PlatformError): boolean => error._tag === "SystemError" && error.reason === reason

/** Turns a failure with this reason into `undefined`. */
const unless =
  (reason: Reason) =>
  <A, E, R>(effect: Effect.Effect<A, E | PlatformError, R>) =>
    Effect.catchIf(
      effect,
      (error): error is Extract<E | PlatformError, PlatformError> => is(reason, error as PlatformError),
      () => Effect.succeed(undefined)
    )

/**
 * A store in a folder. Several processes may share it.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.fnUntraced(function* ({
  folder,
  maxBytes,
  maxSessions = 10_000,
  ttl: lifetime = Number.POSITIVE_INFINITY
}: Options): Effect.fn.Return<Store, never, FileSystem.FileSystem | Path.Path> {
  const ttl = toMilliseconds(lifetime)
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const clock = yield* Effect.clock
  const now = () => clock.unsafeCurrentTimeMillis()
  const { heldSince, isHeld, turn } = Turns.make(now)
  const at = (id: string, ...rest: ReadonlyArray<string>) => path.join(folder, id, ...rest)
  const away = () => path.join(folder, `.${globalThis.crypto.randomUUID()}`)

  /** The numbers of a conversation's files, ascending; `undefined` if it does not exist or has expired. */
  const numbers = Effect.fnUntraced(
    function* (id: string) {
      if (!isId(id)) return undefined
      // A conversation does not expire during a turn.
      if (ttl !== Number.POSITIVE_INFINITY && (yield* usedAt(id)) + ttl <= (heldSince(id) ?? now())) {
        yield* discard(id)
        return undefined
      }
      const files = yield* fs.readDirectory(at(id))
      return files.flatMap((file) => numberOf(file) ?? []).sort((a, b) => a - b)
      // `BadResource`: a file has the name of a conversation.
    },
    flow(unless("BadResource"), unless("NotFound"))
  )
  const usedAt = (id: string) => Effect.map(fs.stat(at(id)), timeOf)

  /** The conversations of an owner. Other files in the folder are ignored. */
  const knownOf = (prefix: string) =>
    Effect.suspend(() => fs.readDirectory(folder)).pipe(
      unless("NotFound"),
      Effect.flatMap((ids = []) =>
        Effect.forEach(
          ids.filter((id) => id.startsWith(prefix) && isId(id)),
          (id) =>
            // An entry without status, such as a circular link, is not a conversation.
            Effect.map(
              Effect.orElseSucceed(fs.stat(at(id)), () => undefined),
              (info) => (info?.type === "Directory" ? [{ id, usedAt: timeOf(info) }] : [])
            ),
          readers
        )
      ),
      Effect.map((all) => all.flat())
    )
  const known = knownOf("")

  /** Deletes temporary files left by killed processes. */
  const sweep = Effect.gen(function* () {
    const names = (yield* unless("NotFound")(fs.readDirectory(folder))) ?? []
    yield* Effect.forEach(
      names.filter((name) => temporaryName.test(name)),
      (name) =>
        Effect.flatMap(unless("NotFound")(fs.stat(at(name))), (info) =>
          info === undefined || timeOf(info) + abandoned > now()
            ? Effect.void
            : unless("NotFound")(fs.remove(at(name), { recursive: true }))
        ),
      readers
    )
  })
  let swept = false
  const sweepOnce = Effect.suspend(() => {
    if (swept) return Effect.void
    swept = true
    return sweep
  })

  /** Deletes a conversation. False if it is already gone or contains foreign files. Concurrent appends to it are lost. */
  const discard = Effect.fnUntraced(function* (id: string) {
    const files = yield* unless("NotFound")(fs.readDirectory(at(id)))
    if (files === undefined || files.some((file) => !file.startsWith(".") && numberOf(file) === undefined)) {
      return false
    }
    const trash = away()
    const moved = yield* fs.rename(at(id), trash).pipe(Effect.as(true), unless("NotFound"))
    if (moved === undefined) return false
    yield* fs.remove(trash, { recursive: true })
    return true
  }, Effect.uninterruptible)

  const entry = (id: string, number: number) =>
    Effect.flatMap(fs.readFileString(at(id, `${number}.json`)), (text) =>
      Effect.mapError(
        decode(text),
        () =>
          new SessionsUnavailable({ reason: `${at(id, `${number}.json`)} cannot be read as part of a conversation` })
      )
    )

  /** The messages since the last reset; `undefined` if another process changes the conversation during the read. */
  const reading = Effect.fnUntraced(function* (id: string, all: ReadonlyArray<number>) {
    const version = all.at(-1) ?? 0
    const entries: Array<Entry> = []
    for (let end = all.length; end > 0; end -= readers.concurrency) {
      const some = all.slice(Math.max(0, end - readers.concurrency), end)
      const found = yield* unless("NotFound")(Effect.forEach(some, (number) => entry(id, number), readers))
      if (found === undefined) return undefined
      const start = found.findLastIndex(({ reset }) => reset === true)
      entries.unshift(...found.slice(Math.max(0, start)))
      if (start >= 0) break
    }
    const whole = entries[0]?.reset === true || entries.length === version
    const last = all.slice(all.length - entries.length)
    if (!whole || last.some((number, i) => i > 0 && number !== (last[i - 1] ?? 0) + 1)) return undefined
    return { version, messages: entries.flatMap(({ messages }) => messages) }
  })

  const load = Effect.fnUntraced(function* (id: string) {
    for (let i = 0; i < maxReadings; i++) {
      const all = yield* numbers(id)
      if (all === undefined) return undefined
      const stored = yield* reading(id, all)
      if (stored !== undefined) return stored
      yield* Effect.sleep(i)
    }
    return yield* new SessionsUnavailable({ reason: `${at(id)} has parts missing, or changes all the time` })
  })

  /** Adds the file after number `after`; false if that file already exists, or the conversation does not. */
  const put = Effect.fnUntraced(function* (id: string, after: number, content: Uint8Array) {
    const file = at(id, `${after + 1}.json`)
    const temporary = away()
    const write = Effect.scoped(
      Effect.flatMap(fs.open(temporary, { flag: "wx", mode: 0o600 }), (open) =>
        Effect.zipRight(open.writeAll(content), open.sync)
      )
    )
    const linked = yield* write.pipe(
      Effect.zipRight(fs.link(temporary, file)),
      Effect.as(true),
      unless("AlreadyExists"),
      unless("NotFound"),
      Effect.ensuring(Effect.ignore(fs.remove(temporary)))
    )
    if (linked === undefined) return false
    // The name may have become free because of a concurrent reset, which would delete this file as well.
    const all = (yield* numbers(id)) ?? []
    const later = yield* Effect.forEach(
      all.filter((number) => number > after + 1),
      (number) => unless("NotFound")(entry(id, number))
    )
    const counts = later.every((one) => one !== undefined && one.reset !== true)
    if (counts && (after === 0 || all.includes(after))) return true
    yield* unless("NotFound")(fs.remove(file))
    return false
  }, Effect.uninterruptible)

  /** Evicts conversations so that the owner can add one. One that another process deletes at the same time counts as evicted. */
  const makeRoom = Effect.fnUntraced(function* (id: string) {
    const ids = (yield* fs.readDirectory(folder)).filter(isId)
    if (ids.length < maxSessions) return
    const all = (yield* known).map((one) => ({ ...one, amount: 1 }))
    const { chosen, fits } = victims(all, ownerOf(id), 1, maxSessions, isHeld)
    yield* Effect.forEach(chosen, (one) => discard(one.id), { discard: true })
    if (!fits) return yield* new SessionsUnavailable({ reason: noRoom })
  })

  /** Files that are deleted during the count do not count. */
  const sizeOf = (id: string) =>
    Effect.flatMap(unless("NotFound")(fs.readDirectory(at(id))), (files = []) =>
      Effect.reduce(files, 0, (sum, file) =>
        Effect.map(unless("NotFound")(fs.stat(at(id, file))), (stat) => sum + Number(stat?.size ?? 0))
      )
    )
  const sizesFile = path.join(folder, ".sizes")
  const makeRoomFor =
    maxBytes === undefined
      ? () => Effect.void
      : DiskQuota.make({
          maxBytes,
          now,
          list: known,
          sizeOf,
          // Without a valid file, all conversations are measured again.
          recall: fs.readFileString(sizesFile).pipe(
            unless("NotFound"),
            Effect.map((text = "{}") => Option.getOrElse(decodeSizes(text), () => ({})))
          ),
          note: (sizes) => {
            const temporary = away()
            return fs
              .writeFileString(temporary, encodeSizes(sizes), { mode: 0o600 })
              .pipe(Effect.zipRight(fs.rename(temporary, sizesFile)), unless("NotFound"))
          },
          held: isHeld,
          discard
        })

  const summaryOf = (id: string, used: number, messages: ReadonlyArray<Message>) =>
    summary({
      id,
      title: undefined,
      metadata: noMetadata,
      createdAt: used,
      usedAt: used,
      messages: messages.length,
      opening: openingOf(messages)
    })

  /** Those that are selected, most recently used first. */
  const all = Effect.fnUntraced(function* (selection: Selection) {
    const found = yield* Effect.forEach(
      (yield* knownOf(selection.prefix ?? "")).sort((a, b) => b.usedAt - a.usedAt),
      ({ id, usedAt }) =>
        load(id).pipe(
          Effect.map((stored) =>
            stored === undefined ? [] : [{ summary: summaryOf(id, usedAt, stored.messages), messages: stored.messages }]
          ),
          Effect.catchAll((error) =>
            Effect.as(Effect.logWarning(`the conversation ${id} is left out of the list: ${error.message}`), [])
          )
        ),
      readers
    )
    const selected = found.flat().filter((one) => isSelected(one.summary, () => [one.messages], selection))
    const { after } = selection
    return after === undefined ? selected : selected.filter((one) => one.summary.usedAt < after.time)
  })

  const withTypedErrors = <A>(effect: Effect.Effect<A, PlatformError | SessionsUnavailable>) =>
    Effect.mapError(effect, (error) =>
      error._tag === "SessionsUnavailable"
        ? error
        : new SessionsUnavailable({ reason: `the folder ${folder} cannot be used: ${error.message}` })
    )

  const noLabels = () =>
    Effect.fail(new SessionsUnavailable({ reason: "a folder keeps no titles and no metadata: use a store" }))

  return {
    create: (id, { metadata = noMetadata, title, turns = [] } = {}) =>
      Effect.gen(function* () {
        if (title !== undefined || Object.keys(metadata).length > 0) return yield* noLabels()
        if (!isId(id)) return yield* new SessionsUnavailable({ reason: `'${id}' cannot be the name of a folder` })
        yield* fs.makeDirectory(folder, { recursive: true, mode: 0o700 })
        yield* sweepOnce
        yield* makeRoom(id)
        const made = yield* fs.makeDirectory(at(id), { mode: 0o700 }).pipe(Effect.as(true), unless("AlreadyExists"))
        if (made !== true) return false
        return turns.length === 0 || (yield* put(id, 0, written({ messages: messagesOf(turns) })))
      }).pipe(withTypedErrors),
    load: (id) => withTypedErrors(Effect.map(load(id), Option.fromNullable)),
    append: (id, expectedVersion, messages) =>
      Effect.gen(function* () {
        if (!isId(id)) return false
        const content = written({ messages })
        yield* makeRoomFor(id, content.length)
        return yield* put(id, expectedVersion, content)
      }).pipe(withTypedErrors),
    reset: (id) =>
      Effect.gen(function* () {
        while (true) {
          const all = yield* numbers(id)
          if (all === undefined) return false
          if (!(yield* put(id, all.at(-1) ?? 0, written({ reset: true, messages: [] })))) continue
          // Oldest first: `put` relies on it.
          for (const number of all) yield* unless("NotFound")(fs.remove(at(id, `${number}.json`)))
          return true
        }
      }).pipe(Effect.uninterruptible, withTypedErrors),
    remove: (id) =>
      withTypedErrors(Effect.flatMap(numbers(id), (all) => (all === undefined ? Effect.succeed(false) : discard(id)))),
    read: (id) =>
      Effect.gen(function* () {
        const stored = yield* load(id)
        if (stored === undefined) return Option.none()
        const used = yield* usedAt(id)
        return Option.some({
          summary: summaryOf(id, used, stored.messages),
          turns: stored.messages.length === 0 ? [] : [{ messages: stored.messages, at: used }]
        })
      }).pipe(withTypedErrors),
    update: noLabels,
    removeUnused: (id, since) =>
      Effect.gen(function* () {
        if (isHeld(id) || (yield* numbers(id)) === undefined || (yield* usedAt(id)) >= since) return false
        return yield* discard(id)
      }).pipe(withTypedErrors),
    list: (selection = {}) =>
      Effect.map(
        Effect.suspend(() => all(selection)),
        (found) => found.slice(0, selection.limit ?? 50).map((one) => one.summary)
      ).pipe(withTypedErrors),
    search: (words, selection = {}) =>
      Effect.map(
        Effect.suspend(() => all({ ...selection, after: undefined, words })),
        (matching) =>
          matching.flatMap(({ messages, summary: { id, title, usedAt } }): ReadonlyArray<Hit> => {
            const here = found(messages, words)
            return here === undefined ? [] : [{ id, title, turn: 1, at: usedAt, ...here }]
          })
      ).pipe(withTypedErrors),
    // Turns are ordered within this process only.
    turn
  }
})

/**
 * Keeps conversations in a folder, which is created on first use and readable by its owner only.
 *
 * @example
 * import { NodeContext } from "@effect/platform-node"
 * import { Cortex, SessionFolder } from "aicortex"
 * import { Layer } from "effect"
 *
 * const store = SessionFolder.layer({ folder: "sessions" }).pipe(Layer.provide(NodeContext.layer))
 * const cortex = Cortex.layer({}, { store })
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = (options: Options): Layer.Layer<SessionStore, never, FileSystem.FileSystem | Path.Path> =>
  Layer.effect(SessionStore, make(options))

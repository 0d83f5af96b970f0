/**
 * A response store over a key-value store.
 *
 * The types of `@effect/platform/KeyValueStore` mention the browser's `Storage`, so compiling against them needs the
 * DOM types: this module is not exported by the package.
 */
import type { PlatformError } from "@effect/platform/Error"
import * as KeyValueStore from "@effect/platform/KeyValueStore"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import { type Bounds, defaults, ResponseCacheStore, type Store } from "../ResponseCache.js"
import { Entry } from "./entry.js"

class Unreadable extends Data.TaggedError("Unreadable")<{ readonly message: string }> {}

const reasonOf = (error: PlatformError | ParseResult.ParseError | Unreadable): string => {
  if (error._tag !== "ParseError") return error.message
  try {
    return ParseResult.ArrayFormatter.formatErrorSync(error)[0]?.message ?? error.message
  } catch {
    return "it is nested too deeply"
  }
}

/** Maximum number of answers per shelf. */
const shelfSize = 8

const Shelf = Schema.parseJson(
  Schema.Array(
    Schema.Struct({ key: Schema.String, owner: Schema.optionalWith(Schema.String, { exact: true }), entry: Entry })
  )
)
type Shelf = typeof Shelf.Type
const decodeShelf = Schema.decode(Shelf)
const encodeShelf = Schema.encode(Shelf)

/**
 * A key-value store cannot be enumerated, so answers are kept on a fixed number of shelves, one key each. The answer's
 * key determines the shelf; on a full shelf the owner with the most entries loses its least recently used one. That
 * enforces the bounds without an index shared between processes. A shelf has its share of `maxBytes`, 1/125 by default:
 * a larger answer is not stored.
 *
 * Entries that cannot be read or written count as missing, with a warning in the log.
 */
export const makeStoreKeyValue = Effect.fnUntraced(function* (
  bounds?: Bounds
): Effect.fn.Return<Store, never, KeyValueStore.KeyValueStore> {
  const values = yield* KeyValueStore.KeyValueStore
  const clock = yield* Effect.clock
  const { maxBytes = defaults.maxBytes, maxEntries = defaults.maxEntries } = bounds ?? {}
  const count = Math.max(1, Math.floor(maxEntries / shelfSize))
  const places = Math.floor(maxEntries / count)
  const room = Math.floor(maxBytes / count)
  /** Shelves are locked within this process; another process may cost it an answer, no more. */
  const locks = Array.from({ length: count }, () => Effect.unsafeMakeSemaphore(1))
  const encoder = new TextEncoder()

  const nameOf = (shelf: number): string => `responses-${shelf}`
  const warn = (what: string, shelf: number) => (error: PlatformError | ParseResult.ParseError | Unreadable) =>
    Effect.logWarning(`The response cache could not ${what} '${nameOf(shelf)}': ${reasonOf(error)}`)

  const read = (shelf: number) =>
    values.get(nameOf(shelf)).pipe(
      Effect.flatMap(Option.match({ onNone: () => Effect.succeed<Shelf>([]), onSome: (text) => decodeShelf(text) })),
      Effect.map((all) => {
        const now = clock.unsafeCurrentTimeMillis()
        return all.filter(({ entry }) => now < entry.expiresAt)
      }),
      // JSON may be nested so deeply that parsing overflows the stack.
      Effect.catchAllDefect((defect) => Effect.fail(new Unreadable({ message: String(defect) })))
    )
  /** The index of the entry to evict. */
  const surplus = (items: Shelf): number => {
    const counts = new Map<string | undefined, number>()
    for (const { owner } of items) counts.set(owner, (counts.get(owner) ?? 0) + 1)
    const most = Math.max(...counts.values())
    return items.findLastIndex(({ owner }) => counts.get(owner) === most)
  }
  const encode = (items: Shelf) =>
    Effect.map(encodeShelf(items), (text) => ({ text, fits: encoder.encode(text).length <= room }))
  /** Writes as many as fit, first ones first. */
  const write = Effect.fnUntraced(
    function* (shelf: number, all: Shelf) {
      let items = all
      while (items.length > places) items = items.toSpliced(surplus(items), 1)
      let encoded = yield* encode(items)
      while (!encoded.fits && items.length > 0) {
        items = items.toSpliced(surplus(items), 1)
        encoded = yield* encode(items)
      }
      yield* values.set(nameOf(shelf), encoded.text)
    },
    (effect, shelf) => Effect.catchAll(effect, warn("write", shelf))
  )
  const at = <A>(key: string, use: (shelf: number) => Effect.Effect<A>): Effect.Effect<A> =>
    Effect.suspend(() => {
      const shelf = Number.parseInt(key.slice(0, 8), 16) % count || 0
      return locks[shelf]?.withPermits(1)(use(shelf)) ?? use(shelf)
      // An interrupted write is lost.
    }).pipe(Effect.uninterruptible)

  return {
    get: (key) =>
      at(
        key,
        Effect.fnUntraced(function* (shelf) {
          const items = yield* Effect.catchAll(read(shelf), (error) => Effect.as(warn("read", shelf)(error), []))
          const item = items.find((item) => item.key === key)
          if (item === undefined) return Option.none()
          if (items[0] !== item) yield* write(shelf, [item, ...items.filter((other) => other !== item)])
          return Option.some(item.entry)
        })
      ),
    put: (key, entry, owner) =>
      at(
        key,
        Effect.fnUntraced(function* (shelf) {
          const item = owner === undefined ? { key, entry } : { key, owner, entry }
          // The read has already warned: the shelf is rewritten.
          const items = yield* Effect.catchAll(read(shelf), () => Effect.succeed<Shelf>([]))
          const others = items.filter((other) => other.key !== key)
          const alone = yield* Effect.orElseSucceed(encode([item]), () => ({ fits: false }))
          yield* write(shelf, alone.fits ? [item, ...others] : others)
        })
      ),
    clear: Effect.forEach(
      locks,
      (lock, shelf) =>
        values.has(nameOf(shelf)).pipe(
          Effect.flatMap((there) => (there ? values.remove(nameOf(shelf)) : Effect.void)),
          Effect.catchAll(warn("clear", shelf)),
          lock.withPermits(1)
        ),
      { discard: true }
    )
  } satisfies Store
})

/** Stores answers in a key-value store, such as files: `KeyValueStore.layerFileSystem(folder)`. */
export const layerStoreKeyValue = (
  bounds?: Bounds
): Layer.Layer<ResponseCacheStore, never, KeyValueStore.KeyValueStore> =>
  Layer.effect(ResponseCacheStore, makeStoreKeyValue(bounds))

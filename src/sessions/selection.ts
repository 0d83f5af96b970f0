/** Checks which conversations are asked for: filters, limits and cursors. */
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import { InvalidRequest } from "../Errors.js"
import { decoder, optional, wholeFrom, withoutNulls } from "../internal/optionSchemas.js"
import { checkMetadata } from "./labels.js"
import type { Scalar } from "./record.js"
import type { After, Page, Selection } from "./summary.js"

/** The longest text that is searched for, in characters, and how many words of it. */
const longestQuery = 1_000
const maxWords = 16

const refuse = (field: string, reason: string): Either.Either<never, InvalidRequest> =>
  Either.left(new InvalidRequest({ field, reason }))

const time = Schema.Union(Schema.Number, Schema.ValidDateFromSelf)

const filters = {
  prefix: optional(Schema.String),
  title: optional(Schema.String),
  text: optional(Schema.String),
  metadata: optional(Schema.Unknown),
  since: optional(time),
  until: optional(time)
}
const paging = { limit: optional(wholeFrom(1)), cursor: optional(Schema.String) }

const filterOptions = decoder(Schema.Struct(filters))
const listOptions = decoder(Schema.Struct({ ...filters, ...paging }))

const isPlain = (text: string): boolean => text.length <= longestQuery && !text.includes("\u0000")

/** The words of a text to search for, in lower case. */
export const wordsIn = (text: string, field: string): Either.Either<ReadonlyArray<string>, InvalidRequest> => {
  if (!isPlain(text)) return refuse(field, `must have at most ${longestQuery} characters and no NUL`)
  const words = [...new Set(text.toLowerCase().split(/\s+/))].filter((word) => word !== "")
  return words.length > maxWords ? refuse(field, `must have at most ${maxWords} words`) : Either.right(words)
}

// =============================================================================
// cursors
// =============================================================================

const encoded = (value: unknown): string => {
  const bytes = new TextEncoder().encode(JSON.stringify(value))
  return btoa(String.fromCharCode(...bytes))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replace(/=+$/, "")
}

export const cursorOf = ({ id, time, turn }: After): string =>
  encoded(turn === undefined ? [time, id] : [time, id, turn])

const decodeCursor = Schema.decodeUnknownEither(
  Schema.parseJson(
    Schema.Union(
      Schema.Tuple(Schema.Finite, Schema.String),
      Schema.Tuple(Schema.Finite, Schema.String, Schema.NonNegativeInt)
    )
  )
)

/** Where a cursor points to; `turns` tells whether it is one of a list of turns. */
export const afterOf = (cursor: string, turns: boolean): Either.Either<After, InvalidRequest> => {
  const wrong = refuse("cursor", "must be the `next` of a page of this list")
  if (cursor.length > 4_096 || !/^[\w-]+$/.test(cursor)) return wrong
  let json: string
  try {
    const bytes = Uint8Array.from(atob(cursor.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0))
    json = new TextDecoder("utf-8", { fatal: true }).decode(bytes)
  } catch {
    return wrong
  }
  const found = decodeCursor(json)
  if (Either.isLeft(found) || found.right[1].includes("\u0000") || turns !== (found.right.length === 3)) return wrong
  const [time, id, turn] = found.right
  return Either.right(turn === undefined ? { time, id } : { time, id, turn })
}

/** A page of what was found, of which one more than `limit` was asked for. */
export const pageOf = <A>(found: ReadonlyArray<A>, limit: number, after: (item: A) => After): Page<A> => {
  const items = found.slice(0, limit)
  const last = items.at(-1)
  return { items, next: last === undefined || found.length <= limit ? undefined : cursorOf(after(last)) }
}

// =============================================================================
// options
// =============================================================================

const filled = (options: unknown): unknown => withoutNulls((options ?? {}) as object)

const milliseconds = (
  given: number | Date | undefined,
  field: string
): Either.Either<number | undefined, InvalidRequest> =>
  given === undefined
    ? Either.right(undefined)
    : Number.isFinite(Number(given))
      ? Either.right(Number(given))
      : refuse(field, "must be a time: milliseconds since the epoch, or a Date")

const membersOf = (given: unknown): Either.Either<{ readonly [name: string]: Scalar }, InvalidRequest> =>
  Either.flatMap(checkMetadata(given), (members) => {
    const composed = Object.keys(members).find((name) => typeof members[name] === "object" && members[name] !== null)
    return composed === undefined
      ? Either.right(members as { readonly [name: string]: Scalar })
      : refuse("metadata", `${composed} must be a text, a number, true, false or null`)
  })

const selectionOf = (
  given: Either.Either.Right<ReturnType<typeof filterOptions>>
): Either.Either<Selection, InvalidRequest> =>
  Either.gen(function* () {
    const { metadata, prefix, text = "", title = "" } = given
    if (!isPlain(title)) yield* refuse("title", `must have at most ${longestQuery} characters and no NUL`)
    const words = yield* wordsIn(text, "text")
    return {
      prefix,
      ...(title === "" ? {} : { title: title.toLowerCase() }),
      words,
      ...(metadata === undefined ? {} : { metadata: yield* membersOf(metadata) }),
      since: yield* milliseconds(given.since, "since"),
      until: yield* milliseconds(given.until, "until")
    }
  })

/** Which conversations a filter means. */
export const filterOf = (options: unknown): Either.Either<Selection, InvalidRequest> =>
  Either.flatMap(filterOptions(filled(options)), selectionOf)

/** Which conversations a list has. */
export const listOf = (
  options: unknown,
  turns = false
): Either.Either<Selection & { readonly limit: number }, InvalidRequest> =>
  Either.gen(function* () {
    const { cursor, limit = 50, ...given } = yield* listOptions(filled(options))
    const selection = yield* selectionOf(given)
    return cursor === undefined
      ? { ...selection, limit }
      : { ...selection, limit, after: yield* afterOf(cursor, turns) }
  })

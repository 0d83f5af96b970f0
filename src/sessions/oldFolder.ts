/**
 * Reads the conversations that earlier versions kept in a folder.
 *
 * Each conversation is a subfolder. Messages appended together are one file in it: `1.json`, `2.json` and so on. A reset
 * is a file too; the files before it no longer count. Names that begin with a dot are not conversations.
 */
import type { PlatformError } from "@effect/platform/Error"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { Message } from "../Message.js"
import type { StoredTurn } from "./record.js"

/** A conversation as it was kept. */
export interface OldSession {
  readonly id: string
  /** The oldest first. */
  readonly turns: ReadonlyArray<StoredTurn>
  /** When it was made and last written to, in milliseconds since the epoch. */
  readonly createdAt: number
  readonly usedAt: number
}

/** Why a conversation cannot be read. */
export interface Unreadable {
  readonly id: string
  readonly reason: string
}

const decode = Schema.decode(
  Schema.parseJson(
    Schema.Struct({
      /** The messages before it no longer count. */
      reset: Schema.optionalWith(Schema.Literal(true), { exact: true }),
      messages: Schema.Array(Message)
    })
  )
)

const isId = (name: string): boolean => /^[a-z0-9-]{1,128}$/.test(name)

const numberOf = (file: string): number | undefined => {
  const digits = /^([1-9]\d{0,14})\.json$/.exec(file)?.[1]
  return digits === undefined ? undefined : Number(digits)
}

const timeOf = ({ mtime }: FileSystem.File.Info): number =>
  Option.match(mtime, { onNone: () => 0, onSome: (date) => date.getTime() })

/** What is not there: another process has taken it, or a file stands where a folder would. */
const isAbsent = (error: PlatformError): boolean =>
  error._tag === "SystemError" && (error.reason === "NotFound" || error.reason === "BadResource")

const orNone = <A, R>(effect: Effect.Effect<A, PlatformError, R>): Effect.Effect<A | undefined, PlatformError, R> =>
  Effect.catchIf(effect, isAbsent, () => Effect.succeed(undefined))

/** The ids of the conversations in a folder; `undefined` where there is no folder. */
export const idsIn = (
  folder: string
): Effect.Effect<ReadonlyArray<string> | undefined, PlatformError, FileSystem.FileSystem | Path.Path> =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const names = yield* orNone(fs.readDirectory(folder))
    if (names === undefined) return undefined
    const ids: Array<string> = []
    for (const name of names.filter(isId).sort()) {
      // Files of others, and links that lead nowhere, are no conversations.
      const info = yield* Effect.orElseSucceed(fs.stat(path.join(folder, name)), () => undefined)
      if (info?.type === "Directory") ids.push(name)
    }
    return ids
  })

/** A conversation of the folder; `undefined` where it is gone, and a reason where it cannot be read. */
export const read = (
  folder: string,
  id: string
): Effect.Effect<OldSession | Unreadable | undefined, PlatformError, FileSystem.FileSystem | Path.Path> =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const at = path.join(folder, id)
    const info = yield* orNone(fs.stat(at))
    const names = yield* orNone(fs.readDirectory(at))
    if (info === undefined || names === undefined) return undefined
    const numbers = names.flatMap((name) => numberOf(name) ?? []).sort((a, b) => a - b)
    const turns: Array<StoredTurn> = []
    let expected = numbers.at(-1) ?? 0
    let isWhole = expected === 0
    for (const number of numbers.reverse()) {
      const file = path.join(at, `${number}.json`)
      if (number !== expected--) return { id, reason: `${path.join(at, `${expected + 1}.json`)} is missing` }
      const entry = yield* Effect.either(
        Effect.all({ info: fs.stat(file), entry: Effect.flatMap(fs.readFileString(file), decode) })
      )
      if (Either.isLeft(entry)) {
        const isGone = entry.left._tag === "SystemError" && entry.left.reason === "NotFound"
        return isGone ? undefined : { id, reason: `${file} cannot be read as part of a conversation` }
      }
      const { messages, reset } = entry.right.entry
      if (messages.length > 0) turns.unshift({ messages, at: timeOf(entry.right.info) })
      isWhole = reset === true || number === 1
      if (reset === true) break
    }
    if (!isWhole) return { id, reason: `${path.join(at, `${expected}.json`)} is missing` }
    const usedAt = timeOf(info)
    return { id, turns, createdAt: turns[0]?.at ?? usedAt, usedAt: Math.max(usedAt, turns.at(-1)?.at ?? 0) }
  })

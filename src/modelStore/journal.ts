/**
 * What is written down of a file while it is downloaded: where it comes from, and which bytes of it are there. Lines are
 * only appended, each after its bytes were written, so a process that is killed leaves nothing that is not so.
 */
import * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import { lengthOf, merged, type Range } from "./ranges.js"

/** What a file is: bytes of another one are worth nothing. */
const Identity = Schema.Struct({
  /** A checksum of the address: that itself may hold a secret. */
  url: Schema.String,
  size: Schema.optionalWith(Schema.NonNegativeInt, { exact: true }),
  sha256: Schema.optionalWith(Schema.String, { exact: true }),
  etag: Schema.optionalWith(Schema.String, { exact: true })
})
export type Identity = typeof Identity.Type

const Line = Schema.parseJson(Identity)
const decode = Schema.decodeUnknownEither(Line)
const encode = Schema.encodeSync(Line)

/** What was written down. `complete`: the file was checked and has its name. */
export interface Journal {
  readonly identity: Identity
  readonly there: ReadonlyArray<Range>
  readonly complete: boolean
}

const complete = "complete"

/** The name of the journal of a file. */
export const journalOf = (file: string): string => `${file}.journal`

/** What is still to come under this name. */
export const partOf = (file: string): string => `${file}.part`

/** Reads a journal. The last line counts only where it is whole. */
export const parseJournal = (text: string): Journal | undefined => {
  const [first = "", ...lines] = text.split("\n").slice(0, -1)
  const identity = decode(first)
  if (Either.isLeft(identity)) return undefined
  const there = lines.flatMap((line): ReadonlyArray<Range> => {
    const match = /^(\d+) (\d+)$/.exec(line)
    if (match === null) return []
    const start = Number(match[1])
    return [{ start, end: start + Number(match[2]) }]
  })
  return { identity: identity.right, there: merged(there), complete: lines.includes(complete) }
}

/** The journal of a file; `undefined` where there is none. */
export const readJournal = (file: string) =>
  Effect.flatMap(FileSystem.FileSystem, (fs) =>
    fs.readFileString(journalOf(file)).pipe(
      Effect.map(parseJournal),
      Effect.catchIf(
        (error) => error._tag === "SystemError" && error.reason === "NotFound",
        () => Effect.succeed(undefined)
      )
    )
  )

/** Rewrites a journal in its shortest form. */
export const writeJournal = Effect.fnUntraced(function* (file: string, { identity, there }: Omit<Journal, "complete">) {
  const fs = yield* FileSystem.FileSystem
  const target = journalOf(file)
  const lines = [encode(identity), ...there.map(({ end, start }) => `${start} ${end - start}`), ""]
  yield* fs.writeFileString(`${target}.new`, lines.join("\n"), { mode: 0o600 })
  yield* fs.rename(`${target}.new`, target)
})

const append = (file: string, line: string) =>
  Effect.flatMap(FileSystem.FileSystem, (fs) => fs.writeFileString(journalOf(file), `${line}\n`, { flag: "a" }))

/** Writes down that bytes are there. */
export const note = (file: string, start: number, length: number) => append(file, `${start} ${length}`)

/** Writes down that the file is complete, and was checked. */
export const noteComplete = (file: string) => append(file, complete)

/** How many bytes of a file are there. */
export const doneBytes = (journal: Journal | undefined): number => (journal === undefined ? 0 : lengthOf(journal.there))

/**
 * Conversations of files: our own exports, and what AI Cortex and Oblix have. A file is one JSON value (a conversation,
 * a list of them, or an object of them by their ids) or JSON lines.
 *
 * - our own: `Exported`
 * - AI Cortex: the `history` of a session, `[{ role, content }]`, also as `{ id, history }`, or `{ ID: history, … }`
 * - Oblix: `{ id, title, created_at, updated_at, messages: [{ id, role, content, timestamp }], context, metadata }`
 * - messages alone: `{ id, messages }`, as `aicortex sessions show --json` prints them
 */
import * as Either from "effect/Either"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import { decodeMessages } from "../ChatRequest.js"
import { InvalidRequest } from "../Errors.js"
import type { Message } from "../Message.js"
import { ExportedSchema } from "./exported.js"
import { checkMetadata, checkTitle } from "./labels.js"
import { freeze, type Seed, type StoredTurn } from "./record.js"

/** A conversation that can be stored. */
export interface Draft {
  /** The id that it had; `undefined`: none. */
  readonly id: string | undefined
  /** Whether it was private. */
  readonly private: boolean
  readonly seed: Seed & { readonly turns: ReadonlyArray<StoredTurn> }
}

/** A conversation of a file, or why it cannot be taken. */
export interface ImportedSession {
  /** Its place in the file; the first is 1. */
  readonly at: number
  /** The id that it had, where that can be told. */
  readonly id: string | undefined
  readonly draft: Either.Either<Draft, string>
}

interface Fields {
  readonly [name: string]: unknown
}

const isObject = (value: unknown): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const isMessages = (value: unknown): value is ReadonlyArray<Fields> =>
  Array.isArray(value) && value.every((one) => isObject(one) && typeof one["role"] === "string")

const inWords = ({ field, reason }: InvalidRequest): string => `${field}: ${reason}`

/** A time of a file, not later than now; a number counts seconds, as Python does. */
const timeOf = (value: unknown, name: string, now: number): Either.Either<number | undefined, string> => {
  if (value === undefined || value === null) return Either.right(undefined)
  const time = typeof value === "number" ? value * 1_000 : typeof value === "string" ? Date.parse(value) : Number.NaN
  return time >= 0
    ? Either.right(Math.min(time, now))
    : Either.left(`${name}: must be a time such as 2026-01-31T12:00:00Z`)
}

/** A turn begins with each message of the user. */
const turnsOf = (messages: ReadonlyArray<Message>, times: ReadonlyArray<number>): ReadonlyArray<StoredTurn> => {
  const turns: Array<{ messages: Array<Message>; at: number }> = []
  for (const [i, message] of messages.entries()) {
    const last = turns.at(-1)
    const at = times[i] ?? 0
    if (last === undefined || (message.role === "user" && last.messages.some(({ role }) => role !== "system"))) {
      turns.push({ messages: [message], at })
    } else {
      last.messages.push(message)
      last.at = at
    }
  }
  return turns
}

const decodeOwn = Schema.decodeUnknownEither(ExportedSchema, { onExcessProperty: "error" })

const own = (value: Fields, now: number): Either.Either<Draft, string> =>
  Either.gen(function* () {
    const given = yield* Either.mapLeft(decodeOwn(value), (error) => {
      const issue = ParseResult.ArrayFormatter.formatErrorSync(error)[0]
      return `${issue?.path.join(".") ?? ""}: ${issue?.message ?? "is not valid"}`
    })
    const turns: Array<StoredTurn> = []
    for (const { at, ...turn } of given.turns) turns.push({ ...turn, at: (yield* timeOf(at, "turns.at", now)) ?? now })
    return {
      id: given.id,
      private: given.private,
      seed: {
        ...(given.title === null ? {} : { title: yield* Either.mapLeft(checkTitle(given.title), inWords) }),
        metadata: yield* Either.mapLeft(checkMetadata(given.metadata), inWords),
        createdAt: yield* timeOf(given.createdAt, "createdAt", now),
        usedAt: yield* timeOf(given.usedAt, "usedAt", now),
        turns: freeze(turns)
      }
    }
  })

/** What such a file may have in addition to its messages. */
const known = new Set(["id", "title", "created_at", "updated_at", "metadata", "context", "messages", "history"])

/** A message of a file of others, which has an id and a time too. */
const messageOf = ({ id: _, timestamp: _time, ...message }: Fields): Fields => message

const foreign = (value: Fields, messages: ReadonlyArray<Fields>, now: number): Either.Either<Draft, string> =>
  Either.gen(function* () {
    const unknown = Object.keys(value).find((name) => !known.has(name))
    if (unknown !== undefined) yield* Either.left(`${unknown}: is not known in a conversation`)
    const createdAt = yield* timeOf(value["created_at"], "created_at", now)
    const usedAt = yield* timeOf(value["updated_at"], "updated_at", now)
    const times: Array<number> = []
    for (const [i, { timestamp }] of messages.entries()) {
      const time = yield* timeOf(timestamp, `messages.${i}.timestamp`, now)
      times.push(time ?? times.at(-1) ?? createdAt ?? usedAt ?? now)
    }
    const said = messages.length === 0 ? [] : yield* Either.mapLeft(decodeMessages(messages.map(messageOf)), inWords)
    const { context, id, metadata, title } = value
    const more = isObject(context) && Object.keys(context).length === 0 ? undefined : (context ?? undefined)
    const noted = { ...(isObject(metadata) ? metadata : {}), ...(more === undefined ? {} : { context: more }) }
    if (metadata !== undefined && metadata !== null && !isObject(metadata))
      yield* Either.left("metadata: must be an object")
    return {
      id: typeof id === "string" ? id : undefined,
      private: false,
      seed: {
        ...(title === undefined || title === null || title === ""
          ? {}
          : { title: yield* Either.mapLeft(checkTitle(title), inWords) }),
        metadata: yield* Either.mapLeft(checkMetadata(noted), inWords),
        createdAt,
        usedAt: usedAt ?? times.at(-1),
        turns: freeze(turnsOf(said, times))
      }
    }
  })

const draftOf = (value: unknown, now: number): Either.Either<Draft, string> => {
  if (isMessages(value)) return foreign({}, value, now)
  if (!isObject(value)) return Either.left("must be a conversation: an object, or a list of messages")
  if (value["object"] === "aicortex.session") return own(value, now)
  const { history, messages } = value
  const said = messages ?? history
  if (messages !== undefined && history !== undefined)
    return Either.left("has messages and history: only one of them can be")
  return isMessages(said)
    ? foreign(value, said, now)
    : Either.left("must have messages or history: a list of objects with role and content")
}

const candidate = (value: unknown, i: number, now: number): ImportedSession => {
  const draft = draftOf(value, now)
  const id = isObject(value) && typeof value["id"] === "string" ? value["id"] : undefined
  return { at: i + 1, id, draft }
}

/** Whether it is one conversation, and not several. */
const isOne = (value: Fields): boolean => "object" in value || "messages" in value || "history" in value

const ofValue = (value: unknown, now: number): Either.Either<ReadonlyArray<ImportedSession>, string> => {
  if (Array.isArray(value) && (value.length === 0 || !isMessages(value))) {
    return value.length === 0
      ? Either.left("must have a conversation")
      : Either.right(value.map((one, i) => candidate(one, i, now)))
  }
  if (isObject(value) && !isOne(value)) {
    const all = Object.entries(value)
    return all.length === 0 || !all.every(([, one]) => isMessages(one))
      ? Either.left("must be a conversation, a list of conversations, or an object with a list of messages for each id")
      : Either.right(all.map(([id, history], i) => candidate({ id, history }, i, now)))
  }
  return isObject(value) || isMessages(value)
    ? Either.right([candidate(value, 0, now)])
    : Either.left("must be a conversation, or a list of conversations")
}

const parsed = (text: string): Either.Either<unknown, string> =>
  Either.try({ try: (): unknown => JSON.parse(text), catch: () => "is not JSON" })

const ofText = (given: string, now: number): Either.Either<ReadonlyArray<ImportedSession>, string> => {
  const text = given.replace(/^\uFEFF/, "")
  const whole = parsed(text)
  if (Either.isRight(whole)) return ofValue(whole.right, now)
  const lines = text.split("\n").map((line) => line.trim())
  const all = lines.flatMap((line, i): ReadonlyArray<ImportedSession> => {
    if (line === "") return []
    const value = parsed(line)
    return Either.isLeft(value)
      ? [{ at: i + 1, id: undefined, draft: Either.left(value.left) }]
      : [candidate(value.right, i, now)]
  })
  return all.length < 2 || all.every(({ draft }) => Either.isLeft(draft))
    ? Either.left("must be JSON, or JSON lines with a conversation in each")
    : Either.right(all)
}

/** The conversations of a text or a value. Fails where there is none to be found. */
export const candidates = (
  input: unknown,
  now: number
): Either.Either<ReadonlyArray<ImportedSession>, InvalidRequest> => {
  const found =
    typeof input === "string"
      ? ofText(input, now)
      : Either.flatMap(
          // A copy that nothing else changes.
          Either.try({
            try: (): unknown => JSON.parse(JSON.stringify(input)),
            catch: () => "must be JSON"
          }),
          (value) => ofValue(value, now)
        )
  return Either.mapLeft(found, (reason) => new InvalidRequest({ field: "input", reason }))
}

/** Conversations as rows of a store: how they are read and written. */
import type { SqlClient } from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import { ownerOf } from "./eviction.js"
import { decodeUsage } from "./exported.js"
import { type Metadata, messagesOf, noMetadata, type Seed, type TurnUsage } from "./record.js"
import { encodeMessages, withoutNul, wordsOf } from "./sqlMessages.js"
import { derivedTitle, openingOf, type Summary, summary } from "./summary.js"

/** A row of a conversation, without its turns. */
export interface SessionRow {
  readonly id: string
  readonly title: string | null
  readonly metadata: string
  readonly created_at: number
  readonly used_at: number
  readonly messages: number
  readonly opening: string | null
}

const isObject = (value: unknown): value is { readonly [name: string]: unknown } =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** An object that this library has written; none where it cannot be read. */
const objectIn = (text: string): { readonly [name: string]: unknown } => {
  try {
    const value: unknown = JSON.parse(text)
    return isObject(value) ? value : {}
  } catch {
    return {}
  }
}

export const metadataIn = (text: string): Metadata => (text === "{}" ? noMetadata : (objectIn(text) as Metadata))

export const summaryOf = ({ created_at, id, messages, metadata, opening, title, used_at }: SessionRow): Summary =>
  summary({
    id,
    title: title ?? undefined,
    metadata: metadataIn(metadata),
    createdAt: created_at,
    usedAt: used_at,
    messages,
    opening: opening ?? undefined
  })

export const usageIn = (text: string | null): TurnUsage | undefined => {
  if (text === null) return undefined
  const found = decodeUsage(text)
  return found._tag === "Some" ? found.value : undefined
}
export const usageText = (usage: TurnUsage | undefined): string | null =>
  usage === undefined ? null : JSON.stringify(usage)

/** What a conversation is called, in lower case, for searches. */
export const labelOf = (title: string | undefined, opening: string | undefined): string =>
  withoutNul((title ?? derivedTitle(opening) ?? "").toLowerCase())

const nullable = (text: string | undefined): string | null => (text === undefined ? null : withoutNul(text))

/**
 * Makes a conversation with its turns; inside a transaction. False if there is one of this id. `mark` tells who has written
 * the turns.
 */
export const insert = (
  sql: SqlClient,
  id: string,
  { createdAt, metadata = noMetadata, title, turns = [], usedAt }: Seed & { createdAt: number; usedAt: number },
  mark: string
): Effect.Effect<boolean, SqlError> =>
  Effect.gen(function* () {
    const messages = messagesOf(turns)
    const written = turns.map((turn) => encodeMessages(turn.messages))
    const bytes = written.reduce((sum, text) => sum + text.length, 0)
    const opening = openingOf(messages)
    const made = yield* sql`INSERT INTO aicortex_sessions
      (id, owner, version, messages, bytes, opening, title, metadata, label, created_at, used_at)
      VALUES (${id}, ${ownerOf(id)}, ${turns.length}, ${messages.length}, ${bytes}, ${nullable(opening)},
        ${nullable(title)}, ${JSON.stringify(metadata)}, ${labelOf(title, opening)},
        ${Math.round(createdAt)}, ${Math.round(usedAt)})
      ON CONFLICT (id) DO NOTHING RETURNING id`
    if (made.length === 0) return false
    for (const [i, turn] of turns.entries()) {
      const text = written[i] ?? "[]"
      yield* sql`INSERT INTO aicortex_turns
        (session_id, number, append_id, messages, words, bytes, usage, created_at)
        VALUES (${id}, ${i + 1}, ${mark}, ${text}, ${wordsOf(turn.messages)}, ${text.length},
          ${usageText(turn.usage)}, ${Math.round(turn.at)})`
    }
    return true
  })

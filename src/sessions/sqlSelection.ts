/** Which conversations and turns are selected, as SQL that both engines run. */
import type { SqlClient } from "@effect/sql/SqlClient"
import type { Fragment } from "@effect/sql/Statement"
import type { Dialect } from "../store/dialect.js"
import { isFree } from "./sqlHold.js"
import { withoutNul } from "./sqlMessages.js"
import type { SessionRow } from "./sqlRecord.js"
import type { Selection } from "./summary.js"

/** A pattern of `LIKE` for texts that have this one in them; `!` escapes. */
const containing = (text: string): string => `%${withoutNul(text).replace(/[!%_]/g, "!$&")}%`

const hasWords = (sql: SqlClient, words: ReadonlyArray<string>): Fragment =>
  sql.and(words.map((word) => sql`t.words LIKE ${containing(word)} ESCAPE '!'`))

/** Conditions on a conversation `s`. */
const conditions = (
  sql: SqlClient,
  dialect: Dialect,
  { metadata = {}, prefix = "", since = 0, title = "", until }: Selection,
  aliveSince: number
): ReadonlyArray<Fragment> => [
  ...(aliveSince < 0 ? [] : [sql`(s.used_at > ${aliveSince} OR NOT (${isFree(sql, dialect)}))`]),
  ...(since <= 0 ? [] : [sql`s.used_at >= ${Math.ceil(since)}`]),
  ...(until === undefined ? [] : [sql`s.used_at < ${Math.ceil(until)}`]),
  ...(prefix === "" ? [] : [sql`substr(s.id, 1, ${[...prefix].length}) = ${withoutNul(prefix)}`]),
  ...(title === "" ? [] : [sql`s.label LIKE ${containing(title)} ESCAPE '!'`]),
  ...Object.entries(metadata).map(([name, value]) => dialect.hasMember(sql, "s.metadata", name, JSON.stringify(value)))
]

/** The selected conversations that were used after `aliveSince`, most recently used first. */
export const sessions = (sql: SqlClient, dialect: Dialect, selection: Selection, aliveSince: number) => {
  const { after, limit = 50, words = [] } = selection
  const all = [
    ...conditions(sql, dialect, selection, aliveSince),
    ...(words.length === 0
      ? []
      : [sql`EXISTS (SELECT 1 FROM aicortex_turns t WHERE t.session_id = s.id AND ${hasWords(sql, words)})`]),
    ...(after === undefined
      ? []
      : [sql`(s.used_at < ${after.time} OR (s.used_at = ${after.time} AND s.id < ${after.id}))`])
  ]
  return sql<SessionRow>`SELECT s.id, s.title, s.metadata, s.created_at, s.used_at, s.messages, s.opening
    FROM aicortex_sessions s WHERE ${sql.and(all)} ORDER BY s.used_at DESC, s.id DESC LIMIT ${limit}`
}

/** A turn in which all words were said. */
export interface TurnRow {
  readonly id: string
  readonly title: string | null
  readonly opening: string | null
  readonly turn: number
  readonly at: number
  readonly messages: string
}

/** The turns of the selected conversations that have these words, the newest first. */
export const turns = (
  sql: SqlClient,
  dialect: Dialect,
  words: ReadonlyArray<string>,
  selection: Selection,
  aliveSince: number
) => {
  const { after, limit = 50 } = selection
  const turn = sql`(SELECT COUNT(*) FROM aicortex_turns c WHERE c.session_id = t.session_id AND c.number <= t.number)`
  const all = [
    ...conditions(sql, dialect, selection, aliveSince),
    hasWords(sql, words),
    ...(after === undefined
      ? []
      : [
          sql`(t.created_at < ${after.time} OR (t.created_at = ${after.time} AND (s.id < ${after.id}
            OR (s.id = ${after.id} AND ${turn} < ${after.turn ?? 0}))))`
        ])
  ]
  return sql<TurnRow>`SELECT s.id, s.title, s.opening, ${turn} AS turn, t.created_at AS at, t.messages
    FROM aicortex_turns t JOIN aicortex_sessions s ON s.id = t.session_id
    WHERE ${sql.and(all)} ORDER BY t.created_at DESC, s.id DESC, t.number DESC LIMIT ${limit}`
}

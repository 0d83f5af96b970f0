/** A conversation as a file: JSON that can be imported again, or Markdown for people. */
import * as Schema from "effect/Schema"
import { images, Message, text } from "../Message.js"
import { isPrivate } from "./ids.js"
import type { Metadata, StoredTurn, TurnUsage } from "./record.js"
import type { StoredRecord } from "./store.js"
import { derivedTitle, openingOf } from "./summary.js"

/**
 * A turn of an exported conversation.
 *
 * @since 0.4.0
 * @category models
 */
export interface ExportedTurn {
  /** When it was added, as ISO 8601. */
  readonly at: string
  /** Its messages, the oldest first. */
  readonly messages: ReadonlyArray<Message>
  /** What its answer has used; left out where that is not known. */
  readonly usage?: TurnUsage | undefined
}

/**
 * An exported conversation, as JSON. Times are ISO 8601.
 *
 * @since 0.4.0
 * @category models
 */
export interface Exported {
  /** Tells what it is. */
  readonly object: "aicortex.session"
  /** The version of this form. */
  readonly version: 1
  /** The conversation's id. */
  readonly id: string
  /** The title that its user has set; `null` where there is none. */
  readonly title: string | null
  /** Whether its calls stay on local servers. */
  readonly private: boolean
  /** What programs have noted on it. */
  readonly metadata: Metadata
  /** When it was made. */
  readonly createdAt: string
  /** When it was last used. */
  readonly usedAt: string
  /** Its turns, the oldest first. */
  readonly turns: ReadonlyArray<ExportedTurn>
}

const count = Schema.optionalWith(Schema.NonNegative, { exact: true })

const Usage = Schema.Struct({
  model: Schema.String,
  server: Schema.String,
  promptTokens: count,
  completionTokens: count,
  totalTokens: count,
  cachedTokens: count,
  cacheWriteTokens: count,
  reasoningTokens: count,
  estimated: Schema.optionalWith(Schema.Literal(true), { exact: true })
})

/** What an import takes as such a file; its metadata and times are checked apart. */
export const ExportedSchema = Schema.Struct({
  object: Schema.Literal("aicortex.session"),
  version: Schema.Literal(1),
  id: Schema.String,
  title: Schema.NullOr(Schema.String),
  private: Schema.Boolean,
  metadata: Schema.Unknown,
  createdAt: Schema.String,
  usedAt: Schema.String,
  turns: Schema.Array(
    Schema.Struct({
      at: Schema.String,
      messages: Schema.NonEmptyArray(Message),
      usage: Schema.optionalWith(Usage, { exact: true })
    })
  )
})

/** What an answer has used, as it is stored. */
export const decodeUsage = Schema.decodeOption(Schema.parseJson(Usage))

const iso = (time: number): string => new Date(time).toISOString()

const turnOf = ({ at, messages, usage }: StoredTurn): ExportedTurn => ({
  at: iso(at),
  messages,
  ...(usage === undefined ? {} : { usage })
})

export const exported = ({ summary, turns }: StoredRecord): Exported => ({
  object: "aicortex.session",
  version: 1,
  id: summary.id,
  title: summary.titled ? (summary.title ?? null) : null,
  private: isPrivate(summary.id),
  metadata: summary.metadata,
  createdAt: iso(summary.createdAt),
  usedAt: iso(summary.usedAt),
  turns: turns.map(turnOf)
})

const names: { readonly [role: string]: string } = { user: "You", assistant: "Model", tool: "Tool" }

/**
 * A conversation as Markdown, for people.
 *
 * @since 0.4.0
 * @category conversions
 */
export const markdown = ({ title, turns }: Pick<Exported, "title" | "turns">): string => {
  const messages = turns.flatMap((turn) => turn.messages)
  const heading = title ?? derivedTitle(openingOf(messages))
  const said = messages.map((message) => {
    const pictures = images(message).length
    const calls = message.role === "assistant" ? (message.toolCalls ?? []) : []
    const parts = [
      text(message),
      ...calls.map(({ arguments: given, name }) => `\`${name}(${JSON.stringify(given)})\``),
      ...(pictures === 0 ? [] : [`[images: ${pictures}]`])
    ]
    return `**${names[message.role] ?? message.role}:** ${parts.filter((part) => part !== "").join("\n\n")}\n`
  })
  return [...(heading === undefined ? [] : [`# ${heading}\n`]), ...said].join("\n")
}

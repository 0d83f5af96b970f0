/** Summaries of conversations for lists, and which of them a list has. */
import { type Message, text } from "../Message.js"
import type { Metadata, Scalar } from "./record.js"

/**
 * A conversation, as lists show it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Summary {
  /** The conversation's id. */
  readonly id: string
  /**
   * What it is called: the title that its user has set, else its first question in short; `undefined` if it is empty.
   */
  readonly title: string | undefined
  /** Whether its user has set the title. */
  readonly titled: boolean
  /** What programs have noted on it. */
  readonly metadata: Metadata
  /** When it was made, in milliseconds since the epoch. */
  readonly createdAt: number
  /** When it was last used, in milliseconds since the epoch. */
  readonly usedAt: number
  /** Number of messages. */
  readonly messages: number
  /** The beginning of its first user message, at most 200 characters; `undefined` if it is empty. */
  readonly opening: string | undefined
}

/**
 * Which conversations are meant: those that all of these fit.
 *
 * @since 0.4.0
 * @category models
 */
export interface Filter {
  /** Only ids with this prefix. */
  readonly prefix?: string | undefined
  /** Only where the title has this text; case does not matter. */
  readonly title?: string | undefined
  /** Only where each of these words was said within one turn; case does not matter. */
  readonly text?: string | undefined
  /** Only where the metadata has these members with these values. */
  readonly metadata?: { readonly [name: string]: Scalar } | undefined
  /** Only those used at or after this time: milliseconds since the epoch, or a `Date`. */
  readonly since?: number | Date | undefined
  /** Only those last used before this time. */
  readonly until?: number | Date | undefined
}

/**
 * Which conversations to list.
 *
 * @since 0.1.0
 * @category models
 */
export interface ListOptions extends Filter {
  /** Maximum number, most recently used first; default 50. */
  readonly limit?: number | undefined
  /** Where the page begins: the `next` of the page before. */
  readonly cursor?: string | undefined
}

/**
 * A part of a list.
 *
 * @since 0.4.0
 * @category models
 */
export interface Page<A> {
  /** The items, in order. */
  readonly items: ReadonlyArray<A>
  /** The `cursor` of the next page; `undefined`: this is the last one. */
  readonly next: string | undefined
}

/**
 * Where a list goes on: after this conversation.
 *
 * @since 0.4.0
 * @category models
 */
export interface After {
  /** The time by which the list is ordered, in milliseconds since the epoch. */
  readonly time: number
  /** The conversation. */
  readonly id: string
  /** The turn, in a list of turns. */
  readonly turn?: number | undefined
}

/**
 * A checked `ListOptions`, as stores get it.
 *
 * @since 0.4.0
 * @category models
 */
export interface Selection {
  /** Maximum number. */
  readonly limit?: number | undefined
  /** Only ids with this prefix. */
  readonly prefix?: string | undefined
  /** In lower case: the title has it. */
  readonly title?: string | undefined
  /** In lower case: each was said within one turn. */
  readonly words?: ReadonlyArray<string> | undefined
  /** The metadata has these members. */
  readonly metadata?: { readonly [name: string]: Scalar } | undefined
  /** Used at or after this time, in milliseconds since the epoch. */
  readonly since?: number | undefined
  /** Last used before this time. */
  readonly until?: number | undefined
  /** Only what comes after it. */
  readonly after?: After | undefined
}

/**
 * A turn in which something was found.
 *
 * @since 0.4.0
 * @category models
 */
export interface Hit {
  /** The conversation's id. */
  readonly id: string
  /** What the conversation is called. */
  readonly title: string | undefined
  /** Which of its turns it is; the first one is 1. */
  readonly turn: number
  /** When the turn was added, in milliseconds since the epoch. */
  readonly at: number
  /** Who said it. */
  readonly role: Message["role"]
  /** What was said around the words, at most some 200 characters in one line. */
  readonly excerpt: string
}

const longest = 200

/** The longest title that is made of a question, in characters. */
const longestDerived = 80

/** How a conversation begins; `undefined` where its user has said nothing. */
export const openingOf = (messages: ReadonlyArray<Message>): string | undefined => {
  const first = messages.find(({ role }) => role === "user")
  return first === undefined ? undefined : [...text(first)].slice(0, longest).join("")
}

const oneLine = (value: string): string => value.replace(/[\s\p{Cc}]+/gu, " ").trim()

/** A title made of how a conversation begins. */
export const derivedTitle = (opening: string | undefined): string | undefined => {
  const all = [...oneLine(opening ?? "")]
  if (all.length === 0) return undefined
  return all.length <= longestDerived
    ? all.join("")
    : `${all
        .slice(0, longestDerived - 1)
        .join("")
        .trimEnd()}…`
}

/** What a store keeps of a conversation in addition to its turns. */
export interface Labels {
  readonly id: string
  readonly title: string | undefined
  readonly metadata: Metadata
  readonly createdAt: number
  readonly usedAt: number
  readonly messages: number
  readonly opening: string | undefined
}

export const summary = ({ title, ...rest }: Labels): Summary => ({
  ...rest,
  title: title ?? derivedTitle(rest.opening),
  titled: title !== undefined
})

/** In lower case. */
export const wordsOf = (messages: ReadonlyArray<Message>): string => messages.map(text).join("\n").toLowerCase()

const hasAll = (said: string, words: ReadonlyArray<string>): boolean => words.every((word) => said.includes(word))

/** Whether a conversation is among those; the part of it that the order does not need. */
export const isSelected = (
  { id, metadata, title = "", usedAt }: Summary,
  turns: () => ReadonlyArray<ReadonlyArray<Message>>,
  { metadata: members = {}, prefix = "", since = 0, title: part = "", until, words = [] }: Selection
): boolean =>
  id.startsWith(prefix) &&
  usedAt >= since &&
  (until === undefined || usedAt < until) &&
  title.toLowerCase().includes(part) &&
  Object.entries(members).every(([name, value]) => Object.hasOwn(metadata, name) && metadata[name] === value) &&
  (words.length === 0 || turns().some((messages) => hasAll(wordsOf(messages), words)))

/** Where the words are in a turn that has them all; `undefined` where it has not. */
export const found = (
  messages: ReadonlyArray<Message>,
  words: ReadonlyArray<string>
): Pick<Hit, "role" | "excerpt"> | undefined => {
  if (!hasAll(wordsOf(messages), words)) return undefined
  const [word = ""] = words
  const message = messages.find((one) => text(one).toLowerCase().includes(word)) ?? messages[0]
  if (message === undefined) return undefined
  const said = text(message)
  // Case may change lengths; near is enough.
  const at = Math.max(0, said.toLowerCase().indexOf(word))
  const start = Math.max(0, at - 60)
  const end = Math.min(said.length, at + word.length + 120)
  const cut = oneLine(said.slice(start, end).replace(/^[\udc00-\udfff]|[\ud800-\udbff]$/g, ""))
  return { role: message.role, excerpt: `${start > 0 ? "…" : ""}${cut}${end < said.length ? "…" : ""}` }
}

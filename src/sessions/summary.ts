/** Summaries of conversations for lists. */
import { type Message, text } from "../Message.js"

/**
 * A conversation, as lists show it.
 *
 * @since 0.1.0
 * @category models
 */
export interface Summary {
  /** The conversation's id. */
  readonly id: string
  /** When it was last used, in milliseconds since the epoch. */
  readonly usedAt: number
  /** Number of messages. */
  readonly messages: number
  /** The beginning of its first user message, at most 200 characters; `undefined` if it is empty. */
  readonly opening: string | undefined
}

/**
 * Which conversations to list.
 *
 * @since 0.1.0
 * @category models
 */
export interface ListOptions {
  /** Maximum number, most recently used first; default 50. */
  readonly limit?: number | undefined
  /** Only ids with this prefix. */
  readonly prefix?: string | undefined
}

const longest = 200

/** How a conversation begins; `undefined` where its user has said nothing. */
export const openingOf = (messages: ReadonlyArray<Message>): string | undefined => {
  const first = messages.find(({ role }) => role === "user")
  return first === undefined ? undefined : [...text(first)].slice(0, longest).join("")
}

export const summary = (id: string, usedAt: number, messages: ReadonlyArray<Message>): Summary => ({
  id,
  usedAt,
  messages: messages.length,
  opening: openingOf(messages)
})

/** The selected summaries, most recently used first. */
export const newest = <A extends { readonly id: string; readonly usedAt: number }>(
  all: ReadonlyArray<A>,
  { limit = 50, prefix = "" }: ListOptions = {}
): ReadonlyArray<A> =>
  all
    .filter(({ id }) => id.startsWith(prefix))
    .sort((a, b) => b.usedAt - a.usedAt)
    .slice(0, limit)

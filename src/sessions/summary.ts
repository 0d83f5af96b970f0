/**
 * What a list tells of a conversation.
 *
 * @since 0.1.0
 */
import { type Message, text } from "../Message.js"

/**
 * - `usedAt`: when it was used last, in milliseconds since the epoch
 * - `messages`: how many there are
 * - `opening`: what its user said first, at most 200 characters of it; `undefined` where nothing was said yet
 *
 * @since 0.1.0
 * @category models
 */
export interface Summary {
  readonly id: string
  readonly usedAt: number
  readonly messages: number
  readonly opening: string | undefined
}

/**
 * - `limit`: at most so many, those that were used last; default 50
 * - `prefix`: only ids that begin with it
 *
 * @since 0.1.0
 * @category models
 */
export interface ListOptions {
  readonly limit?: number | undefined
  readonly prefix?: string | undefined
}

const longest = 200

/**
 * @since 0.1.0
 * @category constructors
 */
export const summary = (id: string, usedAt: number, messages: ReadonlyArray<Message>): Summary => {
  const first = messages.find(({ role }) => role === "user")
  const opening = first === undefined ? undefined : [...text(first)].slice(0, longest).join("")
  return { id, usedAt, messages: messages.length, opening }
}

/**
 * Those that a list is of, the one that was used last first.
 *
 * @since 0.1.0
 * @category combinators
 */
export const newest = <A extends { readonly id: string; readonly usedAt: number }>(
  all: ReadonlyArray<A>,
  { limit = 50, prefix = "" }: ListOptions = {}
): ReadonlyArray<A> =>
  all
    .filter(({ id }) => id.startsWith(prefix))
    .sort((a, b) => b.usedAt - a.usedAt)
    .slice(0, limit)

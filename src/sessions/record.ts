/** A conversation with all that is kept of it. */
import type { Usage } from "../ChatEvent.js"
import type { Result } from "../Failover.js"
import type { Message } from "../Message.js"

/**
 * What an answer has used: tokens as far as the server counted them, and who gave it.
 *
 * @since 0.4.0
 * @category models
 */
export interface TurnUsage extends Usage {
  /** The model that answered. */
  readonly model: string
  /** The address of the server that answered. */
  readonly server: string
}

/**
 * Messages that were added together, such as a question and its answer.
 *
 * @since 0.4.0
 * @category models
 */
export interface StoredTurn {
  /** The messages, the oldest first. */
  readonly messages: ReadonlyArray<Message>
  /** When it was added, in milliseconds since the epoch. */
  readonly at: number
  /** What its answer has used; `undefined` where that is not known. */
  readonly usage?: TurnUsage | undefined
}

/** A value of JSON that holds no others. */
export type Scalar = string | number | boolean | null

/** A value of JSON. */
export type Json = Scalar | ReadonlyArray<Json> | { readonly [name: string]: Json }

/**
 * What a program notes on a conversation: a small JSON object.
 *
 * @since 0.4.0
 * @category models
 */
export type Metadata = {
  /** Any JSON. */
  readonly [name: string]: Json
}

/**
 * What a new conversation begins with.
 *
 * @since 0.4.0
 * @category models
 */
export interface Seed {
  /** A title that its user has set. */
  readonly title?: string | undefined
  /** Its metadata; default: none. */
  readonly metadata?: Metadata | undefined
  /** Its turns, the oldest first; default: none. */
  readonly turns?: ReadonlyArray<StoredTurn> | undefined
  /** When it was made, in milliseconds since the epoch; default: now. */
  readonly createdAt?: number | undefined
  /** When it was last used; default: now. */
  readonly usedAt?: number | undefined
}

/**
 * What is changed of a conversation; what is left out stays as it is.
 *
 * @since 0.4.0
 * @category models
 */
export interface Changes {
  /** Another title; `null`: the one that is made of its first question. */
  readonly title?: string | null | undefined
  /** Takes the place of all metadata. */
  readonly metadata?: Metadata | undefined
}

/** What an answer has used. */
export const usageOf = ({ model, server, usage }: Pick<Result, "model" | "server" | "usage">): TurnUsage => ({
  ...usage,
  model,
  server
})

export const noMetadata: Metadata = Object.freeze({})

export const messagesOf = (turns: ReadonlyArray<StoredTurn>): ReadonlyArray<Message> =>
  turns.flatMap(({ messages }) => messages)

/** A deeply frozen copy of plain data. */
export const freeze = <A>(value: A): A => {
  if (Array.isArray(value)) return Object.freeze(value.map(freeze)) as A
  if (typeof value !== "object" || value === null) return value
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype !== Object.prototype && prototype !== null) return value
  return Object.freeze(Object.fromEntries(Object.entries(value).map(([key, item]) => [key, freeze(item)]))) as A
}

/** What a store hands out need not be frozen; what was frozen by `commit` is not copied again. */
export const frozen = (messages: ReadonlyArray<Message>): ReadonlyArray<Message> =>
  Object.isFrozen(messages) && messages.every(Object.isFrozen) ? messages : freeze(messages)

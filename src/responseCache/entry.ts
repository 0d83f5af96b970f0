/** A cached answer, and how it is replayed. */
import * as Schema from "effect/Schema"
import type { ChatEvent } from "../ChatEvent.js"
import { single } from "../Decision.js"
import type { Result } from "../Failover.js"
import { ToolCall } from "../Message.js"

// =============================================================================
// Models
// =============================================================================

const Count = Schema.Number.pipe(Schema.nonNegative())
const optional = <A, I>(schema: Schema.Schema<A, I>) => Schema.optionalWith(schema, { exact: true })

/**
 * A complete answer as it is stored. Times are in milliseconds since the epoch.
 *
 * @since 0.1.0
 * @category models
 */
export const Entry = Schema.Struct({
  /** When it was stored. */
  storedAt: Schema.Number,
  /** From when it is no longer used. */
  expiresAt: Schema.Number,
  /** The text. */
  text: Schema.String,
  /** The reasoning; empty if there is none. */
  thinking: Schema.String,
  /** The lengths of its pieces in order, those of the thinking negative. */
  pieces: Schema.Array(Schema.Int),
  /** The tools that the model called. */
  toolCalls: Schema.Array(ToolCall),
  /** The model that answered. */
  model: Schema.String,
  /** The address of the server that answered. */
  server: Schema.String,
  /** Why the answer ended. */
  finishReason: Schema.Literal("stop", "length", "tool_calls"),
  /** The text that ended it, if the server reported it. */
  stopSequence: optional(Schema.String),
  /** The tokens, as the server counted them. */
  usage: Schema.Struct({
    /** Tokens of the prompt. */
    promptTokens: optional(Count),
    /** Tokens of the answer, reasoning included. */
    completionTokens: optional(Count),
    /** Both together. */
    totalTokens: optional(Count),
    /** Those prompt tokens that were read from a cache. */
    cachedTokens: optional(Count),
    /** Those prompt tokens that were written to a cache. */
    cacheWriteTokens: optional(Count),
    /** Those completion tokens that were used for thinking. */
    reasoningTokens: optional(Count),
    /** The server broke off before it reported usage. */
    estimated: optional(Schema.Literal(true))
  })
}).pipe(
  Schema.filter(({ pieces, text, thinking }) => {
    let said = 0
    let thought = 0
    for (const length of pieces) {
      if (length > 0) said += length
      else thought -= length
    }
    return said === text.length && thought === thinking.length ? undefined : "pieces must make up text and thinking"
  })
)
/**
 * @since 0.1.0
 * @category models
 */
export interface Entry extends Schema.Schema.Type<typeof Entry> {}

// =============================================================================
// Storing
// =============================================================================

/** The content received, as far as it was tracked. */
export interface AnswerContent {
  readonly text: string
  readonly thinking: string
  readonly pieces: ReadonlyArray<number>
}

/**
 * The entry to store; `undefined` if it is not worth caching: it is empty, a filter cut it off, or the arguments of a
 * tool call are not JSON. A restarted answer is stored in one piece.
 */
export const make = (result: Result, content: AnswerContent, now: number, ttl: number): Entry | undefined => {
  const { finishReason, model, server, stopSequence, text, thinking, toolCalls, usage } = result
  if (finishReason === "content_filter" || (text === "" && toolCalls.length === 0)) return undefined
  if (toolCalls.some((call) => call.rawArguments !== undefined)) return undefined
  const asItCame = content.text === text && content.thinking === thinking
  return {
    storedAt: now,
    expiresAt: now + ttl,
    text,
    thinking,
    pieces: asItCame ? content.pieces : [-thinking.length, text.length].filter((length) => length !== 0),
    toolCalls: structuredClone(toolCalls),
    model,
    server,
    finishReason,
    ...(stopSequence === undefined ? {} : { stopSequence }),
    usage: { ...usage }
  }
}

/** Approximate size of an entry in memory, in bytes. */
export const sizeOf = ({ pieces, text, thinking, toolCalls }: Entry): number =>
  512 +
  8 * pieces.length +
  2 * (text.length + thinking.length + (toolCalls.length === 0 ? 0 : JSON.stringify(toolCalls).length))

// =============================================================================
// Replaying
// =============================================================================

/** The result of a call that began at `began` and gets the entry now. It is a copy: the caller may modify it. */
export const toResult = (entry: Entry, began: number, now: number): Result => ({
  text: entry.text,
  thinking: entry.thinking,
  toolCalls: structuredClone(entry.toolCalls),
  model: entry.model,
  server: entry.server,
  finishReason: entry.finishReason,
  stopSequence: entry.stopSequence,
  usage: { ...entry.usage },
  firstTokenTime: entry.pieces.length === 0 ? undefined : Math.max(0, now - began),
  tokensPerSecond: undefined,
  attempts: [],
  cached: true,
  decision: single(entry.model, { model: entry.model, server: entry.server }, "a kept answer")
})

/** The events of an entry, from the `cached` mark to its tool calls. */
export const toEvents = (entry: Entry, timestamp: number): Array<ChatEvent> => {
  const events: Array<ChatEvent> = [
    { type: "meta", meta: { type: "cached", cached: true, age: Math.max(0, timestamp - entry.storedAt) }, timestamp }
  ]
  let index = 0
  let said = 0
  let thought = 0
  for (const length of entry.pieces) {
    if (length > 0) {
      events.push({ type: "token", content: entry.text.slice(said, said + length), index: index++, timestamp })
      said += length
    } else {
      events.push({ type: "thinking", content: entry.thinking.slice(thought, thought - length), timestamp })
      thought -= length
    }
  }
  for (const call of structuredClone(entry.toolCalls)) events.push({ type: "tool_call", ...call, timestamp })
  return events
}

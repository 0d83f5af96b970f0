/**
 * Fits a conversation into a model's context.
 *
 * @since 0.1.0
 */
import * as Message from "./Message.js"

/**
 * `contextLength` is the model's, in tokens; where it is not known nothing is left out. `reserve` is kept free for
 * the answer.
 *
 * @since 0.1.0
 * @category models
 */
export interface TrimOptions {
  /** The model's, in tokens; `undefined` if not known: then nothing is left out. */
  readonly contextLength: number | undefined
  /** Tokens that are kept free for the answer. */
  readonly reserve: number
}

/**
 * What to send, and how many messages of the history it leaves out.
 *
 * @since 0.1.0
 * @category models
 */
export interface Trimmed {
  /** What to send. */
  readonly messages: ReadonlyArray<Message.Message>
  /** How many messages of the history were left out. */
  readonly trimmed: number
}

const charactersPerToken = 3
const tokensPerMessage = 4
const tokensPerImage = 800

/**
 * About how many tokens a message costs: rather too many than too few.
 *
 * @since 0.1.0
 * @category accessors
 */
export const estimateTokens = (message: Message.Message): number => {
  const calls = message.role === "assistant" && message.toolCalls !== undefined ? JSON.stringify(message.toolCalls) : ""
  const characters = Message.text(message).length + calls.length
  return Math.ceil(characters / charactersPerToken) + tokensPerMessage + Message.images(message).length * tokensPerImage
}

const isSystem = (message: Message.Message): boolean => message.role === "system" || message.role === "developer"

/**
 * About how many tokens messages cost together.
 *
 * @since 0.1.0
 * @category accessors
 */
export const estimate = (messages: ReadonlyArray<Message.Message>): number =>
  messages.reduce((sum, message) => sum + estimateTokens(message), 0)

/**
 * Appends new messages to a history and drops its oldest turns until the whole fits. A turn is a user message with
 * everything up to the next one, so that tool calls are never separated from their results. System messages and the new
 * messages always stay; leading system messages of the new ones come first.
 *
 * @since 0.1.0
 * @category combinators
 */
export const trim = (
  history: ReadonlyArray<Message.Message>,
  newMessages: ReadonlyArray<Message.Message>,
  options: TrimOptions
): Trimmed => {
  const firstOther = newMessages.findIndex((message) => !isSystem(message))
  const lead = firstOther < 0 ? newMessages.length : firstOther
  const join = (kept: ReadonlyArray<Message.Message>): ReadonlyArray<Message.Message> => [
    ...newMessages.slice(0, lead),
    ...kept,
    ...newMessages.slice(lead)
  ]
  if (options.contextLength === undefined) return { messages: join(history), trimmed: 0 }

  let room = options.contextLength - options.reserve - estimate(newMessages) - estimate(history.filter(isSystem))
  const first = history.findIndex((message) => !isSystem(message))
  // Where the oldest turn that is kept begins.
  let from = history.length
  let cost = 0
  for (let i = history.length - 1; i >= 0; i--) {
    const message = history[i]
    if (message === undefined || isSystem(message)) continue
    cost += estimateTokens(message)
    if (cost > room) break
    // Messages before the first user message are a turn of their own.
    if (message.role === "user" || i === first) {
      from = i
      room -= cost
      cost = 0
    }
  }
  const kept = history.filter((message, i) => i >= from || isSystem(message))
  return { messages: join(kept), trimmed: history.length - kept.length }
}

/** A server may leave out white space at the end, and a client at both ends. */
const isSame = (one: Message.Message, other: Message.Message): boolean => {
  if (one.role !== other.role || Message.text(one).trim() !== Message.text(other).trim()) return false
  const rest = (message: Message.Message) =>
    JSON.stringify([
      Message.images(message),
      message.role === "assistant" ? (message.toolCalls ?? []).map((call) => [call.name, call.arguments]) : []
    ])
  return rest(one) === rest(other)
}

/** Whether `said` begins with the last `count` messages of `before`. */
const overlaps = (
  before: ReadonlyArray<Message.Message>,
  said: ReadonlyArray<Message.Message>,
  count: number
): boolean => {
  for (let i = 0; i < count; i++) {
    const stored = before[before.length - count + i]
    const sent = said[i]
    if (stored === undefined || sent === undefined || !isSame(stored, sent)) return false
  }
  return true
}

/** Whether a message and the answer to it stand in both. */
const repeats = (before: ReadonlyArray<Message.Message>, said: ReadonlyArray<Message.Message>): boolean => {
  const [first, second] = said
  if (first !== undefined && before[0] !== undefined && second?.role === "assistant" && isSame(before[0], first)) {
    return true
  }
  const turnsOf = (messages: ReadonlyArray<Message.Message>): ReadonlyArray<string> =>
    messages.flatMap((message, i) => {
      const asked = messages[i - 1]
      if (message.role !== "assistant" || asked === undefined) return []
      return [JSON.stringify([Message.text(asked).trim(), Message.text(message).trim()])]
    })
  const known = new Set(turnsOf(before))
  return turnsOf(said).some((turn) => known.has(turn))
}

/**
 * What messages add to a history, where they may repeat the end of it or all of it, as those of a client that sends the
 * whole conversation each time. Without an answer of the assistant among them all are new. `undefined` where they repeat a
 * part of the history and go on differently, or add nothing: then it cannot be told what is meant.
 *
 * @since 0.2.0
 * @category combinators
 */
export const continuation = (
  history: ReadonlyArray<Message.Message>,
  messages: ReadonlyArray<Message.Message>
): ReadonlyArray<Message.Message> | undefined => {
  if (history.length === 0 || !messages.some(({ role }) => role === "assistant")) return messages
  const before = history.filter((message) => !isSystem(message))
  const said = messages.filter((message) => !isSystem(message))
  for (let count = Math.min(before.length, said.length); count > 0; count--) {
    if (!overlaps(before, said, count)) continue
    if (count === said.length) return undefined
    const known = new Set(said.slice(0, count))
    return messages.filter((message) => !known.has(message))
  }
  return repeats(before, said) ? undefined : messages
}

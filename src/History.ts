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

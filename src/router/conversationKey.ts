/**
 * By what a conversation is known, so that its next turn is answered where its prompt is cached: by a name, or else by
 * what has been said so far.
 *
 * @since 0.1.0
 */
import type { Message } from "../Message.js"

/**
 * - `from`: under which keys an earlier turn may have been remembered, the best one first
 * - `to`: under which ones this turn is remembered
 *
 * @since 0.1.0
 * @category models
 */
export interface ConversationKey {
  readonly from: ReadonlyArray<string>
  readonly to: ReadonlyArray<string>
}

/** So many characters of a name are kept as they are; longer ones are hashed. */
const longestName = 200

/**
 * A conversation that somebody has named. Equal names in different scopes are different conversations.
 *
 * @since 0.1.0
 * @category constructors
 */
export const named = (name: string, scope = ""): ConversationKey => {
  const short = name.length <= longestName ? name : `${name.length}:${new Fingerprint().add(name).key()}`
  const keys = [`${scope}\n${short}`]
  return { from: keys, to: keys }
}

/** So many characters are read in all. Of a text that goes beyond them the length and the edges count, which are this long. */
const budget = 262_144
const edge = 64

/** This far back a turn is looked for. */
const furthest = 64

/** Two hashes of 32 bits over the texts added so far. */
class Fingerprint {
  private one = 0x811c9dc5
  private two = 0x9e3779b9
  private read = 0

  add(text: string): this {
    const { length } = text
    this.mix(length)
    if (length <= budget - this.read || length <= 2 * edge) {
      this.range(text, 0, length)
    } else {
      this.range(text, 0, edge)
      this.range(text, length - edge, length)
    }
    return this
  }

  get spent(): boolean {
    return this.read >= budget
  }

  key(): string {
    return `${(this.one >>> 0).toString(36)}-${(this.two >>> 0).toString(36)}`
  }

  private range(text: string, from: number, to: number): void {
    let { one, two } = this
    for (let i = from; i < to; i++) {
      const code = text.charCodeAt(i)
      one = Math.imul(one ^ code, 0x01000193)
      two = Math.imul((two ^ code) + 0x7f4a7c15, 0x85ebca6b)
      two ^= two >>> 15
    }
    this.one = one
    this.two = two
    this.read += to - from
  }

  private mix(value: number): void {
    this.one = Math.imul(this.one ^ value, 0x01000193)
    this.two = Math.imul(this.two ^ (value + 0x165667b1), 0xc2b2ae35)
  }
}

/** A line of Claude Code's system prompt that is different in each request. */
const billing = /^x-anthropic-billing-header:.*\n?/m

const addMessage = (fingerprint: Fingerprint, message: Message): void => {
  const { content, role } = message
  fingerprint.add(role === "developer" ? "system" : role)
  if (role === "system" || role === "developer") {
    fingerprint.add(content.includes("x-anthropic-billing-header:") ? content.replace(billing, "") : content)
    return
  }
  if (typeof content === "string") fingerprint.add(content)
  else {
    for (const part of content) {
      fingerprint.add(part.type === "text" ? part.text : "data" in part ? part.data : part.url)
    }
  }
  if (role !== "assistant") return
  for (const { arguments: args, name } of message.toolCalls ?? []) {
    fingerprint.add(name)
    if (!fingerprint.spent) fingerprint.add(JSON.stringify(args))
  }
}

/**
 * A conversation that nobody has named, by its messages. What was asked at an earlier turn is a beginning of what is
 * asked now, up to an answer of the model: the longest such beginning is the best key, and what stands before the first
 * answer the last one, for clients that change their histories. A first turn has no earlier one, so that equal first
 * turns are spread.
 *
 * Each message is read once, and of long histories no more than a part.
 *
 * @since 0.1.0
 * @category constructors
 */
export const ofMessages = (messages: ReadonlyArray<Message>, scope = ""): ConversationKey | undefined => {
  if (messages.length === 0) return undefined
  const fingerprint = new Fingerprint().add(scope)
  const beginnings: Array<string> = []
  let before: Message["role"] | undefined
  for (const message of messages) {
    if (message.role === "assistant" && before !== "assistant" && before !== undefined) {
      beginnings.push(fingerprint.key())
    }
    addMessage(fingerprint, message)
    before = message.role
  }
  const first = beginnings[0]
  const whole = fingerprint.key()
  if (first === undefined) return { from: [], to: [whole] }
  const from = beginnings.slice(-furthest).reverse()
  if (beginnings.length > furthest) from.push(first)
  return { from, to: [whole, first] }
}

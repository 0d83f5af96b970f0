/**
 * Identifies a conversation, so that its next turn goes to the server that has its prompt cached: by a name, or else by
 * its content so far.
 */
import type { Message } from "../Message.js"

export interface ConversationKey {
  /** Keys of earlier turns, the best one first. */
  readonly from: ReadonlyArray<string>
  /** Keys under which this turn is remembered. */
  readonly to: ReadonlyArray<string>
}

/** Names up to this length are kept as they are; longer ones are hashed. */
const longestName = 200

/** A named conversation. Equal names in different scopes are different conversations. */
export const named = (name: string, scope = ""): ConversationKey => {
  const short = name.length <= longestName ? name : `${name.length}:${new Fingerprint().add(name).key()}`
  const keys = [`${scope}\n${short}`]
  return { from: keys, to: keys }
}

/** Maximum number of characters hashed in total. Of a longer text, its length and its edges of this size count. */
const budget = 262_144
const edge = 64

/** How many turns back are searched. */
const maxPrefixes = 64

/** Two 32-bit hashes over the texts added so far. */
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

/** A line of Claude Code's system prompt that differs in each request. */
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
 * An unnamed conversation, identified by its messages. Every earlier turn is a prefix of the present one, up to an
 * answer of the model: the longest such prefix is the best key, and the part before the first answer the last one, for
 * clients that edit their histories. A first turn has no earlier one, so equal first turns are spread.
 *
 * Each message is read once, and long histories only in part.
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
  const from = beginnings.slice(-maxPrefixes).reverse()
  if (beginnings.length > maxPrefixes) from.push(first)
  return { from, to: [whole, first] }
}

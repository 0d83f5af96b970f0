/** The size of a conversation. */
import type { Message } from "../Message.js"

/** Approximate overhead of a message, in bytes. */
const overhead = 200

const length = (value: unknown): number => (value === undefined ? 0 : JSON.stringify(value).length)

/** Approximate size of messages in bytes: one per character, as in most texts. */
export const sizeOf = (messages: ReadonlyArray<Message>): number => {
  let bytes = 0
  for (const message of messages) {
    const { content } = message
    bytes += overhead
    if (typeof content === "string") bytes += content.length
    else {
      for (const part of content) {
        bytes += part.type === "text" ? part.text.length : "url" in part ? part.url.length : part.data.length
      }
    }
    if (message.role === "assistant") bytes += (message.thinking?.length ?? 0) + length(message.toolCalls)
  }
  return bytes
}

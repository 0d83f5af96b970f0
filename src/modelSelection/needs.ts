/** What a request needs of a model. */
import type { ChatRequest } from "../ChatRequest.js"
import * as Message from "../Message.js"

/** Estimates tokens from characters: about four characters per token. */
export const tokensOf = (characters: number): number => Math.ceil(characters / 4)

/** What a model must be able to do for a request, and about how many tokens the prompt has. */
export interface Requirements {
  readonly tools: boolean
  readonly vision: boolean
  readonly insert: boolean
  readonly prompt: number
}

/**
 * As much of a request as says what a model must be able to do. Where there are several `prompts`, each is a request of
 * its own.
 *
 * @since 0.2.0
 * @category models
 */
export interface PromptShape {
  /** The request, or the parts of it that matter. */
  readonly request: Pick<ChatRequest, "messages" | "tools" | "suffix" | "maxTokens"> & Partial<ChatRequest>
  /** Several conversations, each a request of its own; default: that of `request`. */
  readonly prompts?: ReadonlyArray<ReadonlyArray<Message.Message>> | undefined
}

/** The tokens of tools are a part of the prompt too. Agents send the same ones with each request of a conversation. */
const charactersOfTools = ({ tools }: PromptShape["request"]): number =>
  tools.length === 0 ? 0 : JSON.stringify(tools).length

export const requirementsOf = ({ prompts, request }: PromptShape, withTools = false): Requirements => {
  let characters = withTools ? charactersOfTools(request) : 0
  let vision = false
  for (const message of request.messages) {
    characters += Message.text(message).length
    if (typeof message.content !== "string" && message.content.some((part) => part.type === "image")) vision = true
  }
  if (prompts !== undefined) {
    for (const [message] of prompts) {
      if (message !== undefined) characters = Math.max(characters, Message.text(message).length)
    }
  }
  const insert = request.suffix !== undefined
  if (request.suffix !== undefined) characters += request.suffix.length
  return { tools: request.tools.length > 0, vision, insert, prompt: tokensOf(characters) }
}

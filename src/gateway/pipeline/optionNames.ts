/** What the client of a request calls its options, for errors about one of them. */
import { type ChatRequest, defaults } from "../../ChatRequest.js"
import { type NameOf, usualName } from "../http/errorResponse.js"
import type { GatewayRequest, OptionNames } from "./gatewayRequest.js"

/** Of `/v1/chat/completions`. */
export const chat: OptionNames = {
  schema: "response_format",
  maxTokens: "max_completion_tokens"
}
/** The same where the client uses the older name. */
export const olderChat: OptionNames = { ...chat, maxTokens: "max_tokens" }
/** Of `/v1/completions`. */
export const completions: OptionNames = { ...olderChat, messages: "prompt" }
/** Of `/v1/responses`. */
export const responses: OptionNames = {
  format: "text.format",
  schema: "text.format",
  maxTokens: "max_output_tokens",
  messages: "input"
}
/** Of `/v1/messages`. */
export const messages: OptionNames = {
  format: "output_config.format",
  schema: "output_config.format",
  stop: "stop_sequences"
}
/** Of Ollama's API. */
export const ollama: OptionNames = { format: "format", schema: "format", maxTokens: "num_predict" }

/** What stands in a request whose client says nothing. */
const unsaid: { readonly [option: string]: unknown } = { format: "text", model: "", topP: defaults.topP }

const isGiven = (request: ChatRequest, option: string): boolean => {
  if (option === "temperature" && request.defaultTemperature === true) return false
  const value = (request as unknown as { readonly [option: string]: unknown })[option]
  if (Array.isArray(value)) return value.length > 0
  return value !== undefined && value !== unsaid[option]
}

/** The names of one request's client. */
export const of =
  ({ names = chat, original, request }: GatewayRequest): NameOf =>
  (option, byServer) =>
    byServer && !isGiven(original ?? request, option) ? undefined : (names[option] ?? usualName(option))

/** Converts a complete answer to its end event, and back. */
import type { End, ToolCallEvent } from "../ChatEvent.js"
import type { TurnNotStored } from "../Errors.js"
import type * as Message from "../Message.js"
import type { Result } from "./call.js"

/** An answer that something went wrong after. */
export const warned = (result: Result, warning: TurnNotStored): Result => ({
  ...result,
  warnings: [...(result.warnings ?? []), warning]
})

/** The end event of an answer. */
export const endOf = (result: Result, timestamp: number): End => ({
  type: "end",
  content: "",
  model: result.model,
  server: result.server,
  usage: result.usage,
  finishReason: result.finishReason,
  ...(result.stopSequence === undefined ? {} : { stopSequence: result.stopSequence }),
  ...(result.firstTokenTime === undefined ? {} : { firstTokenTime: result.firstTokenTime }),
  ...(result.tokensPerSecond === undefined ? {} : { tokensPerSecond: result.tokensPerSecond }),
  ...(result.timings === undefined ? {} : { timings: result.timings }),
  attempts: result.attempts,
  ...(result.warnings === undefined ? {} : { warnings: result.warnings }),
  timestamp
})

/** The complete answer from its end event and the content of its other events. */
export const resultOf = (
  end: End,
  content: Pick<Result, "text" | "thinking" | "toolCalls" | "logprobs" | "cached">
): Result => ({
  text: content.text,
  thinking: content.thinking,
  toolCalls: content.toolCalls,
  ...(content.logprobs === undefined ? {} : { logprobs: content.logprobs }),
  model: end.model,
  server: end.server,
  finishReason: end.finishReason,
  stopSequence: end.stopSequence,
  usage: end.usage,
  firstTokenTime: end.firstTokenTime,
  tokensPerSecond: end.tokensPerSecond,
  timings: end.timings,
  attempts: end.attempts,
  cached: content.cached,
  ...(end.warnings === undefined ? {} : { warnings: end.warnings })
})

/** The tool call of an event. */
export const callOf = ({ arguments: args, id, name, rawArguments }: ToolCallEvent): Message.ToolCall =>
  rawArguments === undefined ? { id, name, arguments: args } : { id, name, arguments: args, rawArguments }

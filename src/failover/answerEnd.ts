/** Makes a complete answer of what its servers sent, and converts it to its end event and back. */
import type { Finish, PartialAnswer } from "../Backend.js"
import { tokenLimit } from "../backend/resume.js"
import type { End, ToolCallEvent, Usage } from "../ChatEvent.js"
import type { ChatRequest } from "../ChatRequest.js"
import { type Decision, single } from "../Decision.js"
import type { Attempt, TurnNotStored } from "../Errors.js"
import type * as Message from "../Message.js"
import type { Host } from "../Server.js"
import type { Result } from "./call.js"
import type { ChatAttempt } from "./chatAttempt.js"
import { timingsOf } from "./timings.js"
import { withPartial } from "./usage.js"

/** The answer to one request, from the last server that was asked. */
export type ServerAnswer = Pick<
  Result,
  "text" | "thinking" | "toolCalls" | "finishReason" | "stopSequence" | "usage" | "tokensPerSecond" | "timings"
> & { readonly sharedPrompt?: boolean | undefined }

/** What earlier attempts sent, and what the attempt that finished added. */
export const wholeAnswer = (
  partial: PartialAnswer,
  attempt: Pick<ChatAttempt, "sentText" | "sentThinking" | "toolCalls" | "repeated" | "pieces">,
  finish: Finish,
  tokensPerSecond: number | undefined,
  timed: boolean
): ServerAnswer => ({
  text: partial.text + attempt.sentText,
  thinking: partial.thinking + attempt.sentThinking,
  toolCalls: attempt.toolCalls,
  finishReason: finish.reason,
  stopSequence: finish.stopSequence,
  usage: withPartial(finish.usage, partial.tokens - attempt.repeated, attempt.pieces === 0),
  tokensPerSecond,
  timings: timed ? timingsOf(finish) : undefined,
  sharedPrompt: finish.sharedPrompt
})

/** Whether a broken answer already has as many tokens as it may. */
export const reachesLimit = ({ calls, tokens }: PartialAnswer, request: ChatRequest): boolean => {
  const limit = tokenLimit(request)
  return calls.length === 0 && limit !== undefined && tokens >= limit
}

/** A broken answer that already has as many tokens as it may. */
export const endedByLimit = ({ text, thinking, tokens }: PartialAnswer): ServerAnswer => ({
  text,
  thinking,
  toolCalls: [],
  finishReason: "length",
  stopSequence: undefined,
  usage: { completionTokens: tokens, estimated: true },
  tokensPerSecond: undefined
})

/** The result of a call: its last answer, with the usage and the failed attempts of the whole call. */
export const totalOf = (
  answer: ServerAnswer,
  { model, server }: Host,
  usage: Usage,
  firstTokenTime: number | undefined,
  attempts: ReadonlyArray<Attempt>,
  decision: Decision
): Result => ({
  text: answer.text,
  thinking: answer.thinking,
  toolCalls: answer.toolCalls,
  model,
  server: server.url,
  finishReason: answer.finishReason,
  stopSequence: answer.stopSequence,
  usage,
  firstTokenTime,
  tokensPerSecond: answer.tokensPerSecond,
  timings: answer.timings,
  attempts,
  cached: false,
  decision
})

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

/** The decision of an answer that is known by its events: that of the attempt which its end names. */
export const decisionOf = (
  { model, server }: Pick<End, "model" | "server">,
  decisions: ReadonlyArray<Decision>,
  cached: boolean
): Decision =>
  decisions.findLast(({ chosen }) => chosen.server === server) ??
  decisions.at(-1) ??
  single(model, { model, server }, cached ? "a kept answer" : "")

/** The complete answer from its end event and the content of its other events. */
export const resultOf = (
  end: End,
  content: Pick<Result, "text" | "thinking" | "toolCalls" | "logprobs" | "cached" | "decision">
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
  decision: content.decision,
  ...(end.warnings === undefined ? {} : { warnings: end.warnings })
})

/** The tool call of an event. */
export const callOf = ({ arguments: args, id, name, rawArguments }: ToolCallEvent): Message.ToolCall =>
  rawArguments === undefined ? { id, name, arguments: args } : { id, name, arguments: args, rawArguments }

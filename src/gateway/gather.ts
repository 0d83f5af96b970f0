/**
 * A whole answer from its events: only they tell how likely each token was.
 *
 * @since 0.1.0
 */
import type { OpenAnswer } from "../Failover.js"
import type { ToolCall } from "../Message.js"
import type { Answered } from "./codec.js"
import { callOf } from "./piece.js"

/**
 * Reads an answer to its end. Rejects with its failure.
 *
 * @since 0.1.0
 * @category constructors
 */
export const gather = async (answer: OpenAnswer): Promise<Answered> => {
  let text = ""
  let thinking = ""
  const toolCalls: Array<ToolCall> = []
  const logprobs: Array<unknown> = []
  for (;;) {
    const batch = await answer.pull()
    if (batch === undefined) throw new Error("the answer was cancelled")
    for (const event of batch) {
      switch (event.type) {
        case "token":
          text += event.content
          break
        case "thinking":
          thinking += event.content
          break
        case "logprobs":
          logprobs.push(...event.logprobs)
          break
        case "tool_call":
          toolCalls.push(callOf(event))
          break
        case "end": {
          const { attempts, finishReason, firstTokenTime, model, server, timings, tokensPerSecond, usage } = event
          return {
            text,
            thinking,
            toolCalls,
            model,
            server,
            finishReason,
            usage,
            firstTokenTime,
            tokensPerSecond,
            timings,
            attempts,
            cached: false,
            ...(logprobs.length === 0 ? {} : { logprobs })
          }
        }
        default:
      }
    }
  }
}

/** Collects a complete answer from its events, which alone hold log probabilities. */
import type { Decision } from "../Decision.js"
import type { OpenAnswer, Result } from "../Failover.js"
import { callOf, decisionOf, resultOf } from "../failover/answerEnd.js"
import type { ToolCall } from "../Message.js"

/** Reads an answer to its end. Rejects with its failure. */
export const readResult = async (answer: OpenAnswer): Promise<Result> => {
  let text = ""
  let thinking = ""
  const toolCalls: Array<ToolCall> = []
  const logprobs: Array<unknown> = []
  const decisions: Array<Decision> = []
  let cached = false
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
        case "meta":
          if (event.meta.type === "cached") cached = true
          else if (event.meta.type === "attempt" && event.meta.decision) decisions.push(event.meta.decision)
          break
        case "tool_call":
          toolCalls.push(callOf(event))
          break
        case "end":
          return resultOf(event, {
            text,
            thinking,
            toolCalls,
            logprobs: logprobs.length === 0 ? undefined : logprobs,
            cached,
            decision: decisionOf(event, decisions, cached)
          })
        default:
      }
    }
  }
}

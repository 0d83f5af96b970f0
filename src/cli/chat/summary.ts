/** An answer in one line: who gave it, how long it is and how fast it came. */
import type { End } from "../../ChatEvent.js"
import type { Result } from "../../Failover.js"

export const summary = (answer: Result | End, cached: boolean): string => {
  const { firstTokenTime, tokensPerSecond, usage } = answer
  const parts = [`${answer.model} on ${answer.server}`]
  if (usage.completionTokens !== undefined) parts.push(`${usage.completionTokens} tokens`)
  if (tokensPerSecond !== undefined) parts.push(`${tokensPerSecond.toFixed(1)} tokens/s`)
  if (firstTokenTime !== undefined) parts.push(`first after ${Math.round(firstTokenTime)} ms`)
  if (cached) parts.push("cached from an earlier call")
  if (answer.finishReason !== "stop") parts.push(`ended by ${answer.finishReason}`)
  return parts.join(", ")
}

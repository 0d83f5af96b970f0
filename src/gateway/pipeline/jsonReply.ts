/** Whether a reply is the requested JSON. */
import * as Either from "effect/Either"
import type { Result } from "../../Failover.js"
import * as StructuredOutput from "../../StructuredOutput.js"

/** An answer that was cut off or that calls tools is not JSON; its finish reason says so. */
export const mustMatchFormat = ({ finishReason, toolCalls }: Pick<Result, "finishReason" | "toolCalls">): boolean =>
  finishReason === "stop" && toolCalls.length === 0

/** Clients parse the whole text, so a surrounding code fence is removed. */
export const jsonOnly = (text: string): string => {
  const trimmed = text.trim()
  if (/^[[{"]/.test(trimmed)) return text
  const parsed = StructuredOutput.parse(text)
  return Either.isRight(parsed) ? JSON.stringify(parsed.right) : text
}

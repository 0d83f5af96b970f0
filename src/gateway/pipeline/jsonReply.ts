/**
 * Whether a reply is the JSON that was promised.
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"
import type { Result } from "../../Failover.js"
import * as StructuredOutput from "../../StructuredOutput.js"

/**
 * An answer that was cut off, or that calls tools, is no JSON, and says so itself.
 *
 * @since 0.1.0
 * @category guards
 */
export const mustMatchFormat = ({ finishReason, toolCalls }: Pick<Result, "finishReason" | "toolCalls">): boolean =>
  finishReason === "stop" && toolCalls.length === 0

/**
 * What a client parses must be the JSON alone, without the fence around it.
 *
 * @since 0.1.0
 * @category constructors
 */
export const jsonOnly = (text: string): string => {
  const trimmed = text.trim()
  if (/^[[{"]/.test(trimmed)) return text
  const parsed = StructuredOutput.parse(text)
  return Either.isRight(parsed) ? JSON.stringify(parsed.right) : text
}

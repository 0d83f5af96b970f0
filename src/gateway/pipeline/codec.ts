/**
 * How answers are written in a protocol: strings to send, and no state of HTTP.
 *
 * @since 0.1.0
 */
import type { End, FinishReason, Usage } from "../../ChatEvent.js"
import type { Result } from "../../Failover.js"
import type { ToolCall } from "../../Message.js"
import type { ErrorResponse } from "../http/errorResponse.js"

/**
 * A whole answer, with how likely its tokens were where that was asked for and told.
 *
 * @since 0.1.0
 * @category models
 */
export interface CompletedAnswer extends Result {
  readonly logprobs?: ReadonlyArray<unknown> | undefined
}

/**
 * What an answer cost; `promptEstimated` where nobody has counted its prompt.
 *
 * @since 0.2.0
 * @category models
 */
export interface Counted extends Usage {
  readonly promptEstimated?: boolean
}

/**
 * Which tool is called.
 *
 * @since 0.1.0
 * @category models
 */
export type CalledTool = Pick<ToolCall, "id" | "name">

/**
 * Writes one stream.
 *
 * - `begin`: before the first piece
 * - `text`, `thinking`: a piece of the answer number `choice`
 * - `toolCallDelta`: a piece of the arguments of its tool call number `index`, and whether it is the `first`
 * - `toolCall`: that call is complete, and whether pieces of it came before
 * - `end`: that answer is complete, with what the library says of it; `finish`: all of them are
 *
 * @since 0.1.0
 * @category models
 */
export interface Writer {
  begin(): string
  text(choice: number, content: string, logprobs?: ReadonlyArray<unknown>): string
  thinking(choice: number, content: string): string
  toolCallDelta(choice: number, index: number, call: CalledTool, text: string, first: boolean): string
  toolCall(choice: number, index: number, call: ToolCall, streamed: boolean): string
  end(choice: number, reason: FinishReason, usage: Usage, end: End): string
  finish(): string
}

/**
 * The answers of one request.
 *
 * - `whole`: the body of a complete answer
 * - `writer`: writes a stream of the model that answers
 * - `settle`: called when all answers are complete, before `whole` or `finish` is sent; for what must be so by then
 * - `failure`: the last thing in a stream that cannot go on, or that never began
 * - `heartbeat`: shows that a stream lives, and no client takes it for a piece
 *
 * @since 0.1.0
 * @category models
 */
export interface Codec {
  readonly contentType: string
  readonly whole: (model: string, results: ReadonlyArray<CompletedAnswer>) => object
  readonly writer: (model: string) => Writer
  readonly settle?: (() => Promise<void>) | undefined
  readonly failure: (errorResponse: ErrorResponse) => string
  readonly heartbeat: string
}

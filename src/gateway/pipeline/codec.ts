/**
 * How a protocol writes answers: strings to send, without any HTTP state.
 *
 * @since 0.1.0
 */
import type { End, FinishReason, Usage } from "../../ChatEvent.js"
import type { Result } from "../../Failover.js"
import type { ToolCall } from "../../Message.js"
import type { ErrorResponse } from "../http/errorResponse.js"

/**
 * A complete answer, with log probabilities if they were requested and reported.
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
 * The tool that is called.
 *
 * @since 0.1.0
 * @category models
 */
export type CalledTool = Pick<ToolCall, "id" | "name">

/**
 * Writes one stream.
 *
 * - `begin`: before the first piece
 * - `text`, `thinking`: a piece of choice number `choice`
 * - `toolCallDelta`: a piece of the arguments of tool call number `index`; `first` if it is its first piece
 * - `toolCall`: the call is complete; `streamed` if pieces of it came before
 * - `end`: the choice is complete, with the library's result; `finish`: all choices are
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
 * Writes the answers of one request.
 *
 * - `whole`: the body of a complete answer
 * - `writer`: makes the writer of a stream by the model that answers
 * - `settle`: awaited when all answers are complete, before `whole` or `finish` is sent
 * - `failure`: ends a stream that cannot continue or never began
 * - `heartbeat`: shows that the stream is alive; clients ignore it
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

/** How a protocol writes answers: strings to send, without any HTTP state. */
import type { End, FinishReason, Usage } from "../../ChatEvent.js"
import type { Result } from "../../Failover.js"
import type { ToolCall } from "../../Message.js"
import type { ErrorResponse } from "../http/errorResponse.js"

/** A complete answer, with log probabilities if they were requested and reported. */
export interface CompletedAnswer extends Result {
  readonly logprobs?: ReadonlyArray<unknown> | undefined
}

/** The usage of an answer; `promptEstimated` if no server has counted the prompt. */
export interface Counted extends Usage {
  readonly promptEstimated?: boolean
}

/** The tool that is called. */
export type CalledTool = Pick<ToolCall, "id" | "name">

/**
 * Writes one stream.
 *
 * - `text`, `thinking`: a piece of choice number `choice`
 */
export interface Writer {
  /** Before the first piece. */
  begin(): string
  text(choice: number, content: string, logprobs?: ReadonlyArray<unknown>): string
  thinking(choice: number, content: string): string
  /** A piece of the arguments of tool call number `index`; `first` if it is its first piece. */
  toolCallDelta(choice: number, index: number, call: CalledTool, text: string, first: boolean): string
  /** The call is complete; `streamed` if pieces of it came before. */
  toolCall(choice: number, index: number, call: ToolCall, streamed: boolean): string
  /** The choice is complete, with the library's result; `finish`: all choices are. */
  end(choice: number, reason: FinishReason, usage: Usage, end: End): string
  finish(): string
}

/** Writes the answers of one request. */
export interface Codec {
  readonly contentType: string
  /** The JSON body of a complete answer. */
  readonly complete: (model: string, results: ReadonlyArray<CompletedAnswer>) => string | Promise<string>
  /** Makes the writer of a stream by the model that answers. */
  readonly writer: (model: string) => Writer
  /** Awaited when all answers of a stream are complete, before `finish`. */
  readonly settle?: (() => Promise<void>) | undefined
  /** Ends a stream that cannot continue or never began. */
  readonly failure: (errorResponse: ErrorResponse) => string
  /** Shows that the stream is alive; clients ignore it. */
  readonly heartbeat: string
}

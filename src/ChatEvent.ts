/**
 * What happens while a model answers, in order: `start`, then any of `meta`, `thinking`, `token`, `tool_call_delta`,
 * `tool_call`, `tool_result`, `error` and `restart`, then `end`. Every event has a `timestamp` in milliseconds since the Unix epoch.
 *
 * Reference: AI Cortex's `StreamEvent`, whose timestamp is in seconds.
 *
 * @since 0.1.0
 */
import type { Attempt, TurnNotStored } from "./Errors.js"

/**
 * Token usage as the server counted it; absent if not reported. `cachedTokens` are prompt tokens read from a cache,
 * `reasoningTokens` completion tokens used for thinking.
 *
 * `estimated`: the server broke off before it reported usage, and `completionTokens` is the number of its pieces:
 * nearly all servers send one per token.
 *
 * @since 0.1.0
 * @category models
 */
export interface Usage {
  readonly promptTokens?: number
  readonly completionTokens?: number
  readonly totalTokens?: number
  readonly cachedTokens?: number
  readonly reasoningTokens?: number
  readonly estimated?: true
}

/**
 * The server's own timings in milliseconds: loading the model, and evaluating the prompt. Absent if not reported or not
 * requested: only the gateway requests them.
 *
 * @since 0.2.0
 * @category models
 */
export interface Timings {
  readonly load?: number
  readonly prompt?: number
}

/**
 * Why the model stopped: at its end or a stop sequence (`stop`), at the limit of tokens (`length`), to call
 * tools, or because the server's filter cut it off.
 *
 * @since 0.1.0
 * @category models
 */
export type FinishReason = "stop" | "length" | "tool_calls" | "content_filter"

/**
 * The request was accepted. Comes once, before anything is sent; `content` is empty.
 *
 * @since 0.1.0
 * @category models
 */
export interface Start {
  readonly type: "start"
  readonly content: ""
  readonly model: string
  readonly timestamp: number
}

/**
 * A piece of the answer. `index` counts from 0 and never resets, also not when another server takes over.
 *
 * @since 0.1.0
 * @category models
 */
export interface Token {
  readonly type: "token"
  readonly content: string
  readonly index: number
  readonly timestamp: number
}

/**
 * A piece of the model's reasoning, from servers that tell it apart from the answer.
 *
 * @since 0.1.0
 * @category models
 */
export interface Thinking {
  readonly type: "thinking"
  readonly content: string
  readonly timestamp: number
}

/**
 * Log probabilities of the next `token` event, in the server's form: `token`, `logprob`, `bytes` and `top_logprobs`
 * each. Only if requested and reported.
 *
 * @since 0.1.0
 * @category models
 */
export interface Logprobs {
  readonly type: "logprobs"
  readonly logprobs: ReadonlyArray<unknown>
  readonly timestamp: number
}

/**
 * A piece of the arguments of a tool call, as the model writes them; its `tool_call` follows when the answer is
 * complete. The contents of one call, concatenated, are the text of its arguments. `index` counts the calls of the
 * answer from 0; `id` and `name` are those of the call. A cached answer has only `tool_call`.
 *
 * @since 0.1.0
 * @category models
 */
export interface ToolCallDelta {
  readonly type: "tool_call_delta"
  readonly index: number
  readonly id: string
  readonly name: string
  readonly content: string
  readonly timestamp: number
}

/**
 * The model calls a tool. `rawArguments` is the model's text if it is not a JSON object: then `arguments` is empty.
 *
 * @since 0.1.0
 * @category models
 */
export interface ToolCallEvent {
  readonly type: "tool_call"
  readonly id: string
  readonly name: string
  readonly arguments: { readonly [key: string]: unknown }
  readonly rawArguments?: string
  readonly timestamp: number
}

/**
 * A tool with an `execute` function has returned `result`, and the model continues. `failed` if the tool was not run,
 * because the arguments were not a JSON object: then `result` is the error text for the model.
 *
 * @since 0.1.0
 * @category models
 */
export interface ToolResultEvent {
  readonly type: "tool_result"
  readonly id: string
  readonly name: string
  readonly result: unknown
  readonly failed?: true
  readonly timestamp: number
}

/**
 * Information about the call: a server was asked (`server`, `attempt` counted from 1; `hedge` if it is asked besides
 * one that is late: the `end` says who answered), the oldest turns of the history were dropped to fit the model's
 * context (`trimmed`, in messages), or a cached answer follows (`cached`; `age` in milliseconds).
 *
 * @since 0.1.0
 * @category models
 */
export interface Meta {
  readonly type: "meta"
  readonly meta:
    | { readonly server: string; readonly attempt: number; readonly hedge?: true }
    | { readonly trimmed: number }
    | { readonly cached: true; readonly age: number }
  readonly timestamp: number
}

/**
 * A server failed. `content` says what happened; `next` is the server that continues, absent if there is none or it is
 * not known yet. The stream continues where the tokens before stopped, unless a `restart` follows.
 *
 * @since 0.1.0
 * @category models
 */
export interface ErrorEvent {
  readonly type: "error"
  readonly content: string
  readonly attempt: Attempt
  readonly next?: string
  readonly timestamp: number
}

/**
 * The answer broke, and `server` starts it over, as requested by `onInterrupt: "restart"`: the last `discard` token
 * events, the thinking before them and all `tool_call_delta` are void, and must be discarded. That is everything since
 * the start, the last `restart` or the last `tool_result`. Indices continue.
 *
 * @since 0.1.0
 * @category models
 */
export interface Restart {
  readonly type: "restart"
  readonly discard: number
  readonly server: string
  readonly timestamp: number
}

/**
 * The answer is complete. `firstTokenTime` is the time from the start of the call to the first piece of the answer, in
 * milliseconds; `tokensPerSecond` comes from the server's own counters if reported, else from our clock. `attempts` are
 * the failed attempts. `stopSequence` is the text that ended the answer, if the server reports it (vLLM, SGLang, the
 * built-in model): one of the call's, or the model's own. `warnings` is what went wrong after the answer, if anything.
 *
 * @since 0.1.0
 * @category models
 */
export interface End {
  readonly type: "end"
  readonly content: ""
  readonly model: string
  readonly server: string
  readonly usage: Usage
  readonly finishReason: FinishReason
  readonly stopSequence?: string
  readonly firstTokenTime?: number
  readonly tokensPerSecond?: number
  readonly timings?: Timings
  readonly attempts: ReadonlyArray<Attempt>
  readonly warnings?: ReadonlyArray<TurnNotStored>
  readonly timestamp: number
}

/**
 * @since 0.1.0
 * @category models
 */
export type ChatEvent =
  | Start
  | Token
  | Thinking
  | Logprobs
  | ToolCallDelta
  | ToolCallEvent
  | ToolResultEvent
  | Meta
  | ErrorEvent
  | Restart
  | End

/**
 * The text of a stream's events, without discarded parts.
 *
 * @since 0.1.0
 * @category accessors
 */
export const text = (events: Iterable<ChatEvent>): string => {
  const pieces: Array<string> = []
  for (const event of events) {
    if (event.type === "token") pieces.push(event.content)
    else if (event.type === "restart") pieces.length -= event.discard
  }
  return pieces.join("")
}

/**
 * What happens while a model answers, in order: `start`, then any of `meta`, `thinking`, `token`, `tool_call_delta`,
 * `tool_call`, `tool_result`, `error` and `restart`, then `end`. Every event has a `timestamp` in milliseconds since
 * the Unix epoch.
 *
 * Reference: AI Cortex's `StreamEvent`, whose timestamp is in seconds.
 *
 * @since 0.1.0
 */
import type { Decision } from "./Decision.js"
import type { Attempt, SchemaIssue, TurnNotStored } from "./Errors.js"

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
  /** Tokens of the prompt. */
  readonly promptTokens?: number
  /** Tokens of the answer, reasoning included. */
  readonly completionTokens?: number
  /** Both together. */
  readonly totalTokens?: number
  /** Those prompt tokens that were read from a cache. */
  readonly cachedTokens?: number
  /** Those prompt tokens that were written to a cache, where that is counted (Anthropic's API). */
  readonly cacheWriteTokens?: number
  /** Those completion tokens that were used for thinking. */
  readonly reasoningTokens?: number
  /** The server broke off before it reported usage: `completionTokens` is the number of its pieces. */
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
  /** Loading the model, in milliseconds. */
  readonly load?: number
  /** Evaluating the prompt, in milliseconds. */
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
  /** Which event this is. */
  readonly type: "start"
  /** Empty. */
  readonly content: ""
  /** The model that is asked. */
  readonly model: string
  /** When it happened, in milliseconds since the epoch. */
  readonly timestamp: number
}

/**
 * A piece of the answer. `index` counts from 0 and never resets, also not when another server takes over.
 *
 * @since 0.1.0
 * @category models
 */
export interface Token {
  /** Which event this is. */
  readonly type: "token"
  /** The next piece of the text. */
  readonly content: string
  /** Counts from 0 and never resets. */
  readonly index: number
  /** When it happened, in milliseconds since the epoch. */
  readonly timestamp: number
}

/**
 * A piece of the model's reasoning, from servers that separate it from the answer.
 *
 * @since 0.1.0
 * @category models
 */
export interface Thinking {
  /** Which event this is. */
  readonly type: "thinking"
  /** The next piece of the reasoning. */
  readonly content: string
  /** When it happened, in milliseconds since the epoch. */
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
  /** Which event this is. */
  readonly type: "logprobs"
  /** One for each token, in the server's form. */
  readonly logprobs: ReadonlyArray<unknown>
  /** When it happened, in milliseconds since the epoch. */
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
  /** Which event this is. */
  readonly type: "tool_call_delta"
  /** The number of the call in this answer, from 0. */
  readonly index: number
  /** The id of the call. */
  readonly id: string
  /** The tool that is called. */
  readonly name: string
  /** The next piece of the arguments' text. */
  readonly content: string
  /** When it happened, in milliseconds since the epoch. */
  readonly timestamp: number
}

/**
 * The model calls a tool. `rawArguments` is the model's text if it is not a JSON object: then `arguments` is empty.
 *
 * @since 0.1.0
 * @category models
 */
export interface ToolCallEvent {
  /** Which event this is. */
  readonly type: "tool_call"
  /** The id of the call; the tool's result names it. */
  readonly id: string
  /** The tool that is called. */
  readonly name: string
  /** The parsed arguments. */
  readonly arguments: { readonly [key: string]: unknown }
  /** The model's text where it is not a JSON object. */
  readonly rawArguments?: string
  /** When it happened, in milliseconds since the epoch. */
  readonly timestamp: number
}

/**
 * A tool with an `execute` function has returned `result`, and the model continues. `failed` if the tool was not run,
 * because its arguments do not fit its parameters, or if it failed and has `onError: "return"`: then `result` is the
 * error text for the model.
 *
 * @since 0.1.0
 * @category models
 */
export interface ToolResultEvent {
  /** Which event this is. */
  readonly type: "tool_result"
  /** The id of the call that this is the result of. */
  readonly id: string
  /** The tool that was called. */
  readonly name: string
  /** What the tool returned; the error text for the model, if `failed`. */
  readonly result: unknown
  /** The tool was not run, because its arguments do not fit its parameters, or it failed. */
  readonly failed?: true
  /** When it happened, in milliseconds since the epoch. */
  readonly timestamp: number
}

/**
 * A server is asked.
 *
 * @since 0.2.0
 * @category models
 */
export interface AttemptMeta {
  /** Which information this is. */
  readonly type: "attempt"
  /** Its address. */
  readonly server: string
  /** The number of the attempt, from 1. */
  readonly attempt: number
  /** It is a hedge, beside a server that is late: `end` names the server that answered. */
  readonly hedge?: true
  /** It has to load the model first. */
  readonly loads?: true
  /** Why this model on this server is asked; absent only where a service was replaced. */
  readonly decision?: Decision
}

/**
 * The oldest turns of the history were dropped to fit the model's context.
 *
 * @since 0.2.0
 * @category models
 */
export interface TrimmedMeta {
  /** Which information this is. */
  readonly type: "trimmed"
  /** How many messages were dropped. */
  readonly trimmed: number
}

/**
 * A cached answer follows.
 *
 * @since 0.2.0
 * @category models
 */
export interface CachedMeta {
  /** Which information this is. */
  readonly type: "cached"
  /** Always `true`. */
  readonly cached: true
  /** The age of the answer, in milliseconds. */
  readonly age: number
}

/**
 * Information about the call: a server was asked (`server`, `attempt` counted from 1; `hedge` if it is asked besides
 * one that is late: the `end` says who answered; `loads` if it has to load the model first; `decision` why), the oldest
 * turns of the history were dropped to fit the model's context (`trimmed`, in messages), or a cached answer follows
 * (`cached`; `age` in milliseconds).
 *
 * @since 0.1.0
 * @category models
 */
export interface Meta {
  /** Which event this is. */
  readonly type: "meta"
  /** The information, by its `type`. */
  readonly meta: AttemptMeta | TrimmedMeta | CachedMeta
  /** When it happened, in milliseconds since the epoch. */
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
  /** Which event this is. */
  readonly type: "error"
  /** What happened, in words. */
  readonly content: string
  /** The attempt that failed. */
  readonly attempt: Attempt
  /** The address of the server that continues; absent if there is none or it is not known yet. */
  readonly next?: string
  /** When it happened, in milliseconds since the epoch. */
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
  /** Which event this is. */
  readonly type: "restart"
  /** How many of the last `token` events are void. */
  readonly discard: number
  /** The address of the server that starts the answer over. */
  readonly server: string
  /** When it happened, in milliseconds since the epoch. */
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
  /** Which event this is. */
  readonly type: "end"
  /** Empty. */
  readonly content: ""
  /** The model that answered. */
  readonly model: string
  /** The address of the server that answered. */
  readonly server: string
  /** The tokens of the answer. */
  readonly usage: Usage
  /** Why the answer ended. */
  readonly finishReason: FinishReason
  /** The text that ended the answer, if the server reports it: one of the call's, or the model's own. */
  readonly stopSequence?: string
  /** From the start of the call to the first piece of the answer, in milliseconds. */
  readonly firstTokenTime?: number
  /** Generation speed: by the server's own counters if reported, else by our clock. */
  readonly tokensPerSecond?: number
  /** The server's own timings, if requested and reported. */
  readonly timings?: Timings
  /** The attempts that failed before. */
  readonly attempts: ReadonlyArray<Attempt>
  /** What went wrong after the answer, if anything. */
  readonly warnings?: ReadonlyArray<TurnNotStored>
  /** When it happened, in milliseconds since the epoch. */
  readonly timestamp: number
}

/**
 * What happens in an answer, in order: `start`, then pieces and news of the call, then `end`. A failure ends the stream
 * instead of `end`.
 *
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
 * The value so far of a reply that must be JSON, as the model writes it: not checked, and not complete. Each is a
 * snapshot that does not change any more. Numbers appear when they are complete, texts as they grow.
 *
 * @since 0.2.0
 * @category models
 */
export interface PartialValue<out P = unknown> {
  /** Which event this is. */
  readonly type: "partial"
  /** The value so far. */
  readonly value: P
  /** When it happened, in milliseconds since the epoch. */
  readonly timestamp: number
}

/**
 * The reply does not fit its schema, and the model is asked once more, with the issues: the last `discard` token events
 * and the partial values before are void.
 *
 * @since 0.2.0
 * @category models
 */
export interface Repair {
  /** Which event this is. */
  readonly type: "repair"
  /** What does not fit. */
  readonly issues: ReadonlyArray<SchemaIssue>
  /** How many of the last `token` events are void. */
  readonly discard: number
  /** When it happened, in milliseconds since the epoch. */
  readonly timestamp: number
}

/**
 * The whole value, checked: what the schema makes of the reply. Comes once, before `end`.
 *
 * @since 0.2.0
 * @category models
 */
export interface Value<out A = unknown> {
  /** Which event this is. */
  readonly type: "value"
  /** The value. */
  readonly value: A
  /** When it happened, in milliseconds since the epoch. */
  readonly timestamp: number
}

/**
 * What happens in an answer that must be JSON: all other events, the value as it grows (`partial`), and the value.
 *
 * @since 0.2.0
 * @category models
 */
export type StructuredEvent<A = unknown, P = unknown> = ChatEvent | PartialValue<P> | Repair | Value<A>

/**
 * The text of a stream's events, without discarded parts.
 *
 * @since 0.1.0
 * @category accessors
 */
export const text = (events: Iterable<StructuredEvent>): string => {
  const pieces: Array<string> = []
  for (const event of events) {
    if (event.type === "token") pieces.push(event.content)
    else if (event.type === "restart" || event.type === "repair") pieces.length -= event.discard
  }
  return pieces.join("")
}

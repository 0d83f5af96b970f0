/** What is known of an answer, as `execute` reports it. */
import type { Line, Resources } from "../Conditions.js"
import type { Result } from "../Failover.js"

/**
 * How long an answer took and how much it is. What a server does not report is `undefined`.
 *
 * @since 0.2.0
 * @category models
 */
export interface Metrics {
  /** From the call to the end of the answer, in milliseconds. */
  readonly totalLatency: number
  /** From the call to the first piece of the answer, in milliseconds. */
  readonly timeToFirstToken: number | undefined
  /** Generation speed. */
  readonly tokensPerSecond: number | undefined
  /** The tokens of the prompt, with the conversation before it. */
  readonly inputTokens: number | undefined
  /** The tokens of the answer. */
  readonly outputTokens: number | undefined
  /** When the call began, in milliseconds since the epoch. */
  readonly startTime: number
  /** When the answer was complete, in milliseconds since the epoch. */
  readonly endTime: number
  /** The model that answered, with its tag. */
  readonly modelName: string
  /** What its server speaks: `ollama`, `openai`, `anthropic` or `embedded`. */
  readonly modelType: string
}

/**
 * The conditions that the decision was made under, as they were known then.
 *
 * @since 0.2.0
 * @category models
 */
export interface AgentChecks {
  /** This machine; `undefined` where it was not read yet, or cannot be. */
  readonly resources: Resources | undefined
  /** The lines to remote servers that were checked. */
  readonly connectivity: ReadonlyArray<Line>
}

type Answered = Pick<Result, "model" | "server" | "usage" | "firstTokenTime" | "tokensPerSecond">

/** The metrics of an answer. */
export const metricsOf = (
  { firstTokenTime, model, tokensPerSecond, usage }: Answered,
  modelType: string,
  startTime: number,
  endTime: number
): Metrics => ({
  totalLatency: endTime - startTime,
  timeToFirstToken: firstTokenTime,
  tokensPerSecond,
  inputTokens: usage.promptTokens,
  outputTokens: usage.completionTokens,
  startTime,
  endTime,
  modelName: model,
  modelType
})

const seconds = (milliseconds: number): string => `${(milliseconds / 1000).toFixed(2)} s`

/** The metrics in one line. */
export const metricsLine = (modelId: string, metrics: Metrics): string => {
  const { outputTokens, timeToFirstToken, tokensPerSecond, totalLatency } = metrics
  return [
    modelId,
    seconds(totalLatency),
    ...(timeToFirstToken === undefined ? [] : [`first token after ${seconds(timeToFirstToken)}`]),
    ...(outputTokens === undefined ? [] : [`${outputTokens} tokens`]),
    ...(tokensPerSecond === undefined ? [] : [`${tokensPerSecond.toFixed(1)} tokens/s`])
  ].join(", ")
}

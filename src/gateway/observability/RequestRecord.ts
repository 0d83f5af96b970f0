/** What is recorded about one request for the log, the span and the metrics. */

export class RequestRecord {
  /** First the requested model, then the one that answered. */
  model: string | undefined = undefined
  /** The label of the server that clients see. */
  server: string | undefined = undefined
  /** Its address; empty before a server has answered. */
  url = ""
  /** Number of servers tried for the last answer. */
  attempts = 0
  cached = false
  streamed = false
  promptTokens = 0
  /** Those that were read from a cache. */
  cachedTokens = 0
  completionTokens = 0
  /** Those of them that were used for thinking. */
  reasoningTokens = 0
  /** From the request headers to the first piece of the answer, in milliseconds. */
  firstToken: number | undefined = undefined
  /** The error code. */
  error: string | undefined = undefined
  /** The code of what went wrong after the answer. */
  warning: string | undefined = undefined
}

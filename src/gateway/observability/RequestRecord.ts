/**
 * What is recorded about one request for the log, the span and the metrics.
 *
 * @since 0.1.0
 */

/**
 * - `model`: first the requested model, then the one that answered
 * - `server`: the label of the server that clients see
 * - `attempts`: number of servers tried for the last answer
 * - `firstToken`: from the request headers to the first piece of the answer, in milliseconds
 * - `error`: the error code
 * - `warning`: the code of what went wrong after the answer
 *
 * @since 0.1.0
 * @category models
 */
export class RequestRecord {
  model: string | undefined = undefined
  server: string | undefined = undefined
  attempts = 0
  cached = false
  streamed = false
  promptTokens = 0
  completionTokens = 0
  firstToken: number | undefined = undefined
  error: string | undefined = undefined
  warning: string | undefined = undefined
}

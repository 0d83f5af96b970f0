/**
 * What there is to tell of one request when it is over: noted while it is answered, a few times per request.
 *
 * @since 0.1.0
 */

/**
 * - `model`: as it was asked for, then the one that has answered
 * - `server`: how the server is called in what clients see
 * - `attempts`: how many servers were asked, for the last answer
 * - `firstToken`: from the request's headers to the first piece of its answer, in milliseconds
 * - `error`: the code of what went wrong
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

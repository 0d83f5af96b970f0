/** How often a request may be tried, if the client limits it. */
import type { Limits } from "../../ChatRequest.js"
import { make, RequestRejected } from "../http/errorResponse.js"
import type { RequestContext } from "../http/RequestContext.js"

/** Maximum number of attempts that a client may ask for. */
const most = 16

/**
 * The header `X-Aicortex-Max-Retries`: total attempts, from 1 to 16, never more than the gateway's own `maxRetries` if
 * that is set; `undefined` without it.
 */
export const maxRetries = (context: RequestContext, own: number | undefined): number | undefined => {
  const header = context.request.headers["x-aicortex-max-retries"]
  if (header === undefined) return own
  const text = String(header).trim()
  const value = Number(text)
  if (!/^\d{1,4}$/.test(text) || value < 1 || value > most) {
    throw new RequestRejected(make(400, `The header X-Aicortex-Max-Retries must be a whole number from 1 to ${most}.`))
  }
  return own === undefined ? value : Math.min(own, value)
}

/** The limits of one request. */
export const limitsFor = (context: RequestContext, limits: Limits): Limits => {
  const maxAttempts = maxRetries(context, limits.maxAttempts)
  return maxAttempts === limits.maxAttempts ? limits : { ...limits, maxAttempts }
}

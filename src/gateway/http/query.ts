/** The query parameters of a request. */

import { reject } from "./errorResponse.js"
import type { RequestContext } from "./RequestContext.js"

/** Rejects parameters that are not in `known`. */
export const of = (context: RequestContext, known: ReadonlyArray<string>): URLSearchParams => {
  const { url = "" } = context.request
  const start = url.indexOf("?")
  const query = new URLSearchParams(start === -1 ? "" : url.slice(start))
  for (const name of query.keys()) {
    if (!known.includes(name)) reject(name, "is not a parameter of this endpoint", "unknown_parameter")
  }
  return query
}

/** The `limit` parameter: 1 to `most`. */
export const limit = (query: URLSearchParams, most: number, otherwise: number): number => {
  const given = query.get("limit")
  const limit = given === null ? otherwise : Number(given)
  if (!Number.isInteger(limit) || limit < 1 || limit > most) reject("limit", `must be a whole number from 1 to ${most}`)
  return limit
}

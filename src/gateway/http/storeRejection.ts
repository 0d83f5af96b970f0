/** Requests that need a store which cannot be used now. Its own words may name files and addresses: they are not told. */
import { adviceOn, type StoreTrouble, troubleOf, waitFor } from "../../errors/advice.js"
import { type ErrorResponse, make } from "./errorResponse.js"

const states: { readonly [T in StoreTrouble]: string } = {
  full: "has no room left",
  unwritable: "cannot be written",
  broken: "cannot be used",
  away: "cannot be reached"
}

/** What is wrong with it and what to do, completing "the store …". */
export const storeProblem = (reason: string): string => `${states[troubleOf(reason)]}. ${adviceOn(reason)}`

/** Status 503. `what` is the store, as the sentence begins. */
export const storeRejection = (what: string, reason: string): ErrorResponse =>
  make(503, `${what} ${storeProblem(reason)}`, "store_unavailable", null, waitFor(reason))

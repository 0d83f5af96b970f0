/** A bound on how long a request waits for the store: where the network is cut, nothing ends on its own. */
import * as Effect from "effect/Effect"
import { StoreUnavailable } from "../Errors.js"

/** In milliseconds. */
const timeout = 3_000

/** Fails where the store does not answer in time. What was begun may still be done. */
export const inTime = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E | StoreUnavailable> =>
  effect.pipe(
    // Cancelling a statement may need the network, too.
    Effect.disconnect,
    Effect.timeoutFail({
      duration: timeout,
      onTimeout: () =>
        new StoreUnavailable({ reason: `it does not answer within ${timeout / 1_000} s`, uncertain: true })
    })
  )

import type { Finish } from "../Backend.js"
import type { Timings } from "../ChatEvent.js"

/**
 * How long the server took, where it said so.
 *
 * @internal
 */
export const timingsOf = ({ loadTime, promptTime }: Finish): Timings | undefined =>
  loadTime === undefined && promptTime === undefined
    ? undefined
    : {
        ...(loadTime === undefined ? {} : { load: loadTime }),
        ...(promptTime === undefined ? {} : { prompt: promptTime })
      }

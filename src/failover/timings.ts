import type { Finish } from "../Backend.js"
import type { Timings } from "../ChatEvent.js"

/**
 * The server's timings, if it reported them.
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

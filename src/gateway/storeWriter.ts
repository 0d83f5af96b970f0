/** Writes batches into the store each second, apart from requests, and what is left when the gateway stops. */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { StoreUnavailable } from "../Errors.js"

const interval = "1 second"

/** How long the last batches may take when the gateway stops. */
const lastFlush = "10 seconds"

interface Options {
  /** Writes one batch; `false`: there was none. */
  readonly writeOne: Effect.Effect<boolean, StoreUnavailable>
  readonly log: (text: string) => void
  /** What the operator's log says. */
  readonly words: {
    readonly away: string
    readonly back: string
    readonly last: string
  }
  /** Called when all that waited is written. */
  readonly written?: () => void
}

export interface StoreWriter {
  /** Writes all that waits. */
  readonly flush: Effect.Effect<void, StoreUnavailable>
  /** Writes each second, and what is left when the scope closes. */
  readonly run: Effect.Effect<void, never, Scope.Scope>
}

/** Logs when the store becomes unavailable and when it is back, once each. */
export const make = ({ log, words, writeOne, written }: Options): StoreWriter => {
  const permit = Effect.unsafeMakeSemaphore(1)
  let failing = false
  const flush = Effect.asVoid(Effect.repeat(writeOne, { while: (more) => more })).pipe(permit.withPermits(1))
  const flushAndTell = Effect.match(flush, {
    onSuccess: () => {
      if (failing) log(words.back)
      failing = false
      written?.()
    },
    onFailure: ({ reason }) => {
      if (!failing) log(`${words.away}: ${reason}`)
      failing = true
    }
  })
  const flushLast = flush.pipe(
    Effect.timeout(lastFlush),
    Effect.catchAll((error) => Effect.sync(() => log(`${words.last}: ${error.message}`)))
  )
  const run = Effect.zipRight(
    Effect.addFinalizer(() => flushLast),
    Effect.asVoid(Effect.forkScoped(Effect.repeat(flushAndTell, Schedule.spaced(interval))))
  )
  return { flush, run }
}

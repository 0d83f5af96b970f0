/** Tries again what may go better a moment later. */
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import { longestPause, Trouble } from "./trouble.js"

/** How often without anything having come, and after which pauses, in milliseconds. */
export interface RetryPolicy {
  readonly retries: number
  readonly backoff: number
}

const longestBackoff = 30_000

/** The same, not to be tried again. */
const final = ({ reason, status }: Trouble, detail: string): Trouble =>
  new Trouble({ reason, detail, passing: false, ...(status === undefined ? {} : { status }) })

/** The pause before the next attempt, after so many failed ones. Fails if there is none left. */
export const pause = Effect.fnUntraced(function* (
  trouble: Trouble,
  failures: number,
  { backoff, retries }: RetryPolicy
) {
  const { after = 0, passing } = trouble
  if (!passing) return yield* trouble
  if (failures > retries) return yield* final(trouble, trouble.detail)
  if (after > longestPause) {
    const detail = `${trouble.detail}, for the next ${Math.ceil(after / 60_000)} minutes`
    return yield* final(trouble, detail)
  }
  const jitter = 0.75 + 0.5 * (yield* Random.next)
  const wait = Math.max(after, Math.min(longestBackoff, backoff * 2 ** Math.max(0, failures - 1)) * jitter)
  return wait
})

/** Retries an effect. `told` receives each pause. */
export const retrying = <A, R>(
  effect: Effect.Effect<A, Trouble, R>,
  policy: RetryPolicy,
  told: (trouble: Trouble, wait: number) => void
): Effect.Effect<A, Trouble, R> => {
  const attempt = (failures: number): Effect.Effect<A, Trouble, R> =>
    Effect.catchAll(effect, (trouble) =>
      Effect.flatMap(pause(trouble, failures + 1, policy), (wait) => {
        told(trouble, wait)
        return Effect.zipRight(Effect.sleep(wait), attempt(failures + 1))
      })
    )
  return attempt(0)
}

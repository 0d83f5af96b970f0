/**
 * Sleeps of background work.
 *
 * @internal
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DefaultServices from "effect/DefaultServices"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { maxTimer } from "./silenceTimer.js"

const live = Context.get(DefaultServices.liveServices, Clock.Clock)

/**
 * Like `Effect.sleep`, but does not keep the process alive.
 *
 * @internal
 */
export const pause = (duration: Duration.DurationInput): Effect.Effect<void> =>
  Effect.clockWith((clock) => {
    const milliseconds = Duration.toMillis(duration)
    // Another clock has timers of its own.
    if (clock !== live || milliseconds > maxTimer) return clock.sleep(Duration.decode(duration))
    return Effect.async<void>((resume) => {
      const timer: { readonly unref?: () => void } | number = setTimeout(() => resume(Effect.void), milliseconds)
      if (typeof timer === "object") timer.unref?.()
      return Effect.sync(() => clearTimeout(timer as ReturnType<typeof setTimeout>))
    })
  })

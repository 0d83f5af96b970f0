/**
 * Pauses of work that nobody waits for.
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
 * As `Effect.sleep`, but a program that has nothing else to do ends all the same.
 *
 * @internal
 */
export const pause = (duration: Duration.DurationInput): Effect.Effect<void> =>
  Effect.clockWith((clock) => {
    const milliseconds = Duration.toMillis(duration)
    // The timers of another clock are its own.
    if (clock !== live || milliseconds > maxTimer) return clock.sleep(Duration.decode(duration))
    return Effect.async<void>((resume) => {
      const timer: { readonly unref?: () => void } | number = setTimeout(() => resume(Effect.void), milliseconds)
      if (typeof timer === "object") timer.unref?.()
      return Effect.sync(() => clearTimeout(timer as ReturnType<typeof setTimeout>))
    })
  })

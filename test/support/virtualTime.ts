/** Virtual time for programs of several processes: it goes to the next sleeper once nobody has anything to do. */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

interface Sleeper {
  readonly at: number
  readonly wake: () => void
}

export class VirtualTime {
  now = 0
  /** The earliest last. */
  private readonly sleepers: Array<Sleeper> = []

  readonly clock: Clock.Clock = {
    ...Clock.make(),
    unsafeCurrentTimeMillis: () => this.now,
    unsafeCurrentTimeNanos: () => BigInt(Math.round(this.now * 1e6)),
    currentTimeMillis: Effect.sync(() => this.now),
    currentTimeNanos: Effect.sync(() => BigInt(Math.round(this.now * 1e6))),
    sleep: (duration) =>
      Effect.async<void>((resume) => {
        const sleeper = this.enter(Duration.toMillis(duration), () => resume(Effect.void))
        return Effect.sync(() => {
          const at = this.sleepers.indexOf(sleeper)
          if (at >= 0) this.sleepers.splice(at, 1)
        })
      })
  }

  private enter(milliseconds: number, wake: () => void): Sleeper {
    const sleeper = { at: this.now + milliseconds, wake }
    let place = this.sleepers.length
    while (place > 0 && (this.sleepers[place - 1]?.at ?? 0) <= sleeper.at) place--
    this.sleepers.splice(place, 0, sleeper)
    return sleeper
  }

  sleep(milliseconds: number): Promise<void> {
    return new Promise((resolve) => this.enter(milliseconds, resolve))
  }

  /** Lets time pass until this moment. */
  async runUntil(end: number): Promise<void> {
    for (;;) {
      await new Promise((resolve) => setImmediate(resolve))
      const next = this.sleepers.at(-1)
      if (next === undefined || next.at > end) break
      this.sleepers.pop()
      this.now = next.at
      next.wake()
    }
    this.now = end
  }
}

/** Numbers from 0 to 1 that are the same for the same seed. */
export const randomOf = (seed: number): (() => number) => {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}

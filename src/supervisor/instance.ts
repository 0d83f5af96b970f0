/** One engine of a model: started, started again when it ends by itself, and given up when that does not help. */
import type * as HttpClient from "@effect/platform/HttpClient"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Engines from "../Engines.js"
import type { EngineFailed } from "../Errors.js"
import type { Engine, EngineOptions, LocalSource } from "../engines/engine.js"
import { start } from "../engines/start.js"
import type { State } from "../LocalModels.js"
import { startOf } from "./processes.js"

/** The pause before an engine is started again, in milliseconds: it doubles each time. */
const leastPause = 1_000
const longestPause = 30_000

/** So many ends within so many milliseconds are too many. */
const maxEnds = 5
const endsWithin = 60_000

/** What an engine is started with. */
export interface InstanceOptions {
  readonly engine: Engine
  readonly program: string
  readonly source: LocalSource
  readonly options: EngineOptions
  readonly timeout: number
  /** Receives each line that it writes. */
  readonly line: (text: string) => void
  /** Something has changed. */
  readonly changed: () => void
}

/** One engine, and what it is doing. */
export interface Instance {
  readonly engine: Engine
  state: State
  port: number
  pid: number | undefined
  processStart: string | undefined
  readyAt: number | undefined
  restarts: number
  problem: string | undefined
  /** Its last lines, and when that was, where it cannot be run. */
  log: ReadonlyArray<string>
  failedAt: number | undefined
}

export const makeInstance = (engine: Engine, port: number): Instance => ({
  engine,
  state: "loading",
  port,
  pid: undefined,
  processStart: undefined,
  readyAt: undefined,
  restarts: 0,
  problem: undefined,
  log: [],
  failedAt: undefined
})

/** Receives the outcome of the first start. */
export interface FirstStart {
  readonly ready: Effect.Effect<unknown>
  readonly refused: (error: EngineFailed) => Effect.Effect<unknown>
}

/**
 * Runs an engine until it is interrupted, or given up. `first` is called when it answers for the first time, or cannot.
 */
export const supervise = (
  self: Instance,
  options: InstanceOptions,
  first: FirstStart
): Effect.Effect<void, never, Engines.System | HttpClient.HttpClient> =>
  Effect.gen(function* () {
    let ends: ReadonlyArray<number> = []
    let wasReady = false
    let lastLog: ReadonlyArray<string> = []
    const become = (state: State, problem?: string) => {
      self.state = state
      self.problem = problem
      if (state !== "ready") {
        self.pid = undefined
        self.processStart = undefined
        self.readyAt = undefined
      }
      options.changed()
    }

    while (true) {
      const life = Effect.gen(function* () {
        const started = yield* start({ ...options, port: self.port })
        self.port = started.port
        self.pid = started.child.pid
        self.processStart = yield* Effect.promise(() => startOf(started.child.pid))
        self.readyAt = yield* Clock.currentTimeMillis
        wasReady = true
        become("ready")
        yield* first.ready
        const ended = yield* started.child.ended
        lastLog = started.child.log()
        return ended
      })
      const end = yield* Effect.either(Effect.scoped(life))
      const now = yield* Clock.currentTimeMillis
      if (end._tag === "Left" && !wasReady) {
        self.log = end.left.log
        self.failedAt = now
        become("failed", end.left.reason)
        yield* first.refused(end.left)
        return
      }
      const reason = end._tag === "Left" ? end.left.reason : `it ended with ${end.right}`
      options.line(`aicortex: ${reason}`)
      ends = [...ends.filter((at) => now - at < endsWithin), now]
      if (ends.length >= maxEnds) {
        self.log = end._tag === "Left" ? end.left.log : lastLog
        self.failedAt = now
        become("failed", `${reason}; given up after ${maxEnds} ends within ${endsWithin / 1000} s`)
        return
      }
      become("restarting", reason)
      self.restarts++
      yield* Effect.sleep(Math.min(longestPause, leastPause * 2 ** (ends.length - 1)))
    }
  })

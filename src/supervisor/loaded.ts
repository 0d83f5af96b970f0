/** A model that was started. */
import type * as Deferred from "effect/Deferred"
import type * as Scope from "effect/Scope"
import type { EngineFailed } from "../Errors.js"
import type { EngineOptions, LocalSource } from "../engines/engine.js"
import type * as LocalModels from "../LocalModels.js"
import type { Instance } from "./instance.js"

export interface Loaded {
  readonly name: string
  readonly source: LocalSource
  readonly info: Omit<LocalModels.Model, "engines">
  readonly engines: ReadonlyArray<Instance>
  readonly slots: number
  /** What it was started with. */
  readonly options: EngineOptions
  /** `undefined`: until it is stopped. */
  keepAlive: number | undefined
  readonly ready: Deferred.Deferred<void, EngineFailed>
  readonly scope: Scope.CloseableScope
  /** Whether it outlives the gateway that had it started. */
  lasting: boolean
  lastUsed: number
  /** Until when another process has it, as last reported. */
  heldUntil: number
  answered: number
}

/** When a model that is loaded could not be run; `undefined` if it can. */
export const failedAt = ({ engines }: Loaded): number | undefined => {
  const times = engines.map((instance) => instance.failedAt ?? 0)
  return engines.every(({ state }) => state === "failed") ? Math.max(...times) : undefined
}

/** Replaces the files of a registry, and returns the differences. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { RegistryChangeRefused } from "../../errors/registry.js"
import { StoreHost } from "../../modelStore/host.js"
import * as Folder from "./folder.js"
import * as Plan from "./plan.js"
import type { Rejected } from "./record.js"
import { newIdOf } from "./sources.js"

/** How a registry is changed. */
export interface ChangeOptions {
  readonly backup: boolean
  readonly force: boolean
  readonly dryRun: boolean
}

/** What a registry becomes. */
export interface Outcome {
  readonly records: unknown
  /** What was left out of them. */
  readonly rejected: ReadonlyArray<Rejected>
  /** Files that are of no family. */
  readonly more?: ReadonlyArray<Plan.PresentFile>
}

/** Makes an outcome of the files as they are: no other process changes them then. */
export type Make<E, R> = (present: ReadonlyArray<Plan.PresentFile>) => Effect.Effect<Outcome, E, R>

/**
 * What became of a registry, or would become of it.
 *
 * @since 0.4.0
 * @category models
 */
export interface Applied {
  /** The folder of the registry. */
  readonly registry: string
  /** Whether nothing was written. */
  readonly dryRun: boolean
  /** How many records there were. */
  readonly before: number
  /** How many there are now. */
  readonly after: number
  /** What is different. */
  readonly changes: ReadonlyArray<Plan.Change>
  /** Names of the files that were written or removed; those whose content stays the same are not. */
  readonly files: { readonly written: ReadonlyArray<string>; readonly removed: ReadonlyArray<string> }
  /** The folder with the files as they were; `null` where none was made. */
  readonly backup: string | null
  /** What was left out, and why. */
  readonly rejected: ReadonlyArray<Rejected>
}

const nothing: Plan.Plan = { write: [], remove: [], changes: [], before: 0, after: 0, rejected: [] }

/** The time. */
export const now = Effect.map(Clock.currentTimeMillis, (time) => new Date(time))

const planned = Effect.fnUntraced(function* <E, R>(registry: string, make: Make<E, R>, force: boolean) {
  const present = (yield* Folder.readFolder(registry)) ?? []
  const { more = [], records, rejected } = yield* make(present)
  if (more.length > 0 && Array.isArray(records) && records.length === 0) {
    return { plan: { ...nothing, write: more }, rejected }
  }
  const { sha256 } = yield* StoreHost
  const made = Plan.plan(records, present, { force, newId: newIdOf(sha256), now: (yield* now).toISOString() })
  if (Either.isLeft(made)) {
    const { kind, reason } = made.left
    return yield* new RegistryChangeRefused({ registry, reason: kind, detail: reason })
  }
  const plan = { ...made.right, write: [...made.right.write, ...more] }
  return { plan, rejected: [...rejected, ...plan.rejected] }
})

/** Replaces the files of a registry, and returns the differences. */
export const applyRecords = Effect.fnUntraced(function* <E, R>(
  registry: string,
  make: Make<E, R>,
  { backup: isBackedUp, dryRun, force }: ChangeOptions
) {
  const change = Effect.gen(function* () {
    const { plan, rejected } = yield* planned(registry, make, force)
    if (plan.write.length === 0 && plan.remove.length === 0) return { plan, rejected, backup: undefined }
    const backup = isBackedUp ? yield* Folder.backUp(registry, yield* now) : undefined
    yield* Folder.change(registry, plan.write, plan.remove)
    return { plan, rejected, backup }
  })
  const { backup, plan, rejected } = yield* dryRun
    ? Effect.map(planned(registry, make, force), (found) => ({ ...found, backup: undefined }))
    : Folder.locked(registry, change)
  const { after, before, changes } = plan
  const files = { written: plan.write.map(({ name }) => name), removed: plan.remove }
  const applied: Applied = { registry, dryRun, before, after, changes, files, backup: backup ?? null, rejected }
  return applied
})

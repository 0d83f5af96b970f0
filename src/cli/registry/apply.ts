/** Replaces the files of a registry, and tells what is different. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Plan from "../../registry/pipeline/plan.js"
import type { Rejected } from "../../registry/pipeline/record.js"
import { CommandFailed } from "../errors.js"
import * as Output from "../output.js"
import * as Folder from "./folder.js"
import * as Sources from "./sources.js"

/** The time. */
export const now = Effect.map(Clock.currentTimeMillis, (time) => new Date(time))

/** So many of something. */
export const counted = (count: number, what: string): string => `${count} ${what}${count === 1 ? "" : "s"}`

/** How a registry is changed. */
export interface ApplyFlags {
  readonly registry: string | undefined
  readonly backup: boolean
  readonly force: boolean
  readonly dryRun: boolean
  readonly json: boolean
}

const signs = { added: "+", removed: "-", changed: "~" } as const

const line = ({ change, fields, model, server }: Plan.Change): string =>
  `${signs[change]} ${model}${server === null ? "" : ` ${server}`}${fields === undefined ? "" : `: ${fields.join(", ")}`}\n`

const nothing: Plan.Plan = { write: [], remove: [], changes: [], before: 0, after: 0, rejected: [] }

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

const planned = <E, R>(folder: string, make: Make<E, R>, { force }: ApplyFlags) =>
  Effect.gen(function* () {
    const present = (yield* Folder.readFolder(folder)) ?? []
    const { more = [], records, rejected } = yield* make(present)
    if (more.length > 0 && Array.isArray(records) && records.length === 0) {
      return { plan: { ...nothing, write: more }, rejected }
    }
    const made = Plan.plan(records, present, { force, newId: Sources.newId, now: (yield* now).toISOString() })
    if (Either.isRight(made)) {
      const plan = { ...made.right, write: [...made.right.write, ...more] }
      return { plan, rejected: [...rejected, ...plan.rejected] }
    }
    const advice = force || !Array.isArray(records) ? "" : "; --force applies it regardless"
    return yield* new CommandFailed({ message: `${folder} is left as it is: ${made.left.reason}${advice}` })
  })

/** Replaces the files of a registry, and tells what is different. */
export const applyRecords = <E, R>(folder: string, make: Make<E, R>, flags: ApplyFlags) =>
  Effect.gen(function* () {
    const isUseful = ({ remove, write }: Plan.Plan) => write.length > 0 || remove.length > 0
    const changed = Effect.gen(function* () {
      const { plan, rejected } = yield* planned(folder, make, flags)
      if (!isUseful(plan)) return { plan, rejected, backup: undefined }
      const backup = flags.backup ? yield* Folder.backUp(folder, yield* now) : undefined
      yield* Folder.change(folder, plan.write, plan.remove)
      return { plan, rejected, backup }
    })
    const { backup, plan, rejected } = yield* flags.dryRun
      ? Effect.map(planned(folder, make, flags), (found) => ({ ...found, backup: undefined }))
      : Folder.locked(folder, changed)
    const files = { written: plan.write.map(({ name }) => name), removed: plan.remove }
    if (flags.json) {
      const { after, before, changes } = plan
      yield* Output.writeJson({ dryRun: flags.dryRun, before, after, changes, files, backup: backup ?? null, rejected })
      return
    }
    yield* Sources.tellRejected(rejected)
    yield* Output.write(plan.changes.map(line).join(""))
    const count = (kind: Plan.Change["change"]) => plan.changes.filter(({ change }) => change === kind).length
    const verb = flags.dryRun ? "would be " : ""
    yield* Output.notice(
      `${counted(plan.after, "record")}: ${verb}${count("added")} added, ${count("changed")} changed, ${count("removed")} removed`
    )
    if (backup !== undefined) yield* Output.notice(`the files as they were are in ${backup}`)
  })

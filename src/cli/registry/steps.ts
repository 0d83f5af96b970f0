/**
 * Runs a step of the registry's pipeline for a command: its progress on a terminal, its failures in the command's
 * words.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as Cortex from "../../Cortex.js"
import { InvalidRequest, RegistryChangeRefused } from "../../Errors.js"
import type { Applied, AskEvent, Change, Rejected, StepDone } from "../../RegistryPipeline.js"
import * as ByRuntime from "../../transport/byRuntime.js"
import * as TransportClient from "../../transport/httpClient.js"
import { counted } from "../counted.js"
import { CommandFailed, refused } from "../errors.js"
import * as Output from "../output.js"
import { Progress } from "./progress.js"

/** The pipeline with the settings of this command, which also provides these. */
export const services = Layer.suspend(() => {
  const client = Layer.provide(TransportClient.layer, ByRuntime.layerConfigured)
  return Cortex.layerRegistryPipeline.pipe(Layer.provide(client), Layer.provideMerge(Cortex.layerSettings()))
})

/** The message about a refused change. */
export const forceAdvice = "; --force applies it regardless"

/** The failures of a step in the words of its command. */
export const inWords =
  (command: string, advice = "") =>
  <A, E, R>(step: Effect.Effect<A, E, R>) =>
    Effect.mapError(step, (error) => {
      if (error instanceof RegistryChangeRefused && error.reason !== "not-a-list") {
        return new CommandFailed({ message: `${error.message}${advice}` })
      }
      if (!(error instanceof InvalidRequest)) return error
      return error.field === "sources"
        ? new CommandFailed({ message: `the sources ${error.reason}` })
        : refused(`registry ${command}`, error)
    })

/** Runs a step to its end; `heard` is called with each server that answers. */
export const run = <A, E, R>(
  events: Stream.Stream<AskEvent | { readonly type: "asked" } | StepDone<A>, E, R>,
  heard: (event: AskEvent) => void = () => {}
) =>
  Effect.suspend(() => {
    const progress = new Progress()
    let result: A | undefined
    const step = Stream.runForEach(events, (event) =>
      Effect.sync(() => {
        if (event.type === "done") result = event.result
        else if (event.type !== "asked") {
          progress.tell(event)
          heard(event)
        }
      })
    )
    return Effect.flatMap(
      Effect.ensuring(
        step,
        Effect.sync(() => progress.close())
      ),
      () => (result === undefined ? Effect.dieMessage("a step without an end") : Effect.succeed(result))
    )
  })

// =============================================================================
// Messages
// =============================================================================

/** More lines than this would hide the result. */
const maxShown = 20

/** Says on standard error what was left out. */
export const tellRejected = (rejected: ReadonlyArray<Rejected>) =>
  Effect.gen(function* () {
    for (const { model, reason, source } of rejected.slice(0, maxShown)) {
      yield* Output.notice(`left out: ${source}${model === undefined ? "" : ` ${model}`}: ${reason}`)
    }
    const more = rejected.length - maxShown
    if (more > 0) yield* Output.notice(`left out: ${more} more; --json names them all`)
  })

const signs = { added: "+", removed: "-", changed: "~" } as const

const line = ({ change, fields, model, server }: Change): string =>
  `${signs[change]} ${model}${server === null ? "" : ` ${server}`}${fields === undefined ? "" : `: ${fields.join(", ")}`}\n`

/** Says what became of a registry. */
export const tellApplied = ({ registry: _, ...applied }: Applied, json: boolean) =>
  Effect.gen(function* () {
    if (json) return yield* Output.writeJson(applied)
    const { after, backup, changes, dryRun, rejected } = applied
    yield* tellRejected(rejected)
    yield* Output.write(changes.map(line).join(""))
    const count = (kind: Change["change"]) => changes.filter(({ change }) => change === kind).length
    const verb = dryRun ? "would be " : ""
    yield* Output.notice(
      `${counted(after, "record")}: ${verb}${count("added")} added, ${count("changed")} changed, ${count("removed")} removed`
    )
    if (backup !== null) yield* Output.notice(`the files as they were are in ${backup}`)
  })

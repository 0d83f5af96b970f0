/**
 * Runs `aicortex registry check`, `fetch`, `resolve`, `apply` and `refresh`: the steps of `RegistryPipeline` over
 * files.
 */
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Stream from "effect/Stream"
import { RegistryUnanswered } from "../../Errors.js"
import * as RegistryPipeline from "../../RegistryPipeline.js"
import { counted } from "../counted.js"
import { CommandFailed } from "../errors.js"
import * as Output from "../output.js"
import * as Files from "./files.js"
import * as Steps from "./steps.js"

/** How servers are asked. */
interface AskFlags {
  readonly workers: number | undefined
  /** In milliseconds. */
  readonly timeout: number | undefined
}

/** Runs `check` or `fetch`, and prints which servers answered and which were left out. */
const ask = <A extends { readonly rejected: ReadonlyArray<RegistryPipeline.Rejected> }, E, R>(
  command: string,
  events: Stream.Stream<RegistryPipeline.AskEvent | RegistryPipeline.StepDone<A>, E | RegistryUnanswered, R>,
  json: boolean
) =>
  Effect.gen(function* () {
    const answered: Array<{ readonly url: string; readonly models: number }> = []
    const heard = (event: RegistryPipeline.AskEvent) => {
      if (event.type !== "answered") return
      const { models, source_url: url } = event.fetched
      answered.push({ url, models: models.length })
    }
    const tell = (rejected: ReadonlyArray<RegistryPipeline.Rejected>) => {
      answered.sort((a, b) => (a.url < b.url ? -1 : 1))
      return json ? Output.writeJson({ answered, rejected }) : Steps.tellRejected(rejected)
    }
    const result = yield* Effect.tapError(Steps.run(events, heard), (error) =>
      error instanceof RegistryUnanswered ? tell(error.rejected) : Effect.void
    )
    yield* tell(result.rejected)
    return result
  }).pipe(Steps.inWords(command))

// =============================================================================
// Check, fetch, resolve
// =============================================================================

export const check = (
  flags: AskFlags & {
    readonly sources: ReadonlyArray<string>
    readonly output: string | undefined
    readonly json: boolean
  }
) =>
  Effect.gen(function* () {
    const { json, output = "valid_models.txt", timeout, workers } = flags
    yield* Files.checkOutput("check", output, json)
    const sources = yield* Files.sourcesOf(flags.sources)
    const { endpoints, rejected } = yield* ask(
      "check",
      RegistryPipeline.checkProgress({ sources, timeout, workers }),
      json
    )
    yield* Files.writeOutput(output, endpoints.map((url) => `${url}\n`).join(""))
    const all = endpoints.length + rejected.length
    yield* Output.notice(`${endpoints.length} of ${counted(all, "server")} answered`)
  }).pipe(Effect.provide(Steps.services))

interface StepFlags {
  readonly input: Option.Option<string>
  readonly output: string | undefined
  readonly json: boolean
}

export const fetch = (flags: AskFlags & StepFlags) =>
  Effect.gen(function* () {
    const { json, output = "fetched_models.json", timeout, workers } = flags
    yield* Files.checkOutput("fetch", output, json)
    const sources = yield* Files.sourcesOf([Files.orDefault(flags.input, "valid_models.txt")])
    const { fetched } = yield* ask("fetch", RegistryPipeline.fetchProgress({ sources, timeout, workers }), json)
    yield* Files.writeOutput(output, Files.toJson(fetched))
    const models = fetched.reduce((sum, { models }) => sum + models.length, 0)
    yield* Output.notice(`${counted(models, "model")} of ${counted(fetched.length, "server")}`)
  }).pipe(Effect.provide(Steps.services))

export const resolve = (flags: StepFlags & { readonly registry: string | undefined; readonly keepMissing: boolean }) =>
  Effect.gen(function* () {
    const { json, keepMissing, output = "resolved_models.json", registry } = flags
    yield* Files.checkOutput("resolve", output, json)
    const input = Files.orDefault(flags.input, "fetched_models.json")
    const fetched = yield* Files.readJson(input)
    if (!Array.isArray(fetched)) return yield* new CommandFailed({ message: `${input} is not a list of servers` })
    const { records, rejected } = yield* Steps.inWords("resolve")(
      RegistryPipeline.resolve({ fetched, registry, keepMissing })
    )
    yield* Files.writeOutput(output, Files.toJson(records))
    if (json) yield* Output.writeJson({ records: records.length, rejected })
    else yield* Steps.tellRejected(rejected)
    yield* Output.notice(counted(records.length, "record"))
  }).pipe(Effect.provide(Steps.services))

// =============================================================================
// Apply, refresh
// =============================================================================

/** How a registry is changed. */
export interface ApplyFlags {
  readonly registry: string | undefined
  readonly backup: boolean
  readonly force: boolean
  readonly dryRun: boolean
  readonly json: boolean
}

export const apply = ({ input, json, ...options }: ApplyFlags & { readonly input: Option.Option<string> }) =>
  Effect.gen(function* () {
    const records = yield* Files.readJson(Files.orDefault(input, "resolved_models.json"))
    const applied = RegistryPipeline.apply({ ...options, records })
    yield* Steps.tellApplied(yield* Steps.inWords("apply", Steps.forceAdvice)(applied), json)
  }).pipe(Effect.provide(Steps.services))

export const refresh = ({
  json,
  sources,
  ...options
}: ApplyFlags & AskFlags & { readonly sources: ReadonlyArray<string>; readonly keepMissing: boolean }) =>
  Effect.gen(function* () {
    const given = yield* Files.sourcesOf(sources)
    const applied = yield* Steps.run(RegistryPipeline.refreshProgress({ ...options, sources: given })).pipe(
      Effect.tapError((error) =>
        error instanceof RegistryUnanswered ? Steps.tellRejected(error.rejected) : Effect.void
      ),
      Steps.inWords("refresh", Steps.forceAdvice)
    )
    yield* Steps.tellApplied(applied, json)
  }).pipe(Effect.provide(Steps.services))

/** Runs `aicortex registry import`, `export` and `restore`. */
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { InvalidRequest } from "../../Errors.js"
import * as RegistryPipeline from "../../RegistryPipeline.js"
import type { JsonRecord } from "../../registry/modelRecord.js"
import { textOfFamily } from "../../registry/pipeline/plan.js"
import { UsageError } from "../errors.js"
import * as Output from "../output.js"
import * as Files from "./files.js"
import type { ApplyFlags } from "./run.js"
import * as Steps from "./steps.js"

// =============================================================================
// Import
// =============================================================================

export const importAll = ({ json, sources, ...options }: ApplyFlags & { readonly sources: ReadonlyArray<string> }) =>
  Effect.gen(function* () {
    const imported = RegistryPipeline.importFrom({ ...options, sources: yield* Files.sourcesOf(sources) })
    yield* Steps.tellApplied(yield* Steps.inWords("import", Steps.forceAdvice)(imported), json)
  }).pipe(Effect.provide(Steps.services))

// =============================================================================
// Export
// =============================================================================

interface ExportFlags {
  readonly registry: string | undefined
  readonly format: RegistryPipeline.ExportOptions["format"]
  readonly output: string | undefined
}

export const exportAll = ({ format, output = "-", registry }: ExportFlags) =>
  Effect.gen(function* () {
    const { files, rejected } = yield* Steps.inWords("export")(RegistryPipeline.exportAs({ format, registry }))
    yield* Steps.tellRejected(rejected)
    if (format === "families" && output === "-")
      return yield* Output.writeLine(textOfFamily(files.flatMap(({ text }) => recordsOf(text))))
    for (const { name, text } of files)
      yield* Files.writeOutput(format === "families" ? join(output, name) : output, text)
  }).pipe(Effect.provide(Steps.services))

/** The records of a family file that was just made. */
const recordsOf = (text: string): ReadonlyArray<JsonRecord> => JSON.parse(text).models

// =============================================================================
// Restore
// =============================================================================

interface RestoreFlags {
  readonly registry: string | undefined
  readonly backup: Option.Option<string>
  readonly list: boolean
  readonly json: boolean
}

export const restore = ({ backup, json, list, registry }: RestoreFlags) =>
  Effect.gen(function* () {
    if (list) {
      const all = yield* Steps.inWords("restore")(RegistryPipeline.backups({ registry }))
      return yield* json ? Output.writeJson(all) : Output.write(all.map((name) => `${name}\n`).join(""))
    }
    const { registry: folder, ...restored } = yield* RegistryPipeline.restore({
      registry,
      backup: Option.getOrUndefined(backup)
    }).pipe(
      Effect.mapError((error) =>
        error instanceof InvalidRequest && error.field === "backup"
          ? new UsageError({
              message: `${error.reason}; --list shows the backups`,
              command: ["registry", "restore"]
            })
          : error
      ),
      Steps.inWords("restore")
    )
    if (json) return yield* Output.writeJson(restored)
    yield* Output.notice(`${folder} is as it was at ${restored.restored}`)
    if (restored.backup !== null) yield* Output.notice(`the files as they were before are in ${restored.backup}`)
  }).pipe(Effect.provide(Steps.services))

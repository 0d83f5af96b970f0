/** Runs `aicortex registry import`, `export` and `restore`. */
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Cortex from "../../Cortex.js"
import { InvalidRequest } from "../../Errors.js"
import * as RegistryPipeline from "../../RegistryPipeline.js"
import * as Exchange from "../../registry/pipeline/exchange.js"
import { serversText } from "../../registry/pipeline/importing.js"
import * as Inventory from "../../registry/pipeline/inventory.js"
import { textOfFamily } from "../../registry/pipeline/plan.js"
import { exactly } from "../../registry/pipeline/record.js"
import * as Sources from "../../registry/pipeline/sources.js"
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
  readonly format: Exchange.Format | undefined
  readonly output: string | undefined
}

export const exportAll = ({ format = "servers", output = "-", registry }: ExportFlags) =>
  Effect.gen(function* () {
    const folder = yield* Steps.inWords("export")(Sources.registryOf(registry))
    const inventory = Inventory.read(yield* Sources.inFolder(folder))
    yield* Steps.tellRejected(inventory.rejected)
    if (format === "urls") return yield* Files.writeOutput(output, Exchange.toUrls(inventory))
    if (format === "servers")
      return yield* Files.writeOutput(output, serversText(Exchange.toServers(inventory).servers))
    if (output === "-") return yield* Output.writeLine(textOfFamily([...inventory.records.values()].map(exactly)))
    for (const { name, text } of Exchange.toFamilies(inventory)) yield* Files.writeOutput(join(output, name), text)
  }).pipe(Effect.provide(Cortex.layerSettings()))

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
              message: `${error.reason}; --list names those that there are`,
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

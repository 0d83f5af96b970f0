/** Runs `aicortex registry import`, `export` and `restore`. */
import { join } from "node:path"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Cortex from "../../Cortex.js"
import { isRecord } from "../../registry/modelRecord.js"
import * as Exchange from "../../registry/pipeline/exchange.js"
import * as Inventory from "../../registry/pipeline/inventory.js"
import { type PresentFile, textOfFamily } from "../../registry/pipeline/plan.js"
import { exactly } from "../../registry/pipeline/record.js"
import { CommandFailed, UsageError } from "../errors.js"
import * as Output from "../output.js"
import { type ApplyFlags, applyRecords } from "./apply.js"
import * as Folder from "./folder.js"
import { services } from "./run.js"
import * as Sources from "./sources.js"

// =============================================================================
// Import
// =============================================================================

const serversFile = "servers.json"

const list = (servers: ReadonlyArray<unknown>): string => `${JSON.stringify({ servers }, undefined, 2)}\n`

/** The list of servers of a registry with these added. */
const withServers = (present: ReadonlyArray<PresentFile>, added: ReadonlyArray<object>) =>
  Effect.gen(function* () {
    const text = present.find(({ name }) => name === serversFile)?.text ?? list([])
    const json: unknown = yield* Sources.parseJson(serversFile, text)
    if (isRecord(json) && Array.isArray(json["servers"])) return list([...json["servers"], ...added])
    return yield* new CommandFailed({ message: `${serversFile} of the registry holds no list of servers` })
  })

export const importAll = (flags: ApplyFlags & { readonly sources: ReadonlyArray<string> }) =>
  Effect.gen(function* () {
    const folder = yield* Sources.registryOf("import", flags.registry)
    const given = yield* Sources.gather(flags.sources)
    const make = (present: ReadonlyArray<PresentFile>) =>
      Effect.gen(function* () {
        const own = Inventory.read(Sources.inFiles(folder, present))
        const records = new Map(own.records)
        for (const [key, record] of given.records) {
          const known = Object.entries(own.records.get(key) ?? {}).filter(([, value]) => value !== null && value !== "")
          records.set(key, { ...record, ...Object.fromEntries(known) })
        }
        const withModels = new Set([...given.records.values()].map(Inventory.urlOf))
        const bare = [...given.servers].filter(([url]) => !withModels.has(url) && !own.servers.has(url))
        const { servers } = Exchange.toServers({ servers: new Map(bare), records: new Map(), rejected: [] })
        const added = servers.map(({ models: _, ...server }) => server)
        const more = bare.length === 0 ? [] : [{ name: serversFile, text: yield* withServers(present, added) }]
        if (records.size === 0 && more.length === 0) {
          yield* Sources.tellRejected(given.rejected)
          return yield* new CommandFailed({ message: "nothing to import: no record and no new address" })
        }
        return { records: [...records.values()], rejected: given.rejected, more }
      })
    yield* applyRecords(folder, make, flags)
  }).pipe(Effect.provide(services))

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
    const folder = yield* Sources.registryOf("export", registry)
    const inventory = Inventory.read(yield* Sources.inFolder(folder))
    yield* Sources.tellRejected(inventory.rejected)
    if (format === "urls") return yield* Sources.writeOutput(output, Exchange.toUrls(inventory))
    if (format === "servers") return yield* Sources.writeOutput(output, list(Exchange.toServers(inventory).servers))
    if (output === "-") return yield* Output.writeLine(textOfFamily([...inventory.records.values()].map(exactly)))
    for (const { name, text } of Exchange.toFamilies(inventory)) yield* Folder.writeFile(join(output, name), text)
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
    const folder = yield* Sources.registryOf("restore", registry)
    const all = yield* Folder.backups(folder)
    if (list) return yield* json ? Output.writeJson(all) : Output.write(all.map((name) => `${name}\n`).join(""))
    const wanted = Option.getOrElse(backup, () => all[0])
    if (wanted === undefined) return yield* new CommandFailed({ message: `${folder} has no backups` })
    if (!all.includes(wanted)) {
      const message = `${folder} has no backup ${wanted}; --list names those that there are`
      return yield* new UsageError({ message, command: ["registry", "restore"] })
    }
    // Read whole before anything is changed: making the next backup may delete the oldest one.
    const files = (yield* Folder.readFolder(Folder.backupPath(folder, wanted))) ?? []
    const restored = Effect.gen(function* () {
      const names = new Set(files.map(({ name }) => name))
      const present = (yield* Folder.readFolder(folder)) ?? []
      const removed = present.map(({ name }) => name).filter((name) => !names.has(name))
      const before = yield* Folder.backUp(folder, new Date(yield* Clock.currentTimeMillis))
      yield* Folder.change(folder, files, removed)
      return { before, removed }
    })
    const { before, removed } = yield* Folder.locked(folder, restored)
    const written = files.map(({ name }) => name)
    if (json) return yield* Output.writeJson({ restored: wanted, files: { written, removed }, backup: before ?? null })
    yield* Output.notice(`${folder} is as it was at ${wanted}`)
    if (before !== undefined) yield* Output.notice(`the files as they were before are in ${before}`)
  }).pipe(Effect.provide(Cortex.layerSettings()))

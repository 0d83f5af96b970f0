/** Adds what files hold to a registry, and brings back what a backup holds. */
import * as Effect from "effect/Effect"
import { InvalidRequest } from "../../Errors.js"
import { RegistryFileFailed } from "../../errors/registry.js"
import { isObject } from "../../internal/isObject.js"
import { applyRecords, now } from "./apply.js"
import * as Folder from "./folder.js"
import * as Inventory from "./inventory.js"
import { decodeBackups, decodeImport, decodeRestore, type ImportOptions, type RestoreOptions } from "./options.js"
import * as OtherFormats from "./otherFormats.js"
import type { PresentFile } from "./plan.js"
import * as Sources from "./sources.js"

// =============================================================================
// Import
// =============================================================================

const serversFile = "servers.json"

/** The text of a `servers.json`. */
export const serversText = (servers: ReadonlyArray<unknown>): string => `${JSON.stringify({ servers }, undefined, 2)}\n`

/** The list of servers of a registry with these added. */
const withServers = Effect.fnUntraced(function* (present: ReadonlyArray<PresentFile>, added: ReadonlyArray<object>) {
  const text = present.find(({ name }) => name === serversFile)?.text ?? serversText([])
  const unusable = (detail: string) => new RegistryFileFailed({ path: serversFile, detail })
  const json = yield* Effect.try({
    try: (): unknown => JSON.parse(text),
    catch: (error) => unusable(`of the registry is not JSON: ${error instanceof Error ? error.message : error}`)
  })
  if (isObject(json) && Array.isArray(json["servers"])) return serversText([...json["servers"], ...added])
  return yield* unusable("of the registry holds no list of servers")
})

/** Adds servers and records to a registry, without asking a server. */
export const importFrom = Effect.fnUntraced(function* (given: ImportOptions) {
  const { backup = false, dryRun = false, force = false, registry: own, sources } = yield* decodeImport(given)
  const registry = yield* Sources.registryOf(own)
  const added = yield* Sources.gather(sources)
  const make = Effect.fnUntraced(function* (present: ReadonlyArray<PresentFile>) {
    const known = Inventory.read(yield* Sources.inFiles(registry, present))
    const records = new Map(known.records)
    for (const [key, record] of added.records) {
      const fields = Object.entries(known.records.get(key) ?? {}).filter(([, value]) => value !== null && value !== "")
      records.set(key, { ...record, ...Object.fromEntries(fields) })
    }
    const withModels = new Set([...added.records.values()].map(Inventory.urlOf))
    const bare = [...added.servers].filter(([url]) => !withModels.has(url) && !known.servers.has(url))
    const { servers } = OtherFormats.toServers({ servers: new Map(bare), records: new Map(), rejected: [] })
    const entries = servers.map(({ models: _, ...server }) => server)
    const more = bare.length === 0 ? [] : [{ name: serversFile, text: yield* withServers(present, entries) }]
    if (records.size === 0 && more.length === 0) {
      const reasons = added.rejected.map(({ reason, source }) => `; ${source}: ${reason}`).slice(0, 5)
      return yield* new InvalidRequest({
        field: "sources",
        reason: `hold no record and no new address${reasons.join("")}`
      })
    }
    return { records: [...records.values()], rejected: added.rejected, more }
  })
  return yield* applyRecords(registry, make, { backup, dryRun, force })
})

// =============================================================================
// Restore
// =============================================================================

/**
 * What was brought back.
 *
 * @since 0.4.0
 * @category models
 */
export interface Restored {
  /** The folder of the registry. */
  readonly registry: string
  /** The backup whose files it has now: when it was made. */
  readonly restored: string
  /** Names of the files that were written or removed. */
  readonly files: { readonly written: ReadonlyArray<string>; readonly removed: ReadonlyArray<string> }
  /** The folder with the files as they were before; `null` where there were none. */
  readonly backup: string | null
}

/** The backups of a registry, the newest first. */
export const backups = (given: { readonly registry?: string | undefined }) =>
  Effect.flatMap(decodeBackups(given), ({ registry }) => Effect.flatMap(Sources.registryOf(registry), Folder.backups))

/** Brings back the files of a backup. */
export const restore = Effect.fnUntraced(function* (given: RestoreOptions) {
  const { backup: named, registry: own } = yield* decodeRestore(given)
  const registry = yield* Sources.registryOf(own)
  const all = yield* Folder.backups(registry)
  const wanted = named ?? all[0]
  if (wanted === undefined) return yield* new RegistryFileFailed({ path: registry, detail: "has no backups" })
  if (!all.includes(wanted)) {
    const reason = `there is no backup ${wanted} of ${registry}; the newest is ${all[0] ?? "not there"}`
    return yield* new InvalidRequest({ field: "backup", reason })
  }
  // Read whole before anything is changed: making the next backup may delete the oldest one.
  const files = (yield* Folder.readFolder(yield* Folder.backupPath(registry, wanted))) ?? []
  const names = new Set(files.map(({ name }) => name))
  const change = Effect.gen(function* () {
    const present = (yield* Folder.readFolder(registry)) ?? []
    const removed = present.map(({ name }) => name).filter((name) => !names.has(name))
    const backup = yield* Folder.backUp(registry, yield* now)
    yield* Folder.change(registry, files, removed)
    const restored: Restored = {
      registry,
      restored: wanted,
      files: { written: [...names], removed },
      backup: backup ?? null
    }
    return restored
  })
  return yield* Folder.locked(registry, change)
})

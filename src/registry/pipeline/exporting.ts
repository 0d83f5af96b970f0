/** Writes out what a registry holds, in the forms that others read. */
import * as Effect from "effect/Effect"
import { serversText } from "./importing.js"
import * as Inventory from "./inventory.js"
import { decodeExport, type ExportOptions } from "./options.js"
import * as OtherFormats from "./otherFormats.js"
import type { Rejected } from "./record.js"
import * as Sources from "./sources.js"

/**
 * What a registry holds, as texts. Each is a source for `importFrom`.
 *
 * @since 0.4.0
 * @category models
 */
export interface Exported {
  /** The folder of the registry. */
  readonly registry: string
  /** The texts with their names: one for each family, `servers.json`, or `servers.txt`. */
  readonly files: ReadonlyArray<{
    /** The name of the file. */
    readonly name: string
    /** Its content. */
    readonly text: string
  }>
  /** What the registry holds that could not be read, each with its reason. */
  readonly rejected: ReadonlyArray<Rejected>
}

/** What a registry holds, in one of the forms. Nothing is written. */
export const exportAs = Effect.fnUntraced(function* (given: ExportOptions) {
  const { format = "servers", registry: own } = yield* decodeExport(given)
  const registry = yield* Sources.registryOf(own)
  const inventory = Inventory.read(yield* Sources.inFolder(registry))
  const files = {
    families: () => OtherFormats.toFamilies(inventory),
    servers: () => [{ name: "servers.json", text: serversText(OtherFormats.toServers(inventory).servers) }],
    urls: () => [{ name: "servers.txt", text: OtherFormats.toUrls(inventory) }]
  }[format]()
  const exported: Exported = { registry, files, rejected: inventory.rejected }
  return exported
})

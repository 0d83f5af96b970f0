/** What is known of a source of the registry. */
import type { RegistrySourceFailed } from "../errors/registry.js"
import type { Catalogue } from "./catalogue.js"

/**
 * A source of the registry, and the state of what was read of it. Times are in milliseconds since the epoch.
 *
 * @since 0.3.0
 * @category models
 */
export interface RegistrySource {
  /** The address (without what may be secret in it), the folder or the file. */
  readonly source: string
  /** Whether it is an address, or a folder or file of this machine. */
  readonly kind: "url" | "files"
  /** How many servers it names. */
  readonly servers: number
  /** How many models it describes. */
  readonly models: number
  /** When the content in use was read; `undefined`: never, nothing is known. */
  readonly readAt: number | undefined
  /** When the source last confirmed that content. */
  readonly checkedAt: number | undefined
  /** Whether that is longer ago than the source's `ttl`. */
  readonly stale: boolean
  /** Why it could not be read when it was last tried; `undefined` if it could. */
  readonly error: RegistrySourceFailed | undefined
}

/** How much a source holds. */
export const sizeOf = ({ models, servers }: Catalogue): { readonly servers: number; readonly models: number } => ({
  servers: servers.size,
  models: models.size
})

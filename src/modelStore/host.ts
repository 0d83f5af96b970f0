/** What the store, and the pipeline of a registry, need of the machine in addition to its files. */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"

/**
 * A checksum that is being computed.
 *
 * @since 0.3.0
 * @category models
 */
export interface Hash {
  /** Takes the next bytes. */
  readonly update: (bytes: Uint8Array) => void
  /** The checksum, in hexadecimal digits. */
  readonly digest: () => string
}

/**
 * A process that holds a lock.
 *
 * @since 0.3.0
 * @category models
 */
export interface Owner {
  /** The name of its machine. */
  readonly host: string
  /** Its number there. */
  readonly pid: number
  /** When it was started, as its system tells: numbers are given to other processes again. */
  readonly started?: string | undefined
}

/**
 * The machine of the store.
 *
 * @since 0.3.0
 * @category models
 */
export interface Host {
  /** How many bytes are free on the disk of a folder; `undefined` if unknown. */
  readonly freeBytes: (folder: string) => Effect.Effect<number | undefined>
  /** Begins a SHA-256 checksum. */
  readonly sha256: () => Hash
  /** This process. */
  readonly self: Owner
  /** Whether a process runs; `undefined` where it is one of another machine. */
  readonly isAlive: (owner: Owner) => Effect.Effect<boolean | undefined>
}

/**
 * The tag of the machine of the store.
 *
 * @since 0.3.0
 * @category tags
 */
export class StoreHost extends Context.Tag("aicortex/ModelStore/Host")<StoreHost, Host>() {}

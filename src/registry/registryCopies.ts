/** Where the last good copies of registries by address are kept, for a start while the source is away. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"

/** A copy: the content, and what the source is asked with whether it is still the same. */
export interface RegistryCopy {
  readonly text: string
  readonly etag: string | undefined
  readonly lastModified: string | undefined
  /** When the source last confirmed it, in milliseconds since the epoch. */
  readonly checkedAt: number
  /** When this content came. */
  readonly readAt: number
}

/** Keeps them. Nothing here fails: a copy that cannot be kept is only missed at the next start. */
export interface RegistryCopyStore {
  readonly read: (url: string, maxBytes: number) => Effect.Effect<RegistryCopy | undefined>
  readonly write: (url: string, copy: RegistryCopy) => Effect.Effect<void>
  /** The source has confirmed the copy that is kept. */
  readonly confirm: (url: string, checkedAt: number) => Effect.Effect<void>
  /** Whether a source may be asked if its content has changed: a page would have to be allowed to. */
  readonly conditional: boolean
}

const none: RegistryCopyStore = {
  read: () => Effect.succeed(undefined),
  write: () => Effect.void,
  confirm: () => Effect.void,
  conditional: true
}

/** Default: in memory alone. */
export class RegistryCopies extends Context.Reference<RegistryCopies>()("aicortex/Registry/RegistryCopies", {
  defaultValue: (): RegistryCopyStore => none
}) {}

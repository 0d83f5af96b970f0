/** Tells when the files of a registry have changed. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/** Watches a folder or a file, which need not be there yet, until the scope closes; `changed` may be called too often. */
export type WatchRegistry = (path: string, changed: () => void) => Effect.Effect<void, never, Scope.Scope>

/** Default: nothing is watched. */
export class RegistryWatch extends Context.Reference<RegistryWatch>()("aicortex/Registry/RegistryWatch", {
  defaultValue: (): WatchRegistry => () => Effect.void
}) {}

/** The store of commands that read or change what gateways keep in it. */
import * as Effect from "effect/Effect"
import * as Cortex from "../Cortex.js"
import * as ConfigFile from "../config/file.js"
import * as Config from "../config/resolve.js"
import type * as Settings from "../Settings.js"
import type * as Store from "../Store.js"
import { UsageError } from "./errors.js"

/** The flag `--store`. */
export interface StoreFlags {
  readonly fleet: Pick<Cortex.Options, "store">
}

/**
 * Runs this with the store that the flag, the environment or the configuration file names, else with the default one. What
 * only reads makes no file.
 */
export const withStore = <A, E, R>(
  { fleet }: StoreFlags,
  command: ReadonlyArray<string>,
  use: (store: Store.Service, settings: Settings.Settings) => Effect.Effect<A, E, R>,
  reads = false
) =>
  Effect.scoped(
    Effect.gen(function* () {
      const settings = yield* Config.settings({ ...fleet, defaultStore: yield* ConfigFile.storeFile })
      const store = yield* Cortex.makeStore(settings, { create: !reads })
      if (store === undefined) {
        const message =
          "the store is off: give --store ADDRESS, or set AICORTEX_STORE, or `store` in the configuration file"
        return yield* new UsageError({ message, command })
      }
      yield* store.open
      return yield* use(store, settings)
    })
  )

/** The models of this machine without a fleet: no server of the user's is known, or asked. */
import { freemem } from "node:os"
import type * as FileSystem from "@effect/platform/FileSystem"
import type * as Path from "@effect/platform/Path"
import * as Layer from "effect/Layer"
import type { ModelOptions } from "../config/fleet.js"
import * as Config from "../config/resolve.js"
import type { InvalidConfig } from "../Errors.js"
import { LocalMemory } from "../ModelSelection.js"
import * as ModelStore from "../ModelStore.js"
import { CurrentSettings } from "../Settings.js"
import * as ByRuntime from "../transport/byRuntime.js"
import * as StoreHost from "./modelStoreHost.js"

/** Options of a fleet of this machine's models alone. */
export const alone = { servers: [], registry: [], model: "auto" } as const

/** The limit of a container counts too. */
const layerMemory = Layer.succeed(LocalMemory, () => process.availableMemory?.() ?? freemem())

/** The store and the settings, as `models`, the environment and the configuration file say. */
export const layer = (
  models?: ModelOptions,
  configFile?: string | false
): Layer.Layer<ModelStore.ModelStore | CurrentSettings, InvalidConfig, FileSystem.FileSystem | Path.Path> =>
  ModelStore.layer.pipe(
    Layer.provide([layerMemory, StoreHost.layer, ByRuntime.layerConfigured]),
    Layer.provideMerge(
      Layer.effect(
        CurrentSettings,
        Config.settings({
          ...alone,
          ...(models === undefined ? {} : { models }),
          ...(configFile === undefined ? {} : { configFile })
        })
      )
    )
  )

/** The models of this machine, for `aicortex serve`. */
import { resolve } from "node:path"
import type * as FileSystem from "@effect/platform/FileSystem"
import type * as Path from "@effect/platform/Path"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type * as Cortex from "../../Cortex.js"
import * as ConfigFile from "../../config/file.js"
import * as Settings from "../../config/gatewaySettings.js"
import { environment } from "../../cortex/environment.js"
import * as LocalStore from "../../cortex/localStore.js"
import type { InvalidConfig } from "../../Errors.js"
import type * as Gateway from "../../Gateway.js"
import { ModelStore } from "../../ModelStore.js"
import { CurrentSettings } from "../../Settings.js"
import * as Keeper from "../../supervisor/keeper.js"

export interface LocalModelsOptions {
  readonly gateway: Gateway.Options
  readonly cortex: Cortex.Options
  /** Whether this process starts a supervisor; others of the same gateway only follow it. */
  readonly starts: boolean
  readonly log: (text: string) => void
}

/** Keeps the models until the scope closes; `undefined` where they are not to be served. */
export const make = Effect.fnUntraced(function* ({
  cortex,
  gateway,
  log,
  starts
}: LocalModelsOptions): Effect.fn.Return<
  Keeper.Keeper | undefined,
  InvalidConfig,
  FileSystem.FileSystem | Path.Path | Scope.Scope
> {
  const { configFile } = cortex
  const { named, path } = yield* ConfigFile.place(configFile === false ? undefined : configFile)
  const file = yield* ConfigFile.readFile(path, named)
  const settings = yield* Settings.resolve(
    { ...gateway, insecure: true },
    { variable: environment, file: file.gateway ?? {}, path }
  )
  if (!settings.localModels) return undefined
  const store = yield* Layer.build(LocalStore.layer(undefined, configFile))
  const hasModels = Effect.flatMap(ModelStore, ({ list }) => list).pipe(
    Effect.map((all) => all.some(({ problem }) => problem === undefined)),
    Effect.orElseSucceed(() => false),
    Effect.provide(store)
  )
  return yield* Keeper.make({
    starts,
    folder: Context.get(store, CurrentSettings).models.folder,
    hasModels,
    port: settings.port,
    environment: configFile === undefined || configFile === false ? {} : { AICORTEX_CONFIG: resolve(configFile) },
    log
  })
})

/** Tells what is offered, and how to leave it out. */
export const announce = (local: Keeper.Keeper | undefined, log: (text: string) => void): void => {
  const models = local?.control.models() ?? []
  if (models.length === 0) return
  const names = models.map(({ name, engines }) =>
    engines.some(({ state }) => state === "ready") ? `${name} (loaded)` : name
  )
  log(`models of this machine, loaded when they are asked for: ${names.join(", ")}  (--no-local leaves them out)`)
}

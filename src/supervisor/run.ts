/**
 * The supervisor: one process for each user that holds the models of this machine, with an endpoint of its own for
 * OpenAI clients.
 */
import { totalmem } from "node:os"
import type * as FileSystem from "@effect/platform/FileSystem"
import type * as Path from "@effect/platform/Path"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Runtime from "effect/Runtime"
import type * as Scope from "effect/Scope"
import { dropEarly } from "../cortex/earlyEngine.js"
import * as EngineSystem from "../cortex/engineSystem.js"
import * as LocalStore from "../cortex/localStore.js"
import * as Engines from "../Engines.js"
import { InvalidConfig, type StoreUnavailable } from "../Errors.js"
import * as Gateway from "../Gateway.js"
import { version } from "../internal/version.js"
import type * as LocalModels from "../LocalModels.js"
import { ModelStore } from "../ModelStore.js"
import * as Servers from "../Servers.js"
import { CurrentSettings } from "../Settings.js"
import * as ByRuntime from "../transport/byRuntime.js"
import * as TransportClient from "../transport/httpClient.js"
import * as Control from "./control.js"
import { ownFolder } from "./layout.js"
import * as Logs from "./logs.js"
import * as Machine from "./machine.js"
import * as Manager from "./manager.js"
import * as ModelSettings from "./modelSettings.js"
import * as Operations from "./operations.js"
import { type Paths, paths } from "./paths.js"
import { memoryOfGroups, startOf } from "./processes.js"
import { baseOf, serversOf } from "./servers.js"
import * as StateFile from "./stateFile.js"

/** Between two looks at what is used, in milliseconds. */
const sweepInterval = 1_000

/** How long a supervisor that is to be followed waits for the first who does, in milliseconds. */
const followTimeout = 30_000

/** How long a model stays that was loaded by a request, in milliseconds. */
const defaultKeepAlive = 300_000

/** How much of the memory all models may take. */
const memoryShare = 0.9

export interface SupervisorOptions {
  readonly host?: string | undefined
  readonly port: number
  /**
   * It ends with the last gateway that follows it, unless a model was started to stay; and takes another port where its
   * is taken.
   */
  readonly whileFollowed?: boolean | undefined
  /** Receives messages for the operator. */
  readonly log: (text: string) => void
}

/** There is one already. */
export class AlreadyRunning {
  readonly _tag = "AlreadyRunning"
}

const unusable = (reason: string) => new InvalidConfig({ source: "the state folder", field: "local", reason })

const prepare = (at: Paths): Effect.Effect<void, InvalidConfig> =>
  Effect.try({
    try: () => {
      for (const folder of [at.folder, at.socketFolder, at.logs]) {
        const problem = ownFolder(folder)
        if (problem !== undefined) throw new Error(problem)
      }
    },
    catch: (cause) => unusable(cause instanceof Error ? cause.message : String(cause))
  })

const layer = Layer.mergeAll(
  Engines.layer.pipe(Layer.provideMerge(EngineSystem.layer)),
  Layer.provide(TransportClient.layer, ByRuntime.layer),
  LocalStore.layer()
)

/** Runs until the scope closes or it receives the request to stop; `ready` is called with its address. */
export const run = Effect.fnUntraced(function* (
  options: SupervisorOptions,
  ready: (url: string) => Effect.Effect<void>
): Effect.fn.Return<
  void,
  InvalidConfig | StoreUnavailable | AlreadyRunning,
  Scope.Scope | FileSystem.FileSystem | Path.Path
> {
  const at = yield* paths
  yield* prepare(at)
  let operations: Control.Operations | undefined
  yield* Effect.mapError(
    Control.serve(at, () => operations),
    ({ reason, taken }) => (taken ? new AlreadyRunning() : unusable(reason))
  )
  const left = yield* Effect.promise(() => StateFile.reconcile(at))
  if (left > 0) options.log(`ended ${left} engines that an earlier supervisor had left behind`)

  const context = yield* Layer.build(layer)
  const { models: settings } = yield* Effect.provide(CurrentSettings, context)
  const startedAt = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
  const processStart = yield* Effect.promise(() => startOf(process.pid))
  let manager: Manager.Manager | undefined
  let base = ""
  const runtime = yield* Effect.runtime()
  const runFork = (effect: Effect.Effect<void>): void => {
    Runtime.runFork(runtime, effect)
  }
  const servers = yield* Servers.make((model) => {
    if (manager !== undefined) runFork(manager.want(model))
  })

  const statusOf = (models: ReadonlyArray<LocalModels.Model>): LocalModels.Status => ({
    pid: process.pid,
    processStart: processStart ?? null,
    version,
    url: `${base}/v1`,
    startedAt,
    models
  })
  const followers = new Map<string, (event: Control.Event) => void>()
  const publish = (): void => {
    if (manager === undefined) return
    const models = manager.models()
    runFork(servers.set(serversOf(models)))
    for (const tell of followers.values()) tell({ type: "models", models })
    try {
      StateFile.write(at, statusOf(models))
    } catch (error) {
      options.log(`${at.state} cannot be written: ${String(error)}`)
    }
  }
  yield* Effect.addFinalizer(() => Effect.sync(() => StateFile.remove(at)))

  const modelSettings = ModelSettings.make(at.folder)
  const made = yield* Effect.provide(
    Manager.make({
      memory: settings.memory ?? totalmem() * memoryShare,
      keepAlive: settings.keepAlive ?? defaultKeepAlive,
      aliases: Object.keys(settings.aliases ?? {}),
      settingsOf: modelSettings.of,
      usage: (url, model) => servers.usage(baseOf(servers.service.now(), url), model),
      line: Logs.makeWriter(at),
      changed: publish
    }),
    context
  )
  manager = made
  const store = yield* Effect.provide(ModelStore, context)
  const observers = new Set<(task: LocalModels.PullTask) => void>()
  const managed = yield* Operations.make(made, store, modelSettings, (task) => {
    for (const told of observers) told(task)
    for (const tell of followers.values()) tell({ type: "task", task })
  })
  const control: LocalModels.Control = {
    models: () => made.models(),
    tasks: managed.tasks,
    observe: (told) => {
      observers.add(told)
      return () => observers.delete(told)
    },
    run: (operation, body) => managed.run[operation]({ ...body }),
    hardware: Machine.hardware(settings.folder),
    engines: Machine.engines
  }
  const listen = (port: number) =>
    Gateway.serve({
      gateway: { port, ...(options.host === undefined ? {} : { host: options.host }) },
      cortex: LocalStore.alone,
      servers: servers.service,
      local: control,
      log: options.log
    })
  const gateway = yield* options.whileFollowed === true
    ? Effect.orElse(listen(options.port), () => listen(0))
    : listen(options.port)
  base = gateway.url
  yield* made.refresh
  publish()

  const ended = yield* Deferred.make<void>()
  const endAlone = Effect.suspend(() => (made.isLasting() ? Effect.void : Deferred.succeed(ended, undefined)))
  const leave = (id: string): boolean => {
    if (!followers.delete(id) || options.whileFollowed !== true || followers.size > 0) return false
    runFork(Effect.asVoid(endAlone))
    return !made.isLasting()
  }
  operations = {
    status: Effect.gen(function* () {
      yield* made.refresh
      const memory = yield* Effect.promise(() => memoryOfGroups(made.pids()))
      return statusOf(made.models(memory))
    }),
    start: (model, given, lasting) =>
      Effect.flatMap(Control.checked(given), (checked) => made.start(model, checked, checked.keepAlive, lasting)).pipe(
        // It was started for this.
        Effect.ensuring(Effect.sync(dropEarly))
      ),
    stop: made.stop,
    want: made.want,
    touch: made.touch,
    refresh: made.refresh,
    shutdown: Effect.asVoid(Deferred.succeed(ended, undefined)),
    run: managed.run,
    follow: (id, tell) => {
      followers.set(id, tell)
      tell({ type: "models", models: made.models() })
      for (const task of managed.tasks()) tell({ type: "task", task })
      return () => {
        leave(id)
      }
    },
    leave
  }
  if (options.whileFollowed === true) {
    // The process that had it started may have been killed before it could follow.
    const alone = Effect.suspend(() => (followers.size === 0 ? endAlone : Effect.void))
    yield* Effect.forkScoped(Effect.interruptible(Effect.delay(alone, followTimeout)))
  }
  yield* Effect.forkScoped(
    Effect.interruptible(Effect.forever(Effect.zipRight(made.sweep, Effect.sleep(sweepInterval))))
  )
  yield* ready(gateway.url)
  yield* Deferred.await(ended)
})

/** The models of this machine that are loaded: admitted within the memory, the least recently used out. */
import type * as HttpClient from "@effect/platform/HttpClient"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Engines from "../Engines.js"
import { EngineFailed, InvalidRequest, ModelNotStored } from "../Errors.js"
import type * as LocalModels from "../LocalModels.js"
import { decodeStartOptions } from "../LocalModels.js"
import * as Source from "../localModel/source.js"
import { canonical } from "../Model.js"
import * as ModelStore from "../ModelStore.js"
import type { Usage } from "../Servers.js"
import { disagreement } from "./agreement.js"
import { engineOptions } from "./engineOptions.js"
import { type Instance, makeInstance, supervise } from "./instance.js"
import { type KnownModel, otherNames, toKnownModel } from "./knownModel.js"
import { failedAt, type Loaded } from "./loaded.js"
import { engineView, idleView, urlOf } from "./views.js"

/** The default time that an engine may take until it answers, in milliseconds. */
const defaultTimeout = 30_000

/** The default number of concurrent requests of an engine. */
const defaultSlots = 4

/** The memory that a model needs in addition to the size of its files, as a share of that. */
const overhead = 1.1

/** How long a start waits for busy models to be done, and how often it looks, in milliseconds. */
const admissionTimeout = 60_000
const admissionInterval = 250

/** How long a model that could not be loaded is not tried again by requests, in milliseconds. */
const retryAfter = 15_000

/** How long after its last request a model counts as busy, in milliseconds. */
const busyFor = 1_500

/** The same if another process reported the request: each does so once a second. */
const heldFor = 5_000

export interface ManagerOptions {
  /** The most that all loaded models may take, in bytes. */
  readonly memory: number
  /**
   * How long a model that was loaded by a request stays after its last one, in milliseconds; negative: until it is
   * stopped.
   */
  readonly keepAlive: number
  /** How a model is started by default. */
  readonly settingsOf: (model: string) => LocalModels.StartOptions
  /** Names of the user's for models. */
  readonly aliases: ReadonlyArray<string>
  readonly usage: (url: string, model: string) => Usage
  /** Receives each line of a model's engines. */
  readonly line: (model: string, text: string) => void
  /** Something has changed. */
  readonly changed: () => void
}

/** Everything that it starts ends with the scope. */
export const make = Effect.fnUntraced(function* (options: ManagerOptions) {
  const outer = yield* Effect.scope
  const context = yield* Effect.context<Engines.System | HttpClient.HttpClient>()
  const system = yield* Engines.System
  const engines = yield* Engines.Engines
  const store = yield* ModelStore.ModelStore
  const admission = yield* Effect.makeSemaphore(1)
  const loaded = new Map<string, Loaded>()
  /** Models whose engines are ending: they still have their memory and their ports. */
  const ending = new Map<Loaded, Deferred.Deferred<void>>()
  /** Models of the store, as they were last listed. */
  let stored: ReadonlyArray<KnownModel> = []
  /** The port of each model that has had one: its address stays the same. */
  const ports = new Map<string, number>()
  /** Models that could not even be started when a request asked for them, and since when. */
  const refused = new Map<string, { readonly error: LocalModels.StartError; readonly at: number }>()

  const portOf = (name: string, replica: number) =>
    Effect.gen(function* () {
      const key = `${canonical(name)} ${replica}`
      const before = ports.get(key)
      if (before !== undefined) return before
      const port = yield* Effect.mapError(
        Scope.extend(system.freePort, outer),
        ({ reason }) => new EngineFailed({ engine: "any", model: name, reason, log: [] })
      )
      ports.set(key, port)
      return port
    })

  // ---------------------------------------------------------------------------
  // use
  // ---------------------------------------------------------------------------

  /** Notes which models were used since the last look. */
  const look = (now: number): void => {
    for (const model of loaded.values()) {
      let answered = 0
      let inFlight = 0
      for (const instance of model.engines) {
        const usage = options.usage(urlOf(instance), model.name)
        answered += usage.answered
        inFlight += usage.inFlight + usage.queued
        // Those who waited for it have their turn first.
        model.lastUsed = Math.max(model.lastUsed, instance.readyAt ?? 0)
      }
      if (inFlight > 0 || answered > model.answered) model.lastUsed = now
      model.answered = answered
    }
  }

  const isBusy = (model: Loaded, now: number): boolean =>
    now - model.lastUsed < busyFor || now < model.heldUntil || model.engines.some(({ state }) => state === "loading")

  const touch = (name: string): Effect.Effect<void> =>
    Effect.map(Clock.currentTimeMillis, (now) => {
      const model = loaded.get(canonical(name))
      if (model === undefined) return
      model.lastUsed = now
      model.heldUntil = now + heldFor
    })

  // ---------------------------------------------------------------------------
  // stopping
  // ---------------------------------------------------------------------------

  const unload = (model: Loaded): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (loaded.get(canonical(model.name)) === model) loaded.delete(canonical(model.name))
      // No new request is sent to it meanwhile.
      for (const instance of model.engines) instance.state = "stopped"
      options.changed()
      const before = ending.get(model)
      if (before !== undefined) return Deferred.await(before)
      const done = Deferred.unsafeMake<void>(FiberId.none)
      ending.set(model, done)
      const stopped = new EngineFailed({ engine: "any", model: model.name, reason: "it was stopped", log: [] })
      return Deferred.fail(model.ready, stopped).pipe(
        Effect.zipRight(Scope.close(model.scope, Exit.void)),
        Effect.zipRight(Effect.sync(() => ending.delete(model))),
        Effect.zipRight(Deferred.succeed(done, undefined)),
        Effect.zipRight(Effect.sync(options.changed)),
        Effect.uninterruptible
      )
    })

  /** The model that runs under this name, or under another one of the same model. */
  const runningAs = (name: string): Effect.Effect<Loaded | undefined> =>
    Effect.suspend(() => {
      const model = loaded.get(canonical(name))
      if (model !== undefined || loaded.size === 0) return Effect.succeed(model)
      return Effect.match(find(name), {
        onFailure: () => undefined,
        onSuccess: ({ info, source }) => {
          const other = loaded.get(canonical(info.name))
          return other?.source.path === source.path ? other : undefined
        }
      })
    })

  const stop = (name: string): Effect.Effect<boolean> =>
    Effect.flatMap(runningAs(name), (model) =>
      model === undefined ? Effect.succeed(false) : Effect.as(unload(model), true)
    )

  const stopAll = Effect.suspend(() => Effect.forEach([...loaded.values()], unload, { concurrency: 8, discard: true }))

  // ---------------------------------------------------------------------------
  // starting
  // ---------------------------------------------------------------------------

  const sizeOf = ({ info }: KnownModel, replicas: number): number => info.size * overhead * replicas

  /** Waits until the model fits, and unloads others for it. */
  const admit = Effect.fnUntraced(function* (known: KnownModel, replicas: number) {
    const needed = sizeOf(known, replicas)
    const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(bytes < 1e9 ? 3 : 1)} GB`
    const fail = (reason: string) => new EngineFailed({ engine: "any", model: known.info.name, reason, log: [] })
    if (needed > options.memory) {
      return yield* fail(
        `it needs about ${gigabytes(needed)}, and all models together may take ${gigabytes(options.memory)}; ` +
          "set models.memory in the configuration file if there is more"
      )
    }
    const began = yield* Clock.currentTimeMillis
    while (true) {
      const all = [...loaded.values()]
      const used = [...all, ...ending.keys()].reduce((sum, model) => sum + sizeOf(model, model.engines.length), 0)
      if (used + needed <= options.memory) return
      const now = yield* Clock.currentTimeMillis
      look(now)
      const idle = all.filter((model) => !isBusy(model, now)).sort((a, b) => a.lastUsed - b.lastUsed)[0]
      // What is ending makes room soon.
      if (ending.size > 0) yield* Effect.sleep(admissionInterval)
      else if (idle !== undefined) yield* unload(idle)
      else if (now - began > admissionTimeout) {
        return yield* fail(`there is no memory for it: ${all.map(({ name }) => name).join(", ")} are busy`)
      } else yield* Effect.sleep(admissionInterval)
    }
  })

  const launch = Effect.fnUntraced(function* (
    known: KnownModel,
    asked: LocalModels.CheckedOptions,
    keepAlive: number | undefined,
    lasting: boolean
  ) {
    const { info, source } = known
    const asEngine = engineOptions(asked)
    const { engine, program } = yield* engines.select(source, asEngine, asked.engine)
    // Its engines before are to be gone: their ports are used again.
    for (const [model, done] of [...ending]) {
      if (canonical(model.name) === canonical(info.name)) yield* Deferred.await(done)
    }
    const replicas = asked.replicas ?? 1
    yield* Effect.interruptible(admit(known, replicas))
    const scope = yield* Scope.fork(outer, outer.strategy)
    const ready = yield* Deferred.make<void, EngineFailed>()
    const instances: Array<Instance> = []
    for (let i = 0; i < replicas; i++) instances.push(makeInstance(engine, yield* portOf(info.name, i)))
    const contextSize = asEngine.contextSize === 0 ? info.contextSize : asEngine.contextSize
    const model: Loaded = {
      name: info.name,
      source,
      info: { ...info, contextSize, embeddings: asEngine.embeddings === true },
      engines: instances,
      options: asEngine,
      slots: asked.parallel ?? defaultSlots,
      keepAlive,
      ready,
      scope,
      lasting,
      lastUsed: yield* Clock.currentTimeMillis,
      heldUntil: 0,
      answered: 0
    }
    loaded.set(canonical(info.name), model)
    options.changed()
    yield* Effect.forEach(
      instances,
      (instance) => {
        const run = supervise(
          instance,
          {
            engine,
            program,
            source,
            options: asEngine,
            timeout: asked.timeout ?? defaultTimeout,
            line: (text) => options.line(info.name, text),
            changed: options.changed
          },
          {
            ready: Deferred.succeed(ready, undefined),
            // The others may still become ready.
            refused: (error) =>
              instances.every(({ state }) => state === "failed") ? Deferred.fail(ready, error) : Effect.succeed(false)
          }
        )
        return run.pipe(Effect.provide(context), Effect.interruptible, Effect.forkIn(scope))
      },
      { discard: true }
    )
    return model
  }, Effect.uninterruptible)

  /** The model of a name: one that runs, one of the store, a file, or one that an installed Ollama may have. */
  const find = Effect.fnUntraced(function* (
    name: string,
    engine?: LocalModels.CheckedOptions["engine"]
  ): Effect.fn.Return<KnownModel, LocalModels.StartError> {
    const running = loaded.get(canonical(name))
    if (running !== undefined) return running
    const found = yield* Effect.provideService(Source.find(name), ModelStore.ModelStore, store)
    if (Option.isSome(found)) return toKnownModel(found.value)
    const reference = yield* store.parse(name)
    const isOllamas = reference.kind === "ollama" && (engine ?? "ollama") === "ollama"
    if (isOllamas && (engine !== undefined || (yield* system.find("ollama")) !== undefined)) {
      const source = { name, path: undefined }
      const info = { name, names: [], path: null, size: 0, contextSize: null, family: "others", embeddings: false }
      return { source, info }
    }
    return yield* new ModelNotStored({ model: name, stored: stored.map(({ info }) => info.name).slice(0, 20) })
  })

  /** Starts a model and waits until it answers; one that runs is waited for. */
  const start = Effect.fnUntraced(function* (
    name: string,
    asked: LocalModels.CheckedOptions,
    keepAlive: number | undefined,
    lasting = true
  ) {
    const found = yield* find(name, asked.engine)
    const merged = { ...(yield* decodeStartOptions(options.settingsOf(found.info.name))), ...asked }
    const wished = merged.keepAlive ?? keepAlive
    const kept = wished !== undefined && wished < 0 ? undefined : wished
    if (refused.delete(canonical(found.info.name))) options.changed()
    /** The model, if it runs or will: no other one that waits for memory keeps anybody from it. */
    const live = (): Loaded | undefined => {
      const before = loaded.get(canonical(found.info.name))
      return before === undefined || failedAt(before) !== undefined ? undefined : before
    }
    const here = Effect.suspend(() => {
      const before = live()
      if (before !== undefined) return Effect.succeed(before)
      const failed = loaded.get(canonical(found.info.name))
      return Effect.zipRight(failed === undefined ? Effect.void : unload(failed), launch(found, merged, kept, lasting))
    })
    const model = live() ?? (yield* admission.withPermits(1)(here))
    const other = disagreement(model, found.source, asked)
    if (other !== undefined) return yield* new InvalidRequest(other)
    // An explicit start decides how long it stays; a request does not.
    if (lasting) {
      model.keepAlive = kept
      model.lasting = true
    }
    yield* Deferred.await(model.ready)
    return model.name
  })

  const wanted = new Set<string>()
  /** A request asks for a model that is not loaded. */
  const want = (name: string): Effect.Effect<void> =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => {
      const key = canonical(name)
      const before = loaded.get(key)
      const failed = refused.get(key)?.at ?? (before === undefined ? undefined : failedAt(before))
      if (wanted.has(key) || (failed !== undefined && now - failed < retryAfter)) return Effect.void
      wanted.add(key)
      return start(name, {}, options.keepAlive, false).pipe(
        Effect.catchAll((error) =>
          Effect.map(Clock.currentTimeMillis, (at) => {
            options.line(name, `aicortex: ${error.message}`)
            if (loaded.has(key)) return
            refused.set(key, { error, at })
            options.changed()
          })
        ),
        Effect.ensuring(Effect.sync(() => wanted.delete(key))),
        Effect.forkIn(outer),
        Effect.asVoid
      )
    })

  // ---------------------------------------------------------------------------
  // what there is
  // ---------------------------------------------------------------------------

  /** Reads the store again. */
  const refresh = Effect.gen(function* () {
    const found = yield* Effect.orElseSucceed(store.list, () => [])
    const before = JSON.stringify(stored)
    const known = found.filter(({ problem }) => problem === undefined).map(toKnownModel)
    const names = yield* otherNames(store, known, options.aliases)
    stored = known.map(({ info, source }) => ({ source, info: { ...info, names: names.get(info.name) ?? [] } }))
    for (const { info } of stored) yield* Effect.ignore(portOf(info.name, 0))
    if (JSON.stringify(stored) !== before) options.changed()
  })

  const idleUrl = (name: string): string => urlOf({ port: ports.get(`${canonical(name)} 0`) ?? 0 })

  const models = (memory: ReadonlyMap<number, number> = new Map()): ReadonlyArray<LocalModels.Model> => {
    const names = new Map(stored.map(({ info }) => [info.name, info.names]))
    const running = [...loaded.values()].map((model) => ({
      ...model.info,
      names: names.get(model.name) ?? [],
      engines: model.engines.map((instance) =>
        engineView(model, instance, memory, options.usage(urlOf(instance), model.name))
      )
    }))
    const others = stored
      .filter(({ info }) => !loaded.has(canonical(info.name)))
      .map(({ info }) => ({
        ...info,
        engines: [idleView(info.name, idleUrl(info.name), refused.get(canonical(info.name))?.error)]
      }))
    return [...running, ...others].sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }))
  }

  /** The processes of all engines. */
  const pids = (): ReadonlySet<number> =>
    new Set(
      [...loaded.values()].flatMap((model) => model.engines.flatMap(({ pid }) => (pid === undefined ? [] : [pid])))
    )

  /** Unloads what was not used for as long as it is kept. */
  const sweep = Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    look(now)
    for (const [key, { at }] of refused) {
      if (now - at < retryAfter) continue
      refused.delete(key)
      options.changed()
    }
    for (const { info } of stored) {
      if (loaded.has(canonical(info.name))) continue
      // It was unloaded while a request waited for it.
      if (options.usage(idleUrl(info.name), info.name).queued > 0) yield* want(info.name)
    }
    for (const model of [...loaded.values()]) {
      if (model.keepAlive === undefined || isBusy(model, now)) continue
      // The next request tries again.
      if (now - (failedAt(model) ?? now) >= retryAfter) {
        yield* unload(model)
        continue
      }
      if (now - model.lastUsed >= model.keepAlive) yield* unload(model)
    }
  })

  /** Whether anything was started that is to outlive the gateway that had it started. */
  const isLasting = (): boolean => [...loaded.values()].some(({ lasting }) => lasting)

  yield* Effect.addFinalizer(() => stopAll)

  return { start, stop, stopAll, want, touch, refresh, sweep, models, pids, find, isLasting }
})

export type Manager = Effect.Effect.Success<ReturnType<typeof make>>

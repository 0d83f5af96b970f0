/**
 * A model that runs on this machine as long as a scope is open: a child process serves it, and is gone when the scope
 * closes, however it does. For Node.
 *
 * ```ts
 * import { LocalModel } from "aicortex"
 * import { Effect } from "effect"
 *
 * const program = Effect.gen(function* () {
 *   const model = yield* LocalModel.scoped("aicortex-demo", { temp: 0 })
 *   return (yield* model.chat("Why is the sky blue?")).content
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.2.0
 */
import type * as HttpClient from "@effect/platform/HttpClient"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Chat from "./Chat.js"
import type { ChatEvent } from "./ChatEvent.js"
import * as Cortex from "./Cortex.js"
import * as EngineSystem from "./cortex/engineSystem.js"
import * as LocalStore from "./cortex/localStore.js"
import * as Engines from "./Engines.js"
import {
  type ChatError,
  EngineFailed,
  type InvalidConfig,
  InvalidRequest,
  type ModelNotStored,
  NotRunning
} from "./Errors.js"
import type { LocalSource } from "./engines/engine.js"
import { type Started, start } from "./engines/start.js"
import type { OpenAnswer } from "./Failover.js"
import {
  type Checked,
  decode,
  defaultTemperature,
  defaultTimeout,
  engineOptions,
  Options
} from "./localModel/options.js"
import * as Source from "./localModel/source.js"
import { type Message, user } from "./Message.js"
import * as ModelStore from "./ModelStore.js"
import * as ByRuntime from "./transport/byRuntime.js"
import * as TransportClient from "./transport/httpClient.js"

export {
  /**
   * @since 0.2.0
   * @category models
   */
  Options
}

// =============================================================================
// Models
// =============================================================================

/**
 * What a model said.
 *
 * @since 0.2.0
 * @category models
 */
export interface Reply {
  /** Who speaks. */
  readonly role: "assistant"
  /** The text. */
  readonly content: string
}

/**
 * Options of one call, which come before those of the model.
 *
 * @since 0.2.0
 * @category models
 */
export interface CallOptions extends Omit<Chat.Options, "model" | "session"> {}

/**
 * What getting or starting a model can fail with.
 *
 * @since 0.2.0
 * @category errors
 */
export type ServeError = Engines.StartError | DownloadError

/**
 * What getting a model can fail with. `ModelNotStored` is a name that no hub knows, and no installed Ollama.
 *
 * @since 0.3.0
 * @category errors
 */
export type DownloadError = ModelStore.FindError | ModelStore.PullError | ModelNotStored | InvalidConfig

/**
 * A model of this machine. It is stopped with the scope that it was made in.
 *
 * @since 0.2.0
 * @category models
 */
export interface LocalModel {
  /** The name that requests ask for: what was said, and of a file or an address the name of the file. */
  readonly model: string
  /** Gets the model's files, where they are not here yet. */
  readonly download: Effect.Effect<void, DownloadError>
  /** The same, and what happens meanwhile: nothing where they are here. */
  readonly downloadWith: (tell: (event: ModelStore.PullEvent) => void) => Effect.Effect<void, DownloadError>
  /** Starts its engine and waits until it answers; where it runs already, nothing happens. */
  readonly serve: Effect.Effect<void, ServeError>
  /** Stops its engine, if it runs or is starting: then `serve` fails. */
  readonly stop: Effect.Effect<void>
  /** Whether its engine runs. */
  readonly running: Effect.Effect<boolean>
  /** The base address for other clients, `http://127.0.0.1:PORT/v1`. */
  readonly url: Effect.Effect<string, NotRunning>
  /**
   * Asks it. `history` is what was said before, such as a system prompt; it is neither changed nor kept. Fails with
   * `NotRunning` before `serve`.
   */
  readonly chat: (
    message: string,
    history?: ReadonlyArray<Message>,
    options?: CallOptions
  ) => Effect.Effect<Reply, NotRunning | ChatError>
  /** The answer as a plain pull of events; it must be pulled to its end or cancelled. */
  readonly open: (
    message: string,
    history?: ReadonlyArray<Message>,
    options?: CallOptions
  ) => Effect.Effect<OpenAnswer, NotRunning | ChatError>
  /** The same as events, while the answer is being written. */
  readonly stream: (
    message: string,
    history?: ReadonlyArray<Message>,
    options?: CallOptions
  ) => Stream.Stream<ChatEvent, NotRunning | ChatError>
}

// =============================================================================
// implementation
// =============================================================================

/** What starting engines needs, on Node. */
const layer: Layer.Layer<Engines.Engines | Engines.System | HttpClient.HttpClient> = Engines.layer.pipe(
  Layer.provideMerge(EngineSystem.layer),
  Layer.merge(Layer.provide(TransportClient.layer, ByRuntime.layer))
)

interface Running {
  readonly scope: Scope.CloseableScope
  readonly started: Started
  readonly chat: Chat.Service
}

/** Text that is asked as a message; anything else is an error before it is sent. */
const promptOf = (message: string, history: ReadonlyArray<Message>): Effect.Effect<Chat.Prompt, InvalidRequest> => {
  if (typeof message !== "string" || message === "") {
    return Effect.fail(new InvalidRequest({ field: "message", reason: "must be a text that is not empty" }))
  }
  if (!Array.isArray(history)) {
    return Effect.fail(new InvalidRequest({ field: "history", reason: "must be a list of messages" }))
  }
  return Effect.succeed([...(history as ReadonlyArray<Message>), user(message)])
}

const build = (model: string, options: Checked) =>
  Effect.gen(function* () {
    const outer = yield* Effect.scope
    const context = yield* Layer.build(layer)
    const engines = Context.get(context, Engines.Engines)
    const permit = yield* Effect.makeSemaphore(1)
    const asked = engineOptions(options)
    const name = Source.nameOf(model)
    const own = options.models === undefined ? yield* Effect.serviceOption(ModelStore.ModelStore) : Option.none()
    let running: Running | undefined
    let ended: string | undefined
    let starting: Deferred.Deferred<never, EngineFailed> | undefined
    let store: Context.Context<ModelStore.ModelStore> | undefined

    // What cannot be run at all is known before anything is started.
    if (asked.baseImage !== undefined && options.engine !== undefined && options.engine !== "container") {
      const reason = `is the image of a container, and the engine ${options.engine} is none`
      return yield* new InvalidRequest({ field: "baseImage", reason })
    }

    /** That of the program, if it has one and says nothing else here; else it is made when it is needed. */
    const stores: Effect.Effect<Context.Context<ModelStore.ModelStore>, InvalidConfig> = Effect.gen(function* () {
      if (store !== undefined) return store
      store = Option.isSome(own)
        ? Context.make(ModelStore.ModelStore, own.value)
        : yield* Scope.extend(
            Layer.build(Layer.provide(LocalStore.layer(options.models), [NodeFileSystem.layer, NodePath.layer])),
            outer
          )
      return store
    })

    const locate = (tell: (event: ModelStore.PullEvent) => void): Effect.Effect<LocalSource, DownloadError> =>
      Effect.flatMap(stores, (found) =>
        Effect.provide(Source.get(model, options.engine, Context.get(context, Engines.System), tell), found)
      )

    const close = Effect.suspend(() => {
      const before = running
      running = undefined
      return before === undefined ? Effect.void : Scope.close(before.scope, Exit.void)
    })

    /** The engine that runs; where it has ended by itself, that is noted. */
    const current = (): Running | undefined => {
      const end = running?.started.child.end()
      if (end === undefined) return running
      ended = `its engine ended with ${end}`
      return undefined
    }

    const launch = Effect.gen(function* () {
      const source = { ...(yield* locate(() => {})), name }
      const { engine, program } = yield* engines.select(source, asked, options.engine)
      const timeout = options.timeout ?? defaultTimeout
      const started = yield* start({ engine, program, source, options: asked, timeout })
      const services = yield* Layer.build(
        Cortex.layer({
          configFile: false,
          servers: [{ url: `${started.url}${engine.protocol === "ollama" ? "" : "/v1"}`, protocol: engine.protocol }],
          model: source.name
        })
      ).pipe(Effect.orDie)
      return { started, chat: Context.get(services, Chat.Chat) }
    }).pipe(Effect.provide(context))

    const serve = Effect.suspend(() => {
      if (current() !== undefined) return Effect.void
      const halted = Deferred.unsafeMake<never, EngineFailed>(FiberId.none)
      starting = halted
      return Effect.zipRight(
        close,
        Effect.flatMap(Scope.fork(outer, outer.strategy), (scope) =>
          launch.pipe(
            Effect.provideService(Scope.Scope, scope),
            Effect.raceFirst(Deferred.await(halted)),
            Effect.onExit((exit) => {
              starting = undefined
              if (Exit.isFailure(exit)) return Scope.close(scope, exit)
              ended = undefined
              running = { scope, ...exit.value }
              return Effect.void
            }),
            Effect.asVoid
          )
        )
      )
    }).pipe(permit.withPermits(1))

    const notRunning = () => new NotRunning({ model: name, ...(ended === undefined ? {} : { reason: ended }) })

    const live = Effect.suspend(() => {
      const found = current()
      return found === undefined ? Effect.fail(notRunning()) : Effect.succeed(found)
    })

    const optionsOf = (given: CallOptions | undefined): Chat.Options => ({
      temperature: options.temp ?? defaultTemperature,
      ...((options.maxTokens ?? 0) === 0 ? {} : { maxTokens: options.maxTokens }),
      ...given
    })

    const open: LocalModel["open"] = (message, history = [], given) =>
      Effect.flatMap(live, ({ chat }) =>
        Effect.flatMap(promptOf(message, history), (prompt) => chat.open(prompt, optionsOf(given)))
      )

    const self: LocalModel = {
      model: name,
      download: Effect.asVoid(locate(() => {})),
      downloadWith: (tell) => Effect.asVoid(locate(tell)),
      serve,
      stop: Effect.suspend(() => {
        const stopped = new EngineFailed({ engine: options.engine ?? "any", model, reason: "it was stopped", log: [] })
        return starting === undefined ? Effect.void : Deferred.fail(starting, stopped)
      }).pipe(
        Effect.zipRight(
          permit.withPermits(1)(
            Effect.zipRight(
              close,
              Effect.sync(() => {
                ended = undefined
              })
            )
          )
        ),
        Effect.uninterruptible
      ),
      running: Effect.sync(() => current() !== undefined),
      url: Effect.map(live, ({ started }) => `${started.url}/v1`),
      chat: (message, history = [], given) =>
        Effect.flatMap(live, ({ chat }) =>
          Effect.flatMap(promptOf(message, history), (prompt) =>
            Effect.map(chat.text(prompt, optionsOf(given)), (content): Reply => ({ role: "assistant", content }))
          )
        ),
      open,
      stream: (message, history = [], given) =>
        Stream.unwrap(
          Effect.flatMap(live, ({ chat }) =>
            Effect.map(promptOf(message, history), (prompt) => chat.stream(prompt, optionsOf(given)))
          )
        )
    }
    return self
  })

/**
 * A model that is not started yet: call `serve`. Fails with `InvalidRequest` where an option cannot be used.
 *
 * @since 0.2.0
 * @category constructors
 */
export const make = (model: string, options: Options = {}): Effect.Effect<LocalModel, InvalidRequest, Scope.Scope> =>
  Effect.suspend(() => {
    if (typeof model !== "string" || model.trim() === "") {
      return Effect.fail(new InvalidRequest({ field: "model", reason: "must be a name or a file" }))
    }
    return Effect.flatMap(decode(options), (checked) => build(model, checked))
  })

/**
 * A model that runs: it is downloaded where it is missing, started, and waited for. Its engine is stopped when the scope
 * closes, also by an interruption. Where the program has a `ModelStore` and `models` is not given, that one is used.
 *
 * @since 0.2.0
 * @category constructors
 */
export const scoped = (model: string, options: Options = {}): Effect.Effect<LocalModel, ServeError, Scope.Scope> =>
  Effect.tap(make(model, options), (local) => local.serve)

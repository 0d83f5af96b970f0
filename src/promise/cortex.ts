/** The functions of a fleet over the services that a layer makes: those of the Promise entry and of the browser's. */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Option from "effect/Option"
import type * as Runtime from "effect/Runtime"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Benchmark from "../Benchmark.js"
import * as ApiRequest from "../backend/apiRequest.js"
import * as Chat from "../Chat.js"
import type { Routing } from "../ChatRequest.js"
import type { PortableServices } from "../Cortex.js"
import * as Embeddings from "../Embeddings.js"
import type { Embedded } from "../EmbedRequest.js"
import { Closed, InvalidConfig, InvalidRequest, type RegistryWarning } from "../Errors.js"
import * as Execute from "../Execute.js"
import type { Result } from "../Failover.js"
import * as Direct from "../internal/direct.js"
import type { Message } from "../Message.js"
import type { ModelInfo } from "../Model.js"
import * as ModelSelection from "../ModelSelection.js"
import * as Registry from "../Registry.js"
import * as ResponseCache from "../ResponseCache.js"
import * as Router from "../Router.js"
import type { ServerInfo } from "../Server.js"
import * as Sessions from "../Sessions.js"
import { withCallSites } from "./callSite.js"
import {
  type BenchmarkOptions,
  bestOptions,
  type CallRunner,
  type ChatFunction,
  type ChatOptions,
  chatOptions,
  chatWith,
  type EmbedOptions,
  type ExecuteOptions,
  given,
  type LoadTestOptions,
  modelsOptions,
  named,
  onAbort,
  outcomeOf,
  type Prompt,
  type Run,
  type RunWith,
  serverInfoOptions,
  sessionOptions
} from "./calls.js"

// =============================================================================
// Models
// =============================================================================

/**
 * A fleet of your own, with the same functions as this module.
 *
 * @since 0.1.0
 * @category models
 */
export interface Cortex extends AsyncDisposable {
  /** Asks a model: the text, or a stream of events. */
  readonly chat: ChatFunction
  /** Asks a model: the whole answer with its server, usage, speed and tool calls. */
  readonly complete: (
    prompt: Prompt,
    options?: Omit<ChatOptions, "stream" | "responseFormat" | "schema">
  ) => Promise<Result>
  /** Asks a model, by default chosen and written to the terminal: the answer and everything that is known of it. */
  readonly execute: (options: ExecuteOptions) => Promise<Execute.Executed>
  /** One vector for each text. */
  readonly embed: (input: string | ReadonlyArray<string>, options: EmbedOptions) => Promise<Embedded>
  /** Measures how fast your servers are, for routing and for you. */
  readonly benchmark: (options?: BenchmarkOptions) => Promise<Benchmark.Report>
  /** Loads one server: requests at a rate or a concurrency, their latencies, and how many kept time limits. */
  readonly loadTest: (options: LoadTestOptions) => Promise<Benchmark.LoadReport>
  /** Conversations. */
  readonly Session: SessionFactory
  /** The server that a call would try first. */
  readonly bestServer: (model: string, options?: { readonly strategy?: Routing | undefined }) => Promise<ServerInfo>
  /** Forgets what was learned of servers. */
  readonly clearServerCache: () => Promise<void>
  /** Deletes all cached answers. */
  readonly clearResponseCache: () => Promise<void>
  /** The families of models in the catalogue. */
  readonly families: () => Promise<ReadonlyArray<string>>
  /** The names of all models: the catalogue, and whatever the servers have. */
  readonly models: (options?: string | Registry.ModelsOptions) => Promise<ReadonlyArray<string>>
  /** What is known about a model. */
  readonly getModelInfo: (model: string) => Promise<ModelInfo>
  /** Models whose name contains a text. */
  readonly searchModels: (query: string, options?: Registry.SearchOptions) => Promise<ReadonlyArray<string>>
  /** Every server and its state. */
  readonly listServers: () => Promise<ReadonlyArray<Registry.ServerStatus>>
  /** Every server once, as soon as its state is known. */
  readonly streamServers: () => AsyncIterable<Registry.ServerStatus>
  /** The servers of a model. */
  readonly listModelServers: (model: string) => Promise<ReadonlyArray<ServerInfo>>
  /** The first server of a model, or the one with an address. */
  readonly getServerInfo: (model: string, options?: { readonly serverUrl?: string | undefined }) => Promise<ServerInfo>
  /** What LangChain's Ollama classes take, for a random server of a model. */
  readonly getLlmParams: (model?: string) => Promise<Registry.LlmParams>
  /** The same for any model. */
  readonly getRandomLlmParams: () => Promise<Registry.LlmParams>
  /** The body of a request to Ollama; nothing is sent. */
  readonly buildApiRequest: (
    model: string,
    prompt: string,
    options?: ApiRequest.Options
  ) => Promise<ApiRequest.ApiRequest>
  /** Where the registry comes from, with the state of each source. */
  readonly registrySources: () => Promise<ReadonlyArray<Registry.RegistrySource>>
  /** What in the registry files could not be used. */
  readonly registryWarnings: () => Promise<ReadonlyArray<RegistryWarning>>
  /** Stops what is under way and closes every connection. */
  readonly close: () => Promise<void>
}

/**
 * How a conversation begins.
 *
 * @since 0.1.0
 * @category models
 */
export interface SessionOptions {
  /** What was said before, such as the `history()` of another session. */
  readonly messages?: ReadonlyArray<Message> | undefined
  /** Whether all its calls stay on local servers, from now on and wherever it is resumed; default `false`. */
  readonly private?: boolean | undefined
  /** What it is called, at most 200 characters; default: its first question in short. */
  readonly title?: string | undefined
  /** A small JSON object, for programs: at most 16,384 characters. */
  readonly metadata?: Sessions.Metadata | undefined
}

/**
 * Begins, lists and finds conversations.
 *
 * @since 0.1.0
 * @category models
 */
export interface SessionFactory<out S extends Session = Session> {
  /** A new conversation, or the copy of one: `create({ messages })`. */
  readonly create: (options?: SessionOptions) => Promise<S>
  /** What conversations there are, the one that was used last first: 50, unless `limit` says otherwise. */
  readonly list: (options?: Sessions.ListOptions) => Promise<ReadonlyArray<Sessions.Summary>>
  /** The same with where the list goes on: `next` is the `cursor` of the next page. */
  readonly page: (options?: Sessions.ListOptions) => Promise<Sessions.Page<Sessions.Summary>>
  /** The turns in which all words of a text were said, the newest first; case does not matter. */
  readonly search: (text: string, options?: Sessions.SearchOptions) => Promise<Sessions.Page<Sessions.Hit>>
  /** All conversations as JSON, or those that a filter means, each when it is asked for. */
  readonly exportAll: (options?: Sessions.Filter) => AsyncIterable<Sessions.Exported>
  /**
   * Takes conversations of JSON, or of a text of JSON or JSON lines: own exports, and those of AI Cortex and Oblix.
   * Each is stored as a whole or not at all, and the report tells which; rejects with `InvalidRequest` where there is
   * none.
   */
  readonly importAll: (input: unknown, options?: Sessions.ImportOptions) => Promise<Sessions.ImportReport>
  /** Removes conversations that were not used for a time, and returns which. */
  readonly prune: (options: Sessions.PruneOptions) => Promise<ReadonlyArray<Sessions.Summary>>
  /** A conversation that exists; rejects with `SessionNotFound` at once where there is none. */
  readonly resume: (id: string) => Promise<S>
}

// =============================================================================
// implementation
// =============================================================================

/**
 * A conversation that remembers. Only complete answers are remembered, with their question.
 *
 * @since 0.1.0
 * @category models
 */
export class Session {
  private readonly run: Run

  /** @internal */
  constructor(
    /** The id by which calls, also of other processes, name it. */
    readonly id: string,
    run: Run
  ) {
    this.run = withCallSites({ run }).run
  }

  /** The turns so far: a deeply read-only copy. */
  history(): Promise<ReadonlyArray<Message>> {
    return this.run(Effect.flatMap(Sessions.Sessions, (sessions) => sessions.history(this.id)))
  }

  /** The turns with their times, and what their answers have used. */
  turns(): Promise<ReadonlyArray<Sessions.StoredTurn>> {
    return this.run(Effect.flatMap(Sessions.Sessions, (sessions) => sessions.turns(this.id)))
  }

  /** Title, metadata, times and figures. */
  details(): Promise<Sessions.Details> {
    return this.run(Effect.flatMap(Sessions.Sessions, (sessions) => sessions.details(this.id)))
  }

  /** Changes the title or the metadata; a title of `null` is made of the first question again. */
  update(changes: Sessions.Changes): Promise<void> {
    return this.run(Effect.flatMap(Sessions.Sessions, (sessions) => sessions.update(this.id, changes)))
  }

  /** Another conversation with the same turns, or the first of them, which goes its own way. */
  copy(options?: Sessions.CopyOptions): Promise<this> {
    return this.run(
      Effect.map(
        Effect.flatMap(Sessions.Sessions, (sessions) => sessions.copy(this.id, options)),
        ({ id }) => new (this.constructor as new (id: string, run: Run) => this)(id, this.run)
      )
    )
  }

  /** The conversation as JSON, which `importAll` takes again. */
  toExport(): Promise<Sessions.Exported> {
    return this.run(Effect.flatMap(Sessions.Sessions, (sessions) => sessions.exportSession(this.id)))
  }

  /** The conversation as Markdown, for people. */
  async toMarkdown(): Promise<string> {
    return Sessions.markdown(await this.toExport())
  }

  /** Forgets the turns; the id stays. */
  reset(): Promise<void> {
    return this.run(Effect.flatMap(Sessions.Sessions, (sessions) => sessions.reset(this.id)))
  }

  /** Removes the conversation: from now on its id is unknown. */
  delete(): Promise<void> {
    return this.run(Effect.flatMap(Sessions.Sessions, (sessions) => sessions.remove(this.id)))
  }

  /** Only the id. */
  toJSON(): {
    /** The id by which calls, also of other processes, name it. */
    readonly id: string
  } {
    return { id: this.id }
  }
}

/** What gives a Promise; the rest is iterated at once. */
interface Located extends Omit<Cortex, "streamServers" | "Session"> {
  readonly Session: Omit<SessionFactory, "exportAll">
}

/** Warnings must not get between what a program itself prints. */
const logging = Logger.replace(Logger.defaultLogger, Logger.withConsoleError(Logger.logfmtLogger))

const noTracing = new InvalidConfig({
  source: "the options",
  field: "tracing",
  reason: "must be a layer of Effect, such as Otlp.layerJson makes"
})

/**
 * Forks calls so that those made while the services are built begin in the order in which they were made: a fiber
 * notifies its observers in reverse, and with them `ManagedRuntime` its first callers.
 */
const inOrder = <R, E>(managed: ManagedRuntime.ManagedRuntime<R, E>) => {
  const built = Deferred.unsafeMake<Runtime.Runtime<R>, E>(FiberId.none)
  let state: "new" | "building" | "built" = "new"
  return <A, E2>(effect: Effect.Effect<A, E2, R>): Fiber.RuntimeFiber<A, E | E2> => {
    if (state === "built") return managed.runFork(effect)
    const fiber = Effect.runFork(Effect.flatMap(Deferred.await(built), (runtime) => Effect.provide(effect, runtime)))
    if (state === "new") {
      state = "building"
      managed.runFork(Effect.runtime<R>()).addObserver((exit) => {
        state = "built"
        Deferred.unsafeDone(built, exit)
      })
    }
    return fiber
  }
}

/**
 * The functions over services. `tracing` is a layer of Effect that sets a tracer; sessions are made by `SessionClass`.
 *
 * @internal
 */
export const cortexOver = <E, R = never, More extends object = object>(
  layer: Layer.Layer<PortableServices | R, E>,
  tracing: unknown,
  SessionClass: new (id: string, run: Run) => Session,
  more?: (run: RunWith<R>) => More
): Cortex & More => {
  let service: Chat.Service | undefined
  const known = Layer.effectDiscard(
    Effect.map(Chat.Chat, (made) => {
      service = made
    })
  )
  const services = Layer.provideMerge(known, layer)
  const layers =
    tracing === undefined
      ? logging
      : Layer.isLayer(tracing)
        ? Layer.merge(logging, tracing as unknown as Layer.Layer<never>)
        : Layer.fail(noTracing)
  const runtime = ManagedRuntime.make(Layer.provideMerge(services, layers))
  const forkCall = inOrder(runtime)
  let closed = false
  /**
   * They are not a part of the runtime's scope: left alone, they would meet closed connections, and blame the servers.
   */
  const underWay = new Set<Fiber.RuntimeFiber<unknown, unknown>>()
  const interrupt = (fiber: Fiber.RuntimeFiber<unknown, unknown>) => fiber.unsafeInterruptAsFork(FiberId.none)
  const run: RunWith<R> = <A, E>(effect: Effect.Effect<A, E, PortableServices | R>, signal?: AbortSignal) =>
    new Promise<A>((resolve, reject) => {
      if (closed) return reject(new Closed())
      const fiber = forkCall(effect)
      underWay.add(fiber)
      const noop = signal === undefined ? undefined : onAbort(signal, () => interrupt(fiber))
      fiber.addObserver((exit) => {
        underWay.delete(fiber)
        noop?.()
        if (Exit.isSuccess(exit)) resolve(exit.value)
        else if (!Cause.isInterruptedOnly(exit.cause)) reject(Cause.squash(exit.cause))
        else reject(signal?.aborted ? signal.reason : new Closed())
      })
    })
  const close = () => {
    closed = true
    for (const fiber of underWay) interrupt(fiber)
    return runtime.dispose()
  }
  const registry = <A, E>(use: (registry: Registry.Service) => Effect.Effect<A, E>): Promise<A> =>
    run(Effect.flatMap(Registry.Registry, use))
  const router = <A, E>(use: (router: Router.Service) => Effect.Effect<A, E>): Promise<A> =>
    run(Effect.flatMap(Router.Router, use))
  const session = (make: (sessions: Sessions.Service) => Effect.Effect<Sessions.Session, unknown>): Promise<Session> =>
    run(Effect.map(Effect.flatMap(Sessions.Sessions, make), ({ id }) => new SessionClass(id, run)))
  const ask: CallRunner = (use, signal) => {
    if (closed) throw new Closed()
    const outcome = service === undefined ? undefined : Direct.attempt(use(service))
    return outcome === undefined ? run(Effect.flatMap(Chat.Chat, use), signal) : outcomeOf(outcome, signal)
  }
  const chat = chatWith(run, ask) as ChatFunction
  const iterate = async function* <A, E>(stream: Stream.Stream<A, E, PortableServices>) {
    const scope = Effect.runSync(Scope.make())
    try {
      const pull = await run(Scope.extend(Stream.toPull(stream), scope))
      while (true) {
        const items = await run(
          Effect.catchAll(Effect.asSome(pull), (end) =>
            Option.isNone(end) ? Effect.succeedNone : Effect.fail(end.value)
          )
        )
        if (Option.isNone(items)) return
        yield* items.value
      }
    } finally {
      await Effect.runPromise(Scope.close(scope, Exit.void))
    }
  }
  const streamServers = () => iterate(Stream.unwrap(Effect.map(Registry.Registry, ({ serverStream }) => serverStream)))
  const functions = withCallSites<Located & More>({
    ...(more?.(run) as More),
    chat,
    complete: async (prompt, options) => {
      const { session, signal, tools, ...rest } = given(options)
      if (signal?.aborted) throw signal.reason
      const all = chatOptions(rest, session, tools)
      return ask((chat) => chat.complete(prompt, all), signal)
    },
    execute: async (options) => {
      const { signal, ...rest } = given(options)
      if (signal?.aborted) throw signal.reason
      return run(Execute.execute(rest), signal)
    },
    embed: async (input, options) => {
      const { signal, ...rest } = given(options)
      if (signal?.aborted) throw signal.reason
      return run(Embeddings.embed(input, rest), signal)
    },
    benchmark: async (options) => {
      const { signal, ...rest } = given(options)
      if (signal?.aborted) throw signal.reason
      return run(Benchmark.run(rest), signal)
    },
    loadTest: async (options) => {
      const { onProgress, signal, ...rest } = given(options)
      if (signal?.aborted) throw signal.reason
      if (onProgress !== undefined && typeof onProgress !== "function") {
        throw new InvalidRequest({ field: "onProgress", reason: "must be a function" })
      }
      let last: Benchmark.LoadProgress | undefined
      const told = Stream.runForEach(Benchmark.loadProgress(rest), (progress) =>
        Effect.sync(() => {
          last = progress
          onProgress?.(progress)
        })
      )
      const report = Effect.suspend(() =>
        last === undefined ? Effect.dieMessage("a load test without an end") : Effect.succeed(last.report())
      )
      return run(Effect.zipRight(told, report), signal)
    },
    Session: {
      create: (options) =>
        session((sessions) => Effect.flatMap(sessionOptions(options ?? {}), (checked) => sessions.create(checked))),
      list: (options) => run(Effect.flatMap(Sessions.Sessions, (sessions) => sessions.list(options))),
      page: (options) => run(Effect.flatMap(Sessions.Sessions, (sessions) => sessions.page(options))),
      search: (text, options) => run(Effect.flatMap(Sessions.Sessions, (sessions) => sessions.search(text, options))),
      importAll: (input, options) =>
        run(Effect.flatMap(Sessions.Sessions, (sessions) => sessions.importAll(input, options))),
      prune: (options) => run(Effect.flatMap(Sessions.Sessions, (sessions) => sessions.prune(options))),
      resume: (id) => named("session", id, () => session((sessions) => sessions.resume(id)))
    },
    bestServer: (model, options = {}) =>
      named("model", model, () =>
        run(Effect.flatMap(bestOptions(options), ({ strategy }) => ModelSelection.bestServer(model, strategy)))
      ),
    clearServerCache: () => router((router) => router.clear),
    clearResponseCache: () => run(ResponseCache.clear),
    families: () => registry((registry) => registry.families),
    models: (options = {}) =>
      registry((registry) =>
        Effect.flatMap(modelsOptions(typeof options === "string" ? { family: options } : options), registry.models)
      ),
    getModelInfo: (model) => named("model", model, () => run(ModelSelection.modelInfo(model))),
    searchModels: (query, options) =>
      named("query", query, () => registry((registry) => registry.searchModels(query, options))),
    listServers: () => registry((registry) => registry.servers),
    listModelServers: (model) => named("model", model, () => run(ModelSelection.listModelServers(model))),
    getServerInfo: (model, options = {}) =>
      named("model", model, () =>
        run(Effect.flatMap(serverInfoOptions(options), ({ serverUrl }) => ModelSelection.serverInfo(model, serverUrl)))
      ),
    getLlmParams: (model) => registry((registry) => registry.llmParams(model)),
    getRandomLlmParams: () => registry((registry) => registry.randomLlmParams),
    buildApiRequest: (model, prompt, options) =>
      named("model", model, () =>
        named("prompt", prompt, () =>
          registry((registry) =>
            Effect.zipRight(
              registry.modelInfo(model),
              Effect.suspend(() => ApiRequest.make(model, prompt, options))
            )
          )
        )
      ),
    registrySources: () => registry((registry) => registry.sources),
    registryWarnings: () => registry((registry) => Effect.map(registry.warnings, (warnings) => [...warnings])),
    close,
    [Symbol.asyncDispose]: close
  })
  // No promises, so that they can be iterated at once.
  const exportAll: SessionFactory["exportAll"] = (options) => iterate(Sessions.exportAll(options))
  return { ...functions, streamServers, Session: { ...functions.Session, exportAll } }
}

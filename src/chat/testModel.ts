/** A scripted model for tests, in the place of servers: see `Chat.layerTest`. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Runtime from "effect/Runtime"
import * as Stream from "effect/Stream"
import type { ChatEvent, FinishReason, Usage } from "../ChatEvent.js"
import type { ChatRequest } from "../ChatRequest.js"
import { single } from "../Decision.js"
import { type ChatError, DeadlineExceeded, ModelNotFound, TurnNotStored } from "../Errors.js"
import { type Call, EventBuffer, Failover, type OpenAnswer, type Result } from "../Failover.js"
import { endOf, warned } from "../failover/answerEnd.js"
import { addUsage } from "../failover/usage.js"
import type { ToolCall } from "../Message.js"
import { ModelSelection } from "../ModelSelection.js"
import { chainOf } from "../modelSelection/aliases.js"
import { linked } from "../modelSelection/candidate.js"
import { Registry } from "../Registry.js"
import * as ResponseCache from "../ResponseCache.js"
import { builtIn } from "../registry/embeddedModel.js"
import * as Sessions from "../Sessions.js"
import * as Settings from "../Settings.js"

// =============================================================================
// Models
// =============================================================================

/**
 * The reply to one request. A text is an answer; an error is what the call fails with. In the long form
 *
 * @since 0.1.0
 * @category models
 */
export type Reply =
  | string
  | ChatError
  | {
      /** The answer; in a list, one `token` event each; default: empty. */
      readonly text?: string | ReadonlyArray<string> | undefined
      /** Reasoning before it. */
      readonly thinking?: string | undefined
      /** Tool calls after it. */
      readonly toolCalls?: ReadonlyArray<ToolCall> | undefined
      /** The answer breaks with this error after all of these. */
      readonly error?: ChatError | undefined
      /** Default `stop`, or `tool_calls`. */
      readonly finishReason?: FinishReason | undefined
      /** The reported usage; default: none. */
      readonly usage?: Usage | undefined
      /** The answering server; default `scripted:`. */
      readonly server?: string | undefined
    }

/**
 * The script: the same reply to every request; one reply each, in order; or a function of the request, as a server
 * would receive it, and of the number of earlier ones. An `Effect` may take its time, and inspect the request.
 *
 * A call makes another request for every round of tools, and one more if a reply does not fit its schema. A request
 * beyond the end of a list is a defect.
 *
 * @since 0.1.0
 * @category models
 */
export type Script =
  | Reply
  | ReadonlyArray<Reply>
  | ((request: ChatRequest, index: number) => Reply | Effect.Effect<Reply, ChatError>)

// =============================================================================
// The answer
// =============================================================================

type Respond = (request: ChatRequest) => Effect.Effect<Reply, ChatError>

const responder = (script: Script): Respond => {
  let requests = 0
  return (request) =>
    Effect.suspend((): Effect.Effect<Reply, ChatError> => {
      const index = requests++
      if (typeof script === "function") {
        const reply = script(request, index)
        // An error is an Effect that fails with it.
        return Effect.isEffect(reply) ? reply : Effect.succeed(reply)
      }
      if (!isList(script)) return Effect.succeed(script)
      const reply = script[index]
      return reply === undefined
        ? Effect.dieMessage(`the script has ${script.length} replies, and this is request ${index + 1}`)
        : Effect.succeed(reply)
    })
}

const isList = (script: Script): script is ReadonlyArray<Reply> => Array.isArray(script)

type RunFork = <A, E>(effect: Effect.Effect<A, E>) => Fiber.RuntimeFiber<A, E>

class ScriptedAnswer extends EventBuffer {
  private index = 0
  private attempt = 0
  private partial = ""
  private usage: Usage = {}
  private asking: Fiber.RuntimeFiber<Reply, ChatError> | undefined

  constructor(
    call: Call,
    private readonly ask: Respond,
    private readonly now: () => number,
    private readonly runFork: RunFork
  ) {
    super(call)
    this.open(now())
    this.expire(now())
    this.next(call.request)
  }

  private push(event: ChatEvent): void {
    if (this.call.events) this.batch.push(event)
  }

  private next(request: ChatRequest): void {
    const asking = this.runFork(this.ask(request))
    this.asking = asking
    asking.addObserver((exit) => {
      if (this.over) return
      if (Exit.isSuccess(exit)) this.hear(request, exit.value)
      else this.reject(Cause.squash(exit.cause))
    })
  }

  private hear({ model }: ChatRequest, reply: Reply): void {
    if (reply instanceof Error) {
      this.reject(reply)
      return
    }
    const {
      error,
      text = "",
      thinking = "",
      toolCalls = [],
      finishReason = toolCalls.length > 0 ? "tool_calls" : "stop",
      server = "scripted:",
      usage = {}
    } = typeof reply === "string" ? { text: reply } : reply
    const timestamp = this.now()
    this.push({ type: "meta", meta: { type: "attempt", server, attempt: ++this.attempt }, timestamp })
    if (thinking !== "") this.push({ type: "thinking", content: thinking, timestamp })
    for (const content of typeof text === "string" ? [text] : text) {
      if (content === "") continue
      this.push({ type: "token", content, index: this.index++, timestamp })
      this.partial += content
    }
    for (const call of toolCalls) this.push({ type: "tool_call", ...call, timestamp })
    if (error !== undefined) {
      this.reject(error)
      return
    }
    this.usage = addUsage(this.usage, usage)
    this.conclude({
      text: typeof text === "string" ? text : text.join(""),
      thinking,
      toolCalls,
      model,
      server,
      finishReason,
      usage: this.usage,
      firstTokenTime: undefined,
      tokensPerSecond: undefined,
      attempts: [],
      cached: false,
      decision: single(model, { model, server }, "scripted")
    })
  }

  private conclude(result: Result): void {
    const { complete } = this.call
    if (complete === undefined) {
      this.end(result)
      return
    }
    this.deliver()
    complete(result, undefined).then(
      (completion) => {
        if (this.over) return
        if (completion === undefined) this.end(result)
        else if (completion instanceof TurnNotStored) this.end(warned(result, completion))
        else {
          for (const event of completion.events) this.push(event)
          this.deliver()
          this.next(completion.request)
        }
      },
      (error: unknown) => this.reject(error)
    )
  }

  private end(result: Result): void {
    this.settle(result, this.call.events ? endOf(result, this.now()) : undefined)
  }

  protected expired(deadline: number): void {
    const { model } = this.call.request
    this.reject(new DeadlineExceeded({ model, deadline, partial: this.partial, attempts: [] }))
  }

  protected closing(): void {
    this.asking?.unsafeInterruptAsFork(this.asking.id())
  }
}

// =============================================================================
// Layers
// =============================================================================

const failover = (script: Script) =>
  Layer.effect(
    Failover,
    Effect.gen(function* () {
      const clock = yield* Effect.clock
      const runFork = Runtime.runFork(yield* Effect.runtime<never>())
      const ask = responder(script)
      const start = (call: Call): OpenAnswer =>
        new ScriptedAnswer(call, ask, () => clock.unsafeCurrentTimeMillis(), runFork)
      return Failover.of({
        prepare: () => Effect.succeed(start),
        embed: () => Effect.dieMessage("a scripted model makes no vectors")
      })
    })
  )

/** The catalogue and the servers are empty: a script has every model. */
const registry = Layer.sync(Registry, () => {
  const missing = (model: string) => Effect.fail(new ModelNotFound({ model, suggestions: [] }))
  const noServer = missing("a scripted model")
  return Registry.of({
    embedded: builtIn,
    unreachable: () => [],
    asleep: () => false,
    wake: () => () => {},
    families: Effect.succeed([]),
    models: () => Effect.succeed([]),
    modelInfo: missing,
    searchModels: () => Effect.succeed([]),
    servers: Effect.succeed([]),
    serverStream: Stream.empty,
    offers: Effect.succeed([]),
    listModelServers: () => Effect.succeed([]),
    serverInfo: missing,
    llmParams: () => noServer,
    randomLlmParams: Effect.orDie(noServer),
    locate: () => Effect.succeed([]),
    missing,
    markAbsent: () => Effect.void,
    sources: Effect.succeed([]),
    refresh: Effect.void,
    warnings: Effect.succeed([])
  })
})

/** Whatever is named is there; what `auto` would choose is the model of that name. */
const models = Layer.effect(
  ModelSelection,
  Effect.map(Settings.CurrentSettings, (settings) => {
    const chain = (name: string, aliases = settings.aliases) => (chainOf(aliases, name) ?? [name]).map(linked)
    return ModelSelection.of({
      select: (name, _, policy) => Effect.succeed(chain(name, policy?.aliases)),
      forEmbedding: (name, policy) => Effect.succeed(chain(name, policy?.aliases))
    })
  })
)

/** The dependencies of `Chat` with a script in place of servers; everything else is real, with in-memory stores. */
export const layer = (
  script: Script,
  settings: Partial<Settings.Settings> = {}
): Layer.Layer<
  Failover | ModelSelection | Registry | ResponseCache.ResponseCache | Sessions.Sessions | Settings.CurrentSettings
> =>
  Layer.mergeAll(failover(script), models, ResponseCache.layer, Sessions.layerMemory(settings.sessions)).pipe(
    Layer.provide(ResponseCache.layerStoreMemory(settings.cache)),
    Layer.provideMerge(Layer.merge(registry, Settings.layer(settings)))
  )

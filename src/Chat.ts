/**
 * Talking to a model: text, events, or a value of a known shape.
 *
 * ```ts
 * import { Chat, Cortex } from "aicortex"
 * import { Effect, Schema } from "effect"
 *
 * const program = Effect.gen(function* () {
 *   const text = yield* Chat.text("Why is the sky blue?", { model: "llama3.2:3b", routing: "fastest" })
 *   const { capital } = yield* Chat.json("The capital of France?", Schema.Struct({ capital: Schema.String }))
 * }).pipe(Effect.provide(Cortex.layer({ servers: ["http://gpu-1:11434"] })))
 * ```
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import { identity } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Runtime from "effect/Runtime"
import type * as Schema from "effect/Schema"
import type * as Stream from "effect/Stream"
import type { ChatEvent } from "./ChatEvent.js"
import * as ChatRequest from "./ChatRequest.js"
import { type Beginning, Chain, type Link } from "./chat/chain.js"
import { type CheckedCall, checkCall, type Options, type Prompt } from "./chat/check.js"
import * as TestModel from "./chat/testModel.js"
import { running, toEffect, toStream } from "./chat/toEffect.js"
import * as ToolLoop from "./chat/toolLoop.js"
import { type ChatError, DeadlineExceeded, type SchemaIssue, SchemaMismatch } from "./Errors.js"
import { type Call, Failover, type OpenAnswer, type Result } from "./Failover.js"
import * as History from "./History.js"
import * as Direct from "./internal/direct.js"
import * as Message from "./Message.js"
import { firstOf, type ModelCandidate, ModelSelection } from "./ModelSelection.js"
import { Registry } from "./Registry.js"
import * as ResponseCache from "./ResponseCache.js"
import * as ConversationKey from "./router/conversationKey.js"
import { Sessions, type Turn } from "./Sessions.js"
import { CurrentSettings, type Settings } from "./Settings.js"
import * as StructuredOutput from "./StructuredOutput.js"
import * as Telemetry from "./Telemetry.js"
import type { TraceContext } from "./Transport.js"

export type {
  /**
   * @since 0.1.0
   * @category models
   */
  Options,
  /**
   * @since 0.1.0
   * @category models
   */
  Prompt,
  /**
   * @since 0.1.0
   * @category models
   */
  Tool
} from "./chat/check.js"
export type {
  /**
   * @since 0.1.0
   * @category models
   */
  Reply,
  /**
   * @since 0.1.0
   * @category models
   */
  Script
} from "./chat/testModel.js"
export {
  /**
   * @since 0.1.0
   * @category accessors
   */
  textOf
} from "./chat/toolLoop.js"

// =============================================================================
// Models
// =============================================================================

/**
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /**
   * The answer as a plain pull of events, for callers that iterate it themselves; it must be pulled to its end or
   * cancelled.
   */
  readonly open: (prompt: Prompt, options?: Options) => Effect.Effect<OpenAnswer, ChatError>
  /** The events as a `Stream`, one chunk per network read; ending it early cancels the server's work. */
  readonly stream: (prompt: Prompt, options?: Options) => Stream.Stream<ChatEvent, ChatError>
  /** The whole answer with its server, usage, speed and tool calls. */
  readonly complete: (prompt: Prompt, options?: Options) => Effect.Effect<Result, ChatError>
  /** The text of the whole answer. */
  readonly text: (prompt: Prompt, options?: Options) => Effect.Effect<string, ChatError>
  /** JSON that `decoder` accepts, repaired once if the first reply does not match. */
  readonly structured: <A>(
    prompt: Prompt,
    decoder: StructuredOutput.Decoder<A>,
    options?: Options
  ) => Effect.Effect<A, ChatError | SchemaMismatch>
}

/**
 * @since 0.1.0
 * @category tags
 */
export class Chat extends Context.Tag("aicortex/Chat")<Chat, Service>() {}

// =============================================================================
// Service
// =============================================================================

/** Tokens reserved for the answer when trimming the history, if the caller sets no limit. */
const defaultReserve = 1024

const nothing: ReadonlyArray<ChatEvent> = []

/** A call with its conversation, and its place in the session's queue. */
interface PreparedCall {
  readonly checked: CheckedCall
  readonly request: ChatRequest.ChatRequest
  /** The models that may answer, and the one of them that is asked. */
  readonly candidates: ReadonlyArray<ModelCandidate>
  readonly candidate: ModelCandidate
  readonly turn: Turn | undefined
  readonly trimmed: number
  /** When the call began. */
  readonly began: number
  readonly trace: Telemetry.Trace | undefined
  /** The trace context, if there is no tracer. */
  readonly context: TraceContext | undefined
  /** Further cache options. */
  readonly cacheRequest?: Pick<ResponseCache.CacheRequest, "accepts" | "keepAs" | "renew"> | undefined
}

/**
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.gen(function* () {
  const failover = yield* Failover
  const models = yield* ModelSelection
  const registry = yield* Registry
  const cache = yield* ResponseCache.ResponseCache
  const sessions = yield* Sessions
  const settings = yield* CurrentSettings
  const clock = yield* Effect.clock
  const ownTrace = yield* Effect.withFiberRuntime<Telemetry.Trace | undefined>((fiber) => {
    const trace = Telemetry.traceOf(fiber)
    return Effect.succeed(trace === undefined ? undefined : { ...trace, parent: Option.none() })
  })

  const contextLength = (model: string, options: ChatRequest.Options) => {
    const configured = options.options?.["num_ctx"]
    if (typeof configured === "number") return Effect.succeed(configured)
    return registry.modelInfo(model).pipe(
      Effect.map((info) => info.context_length),
      // A model that only the user's server has need not be in the catalogue: its context length is unknown.
      Effect.catchTag("ModelNotFound", () => Effect.succeed(undefined))
    )
  }

  const now = () => clock.unsafeCurrentTimeMillis()

  /** The call without a session, which needs no waiting. */
  const alone = (
    checked: CheckedCall,
    candidates: ReadonlyArray<ModelCandidate>,
    trace: Telemetry.Trace | undefined,
    context: TraceContext | undefined
  ): PreparedCall => {
    const candidate = firstModel(candidates)
    return {
      checked,
      request: ChatRequest.make(checked.options, candidate.model, messagesOf(checked), checked.format),
      candidates,
      candidate,
      turn: undefined,
      trimmed: 0,
      began: now(),
      trace,
      context
    }
  }

  /** The models that may answer a call. */
  const select = (checked: CheckedCall) => {
    const { maxTokens, suffix, tools } = checked.options
    const messages = messagesOf(checked)
    return models.select(checked.model, { request: { messages, tools: tools ?? [], maxTokens, suffix } })
  }

  /**
   * Waits for the call's turn in its session, and adds the session's history. `hold` receives the place at once: a
   * caller that runs this in a race, as for a deadline, may never see its result.
   */
  const join = (
    checked: CheckedCall,
    candidates: ReadonlyArray<ModelCandidate>,
    session: string,
    began: number,
    trace: Telemetry.Trace | undefined,
    context: TraceContext | undefined,
    hold: (turn: Turn) => void
  ): Effect.Effect<PreparedCall, ChatError> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(sessions.begin(session), (turn) => {
        hold(turn)
        return Effect.gen(function* () {
          const { newMessages, options, system } = checked
          const candidate = firstModel(candidates)
          const { model } = candidate
          const length = turn.history.length === 0 ? undefined : yield* contextLength(model, options)
          const { messages, trimmed } = History.trim(turn.history, [...system, ...newMessages], {
            contextLength: length,
            reserve: options.maxTokens ?? Math.min(defaultReserve, Math.floor((length ?? 0) / 4))
          })
          const request = ChatRequest.make(options, model, messages, checked.format)
          return {
            checked,
            request,
            candidates,
            candidate,
            turn,
            trimmed,
            began,
            trace,
            context
          } satisfies PreparedCall
        }).pipe(restore)
      })
    )

  /** A deadline counts from the call's start, including the wait for the session and for discovery. */
  const within = <A>(
    effect: Effect.Effect<A, ChatError>,
    checked: CheckedCall,
    began: number
  ): Effect.Effect<A, ChatError> => {
    const { deadline } = checked.limits
    return deadline === undefined
      ? effect
      : Effect.timeoutFail(effect, {
          duration: Math.max(1, deadline - (now() - began)),
          onTimeout: () => new DeadlineExceeded({ model: checked.model, deadline, partial: "", attempts: [] })
        })
  }

  /** Reports a call that ends before its answer has started. */
  const observed = <A>(
    effect: Effect.Effect<A, ChatError>,
    { format, model, options }: CheckedCall,
    began: number,
    trace: Telemetry.Trace | undefined
  ): Effect.Effect<A, ChatError> =>
    Telemetry.observeUnstarted(
      effect,
      () => ({ request: ChatRequest.make(options, model, [], format), began, events: false, trace }),
      now
    )

  /**
   * Validates a call, and runs `use` with it; a call in a session keeps its turn until `use` is done, or longer if
   * `keep` says so and `use` succeeds.
   */
  const withCall = <A, E>(
    prompt: Prompt,
    options: Options | undefined,
    format: ChatRequest.Format,
    keep: boolean,
    use: (prepared: PreparedCall) => Effect.Effect<A, E | ChatError>
  ): Effect.Effect<A, E | ChatError> =>
    Effect.withFiberRuntime((fiber) => {
      const checked = checkCall(prompt, options, format, settings)
      if (Either.isLeft(checked)) return Effect.fail(checked.left)
      const { session } = checked.right
      const trace = Telemetry.traceOf(fiber)
      const context = trace === undefined ? Telemetry.passing(fiber) : undefined
      const selected = select(checked.right)
      const known = Direct.valueOf(selected)
      if (session === undefined && known !== undefined) return use(alone(checked.right, known, trace, context))
      const began = now()
      if (session === undefined) {
        const chosen = observed(within(selected, checked.right, began), checked.right, began, trace)
        return Effect.flatMap(chosen, (found) => use({ ...alone(checked.right, found, trace, context), began }))
      }
      let turn: Turn | undefined
      const inSession = trace === undefined ? undefined : { ...trace, conversation: session }
      const joined = Effect.flatMap(selected, (found) =>
        join(checked.right, found, session, began, inSession, context, (mine) => {
          turn = mine
        })
      )
      const waited = observed(within(joined, checked.right, began), checked.right, began, inSession)
      return Effect.flatMap(waited, use).pipe(
        Effect.onExit((exit) =>
          Effect.sync(() => {
            if (!keep || Exit.isFailure(exit)) turn?.release()
          })
        )
      )
    })

  const routingOf = ({ options }: CheckedCall): ChatRequest.Routing => options.routing ?? ChatRequest.defaults.routing

  // A session is identified by its id; other conversations by their messages.
  const travellerOf = ({ candidate, checked, request }: PreparedCall) => ({
    conversation:
      checked.session === undefined
        ? ConversationKey.ofMessages(request.messages)
        : ConversationKey.named(checked.session),
    owner: checked.options.owner,
    priority: checked.options.priority,
    tokens: () => History.estimate(request.messages),
    only: candidate.accepts
  })

  const serversOf = (call: PreparedCall) =>
    failover.prepare(call.request.model, routingOf(call.checked), travellerOf(call))

  /** Finds the servers of a call, or a cached or shared answer. */
  const prepare = (call: PreparedCall): Effect.Effect<(call: Call) => OpenAnswer, ChatError> => {
    const { began, checked, request, trace, cacheRequest } = call
    const servers = serversOf(call)
    const kept = keptFor(call)
    const start = kept === undefined ? Direct.valueOf(servers) : undefined
    if (start !== undefined) return Effect.succeed(start)
    const routing = routingOf(checked)
    const found =
      kept === undefined
        ? servers
        : cache.prepare({ ...cacheRequest, owner: checked.options.owner, request, routing, ttl: kept }, servers)
    return observed(within(found, checked, began), checked, began, trace)
  }

  /** A call that neither stores a turn nor runs tools. */
  const simpleCall = ({ began, checked, context, request, trace }: PreparedCall, events: boolean): Call => ({
    request,
    limits: checked.limits,
    began,
    events,
    preface: nothing,
    complete: undefined,
    closed: undefined,
    trace,
    context
  })

  /** What begins the answer of a call by one of its models. */
  const beginOne = (
    prepared: PreparedCall,
    events: boolean,
    commit: boolean,
    closed: (() => void) | undefined
  ): Effect.Effect<Beginning, ChatError> => {
    const { candidate, checked, request, trimmed, turn } = prepared
    if (turn === undefined && checked.executors === undefined) {
      const call = { ...simpleCall(prepared, events), closed }
      const said = () => checked.newMessages
      return Effect.map(prepare(prepared), (answer) => ({
        candidate: () => candidate,
        start: () => answer(call),
        said
      }))
    }
    // Tools run with the caller's loggers, annotations and Effect settings.
    return Effect.flatMap(Effect.runtime<never>(), (runtime) => {
      const fork = Runtime.runFork(runtime)
      const runFork = <A, E>(effect: Effect.Effect<A, E>) => fork(Effect.interruptible(effect))
      const toolLoop = ToolLoop.makeToolLoop(checked, request, commit ? turn : undefined, now, prepared.trace, runFork)
      const call: Call = {
        ...simpleCall(prepared, events),
        preface: trimmed === 0 ? nothing : [{ type: "meta", meta: { trimmed }, timestamp: prepared.began }],
        complete: toolLoop.complete,
        closed: () => {
          toolLoop.stop()
          closed?.()
        }
      }
      return Effect.map(prepare(prepared), (answer) => ({
        candidate: () => candidate,
        start: () => answer(call),
        said: () => toolLoop.said
      }))
    })
  }

  /** The same by the first of its models that can be asked; the others follow where one fails. */
  const begin = (prepared: PreparedCall, events: boolean, commit: boolean): Effect.Effect<Beginning, ChatError> => {
    const { candidates, turn } = prepared
    const closed = events && turn !== undefined ? () => turn.release() : undefined
    if (candidates.length === 1) return beginOne(prepared, events, commit, closed)
    const from = (first: number): Effect.Effect<Link, ChatError> =>
      firstOf(
        candidates,
        (candidate, at) =>
          Effect.map(beginOne(asking(prepared, candidate), events, commit, undefined), (beginning) => ({
            at,
            beginning
          })),
        first
      )
    return Effect.zipWith(Effect.runtime<never>(), from(0), (runtime, first) =>
      Chain.beginning(first, { count: candidates.length, from, fork: Runtime.runFork(runtime), closed })
    )
  }

  /**
   * Starts an answer without a fiber if nothing has to be awaited: no session turn, no cache lookup, no discovery. Its
   * spans have no parent that Effect knows.
   */
  const openNow = (
    prompt: Prompt,
    options: Options | undefined,
    events: boolean
  ): Exit.Exit<OpenAnswer, ChatError> | undefined => {
    const checked = checkCall(prompt, options, "text", settings)
    if (Either.isLeft(checked)) return Exit.fail(checked.left)
    const { executors, kept, session } = checked.right
    if (session !== undefined || executors !== undefined || kept !== undefined) return undefined
    const candidates = Direct.valueOf(select(checked.right))
    if (candidates?.length !== 1) return undefined
    const call = alone(checked.right, candidates, ownTrace, undefined)
    const start = Direct.valueOf(serversOf(call))
    return start === undefined ? undefined : Exit.succeed(start(simpleCall(call, events)))
  }

  const answered = <A>(
    prompt: Prompt,
    options: Options | undefined,
    use: (result: Result) => A | ChatError
  ): Effect.Effect<A, ChatError> =>
    Direct.make<A, ChatError>(
      () => {
        const opened = openNow(prompt, options, false)
        if (opened === undefined) return undefined
        return Exit.isSuccess(opened) ? running(opened.value, use) : Exit.failCause(opened.cause)
      },
      () =>
        withCall(prompt, options, "text", false, (prepared) =>
          Effect.flatMap(begin(prepared, false, true), ({ start }) => toEffect(start, use))
        )
    )

  const open = (prompt: Prompt, options?: Options): Effect.Effect<OpenAnswer, ChatError> =>
    Direct.make<OpenAnswer, ChatError>(
      () => openNow(prompt, options, true),
      () =>
        withCall(prompt, options, "text", true, (prepared) =>
          Effect.map(begin(prepared, true, true), ({ start }) => start())
        )
    )

  /** Only a valid reply is cached, and a cached one that is invalid for this decoder is ignored. */
  const ask = <A>(prepared: PreparedCall, decoder: StructuredOutput.Decoder<A>) => {
    const once = (cacheRequest: PreparedCall["cacheRequest"]) =>
      Effect.flatMap(begin({ ...prepared, cacheRequest }, false, false), ({ candidate, said, start }) =>
        toEffect(start, (result) => {
          const text = ToolLoop.textOf(result)
          return typeof text === "string"
            ? { result, said: said(), decoded: decoder.decode(text), candidate: candidate() }
            : text
        })
      )
    if (keptFor(prepared) === undefined) return once(undefined)
    const accepts = (result: Result) => Either.isRight(decoder.decode(result.text))
    return Effect.flatMap(once({ ...prepared.cacheRequest, accepts }), (asked) =>
      asked.result.cached && Either.isLeft(asked.decoded)
        ? once({ ...prepared.cacheRequest, accepts, renew: true })
        : Effect.succeed(asked)
    )
  }

  const structured = <A>(prompt: Prompt, decoder: StructuredOutput.Decoder<A>, options?: Options) =>
    withCall<A, SchemaMismatch>(
      prompt,
      options,
      decoder.jsonSchema ?? "json",
      false,
      Effect.fnUntraced(function* (prepared) {
        const first = yield* ask(prepared, decoder)
        let { decoded, result } = first
        if (Either.isLeft(decoded) && StructuredOutput.canRepair(decoded.left)) {
          const second = yield* ask(
            repairing(answeredBy(prepared, first.candidate), result.text, decoded.left),
            decoder
          )
          decoded = second.decoded
          result = second.result
        }
        if (Either.isLeft(decoded)) {
          return yield* new SchemaMismatch({ model: first.candidate.model, issues: decoded.left, text: result.text })
        }
        const { turn } = prepared
        if (turn !== undefined) {
          yield* ToolLoop.store(turn, [...first.said.slice(0, -1), ToolLoop.assistantMessage(result)])
        }
        return decoded.right
      })
    )

  return Chat.of({
    open,
    stream: (prompt, options) => toStream(open(prompt, options)),
    complete: (prompt, options) => answered<Result>(prompt, options, identity),
    text: (prompt, options) => answered<string>(prompt, options, ToolLoop.textOf),
    structured
  })
})

const messagesOf = ({ newMessages, system }: CheckedCall): ReadonlyArray<Message.Message> =>
  system.length === 0 ? newMessages : [...system, ...newMessages]

const firstModel = ([first]: ReadonlyArray<ModelCandidate>): ModelCandidate => {
  if (first === undefined) throw new RangeError("a call needs a model")
  return first
}

/** The same call with another of its models. */
const asking = (prepared: PreparedCall, candidate: ModelCandidate): PreparedCall =>
  candidate === prepared.candidate
    ? prepared
    : { ...prepared, candidate, request: { ...prepared.request, model: candidate.model } }

/** The same call from the model on that has answered it. */
const answeredBy = (prepared: PreparedCall, candidate: ModelCandidate): PreparedCall => ({
  ...asking(prepared, candidate),
  candidates: prepared.candidates.slice(Math.max(0, prepared.candidates.indexOf(candidate)))
})

/** For how long the answer is kept: that of some of a model's servers is not that of the model. */
const keptFor = ({ candidate, checked }: PreparedCall): number | undefined =>
  candidate.accepts === undefined ? checked.kept : undefined

/** The same call with the model's reply and its issues. */
const repairing = (prepared: PreparedCall, reply: string, issues: ReadonlyArray<SchemaIssue>): PreparedCall => ({
  ...prepared,
  // The repaired reply is the answer to the original question.
  cacheRequest: { keepAs: prepared.request, renew: true },
  request: {
    ...prepared.request,
    messages: [
      ...prepared.request.messages,
      Message.assistant(reply),
      Message.user(StructuredOutput.repairPrompt(issues))
    ]
  }
})

/**
 * @since 0.1.0
 * @category layers
 */
export const layer: Layer.Layer<
  Chat,
  never,
  Failover | ModelSelection | Registry | ResponseCache.ResponseCache | Sessions | CurrentSettings
> = Layer.effect(Chat, make)

/**
 * `Chat` for tests, with a script in place of servers: validation, sessions, cache, decoding, repair and events are
 * real, and every model exists. Conversations and cached answers are in memory; `settings` may have personas and a
 * default model. Nothing is sent, and neither environment nor files are read.
 *
 * A deadline uses real time; a script that takes time, such as `Effect.delay`, uses its clock.
 *
 * @example
 * import { Chat, ModelNotFound } from "aicortex"
 * import { Effect } from "effect"
 *
 * const program = Chat.text("The capital of France?", { model: "llama3.2:3b" }).pipe(
 *   Effect.catchTag("ModelNotFound", ({ model }) => Effect.succeed(`no ${model}`))
 * )
 * const answer = Effect.provide(program, Chat.layerTest("Paris."))
 * const none = Effect.provide(
 *   program,
 *   Chat.layerTest(({ model }) => new ModelNotFound({ model, suggestions: [] }))
 * )
 *
 * @since 0.1.0
 * @category layers
 */
export const layerTest = (
  script: TestModel.Script,
  settings: Partial<Settings> = {}
): Layer.Layer<Chat | Sessions | ResponseCache.ResponseCache | CurrentSettings> =>
  Layer.provideMerge(layer, TestModel.layer(script, settings))

// =============================================================================
// accessors
// =============================================================================

/**
 * The text of the whole answer.
 *
 * @since 0.1.0
 * @category accessors
 */
export const text = (prompt: Prompt, options?: Options): Effect.Effect<string, ChatError, Chat> =>
  Effect.flatMap(Chat, (chat) => chat.text(prompt, options))

/**
 * The whole answer, with the server that gave it, usage, speed, tool calls and the attempts that failed before.
 *
 * @since 0.1.0
 * @category accessors
 */
export const complete = (prompt: Prompt, options?: Options): Effect.Effect<Result, ChatError, Chat> =>
  Effect.flatMap(Chat, (chat) => chat.complete(prompt, options))

/**
 * The events of the answer as they come, one chunk per network read. Ending the stream early cancels the server's work.
 *
 * @since 0.1.0
 * @category accessors
 */
export const stream = (prompt: Prompt, options?: Options): Stream.Stream<ChatEvent, ChatError, Chat> =>
  toStream(Effect.flatMap(Chat, (chat) => chat.open(prompt, options)))

/**
 * A value of a schema. The schema is sent to the server, the reply is decoded with it, and a reply that does not match
 * is sent back once for repair; then it fails with `SchemaMismatch`.
 *
 * @example
 * import { Chat } from "aicortex"
 * import { Schema } from "effect"
 *
 * const city = Chat.json("The capital of France?", Schema.Struct({ capital: Schema.String }))
 *
 * @since 0.1.0
 * @category accessors
 */
export const json = <A, I>(
  prompt: Prompt,
  schema: Schema.Schema<A, I>,
  options?: Options
): Effect.Effect<A, ChatError | SchemaMismatch, Chat> =>
  Effect.flatMap(Chat, (chat) => chat.structured(prompt, StructuredOutput.fromSchema(schema), options))

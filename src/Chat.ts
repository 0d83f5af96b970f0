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
import * as Cause from "effect/Cause"
import * as Channel from "effect/Channel"
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Runtime from "effect/Runtime"
import type * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type { ChatEvent } from "./ChatEvent.js"
import * as ChatRequest from "./ChatRequest.js"
import {
  type ChatError,
  DeadlineExceeded,
  InvalidRequest,
  PersonaNotFound,
  type SchemaIssue,
  SchemaMismatch,
  type SessionNotFound,
  ToolFailed
} from "./Errors.js"
import { type Batch, type Call, type Continuation, Failover, type OpenAnswer, type Result } from "./Failover.js"
import * as History from "./History.js"
import * as Message from "./Message.js"
import { Registry } from "./Registry.js"
import * as ResponseCache from "./ResponseCache.js"
import { type Session, Sessions, type Turn } from "./Sessions.js"
import { CurrentSettings, type Settings } from "./Settings.js"
import * as StructuredOutput from "./StructuredOutput.js"

// =============================================================================
// models
// =============================================================================

/**
 * What to answer: a prompt, or a whole conversation.
 *
 * @since 0.1.0
 * @category models
 */
export type Prompt = string | ReadonlyArray<Message.Message> | { readonly messages: ReadonlyArray<Message.Message> }

/**
 * A tool the model may call. With `execute` the tool is run here, its result goes back to the model (text as it is,
 * anything else as JSON) and the answer goes on; without it the answer ends with `tool_call` events for the caller.
 *
 * @since 0.1.0
 * @category models
 */
export interface Tool extends ChatRequest.ToolDefinition {
  readonly execute?: (args: { readonly [key: string]: unknown }) => Effect.Effect<unknown, unknown>
}

/**
 * The options of a call: see `ChatRequest.Options` for those that are plain data, with their ranges and defaults.
 *
 * - `session`: a session, or its id: the conversation goes on, and is stored when the answer is complete
 * - `tools`: with or without `execute`
 * - `maxToolRounds`: how often in one call the model may call tools, default 8; after that the answer ends with its
 *   tool calls unanswered
 *
 * @since 0.1.0
 * @category models
 */
export interface Options extends Omit<ChatRequest.Options, "tools"> {
  readonly session?: Session | string | undefined
  readonly tools?: ReadonlyArray<Tool> | undefined
  readonly maxToolRounds?: number | undefined
}

/**
 * - `open`: the answer as a plain pull of events, for callers that iterate it themselves; it must be pulled to its
 *   end or cancelled
 * - `stream`: the events as a `Stream`, one chunk per network read; ending it early stops the server's work
 * - `complete`: the whole answer with its server, usage, speed and tool calls
 * - `text`: the text of the whole answer
 * - `structured`: JSON that `decoder` accepts, asked for once more if the first reply does not fit
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  readonly open: (prompt: Prompt, options?: Options) => Effect.Effect<OpenAnswer, ChatError>
  readonly stream: (prompt: Prompt, options?: Options) => Stream.Stream<ChatEvent, ChatError>
  readonly complete: (prompt: Prompt, options?: Options) => Effect.Effect<Result, ChatError>
  readonly text: (prompt: Prompt, options?: Options) => Effect.Effect<string, ChatError>
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
// preparation
// =============================================================================

const isMessages = (prompt: Prompt): prompt is ReadonlyArray<Message.Message> => Array.isArray(prompt)

const turnMessages = (prompt: Prompt): Either.Either<ReadonlyArray<Message.Message>, InvalidRequest> => {
  if (typeof prompt === "string") {
    return prompt === ""
      ? Either.left(new InvalidRequest({ field: "prompt", reason: "is empty; ask something" }))
      : Either.right([Message.user(prompt)])
  }
  const messages: unknown = isMessages(prompt) ? prompt : prompt?.messages
  return Array.isArray(messages)
    ? ChatRequest.decodeMessages(messages)
    : Either.left(
        new InvalidRequest({ field: "prompt", reason: "must be a text, a list of messages, or { messages }" })
      )
}

const toolText = (value: unknown): string => (typeof value === "string" ? value : (JSON.stringify(value) ?? "null"))

/** What a tool failed with, in words: it may be anything. */
const reasonOf = (cause: unknown): string => {
  if (typeof cause !== "object" || cause === null) return String(cause)
  if ("message" in cause && typeof cause.message === "string" && cause.message !== "") return cause.message
  if (cause instanceof Error) return cause.name
  if ("_tag" in cause && typeof cause._tag === "string") return cause._tag
  try {
    return JSON.stringify(cause) ?? "it gave no reason"
  } catch {
    return "it gave no reason that can be shown"
  }
}

const defaultToolRounds = 8

/** What a model may say when the caller sets no limit, in tokens, as far as trimming the history goes. */
const defaultReserve = 1024

/** A call that has been checked. */
interface Checked {
  readonly options: ChatRequest.Options
  readonly model: string
  readonly format: ChatRequest.Format
  readonly limits: ChatRequest.Limits
  readonly executors: ReadonlyMap<string, NonNullable<Tool["execute"]>> | undefined
  readonly maxToolRounds: number
  readonly session: string | undefined
  readonly system: ReadonlyArray<Message.Message>
  readonly fresh: ReadonlyArray<Message.Message>
  /** For how long its answer is kept, in milliseconds; `undefined`: not at all. */
  readonly kept: number | undefined
}

/** A call with its conversation, and its place in its session. */
interface Prepared {
  readonly checked: Checked
  readonly request: ChatRequest.ChatRequest
  readonly turn: Turn | undefined
  readonly trimmed: number
  /** When the call began. */
  readonly began: number
  /** What it wants of the cache besides. */
  readonly wish?: Pick<ResponseCache.Wish, "accepts" | "keepAs" | "renew"> | undefined
}

const check = (
  prompt: Prompt,
  given: Options | undefined,
  format: ChatRequest.Format,
  settings: Settings
): Either.Either<Checked, ChatError> => {
  const { maxToolRounds = defaultToolRounds, session, tools, ...rest } = given ?? {}
  if (!Number.isSafeInteger(maxToolRounds) || maxToolRounds < 1) {
    return Either.left(new InvalidRequest({ field: "maxToolRounds", reason: "must be a whole number from 1" }))
  }
  const id: unknown = typeof session === "object" && session !== null ? session.id : session
  if ((id !== undefined && typeof id !== "string") || (id === undefined && session !== undefined)) {
    return Either.left(new InvalidRequest({ field: "session", reason: "must be a session or its id" }))
  }
  let executors: Map<string, NonNullable<Tool["execute"]>> | undefined
  const definitions = Array.isArray(tools)
    ? (tools as ReadonlyArray<Tool>).map((tool) => {
        if (typeof tool !== "object" || tool === null) return tool
        const { execute, ...definition } = tool
        if (execute !== undefined) {
          executors ??= new Map()
          executors.set(definition.name, execute)
        }
        return definition
      })
    : tools
  const decoded = ChatRequest.decodeOptions(definitions === undefined ? rest : { ...rest, tools: definitions })
  if (Either.isLeft(decoded)) return Either.left(decoded.left)
  const options = decoded.right
  let system = options.system
  if (options.persona !== undefined) {
    if (system !== undefined) {
      return Either.left(
        new InvalidRequest({ field: "persona", reason: "cannot be given together with system; use one of them" })
      )
    }
    system = Object.hasOwn(settings.personas, options.persona) ? settings.personas[options.persona] : undefined
    if (system === undefined) {
      const known = Object.keys(settings.personas).sort()
      return Either.left(new PersonaNotFound({ persona: options.persona, known }))
    }
  }
  if (format !== "text") system = StructuredOutput.withInstruction(system)
  const fresh = turnMessages(prompt)
  if (Either.isLeft(fresh)) return Either.left(fresh.left)
  return Either.right({
    options,
    model: options.model ?? settings.model,
    format,
    limits: ChatRequest.limits(options),
    executors,
    maxToolRounds,
    session: id,
    system: system === undefined ? [] : [Message.system(system)],
    fresh: fresh.right,
    kept: executors === undefined ? ResponseCache.ttlOf(options.cache, settings) : undefined
  })
}

const assistantMessage = (result: Result): Message.AssistantMessage => ({
  role: "assistant",
  content: result.text,
  ...(result.toolCalls.length === 0 ? {} : { toolCalls: result.toolCalls })
})

/** The text of an answer. Calls of tools that nobody has answered would be lost with it. */
const textOf = (result: Result): Effect.Effect<string, ToolFailed> => {
  const [call] = result.toolCalls
  return call === undefined
    ? Effect.succeed(result.text)
    : Effect.fail(
        new ToolFailed({
          tool: call.name,
          reason:
            "its call was left unanswered: no tool of this name has an execute, or the model went on calling for " +
            "maxToolRounds. Use complete() or stream to see the calls"
        })
      )
}

const isChatError = (error: unknown): error is ChatError =>
  error instanceof Error && "_tag" in error && typeof error._tag === "string"

const failWith = (error: unknown): Effect.Effect<never, ChatError> =>
  isChatError(error) ? Effect.fail(error) : Effect.die(error)

// =============================================================================
// service
// =============================================================================

/**
 * @since 0.1.0
 * @category constructors
 */
export const make = Effect.gen(function* () {
  const failover = yield* Failover
  const registry = yield* Registry
  const cache = yield* ResponseCache.ResponseCache
  const sessions = yield* Sessions
  const settings = yield* CurrentSettings
  const clock = yield* Effect.clock
  const runFork = Runtime.runFork(yield* Effect.runtime<never>())

  const contextLength = (model: string, options: ChatRequest.Options) => {
    const configured = options.options?.["num_ctx"]
    if (typeof configured === "number") return Effect.succeed(configured)
    return registry.modelInfo(model).pipe(
      Effect.map((info) => info.context_length),
      // A model that is only on the user's server need not be in the catalogue: its context is not known.
      Effect.catchTag("ModelNotFound", () => Effect.succeed(undefined))
    )
  }

  const now = () => clock.unsafeCurrentTimeMillis()

  /** The call as it stands without a session, which costs no waiting. */
  const alone = (checked: Checked): Prepared => ({
    checked,
    request: ChatRequest.make(
      checked.options,
      checked.model,
      checked.system.length === 0 ? checked.fresh : [...checked.system, ...checked.fresh],
      checked.format
    ),
    turn: undefined,
    trimmed: 0,
    began: now()
  })

  /**
   * Waits for the call's place in its session, and puts the session's history into it. `hold` is told of the place at
   * once: whoever runs this in a race, as a deadline does, may never see its result.
   */
  const join = (checked: Checked, session: string, hold: (turn: Turn) => void): Effect.Effect<Prepared, ChatError> =>
    Effect.suspend(() => {
      const began = now()
      return Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(sessions.begin(session), (turn) => {
          hold(turn)
          return Effect.gen(function* () {
            const { fresh, model, options, system } = checked
            const length = turn.history.length === 0 ? undefined : yield* contextLength(model, options)
            const { messages, trimmed } = History.trim(turn.history, [...system, ...fresh], {
              contextLength: length,
              reserve: options.maxTokens ?? Math.min(defaultReserve, Math.floor((length ?? 0) / 4))
            })
            const request = ChatRequest.make(options, model, messages, checked.format)
            return { checked, request, turn, trimmed, began } satisfies Prepared
          }).pipe(restore)
        })
      )
    })

  /** A deadline counts from the call's beginning: also while it waits for its session, or for who has the model. */
  const within = <A>(
    effect: Effect.Effect<A, ChatError>,
    checked: Checked,
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

  /**
   * Checks a call, and runs `use` with it; a call in a session keeps its place there until `use` is done, or, where
   * `keep` says so and `use` succeeds, longer.
   */
  const withCall = <A, E>(
    prompt: Prompt,
    options: Options | undefined,
    format: ChatRequest.Format,
    keep: boolean,
    use: (prepared: Prepared) => Effect.Effect<A, E | ChatError>
  ): Effect.Effect<A, E | ChatError> =>
    Effect.suspend(() => {
      const checked = check(prompt, options, format, settings)
      if (Either.isLeft(checked)) return Effect.fail(checked.left)
      const { session } = checked.right
      if (session === undefined) return use(alone(checked.right))
      let turn: Turn | undefined
      const joined = join(checked.right, session, (mine) => {
        turn = mine
      })
      return Effect.flatMap(within(joined, checked.right, now()), use).pipe(
        Effect.onExit((exit) =>
          Effect.sync(() => {
            if (!keep || Exit.isFailure(exit)) turn?.release()
          })
        )
      )
    })

  /** Stores the turn, and runs the tools that the answer called. One per call: it counts the rounds. */
  const completion = (prepared: Prepared, commit: boolean) => {
    const { checked, turn } = prepared
    const { executors } = checked
    let request = prepared.request
    const said: Array<Message.Message> = checked.fresh.filter(
      (message) => message.role !== "system" && message.role !== "developer"
    )
    let rounds = 0
    const finish = Effect.fnUntraced(function* (
      result: Result
    ): Effect.fn.Return<Continuation | undefined, ToolFailed | SessionNotFound> {
      const calls = result.toolCalls
      const reply = assistantMessage(result)
      said.push(reply)
      if (executors !== undefined && calls.length > 0 && calls.every((call) => executors.has(call.name))) {
        if (rounds < checked.maxToolRounds) {
          rounds++
          const answers: Array<Message.Message> = [reply]
          const events: Array<ChatEvent> = []
          for (const { arguments: args, id, name } of calls) {
            const execute = executors.get(name)
            if (execute === undefined) continue
            const value = yield* Effect.mapError(
              Effect.suspend(() => execute(args)),
              (cause) => new ToolFailed({ tool: name, reason: reasonOf(cause), cause })
            )
            answers.push({ role: "tool", toolCallId: id, toolName: name, content: toolText(value) })
            events.push({ type: "tool_result", id, name, result: value, timestamp: now() })
          }
          said.push(...answers.slice(1))
          request = { ...request, messages: [...request.messages, ...answers] }
          return { request, events }
        }
      }
      if (commit && turn !== undefined && (result.text !== "" || calls.length > 0)) yield* turn.commit(said)
      return undefined
    })
    return { finish, said }
  }

  /** Finds the servers of a call, or who has its answer already. */
  const prepare = (prepared: Prepared): Effect.Effect<(call: Call) => OpenAnswer, ChatError> => {
    const { began, checked, request, wish } = prepared
    const routing = checked.options.routing ?? ChatRequest.defaults.routing
    const servers = failover.prepare(request.model, routing, {
      conversation: checked.session,
      tokens: () => History.estimate(request.messages)
    })
    return checked.kept === undefined
      ? within(servers, checked, began)
      : within(cache.prepare({ ...wish, request, routing, ttl: checked.kept }, servers), checked, began)
  }

  /** What begins the answer of a call, and what it adds to the conversation. */
  const begin = (prepared: Prepared, events: boolean, commit: boolean) => {
    const { checked, request, trimmed, turn } = prepared
    const preface: ReadonlyArray<ChatEvent> =
      trimmed === 0 ? [] : [{ type: "meta", meta: { trimmed }, timestamp: prepared.began }]
    if (turn === undefined && checked.executors === undefined) {
      return Effect.map(prepare(prepared), (answer) => ({
        start: () =>
          answer({
            request,
            limits: checked.limits,
            began: prepared.began,
            events,
            preface,
            complete: undefined,
            closed: undefined
          }),
        said: checked.fresh
      }))
    }
    let fiber: Fiber.RuntimeFiber<Continuation | undefined, ChatError> | undefined
    const { finish, said } = completion(prepared, commit)
    const complete = (result: Result): Promise<Continuation | undefined> =>
      new Promise((resolve, reject) => {
        const running = runFork(finish(result))
        fiber = running
        running.addObserver((exit) => {
          fiber = undefined
          if (Exit.isSuccess(exit)) resolve(exit.value)
          else reject(Cause.squash(exit.cause))
        })
      })
    const closed = () => {
      if (fiber !== undefined) runFork(Fiber.interruptFork(fiber))
      if (events) turn?.release()
    }
    return Effect.map(prepare(prepared), (answer) => ({
      start: () =>
        answer({ request, limits: checked.limits, began: prepared.began, events, preface, complete, closed }),
      said
    }))
  }

  const whole = (start: () => OpenAnswer): Effect.Effect<Result, ChatError> =>
    Effect.async<Result, ChatError>((resume) => {
      const answer = start()
      answer.result().then(
        (result) => resume(Effect.succeed(result)),
        (error: unknown) => resume(failWith(error))
      )
      return Effect.sync(() => answer.cancel())
    })

  const complete = (prompt: Prompt, options?: Options): Effect.Effect<Result, ChatError> =>
    withCall(prompt, options, "text", false, (prepared) =>
      Effect.flatMap(begin(prepared, false, true), ({ start }) => whole(start))
    )

  const open = (prompt: Prompt, options?: Options): Effect.Effect<OpenAnswer, ChatError> =>
    withCall(prompt, options, "text", true, (prepared) =>
      Effect.map(begin(prepared, true, true), ({ start }) => start())
    )

  /** Only a reply that fits is kept, and a kept one that does not fit, because it was for another decoder, is none. */
  const ask = <A>(prepared: Prepared, decoder: StructuredOutput.Decoder<A>) => {
    const once = (wish: Prepared["wish"]) =>
      Effect.flatMap(begin({ ...prepared, wish }, false, false), ({ said, start }) =>
        Effect.flatMap(whole(start), (result) =>
          Effect.map(textOf(result), (text) => ({ result, said, decoded: decoder.decode(text) }))
        )
      )
    if (prepared.checked.kept === undefined) return once(undefined)
    const accepts = (result: Result) => Either.isRight(decoder.decode(result.text))
    return Effect.flatMap(once({ ...prepared.wish, accepts }), (asked) =>
      asked.result.cached && Either.isLeft(asked.decoded)
        ? once({ ...prepared.wish, accepts, renew: true })
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
        if (Either.isLeft(decoded)) {
          const second = yield* ask(repairing(prepared, result.text, decoded.left), decoder)
          decoded = second.decoded
          result = second.result
        }
        if (Either.isLeft(decoded)) {
          return yield* new SchemaMismatch({ model: prepared.request.model, issues: decoded.left, text: result.text })
        }
        yield* prepared.turn?.commit([...first.said.slice(0, -1), assistantMessage(result)]) ?? Effect.void
        return decoded.right
      })
    )

  return Chat.of({
    open,
    stream: (prompt, options) => streamOf(open(prompt, options)),
    complete,
    text: (prompt, options) => Effect.flatMap(complete(prompt, options), textOf),
    structured
  })
})

/** Reads one answer: a chunk per network read. A channel of its own, because a stream's combinators cost more. */
const streamOf = <R>(open: Effect.Effect<OpenAnswer, ChatError, R>): Stream.Stream<ChatEvent, ChatError, R> => {
  const read = (answer: OpenAnswer): Channel.Channel<Chunk.Chunk<ChatEvent>, unknown, ChatError, unknown, unknown> => {
    const pull = Effect.async<Batch | undefined, ChatError>((resume) => {
      answer.pull().then(
        (batch) => resume(Effect.succeed(batch)),
        (error: unknown) => resume(failWith(error))
      )
    })
    const next: typeof done = Channel.flatMap(Channel.fromEffect(pull), (batch) =>
      batch === undefined ? done : Channel.flatMap(Channel.write(Chunk.unsafeFromArray(batch)), () => next)
    )
    return next
  }
  const done: Channel.Channel<Chunk.Chunk<ChatEvent>, unknown, ChatError, unknown, unknown> = Channel.void
  return Stream.fromChannel(
    Channel.acquireUseRelease(Effect.interruptible(open), read, (answer) => Effect.sync(() => answer.cancel()))
  )
}

/** The same call with the model's reply and what is wrong with it. */
const repairing = (prepared: Prepared, reply: string, issues: ReadonlyArray<SchemaIssue>): Prepared => ({
  ...prepared,
  // What is mended is the answer to the original question.
  wish: { keepAs: prepared.request, renew: true },
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
  Failover | Registry | ResponseCache.ResponseCache | Sessions | CurrentSettings
> = Layer.effect(Chat, make)

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
 * The events of the answer as they come, one chunk per network read. Ending the stream early stops the server's
 * work.
 *
 * @since 0.1.0
 * @category accessors
 */
export const stream = (prompt: Prompt, options?: Options): Stream.Stream<ChatEvent, ChatError, Chat> =>
  streamOf(Effect.flatMap(Chat, (chat) => chat.open(prompt, options)))

/**
 * A value of a schema. The schema is sent to the server, the reply is decoded with it, and a reply that does not fit
 * is sent back once to be mended; then it is a `SchemaMismatch`.
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

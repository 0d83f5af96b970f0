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
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Runtime from "effect/Runtime"
import type * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type { ChatEvent } from "./ChatEvent.js"
import * as ChatRequest from "./ChatRequest.js"
import {
  type ChatError,
  InvalidRequest,
  PersonaNotFound,
  type SchemaIssue,
  SchemaMismatch,
  ToolFailed
} from "./Errors.js"
import { type Answer, type Continuation, Failover, type Result } from "./Failover.js"
import * as History from "./History.js"
import * as Message from "./Message.js"
import { Registry } from "./Registry.js"
import { type Session, Sessions, type Turn } from "./Sessions.js"
import { CurrentSettings } from "./Settings.js"
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
export type Prompt =
  | string
  | ReadonlyArray<Message.Message>
  | { readonly messages: ReadonlyArray<Message.Message> }

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
  readonly open: (prompt: Prompt, options?: Options) => Effect.Effect<Answer, ChatError>
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
  return ChatRequest.decodeMessages(isMessages(prompt) ? prompt : (prompt ?? {}).messages)
}

const toolText = (value: unknown): string =>
  typeof value === "string" ? value : (JSON.stringify(value) ?? "null")

const defaultToolRounds = 8

/** What a model may say when the caller sets no limit, in tokens, as far as trimming the history goes. */
const defaultReserve = 1024

/** A call that has been checked, with its place in its session. */
interface Prepared {
  readonly options: ChatRequest.Options
  readonly request: ChatRequest.ChatRequest
  readonly limits: ChatRequest.Limits
  readonly routing: ChatRequest.Routing
  readonly executors: ReadonlyMap<string, NonNullable<Tool["execute"]>>
  readonly maxToolRounds: number
  /** What this call adds to the conversation, the system prompts left out. */
  readonly added: ReadonlyArray<Message.Message>
  readonly turn: Turn | undefined
  readonly trimmed: number
}

const assistantMessage = (result: Result): Message.AssistantMessage => ({
  role: "assistant",
  content: result.text,
  ...(result.toolCalls.length === 0 ? {} : { toolCalls: result.toolCalls })
})

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

  const prepare = Effect.fnUntraced(function* (
    prompt: Prompt,
    given: Options | undefined,
    format: ChatRequest.Format
  ): Effect.fn.Return<Prepared, ChatError> {
    const { maxToolRounds = defaultToolRounds, session, tools, ...rest } = given ?? {}
    if (!Number.isSafeInteger(maxToolRounds) || maxToolRounds < 1) {
      return yield* new InvalidRequest({ field: "maxToolRounds", reason: "must be a whole number from 1" })
    }
    const executors = new Map<string, NonNullable<Tool["execute"]>>()
    const definitions = tools?.map(({ execute, ...definition }) => {
      if (execute !== undefined) executors.set(definition.name, execute)
      return definition
    })
    const options = yield* ChatRequest.decodeOptions(definitions === undefined ? rest : { ...rest, tools: definitions })
    if (options.system !== undefined && options.persona !== undefined) {
      return yield* new InvalidRequest({ field: "persona", reason: "cannot be given together with system; use one of them" })
    }
    let system = options.system
    if (options.persona !== undefined) {
      system = Object.hasOwn(settings.personas, options.persona) ? settings.personas[options.persona] : undefined
      if (system === undefined) {
        return yield* new PersonaNotFound({ persona: options.persona, known: Object.keys(settings.personas).sort() })
      }
    }
    if (format !== "text") system = StructuredOutput.withInstruction(system)
    const model = options.model ?? settings.model
    const fresh = yield* turnMessages(prompt)
    const preamble = system === undefined ? [] : [Message.system(system)]
    const shared = {
      options,
      limits: ChatRequest.limits(options),
      routing: options.routing ?? ChatRequest.defaults.routing,
      executors,
      maxToolRounds
    }
    if (session === undefined) {
      const request = ChatRequest.make(options, model, system === undefined ? fresh : [...preamble, ...fresh], format)
      return { ...shared, request, added: fresh, turn: undefined, trimmed: 0 }
    }
    return yield* Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(sessions.begin(typeof session === "string" ? session : session.id), (turn) =>
        Effect.gen(function* () {
          const length = turn.history.length === 0 ? undefined : yield* contextLength(model, options)
          const { messages, trimmed } = History.trim(turn.history, [...preamble, ...fresh], {
            contextLength: length,
            reserve: options.maxTokens ?? Math.min(defaultReserve, Math.floor((length ?? 0) / 4))
          })
          const request = ChatRequest.make(options, model, messages, format)
          const added = fresh.filter((message) => message.role !== "system" && message.role !== "developer")
          return { ...shared, request, added, turn, trimmed }
        }).pipe(restore, Effect.onError(() => Effect.sync(turn.release)))
      )
    )
  })

  /** Stores the turn, and runs the tools that the answer called. One per call: it counts the rounds. */
  const completion = (prepared: Prepared, commit: boolean) => {
    const { executors, turn } = prepared
    let request = prepared.request
    const said: Array<Message.Message> = [...prepared.added]
    let rounds = 0
    const finish = Effect.fnUntraced(function* (result: Result) {
      const calls = result.toolCalls
      said.push(assistantMessage(result))
      if (calls.length > 0 && rounds < prepared.maxToolRounds && calls.every((call) => executors.has(call.name))) {
        rounds++
        const answers: Array<Message.Message> = [assistantMessage(result)]
        const events: Array<ChatEvent> = []
        for (const { arguments: args, id, name } of calls) {
          const execute = executors.get(name)
          if (execute === undefined) continue
          const value = yield* Effect.mapError(
            execute(args),
            (cause) =>
              new ToolFailed({ tool: name, reason: cause instanceof Error ? cause.message : String(cause), cause })
          )
          answers.push({ role: "tool", toolCallId: id, toolName: name, content: toolText(value) })
          events.push({ type: "tool_result", id, name, result: value, timestamp: clock.unsafeCurrentTimeMillis() })
        }
        said.push(...answers.slice(1))
        request = { ...request, messages: [...request.messages, ...answers] }
        return { request, events } satisfies Continuation
      }
      if (commit && turn !== undefined && (result.text !== "" || calls.length > 0)) yield* turn.commit(said)
      return undefined
    })
    return { finish, said }
  }

  /** The answer under way, and what must happen when nothing more will. */
  const begin = Effect.fnUntraced(function* (prepared: Prepared, events: boolean, commit: boolean) {
    const { turn } = prepared
    let fiber: Fiber.RuntimeFiber<Continuation | undefined, ChatError> | undefined
    const { finish, said } = completion(prepared, commit)
    const needed = (commit && turn !== undefined) || prepared.executors.size > 0
    const complete = (result: Result): Promise<Continuation | undefined> =>
      new Promise((resolve, reject) => {
        fiber = runFork(finish(result))
        fiber.addObserver((exit) => {
          fiber = undefined
          if (Exit.isSuccess(exit)) resolve(exit.value)
          else reject(Cause.squash(exit.cause))
        })
      })
    const start = yield* failover.prepare({
      request: prepared.request,
      limits: prepared.limits,
      routing: prepared.routing,
      events,
      preface:
        prepared.trimmed === 0
          ? []
          : [{ type: "meta", meta: { trimmed: prepared.trimmed }, timestamp: clock.unsafeCurrentTimeMillis() }],
      complete: needed ? complete : undefined,
      closed: () => {
        if (fiber !== undefined) runFork(Fiber.interruptFork(fiber))
        if (events) turn?.release()
      }
    })
    return { start, said }
  })

  /** Holds the call's place in its session while `use` runs. */
  const during = <A, E>(
    prepared: Effect.Effect<Prepared, ChatError>,
    use: (prepared: Prepared) => Effect.Effect<A, E>
  ): Effect.Effect<A, E | ChatError> =>
    Effect.acquireUseRelease(Effect.interruptible(prepared), use, ({ turn }) => Effect.sync(() => turn?.release()))

  const whole = (start: () => Answer): Effect.Effect<Result, ChatError> =>
    Effect.async<Result, ChatError>((resume) => {
      const answer = start()
      answer.result().then(
        (result) => resume(Effect.succeed(result)),
        (error: unknown) => resume(failWith(error))
      )
      return Effect.sync(() => answer.cancel())
    })

  const complete = (prompt: Prompt, options?: Options) =>
    during(prepare(prompt, options, "text"), (prepared) =>
      Effect.flatMap(begin(prepared, false, true), ({ start }) => whole(start))
    )

  const open = Effect.fnUntraced(function* (prompt: Prompt, options?: Options) {
    const prepared = yield* prepare(prompt, options, "text")
    const { start } = yield* Effect.onError(begin(prepared, true, true), () => Effect.sync(() => prepared.turn?.release()))
    return start()
  })

  const pull = (answer: Answer): Effect.Effect<Chunk.Chunk<ChatEvent>, Option.Option<ChatError>> =>
    Effect.async((resume) => {
      answer.pull().then(
        (batch) =>
          resume(batch === undefined ? Effect.fail(Option.none()) : Effect.succeed(Chunk.unsafeFromArray(batch))),
        (error: unknown) => resume(Effect.mapError(failWith(error), Option.some))
      )
    })

  const stream = (prompt: Prompt, options?: Options): Stream.Stream<ChatEvent, ChatError> =>
    Stream.unwrapScoped(
      Effect.map(
        Effect.acquireRelease(Effect.interruptible(open(prompt, options)), (answer) =>
          Effect.sync(() => answer.cancel())
        ),
        (answer) => Stream.repeatEffectChunkOption(pull(answer))
      )
    )

  const ask = Effect.fnUntraced(function* <A>(prepared: Prepared, decoder: StructuredOutput.Decoder<A>) {
    const { said, start } = yield* begin(prepared, false, false)
    const result = yield* whole(start)
    return { result, said, decoded: decoder.decode(result.text) }
  })

  const structured = <A>(prompt: Prompt, decoder: StructuredOutput.Decoder<A>, options?: Options) =>
    during(
      prepare(prompt, options, decoder.jsonSchema ?? "json"),
      Effect.fnUntraced(function* (prepared) {
        const began = clock.unsafeCurrentTimeMillis()
        const first = yield* ask(prepared, decoder)
        let { decoded, result } = first
        if (Either.isLeft(decoded)) {
          const { deadline } = prepared.limits
          const left = deadline === undefined ? undefined : deadline - (clock.unsafeCurrentTimeMillis() - began)
          if (left === undefined || left > 0) {
            const second = yield* ask(repairing(prepared, result.text, decoded.left, left), decoder)
            decoded = second.decoded
            result = second.result
          }
        }
        if (Either.isLeft(decoded)) {
          return yield* new SchemaMismatch({ model: prepared.request.model, issues: decoded.left, text: result.text })
        }
        if (prepared.turn !== undefined) yield* prepared.turn.commit([...first.said.slice(0, -1), assistantMessage(result)])
        return decoded.right
      })
    )

  return Chat.of({
    open,
    stream,
    complete,
    text: (prompt, options) => Effect.map(complete(prompt, options), (result) => result.text),
    structured
  })
})

/** The same call with the model's reply and what is wrong with it. */
const repairing = (
  prepared: Prepared,
  reply: string,
  issues: ReadonlyArray<SchemaIssue>,
  deadline: number | undefined
): Prepared => ({
  ...prepared,
  limits: { ...prepared.limits, deadline },
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
export const layer: Layer.Layer<Chat, never, Failover | Registry | Sessions | CurrentSettings> = Layer.effect(Chat, make)

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
  Stream.unwrap(Effect.map(Chat, (chat) => chat.stream(prompt, options)))

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

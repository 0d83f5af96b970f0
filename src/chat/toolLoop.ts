/** The tool loop of one call: runs each called tool and sends its result back to the model. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { Span } from "effect/Tracer"
import type { ChatEvent } from "../ChatEvent.js"
import type { ChatRequest } from "../ChatRequest.js"
import { type ChatError, type SchemaIssue, type SessionNotFound, ToolFailed, TurnNotStored } from "../Errors.js"
import type { Completion, Result } from "../Failover.js"
import type * as Message from "../Message.js"
import type { Turn, TurnUsage } from "../Sessions.js"
import { usageOf } from "../sessions/record.js"
import { linesOf } from "../structuredOutput/issueText.js"
import * as Telemetry from "../Telemetry.js"
import type { Execution, Executor } from "./execution.js"

/** The text of a result for the model; a failure if it cannot be serialised as JSON. */
const toolText = (tool: string, value: unknown): Effect.Effect<string, ToolFailed> =>
  typeof value === "string"
    ? Effect.succeed(value)
    : Effect.try({
        try: () => JSON.stringify(value) ?? "null",
        catch: (cause) =>
          new ToolFailed({ tool, reason: `its result cannot be written as JSON: ${reasonOf(cause)}`, cause })
      })

/** The reason of a tool's failure, which may be anything. */
const reasonOf = (cause: unknown): string => {
  if (typeof cause !== "object" || cause === null) return String(cause)
  if ("message" in cause && typeof cause.message === "string" && cause.message !== "") return cause.message
  if (cause instanceof Error) return cause.name
  if ("_tag" in cause && typeof cause._tag === "string") return cause._tag
  try {
    return JSON.stringify(cause) ?? "it gave no reason"
  } catch {
    return "its reason cannot be shown"
  }
}

/** The error text for the model if its arguments are not an object. */
const invalidArguments = (text: string): string => {
  const shown = text.length > 500 ? `${text.slice(0, 500)}…` : text
  return `Error: the tool was not run, because its arguments are not a JSON object. Call it again with valid JSON. The arguments were: ${shown}`
}

/** The error text for the model if its arguments do not fit the parameters. */
const unfittingArguments = (issues: ReadonlyArray<SchemaIssue>): string =>
  `Error: the tool was not run, because its arguments do not fit its parameters:\n${linesOf(issues)}\n` +
  "Call it again with arguments that fit."

/** What tools failed with whose failure is to be the call's own. */
const ownFailures = new WeakMap<ToolFailed, { readonly cause: unknown }>()

/** What a call fails with: the failure of a tool itself, where the tool says so. */
export const raised = (error: unknown): unknown => {
  const own = error instanceof ToolFailed ? ownFailures.get(error) : undefined
  return own === undefined ? error : own.cause
}

/** An answer as a turn of its conversation. */
export const assistantMessage = (result: Result): Message.AssistantMessage => ({
  role: "assistant",
  content: result.text,
  ...(result.toolCalls.length === 0 ? {} : { toolCalls: result.toolCalls })
})

/**
 * Adds the new messages to the conversation. The model has done its work: where that cannot be stored, the answer is
 * not lost with it, and the warning is logged.
 */
export const store = (
  turn: Turn,
  newMessages: ReadonlyArray<Message.Message>,
  usage: TurnUsage
): Effect.Effect<TurnNotStored | undefined, SessionNotFound> =>
  turn.commit(newMessages, usage).pipe(
    Effect.as(undefined),
    Effect.catchTag("SessionsUnavailable", ({ reason }) => {
      const warning = new TurnNotStored({ session: turn.id, reason })
      return Effect.as(Effect.logWarning(warning.message), warning)
    })
  )

/**
 * The text of an answer; a failure if it contains unanswered tool calls, which would be lost.
 *
 * @since 0.1.0
 * @category accessors
 */
export const textOf = (result: Result): string | ToolFailed => {
  const [call] = result.toolCalls
  return call === undefined
    ? result.text
    : new ToolFailed({
        tool: call.name,
        reason:
          "its call was left unanswered: no tool of this name has an execute, or the model kept calling tools for " +
          "maxToolRounds rounds. Use complete() or stream to see the calls"
      })
}

export interface ToolLoop {
  /**
   * Runs the tools that an answer called, below the call's span, and returns how to continue; at the end it stores the
   * turn.
   */
  readonly complete: (result: Result, span: Span | undefined) => Promise<Completion>
  /** Cancels a running tool. */
  readonly stop: () => void
  /** The messages that the call adds to the conversation. */
  readonly newMessages: ReadonlyArray<Message.Message>
}

/** One per call: it counts the rounds. `commit` stores the turn at the end. */
export const makeToolLoop = (
  execution: Execution,
  first: ChatRequest,
  commit: Turn | undefined,
  now: () => number,
  trace: Telemetry.Trace | undefined,
  runFork: <A, E>(effect: Effect.Effect<A, E>) => Fiber.RuntimeFiber<A, E>
): ToolLoop => {
  const { executors } = execution
  let request = first
  const newMessages: Array<Message.Message> = execution.request.messages.filter(
    (message) => message.role !== "system" && message.role !== "developer"
  )
  let rounds = 0
  let fiber: Fiber.RuntimeFiber<Completion, ChatError> | undefined

  /** What goes back to the model. */
  const runTool = Effect.fnUntraced(function* (
    { decode, execute, onError }: Executor,
    { arguments: given, id, name, rawArguments }: Message.ToolCall,
    span: Span | undefined
  ): Effect.fn.Return<{ readonly result: unknown; readonly failed: boolean }, ToolFailed> {
    if (rawArguments !== undefined) return { result: invalidArguments(rawArguments), failed: true }
    const args = decode === undefined ? Either.right(given) : yield* Effect.either(decode(given))
    if (Either.isLeft(args)) return { result: unfittingArguments(args.left), failed: true }
    const running = Telemetry.tool(
      Effect.suspend(() => execute(args.right)),
      { id, name },
      trace,
      span
    )
    const ran = yield* Effect.either(running)
    if (Either.isRight(ran)) return { result: ran.right, failed: false }
    const reason = reasonOf(ran.left)
    if (onError === "return") return { result: `Error: ${reason}`, failed: true }
    const failure = new ToolFailed({ tool: name, reason, cause: ran.left })
    if (onError === "fail") ownFailures.set(failure, { cause: ran.left })
    return yield* failure
  })

  const finish = Effect.fnUntraced(function* (
    result: Result,
    span: Span | undefined
  ): Effect.fn.Return<Completion, ToolFailed | SessionNotFound> {
    const calls = result.toolCalls
    const reply = assistantMessage(result)
    newMessages.push(reply)
    if (executors !== undefined && calls.length > 0 && calls.every((call) => executors.has(call.name))) {
      if (rounds < execution.maxToolRounds) {
        rounds++
        const answers: Array<Message.Message> = [reply]
        const events: Array<ChatEvent> = []
        for (const call of calls) {
          const { id, name } = call
          const executor = executors.get(name)
          if (executor === undefined) continue
          const outcome = yield* runTool(executor, call, span)
          const { result } = outcome
          const content = yield* toolText(name, result)
          answers.push({ role: "tool", toolCallId: id, toolName: name, content })
          const failed = outcome.failed ? { failed: true as const } : {}
          events.push({ type: "tool_result", id, name, result, ...failed, timestamp: now() })
        }
        newMessages.push(...answers.slice(1))
        request = { ...request, messages: [...request.messages, ...answers] }
        return { request, events }
      }
    }
    return commit !== undefined && (result.text !== "" || calls.length > 0)
      ? yield* store(commit, newMessages, usageOf(result))
      : undefined
  })

  return {
    newMessages,
    complete: (result, span) =>
      new Promise((resolve, reject) => {
        const running = runFork(finish(result, span))
        fiber = running
        running.addObserver((exit) => {
          fiber = undefined
          if (Exit.isSuccess(exit)) resolve(exit.value)
          else reject(Cause.squash(exit.cause))
        })
      }),
    stop: () => {
      if (fiber !== undefined) runFork(Fiber.interruptFork(fiber))
    }
  }
}

/**
 * The tool loop of one call: runs each called tool and sends its result back to the model.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { Span } from "effect/Tracer"
import type { ChatEvent } from "../ChatEvent.js"
import type { ChatRequest } from "../ChatRequest.js"
import { type ChatError, type SessionNotFound, ToolFailed, TurnNotStored } from "../Errors.js"
import type { Completion, Result } from "../Failover.js"
import type * as Message from "../Message.js"
import type { Turn } from "../Sessions.js"
import * as Telemetry from "../Telemetry.js"
import type { Execution } from "./execution.js"

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

/**
 * An answer as a turn of its conversation.
 *
 * @since 0.1.0
 * @category constructors
 */
export const assistantMessage = (result: Result): Message.AssistantMessage => ({
  role: "assistant",
  content: result.text,
  ...(result.toolCalls.length === 0 ? {} : { toolCalls: result.toolCalls })
})

/**
 * Adds what was said to its conversation. The model has done its work: where that cannot be kept, the answer is not lost
 * with it, and the warning is logged.
 *
 * @since 0.2.0
 * @category combinators
 */
export const store = (
  turn: Turn,
  said: ReadonlyArray<Message.Message>
): Effect.Effect<TurnNotStored | undefined, SessionNotFound> =>
  turn.commit(said).pipe(
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
          "its call was left unanswered: no tool of this name has an execute, or the model went on calling for " +
          "maxToolRounds. Use complete() or stream to see the calls"
      })
}

/**
 * @since 0.1.0
 * @category models
 */
export interface ToolLoop {
  /**
   * Runs the tools that an answer called, below the call's span, and returns how to continue; at the end it stores the
   * turn.
   */
  readonly complete: (result: Result, span: Span | undefined) => Promise<Completion>
  /** Cancels a running tool. */
  readonly stop: () => void
  /** The messages that the call adds to the conversation. */
  readonly said: ReadonlyArray<Message.Message>
}

/**
 * One per call: it counts the rounds. `commit` stores the turn at the end.
 *
 * @since 0.1.0
 * @category constructors
 */
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
  const said: Array<Message.Message> = execution.request.messages.filter(
    (message) => message.role !== "system" && message.role !== "developer"
  )
  let rounds = 0
  let fiber: Fiber.RuntimeFiber<Completion, ChatError> | undefined

  const finish = Effect.fnUntraced(function* (
    result: Result,
    span: Span | undefined
  ): Effect.fn.Return<Completion, ToolFailed | SessionNotFound> {
    const calls = result.toolCalls
    const reply = assistantMessage(result)
    said.push(reply)
    if (executors !== undefined && calls.length > 0 && calls.every((call) => executors.has(call.name))) {
      if (rounds < execution.maxToolRounds) {
        rounds++
        const answers: Array<Message.Message> = [reply]
        const events: Array<ChatEvent> = []
        for (const call of calls) {
          const { arguments: args, id, name } = call
          const execute = executors.get(name)
          if (execute === undefined) continue
          if (call.rawArguments !== undefined) {
            const content = invalidArguments(call.rawArguments)
            answers.push({ role: "tool", toolCallId: id, toolName: name, content })
            events.push({ type: "tool_result", id, name, result: content, failed: true, timestamp: now() })
            continue
          }
          const value = yield* Effect.mapError(
            Telemetry.tool(
              Effect.suspend(() => execute(args)),
              { id, name },
              trace,
              span
            ),
            (cause) => new ToolFailed({ tool: name, reason: reasonOf(cause), cause })
          )
          const content = yield* toolText(name, value)
          answers.push({ role: "tool", toolCallId: id, toolName: name, content })
          events.push({ type: "tool_result", id, name, result: value, timestamp: now() })
        }
        said.push(...answers.slice(1))
        request = { ...request, messages: [...request.messages, ...answers] }
        return { request, events }
      }
    }
    return commit !== undefined && (result.text !== "" || calls.length > 0) ? yield* store(commit, said) : undefined
  })

  return {
    said,
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

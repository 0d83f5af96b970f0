/**
 * The engine behind a `Chat`: what came in another form than a prompt with options goes to it as it is.
 *
 * A `Chat` that was replaced has none. Then what can be said as a prompt with options is asked of its methods.
 */
import * as Effect from "effect/Effect"
import { type ChatRequest, sampling as samplingNames } from "../ChatRequest.js"
import { single } from "../Decision.js"
import { type ChatError, InvalidRequest, type SchemaMismatch } from "../Errors.js"
import type { OpenAnswer, Result } from "../Failover.js"
import { isAnswerError } from "../internal/answerError.js"
import { firstOf, type ModelCandidate } from "../ModelSelection.js"
import type * as StructuredOutput from "../StructuredOutput.js"
import type { Options, Prompt } from "./check.js"
import type { Engine, Execution } from "./execution.js"

/** The part of a `Chat` that can replace its engine. */
interface Chat {
  readonly open: (prompt: Prompt, options?: Options) => Effect.Effect<OpenAnswer, ChatError>
  readonly complete: (prompt: Prompt, options?: Options) => Effect.Effect<Result, ChatError>
  readonly structured: <A>(
    prompt: Prompt,
    decoder: StructuredOutput.AsyncDecoder<A>,
    options?: Options
  ) => Effect.Effect<A, ChatError | SchemaMismatch>
}

const key: unique symbol = Symbol.for("aicortex/Chat/engine")

/** The same service with its engine. */
export const withEngine = <S extends object>(service: S, engine: Engine): S =>
  Object.defineProperty({ ...service }, key, { value: engine })

/** The engine of a service, or its replacement. */
export const engineOf = (chat: Chat): Engine => (chat as { readonly [key]?: Engine })[key] ?? replacement(chat)

/** Parameters of a request that no option of a call has. */
const withoutOption = ["logprobs", "logitBias", "template"] as const

/** Parameters that are an option of the same name. */
const sameNames = [
  ...samplingNames,
  "toolChoice",
  "keepAlive",
  "think",
  "options",
  "extra",
  "raw",
  "suffix"
] as const satisfies ReadonlyArray<keyof Options & keyof ChatRequest>

/** The request as the options of a call. */
const optionsOf = (execution: Execution, candidate: ModelCandidate): Options => {
  const { limits, maxToolRounds, routing, session, routeHints } = execution
  const request = execution.adapted?.(execution.request, candidate) ?? execution.request
  const { stop, tools } = request
  return {
    ...Object.fromEntries(sameNames.map((name) => [name, request[name]])),
    model: candidate.auto ? candidate.model : candidate.name,
    stop: stop.length === 0 ? undefined : stop,
    tools: tools.length === 0 ? undefined : tools,
    session,
    deadline: limits.deadline,
    owner: routeHints.owner === "" ? undefined : routeHints.owner,
    priority: routeHints.priority,
    private: routeHints.private,
    maxToolRounds,
    routing
  }
}

const replacement = (chat: Chat): Engine => {
  const over = <A, E>(
    execution: Execution,
    use: (prompt: { readonly messages: ChatRequest["messages"] }, options: Options) => Effect.Effect<A, E>
  ): Effect.Effect<A, E | ChatError> => {
    const { request } = execution
    const field = withoutOption.find((name) => request[name] !== undefined)
    if (field !== undefined) {
      return Effect.fail(new InvalidRequest({ field, reason: "cannot be asked of a Chat that was replaced" }))
    }
    return Effect.flatMap(execution.models, (candidates) =>
      firstOf(candidates, (candidate) =>
        Effect.suspend(() => {
          execution.onModel?.(candidate)
          return use({ messages: request.messages }, optionsOf(execution, candidate))
        })
      )
    )
  }
  return {
    open: (execution) => over(execution, chat.open),
    complete: <A>(execution: Execution, use: (result: Result) => A | ChatError) =>
      Effect.flatMap(over(execution, chat.complete), (result) => {
        const value = use(result)
        return isAnswerError(value) ? Effect.fail(value) : Effect.succeed(value)
      }),
    structured: (execution, decoder) =>
      Effect.map(
        over(execution, (prompt, options) => chat.structured(prompt, decoder, options)),
        (value) => ({ result: resultOf(execution, value), value })
      )
  }
}

/** A value does not say who made it. */
const resultOf = ({ request }: Execution, value: unknown): Result => ({
  text: JSON.stringify(value),
  thinking: "",
  toolCalls: [],
  model: request.model,
  server: "",
  finishReason: "stop",
  usage: {},
  firstTokenTime: undefined,
  tokensPerSecond: undefined,
  attempts: [],
  cached: false,
  decision: single(request.model, { model: request.model, server: "" }, "")
})

/** Tools: what a caller gives, and what follows from it for the type of a call. */
import type * as Effect from "effect/Effect"
import type { ToolDefinition } from "../ChatRequest.js"
import type { OutputOf } from "../StructuredOutput.js"

/**
 * What a failure of a tool's `execute` does: `wrap` fails the call with `ToolFailed`, whose `cause` is the failure;
 * `fail` fails the call with the failure itself; `return` tells the model, which may call the tool again.
 *
 * @since 0.2.0
 * @category models
 */
export type OnToolError = "wrap" | "fail" | "return"

/**
 * What a tool is called with: the output of its `parameters`. What a JSON Schema describes is known if it is given
 * `as const`.
 *
 * @since 0.2.0
 * @category models
 */
// biome-ignore lint/suspicious/noExplicitAny: what the schema does not say is the author's to say.
export type ArgumentsOf<S> = unknown extends OutputOf<S> ? any : OutputOf<S>

/**
 * A tool that the model may call. With `execute` the tool runs here, its result goes back to the model (text as it is,
 * anything else as JSON) and the answer continues; without it the answer ends with `tool_call` events for the caller.
 *
 * `S` is the schema of its parameters, `E` what it can fail with, and `R` the services that it needs: `tool` infers
 * them.
 *
 * @since 0.1.0
 * @category models
 */
// biome-ignore lint/suspicious/noExplicitAny: a tool of any parameters.
export interface Tool<S = any, E = unknown, R = never> extends Omit<ToolDefinition, "parameters"> {
  /**
   * The schema of its arguments: an Effect schema, a Standard Schema (Zod, Valibot, ArkType, …) or a JSON Schema.
   * Default: it takes none.
   */
  readonly parameters?: S | undefined
  /**
   * Runs the tool, with arguments that fit `parameters`: what does not goes back to the model. What it gives goes back
   * to the model: text as it is, anything else as JSON. Default: the caller runs it.
   */
  readonly execute?: (args: ArgumentsOf<S>) => Effect.Effect<unknown, E, R>
  /** What a failure of `execute` does. Default `wrap`. */
  readonly onError?: OnToolError | undefined
}

// biome-ignore lint/suspicious/noExplicitAny: any tool.
export type AnyTool = Tool<any, any, any>

/** What running a tool gives; `never` for one that the caller runs. */
type Running<T> = T extends { readonly execute?: infer F }
  ? // biome-ignore lint/suspicious/noExplicitAny: arguments of any type.
    NonNullable<F> extends (args: any) => infer Result
    ? Result
    : never
  : never

// biome-ignore lint/suspicious/noExplicitAny: what is not inferred may be anything.
type FailureOf<Result> = Result extends Effect.Effect<any, infer E, any> ? E : never

// biome-ignore lint/suspicious/noExplicitAny: what is not inferred may be anything.
type NeedsOf<Result> = Result extends Effect.Effect<any, any, infer R> ? R : never

/**
 * The errors of calls with tools of this type in addition to `ChatError`: the failures of those that have `onError:
 * "fail"`.
 *
 * @since 0.2.0
 * @category models
 */
export type ErrorOf<T> = FailureOf<Running<T extends { readonly onError: "fail" } ? T : never>>

/**
 * The services that tools of this type need.
 *
 * @since 0.2.0
 * @category models
 */
export type ServicesOf<T> = NeedsOf<Running<T>>

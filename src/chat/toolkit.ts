/** The tools of a call: their definitions for the servers, and how they are run. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { ToolDefinition } from "../ChatRequest.js"
import { InvalidRequest } from "../Errors.js"
import * as StructuredOutput from "../StructuredOutput.js"
import { recognise } from "../structuredOutput/anySchema.js"
import type { Executor } from "./execution.js"
import type { Tool } from "./tool.js"

export interface Toolkit {
  /** As they are asked for; what is no tool is left as it is, to be refused with the other options. */
  readonly definitions: unknown
  readonly executors: ReadonlyMap<string, Executor> | undefined
}

type Prepared<A> = Either.Either<A, InvalidRequest> | Effect.Effect<A, InvalidRequest>

const badParameters = (at: number, reason: string) => new InvalidRequest({ field: `tools.${at}.parameters`, reason })

/** The arguments of a tool. Without `execute` they are not validated here, so any JSON Schema will do. */
const parametersOf = (
  { execute, parameters }: Tool<unknown>,
  at: number,
  maxBytes: number
): Prepared<Partial<StructuredOutput.ValueDecoder<unknown>>> => {
  if (parameters === undefined || parameters === null) return Either.right({})
  const known = recognise(parameters)
  if (known.kind === "none") return Either.left(badParameters(at, known.reason))
  if (known.kind === "json" && typeof execute !== "function") return Either.right({ jsonSchema: known.schema })
  return Effect.matchEffect(StructuredOutput.from(parameters, { maxBytes }), {
    onFailure: ({ reason }) => badParameters(at, reason),
    onSuccess: (decoder: StructuredOutput.ValueDecoder<unknown>) =>
      decoder.jsonSchema === undefined ? badParameters(at, "cannot be written as JSON Schema") : Effect.succeed(decoder)
  })
}

const odd = (at: number, field: string, reason: string) =>
  Either.left(new InvalidRequest({ field: `tools.${at}.${field}`, reason }))

/** The definition of one tool, and how it is run. */
const prepareOne = (
  tool: Tool<unknown>,
  at: number,
  maxBytes: number
): Prepared<readonly [definition: ToolDefinition, executor: Executor | undefined]> => {
  if (typeof tool !== "object" || tool === null) return Either.right([tool, undefined])
  const { execute, onError, parameters: _, ...definition } = tool
  const given = (execute ?? undefined) !== undefined
  if (given && typeof execute !== "function") return odd(at, "execute", "must be a function")
  if ((onError ?? undefined) !== undefined && onError !== "wrap" && onError !== "fail" && onError !== "return") {
    return odd(at, "onError", 'must be "wrap", "fail" or "return"')
  }
  const parameters = parametersOf(tool, at, maxBytes)
  const complete = ({ decodeValue, jsonSchema }: Partial<StructuredOutput.ValueDecoder<unknown>>) =>
    [
      jsonSchema === undefined ? definition : { ...definition, parameters: jsonSchema },
      execute === undefined || !given ? undefined : { decode: decodeValue, execute, onError: onError ?? "wrap" }
    ] as const
  return Either.isEither(parameters) ? Either.map(parameters, complete) : Effect.map(parameters, complete)
}

const collect = (
  prepared: ReadonlyArray<readonly [definition: ToolDefinition, executor: Executor | undefined]>
): Toolkit => {
  let executors: Map<string, Executor> | undefined
  for (const [definition, executor] of prepared) {
    if (executor === undefined) continue
    executors ??= new Map()
    executors.set(definition.name, executor)
  }
  return { definitions: prepared.map(([definition]) => definition), executors }
}

/** Without time where nothing has to be converted or compiled: then it is an `Either`. */
export const prepare = (tools: unknown, maxBytes: number): Prepared<Toolkit> => {
  if (!Array.isArray(tools)) return Either.right({ definitions: tools, executors: undefined })
  const all = tools.map((tool, at) => prepareOne(tool, at, maxBytes))
  const ready = Either.all(all.filter((one) => Either.isEither(one)))
  if (Either.isLeft(ready)) return Either.left(ready.left)
  return ready.right.length === all.length ? Either.right(collect(ready.right)) : Effect.map(Effect.all(all), collect)
}

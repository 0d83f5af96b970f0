/** A chat on its way to one of its models. */
import type { ChatRequest } from "../ChatRequest.js"
import type { SchemaIssue } from "../Errors.js"
import * as Message from "../Message.js"
import type { ModelCandidate } from "../ModelSelection.js"
import type * as ResponseCache from "../ResponseCache.js"
import type { Turn } from "../Sessions.js"
import * as StructuredOutput from "../StructuredOutput.js"
import type * as Telemetry from "../Telemetry.js"
import type { Execution, Origin } from "./execution.js"
import { readResult } from "./readResult.js"

/** An execution by one of its models, with its conversation and its place in its session. */
export interface Prepared {
  readonly execution: Execution
  readonly request: ChatRequest
  readonly candidates: ReadonlyArray<ModelCandidate>
  readonly candidate: ModelCandidate
  readonly turn: Turn | undefined
  readonly trimmed: number
  readonly began: number
  readonly origin: Origin
  /** Further cache options. */
  readonly cacheOptions?: Pick<ResponseCache.CacheRequest, "accepts" | "keepAs" | "renew"> | undefined
}

export const firstModel = ([first]: ReadonlyArray<ModelCandidate>): ModelCandidate => {
  if (first === undefined) throw new RangeError("a call needs a model")
  return first
}

/** What one of the models is asked. */
export const requestFor = ({ adapted }: Execution, request: ChatRequest, candidate: ModelCandidate): ChatRequest => {
  const named = request.model === candidate.model ? request : { ...request, model: candidate.model }
  return adapted === undefined ? named : adapted(named, candidate)
}

/** The same call with another of its models. */
export const asking = (prepared: Prepared, candidate: ModelCandidate): Prepared =>
  candidate === prepared.candidate
    ? prepared
    : { ...prepared, candidate, request: requestFor(prepared.execution, prepared.request, candidate) }

/** The same call from the model on that has answered it. */
export const answeredBy = (prepared: Prepared, candidate: ModelCandidate): Prepared => ({
  ...asking(prepared, candidate),
  candidates: prepared.candidates.slice(Math.max(0, prepared.candidates.indexOf(candidate)))
})

/** How long the answer is cached, in milliseconds. One of only some of a model's servers never is. */
export const cacheTtlOf = ({ candidate, execution }: Prepared): number | undefined =>
  candidate.accepts === undefined ? execution.cacheTtl : undefined

/** The same call with the model's reply and its issues. */
export const repairing = (prepared: Prepared, reply: string, issues: ReadonlyArray<SchemaIssue>): Prepared => ({
  ...prepared,
  // The repaired reply is the answer to the original question.
  cacheOptions: { keepAs: prepared.request, renew: true },
  request: {
    ...prepared.request,
    choice: undefined,
    messages: [
      ...prepared.request.messages,
      Message.assistant(reply),
      Message.user(StructuredOutput.repairPrompt(issues))
    ]
  }
})

/** Log probabilities are only in the events. */
export const isLikely = ({ request }: Prepared): boolean => request.logprobs !== undefined

/** How its answer is read to the end, where not as every other one. */
export const readerFor = (prepared: Prepared) => (isLikely(prepared) ? readResult : undefined)

/** Where the spans of a call go that was given no trace of its own. */
export const originOf = (trace: Telemetry.Trace | undefined, passing: () => Origin["context"]): Origin => ({
  trace,
  context: trace === undefined ? passing() : undefined
})

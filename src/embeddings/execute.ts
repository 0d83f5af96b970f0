/** What every request for vectors goes through, whichever face it came by. */
import * as Effect from "effect/Effect"
import type { Limits, Routing } from "../ChatRequest.js"
import type { Embedded, EmbedRequest } from "../EmbedRequest.js"
import type { ChatError } from "../Errors.js"
import type * as Failover from "../Failover.js"
import { firstOf, type ModelCandidate, type Service as ModelSelection, type Policy } from "../ModelSelection.js"
import type { RouteHints } from "../Router.js"
import type { CallListener, Trace } from "../Telemetry.js"
import type { TraceContext } from "../Transport.js"

/**
 * A request that has been checked. `request.model` is the model as it was named: a name, an alias or `provider:model`.
 * `began` is in milliseconds since the epoch.
 */
export interface Execution {
  readonly request: EmbedRequest
  readonly limits: Limits
  readonly routing: Routing
  readonly owner: string | undefined
  readonly priority: RouteHints["priority"]
  /** Whether only local servers may be asked. */
  readonly private: boolean | undefined
  readonly policy?: Pick<Policy, "aliases"> | undefined
  readonly began: number
  readonly trace: Trace | undefined
  readonly context: TraceContext | undefined
  readonly listener?: CallListener | undefined
}

/** The vectors, and the model that made them. */
export interface EmbeddingAnswer extends Embedded {
  readonly candidate: ModelCandidate
}

/** Asks one model after the other. */
export const execute = (
  models: ModelSelection,
  failover: Failover.Service,
  { began, context, limits, listener, owner, policy, priority, private: localOnly, request, routing, trace }: Execution
): Effect.Effect<EmbeddingAnswer, ChatError> =>
  Effect.flatMap(models.forEmbedding(request.model, policy), (candidates) =>
    firstOf(candidates, (candidate) => {
      const { model, accepts: only } = candidate
      const call = {
        request: model === request.model ? request : { ...request, model },
        limits,
        began,
        trace,
        context,
        listener
      }
      return Effect.map(failover.embed(call, routing, { only, owner, priority, private: localOnly }), (embedded) => ({
        ...embedded,
        candidate
      }))
    })
  )

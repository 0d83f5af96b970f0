/** A model that may answer a request, and when another one may do so instead. */
import * as Effect from "effect/Effect"
import type { Decision } from "../Decision.js"
import { type InvalidRequest, isChatError } from "../Errors.js"
import type { Host, Protocol } from "../Server.js"

/**
 * What was chosen from: the same for all models that may answer a request.
 *
 * @since 0.2.0
 * @category models
 */
export type Selection = Pick<Decision, "asked" | "candidates" | "excluded" | "conditions">

/**
 * A model that may answer a request.
 *
 * @since 0.2.0
 * @category models
 */
export interface ModelCandidate {
  /** Its name, without the kind of its servers. */
  readonly model: string
  /** Which of its servers may be asked; `undefined`: all. */
  readonly accepts: ((host: Host) => boolean) | undefined
  /** Which of them can take the request; absent: all. */
  readonly suits?: ((host: Host) => boolean) | undefined
  /** Which of them are asked first; absent: none before another. */
  readonly prefers?: ((host: Host) => boolean) | undefined
  /** What its servers must speak; absent: anything. */
  readonly protocol?: Protocol
  /** What the caller knows it by. */
  readonly name: string
  /** It was chosen, and not named. */
  readonly auto: boolean
  /** Why it was chosen, in words; absent where it was named. */
  readonly reason?: string
  /** What it was chosen from; absent where a model was named. */
  readonly selection?: Selection
  /** The models that follow where this is the last one of a list; absent: none. */
  readonly others?: (() => ReadonlyArray<ModelCandidate>) | undefined
}

/** What may stand before the first colon of a name. */
const providers: ReadonlyMap<string, Protocol> = new Map([
  ["ollama", "ollama"],
  ["openai", "openai"],
  ["anthropic", "anthropic"],
  ["claude", "anthropic"],
  ["embedded", "embedded"]
])

/** A model by name, optionally with the protocol of its servers before the first colon. */
export const candidateOf = (name: string): ModelCandidate => {
  const colon = name.indexOf(":")
  const provider = colon === -1 ? "" : name.slice(0, colon).toLowerCase()
  const protocol = providers.get(provider)
  return protocol !== undefined && colon < name.length - 1
    ? { model: name.slice(colon + 1), accepts: (host) => host.protocol === protocol, protocol, name, auto: false }
    : { model: name, accepts: undefined, name, auto: false }
}

/** A model that was chosen without a choice. */
export const chosen = (model: string, reason: string): ModelCandidate => ({
  model,
  accepts: undefined,
  name: model,
  auto: true,
  reason
})

/** One of a chain: it is known by its own name. */
export const linked = (name: string): ModelCandidate => {
  const candidate = candidateOf(name)
  return candidate.accepts === undefined ? candidate : { ...candidate, name: candidate.model }
}

/** The name that leaves the choice to the library. */
export const automatic = "auto"

/** Whether a name leaves the choice to the library. */
export const isAuto = (name: string): boolean => name === automatic || name === "auto:latest" || selected.test(name)

/** How answers of the gateway name a model that was chosen: clients go on with a conversation under that name. */
const selected = /^auto \(selected: [^)]*\)(:latest)?$/

/** The models of a list, and those that its last one leads to. */
export const withOthers = (candidates: ReadonlyArray<ModelCandidate>): ReadonlyArray<ModelCandidate> => {
  const others = candidates.at(-1)?.others
  return others === undefined ? candidates : [...candidates, ...others()]
}

const others: ReadonlySet<string> = new Set([
  "AllServersFailed",
  "NoServers",
  "NoLocalServer",
  "RemoteTokensExhausted",
  "RemoteBudgetExhausted",
  "ModelPriceUnknown",
  "ModelNotFound",
  "NoSuitableModel",
  "Overloaded"
])

/**
 * Whether a request may suit another model: the server of this one cannot express it or, as it says, the model cannot do
 * it, or has too short a context.
 */
const isOfModel = ({ code, reason, server }: InvalidRequest): boolean =>
  server === undefined || code !== undefined || /\bdoes not support\b/i.test(reason)

/**
 * Whether another model may do better than the one that a call failed with: nothing is wrong with the request itself.
 *
 * @since 0.2.0
 * @category guards
 */
export const mayTryNext = (error: unknown): boolean =>
  isChatError(error) && (others.has(error._tag) || (error._tag === "InvalidRequest" && isOfModel(error)))

/**
 * What `use` makes of the first model that does not leave it to the next.
 *
 * @since 0.2.0
 * @category combinators
 */
export const firstOf = <A, E>(
  candidates: ReadonlyArray<ModelCandidate>,
  use: (candidate: ModelCandidate, at: number) => Effect.Effect<A, E>,
  from = 0
): Effect.Effect<A, E> => {
  const candidate = candidates[from]
  if (candidate === undefined) return Effect.dieMessage("there is no model to ask")
  const used = use(candidate, from)
  return from + 1 >= candidates.length
    ? used
    : Effect.catchIf(used, mayTryNext, () => firstOf(candidates, use, from + 1))
}

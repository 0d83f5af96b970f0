/**
 * Which models may answer a request, in the order in which they are asked: the one that was named, perhaps only on
 * servers of one kind (`ollama:`, `openai:`), the chain of an alias, or whatever suits the request (`auto`).
 *
 * @since 0.2.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { Backends } from "./Backend.js"
import type { ChatRequest, Routing } from "./ChatRequest.js"
import { Conditions, type Snapshot as ConditionsSnapshot } from "./Conditions.js"
import {
  InvalidRequest,
  type ModelNotFound,
  NoLocalServer,
  NoServers,
  NoSuitableModel,
  type RemoteBudgetExhausted,
  type RemoteTokensExhausted,
  type Unsupported
} from "./Errors.js"
import { Fleet } from "./Fleet.js"
import { limitError, limitReason } from "./fleet/remoteLimit.js"
import * as Direct from "./internal/direct.js"
import * as UnsupportedOptions from "./internal/unsupported.js"
import { canonical, type ModelInfo } from "./Model.js"
import { type Aliases, chainOf } from "./modelSelection/aliases.js"
import {
  automatic,
  candidateOf,
  chosen,
  firstOf,
  isAuto,
  linked,
  type ModelCandidate
} from "./modelSelection/candidate.js"
import { ChainSelection } from "./modelSelection/chain.js"
import { LocalMemory } from "./modelSelection/memory.js"
import { type PromptShape, requirementsOf } from "./modelSelection/needs.js"
import { PairIndex } from "./modelSelection/pairIndex.js"
import { type Prefer, placementOf } from "./modelSelection/policy.js"
import { Ranking } from "./modelSelection/rank.js"
import { type Offer, Registry, type Service as RegistryService } from "./Registry.js"
import { Router } from "./Router.js"
import { type Host, isLocal, type Protocol, type ServerInfo } from "./Server.js"
import { CurrentSettings } from "./Settings.js"

export type {
  /**
   * @since 0.2.0
   * @category models
   */
  Aliases
} from "./modelSelection/aliases.js"
export {
  /**
   * @since 0.2.0
   * @category combinators
   */
  firstOf,
  /**
   * @since 0.2.0
   * @category models
   */
  type ModelCandidate,
  /**
   * @since 0.2.0
   * @category guards
   */
  mayTryNext,
  /**
   * @since 0.2.0
   * @category models
   */
  type Selection
} from "./modelSelection/candidate.js"
export {
  /**
   * @since 0.2.0
   * @category tags
   */
  LocalMemory
} from "./modelSelection/memory.js"
export type {
  /**
   * @since 0.2.0
   * @category models
   */
  PromptShape
} from "./modelSelection/needs.js"
export type {
  /**
   * @since 0.2.0
   * @category models
   */
  Prefer
} from "./modelSelection/policy.js"

/**
 * What may differ from the fleet's settings: `aliases`, default `Settings.aliases`; and `preferred`, the model that
 * goes before its equals, default `Settings.model`; `private`, whether only local servers may be asked; and `prefer`,
 * which go first, default `Settings.auto`.
 *
 * @since 0.2.0
 * @category models
 */
export interface Policy {
  /** Names for models or chains of models; default `Settings.aliases`. */
  readonly aliases?: Aliases | undefined
  /** The model that goes before its equals; default `Settings.model`. */
  readonly preferred?: string | undefined
  /** Whether only local servers may be asked; default `false`. */
  readonly private?: boolean | undefined
  /** Which servers go first where the conditions are good; default `Settings.auto`. */
  readonly prefer?: Prefer | undefined
}

/**
 * What a model name means: aliases, chains, `provider:model` and `auto`.
 *
 * @since 0.2.0
 * @category models
 */
export interface Service {
  /**
   * The models for a request, at least one. A model that was named need not exist: that is found out when it is asked.
   * Fails with `NoSuitableModel` where `auto` finds none (`NoLocalServer` where only remote servers have one, and the
   * call is private; `RemoteTokensExhausted` where remote servers may not be asked any more today), and with
   * `NoServers` where no server of the kind that was named has the model.
   */
  readonly select: (
    name: string,
    asked?: PromptShape,
    policy?: Policy
  ) => Effect.Effect<ReadonlyArray<ModelCandidate>, SelectionError>
  /** The same for vectors, which are never left to `auto`: those of two models do not fit each other. */
  readonly forEmbedding: (
    name: string,
    policy?: Pick<Policy, "aliases">
  ) => Effect.Effect<ReadonlyArray<ModelCandidate>, InvalidRequest>
}

/**
 * Why no model can be chosen.
 *
 * @since 0.2.0
 * @category errors
 */
export type SelectionError =
  | InvalidRequest
  | ModelNotFound
  | NoServers
  | NoSuitableModel
  | NoLocalServer
  | RemoteTokensExhausted
  | RemoteBudgetExhausted

/**
 * The tag of the service.
 *
 * @since 0.2.0
 * @category tags
 */
export class ModelSelection extends Context.Tag("aicortex/ModelSelection")<ModelSelection, Service>() {}

/** A request that any model can answer. */
const plain: PromptShape = { request: { messages: [], tools: [], maxTokens: undefined, suffix: undefined } }

/** The inputs of a choice in addition to the request and the state of the fleet. */
interface AutoPolicy {
  readonly preferred: string
  readonly localOnly: boolean
  readonly prefer: Prefer
}

/** How many tokens an answer may have where the request does not say. */
const usualAnswer = 256

const anything: ReadonlyArray<Unsupported> = []

const nothing: ConditionsSnapshot = { resources: undefined, lines: [] }

/**
 * The service, over those that it needs.
 *
 * @since 0.2.0
 * @category constructors
 */
export const make = Effect.gen(function* () {
  const registry = yield* Registry
  const fleet = yield* Fleet
  const settings = yield* CurrentSettings
  const clock = yield* Effect.clock
  const memory = yield* LocalMemory
  const conditions = yield* Effect.serviceOption(Conditions)
  const backends = Option.getOrUndefined(yield* Effect.serviceOption(Backends))
  const { prefer: usual = "fastest" } = settings.auto
  const sides = {
    hasLocal: settings.servers.some(isLocal),
    hasRemote: settings.servers.some((server) => !isLocal(server)),
    remotes: settings.servers.filter((server) => !isLocal(server)).length
  }
  /** With only local or only remote servers there are no conditions to watch. */
  const conditionsNow = (): ConditionsSnapshot =>
    sides.hasRemote ? (Option.getOrUndefined(conditions)?.current() ?? nothing) : nothing

  let index: PairIndex | undefined
  const indexOf = (offers: ReadonlyArray<Offer>): PairIndex => {
    if (index?.offers !== offers) index = new PairIndex(offers)
    return index
  }

  /** What suits a request, of all that the servers have. */
  const rank = (
    asked: string,
    { request, prompts }: PromptShape,
    { localOnly, prefer, preferred }: AutoPolicy,
    offers: ReadonlyArray<Offer>
  ): Ranking => {
    const pairs = indexOf(offers)
    const wanted = requirementsOf({ request, prompts }, true)
    const snapshot = conditionsNow()
    const reached = fleet.remoteLimit()
    return new Ranking(asked, pairs, wanted, wanted.prompt + (request.maxTokens ?? usualAnswer), {
      columns: fleet.pairs(pairs.hosts),
      now: clock.unsafeCurrentTimeMillis(),
      memory: memory(),
      preferred: canonical(preferred),
      placement: localOnly || !sides.hasRemote ? undefined : placementOf(prefer, snapshot, sides, reached),
      forbidden: (server) =>
        isLocal(server)
          ? undefined
          : localOnly
            ? "the call is private, and the server is remote"
            : reached === undefined
              ? undefined
              : limitReason(reached),
      // The fields that a partial request lacks do not matter to a backend.
      unsupported: (protocol) => backends?.get(protocol).unsupported(request as ChatRequest) ?? anything,
      conditions: snapshot
    })
  }

  const auto = (
    name: string,
    asked: PromptShape,
    policy: AutoPolicy
  ): Effect.Effect<ReadonlyArray<ModelCandidate>, SelectionError> => {
    const offers = Direct.valueOf(registry.offers)
    if (offers !== undefined) {
      const ranking = rank(name, asked, policy, offers)
      if (ranking.count > 0) return Effect.succeed(ranking.models())
    }
    return autoLater(name, asked, policy)
  }

  const autoLater = Effect.fnUntraced(function* (name: string, asked: PromptShape, policy: AutoPolicy) {
    const ranked = Effect.map(registry.offers, (offers) => rank(name, asked, policy, offers))
    const found = yield* ranked
    if (found.count > 0 && !found.isLastResort) return found.models()
    // The servers that were not waited for may have one.
    const statuses = yield* registry.servers
    const late = yield* ranked
    if (late.count > 0) return late.models()
    const wanted = requirementsOf(asked)
    // Without any server the model in this process answers. It does not replace servers that are down.
    const able = registry.embedded.info().capabilities ?? []
    const beyondEmbedded = (wanted.tools && !able.includes("tools")) || wanted.vision || wanted.insert
    if (statuses.length === 0 && !beyondEmbedded)
      return [chosen(registry.embedded.info().model_name, "no server is known")]
    if (policy.localOnly && statuses.length > 0) {
      return yield* new NoLocalServer({ model: automatic, servers: statuses.map(({ url }) => url) })
    }
    const { excluded, forbids, unsupported } = late
    const reached = fleet.remoteLimit()
    if (forbids && reached !== undefined) return yield* limitError(reached, automatic)
    if (unsupported !== undefined && UnsupportedOptions.isSome(unsupported)) {
      return yield* new InvalidRequest(UnsupportedOptions.invalid(unsupported))
    }
    const unreachable = statuses
      .filter(({ reachable }) => !reachable)
      .map(({ problem = "has not answered yet", url }) => ({ url, reason: problem }))
    return yield* new NoSuitableModel({
      lacks: [
        ...(wanted.tools ? (["tools"] as const) : []),
        ...(wanted.vision ? (["vision"] as const) : []),
        ...(wanted.insert ? (["insert"] as const) : [])
      ],
      servers: statuses.map(({ url }) => url),
      ...(unreachable.length === 0 ? {} : { unreachable }),
      ...(excluded.length === 0 ? {} : { excluded })
    })
  })

  const withProvider = (candidate: ModelCandidate) => {
    const { accepts, model, name } = candidate
    const located = registry.locate(model)
    const isThere = (hosts: ReadonlyArray<Host>): boolean => hosts.some((host) => accepts?.(host) !== false)
    return Effect.flatMap(located, (hosts) =>
      isThere(hosts)
        ? Effect.succeed([candidate])
        : // The servers of that kind may not have been waited for.
          Effect.flatMap(Effect.zipRight(registry.servers, located), (all) =>
            isThere(all)
              ? Effect.succeed([candidate])
              : new NoServers({ model: name, servers: all.map(({ server }) => server.url), available: [] })
          )
    )
  }

  const select: Service["select"] = (
    name,
    asked = plain,
    { aliases = settings.aliases, prefer = usual, preferred = settings.model, private: localOnly = false } = {}
  ) => {
    const chain = chainOf(aliases, name)
    if (chain === undefined) {
      if (isAuto(name)) return auto(automatic, asked, { localOnly, prefer, preferred })
      const candidate = candidateOf(name)
      return candidate.accepts === undefined ? Effect.succeed([candidate]) : withProvider(candidate)
    }
    const at = chain.indexOf(automatic)
    const links = chain.filter((one) => one !== automatic).map(linked)
    const hostsOf = (model: string) => Direct.valueOf(registry.locate(model)) ?? []
    if (at === -1) return Effect.succeed(new ChainSelection(name, links, undefined, hostsOf).models)
    const suitable = auto(name, asked, { localOnly, prefer, preferred })
    if (chain.length === 1) return suitable
    return Effect.map(
      // Where nothing suits, the others still may.
      Effect.orElseSucceed(suitable, (): ReadonlyArray<ModelCandidate> => []),
      (any) => new ChainSelection(name, links, { models: any, at }, hostsOf).models
    )
  }

  const forEmbedding: Service["forEmbedding"] = (name, { aliases = settings.aliases } = {}) => {
    const chain = (chainOf(aliases, name) ?? [name]).filter((one) => !isAuto(one))
    return chain.length === 0
      ? new InvalidRequest({ field: "model", reason: "must name a model that makes embeddings" })
      : Effect.succeed(chain.map(candidateOf))
  }

  return ModelSelection.of({ select, forEmbedding })
})

// =============================================================================
// servers and models of a name
// =============================================================================

const noServer = (): Effect.Effect<ReadonlyArray<ServerInfo>> => Effect.succeed([])

const speaking = (protocol: Protocol | undefined, model: string, infos: ReadonlyArray<ServerInfo>) => {
  const suitable = protocol === undefined ? infos : infos.filter((info) => info.protocol === protocol)
  return suitable.length > 0
    ? Effect.succeed(suitable)
    : new NoServers({ model, servers: infos.map(({ url }) => url), available: [] })
}

/**
 * The server that a call with this model would try first, remembered per model and strategy for
 * `Settings.bestServerTtl`. As in a call the name may be an alias, a chain, `provider:model` or `auto`: it is the
 * server of the first model that has one.
 *
 * @since 0.2.0
 * @category accessors
 */
export const bestServer = (
  name: string,
  strategy: Routing = "fastest"
): Effect.Effect<ServerInfo, SelectionError, ModelSelection | Router> =>
  Effect.gen(function* () {
    const { select } = yield* ModelSelection
    const router = yield* Router
    return yield* firstOf(yield* select(name), ({ model, protocol }) => router.best(model, strategy, protocol))
  })

/**
 * The first server that has a model, or the one at `url`. The name is what it is for `bestServer`.
 *
 * @since 0.2.0
 * @category accessors
 */
export const serverInfo = (
  name: string,
  url?: string
): Effect.Effect<ServerInfo, SelectionError, ModelSelection | Registry> =>
  Effect.gen(function* () {
    const { select } = yield* ModelSelection
    const registry = yield* Registry
    return yield* firstOf(yield* select(name), ({ model, name, protocol }) =>
      Effect.gen(function* () {
        if (protocol === undefined || url !== undefined) {
          const [info] = yield* speaking(protocol, name, [yield* registry.serverInfo(model, url)])
          if (info !== undefined) return info
        }
        const [first] = yield* speaking(protocol, name, yield* registry.listModelServers(model))
        return first ?? (yield* registry.missing(model))
      })
    )
  })

/** The first of these models that has servers, with those of them that a call may ask. */
const firstHosted = (registry: RegistryService, candidates: ReadonlyArray<ModelCandidate>) =>
  firstOf(candidates, ({ model, name, protocol }) =>
    Effect.flatMap(registry.listModelServers(model), (infos) =>
      Effect.map(speaking(protocol, name, infos), (servers) => ({ model, servers }))
    )
  )

/**
 * The servers of a model, in the order in which they are configured; empty if there is none. The name is what it is for
 * `bestServer`.
 *
 * @since 0.2.0
 * @category accessors
 */
export const listModelServers = (
  name: string
): Effect.Effect<ReadonlyArray<ServerInfo>, never, ModelSelection | Registry> =>
  Effect.gen(function* () {
    const { select } = yield* ModelSelection
    const registry = yield* Registry
    return (yield* firstHosted(registry, yield* select(name))).servers
    // Each of them says that there is no such server.
  }).pipe(
    Effect.catchTags({
      InvalidRequest: noServer,
      ModelNotFound: noServer,
      NoServers: noServer,
      NoSuitableModel: noServer,
      NoLocalServer: noServer,
      RemoteTokensExhausted: noServer,
      RemoteBudgetExhausted: noServer
    })
  )

/**
 * The facts about a model. The name is what it is for `bestServer`; of a chain none of whose models has a server it is
 * the first model that is known.
 *
 * @since 0.2.0
 * @category accessors
 */
export const modelInfo = (name: string): Effect.Effect<ModelInfo, SelectionError, ModelSelection | Registry> =>
  Effect.gen(function* () {
    const { select } = yield* ModelSelection
    const registry = yield* Registry
    const candidates = yield* select(name)
    if (candidates.length > 1) {
      const hosted = yield* Effect.option(firstHosted(registry, candidates))
      if (Option.isSome(hosted)) return yield* registry.modelInfo(hosted.value.model)
    }
    return yield* firstOf(candidates, ({ model }) => registry.modelInfo(model))
  })

/**
 * The service as a layer.
 *
 * @since 0.2.0
 * @category layers
 */
export const layer: Layer.Layer<ModelSelection, never, Registry | Fleet | CurrentSettings> = Layer.effect(
  ModelSelection,
  make
)

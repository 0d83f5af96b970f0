/** What the servers that answer have, and which of them do not answer. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Unreachable } from "../Errors.js"
import * as Direct from "../internal/direct.js"
import type { ModelInfo } from "../Model.js"
import type { Host } from "../Server.js"
import type { Catalogue } from "./catalogue.js"
import type { ModelLists } from "./modelLists.js"
import type { KnownServer } from "./serverEntry.js"

/**
 * A model that servers have.
 *
 * @since 0.2.0
 * @category models
 */
export interface Offer {
  /** Its name, as a server spells it. */
  readonly model: string
  /** What is known about it; its size and its context are those that the servers say, where they do. */
  readonly info: ModelInfo
  /** The servers that have it. */
  readonly hosts: ReadonlyArray<Host>
  /** The context in tokens that each of them allows, in the order of `hosts`; `undefined`: it does not say. */
  readonly contexts: ReadonlyArray<number | undefined>
}

/** An implicit server that does not answer is as if it were not there. */
export const isThere = (known: KnownServer): boolean =>
  !known.server.implicit || (known.read && known.problem === undefined)

/** Whether it answered when it was last asked. */
export const answers = (known: KnownServer): boolean => known.read && known.problem === undefined

/** The servers that could not be asked which models they have. */
export const silent = (all: ReadonlyArray<KnownServer>): ReadonlyArray<Unreachable> =>
  all
    .filter((known) => !answers(known) && !known.server.implicit)
    .map(({ problem = "has not answered yet", server }) => ({ url: server.url, reason: problem }))

/** The same, as errors show them. */
export const unreachable = (all: ReadonlyArray<KnownServer>): { readonly unreachable?: ReadonlyArray<Unreachable> } => {
  const servers = silent(all)
  return servers.length === 0 ? {} : { unreachable: servers }
}

/**
 * What the servers allow of a model's context, in tokens: the least, because any of them may be the one that answers.
 */
export const contextOn = (all: ReadonlyArray<KnownServer>, key: string): number | undefined => {
  let least: number | undefined
  for (const known of all.filter(answers)) {
    const length = known.models.get(key)?.context_length
    if (length !== undefined && (least === undefined || length < least)) least = length
  }
  return least
}

/** The server as one that has the model. */
export const hostOf = (known: KnownServer, info: ModelInfo): Host => ({
  server: known.server,
  protocol: known.protocol ?? "ollama",
  model: info.model_name,
  certain: true,
  performance: undefined
})

/** The models of these servers, with what the catalogue knows of them. */
const offersOf = (all: ReadonlyArray<KnownServer>, catalogue: Catalogue): ReadonlyArray<Offer> => {
  const found = new Map<
    string,
    {
      readonly model: string
      info: ModelInfo
      readonly hosts: Array<Host>
      readonly contexts: Array<number | undefined>
    }
  >()
  for (const known of all.filter(answers)) {
    for (const [key, info] of known.models) {
      const offer = found.get(key)
      if (offer === undefined) {
        const { context_length: context, size } = info
        const facts = {
          ...(catalogue.models.get(key) ?? info),
          ...(context === undefined ? {} : { context_length: context }),
          ...(size === undefined ? {} : { size })
        }
        found.set(key, { model: info.model_name, info: facts, hosts: [hostOf(known, info)], contexts: [context] })
        continue
      }
      offer.hosts.push(hostOf(known, info))
      offer.contexts.push(info.context_length)
      const { capabilities, context_length: context = Number.POSITIVE_INFINITY } = info
      // Any of them may be the one that answers.
      if (context < (offer.info.context_length ?? Number.POSITIVE_INFINITY)) {
        offer.info = { ...offer.info, context_length: context }
      }
      if (offer.info.capabilities === undefined && capabilities !== undefined) {
        offer.info = { ...offer.info, capabilities }
      }
    }
  }
  return [...found.values()]
}

/**
 * What servers offer. As long as nothing changes it is the same array, and needs no fiber: what is derived from it is
 * kept by its identity.
 */
export const offersOver = (
  lists: Pick<ModelLists, "known" | "version" | "isSettled">,
  catalogue: Effect.Effect<Catalogue>
): Effect.Effect<ReadonlyArray<Offer>> => {
  let version: number | undefined
  let offers: ReadonlyArray<Offer> = []
  const refreshed = (catalogue: Catalogue, all: ReadonlyArray<KnownServer>): ReadonlyArray<Offer> => {
    if (version === lists.version()) return offers
    version = lists.version()
    offers = offersOf(all.filter(isThere), catalogue)
    return offers
  }
  return Direct.make<ReadonlyArray<Offer>, never>(
    () => (version === lists.version() && lists.isSettled() ? Exit.succeed(offers) : undefined),
    () => Effect.zipWith(catalogue, lists.known("first"), refreshed)
  )
}

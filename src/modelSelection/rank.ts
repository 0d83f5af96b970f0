/**
 * Which models on which servers suit a request, the best one first: one pass over all pairs.
 *
 * The order of those that suit: how certain it is that the model can do it, the policy, the priority of the server,
 * whether the model is loaded, how long the request would wait, whether it is the preferred model, its size, its
 * generation. Of a model the best pair counts. Everything that is only told (why, in which order, what was left out) is
 * computed when they are read.
 */
import type { Candidate, Conditions, Excluded } from "../Decision.js"
import type { Unsupported } from "../Errors.js"
import type { PairColumns } from "../fleet/pairColumns.js"
import type { Host, Protocol } from "../Server.js"
import type { ModelCandidate, Selection } from "./candidate.js"
import { gigabytes } from "./memory.js"
import type { Requirements } from "./needs.js"
import type { PairIndex } from "./pairIndex.js"
import { cause, keysOf, longestWait } from "./pairKeys.js"
import type { Placement } from "./policy.js"
import { certainty, missingCapability, mostCertain } from "./suitable.js"

/** What a choice depends on in addition to the request. */
export interface RankInput {
  readonly columns: PairColumns
  /** In milliseconds since the epoch. */
  readonly now: number
  /** Memory of this machine that a server could still use, in bytes; `undefined`: not known. */
  readonly memory: number | undefined
  /** The model that goes before its equals, in canonical form. */
  readonly preferred: string
  /** Which servers go first, if any. */
  readonly placement: Placement | undefined
  /** Why a server must not be asked; `undefined`: it may be. */
  readonly forbidden: (server: Host["server"]) => string | undefined
  /** What of the request a protocol cannot express. */
  readonly unsupported: (protocol: Protocol) => ReadonlyArray<Unsupported>
  readonly conditions: Conditions
}

/** From how many models on only the first ones are put in order at once. */
const many = 256
const few = 32

export class Ranking implements Selection {
  /** Why each pair does not suit. */
  private readonly causes: Uint8Array
  /** What each pair is ordered by: lower is better; Infinity where it is left out. */
  private readonly keys: Float64Array
  private readonly bestKey: Float64Array
  private readonly notable: ReadonlyArray<ReadonlyArray<Unsupported>>
  private readonly why: ReadonlyArray<string | undefined>
  /** How many models suit. */
  readonly count: number
  /** Nothing suits for certain: candidates that might still answer are tried. */
  readonly isLastResort: boolean
  private ordered: ReadonlyArray<number> | undefined
  private listed: ReadonlyArray<Candidate> | undefined
  private left: ReadonlyArray<Excluded> | undefined

  /** `needed` is how many tokens the prompt and the answer may have together. */
  constructor(
    readonly asked: string,
    private readonly index: PairIndex,
    private readonly wanted: Requirements,
    private readonly needed: number,
    private readonly input: RankInput
  ) {
    const { columns, forbidden, memory = Number.POSITIVE_INFINITY, now, placement, preferred, unsupported } = input
    this.notable = index.protocols.map(unsupported)
    this.why = index.servers.map((entry) => forbidden(entry.server))
    const { bestKey, causes, count, keys } = keysOf(index, columns, {
      now,
      tokens: needed,
      memory,
      preferred: index.byKey.get(preferred) ?? -1,
      certainty: index.kinds.map((abilities) => certainty(abilities, wanted)),
      mostCertain,
      cannot: this.notable.map((options) => options.length > 0),
      forbidden: this.why,
      prefers: index.servers.map(({ server }) => placement === undefined || placement.prefers(server))
    })
    this.causes = causes
    this.keys = keys
    this.bestKey = bestKey
    this.isLastResort = count === 0 && causes.some((why) => why >= cause.rests)
    this.count = this.isLastResort ? this.resort() : count
  }

  /** Orders what is left by how likely it still is to answer. */
  private resort(): number {
    const { bestKey, causes, index, keys } = this
    const found = new Set<number>()
    causes.forEach((why, at) => {
      if (why < cause.rests) return
      const model = index.model[at] ?? 0
      const { context, memory, priority, rank, server } = index
      const small = why === cause.memory || why === cause.refused
      // Of those that may be too large the smallest is the most likely to run; of those that are too short the longest.
      const own = small ? (memory[at] ?? 0) : why === cause.context ? 1e12 - Math.min(1e12, context[at] ?? 0) : 0
      const key =
        (small ? cause.memory : why) * 1e15 + own + ((priority[server[at] ?? 0] ?? 0) * 1e3 + (rank[model] ?? 0)) / 1e9
      keys[at] = key
      bestKey[model] = Math.min(bestKey[model] ?? 0, key)
      found.add(model)
    })
    return found.size
  }

  /** Whether a server that must not be asked could answer. */
  get forbids(): boolean {
    return this.causes.includes(cause.forbidden)
  }

  /**
   * Whether what is left out could answer but for what the request asks of its server; the options, of the first one.
   */
  get unsupported(): ReadonlyArray<Unsupported> | undefined {
    const at = this.causes.indexOf(cause.unsupported)
    if (at === -1 || this.causes.some((why) => why > cause.unsupported)) return undefined
    return this.notable[this.index.protocol[at] ?? 0]
  }

  // ---------------------------------------------------------------------------
  // The models that may answer
  // ---------------------------------------------------------------------------

  /** All models that suit, the best one first. */
  private get order(): ReadonlyArray<number> {
    this.ordered ??= this.suitable().sort(this.compare)
    return this.ordered
  }

  private readonly compare = (a: number, b: number): number => (this.bestKey[a] ?? 0) - (this.bestKey[b] ?? 0)

  private suitable(): Array<number> {
    const found: Array<number> = []
    this.bestKey.forEach((key, model) => {
      if (key !== Number.POSITIVE_INFINITY) found.push(model)
    })
    return found
  }

  /** The best ones without putting all of them in order. */
  private first(length: number): ReadonlyArray<number> {
    const { bestKey, isLastResort } = this
    const { byRank } = this.index
    const best: Array<number> = []
    let worst = Number.POSITIVE_INFINITY
    for (let at = 0; at < byRank.length; at++) {
      // Of equals the more capable one comes first, so that most are not among the best. A last resort knows no
      // capability.
      const model = isLastResort ? at : (byRank[at] ?? 0)
      const key = bestKey[model] ?? 0
      if (key >= worst) continue
      let to = Math.min(best.length, length - 1)
      for (; to > 0 && (bestKey[best[to - 1] ?? 0] ?? 0) > key; to--) best[to] = best[to - 1] ?? 0
      best[to] = model
      if (best.length === length) worst = bestKey[best[length - 1] ?? 0] ?? 0
    }
    return best
  }

  /** The models in the order in which they are asked. Where there are very many, the last one leads to the others. */
  models(): Array<ModelCandidate> {
    if (this.count <= many) return this.order.map((model) => new RankedModel(this, model))
    const first = this.first(few)
    return first.map((model, at) => new RankedModel(this, model, at === few - 1 ? () => this.others() : undefined))
  }

  private others(): ReadonlyArray<ModelCandidate> {
    return this.order.slice(few).map((model) => new RankedModel(this, model))
  }

  // ---------------------------------------------------------------------------
  // What is reported about one of them
  // ---------------------------------------------------------------------------

  nameOf(model: number): string {
    return this.index.offers[model]?.model ?? ""
  }

  /** The pairs of a model. */
  private pairsOf(model: number): ReadonlyArray<number> {
    const from = this.index.start[model] ?? 0
    return Array.from({ length: (this.index.start[model + 1] ?? 0) - from }, (_, i) => from + i)
  }

  private urlOf(pair: number): string {
    return this.index.hosts[pair]?.server.url ?? ""
  }

  /** The servers of a model that cannot take the request, as far as their state does not decide. */
  unfitServers(model: number): ReadonlySet<string> {
    const unfit = this.pairsOf(model).filter((pair) => {
      const why = this.causes[pair] ?? 0
      return why !== cause.none && why !== cause.rests && this.keys[pair] === Number.POSITIVE_INFINITY
    })
    return new Set(unfit.map((pair) => this.urlOf(pair)))
  }

  /** Which of its servers go first; `undefined`: none before another. */
  firstServers(model: number): ((host: Host) => boolean) | undefined {
    const { placement } = this.input
    const pairs = this.pairsOf(model)
    const open = pairs.filter((pair) => this.keys[pair] !== Number.POSITIVE_INFINITY)
    const first = open.filter((pair) => this.keys[pair] === this.bestKey[model])
    const urls = new Set(first.map((pair) => this.urlOf(pair)))
    if (placement === undefined) {
      return this.isLastResort || first.length === open.length ? undefined : ({ server }) => urls.has(server.url)
    }
    // A server may have turned up since that was not waited for.
    const known = new Set(pairs.map((pair) => this.urlOf(pair)))
    return ({ server }) => placement.prefers(server) && (urls.has(server.url) || !known.has(server.url))
  }

  private bestPair(model: number): number {
    return this.pairsOf(model).find((pair) => this.keys[pair] === this.bestKey[model]) ?? 0
  }

  // What a pair was at the time is a part of its key: its state may have changed since.

  private isResident(pair: number): boolean {
    return Math.floor((this.keys[pair] ?? 0) / ((this.index.models.length + 1) * (longestWait + 1))) % 2 === 0
  }

  /** In seconds, from 1 where there is no free slot. */
  private waitOf(pair: number): number {
    return Math.floor((this.keys[pair] ?? 0) / (this.index.models.length + 1)) % (longestWait + 1)
  }

  private isPlaced(pair: number): boolean {
    const server = this.index.servers[this.index.server[pair] ?? 0]?.server
    return server !== undefined && this.input.placement?.prefers(server) === true
  }

  /** Why a model is asked. */
  reasonOf(model: number): string {
    const { placement, preferred } = this.input
    const pair = this.bestPair(model)
    if (this.isLastResort) {
      const why = this.causes[pair]
      return why === cause.context
        ? "the one with the longest context, though the prompt may be too long for it"
        : why === cause.rests
          ? "the best one, though its servers have failed recently"
          : "the smallest, though memory may not suffice"
    }
    const reasons: Array<string> = []
    if (this.count === 1) reasons.push("the only one that can answer this")
    else if (this.isResident(pair)) reasons.push("loaded already")
    else if (this.index.keys[model] === preferred) reasons.push("the preferred one")
    else reasons.push(`the most capable of ${this.count}`)
    if (placement !== undefined && this.isPlaced(pair)) reasons.push(placement.reason)
    if (this.count > 1 && this.leavesBetter(model, pair)) reasons.push("servers of a better priority go first")
    return reasons.join("; ")
  }

  /** Whether a more capable model was passed over because of the priority of its servers. */
  private leavesBetter(model: number, pair: number): boolean {
    const { index } = this
    if (index.priorities === 1) return false
    const own = index.priority[index.server[pair] ?? 0] ?? 0
    return this.keys.some((key, other) => {
      if (key === Number.POSITIVE_INFINITY) return false
      const better = (index.rank[index.model[other] ?? 0] ?? 0) < (index.rank[model] ?? 0)
      return better && (index.priority[index.server[other] ?? 0] ?? 0) > own
    })
  }

  // ---------------------------------------------------------------------------
  // What is reported about all
  // ---------------------------------------------------------------------------

  get conditions(): Conditions {
    return this.input.conditions
  }

  get candidates(): ReadonlyArray<Candidate> {
    this.listed ??= this.order.flatMap((model) =>
      this.pairsOf(model)
        .filter((pair) => this.keys[pair] !== Number.POSITIVE_INFINITY)
        .sort((a, b) => (this.keys[a] ?? 0) - (this.keys[b] ?? 0))
        .map((pair) => ({ model: this.nameOf(model), server: this.urlOf(pair), reason: this.stateOf(pair) }))
    )
    return this.listed
  }

  get excluded(): ReadonlyArray<Excluded> {
    this.left ??= this.index.hosts.flatMap(({ server }, pair) =>
      this.keys[pair] === Number.POSITIVE_INFINITY
        ? [{ model: this.nameOf(this.index.model[pair] ?? 0), server: server.url, reason: this.whyNot(pair) }]
        : []
    )
    return this.left
  }

  private stateOf(pair: number): string {
    if (this.isLastResort) return this.whyNot(pair)
    const { index } = this
    const wait = this.waitOf(pair)
    return [
      this.isResident(pair) ? "loaded already" : "has to be loaded",
      ...(wait > 0 ? [`about ${wait} s to wait`] : []),
      ...(index.priorities > 1 ? [`priority ${index.hosts[pair]?.server.priority}`] : [])
    ].join(", ")
  }

  private whyNot(pair: number): string {
    const { columns, memory = 0, now } = this.input
    const { index, needed, wanted } = this
    const still = (until = 0): string => (until > now ? ` for ${Math.ceil((until - now) / 1_000)} s` : "")
    switch (this.causes[pair]) {
      case cause.unable: {
        const ability = index.abilities[index.model[pair] ?? 0]
        return ability === undefined ? "" : missingCapability(ability, wanted)
      }
      case cause.unsupported:
        return (this.notable[index.protocol[pair] ?? 0] ?? [])
          .map(({ field, reason }) => `cannot take ${field}: ${reason}`)
          .join("; ")
      case cause.forbidden:
        return this.why[index.server[pair] ?? 0] ?? ""
      case cause.context:
        return `has a context of ${index.context[pair]} tokens, and about ${needed} are needed`
      case cause.rests:
        return `rests${still(columns.restsUntil[pair])} after a failure`
      case cause.refused:
        return `said that its memory does not suffice, and is avoided${still(columns.refusedUntil[pair])}`
      case cause.memory:
        return `needs about ${gigabytes(index.memory[pair] ?? 0)} of memory, and ${gigabytes(memory)} are available`
      default:
        return ""
    }
  }
}

/** A model that was chosen; which of its servers may be asked is worked out when it is. */
class RankedModel implements ModelCandidate {
  readonly model: string
  readonly name: string
  readonly accepts = undefined
  readonly auto = true
  private known: Pick<ModelCandidate, "suits" | "prefers"> | undefined

  constructor(
    readonly selection: Ranking,
    private readonly at: number,
    readonly others?: () => ReadonlyArray<ModelCandidate>
  ) {
    this.model = selection.nameOf(at)
    this.name = this.model
  }

  get reason(): string {
    return this.selection.reasonOf(this.at)
  }

  get suits(): ((host: Host) => boolean) | undefined {
    return this.servers.suits
  }

  get prefers(): ((host: Host) => boolean) | undefined {
    return this.servers.prefers
  }

  private get servers(): Pick<ModelCandidate, "suits" | "prefers"> {
    if (this.known !== undefined) return this.known
    const unfit = this.selection.unfitServers(this.at)
    this.known = {
      suits: unfit.size === 0 ? undefined : ({ server }) => !unfit.has(server.url),
      prefers: this.selection.firstServers(this.at)
    }
    return this.known
  }
}

/** What is known of one server: its last list of models, and when it was asked. */
import * as Cause from "effect/Cause"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { canonical, type ModelInfo } from "../Model.js"
import type { Host, Performance, Protocol, Server } from "../Server.js"
import { type Listing, ListingFailed, type Loaded } from "./listing.js"

/**
 * A server to ask. `measurements` are those of registry files, by canonical name; `own` is `false` if only they name
 * it.
 */
export interface Source {
  readonly server: Server
  readonly own: boolean
  readonly measurements: ReadonlyMap<string, Performance | undefined>
  /** What it has, where it need not be asked: `names` are others of its model, `problem` is why it cannot answer. */
  readonly fixed?: Fixed | undefined
}

interface Fixed {
  readonly info: ModelInfo
  readonly names: ReadonlyArray<string>
  readonly problem: string | undefined
}

/** The state of one server. `models` is its last list, also if it does not answer any more (`problem`). */
export interface KnownServer {
  readonly server: Server
  readonly protocol: Protocol | undefined
  readonly models: ReadonlyMap<string, ModelInfo>
  /** More names of its one model, where it need not be asked. */
  readonly names: ReadonlyArray<string>
  /** Whether it need not be asked. */
  readonly isFixed: boolean
  readonly read: boolean
  readonly problem: string | undefined
  /** When it last answered or failed, in milliseconds since the epoch. */
  readonly checkedAt: number | undefined
}

/** What is known of a server that is asked; the times are in milliseconds since the epoch. */
export interface Entry extends Source {
  /** Includes where its API was found. */
  server: Server
  readonly measurements: Map<string, Performance | undefined>
  protocol: Protocol | undefined
  models: Map<string, ModelInfo>
  digests: ReadonlyMap<string, string>
  /** Models it listed, but no longer had when a request asked for them. */
  readonly lost: Set<string>
  problem: string | undefined
  /** Whether it answered when it was last asked, be it with something else than a list. */
  responded: boolean
  askedAt: number
  readAt: number
  failedAt: number
  stale: boolean
  running: boolean
}

/** A server that was not asked yet. */
export const makeEntry = (source: Source): Entry => ({
  ...source,
  measurements: new Map(source.measurements),
  protocol: source.server.protocol,
  models: new Map(),
  digests: new Map(),
  lost: new Set(),
  problem: undefined,
  responded: false,
  askedAt: Number.NEGATIVE_INFINITY,
  readAt: Number.NEGATIVE_INFINITY,
  failedAt: Number.NEGATIVE_INFINITY,
  stale: false,
  running: false
})

/** Takes over what is known of a server that is not asked. */
export const writeFixed = (entry: Entry): void => {
  const { fixed } = entry
  if (fixed === undefined) return
  const { info, names } = fixed
  entry.models = new Map([info.model_name, ...names].map((name) => [canonical(name), info]))
  entry.protocol = entry.server.protocol
  entry.problem = fixed.problem
  entry.stale = false
  // It is never due to be asked.
  entry.askedAt = Number.POSITIVE_INFINITY
  entry.readAt = Number.POSITIVE_INFINITY
  entry.failedAt = Number.POSITIVE_INFINITY
}

/** Records where the API of a server was found. */
export const locateApi = (entry: Entry, api: string | undefined): void => {
  if (entry.server.api !== api) entry.server = { ...entry.server, api }
}

const describe = (cause: Cause.Cause<ListingFailed>): string => {
  if (Cause.isInterruptedOnly(cause)) return "was not asked to the end"
  const error = Cause.squash(cause)
  return error instanceof ListingFailed ? error.reason : `could not be asked (${String(error)})`
}

const checkedAt = ({ failedAt, readAt }: Entry): number | undefined => {
  const latest = Math.max(failedAt, readAt)
  return Number.isFinite(latest) ? latest : undefined
}

/** What others may know of it. */
export const toKnown = (entry: Entry): KnownServer => ({
  server: entry.server,
  protocol: entry.protocol,
  models: entry.models,
  names: entry.fixed?.names ?? [],
  isFixed: entry.fixed !== undefined,
  read: entry.readAt > Number.NEGATIVE_INFINITY,
  problem: entry.problem,
  checkedAt: checkedAt(entry)
})

/** The names of a server's models, each once. */
export const namesOn = ({ models, names }: KnownServer): ReadonlyArray<string> =>
  [...new Set([...models.values()].map((info) => info.model_name)), ...names].sort()

/** Whether two hosts do not differ. */
export const isSame = (a: Host, b: Host | undefined): boolean =>
  b !== undefined &&
  a.server === b.server &&
  a.protocol === b.protocol &&
  a.model === b.model &&
  a.certain === b.certain &&
  a.performance === b.performance &&
  a.digest === b.digest

/** Records what asking a server came to. */
export const record = (entry: Entry, exit: Exit.Exit<Listing, ListingFailed>, now: number): void => {
  entry.running = false
  if (Exit.isSuccess(exit)) {
    entry.protocol = entry.server.protocol ?? exit.value.protocol
    entry.models = new Map(exit.value.models)
    entry.digests = exit.value.digests
    entry.lost.clear()
    locateApi(entry, exit.value.api)
    entry.problem = undefined
    entry.responded = true
    entry.stale = false
    entry.readAt = now
    return
  }
  entry.problem = describe(exit.cause)
  entry.failedAt = now
  const failure = Option.getOrUndefined(Cause.failureOption(exit.cause))
  entry.responded = failure?.answered === true
  if (failure?.api !== undefined) {
    // The chat path is only searched at the places of OpenAI's API.
    entry.protocol ??= "openai"
    locateApi(entry, failure.api)
  }
}

/** The list with the context that each loaded model has; `resident` receives until when they stay loaded. */
export const withLoaded = (
  found: Listing,
  loaded: ReadonlyMap<string, Loaded>,
  resident: (models: ReadonlyMap<string, number>) => void
): Listing => {
  const models = new Map(found.models)
  const untils = new Map<string, number>()
  for (const [name, { contextLength, until }] of loaded) {
    const key = canonical(name)
    const info = models.get(key)
    untils.set(info?.model_name ?? name, until)
    // The context it was loaded with is what it reads, whatever the model supports.
    if (info !== undefined && contextLength !== undefined) models.set(key, { ...info, context_length: contextLength })
  }
  resident(untils)
  return { ...found, models }
}

/** The server as one that has, or may have, a model. */
export const hostOn = (entry: Entry, key: string, model: string, certain: boolean): Host => ({
  server: entry.server,
  protocol: entry.protocol ?? "ollama",
  model: entry.models.get(key)?.model_name ?? model,
  certain,
  performance: entry.measurements.get(key),
  digest: entry.digests.get(key)
})

/**
 * Whether the server is recorded to have the model. That includes a model it had lost before it became unreachable: it
 * may only have been restarted.
 */
export const isClaimed = (entry: Entry, key: string): boolean =>
  entry.models.has(key) || entry.measurements.has(key) || (entry.problem !== undefined && entry.lost.has(key))

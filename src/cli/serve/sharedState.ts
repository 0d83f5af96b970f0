/**
 * The state shared by all workers: conversations, responses, rate limits and the tokens of remote servers. The first
 * process holds it; workers access it over RPC.
 */

import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import type { ResponseBounds } from "../../config/gateway.js"
import { SessionsUnavailable } from "../../Errors.js"
import * as Fleet from "../../Fleet.js"
import { mergeRemoteTokens, type SavedRemoteTokens } from "../../fleet/remoteTokens.js"
import type { SharedState } from "../../gateway/GatewayContext.js"
import * as ErrorResponse from "../../gateway/http/errorResponse.js"
import * as ResponseStore from "../../gateway/ResponseStore.js"
import * as RateLimits from "../../gateway/rateLimits.js"
import type { Message } from "../../Message.js"
import type * as Sessions from "../../Sessions.js"
import type * as Store from "../../Store.js"
import * as WorkerEvents from "./workerEvents.js"
import * as WorkerRpc from "./workerRpc.js"

// =============================================================================
// The first process
// =============================================================================

/** The RPC handlers of the first process. `sessions` stores the conversations. */
export const makeHandlers = (sessions: Sessions.Store) => {
  const now = () => performance.now()
  const responses = ResponseStore.makeMemory(now)
  const limits = new RateLimits.RateLimits(now)
  let remoteTokens: SavedRemoteTokens | undefined
  /** The worker adds the subject of the reason. */
  const run = async <A>(effect: Effect.Effect<A, SessionsUnavailable>, signal?: AbortSignal): Promise<A> => {
    const done = await Effect.runPromise(Effect.either(effect), { signal })
    if (Either.isLeft(done)) throw new Error(done.left.reason)
    return done.right
  }
  return {
    create: (_: WorkerRpc.HoldResource, id: string, seed?: Sessions.Seed) => run(sessions.create(id, seed)),
    load: (_: WorkerRpc.HoldResource, id: string) => run(Effect.map(sessions.load(id), Option.getOrUndefined)),
    append: (
      _: WorkerRpc.HoldResource,
      id: string,
      version: number,
      messages: ReadonlyArray<Message>,
      usage?: Sessions.TurnUsage
    ) => run(sessions.append(id, version, messages, usage)),
    read: (_: WorkerRpc.HoldResource, id: string) => run(Effect.map(sessions.read(id), Option.getOrUndefined)),
    update: (_: WorkerRpc.HoldResource, id: string, changes: Sessions.Changes) => run(sessions.update(id, changes)),
    reset: (_: WorkerRpc.HoldResource, id: string) => run(sessions.reset(id)),
    remove: (_: WorkerRpc.HoldResource, id: string) => run(sessions.remove(id)),
    removeUnused: (_: WorkerRpc.HoldResource, id: string, since: number) => run(sessions.removeUnused(id, since)),
    list: (_: WorkerRpc.HoldResource, selection?: Sessions.Selection) => run(sessions.list(selection)),
    search: (_: WorkerRpc.HoldResource, words: ReadonlyArray<string>, selection?: Sessions.Selection) =>
      run(sessions.search(words, selection)),
    turn: (hold: WorkerRpc.HoldResource, id: string) => {
      const ticket = sessions.turn?.(id)
      if (ticket === undefined) return undefined
      const given = new AbortController()
      hold(() => {
        ticket.release()
        given.abort()
      })
      return run(ticket.wait, given.signal)
    },

    bound: (_: WorkerRpc.HoldResource, bounds: ResponseBounds) => responses.bound(bounds),
    put: (_: WorkerRpc.HoldResource, draft: ResponseStore.NewResponse) => responses.put(draft),
    chain: (_: WorkerRpc.HoldResource, owner: string, id: string) => responses.chain(owner, id),
    get: (_: WorkerRpc.HoldResource, owner: string, id: string) => responses.get(owner, id),
    items: (_: WorkerRpc.HoldResource, owner: string, ids: ReadonlyArray<string>) => responses.items(owner, ids),
    forget: (_: WorkerRpc.HoldResource, owner: string, id: string) => responses.remove(owner, id),

    enter: (hold: WorkerRpc.HoldResource, allowance: RateLimits.Allowance) => {
      const problem = limits.acquire(allowance)
      if (problem === undefined) hold(() => limits.release(RateLimits.identityOf(allowance), 1))
      return problem
    },
    reserve: (hold: WorkerRpc.HoldResource, allowance: RateLimits.Allowance, demand: RateLimits.RateDemand) => {
      const taken = limits.reserve(allowance, demand)
      if (typeof taken === "number") hold(() => limits.release(RateLimits.identityOf(allowance), demand.answers - 1))
      return taken
    },
    settle: (
      _: WorkerRpc.HoldResource,
      identity: string,
      reserved: number,
      answers: number,
      used: RateLimits.TokenUsage
    ) => limits.settle(identity, reserved, answers, used),

    countRemote: (_: WorkerRpc.HoldResource, counted: SavedRemoteTokens | undefined) => {
      remoteTokens = mergeRemoteTokens(remoteTokens, counted)
      return remoteTokens
    }
  }
}

type Answers = ReturnType<typeof makeHandlers>

// =============================================================================
// A worker
// =============================================================================

const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

const sessionsOf = (first: WorkerRpc.WorkerRpcClient<Answers>): Sessions.Store => {
  const waited = <A>(result: Promise<A>): Effect.Effect<A, SessionsUnavailable> =>
    Effect.tryPromise({ try: () => result, catch: (error) => new SessionsUnavailable({ reason: reasonOf(error) }) })
  return {
    create: (id, seed) => Effect.suspend(() => waited(first.call("create", id, seed))),
    load: (id) => Effect.suspend(() => Effect.map(waited(first.call("load", id)), Option.fromNullable)),
    append: (id, version, messages, usage) =>
      Effect.suspend(() => waited(first.call("append", id, version, messages, usage))),
    read: (id) => Effect.suspend(() => Effect.map(waited(first.call("read", id)), Option.fromNullable)),
    update: (id, changes) => Effect.suspend(() => waited(first.call("update", id, changes))),
    reset: (id) => Effect.suspend(() => waited(first.call("reset", id))),
    remove: (id) => Effect.suspend(() => waited(first.call("remove", id))),
    removeUnused: (id, since) => Effect.suspend(() => waited(first.call("removeUnused", id, since))),
    list: (selection) => Effect.suspend(() => waited(first.call("list", selection))),
    search: (words, selection) => Effect.suspend(() => waited(first.call("search", words, selection))),
    turn: (id) => {
      const { release, result } = first.begin("turn", [id])
      // Releasing is not awaited.
      result.catch(() => {})
      return { wait: Effect.suspend(() => waited(result)), release }
    }
  }
}

const responsesOf = (
  first: WorkerRpc.WorkerRpcClient<Answers>,
  log: (text: string) => void
): ResponseStore.ResponseStore => {
  const waited = <A>(result: Promise<A>): Promise<A> =>
    result.catch((error: unknown) => {
      const message = `Kept responses cannot be reached: ${reasonOf(error)}. Try again in a moment.`
      throw new ErrorResponse.RequestRejected(ErrorResponse.make(503, message, "responses_unavailable", null, 1_000))
    })
  return {
    bound: (bounds) => {
      first
        .call("bound", bounds)
        .catch((error: unknown) => log(`the limits of responses were not set: ${reasonOf(error)}`))
    },
    put: (draft) => waited(first.call("put", draft)),
    chain: (owner, id) => waited(first.call("chain", owner, id)),
    get: (owner, id) => waited(first.call("get", owner, id)),
    items: (owner, ids) => waited(first.call("items", owner, ids)),
    remove: (owner, id) => waited(first.call("forget", owner, id))
  }
}

/** The rate limit ticket of a request, which the first process counts. */
class RemoteRateTicket implements RateLimits.RateTicket {
  private readonly releases: Array<() => void>
  private reserved = 0
  private answers = 1
  private over = false

  constructor(
    private readonly first: WorkerRpc.WorkerRpcClient<Answers>,
    private readonly say: (text: string) => void,
    private readonly allowance: RateLimits.Allowance,
    release: () => void
  ) {
    this.releases = [release]
  }

  async reserve(demand: RateLimits.RateDemand): Promise<ErrorResponse.ErrorResponse | undefined> {
    // There is nothing to count beyond the request itself.
    if (demand.answers === 1 && this.allowance.tokensPerMinute === Number.POSITIVE_INFINITY) return undefined
    const { release, result } = this.first.begin("reserve", [this.allowance, demand], WorkerRpc.callTimeout)
    let taken: ErrorResponse.ErrorResponse | number
    try {
      taken = await result
    } catch (error) {
      return unknownLimits(this.say, this.allowance, error)
    }
    if (typeof taken !== "number") return taken
    this.reserved += taken
    this.answers += demand.answers - 1
    if (this.over) {
      release()
      this.settle({ prompt: 0, completion: 0 })
    } else this.releases.push(release)
    return undefined
  }

  release(used: RateLimits.TokenUsage | undefined): void {
    this.over = true
    for (const release of this.releases.splice(0)) release()
    if (used !== undefined) this.settle(used)
  }

  private settle(used: RateLimits.TokenUsage): void {
    const { name } = this.allowance
    const { answers, reserved } = this
    this.reserved = 0
    if (reserved === 0 && used.prompt + used.completion === 0) return
    this.first
      .call("settle", RateLimits.identityOf(this.allowance), reserved, answers, used)
      .catch((error: unknown) =>
        this.say(
          `${used.prompt + used.completion} tokens of the key '${name}' were not counted, ${reserved} stay reserved: ${reasonOf(error)}`
        )
      )
  }
}

const unknownLimits = (
  log: (text: string) => void,
  { name }: RateLimits.Allowance,
  error: unknown
): ErrorResponse.ErrorResponse => {
  log(`the limits of the key '${name}' could not be looked up: ${reasonOf(error)}`)
  return RateLimits.limitsUnavailable()
}

const limitsOf = (first: WorkerRpc.WorkerRpcClient<Answers>, log: (text: string) => void): RateLimits.RateLimiter => ({
  acquire: (access) => {
    if (!RateLimits.isLimited(access)) return undefined
    const allowance = RateLimits.allowance(access)
    const { release, result } = first.begin("enter", [allowance], WorkerRpc.callTimeout)
    return result.then(
      (problem) => problem ?? new RemoteRateTicket(first, log, allowance, release),
      (error: unknown) => unknownLimits(log, allowance, error)
    )
  }
})

/** How often workers tell each other what they have counted, in milliseconds. */
const countInterval = 1_000

/** Each worker counts on its own, and soon knows what the others have counted: a call waits for nobody. */
const remoteTokensOf = (
  first: WorkerRpc.WorkerRpcClient<Answers>,
  log: (text: string) => void
): Fleet.RemoteTokenCounter => {
  const counter = new Fleet.RemoteTokenCounter()
  let isLost = false
  const exchange = () =>
    first.call("countRemote", counter.saved(Date.now())).then(
      (all) => {
        isLost = false
        counter.merge(all, Date.now())
      },
      (error: unknown) => {
        if (!isLost) log(`what other workers used of remote servers is not known: ${reasonOf(error)}`)
        isLost = true
      }
    )
  void exchange()
  setInterval(() => void exchange(), countInterval).unref()
  return counter
}

/** The shared state of a worker. `end` is its end of the channel. */
export const forWorker = (log: (text: string) => void, end: WorkerRpc.WorkerChannel = process): SharedState => {
  const first = new WorkerRpc.WorkerRpcClient<Answers>(end)
  return {
    sessions: sessionsOf(first),
    responses: responsesOf(first, log),
    keyLimits: limitsOf(first, log),
    remoteTokens: remoteTokensOf(first, log),
    events: WorkerEvents.link(end)
  }
}

/** What a process has of a store. */
export interface Stored {
  readonly store: Store.Service
  readonly sessions: Sessions.Store
}

/** A worker uses a store on its own, as any replica: only the order of turns and events come from the first process. */
export const overStore = (
  { keyLimits: _, remoteTokens: __, responses: ___, sessions: { turn }, ...rest }: SharedState,
  { sessions, store }: Stored
): Partial<SharedState> => ({
  ...rest,
  store,
  sessions: turn === undefined ? sessions : { ...sessions, turn }
})

/**
 * The state shared by all workers: conversations, responses and rate limits. The first process holds it; workers access
 * it over RPC. What they know of servers they tell each other.
 */

import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { ResponseBounds } from "../../config/gateway.js"
import { SessionsUnavailable, StoreUnavailable } from "../../Errors.js"
import type { SharedState } from "../../gateway/GatewayContext.js"
import * as ErrorResponse from "../../gateway/http/errorResponse.js"
import * as ResponseStore from "../../gateway/ResponseStore.js"
import * as LeasedLimits from "../../gateway/replicas/LeasedLimits.js"
import type { ExchangeLimits } from "../../gateway/replicas/limitTable.js"
import { exchange, type SharedLimits, type SliceExchange, without } from "../../gateway/replicas/sharedLimits.js"
import type { Message } from "../../Message.js"
import type * as Sessions from "../../Sessions.js"
import type * as Store from "../../Store.js"
import type { TurnOrder } from "../../sessions/turnQueue.js"
import * as WorkerEvents from "./workerEvents.js"
import * as WorkerMessages from "./workerMessages.js"
import * as WorkerRpc from "./workerRpc.js"

// =============================================================================
// The first process
// =============================================================================

/** The RPC handlers of the first process. `sessions` stores the conversations, `order` is that of turns in a store. */
export const makeHandlers = (sessions: Sessions.Store, order: TurnOrder) => {
  const now = () => performance.now()
  const responses = ResponseStore.makeMemory(now)
  const limits = new Map<string, SharedLimits>()
  const limited = new Set<string>()
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
    heldSince: (_: WorkerRpc.HoldResource, id: string) => run(order.heldSince(id)),

    bound: (_: WorkerRpc.HoldResource, bounds: ResponseBounds) => responses.bound(bounds),
    put: (_: WorkerRpc.HoldResource, draft: ResponseStore.NewResponse) => responses.put(draft),
    chain: (_: WorkerRpc.HoldResource, owner: string, id: string) => responses.chain(owner, id),
    get: (_: WorkerRpc.HoldResource, owner: string, id: string) => responses.get(owner, id),
    items: (_: WorkerRpc.HoldResource, owner: string, ids: ReadonlyArray<string>) => responses.items(owner, ids),
    forget: (_: WorkerRpc.HoldResource, owner: string, id: string) => responses.remove(owner, id),

    exchange: (hold: WorkerRpc.HoldResource, key: string, wanted: SliceExchange) => {
      const { replica } = wanted
      if (!limited.has(replica)) {
        limited.add(replica)
        // Its places are free where it ends without a word.
        hold(() => {
          limited.delete(replica)
          for (const [key, shared] of limits) limits.set(key, without(shared, replica))
        })
      }
      const [next, grant] = exchange(limits.get(key) ?? {}, wanted, now())
      limits.set(key, next)
      return grant
    }
  }
}

type Answers = ReturnType<typeof makeHandlers>

// =============================================================================
// A worker
// =============================================================================

const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

const waited = <A>(result: Promise<A>): Effect.Effect<A, SessionsUnavailable> =>
  Effect.tryPromise({ try: () => result, catch: (error) => new SessionsUnavailable({ reason: reasonOf(error) }) })

const orderOf = (first: WorkerRpc.WorkerRpcClient<Answers>): TurnOrder => ({
  turn: (id) => {
    const { release, result } = first.begin("turn", [id])
    // Releasing is not awaited.
    result.catch(() => {})
    return { wait: Effect.suspend(() => waited(result)), release }
  },
  heldSince: (id) => Effect.suspend(() => waited(first.call("heldSince", id)))
})

const sessionsOf = (first: WorkerRpc.WorkerRpcClient<Answers>): Sessions.Store => ({
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
  turn: orderOf(first).turn
})

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

/** Exchanges limits in the first process, as gateways do in a store. */
const exchangeOf =
  (first: WorkerRpc.WorkerRpcClient<Answers>): ExchangeLimits =>
  (key, wanted) =>
    Effect.tryPromise({
      try: () => first.call("exchange", key, wanted),
      // It was not done: where there is only no answer, it is given up before.
      catch: (error) => new StoreUnavailable({ reason: reasonOf(error), uncertain: false })
    })

/** What a process has of a store. */
export interface Stored {
  readonly store: Store.Service
  /** `undefined`: they are in the memory of the first process. */
  readonly sessions: Sessions.Store | undefined
}

/** What a worker has from the others; `responses` and `keyLimits` where there is no store. */
export type WorkerState = Partial<SharedState> & Pick<SharedState, "sessions">

/**
 * The shared state of a worker, until the scope closes. `open` opens what is kept in a store, with the order of turns among
 * the workers; `end` is the worker's end of the channel. With a store it is a gateway like any other: only that order and
 * events come from the first process.
 */
export const forWorker = <E = never, R = never>(
  log: (text: string) => void,
  open: (order: TurnOrder) => Effect.Effect<Stored | undefined, E, R> = () => Effect.succeed(undefined),
  end: WorkerRpc.WorkerChannel = process
): Effect.Effect<WorkerState, E, R | Scope.Scope> =>
  Effect.gen(function* () {
    const first = new WorkerRpc.WorkerRpcClient<Answers>(end)
    const events = WorkerEvents.link(end)
    const stored = yield* open(orderOf(first))
    const sessions = stored?.sessions ?? sessionsOf(first)
    if (stored !== undefined) return { store: stored.store, sessions, events }
    return {
      sessions,
      responses: responsesOf(first, log),
      keyLimits: yield* LeasedLimits.make(exchangeOf(first), log),
      events,
      channel: WorkerMessages.make(end)
    }
  })

/**
 * What all workers have in common: conversations, responses, and what has been used of each key's limits. The first
 * process holds it, and a worker asks for it.
 *
 * @since 0.1.0
 */

import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import type { ResponseBounds } from "../../config/gateway.js"
import { SessionsUnavailable } from "../../Errors.js"
import type { Common } from "../../gateway/GatewayContext.js"
import * as Problem from "../../gateway/http/errorResponse.js"
import * as Responses from "../../gateway/ResponseStore.js"
import * as KeyLimits from "../../gateway/rateLimits.js"
import type { Message } from "../../Message.js"
import type * as Sessions from "../../Sessions.js"
import * as Calls from "./workerRpc.js"

// =============================================================================
// the first process
// =============================================================================

/**
 * What the first process answers its workers. `sessions` keeps the conversations.
 *
 * @since 0.1.0
 * @category constructors
 */
export const answers = (sessions: Sessions.Store) => {
  const now = () => performance.now()
  const responses = Responses.makeMemory(now)
  const limits = new KeyLimits.Limits(now)
  /** A worker says by itself what a reason is about. */
  const run = async <A>(effect: Effect.Effect<A, SessionsUnavailable>, signal?: AbortSignal): Promise<A> => {
    const done = await Effect.runPromise(Effect.either(effect), { signal })
    if (Either.isLeft(done)) throw new Error(done.left.reason)
    return done.right
  }
  return {
    create: (_: Calls.Hold, id: string) => run(sessions.create(id)),
    load: (_: Calls.Hold, id: string) => run(Effect.map(sessions.load(id), Option.getOrUndefined)),
    append: (_: Calls.Hold, id: string, version: number, messages: ReadonlyArray<Message>) =>
      run(sessions.append(id, version, messages)),
    reset: (_: Calls.Hold, id: string) => run(sessions.reset(id)),
    remove: (_: Calls.Hold, id: string) => run(sessions.remove(id)),
    list: (_: Calls.Hold, options?: Sessions.ListOptions) => run(sessions.list(options)),
    turn: (hold: Calls.Hold, id: string) => {
      const ticket = sessions.turn?.(id)
      if (ticket === undefined) return undefined
      const given = new AbortController()
      hold(() => {
        ticket.release()
        given.abort()
      })
      return run(ticket.wait, given.signal)
    },

    bound: (_: Calls.Hold, bounds: ResponseBounds) => responses.bound(bounds),
    put: (_: Calls.Hold, draft: Responses.Draft) => responses.put(draft),
    chain: (_: Calls.Hold, owner: string, id: string) => responses.chain(owner, id),
    get: (_: Calls.Hold, owner: string, id: string) => responses.get(owner, id),
    items: (_: Calls.Hold, owner: string, ids: ReadonlyArray<string>) => responses.items(owner, ids),
    forget: (_: Calls.Hold, owner: string, id: string) => responses.remove(owner, id),

    enter: (hold: Calls.Hold, allowance: KeyLimits.Allowance) => {
      const problem = limits.enter(allowance)
      if (problem === undefined) hold(() => limits.leave(allowance.name, 1))
      return problem
    },
    reserve: (hold: Calls.Hold, allowance: KeyLimits.Allowance, demand: KeyLimits.Demand) => {
      const taken = limits.reserve(allowance, demand)
      if (typeof taken === "number") hold(() => limits.leave(allowance.name, demand.answers - 1))
      return taken
    },
    settle: (_: Calls.Hold, name: string, reserved: number, answers: number, used: KeyLimits.Used) =>
      limits.settle(name, reserved, answers, used)
  }
}

type Answers = ReturnType<typeof answers>

// =============================================================================
// a worker
// =============================================================================

const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

const sessionsOf = (first: Calls.Caller<Answers>): Sessions.Store => {
  const waited = <A>(result: Promise<A>): Effect.Effect<A, SessionsUnavailable> =>
    Effect.tryPromise({ try: () => result, catch: (error) => new SessionsUnavailable({ reason: reasonOf(error) }) })
  return {
    create: (id) => Effect.suspend(() => waited(first.call("create", id))),
    load: (id) => Effect.suspend(() => Effect.map(waited(first.call("load", id)), Option.fromNullable)),
    append: (id, version, messages) => Effect.suspend(() => waited(first.call("append", id, version, messages))),
    reset: (id) => Effect.suspend(() => waited(first.call("reset", id))),
    remove: (id) => Effect.suspend(() => waited(first.call("remove", id))),
    list: (options) => Effect.suspend(() => waited(first.call("list", options))),
    turn: (id) => {
      const { release, result } = first.begin("turn", [id])
      // Who gives up its place does not wait for it.
      result.catch(() => {})
      return { wait: Effect.suspend(() => waited(result)), release }
    }
  }
}

const responsesOf = (first: Calls.Caller<Answers>, say: (text: string) => void): Responses.Store => {
  const waited = <A>(result: Promise<A>): Promise<A> =>
    result.catch((error: unknown) => {
      const message = `Kept responses cannot be reached: ${reasonOf(error)}. Try again in a moment.`
      throw new Problem.Refusal(Problem.make(503, message, "responses_unavailable", null, 1_000))
    })
  return {
    bound: (bounds) => {
      first
        .call("bound", bounds)
        .catch((error: unknown) => say(`the limits of responses were not set: ${reasonOf(error)}`))
    },
    put: (draft) => waited(first.call("put", draft)),
    chain: (owner, id) => waited(first.call("chain", owner, id)),
    get: (owner, id) => waited(first.call("get", owner, id)),
    items: (owner, ids) => waited(first.call("items", owner, ids)),
    remove: (owner, id) => waited(first.call("forget", owner, id))
  }
}

/** What a request takes of its key's limits, which the first process counts. */
class Ticket implements KeyLimits.Ticket {
  private readonly releases: Array<() => void>
  private reserved = 0
  private answers = 1
  private over = false

  constructor(
    private readonly first: Calls.Caller<Answers>,
    private readonly say: (text: string) => void,
    private readonly allowance: KeyLimits.Allowance,
    release: () => void
  ) {
    this.releases = [release]
  }

  async reserve(demand: KeyLimits.Demand): Promise<Problem.Problem | undefined> {
    // There is nothing to count besides the request itself.
    if (demand.answers === 1 && this.allowance.tokensPerMinute === Number.POSITIVE_INFINITY) return undefined
    const { release, result } = this.first.begin("reserve", [this.allowance, demand], Calls.patience)
    let taken: Problem.Problem | number
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

  leave(used: KeyLimits.Used | undefined): void {
    this.over = true
    for (const release of this.releases.splice(0)) release()
    if (used !== undefined) this.settle(used)
  }

  private settle(used: KeyLimits.Used): void {
    const { name } = this.allowance
    const { answers, reserved } = this
    this.reserved = 0
    if (reserved === 0 && used.prompt + used.completion === 0) return
    this.first
      .call("settle", name, reserved, answers, used)
      .catch((error: unknown) =>
        this.say(
          `${used.prompt + used.completion} tokens of the key '${name}' were not counted, ${reserved} stay reserved: ${reasonOf(error)}`
        )
      )
  }
}

const unknownLimits = (say: (text: string) => void, { name }: KeyLimits.Allowance, error: unknown): Problem.Problem => {
  say(`the limits of the key '${name}' could not be looked up: ${reasonOf(error)}`)
  const message = "What this API key may still use cannot be looked up. Try again in a moment."
  return Problem.make(503, message, "limits_unavailable", null, 1_000)
}

const limitsOf = (first: Calls.Caller<Answers>, say: (text: string) => void): KeyLimits.Limiter => ({
  enter: (access) => {
    if (!KeyLimits.isLimited(access)) return undefined
    const allowance = KeyLimits.allowance(access)
    const { release, result } = first.begin("enter", [allowance], Calls.patience)
    return result.then(
      (problem) => problem ?? new Ticket(first, say, allowance, release),
      (error: unknown) => unknownLimits(say, allowance, error)
    )
  }
})

/**
 * What a worker has in common with the others. `end` is its end of the channel.
 *
 * @since 0.1.0
 * @category constructors
 */
export const ofWorker = (say: (text: string) => void, end: Calls.End = process): Common => {
  const first = new Calls.Caller<Answers>(end)
  return { sessions: sessionsOf(first), responses: responsesOf(first, say), keyLimits: limitsOf(first, say) }
}

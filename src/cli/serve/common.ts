/**
 * What all workers have in common: conversations, responses, and what has been used of each key's limits. The first
 * process holds it, and a worker asks for it.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import { SessionsUnavailable } from "../../Errors.js"
import * as Access from "../../gateway/access.js"
import type { Common } from "../../gateway/house.js"
import * as Responses from "../../gateway/openai/responses/store.js"
import * as Problem from "../../gateway/problem.js"
import type { Message } from "../../Message.js"
import type * as Sessions from "../../Sessions.js"
import * as Calls from "./calls.js"

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
  const limits = new Access.Limits(now)
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

    bound: (_: Calls.Hold, bounds: Responses.Bounds) => responses.bound(bounds),
    put: (_: Calls.Hold, draft: Responses.Draft) => responses.put(draft),
    chain: (_: Calls.Hold, owner: string, id: string) => responses.chain(owner, id),
    get: (_: Calls.Hold, owner: string, id: string) => responses.get(owner, id),
    forget: (_: Calls.Hold, owner: string, id: string) => responses.remove(owner, id),

    enter: (hold: Calls.Hold, allowance: Access.Allowance) => {
      const problem = limits.enter(allowance)
      if (problem === undefined) hold(() => limits.leave(allowance))
      return problem
    },
    spend: (_: Calls.Hold, allowance: Access.Allowance, tokens: number) => limits.spend(allowance, tokens)
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
    remove: (owner, id) => waited(first.call("forget", owner, id))
  }
}

const limitsOf = (first: Calls.Caller<Answers>, say: (text: string) => void): Access.Limiter => {
  /** How to give back each request of a key that is under way. Which of them ends first makes no difference. */
  const entered = new Map<string, Array<() => void>>()
  return {
    enter: (access) => {
      if (!Access.isLimited(access)) return undefined
      const { release, result } = first.begin("enter", [Access.allowance(access)], Calls.patience)
      return result.then(
        (problem) => {
          if (problem !== undefined) return problem
          const under = entered.get(access.name)
          if (under === undefined) entered.set(access.name, [release])
          else under.push(release)
          return undefined
        },
        (error: unknown) => {
          say(`the limits of the key '${access.name}' could not be looked up: ${reasonOf(error)}`)
          const message = "What this API key may still use cannot be looked up. Try again in a moment."
          return Problem.make(503, message, "limits_unavailable", null, 1_000)
        }
      )
    },
    leave: (access) => {
      if (!Access.isLimited(access)) return
      const { name } = access
      const under = entered.get(name)
      under?.pop()?.()
      if (under?.length === 0) entered.delete(name)
    },
    spend: (access, tokens) => {
      if (!Access.isLimited(access)) return
      first
        .call("spend", Access.allowance(access), tokens)
        .catch((error: unknown) =>
          say(`${tokens} tokens of the key '${access.name}' were not counted: ${reasonOf(error)}`)
        )
    }
  }
}

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

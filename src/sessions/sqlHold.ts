/**
 * Conversations in use, told to all who use the store: `held_until` of a row says, in the time of the store, until when
 * its conversation neither expires nor makes room for others. It is put off while a turn lasts, so that what a gateway
 * held that is gone is free soon.
 *
 * A short turn in a conversation that was used a moment ago writes nothing: that one is the last to go anyway.
 */
import type { SqlClient } from "@effect/sql/SqlClient"
import type { Fragment } from "@effect/sql/Statement"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import type { StoreUnavailable } from "../Errors.js"
import type * as Store from "../Store.js"
import type { Dialect } from "../store/dialect.js"
import type { TurnTicket } from "./turnQueue.js"

/** For how long a conversation is held without a further word, in milliseconds. */
const lease = 60_000

/** How often a turn that lasts says so. */
const interval = lease / 3

/** A turn says so at once where its conversation was not used for this long; else when it has lasted this long. */
const longest = { idle: 60_000, silent: 5_000 }

/** The shortest time between two words, where conversations live for less than it takes to say them. */
const shortest = 50

/** The conversation in the row at hand is in use by nobody who has said so. */
export const isFree = (sql: SqlClient, dialect: Dialect): Fragment => sql`held_until <= ${dialect.now(sql)}`

/** The turn that this process has in a conversation. */
interface Hold {
  /** Whether it has written anything, or is about to. */
  isMarked: boolean
  /** What it has written and may take back; 0 if nothing, or where another process has a turn in it too. */
  until: number
}

/** The turns of this process in the conversations of a store, which keeps them for `ttl` milliseconds. */
export const make = (store: Store.Service, ttl: number, now: () => number) => {
  const limits = {
    idle: Math.min(longest.idle, ttl / 4),
    silent: Math.max(shortest, Math.min(longest.silent, ttl / 4))
  }
  const holds = new Map<string, Hold>()
  const ending = new Map<string, Fiber.RuntimeFiber<void>>()

  /** False if there is no such conversation. */
  const mark = (id: string, hold: Hold): Effect.Effect<boolean, StoreUnavailable> =>
    Effect.uninterruptible(
      store.use((sql, dialect) => {
        hold.isMarked = true
        return Effect.gen(function* () {
          const until = sql`${dialect.now(sql)} + ${lease}`
          const [own] = yield* sql<{ held_until: number }>`UPDATE aicortex_sessions SET held_until = ${until}
            WHERE id = ${id} AND (held_until = ${hold.until} OR ${isFree(sql, dialect)}) RETURNING held_until`
          hold.until = own?.held_until ?? 0
          if (own !== undefined) return true
          const [any] = yield* sql`UPDATE aicortex_sessions SET held_until = ${until} WHERE id = ${id} RETURNING id`
          return any !== undefined
        })
      })
    )
  const unmark = (id: string, hold: Hold) =>
    Effect.suspend(() =>
      hold.until === 0
        ? Effect.void
        : store.use(
            (sql) => sql`UPDATE aicortex_sessions SET held_until = 0 WHERE id = ${id} AND held_until = ${hold.until}`
          )
    )
  // Where the store is away the next word may reach it, and the turn itself says that it cannot be stored.
  const last = (id: string, hold: Hold, pause: number): Effect.Effect<void> =>
    Effect.flatMap(Effect.sleep(pause), () =>
      Effect.flatMap(
        Effect.orElseSucceed(mark(id, hold), () => true),
        (isThere) => (isThere ? last(id, hold, interval) : Effect.void)
      )
    )
  /** Until the turns that this process has ended are taken back. */
  const settled = (id: string): Effect.Effect<void> =>
    Effect.suspend(() => {
      const fiber = ending.get(id)
      return fiber === undefined ? Effect.void : Effect.asVoid(Fiber.await(fiber))
    })

  /** What is not taken back ends by itself. */
  const takeBack = (id: string, hold: Hold, fiber: Fiber.RuntimeFiber<void>): void => {
    const ended = Effect.runFork(Effect.zipRight(Fiber.await(fiber), Effect.ignore(unmark(id, hold))))
    ending.set(id, ended)
    ended.addObserver(() => {
      if (ending.get(id) === ended) ending.delete(id)
    })
  }

  return {
    settled,
    /** A turn that the others know of. */
    turn: (id: string, ticket: TurnTicket): TurnTicket => {
      const hold: Hold = { isMarked: false, until: 0 }
      let fiber: Fiber.RuntimeFiber<void> | undefined
      const begin = Effect.flatMap(settled(id), () =>
        Effect.map(Effect.forkDaemon(Effect.interruptible(last(id, hold, limits.silent))), (started) => {
          fiber = started
          holds.set(id, hold)
        })
      )
      return {
        wait: Effect.zipRight(ticket.wait, begin),
        release: () => {
          if (fiber !== undefined) {
            fiber.unsafeInterruptAsFork(FiberId.none)
            if (holds.get(id) === hold) holds.delete(id)
            if (hold.isMarked) takeBack(id, hold, fiber)
            fiber = undefined
          }
          ticket.release()
        }
      }
    },
    /**
     * For a turn that may just have begun in a conversation that was used at this time. False if the conversation is
     * gone.
     */
    begun: (id: string, usedAt: number): Effect.Effect<boolean, StoreUnavailable> =>
      Effect.suspend(() => {
        const hold = holds.get(id)
        const isDue = hold !== undefined && !hold.isMarked && now() - usedAt >= limits.idle
        return isDue ? mark(id, hold) : Effect.succeed(true)
      }),
    /** What the turn of this process in it has written; the store forgets it with the turn. */
    written: (id: string): number => holds.get(id)?.until ?? 0,
    /** Whether anybody has said that it is in use. */
    isHeld: (id: string): Effect.Effect<boolean, StoreUnavailable> =>
      Effect.zipRight(
        settled(id),
        Effect.map(
          store.use(
            (sql, dialect) => sql`SELECT id FROM aicortex_sessions WHERE id = ${id} AND NOT (${isFree(sql, dialect)})`
          ),
          (rows) => rows.length > 0
        )
      )
  }
}

/** Turns of a conversation: first come, first served. */
import * as Effect from "effect/Effect"
import { SessionsUnavailable } from "../Errors.js"

/** Maximum number of waiting calls per conversation. */
const maxWaiting = 512

/** A place in the queue of a conversation. */
export interface TurnTicket {
  /** Until it is first. Awaited once; fails if the queue is full or unavailable. */
  readonly wait: Effect.Effect<void, SessionsUnavailable>
  /** Gives up the turn, or the place; may be called more than once. */
  readonly release: () => void
}

/** The order of turns, which another process may keep. */
export interface TurnOrder {
  /** A place in the queue of a conversation. */
  readonly turn: (id: string) => TurnTicket
  /** Since when it has been in use, in milliseconds since the epoch; `undefined` if it is free. */
  readonly heldSince: (id: string) => Effect.Effect<number | undefined, SessionsUnavailable>
}

export interface TurnQueue {
  /** A place in the queue of a conversation. */
  readonly turn: (id: string) => TurnTicket
  /** Whether a call has its turn. */
  readonly isHeld: (id: string) => boolean
  /** Since when it has been in use, in the time of `now`; `undefined` if it is free. */
  readonly heldSince: (id: string) => number | undefined
}

/** One queue for each conversation of this process. Idle conversations take no memory. */
export const make = (now: () => number = () => 0): TurnQueue => {
  /** The first of each queue has the turn. */
  const lines = new Map<string, { readonly since: number; readonly grants: Array<() => void> }>()

  const turn = (id: string): TurnTicket => {
    let granted = false
    let notify: (() => void) | undefined
    const grant = (): void => {
      granted = true
      notify?.()
    }
    const line = lines.get(id)?.grants
    if (line === undefined) {
      lines.set(id, { since: now(), grants: [grant] })
      granted = true
    } else if (line.length > maxWaiting) {
      const reason = `${maxWaiting} calls wait for their turn in it already`
      return { wait: Effect.fail(new SessionsUnavailable({ reason })), release: () => {} }
    } else {
      line.push(grant)
    }
    return {
      wait: Effect.async((resume) => {
        notify = () => resume(Effect.void)
        if (granted) notify()
      }),
      release: () => {
        const line = lines.get(id)?.grants
        const at = line?.indexOf(grant) ?? -1
        if (line === undefined || at < 0) return
        line.splice(at, 1)
        if (line.length === 0) lines.delete(id)
        else if (at === 0) line[0]?.()
      }
    }
  }

  return { turn, isHeld: (id) => lines.has(id), heldSince: (id) => lines.get(id)?.since }
}

/** The order that a queue of this process makes. */
export const orderOf = ({ heldSince, turn }: TurnQueue): TurnOrder => ({
  turn,
  heldSince: (id) => Effect.sync(() => heldSince(id))
})

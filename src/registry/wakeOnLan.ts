/**
 * Wakes machines that sleep: a magic packet, again every few seconds, until the server answers or no caller waits any
 * more. Calls that wait for the same machine share the packets and the probes.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Runtime from "effect/Runtime"
import type { Service as Fleet } from "../Fleet.js"
import type { Host, Server } from "../Server.js"
import * as Wake from "../server/wake.js"
import type { ModelLists } from "./modelLists.js"

/** Sends a datagram; fails with the reason in words. */
export type SendDatagram = (packet: Uint8Array, host: string, port: number) => Effect.Effect<void, string>

/** Default: none, because there are no datagrams; nothing is woken. */
export class Datagrams extends Context.Reference<Datagrams>()("aicortex/Registry/Datagrams", {
  defaultValue: (): SendDatagram | undefined => undefined
}) {}

/** How often the packet is sent again, in milliseconds: one may be lost, and a machine may be on its way to sleep. */
const resendInterval = 5_000

/** Pauses between probes, in milliseconds: they double from the first to the longest. */
const firstPause = 250
const longestPause = 2_000

/** The callers that wait for a machine. */
export interface Waiter {
  /** It answers. */
  readonly woken: () => void
  /** No packet can be sent, for this reason. */
  readonly failed: (reason: string) => void
}

export interface Waker {
  /** Waits for a server, and returns what ends the wait; the first to do so has it woken. */
  readonly wait: (server: Server, waiter: Waiter) => () => void
}

/** `probe` asks a server, and whether it has answered. */
export const make = Effect.fnUntraced(function* (probe: (url: string) => Effect.Effect<boolean>) {
  const send = yield* Datagrams
  if (send === undefined) return undefined
  const scope = yield* Effect.scope
  const runFork = Runtime.runFork(yield* Effect.runtime<never>())
  const machines = new Map<string, Set<Waiter>>()

  const follow = Effect.fnUntraced(function* ({ url, wake }: Server, waiters: ReadonlySet<Waiter>) {
    let sentAt = Number.NEGATIVE_INFINITY
    let pause = firstPause
    let problem: string | undefined
    while (waiters.size > 0) {
      const now = yield* Clock.currentTimeMillis
      if (wake !== undefined && now - sentAt >= resendInterval) {
        sentAt = now
        const sent = yield* Effect.either(send(Wake.packetOf(wake), wake.host, wake.port))
        problem = Either.isLeft(sent) ? sent.left : undefined
      }
      if (yield* probe(url)) {
        // Later callers find it awake.
        machines.delete(url)
        for (const { woken } of [...waiters]) woken()
        return
      }
      if (problem !== undefined) {
        machines.delete(url)
        for (const { failed } of [...waiters]) failed(problem)
        return
      }
      yield* Effect.sleep(pause)
      pause = Math.min(longestPause, pause * 2)
    }
  })

  const waker: Waker = {
    wait: (server, waiter) => {
      const { url } = server
      const known = machines.get(url)
      const waiters = known ?? new Set<Waiter>()
      waiters.add(waiter)
      if (known === undefined) {
        machines.set(url, waiters)
        const end = Effect.sync(() => {
          if (machines.get(url) === waiters) machines.delete(url)
        })
        runFork(Effect.ensuring(follow(server, waiters), end), { scope })
      }
      return () => {
        waiters.delete(waiter)
      }
    }
  }
  return waker
})

/** What wakes machines, for calls. */
export interface Waking {
  /** Whether the machine of a server is known to be off, can be woken (`wake`), and may have the model. */
  readonly asleep: (host: Host) => boolean
  /**
   * Has the machine of a server woken, and calls `woken` when it answers, or `failed` if no packet can be sent. Returns
   * what ends the wait; without anyone who waits, no packet is sent.
   */
  readonly wake: (host: Host, waiter: Waiter) => () => void
}

/** What wakes the machines of a fleet's servers. */
export const makeWaking = (
  waker: Waker | undefined,
  lists: Pick<ModelLists, "isAsleep">,
  fleet: Pick<Fleet, "probed">
): Waking => ({
  asleep: ({ model, server }) => waker !== undefined && server.wake !== undefined && lists.isAsleep(server.url, model),
  wake: ({ server }, { failed, woken }) => {
    if (waker === undefined) {
      queueMicrotask(() => failed("there are no datagrams here"))
      return () => {}
    }
    return waker.wait(server, {
      failed,
      woken: () => {
        fleet.probed(server.url, true)
        woken()
      }
    })
  }
})

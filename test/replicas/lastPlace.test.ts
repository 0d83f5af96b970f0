/** How soon the others know that the last place of a server is taken. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest"
import * as Fleet from "../../src/Fleet.js"
import { CurrentReplicaLink } from "../../src/fleet/replicas.js"
import * as ReplicaGroup from "../../src/gateway/replicas/ReplicaGroup.js"
import * as Server from "../../src/Server.js"
import * as Settings from "../../src/Settings.js"
import type * as Store from "../../src/Store.js"

/** How long a message is on its way, in milliseconds. */
const travel = 2

/** A channel that all have in common. */
const makeChannel = () => {
  const listeners = new Set<(text: string) => void>()
  let sent = 0
  const messages: Store.Messages = {
    send: (text) =>
      Effect.sync(() => {
        sent++
        setTimeout(() => {
          for (const hear of listeners) hear(text)
        }, travel)
      }),
    listen: (hear) =>
      Effect.async(() => {
        listeners.add(hear)
        return Effect.sync(() => listeners.delete(hear))
      }),
    dropSilent: () => {}
  }
  return { messages, sent: () => sent }
}

describe("the last slot of a server", () => {
  beforeEach(() => {
    vi.useFakeTimers()
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  const start = async (count: number, maxInFlight: number) => {
    const channel = makeChannel()
    const scope = Effect.runSync(Scope.make())
    const server = { ...Server.embedded, url: "http://a", maxInFlight }
    const hosts: ReadonlyArray<Server.Host> = [
      { server, protocol: "openai", model: "m", certain: true, performance: undefined }
    ]
    const processes = Array.from({ length: count }, () => {
      const counter = new Fleet.RemoteTokenCounter()
      let group: ReplicaGroup.ReplicaGroup | undefined
      Effect.runFork(
        Scope.extend(
          ReplicaGroup.make(channel.messages, counter, () => {}),
          scope
        ).pipe(
          Effect.map((made) => {
            group = made
          })
        )
      )
      if (group === undefined) throw new Error("it is made at once")
      const fleet = Effect.runSync(
        Fleet.make.pipe(
          Effect.provideService(Settings.CurrentSettings, Settings.empty),
          Effect.provideService(CurrentReplicaLink, group)
        )
      )
      const pool = fleet.pool(hosts, () => 0)
      return {
        take: () => fleet.lease(pool, 0),
        elsewhere: () => fleet.snapshot("http://a", "m").inFlightElsewhere
      }
    })
    // They know each other.
    await vi.advanceTimersByTimeAsync(1_500)
    return { processes, channel, end: () => Effect.runPromise(Scope.close(scope, Exit.void)) }
  }

  it.each([1, 3])(
    "is known to the others as soon as a message arrives, also right after another (of %d)",
    async (places) => {
      const { end, processes } = await start(3, places)
      const [one, two, three] = processes
      // What is not urgent is told in batches.
      for (let taken = 1; taken < places; taken++) one?.take()
      await vi.advanceTimersByTimeAsync(60)
      for (let i = 0; i < 10; i++) {
        // The batch of a moment ago does not hold it up.
        if (i > 0) one?.take().cancel()
        await vi.advanceTimersByTimeAsync(i > 0 ? travel + 3 : 0)
        const lease = one?.take()
        await vi.advanceTimersByTimeAsync(travel + 3)
        expect([two?.elsewhere(), three?.elsewhere()]).toEqual([places, places])
        lease?.cancel()
        await vi.advanceTimersByTimeAsync(60)
        expect([two?.elsewhere(), three?.elsewhere()]).toEqual([places - 1, places - 1])
      }
      await end()
    }
  )

  it("other slots are announced in batches", async () => {
    const { channel, end, processes } = await start(2, 1_000)
    const [one] = processes
    const before = channel.sent()
    for (let i = 0; i < 100; i++) {
      one?.take()
      await vi.advanceTimersByTimeAsync(1)
    }
    // Those and the heartbeats.
    expect(channel.sent() - before).toBeLessThanOrEqual(6)
    await end()
  })
})

/** A server with many models: what a request costs does not depend on how many, and each model knows of the others. */

import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import { afterEach, describe, expect, it, vi } from "vitest"
import * as Fleet from "../../src/Fleet.js"
import { ModelState } from "../../src/fleet/state.js"
import { pick } from "../../src/router/pick.js"
import * as Server from "../../src/Server.js"
import * as Settings from "../../src/Settings.js"

afterEach(() => {
  vi.restoreAllMocks()
})

const server = Either.getOrThrow(Server.fromOptions({ url: "http://a:1", maxInFlight: 2 }, "the test"))

const hostsOf = (model: string, protocol: "ollama" | "openai"): ReadonlyArray<Server.Host> => [
  { server, protocol, model, certain: true, performance: undefined, digest: undefined }
]

const withFleet = <A>(use: (fleet: Fleet.Service) => A): Promise<A> =>
  Effect.runPromise(
    Effect.map(Fleet.Fleet, use).pipe(Effect.provide(Layer.provide(Fleet.layer, Settings.layer({ servers: [server] }))))
  )

const observation = { firstTokenTime: 1, tokensPerSecond: 1, keepAlive: 1 }

describe.each(["ollama", "openai"] as const)("a server with many models (%s)", (protocol) => {
  const columnsOf = (fleet: Fleet.Service, count: number) =>
    Array.from({ length: count }, (_, i) => fleet.pool(hostsOf(`m${i}`, protocol), () => 1))
  const choice = (columns: ReturnType<typeof columnsOf>[number] | undefined): number =>
    columns === undefined ? -9 : pick("random", columns, new Uint8Array(1), { now: Date.now(), random: Math.random })

  it("updates the state of one model per step of a request, for any number of models", async () => {
    const writes = await withFleet((fleet) =>
      [10, 5_000].map((count) => {
        const [first] = columnsOf(fleet, count)
        if (first === undefined) throw new Error("no columns")
        const written = vi.spyOn(ModelState.prototype, "writeSlot")
        const lease = fleet.lease(first, 0)
        lease.answered()
        lease.succeed(observation)
        const calls = written.mock.calls.length
        written.mockRestore()
        return calls
      })
    )
    expect(writes[0]).toBeGreaterThan(0)
    expect(writes[0]).toBeLessThan(10)
    expect(writes[1]).toBe(writes[0])
  })

  it("is full for all its models at once, and free again", async () => {
    await withFleet((fleet) => {
      const all = columnsOf(fleet, 50)
      const [one, other] = all
      if (one === undefined || other === undefined) throw new Error("no columns")
      for (const columns of all) expect(choice(columns)).toBe(0)
      const leases = [fleet.lease(one, 0), fleet.lease(other, 0)]
      for (const columns of all) expect(choice(columns)).toBeLessThan(0)
      leases[0]?.succeed(observation)
      for (const columns of all) expect(choice(columns)).toBe(0)
      for (let i = 0; i < 3_000; i++) fleet.lease(one, 0).cancel()
      const third = fleet.lease(one, 0)
      for (const columns of all) expect(choice(columns)).toBeLessThan(0)
      third.cancel()
      for (const columns of all) expect(choice(columns)).toBe(0)
    })
  })

  it("rests for all its models if it is unreachable", async () => {
    await withFleet((fleet) => {
      const all = columnsOf(fleet, 20)
      const [one] = all
      if (one === undefined) throw new Error("no columns")
      fleet.lease(one, 0).fail({ reason: "refused", message: "refused" })
      for (const columns of all) {
        columns.refresh(Date.now())
        expect(columns.restsUntil[0]).toBeGreaterThan(Date.now())
      }
    })
  })
})

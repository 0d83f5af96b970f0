/**
 * The library's own `Fleet` and `Router` as a policy of the simulation, on a virtual clock. Whatever changes in their
 * shape is followed in this file alone.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { Routing } from "../../src/ChatRequest.js"
import * as Fleet from "../../src/Fleet.js"
import * as Router from "../../src/Router.js"
import { fromOptions, type Host } from "../../src/Server.js"
import * as Settings from "../../src/Settings.js"
import { type Client, type Contender, deaf, type Failure, nobody, type Policy } from "./policy.js"
import { models } from "./world.js"

const virtualClock = (): Clock.Clock & { now: number } => {
  const real = Clock.make()
  return {
    ...real,
    now: 0,
    unsafeCurrentTimeMillis() {
      return this.now
    },
    unsafeCurrentTimeNanos() {
      return BigInt(Math.round(this.now * 1e6))
    }
  }
}

const reasons = {
  error: "server-error",
  refused: "refused",
  timeout: "first-token-timeout",
  stalled: "idle-timeout",
  cut: "cut"
} as const satisfies Record<Failure, string>

const make =
  (strategy: Routing) =>
  (client: Client): Policy => {
    const clock = virtualClock()
    const fleet = Effect.runSync(
      Fleet.make.pipe(Effect.provideService(Settings.CurrentSettings, Settings.empty), Effect.withClock(clock))
    )
    const hosts: ReadonlyArray<ReadonlyArray<Host>> = models.map(({ name }, model) =>
      [...client.hosts(model)].map((server) => ({
        server: Either.getOrThrow(fromOptions(`http://s${server}:11434`, "simulation")),
        protocol: "ollama",
        model: name,
        certain: true,
        performance: undefined
      }))
    )
    const indices = new Map<string, number>()
    hosts.forEach((list, model) => {
      list.forEach((host, at) => void indices.set(host.server.url, client.hosts(model)[at] as number))
    })
    interface Open {
      readonly lease: Fleet.Lease
      firstToken: number | undefined
    }
    const open = new Map<number, Open>()
    const circumstances = { location: undefined, random: () => client.random() }
    const at = (now: number) => {
      clock.now = 1_000_000 + now * 1_000
    }
    return {
      ...deaf,
      choose(request, now) {
        at(now)
        const found = hosts[request.model] as ReadonlyArray<Host>
        const order = Router.order(
          strategy,
          found.map((host) => ({ host, snapshot: fleet.snapshot(host.server.url, host.model) })),
          circumstances
        )
        let i = 0
        return {
          next() {
            const candidate = order[i++]
            return candidate === undefined ? nobody : (indices.get(candidate.host.server.url) as number)
          }
        }
      },
      start(server, request, now) {
        at(now)
        const name = models[request.model]?.name as string
        open.set(request.id, { lease: fleet.lease(`http://s${server}:11434`, name), firstToken: undefined })
      },
      firstToken(_server, request, time) {
        const entry = open.get(request.id)
        if (entry !== undefined) entry.firstToken = time * 1_000
      },
      end(_server, request, counters, now) {
        at(now)
        const entry = open.get(request.id)
        open.delete(request.id)
        entry?.lease.succeed({ firstTokenTime: entry.firstToken, tokensPerSecond: counters.tokensPerSecond })
      },
      failed(_server, request, failure, now) {
        at(now)
        const entry = open.get(request.id)
        open.delete(request.id)
        entry?.lease.fail({ reason: reasons[failure], message: failure })
      },
      cancelled(_server, request, now) {
        at(now)
        open.get(request.id)?.lease.cancel()
        open.delete(request.id)
      }
    }
  }

const contender = (strategy: Routing): Contender => ({
  name: `router:${strategy}`,
  about: `the library's Router and Fleet, strategy ${strategy}`,
  attempts: Number.POSITIVE_INFINITY,
  // Orders all candidates anew for each request.
  limit: 1_000,
  make: make(strategy)
})

export const routers: ReadonlyArray<Contender> = [contender("random"), contender("fastest")]

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
import { type Client, type Contender, deaf, type Failure, nobody, type Policy, queue, type Request } from "./policy.js"
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

const url = (server: number): string => `http://s${server}:11434`

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
    const now = () => clock.now
    const fleet = Effect.runSync(
      Fleet.make.pipe(Effect.provideService(Settings.CurrentSettings, Settings.empty), Effect.withClock(clock))
    )
    const pools = models.map(({ name }, model) => {
      const hosts: ReadonlyArray<Host> = [...client.hosts(model)].map((server) => ({
        server: Either.getOrThrow(fromOptions(url(server), "simulation")),
        protocol: "ollama",
        model: name,
        certain: true,
        performance: undefined
      }))
      return fleet.pool(hosts, () => Number.NaN)
    })
    interface Open {
      readonly lease: Fleet.Lease
      firstToken: number | undefined
    }
    const open = new Map<number, Open>()
    /** Places that were given to requests which waited, until they begin. */
    const granted = new Map<number, Fleet.Lease>()
    const waiting = new Map<number, () => void>()
    const lastServers = new Map<number, number>()
    const at = (time: number) => {
      clock.now = 1_000_000 + time * 1_000
    }
    const indexIn = (request: Request, server: number) => client.hosts(request.model).indexOf(server)
    const finish = (request: Request): Open | undefined => {
      const entry = open.get(request.id)
      open.delete(request.id)
      return entry
    }
    return {
      ...deaf,
      choose(request, time) {
        at(time)
        const pool = pools[request.model]
        if (pool === undefined) return { next: () => nobody }
        const last = lastServers.get(request.session)
        const affinity = last === undefined ? -1 : indexIn(request, last)
        const route = Router.makeRoute(pool, strategy, () => client.random(), now, affinity < 0 ? undefined : affinity)
        const serverAt = (index: number) => client.hosts(request.model)[index] ?? nobody
        let given: number | undefined
        return {
          next(time) {
            at(time)
            if (given !== undefined) {
              const server = serverAt(given)
              given = undefined
              return server
            }
            const next = route.next()
            if (next >= 0) return serverAt(next)
            if (next === Router.none) return nobody
            const ticket = fleet.queue(pool, route.tried, (index) => {
              waiting.delete(request.id)
              if (index !== undefined) {
                route.tried[index] = 1
                given = index
                granted.set(request.id, fleet.lease(pool, index))
              }
              client.wake(request.id)
            })
            if (!("leave" in ticket)) return nobody
            waiting.set(request.id, ticket.leave)
            return queue
          }
        }
      },
      start(server, request, time) {
        at(time)
        const pool = pools[request.model]
        if (pool === undefined) return
        const lease = granted.get(request.id) ?? fleet.lease(pool, indexIn(request, server))
        granted.delete(request.id)
        open.set(request.id, { lease, firstToken: undefined })
      },
      firstToken(_server, request, took, time) {
        at(time)
        const entry = open.get(request.id)
        if (entry === undefined) return
        entry.firstToken = took * 1_000
        entry.lease.answered()
      },
      end(server, request, counters, time) {
        at(time)
        if (request.session >= 0) lastServers.set(request.session, server)
        const entry = finish(request)
        entry?.lease.succeed({
          firstTokenTime: entry.firstToken,
          tokensPerSecond: counters.tokensPerSecond,
          keepAlive: Fleet.defaultKeepAlive
        })
      },
      failed(_server, request, failure, time) {
        at(time)
        finish(request)?.lease.fail({ reason: reasons[failure], message: failure })
      },
      cancelled(_server, request, time) {
        at(time)
        finish(request)?.lease.cancel()
      },
      gone(request, time) {
        at(time)
        waiting.get(request.id)?.()
        waiting.delete(request.id)
        granted.get(request.id)?.cancel()
        granted.delete(request.id)
      },
      ps(server, loaded, time) {
        at(time)
        const until = clock.now + Fleet.defaultKeepAlive
        fleet.resident(url(server), new Map(loaded.map((model) => [models[model]?.name ?? "", until])))
      }
    }
  }

const contender = (strategy: Routing): Contender => ({
  name: `router:${strategy}`,
  about: `the library's Router and Fleet, strategy ${strategy}`,
  attempts: Number.POSITIVE_INFINITY,
  make: make(strategy)
})

export const routers: ReadonlyArray<Contender> = [
  contender("random"),
  contender("fastest"),
  contender("least-busy"),
  contender("warm")
]

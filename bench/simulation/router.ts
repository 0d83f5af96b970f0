/**
 * The library's own `Fleet` and `Router` as a policy of the simulation, on a virtual clock. Whatever changes in their
 * shape is followed in this file alone.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Scheduler from "effect/Scheduler"
import type { Routing } from "../../src/ChatRequest.js"
import * as Fleet from "../../src/Fleet.js"
import * as Router from "../../src/Router.js"
import * as ConversationKey from "../../src/router/conversationKey.js"
import { fromOptions, type Host } from "../../src/Server.js"
import * as Settings from "../../src/Settings.js"
import { type Client, type Contender, deaf, type Failure, nobody, type Policy, queue, type Request } from "./policy.js"
import { models } from "./world.js"

/** Whoever sleeps on it is woken by `ring`, once the time has come. */
const virtualClock = () => {
  const sleepers: Array<{ readonly until: number; readonly wake: () => void }> = []
  const clock = {
    ...Clock.make(),
    now: 0,
    unsafeCurrentTimeMillis() {
      return clock.now
    },
    unsafeCurrentTimeNanos() {
      return BigInt(Math.round(clock.now * 1e6))
    },
    sleep: (duration: Duration.Duration) =>
      Effect.async<void>((resume) => {
        const sleeper = { until: clock.now + Duration.toMillis(duration), wake: () => resume(Effect.void) }
        sleepers.push(sleeper)
        return Effect.sync(() => {
          const at = sleepers.indexOf(sleeper)
          if (at >= 0) sleepers.splice(at, 1)
        })
      }),
    ring() {
      for (const sleeper of sleepers.filter(({ until }) => until <= clock.now)) {
        sleepers.splice(sleepers.indexOf(sleeper), 1)
        sleeper.wake()
      }
    }
  }
  return clock
}

/** Runs fibers at once: in virtual time nothing happens later. */
const atOnce = Scheduler.make((task) => task())

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
      Fleet.make.pipe(
        Effect.provideService(Settings.CurrentSettings, Settings.empty),
        Effect.withClock(clock),
        Effect.withScheduler(atOnce)
      )
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
    const routes = new Map<number, Router.Route>()
    /** Places that were given to requests which waited, until they begin. */
    const granted = new Map<number, Fleet.Lease>()
    const waiting = new Map<number, () => void>()
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
        const conversation = () => (request.session < 0 ? undefined : ConversationKey.named(String(request.session)))
        const tokens = () => request.prompt
        const route = new Router.RoutePlan(pool, strategy, fleet, client.random, now, { conversation, tokens })
        routes.set(request.id, route)
        let given: number | undefined
        const server = (index: number): number => {
          if (index < 0) return nobody
          granted.set(request.id, route.lease(index))
          return client.hosts(request.model)[index] ?? nobody
        }
        return {
          next(time) {
            at(time)
            if (given !== undefined) {
              const server = given
              given = undefined
              return server
            }
            const next = route.next()
            if (next !== Router.waitForSlot) return server(next)
            const ticket = route.queue(
              (index) => {
                waiting.delete(request.id)
                given = server(index)
                client.wake(request.id)
              },
              () => {}
            )
            if (!("leave" in ticket)) return nobody
            waiting.set(request.id, ticket.leave)
            return queue
          }
        }
      },
      start(server, request, time) {
        at(time)
        const lease = granted.get(request.id) ?? routes.get(request.id)?.lease(indexIn(request, server))
        granted.delete(request.id)
        if (lease !== undefined) open.set(request.id, { lease, firstToken: undefined })
      },
      firstToken(_server, request, took, time) {
        at(time)
        const entry = open.get(request.id)
        if (entry === undefined) return
        entry.firstToken = took * 1_000
        entry.lease.answered()
      },
      end(_server, request, counters, time) {
        at(time)
        const entry = finish(request)
        routes.delete(request.id)
        entry?.lease.succeed({
          firstTokenTime: entry.firstToken,
          tokensPerSecond: counters.tokensPerSecond,
          keepAlive: Fleet.defaultKeepAlive,
          // Ollama counts what was in its cache too.
          promptTokens: request.prompt,
          completionTokens: counters.tokens,
          promptTime: counters.promptTime * 1_000,
          loadTime: counters.loadTime * 1_000
        })
      },
      failed(_server, request, failure, time) {
        at(time)
        finish(request)?.lease.fail({ reason: reasons[failure], message: failure })
      },
      cancelled(_server, request, time) {
        at(time)
        finish(request)?.lease.cancel()
        routes.delete(request.id)
      },
      gone(request, time) {
        at(time)
        waiting.get(request.id)?.()
        waiting.delete(request.id)
        granted.get(request.id)?.cancel()
        granted.delete(request.id)
        routes.delete(request.id)
      },
      ps(server, loaded, time) {
        at(time)
        const until = clock.now + Fleet.defaultKeepAlive
        fleet.resident(url(server), new Map(loaded.map((model) => [models[model]?.name ?? "", until])))
      },
      tick(time) {
        at(time)
        clock.ring()
      }
    }
  }

const contender = (strategy: Routing): Contender => ({
  name: `router:${strategy}`,
  about: `the library's Router and Fleet, strategy ${strategy}`,
  attempts: Number.POSITIVE_INFINITY,
  make: make(strategy)
})

export const leastBusy = contender("least-busy")
export const warm = contender("warm")

export const routers: ReadonlyArray<Contender> = [contender("random"), contender("fastest"), leastBusy, warm]

/** What others do, and what nobody can do: plain balancers, and an oracle. */
import { type Client, type Contender, deaf, nobody, type Pick, type Policy, queue } from "./policy.js"

/** How often a plain balancer tries: nginx, LiteLLM and the like are usually run with two or three. */
const attempts = 3

/** Picks among those not yet tried; `choose` gets positions in `hosts`. */
const untried = (hosts: Int32Array, choose: (tried: ReadonlyArray<number>) => number): Pick => {
  const tried: Array<number> = []
  return {
    next() {
      if (tried.length >= hosts.length) return nobody
      const server = choose(tried)
      tried.push(server)
      return server
    }
  }
}

const anyOf = (hosts: Int32Array, tried: ReadonlyArray<number>, random: () => number): number => {
  for (;;) {
    const server = hosts[Math.floor(random() * hosts.length)] as number
    if (!tried.includes(server)) return server
  }
}

/** In-flight counts of one client, kept up to date. */
const counting = (client: Client, choose: (inFlight: Int32Array) => Policy["choose"]): Policy => {
  const inFlight = new Int32Array(client.servers)
  const release = (server: number) => {
    inFlight[server] = (inFlight[server] as number) - 1
  }
  return {
    ...deaf,
    choose: choose(inFlight),
    start(server) {
      inFlight[server] = (inFlight[server] as number) + 1
    },
    end: release,
    failed: release,
    cancelled: release
  }
}

export const random: Contender = {
  name: "random",
  about: "any server that has the model",
  attempts,
  make: (client) => ({
    ...deaf,
    choose: ({ model }) => {
      const hosts = client.hosts(model)
      return untried(hosts, (tried) => anyOf(hosts, tried, client.random))
    }
  })
}

export const roundRobin: Contender = {
  name: "round-robin",
  about: "one after the other, per model",
  attempts,
  make: (client) => {
    const turn = new Int32Array(client.models)
    return {
      ...deaf,
      choose: ({ model }) => {
        const hosts = client.hosts(model)
        return untried(hosts, () => {
          const at = turn[model] as number
          turn[model] = (at + 1) % hosts.length
          return hosts[at] as number
        })
      }
    }
  }
}

export const leastConnections: Contender = {
  name: "least-conn",
  about: "fewest requests in flight",
  attempts,
  make: (client) =>
    counting(client, (inFlight) => ({ model }) => {
      const hosts = client.hosts(model)
      return untried(hosts, (tried) => {
        let best = -1
        let least = Number.POSITIVE_INFINITY
        let ties = 0
        for (const server of hosts) {
          const count = inFlight[server] as number
          if (count > least || tried.includes(server)) continue
          if (count < least) ties = 0
          ties++
          if (count < least || client.random() * ties < 1) best = server
          least = count
        }
        return best
      })
    })
}

export const twoChoices: Contender = {
  name: "p2c",
  about: "the one of two random servers with fewer in flight",
  attempts,
  make: (client) =>
    counting(client, (inFlight) => ({ model }) => {
      const hosts = client.hosts(model)
      return untried(hosts, (tried) => {
        const a = anyOf(hosts, tried, client.random)
        if (tried.length + 1 >= hosts.length) return a
        const b = anyOf(hosts, tried, client.random)
        return (inFlight[b] as number) < (inFlight[a] as number) ? b : a
      })
    })
}

/**
 * A load serves those who come later, too: the oracle counts so much of its time. (With 1 it is merely selfish, and
 * beaten by far where nothing is loaded yet; with much less, small fleets load more than they answer.)
 */
const investment = 0.5

/** How many servers the oracle looks at in a large fleet. */
const oracleSample = 200

export const oracle: Contender = {
  name: "oracle",
  about: "knows every queue, load and outage; takes the earliest first token",
  attempts: Number.POSITIVE_INFINITY,
  make: (client, truth) => {
    const waiting = new Set<number>()
    return {
      ...deaf,
      choose: (request) => {
        const hosts = client.hosts(request.model)
        return {
          next() {
            let best = -1
            let least = Number.POSITIVE_INFINITY
            const all = hosts.length <= 1_000
            const count = all ? hosts.length : oracleSample
            for (let i = 0; i < count; i++) {
              const server = hosts[all ? i : Math.floor(client.random() * hosts.length)] as number
              const factor = truth.holds(server, request.model) ? 1 : investment
              const time = truth.predict(server, request, least / factor) * factor
              if (time < least) {
                least = time
                best = server
              }
            }
            if (best >= 0) return best
            // All are out of order: waits until one is not.
            waiting.add(request.id)
            return queue
          }
        }
      },
      gone: ({ id }) => void waiting.delete(id),
      tick() {
        for (const id of waiting) client.wake(id)
        waiting.clear()
      }
    }
  }
}

/**
 * `ours`: a prototype in plain code of least-busy with warm preference, session affinity, breaker, learned caps, a
 * central queue per model and coalesced cold loads. Each rule can be switched off, to see what it buys.
 */
import { type Client, type Contender, type Pick, type Policy, queue, type Request } from "./policy.js"

export interface Rules {
  /** A model in memory comes before one that must be loaded. */
  readonly warm: boolean
  /** Servers compared per decision: all, or so many drawn at random. */
  readonly choices: number
  /**
   * What is compared. `prompt`: the prompt's length over the server's measured prompt speed, slowed down by what is in
   * flight. `peak`: peak-EWMA of the time to the first token, times in flight + 1.
   */
  readonly estimate: "prompt" | "peak"
  /** Servers whose estimate is within this factor of the best, plus `slackTime` seconds, are as good: one by chance. */
  readonly slack: number
  readonly slackTime: number
  /** How much each request in flight on a server is expected to slow down a prompt there. */
  readonly crowding: number
  /** The conversation's last server: never preferred; preferred within a bound on its load; by its cached prompt. */
  readonly affinity: "none" | "bounded" | "cost"
  /** A conversation's cached prompt is taken to be lost when the server has begun as many requests since as it has slots. */
  readonly slots: boolean
  /** Seconds that a server rests after a failure; 0: never. */
  readonly rest: number
  /** Each failed probe multiplies the rest by this, up to `longestRest`. */
  readonly backoff: number
  readonly longestRest: number
  /** A timeout opens no breaker where others got their first token since the attempt began: the server is only busy. */
  readonly alive: boolean
  /** Requests at once per server and model, before anything is known. */
  readonly cap: number
  /** Lower the cap where requests were seen to wait for a slot, raise it where none did. */
  readonly learnCap: boolean
  /** Hold requests here while all warm slots are busy; else they go to the least busy server and wait there. */
  readonly queue: boolean
  /** One load of a model at a time, unless the queue justifies another. */
  readonly coalesce: boolean
  /** So many held requests justify each load under way. */
  readonly perLoad: number
  /** A further copy is loaded when the wait in the queue is expected to be longer than so many loads. */
  readonly patience: number
  /** The same, where the server is at work, or one of its other models was used within `warmth` seconds. */
  readonly harm: number
  readonly warmth: number
  /** No further copy where it may push out a model that is waited for: else two models take it in turns to load. */
  readonly truce: boolean
}

export const rules: Rules = {
  warm: true,
  choices: Number.POSITIVE_INFINITY,
  estimate: "prompt",
  slack: 1.25,
  slackTime: 0,
  crowding: 1,
  affinity: "cost",
  slots: true,
  rest: 60,
  backoff: 2,
  longestRest: 600,
  alive: true,
  cap: 4,
  learnCap: true,
  queue: true,
  coalesce: true,
  perLoad: 2,
  patience: 0.5,
  harm: 2,
  warmth: 15,
  truce: true
}

/** Of each new observation in an average. */
const alpha = 0.3

/** Seconds, until a load has been seen. */
const typicalLoad = 15

/** Prompt tokens per second, until any have been seen. */
const typicalRate = 1_000

/** Seconds in which a peak of the time to the first token decays. */
const peakDecay = 15

const cold = 0
const loading = 1
const warm = 2

/** What is known of the servers of one model; the columns are by position in `hosts`. */
interface Pool {
  readonly hosts: Int32Array
  readonly inFlight: Int16Array
  readonly state: Uint8Array
  readonly cap: Int16Array
  readonly rate: Float64Array
  readonly peak: Float64Array
  readonly peakAt: Float64Array
  readonly loadSince: Float64Array
  readonly used: Float64Array
  /** Requests begun here. */
  readonly begun: Float64Array
  meanRate: number
  meanPeak: number
  meanService: number
  meanLoad: number
  warmCount: number
  loadingCount: number
  queue: Array<Request>
}

interface Open {
  readonly position: number
  readonly started: number
  readonly beside: number
  readonly probe: boolean
}

const average = (old: number, value: number): number => (old === 0 ? value : old + alpha * (value - old))

export const prototype =
  (rules: Rules) =>
  (client: Client): Policy => {
    const count = client.servers
    const inFlight = new Int32Array(count)
    const restsUntil = new Float64Array(count)
    const strikes = new Uint8Array(count)
    const probing = new Uint8Array(count)
    const positions: Array<Int32Array> = []
    const pools: Array<Pool> = []
    for (let model = 0; model < client.models; model++) {
      const hosts = client.hosts(model)
      const at = new Int32Array(count).fill(-1)
      hosts.forEach((server, position) => {
        at[server] = position
      })
      positions.push(at)
      const column = () => new Float64Array(hosts.length)
      pools.push({
        hosts,
        inFlight: new Int16Array(hosts.length),
        state: new Uint8Array(hosts.length),
        cap: new Int16Array(hosts.length).fill(rules.cap),
        rate: column(),
        peak: column(),
        peakAt: column(),
        loadSince: column(),
        used: column().fill(-1_000),
        begun: column(),
        meanRate: 0,
        meanPeak: 0,
        meanService: 0,
        meanLoad: typicalLoad,
        warmCount: 0,
        loadingCount: 0,
        queue: []
      })
    }
    const open = new Map<number, Open>()
    const values = new Float64Array(count)
    const sessions = new Map<number, { readonly server: number; readonly tokens: number; readonly mark: number }>()
    /** When each server last began an answer. */
    const progress = new Float64Array(count).fill(-1)

    const setState = (pool: Pool, position: number, state: number) => {
      const old = pool.state[position] as number
      if (old === state) return
      if (old === warm) pool.warmCount--
      if (old === loading) pool.loadingCount--
      if (state === warm) pool.warmCount++
      if (state === loading) pool.loadingCount++
      pool.state[position] = state
    }

    /** Closed, or rested and not being probed. */
    const usable = (server: number, now: number): boolean => {
      const until = restsUntil[server] as number
      return until === 0 || (until <= now && probing[server] === 0)
    }

    const rateOf = (pool: Pool, position: number): number => {
      const rate = pool.rate[position] as number
      if (rate > 0) return rate
      return pool.meanRate > 0 ? pool.meanRate : typicalRate
    }

    const estimate = (pool: Pool, position: number, tokens: number, now: number): number => {
      const server = pool.hosts[position] as number
      const busy = inFlight[server] as number
      if (rules.estimate === "prompt") return (tokens / rateOf(pool, position)) * (1 + rules.crowding * busy)
      const peak = pool.peak[position] as number
      const mean = pool.meanPeak
      const decayed =
        peak === 0 ? mean : mean + (peak - mean) * Math.exp(-(now - (pool.peakAt[position] as number)) / peakDecay)
      return Math.max(1e-3, decayed) * (busy + 1)
    }

    const free = (pool: Pool, position: number): boolean =>
      (pool.inFlight[position] as number) < (pool.cap[position] as number)

    /** The position with the least score, among all or among some drawn at random; -1 where none is eligible. */
    const least = (
      pool: Pool,
      eligible: (position: number) => boolean,
      score: (position: number) => number,
      choices: number
    ): number => {
      let best = -1
      let lowest = Number.POSITIVE_INFINITY
      if (choices >= pool.hosts.length) {
        for (let position = 0; position < pool.hosts.length; position++) {
          if (!eligible(position)) continue
          const value = score(position)
          values[position] = value
          if (value < lowest) {
            lowest = value
            best = position
          }
        }
        if (best < 0 || (rules.slack === 1 && rules.slackTime === 0)) return best
        const bound = lowest * rules.slack + rules.slackTime
        let ties = 0
        for (let position = 0; position < pool.hosts.length; position++) {
          if ((values[position] as number) > bound || !eligible(position)) continue
          ties++
          if (client.random() * ties < 1) best = position
        }
        return best
      }
      const some: Array<number> = []
      for (let position = 0; position < pool.hosts.length; position++) if (eligible(position)) some.push(position)
      for (let i = 0; i < Math.min(choices, some.length); i++) {
        const j = i + Math.floor(client.random() * (some.length - i))
        const position = some[j] as number
        some[j] = some[i] as number
        some[i] = position
        const value = score(position)
        if (value < lowest) {
          lowest = value
          best = position
        }
      }
      return best
    }

    /** What a load there may cost others: nothing (0), a model in use (1), one that others wait for (2). */
    const harmOf = (server: number, model: number, now: number): number => {
      let harm = (inFlight[server] as number) > 0 ? 1 : 0
      for (let other = 0; other < pools.length; other++) {
        const at = positions[other]?.[server] as number
        const pool = pools[other] as Pool
        if (other === model || at < 0) continue
        if (now - (pool.used[at] as number) < rules.warmth) harm = 1
        if (rules.truce && pool.queue.length > 0 && pool.state[at] !== cold) return 2
      }
      return harm
    }

    /** Where to load: idle servers first, those that lose nothing by it, the fast ones. */
    const coldScore = (pool: Pool, position: number, request: Request, now: number): number => {
      const server = pool.hosts[position] as number
      const idle = (pool.meanLoad + estimate(pool, position, request.prompt, now)) * (1 + (inFlight[server] as number))
      return idle + harmOf(server, request.model, now) * pool.meanLoad + client.random() * 0.01
    }

    /** The server's position for this request, or -1: it waits. */
    const select = (pool: Pool, request: Request, now: number, tried: ReadonlyArray<number>): number => {
      const able = (position: number): boolean => {
        const server = pool.hosts[position] as number
        return usable(server, now) && !tried.includes(server)
      }
      const ready = (position: number): boolean =>
        (!rules.warm || pool.state[position] === warm) && free(pool, position) && able(position)
      let last = -1
      let cached = 0
      if (rules.affinity !== "none" && request.session >= 0) {
        const session = sessions.get(request.session)
        if (session !== undefined) {
          last = positions[request.model]?.[session.server] as number
          cached = Math.min(session.tokens, request.prompt - 1)
          if (rules.slots && last >= 0) {
            const since = (pool.begun[last] as number) - session.mark
            if (since >= (pool.cap[last] as number)) cached = 0
          }
        }
      }
      if (rules.affinity === "bounded" && last >= 0 && ready(last)) {
        let sum = 0
        for (const busy of pool.inFlight) sum += busy
        if ((pool.inFlight[last] as number) <= 1.25 * (sum / Math.max(1, pool.warmCount)) + 1) return last
      }
      const score = (position: number) => estimate(pool, position, request.prompt, now)
      let best = least(pool, ready, score, rules.choices)
      if (rules.affinity === "cost" && last >= 0 && last !== best && ready(last)) {
        const here = estimate(pool, last, request.prompt - cached, now)
        if (best < 0 || here <= score(best)) best = last
      }
      if (best >= 0) return best
      const coldest = (harm: number): number =>
        least(
          pool,
          (position) =>
            pool.state[position] === cold &&
            able(position) &&
            (harm >= 2 || harmOf(pool.hosts[position] as number, request.model, now) <= harm),
          (position) => coldScore(pool, position, request, now),
          Number.POSITIVE_INFINITY
        )
      if (!rules.queue) {
        // To the least busy one in memory, whatever its cap; to a cold one if that has too many.
        const crowded = least(
          pool,
          (position) => (!rules.warm || pool.state[position] !== cold) && able(position),
          (position) => (pool.inFlight[position] as number) + score(position) * 1e-3,
          Number.POSITIVE_INFINITY
        )
        if (crowded >= 0 && (pool.inFlight[crowded] as number) < rules.cap + rules.perLoad) return crowded
        const load = coldest(2)
        return load >= 0 ? load : crowded
      }
      // A load that takes far longer than usual counts no more.
      let loads = 0
      let slots = 0
      for (let position = 0; position < pool.hosts.length; position++) {
        const state = pool.state[position] as number
        if (state === loading && now - (pool.loadSince[position] as number) < 2 * pool.meanLoad) loads++
        if (state === warm && usable(pool.hosts[position] as number, now)) slots += pool.inFlight[position] as number
      }
      const ahead = pool.queue.length + 1
      if (rules.coalesce) {
        if (slots === 0) {
          if (loads > 0 && ahead <= loads * rules.perLoad) return -1
        } else {
          const wait = (ahead * (pool.meanService > 0 ? pool.meanService : 5)) / slots
          if (wait < pool.meanLoad * rules.patience || ahead <= loads * rules.perLoad) return -1
          if (wait < pool.meanLoad * rules.harm) return coldest(0)
        }
        if (slots > 0 || loads > 0) return coldest(1)
      }
      const start = coldest(2)
      if (start >= 0 || loads > 0 || slots > 0) return start
      // All of them rest: the one that has rested longest is tried now.
      return least(
        pool,
        (position) => {
          const server = pool.hosts[position] as number
          return probing[server] === 0 && !tried.includes(server)
        },
        (position) => restsUntil[pool.hosts[position] as number] as number,
        Number.POSITIVE_INFINITY
      )
    }

    const enqueue = (pool: Pool, request: Request, front: boolean): number => {
      if (front) pool.queue.unshift(request)
      else pool.queue.push(request)
      return queue
    }

    const wakeNext = (pool: Pool): void => {
      const next = pool.queue.shift()
      if (next !== undefined) client.wake(next.id)
    }

    const release = (server: number, request: Request): Open | undefined => {
      const entry = open.get(request.id)
      if (entry === undefined) return undefined
      open.delete(request.id)
      const pool = pools[request.model] as Pool
      inFlight[server] = (inFlight[server] as number) - 1
      pool.inFlight[entry.position] = (pool.inFlight[entry.position] as number) - 1
      if (entry.probe) probing[server] = 0
      return entry
    }

    return {
      choose(request): Pick {
        const pool = pools[request.model] as Pool
        const tried: Array<number> = []
        let waited = false
        return {
          next(at) {
            // First come, first served.
            if (!waited && pool.queue.length > 0 && tried.length === 0) {
              waited = true
              enqueue(pool, request, false)
              wakeNext(pool)
              return queue
            }
            const position = select(pool, request, at, tried)
            if (position < 0) {
              // Whoever has failed has waited already.
              const front = waited || tried.length > 0
              waited = true
              tried.length = 0
              return enqueue(pool, request, front)
            }
            waited = true
            const server = pool.hosts[position] as number
            tried.push(server)
            wakeNext(pool)
            return server
          }
        }
      },

      start(server, request, now) {
        const pool = pools[request.model] as Pool
        const position = positions[request.model]?.[server] as number
        const probe = (restsUntil[server] as number) !== 0
        if (probe) probing[server] = 1
        inFlight[server] = (inFlight[server] as number) + 1
        pool.inFlight[position] = (pool.inFlight[position] as number) + 1
        pool.used[position] = now
        pool.begun[position] = (pool.begun[position] as number) + 1
        open.set(request.id, { position, started: now, beside: pool.inFlight[position] as number, probe })
        if (pool.state[position] === cold) {
          setState(pool, position, loading)
          pool.loadSince[position] = now
        }
      },

      firstToken(server, request, time, now) {
        const pool = pools[request.model] as Pool
        const position = positions[request.model]?.[server] as number
        const wasLoading = pool.state[position] === loading
        setState(pool, position, warm)
        restsUntil[server] = 0
        strikes[server] = 0
        progress[server] = now
        if (wasLoading) {
          pool.meanLoad = average(pool.meanLoad, Math.max(1, now - (pool.loadSince[position] as number)))
        } else {
          const old = pool.peak[position] as number
          const decayed = old * Math.exp(-(now - (pool.peakAt[position] as number)) / peakDecay)
          pool.peak[position] = time > old ? time : time + (decayed > time ? decayed - time : 0)
          pool.peakAt[position] = now
          pool.meanPeak = pool.meanPeak === 0 ? time : pool.meanPeak + 0.05 * (time - pool.meanPeak)
        }
        wakeNext(pool)
      },

      end(server, request, counters, now) {
        const pool = pools[request.model] as Pool
        const entry = release(server, request)
        if (entry === undefined) return
        const { position, beside } = entry
        setState(pool, position, warm)
        pool.used[position] = now
        const rate = counters.promptTokens / Math.max(1e-3, counters.promptTime)
        if (counters.promptTokens >= 32) {
          pool.rate[position] = average(pool.rate[position] as number, rate)
          pool.meanRate = pool.meanRate === 0 ? rate : pool.meanRate + 0.05 * (rate - pool.meanRate)
        }
        const service = now - entry.started - counters.loadTime - counters.waitTime
        pool.meanService = pool.meanService === 0 ? service : pool.meanService + 0.05 * (service - pool.meanService)
        if (rules.learnCap) {
          const cap = pool.cap[position] as number
          if (counters.waitTime > 0.05 && counters.loadTime === 0) {
            if (beside <= cap && beside > 1) pool.cap[position] = beside - 1
          } else if (beside >= cap && pool.queue.length > 0 && cap < 16) pool.cap[position] = cap + 1
        }
        if (request.session >= 0) {
          sessions.set(request.session, {
            server,
            tokens: request.prompt + counters.tokens,
            mark: pool.begun[position] as number
          })
        }
        wakeNext(pool)
      },

      failed(server, request, failure, now) {
        const pool = pools[request.model] as Pool
        const entry = release(server, request)
        if (entry === undefined) return
        if (pool.state[entry.position] === loading && pool.inFlight[entry.position] === 0) {
          setState(pool, entry.position, cold)
        }
        if (rules.rest > 0) {
          // Requests that were under way when it broke are one failure.
          const busy = rules.alive && failure === "timeout" && (progress[server] as number) > entry.started
          if ((restsUntil[server] as number) <= now && !busy) {
            const rest = Math.min(rules.longestRest, rules.rest * rules.backoff ** (strikes[server] as number))
            restsUntil[server] = now + rest
            if ((strikes[server] as number) < 20) strikes[server] = (strikes[server] as number) + 1
          }
          if (failure !== "timeout" && failure !== "stalled") {
            for (let model = 0; model < pools.length; model++) {
              const at = positions[model]?.[server] as number
              if (at >= 0) setState(pools[model] as Pool, at, cold)
            }
          }
        }
      },

      cancelled(server, request) {
        release(server, request)
        wakeNext(pools[request.model] as Pool)
      },

      ps(server, models, now) {
        for (let model = 0; model < pools.length; model++) {
          const pool = pools[model] as Pool
          const at = positions[model]?.[server] as number
          if (at < 0) continue
          if (models.includes(model)) {
            const before = pool.state[at]
            setState(pool, at, warm)
            if (before !== warm) wakeNext(pool)
          } else if (pool.state[at] === warm) setState(pool, at, pool.inFlight[at] === 0 ? cold : loading)
          else if (pool.state[at] === loading && pool.inFlight[at] === 0) setState(pool, at, cold)
          if (pool.state[at] === loading && (pool.loadSince[at] as number) === 0) pool.loadSince[at] = now
        }
      },

      gone({ id, model }) {
        const pool = pools[model] as Pool
        const at = pool.queue.findIndex((request) => request.id === id)
        if (at >= 0) pool.queue.splice(at, 1)
      },

      tick() {
        for (const pool of pools) wakeNext(pool)
      }
    }
  }

export const prototypeWith = (name: string, about: string, changes: Partial<Rules>): Contender => ({
  name,
  about,
  attempts: Number.POSITIVE_INFINITY,
  make: prototype({ ...rules, ...changes })
})

export const ours: Contender = prototypeWith("ours", "least-busy, warm, affinity, caps, queue, breaker", {})

/** The prototype with one rule each taken away or changed. */
export const ablations: ReadonlyArray<Contender> = [
  prototypeWith("no warm", "cold servers are as good as warm ones", { warm: false }),
  prototypeWith("peak-ewma", "by peak-EWMA of first-token time × (in flight + 1)", { estimate: "peak" }),
  prototypeWith("peak-ewma, p2c", "the same, the better of two", { estimate: "peak", choices: 2, slack: 1 }),
  prototypeWith("p2c", "the better of two random warm servers", { choices: 2, slack: 1 }),
  prototypeWith("best of 8", "the best of eight random warm servers", { choices: 8, slack: 1 }),
  prototypeWith("slack 1", "always the very best", { slack: 1 }),
  prototypeWith("slack 2", "by chance among those up to twice as slow", { slack: 2 }),
  prototypeWith("crowding 0.5", "a request in flight slows down by half", { crowding: 0.5 }),
  prototypeWith("no affinity", "conversations go anywhere", { affinity: "none" }),
  prototypeWith("bounded affinity", "the last server while in flight ≤ 1.25 × mean + 1", { affinity: "bounded" }),
  prototypeWith("no slots", "a cached prompt is believed forever", { slots: false }),
  prototypeWith("no breaker", "a failed server is tried again at once", { rest: 0 }),
  prototypeWith("rest 10 s", "the breaker opens for 10 s", { rest: 10 }),
  prototypeWith("no backoff", "always 60 s", { backoff: 1 }),
  prototypeWith("not alive", "any timeout opens the breaker", { alive: false }),
  prototypeWith("no queue", "waits inside the servers", { queue: false }),
  prototypeWith("cap 2", "starts with two per server and model", { cap: 2 }),
  prototypeWith("fixed cap 2", "two, whatever is observed", { cap: 2, learnCap: false }),
  prototypeWith("fixed cap 4", "four, whatever is observed", { learnCap: false }),
  prototypeWith("no coalescing", "every request without a free slot loads", { coalesce: false }),
  prototypeWith("a load per 1", "one held request justifies a load under way", { perLoad: 1 }),
  prototypeWith("a load per 4", "four", { perLoad: 4 }),
  prototypeWith("patience 0.1", "a further copy when the wait is a tenth of a load", { patience: 0.1 }),
  prototypeWith("patience 1", "a whole load", { patience: 1, harm: 2 }),
  prototypeWith("no truce", "a further copy may push out a model that is waited for", { truce: false }),
  prototypeWith("no harm", "loads push out what is in use as readily", { harm: 0 })
]

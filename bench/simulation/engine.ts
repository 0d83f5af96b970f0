/**
 * The discrete-event simulation: one run of one policy over one world. Time is virtual and in seconds; nothing here
 * reads a clock or draws a number that is not seeded.
 */
import * as Prng from "../../src/internal/prng.js"
import {
  type Client,
  type Contender,
  type Failure,
  nobody,
  type Pick,
  type Policy,
  queue,
  type Request
} from "./policy.js"
import type { Scenario } from "./scenarios.js"
import { crowding, footprint, type Job, loadTime, type Mode, models, type ServerSpec, type World } from "./world.js"

/** What every client does, whatever its routing: the library's own defaults. */
export const clientRules = {
  /** Until the first token of a model that `/api/ps` last showed in memory; of another. */
  firstTokenTimeout: 30,
  loadTimeout: 90,
  idleTimeout: 30,
  /** From the question to its first token, with all attempts; again from a cut. */
  patience: 120,
  /** Between two looks at `/api/ps`. */
  psInterval: 300
}

/** A model nobody has asked for is dropped after so long. */
const keepAlive = 300

/** The least prompt that a cached conversation costs, in tokens. */
const leastPrompt = 12

interface Slot {
  session: number
  tokens: number
  busy: boolean
  used: number
}

interface Runner {
  readonly model: number
  state: "waiting" | "loading" | "ready" | "draining"
  readonly active: Array<Attempt>
  readonly line: Array<Attempt>
  readonly slots: ReadonlyArray<Slot>
  readyAt: number
  used: number
}

interface Machine {
  readonly spec: ServerSpec
  readonly index: number
  mode: Mode
  /** Grows with outages: what was scheduled before one is void after it. */
  life: number
  runners: Array<Runner>
  /** Models that wait for memory, first come, first served; one loads at a time. */
  loads: Array<Runner>
  loading: Runner | undefined
  /** Work that each active request has been given since the start, in seconds alone on the machine. */
  clock: number
  clockAt: number
  active: number
  version: number
  /** Accepted by a server that hangs. */
  parked: Array<Attempt>
}

interface Attempt {
  readonly flight: Transfer
  readonly machine: Machine
  readonly sent: number
  runner: Runner | undefined
  slot: Slot | undefined
  phase: "line" | "prompt" | "answer" | "parked" | "over"
  started: number
  promptTokens: number
  first: number
  /** On the machine's clock: when the present phase is done. */
  target: number
}

interface Transfer {
  readonly job: Job
  readonly client: number
  readonly arrival: number
  request: Request
  pick: Pick
  attempt: Attempt | undefined
  attempts: number
  held: boolean
  first: number
  answered: number
  /** Since when it has been without an answer: its arrival, or its last cut. */
  since: number
  over: boolean
}

type Event =
  | { readonly type: "arrival"; readonly job: Job }
  | { readonly type: "work"; readonly machine: Machine; readonly version: number }
  | { readonly type: "loaded"; readonly machine: Machine; readonly runner: Runner; readonly life: number }
  | { readonly type: "silence"; readonly attempt: Attempt; readonly phase: "first" | "idle" }
  | { readonly type: "refusal"; readonly attempt: Attempt; readonly failure: Failure }
  | { readonly type: "patience"; readonly flight: Transfer; readonly since: number }
  | { readonly type: "outage"; readonly machine: Machine; readonly mode: Mode }
  | { readonly type: "ps"; readonly machine: Machine }
  | { readonly type: "tick" }

/** A binary heap by time, then by order of scheduling. */
class Agenda {
  private times = new Float64Array(1024)
  private orders = new Float64Array(1024)
  private events: Array<Event> = []
  private count = 0
  private order = 0

  get size(): number {
    return this.count
  }

  push(time: number, event: Event): void {
    if (this.count === this.times.length) {
      const grow = (old: Float64Array) => {
        const next = new Float64Array(old.length * 2)
        next.set(old)
        return next
      }
      this.times = grow(this.times)
      this.orders = grow(this.orders)
    }
    const { times, orders, events } = this
    const order = this.order++
    let at = this.count++
    while (at > 0) {
      const parent = (at - 1) >> 1
      if ((times[parent] as number) <= time) break
      times[at] = times[parent] as number
      orders[at] = orders[parent] as number
      events[at] = events[parent] as Event
      at = parent
    }
    times[at] = time
    orders[at] = order
    events[at] = event
  }

  pop(): { readonly time: number; readonly event: Event } {
    const { times, orders, events } = this
    const result = { time: times[0] as number, event: events[0] as Event }
    const last = --this.count
    const time = times[last] as number
    const order = orders[last] as number
    const event = events[last] as Event
    let at = 0
    for (;;) {
      let child = at * 2 + 1
      if (child >= last) break
      const right = child + 1
      if (
        right < last &&
        ((times[right] as number) < (times[child] as number) ||
          (times[right] === times[child] && (orders[right] as number) < (orders[child] as number)))
      ) {
        child = right
      }
      const earlier = times[child] as number
      if (earlier > time || (earlier === time && (orders[child] as number) > order)) break
      times[at] = earlier
      orders[at] = orders[child] as number
      events[at] = events[child] as Event
      at = child
    }
    times[at] = time
    orders[at] = order
    events[at] = event
    events.length = last
    return result
  }
}

/** One question's end: its time to the first token (infinite where none came in time), and what it got. */
export interface Outcome {
  readonly ttft: Float64Array
  /** 1 where the whole answer came. */
  readonly served: Uint8Array
  readonly tokens: Float64Array
  readonly attempts: number
  readonly held: number
  readonly loads: number
  readonly evictions: number
  /** Answers that each server finished. */
  readonly perServer: Int32Array
  readonly ended: number
}

export const simulate = (world: World, scenario: Scenario, contender: Contender, seed: number): Outcome => {
  const agenda = new Agenda()
  const count = world.jobs.length
  const ttft = new Float64Array(count).fill(Number.POSITIVE_INFINITY)
  const served = new Uint8Array(count)
  const tokens = new Float64Array(count)
  const perServer = new Int32Array(world.servers.length)
  const flights = new Map<number, Transfer>()
  let now = 0
  let over = 0
  let attempts = 0
  let waits = 0
  let loads = 0
  let evictions = 0

  const machines: ReadonlyArray<Machine> = world.servers.map((spec, index) => ({
    spec,
    index,
    mode: "up",
    life: 0,
    runners: [],
    loads: [],
    loading: undefined,
    clock: 0,
    clockAt: 0,
    active: 0,
    version: 0,
    parked: []
  }))

  // ---------------------------------------------------------------------------
  // clients
  // ---------------------------------------------------------------------------

  const woken: Array<number> = []
  const clients: Array<Policy> = []
  /** What `/api/ps` last said, for the choice of the timeout. */
  const seen: ReadonlyArray<Set<number>> = machines.map(() => new Set())

  const finish = (flight: Transfer): void => {
    flight.over = true
    over++
    flights.delete(flight.job.id)
    if (flight.job.next >= 0) {
      const next = world.jobs[flight.job.next] as Job
      agenda.push(now + next.think, { type: "arrival", job: next })
    }
  }

  const proceed = (flight: Transfer): void => {
    flight.held = false
    if (flight.attempts >= contender.attempts) {
      finish(flight)
      return
    }
    const server = flight.pick.next(now)
    if (server === queue) {
      flight.held = true
      waits++
    } else if (server === nobody) finish(flight)
    else send(flight, machines[server] as Machine)
  }

  const send = (flight: Transfer, machine: Machine): void => {
    const attempt: Attempt = {
      flight,
      machine,
      sent: now,
      runner: undefined,
      slot: undefined,
      phase: "line",
      started: -1,
      promptTokens: 0,
      first: -1,
      target: 0
    }
    flight.attempt = attempt
    flight.attempts++
    attempts++
    ;(clients[flight.client] as Policy).start(machine.index, flight.request, now)
    if (machine.mode === "error" || machine.mode === "down") {
      const failure = machine.mode === "error" ? "error" : "refused"
      agenda.push(now + machine.spec.roundTrip, { type: "refusal", attempt, failure })
      return
    }
    const warm = (seen[machine.index] as Set<number>).has(flight.job.model)
    const wait = warm ? clientRules.firstTokenTimeout : clientRules.loadTimeout
    agenda.push(now + wait, { type: "silence", attempt, phase: "first" })
    accept(machine, attempt)
  }

  /** The attempt is over: takes it out of the server and tries the next one. */
  const fail = (attempt: Attempt, failure: Failure): void => {
    const { flight } = attempt
    withdraw(attempt)
    flight.attempt = undefined
    if (attempt.first >= 0) {
      // Goes on elsewhere with what has been said: the partial answer becomes part of the prompt.
      const { prompt, ...rest } = flight.request
      const said = Math.max(0, flight.answered)
      flight.request = { ...rest, prompt: Math.max(prompt, flight.job.prompt + said) }
      flight.since = now
      agenda.push(now + clientRules.patience, { type: "patience", flight, since: now })
    }
    const policy = clients[flight.client] as Policy
    policy.failed(attempt.machine.index, flight.request, failure, now)
    proceed(flight)
  }

  // ---------------------------------------------------------------------------
  // servers
  // ---------------------------------------------------------------------------

  const advance = (machine: Machine): void => {
    if (machine.active > 0 && machine.mode === "up") {
      machine.clock += (now - machine.clockAt) / (1 + crowding * (machine.active - 1))
    }
    machine.clockAt = now
  }

  /** Schedules the next end of a phase. */
  const arm = (machine: Machine): void => {
    const version = ++machine.version
    if (machine.active === 0 || machine.mode !== "up") return
    let least = Number.POSITIVE_INFINITY
    for (const runner of machine.runners) {
      for (const attempt of runner.active) if (attempt.target < least) least = attempt.target
    }
    const wait = Math.max(0, least - machine.clock) * (1 + crowding * (machine.active - 1))
    agenda.push(now + wait, { type: "work", machine, version })
  }

  const idle = (runner: Runner): boolean => runner.active.length === 0 && runner.line.length === 0

  const expire = (machine: Machine): void => {
    for (let i = machine.runners.length - 1; i >= 0; i--) {
      const runner = machine.runners[i] as Runner
      if (runner.state === "ready" && idle(runner) && now - runner.used > keepAlive) machine.runners.splice(i, 1)
    }
  }

  const newRunner = (machine: Machine, model: number): Runner => ({
    model,
    state: "waiting",
    active: [],
    line: [],
    slots: Array.from({ length: machine.spec.parallel }, () => ({ session: -1, tokens: 0, busy: false, used: 0 })),
    readyAt: 0,
    used: now
  })

  const accept = (machine: Machine, attempt: Attempt): void => {
    if (machine.mode === "hung") {
      attempt.phase = "parked"
      machine.parked.push(attempt)
      return
    }
    expire(machine)
    const { model } = attempt.flight.job
    let runner = machine.runners.find((runner) => runner.model === model)
    if (runner === undefined) {
      runner = newRunner(machine, model)
      machine.runners.push(runner)
      machine.loads.push(runner)
    }
    attempt.runner = runner
    runner.line.push(attempt)
    pump(machine, runner)
    load(machine)
  }

  /** Gives free slots to those who wait. */
  const pump = (machine: Machine, runner: Runner): void => {
    if (runner.state !== "ready") return
    while (runner.line.length > 0 && runner.active.length < machine.spec.parallel) {
      const attempt = runner.line.shift() as Attempt
      const { flight } = attempt
      const { session } = flight.request
      let slot: Slot | undefined
      for (const candidate of runner.slots) {
        if (candidate.busy) continue
        if (session >= 0 && candidate.session === session) {
          slot = candidate
          break
        }
        if (slot === undefined || candidate.used < slot.used) slot = candidate
      }
      if (slot === undefined) throw new Error("There is no free slot.")
      const cached = session >= 0 && slot.session === session ? slot.tokens : 0
      slot.session = session
      slot.busy = true
      attempt.slot = slot
      attempt.promptTokens = Math.max(leastPrompt, flight.request.prompt - cached)
      attempt.phase = "prompt"
      attempt.started = now
      advance(machine)
      const model = models[flight.job.model] as { cost: number }
      attempt.target = machine.clock + (attempt.promptTokens * model.cost) / machine.spec.prefill
      runner.active.push(attempt)
      runner.used = now
      machine.active++
      arm(machine)
    }
  }

  /** Loads the first model that waits, once there is memory: the idle ones go, the least recently used first. */
  const load = (machine: Machine): void => {
    while (machine.mode === "up" && machine.loading === undefined && machine.loads.length > 0) {
      const runner = machine.loads[0] as Runner
      const need = footprint(models[runner.model] as (typeof models)[number])
      let free = machine.spec.memory
      let draining = false
      let victim: Runner | undefined
      let busy: Runner | undefined
      for (const other of machine.runners) {
        if (other.state === "waiting") continue
        free -= footprint(models[other.model] as (typeof models)[number])
        if (other.state === "draining") draining = true
        else if (idle(other)) victim = victim === undefined || other.used < victim.used ? other : victim
        else if (busy === undefined || other.active.length < busy.active.length) busy = other
      }
      if (free >= need - 1e-9) {
        machine.loads.shift()
        machine.loading = runner
        runner.state = "loading"
        loads++
        const time = loadTime(machine.spec, models[runner.model] as (typeof models)[number])
        runner.readyAt = now + time
        agenda.push(now + time, { type: "loaded", machine, runner, life: machine.life })
      } else if (victim !== undefined) {
        evictions++
        machine.runners.splice(machine.runners.indexOf(victim), 1)
      } else {
        // All are at work: one takes no more, and goes when it is done.
        if (!draining && busy !== undefined) busy.state = "draining"
        return
      }
    }
  }

  const settle = (machine: Machine, runner: Runner): void => {
    if (runner.state === "draining" && runner.active.length === 0) {
      evictions++
      machine.runners.splice(machine.runners.indexOf(runner), 1)
      if (runner.line.length > 0) {
        const again = newRunner(machine, runner.model)
        for (const attempt of runner.line) {
          attempt.runner = again
          again.line.push(attempt)
        }
        machine.runners.push(again)
        machine.loads.push(again)
      }
      load(machine)
    } else {
      pump(machine, runner)
      if (machine.loads.length > 0) load(machine)
    }
  }

  /** Takes an attempt out of its server, wherever it stands. */
  const withdraw = (attempt: Attempt): void => {
    const { machine, runner } = attempt
    const phase = attempt.phase
    if (phase === "over") return
    if (phase === "answer") {
      advance(machine)
      const { flight } = attempt
      const left = (attempt.target - machine.clock) / decodeTime(machine, flight.job)
      flight.answered = Math.min(flight.job.output - 1, Math.max(flight.answered, Math.floor(flight.job.output - left)))
    }
    attempt.phase = "over"
    if (phase === "parked") {
      const at = machine.parked.indexOf(attempt)
      if (at >= 0) machine.parked.splice(at, 1)
    }
    if (runner === undefined) return
    if (phase === "line") {
      runner.line.splice(runner.line.indexOf(attempt), 1)
      if (runner.state === "waiting" && runner.line.length === 0) {
        machine.loads.splice(machine.loads.indexOf(runner), 1)
        machine.runners.splice(machine.runners.indexOf(runner), 1)
        load(machine)
      }
    } else if (phase === "prompt" || phase === "answer") {
      advance(machine)
      leave(attempt)
      if (machine.mode === "up") settle(machine, runner)
      arm(machine)
    }
  }

  const leave = (attempt: Attempt): void => {
    const { machine, runner, slot } = attempt
    if (runner === undefined || slot === undefined) return
    runner.active.splice(runner.active.indexOf(attempt), 1)
    machine.active--
    runner.used = now
    slot.busy = false
    slot.used = now
    slot.tokens = attempt.first < 0 ? 0 : attempt.flight.request.prompt + attempt.flight.job.output
  }

  const decodeTime = (machine: Machine, job: Job): number =>
    (models[job.model] as { cost: number }).cost / machine.spec.decode

  /** Ends every phase that is due. */
  const work = (machine: Machine): void => {
    advance(machine)
    const done: Array<Attempt> = []
    for (const runner of machine.runners) {
      for (const attempt of runner.active) if (attempt.target <= machine.clock + 1e-9) done.push(attempt)
    }
    for (const attempt of done) {
      const { flight } = attempt
      const policy = clients[flight.client] as Policy
      if (attempt.phase === "prompt") {
        attempt.phase = "answer"
        attempt.first = now
        const left = flight.job.output - flight.answered
        attempt.target = machine.clock + left * decodeTime(machine, flight.job)
        if (flight.first < 0) {
          flight.first = now
          ttft[flight.job.id] = now - flight.arrival + machine.spec.roundTrip
        }
        policy.firstToken(machine.index, flight.request, now - attempt.sent + machine.spec.roundTrip, now)
      } else {
        const runner = attempt.runner as Runner
        attempt.phase = "over"
        flight.attempt = undefined
        leave(attempt)
        served[flight.job.id] = 1
        tokens[flight.job.id] = flight.job.output
        perServer[machine.index] = (perServer[machine.index] as number) + 1
        const fresh = flight.job.output - flight.answered
        policy.end(
          machine.index,
          flight.request,
          {
            tokens: fresh,
            tokensPerSecond: fresh / Math.max(1e-6, now - attempt.first),
            promptTokens: attempt.promptTokens,
            promptTime: attempt.first - attempt.started,
            loadTime: Math.max(0, runner.readyAt - attempt.sent),
            waitTime: attempt.started - Math.max(attempt.sent, runner.readyAt)
          },
          now
        )
        finish(flight)
        settle(machine, runner)
      }
    }
    arm(machine)
  }

  const everything = (machine: Machine): ReadonlyArray<Attempt> => [
    ...machine.runners.flatMap((runner) => [...runner.active, ...runner.line]),
    ...machine.parked
  ]

  const outage = (machine: Machine, mode: Mode): void => {
    advance(machine)
    const hadHung = machine.mode === "hung"
    const before = everything(machine)
    machine.life++
    if (mode === "hung") {
      machine.mode = mode
      machine.version++
      for (const attempt of before) {
        if (attempt.phase === "answer") {
          agenda.push(now + clientRules.idleTimeout, { type: "silence", attempt, phase: "idle" })
        }
      }
      return
    }
    if (mode !== "up" || hadHung) {
      for (const attempt of before) {
        if (attempt.phase === "answer") {
          const left = (attempt.target - machine.clock) / decodeTime(machine, attempt.flight.job)
          const { flight } = attempt
          flight.answered = Math.min(
            flight.job.output - 1,
            Math.max(flight.answered, Math.floor(flight.job.output - left))
          )
        }
        attempt.phase = "over"
      }
    }
    machine.mode = mode
    machine.runners = []
    machine.loads = []
    machine.loading = undefined
    machine.parked = []
    machine.active = 0
    machine.version++
    if (mode !== "up" || hadHung) {
      for (const attempt of before) {
        agenda.push(now + machine.spec.roundTrip, { type: "refusal", attempt, failure: "cut" })
      }
    }
  }

  // ---------------------------------------------------------------------------
  // the oracle's knowledge
  // ---------------------------------------------------------------------------

  const outagesOf: ReadonlyArray<Array<{ readonly from: number; readonly to: number }>> = machines.map(() => [])
  for (const { server, from, to } of world.outages) outagesOf[server]?.push({ from, to })

  /** Seconds until the server's first token, if nobody else came; at least `bound` if it is no less than that. */
  const predict = (index: number, request: Request, bound: number): number => {
    const machine = machines[index] as Machine
    const { spec } = machine
    if (machine.mode !== "up") return Number.POSITIVE_INFINITY
    const model = models[request.model] as (typeof models)[number]
    expire(machine)
    const runner = machine.runners.find((runner) => runner.model === request.model)
    let cached = 0
    if (runner !== undefined && request.session >= 0) {
      for (const slot of runner.slots) if (!slot.busy && slot.session === request.session) cached = slot.tokens
    }
    const prompt = (Math.max(leastPrompt, request.prompt - cached) * model.cost) / spec.prefill
    let time = spec.roundTrip
    const crowd = (active: number) => 1 + crowding * (active - 1)
    if (time + prompt * crowd(machine.active + 1) * 0.999 >= bound && machine.active === 0) return bound
    // Its present work runs on, one departure after another.
    advance(machine)
    const remaining: Array<{ work: number; readonly mine: boolean }> = []
    for (const other of machine.runners) {
      for (const attempt of other.active) {
        const { job, answered } = attempt.flight
        const rest = attempt.phase === "prompt" ? (job.output - answered) * decodeTime(machine, job) : 0
        remaining.push({ work: attempt.target - machine.clock + rest, mine: other === runner })
      }
    }
    remaining.sort((a, b) => a.work - b.work)
    if (runner === undefined || runner.state !== "ready") {
      let start = 0
      if (runner?.state === "loading") {
        start = runner.readyAt - now
      } else {
        // Others load first; then memory must be free, for which those at work may have to end.
        if (machine.loading !== undefined) start = machine.loading.readyAt - now
        for (const other of machine.loads) {
          if (other !== runner) start += loadTime(spec, models[other.model] as (typeof models)[number])
        }
        let free = spec.memory
        let idleMemory = 0
        for (const other of machine.runners) {
          if (other.state === "waiting") continue
          const size = footprint(models[other.model] as (typeof models)[number])
          free -= size
          if (idle(other)) idleMemory += size
        }
        if (free + idleMemory < footprint(model)) {
          let drained = 0
          for (let i = 0, left = remaining.length, done = 0; i < remaining.length; i++, left--) {
            const next = remaining[i] as { work: number }
            drained += (next.work - done) * crowd(left)
            done = next.work
          }
          start = Math.max(start, drained)
        }
        start += loadTime(spec, model)
      }
      time += start + prompt * (1 + crowding * Math.min(1, remaining.length))
      for (const waiting of runner?.line ?? [])
        time += (waiting.flight.job.output * decodeTime(machine, waiting.flight.job)) / spec.parallel
    } else {
      // Those before it in the line take the slots that free up.
      const line = runner.line.map(({ flight }) => {
        const at = (flight.request.prompt * model.cost) / spec.prefill
        return at + (flight.job.output - flight.answered) * decodeTime(machine, flight.job)
      })
      let mine = 0
      for (const entry of remaining) if (entry.mine) mine++
      let free = spec.parallel - mine
      let left = prompt
      let started = false
      while (time < bound) {
        while (free > 0 && line.length > 0) {
          const next = line.shift() as number
          remaining.push({ work: next, mine: true })
          remaining.sort((a, b) => a.work - b.work)
          free--
        }
        if (!started && free > 0) started = true
        const slow = crowd(remaining.length + (started ? 1 : 0))
        const next = remaining[0]
        if (started && (next === undefined || left <= next.work)) {
          time += left * slow
          break
        }
        if (next === undefined) break
        const step = Math.max(0, next.work)
        time += step * slow
        if (started) left -= step
        remaining.shift()
        for (const other of remaining) other.work -= step
        if (next.mine) free++
      }
    }
    for (const { from, to } of outagesOf[index] ?? []) {
      if (from < now + time && to > now) return Number.POSITIVE_INFINITY
    }
    return time
  }

  const holds = (index: number, model: number): boolean =>
    (machines[index] as Machine).runners.some((runner) => runner.model === model)

  // ---------------------------------------------------------------------------
  // the run
  // ---------------------------------------------------------------------------

  for (let client = 0; client < scenario.clients; client++) {
    const view: Client = {
      servers: machines.length,
      models: models.length,
      hosts: (model) => world.hosts[model] as Int32Array,
      random: Prng.make(seed * 977 + client * 31 + 7),
      wake: (id) => void woken.push(id)
    }
    clients.push(contender.make(view, { predict, holds }))
  }
  for (const job of world.jobs) if (job.arrival >= 0) agenda.push(job.arrival, { type: "arrival", job })
  for (const { server, mode, from, to } of world.outages) {
    const machine = machines[server] as Machine
    agenda.push(from, { type: "outage", machine, mode })
    if (Number.isFinite(to)) agenda.push(to, { type: "outage", machine, mode: "up" })
  }
  const jitter = Prng.make(seed * 977 + 5)
  for (const machine of machines) {
    for (const model of machine.spec.loaded) {
      const runner = newRunner(machine, model)
      runner.state = "ready"
      machine.runners.push(runner)
    }
    if (clientRules.psInterval > 0) {
      agenda.push(0, { type: "ps", machine })
      agenda.push(jitter() * clientRules.psInterval, { type: "ps", machine })
    }
  }
  agenda.push(1, { type: "tick" })

  const look = (machine: Machine, again: boolean): void => {
    // A server that hangs looks healthy; one that fails still lists what it has; one that is down says nothing.
    if (machine.mode === "down") return
    expire(machine)
    const list: Array<number> = []
    const known = seen[machine.index] as Set<number>
    known.clear()
    for (const runner of machine.runners) {
      if (runner.state === "ready" || runner.state === "draining") {
        list.push(runner.model)
        known.add(runner.model)
      }
    }
    for (const policy of clients) policy.ps(machine.index, list, now)
    if (again) agenda.push(now + clientRules.psInterval * (0.9 + 0.2 * jitter()), { type: "ps", machine })
  }

  while (over < count && agenda.size > 0) {
    const { time, event } = agenda.pop()
    now = time
    switch (event.type) {
      case "arrival": {
        const { job } = event
        const client = (job.session >= 0 ? job.session : job.id) % scenario.clients
        const request: Request = { id: job.id, model: job.model, prompt: job.prompt, session: job.session }
        const flight: Transfer = {
          job,
          client,
          arrival: now,
          request,
          pick: (clients[client] as Policy).choose(request, now),
          attempt: undefined,
          attempts: 0,
          held: false,
          first: -1,
          answered: 0,
          since: now,
          over: false
        }
        flights.set(job.id, flight)
        agenda.push(now + clientRules.patience, { type: "patience", flight, since: now })
        proceed(flight)
        break
      }
      case "work":
        if (event.version === event.machine.version) work(event.machine)
        break
      case "loaded": {
        const { machine, runner } = event
        if (event.life !== machine.life || machine.loading !== runner) break
        machine.loading = undefined
        runner.state = "ready"
        runner.readyAt = now
        runner.used = now
        pump(machine, runner)
        load(machine)
        break
      }
      case "silence": {
        const { attempt, phase } = event
        if (attempt.phase === "over") break
        if (phase === "first" && attempt.first >= 0) break
        fail(attempt, phase === "first" ? "timeout" : "stalled")
        break
      }
      case "refusal": {
        const { attempt, failure } = event
        if (attempt.flight.attempt === attempt) {
          attempt.phase = "over"
          fail(attempt, failure)
        }
        break
      }
      case "patience": {
        const { flight, since } = event
        const { attempt } = flight
        if (flight.over || flight.since !== since || (attempt !== undefined && attempt.first >= 0)) break
        const policy = clients[flight.client] as Policy
        if (attempt !== undefined) {
          flight.attempt = undefined
          withdraw(attempt)
          policy.cancelled(attempt.machine.index, flight.request, now)
        } else if (flight.held) policy.gone(flight.request, now)
        finish(flight)
        break
      }
      case "outage":
        outage(event.machine, event.mode)
        break
      case "ps":
        look(event.machine, now > 0)
        break
      case "tick":
        for (const policy of clients) policy.tick(now)
        agenda.push(now + 1, { type: "tick" })
        break
    }
    while (woken.length > 0) {
      const flight = flights.get(woken.shift() as number)
      if (flight?.held === true) proceed(flight)
    }
  }
  return { ttft, served, tokens, attempts, held: waits, loads, evictions, perServer, ended: now }
}

/**
 * Several processes serving at one address. The first one serves nothing: it starts the workers, restarts those that
 * die, forwards signals, merges their metrics, holds the shared state, and passes on what they tell each other.
 */
import cluster, { type Worker } from "node:cluster"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { InvalidConfig } from "../../Errors.js"
import { countersOnly, merge } from "../../gateway/observability/prometheus.js"
import type * as Sessions from "../../Sessions.js"
import type { TurnOrder } from "../../sessions/turnQueue.js"
import * as Ending from "./exitCode.js"
import * as Handover from "./handover.js"
import * as SharedState from "./sharedState.js"
import * as WorkerEvents from "./workerEvents.js"
import * as WorkerMessages from "./workerMessages.js"
import * as WorkerRpc from "./workerRpc.js"

/** Pause before restarting a worker that died at once, in milliseconds. */
const pause = 1_000

/** How long a worker may take to report its metrics, in milliseconds. */
const metricsTimeout = 1_000

type Message =
  | { readonly type: "ready"; readonly url: string }
  | { readonly type: "failed"; readonly error: string }
  | { readonly type: "ask"; readonly id: number; readonly text?: string }
  | { readonly type: "tell"; readonly id: number; readonly text: string }
  | { readonly type: "answer"; readonly id: number; readonly texts: ReadonlyArray<string> }

const isMessage = (value: unknown): value is Message => typeof value === "object" && value !== null && "type" in value

// =============================================================================
// The first process
// =============================================================================

/**
 * The last metrics of the workers, for when one is late or gone: counters must not decrease.
 */
interface KnownMetrics {
  readonly last: Map<Worker, string>
  gone: string
}

/** Collects the metrics of all workers for the one that was asked. */
const collectMetrics = (
  from: Worker,
  id: number,
  all: ReadonlyArray<Worker>,
  known: KnownMetrics,
  next: () => number
): void => {
  const others = all.filter((worker) => worker !== from && worker.isConnected())
  const open = new Map<number, Worker>()
  const done = () => {
    clearTimeout(timer)
    for (const worker of others) worker.off("message", onMessage)
    const texts = others.flatMap((worker) => known.last.get(worker) ?? [])
    if (known.gone !== "") texts.push(known.gone)
    if (from.isConnected()) from.send({ type: "answer", id, texts } satisfies Message)
  }
  const timer = setTimeout(done, metricsTimeout)
  const onMessage = (message: unknown) => {
    if (!isMessage(message) || message.type !== "tell") return
    const worker = open.get(message.id)
    if (worker === undefined) return
    open.delete(message.id)
    known.last.set(worker, message.text)
    if (open.size === 0) done()
  }
  for (const worker of others) {
    const mine = next()
    open.set(mine, worker)
    worker.on("message", onMessage)
    worker.send({ type: "ask", id: mine } satisfies Message)
  }
  if (others.length === 0) done()
}

/**
 * Starts the workers, which end with the scope, and returns their address once each of them listens, or has ended and
 * at least one listens. `sessions` stores the conversations of all of them, unless they are in a store; `order` is that of
 * turns there.
 */
export const start = (
  count: number,
  log: (text: string) => void,
  sessions: Sessions.Store,
  order: TurnOrder
): Effect.Effect<string, InvalidConfig, Scope.Scope> =>
  Effect.gen(function* () {
    const workers = new Set<Worker>()
    const ready = new Set<Worker>()
    /** Workers that were still starting when the settings changed: a signal would have ended them. */
    const late = new Set<Worker>()
    const answers = SharedState.makeHandlers(sessions, order)
    const relay = WorkerEvents.makeRelay()
    const relayMessages = WorkerMessages.makeRelay()
    const known: KnownMetrics = { last: new Map(), gone: "" }
    let stopping = false
    let ids = 0
    const address = yield* Effect.async<string, InvalidConfig, Scope.Scope>((resume) => {
      cluster.setupPrimary({ exec: process.argv[1] ?? "", args: process.argv.slice(2), serialization: "advanced" })
      let serving: string | undefined
      const first = new Set<Worker>()
      const settled = (worker: Worker) => {
        first.delete(worker)
        if (serving !== undefined && first.size === 0) resume(Effect.succeed(serving))
      }
      const fork = (): Worker => {
        const worker = cluster.fork()
        workers.add(worker)
        WorkerRpc.serveCalls(worker, answers)
        relay(worker)
        relayMessages(worker)
        Handover.watch(worker, () => [...workers].some((other) => other !== worker && other.isConnected()))
        worker.on("message", (message: unknown) => {
          if (!isMessage(message)) return
          if (message.type === "ready") {
            serving = message.url
            ready.add(worker)
            if (late.delete(worker)) worker.process.kill("SIGHUP")
            settled(worker)
          } else if (message.type === "failed") {
            const [source = "", field = "", reason = ""] = JSON.parse(message.error) as ReadonlyArray<string>
            const error = new InvalidConfig({ source, field, reason })
            if (serving === undefined) {
              stopping = true
              resume(Effect.fail(error))
            } else {
              log(`worker ${worker.process.pid} cannot start: ${error.message}`)
              worker.process.kill("SIGKILL")
            }
          } else if (message.type === "ask") {
            if (message.text !== undefined) known.last.set(worker, message.text)
            collectMetrics(worker, message.id, [...workers], known, () => ids++)
          }
        })
        worker.on("exit", (code, signal) => {
          for (const some of [workers, ready, late]) some.delete(worker)
          const last = known.last.get(worker)
          known.last.delete(worker)
          if (last !== undefined) known.gone = merge([known.gone, countersOnly(last)])
          if (stopping) return
          settled(worker)
          log(`worker ${worker.process.pid} ended (${signal ?? code}); it is replaced`)
          setTimeout(() => {
            if (!stopping) fork()
          }, pause)
        })
        return worker
      }
      for (let i = 0; i < count; i++) first.add(fork())
    })
    const onHangUp = () => {
      for (const worker of workers) {
        if (ready.has(worker)) worker.process.kill("SIGHUP")
        else late.add(worker)
      }
    }
    process.on("SIGHUP", onHangUp)
    yield* Effect.addFinalizer(() =>
      Effect.async<void>((resume) => {
        stopping = true
        process.off("SIGHUP", onHangUp)
        let clean = true
        const done = () => {
          Ending.exitWhenStopped(clean)
          resume(Effect.void)
        }
        if (workers.size === 0) return done()
        for (const worker of workers) {
          // A worker that did not listen yet had nothing to answer.
          const served = ready.has(worker)
          worker.on("exit", (code) => {
            if (served && code !== 0) clean = false
            if (workers.size === 0) done()
          })
          worker.process.kill("SIGTERM")
        }
      })
    )
    return address
  })

// =============================================================================
// The workers
// =============================================================================

const send = (message: Message) =>
  Effect.async<void>((resume) => {
    if (process.send === undefined) resume(Effect.void)
    else process.send(message, () => resume(Effect.void))
  })

let requestMetrics = 0
const waiting = new Map<number, (texts: ReadonlyArray<string>) => void>()

/** The metrics of all workers, including this one's. */
export const metrics = async (mine: () => Promise<string>): Promise<string> => {
  const text = await mine()
  const texts = await new Promise<ReadonlyArray<string>>((resolve) => {
    const id = requestMetrics++
    waiting.set(id, resolve)
    process.send?.({ type: "ask", id, text } satisfies Message)
  })
  return merge([text, ...texts])
}

/** This worker listens; `figures` are its own. */
export const ready = (url: string, metrics: () => Promise<string>): Effect.Effect<void> =>
  Effect.suspend(() => {
    process.on("message", (message: unknown) => {
      if (!isMessage(message)) return
      if (message.type === "answer") {
        waiting.get(message.id)?.(message.texts)
        waiting.delete(message.id)
      } else if (message.type === "ask") {
        const { id } = message
        void metrics().then((text) => process.send?.({ type: "tell", id, text } satisfies Message))
      }
    })
    return send({ type: "ready", url })
  })

/** This worker cannot serve, and no other could. */
export const failed = (cause: Cause.Cause<unknown>): Effect.Effect<void> => {
  const error = Cause.squash(cause)
  const words =
    error instanceof InvalidConfig
      ? [error.source, error.field, error.reason]
      : ["the gateway", "start", error instanceof Error ? error.message : String(error)]
  return send({ type: "failed", error: JSON.stringify(words) })
}

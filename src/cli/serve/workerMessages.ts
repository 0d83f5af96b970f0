/**
 * Messages between workers, as between gateways over a store: the first process passes each message on to all of them.
 */
import * as Effect from "effect/Effect"
import { StoreUnavailable } from "../../Errors.js"
import { endOf } from "../../gateway/replicas/ReplicaGroup.js"
import type * as Store from "../../Store.js"
import type { WorkerChannel, WorkerEnd } from "./workerRpc.js"

type Message = { readonly type: "group:tell" | "group:heard"; readonly text: string }

const isMessage = (value: unknown): value is Message =>
  typeof value === "object" && value !== null && "type" in value && String(value.type).startsWith("group:")

/** The first process's part: it receives messages of each worker that is added to it. */
export const makeRelay = (): ((worker: WorkerEnd) => void) => {
  const workers = new Set<WorkerEnd>()
  const pass = (text: string) => {
    for (const worker of workers) {
      if (worker.isConnected()) worker.send?.({ type: "group:heard", text } satisfies Message as never, () => {})
    }
  }
  return (worker) => {
    workers.add(worker)
    let first: string | undefined
    worker.on("message", (message) => {
      if (!isMessage(message) || message.type !== "group:tell") return
      first ??= message.text
      pass(message.text)
    })
    worker.once("exit", () => {
      // What it had in flight is over, also where it was killed.
      if (workers.delete(worker) && first !== undefined) pass(endOf(first))
    })
  }
}

/** A worker's part. */
export const make = (end: WorkerChannel): Store.Messages => {
  const listeners = new Set<(text: string) => void>()
  end.on("message", (message) => {
    if (isMessage(message) && message.type === "group:heard") for (const hear of listeners) hear(message.text)
  })
  return {
    send: (text) =>
      Effect.async((resume) => {
        const sent = (error: Error | null) =>
          resume(error === null ? Effect.void : new StoreUnavailable({ reason: error.message, uncertain: false }))
        if (end.send === undefined) sent(new Error("there is no first process"))
        else end.send({ type: "group:tell", text } satisfies Message as never, sent)
      }),
    listen: (hear) =>
      Effect.async(() => {
        listeners.add(hear)
        return Effect.sync(() => listeners.delete(hear))
      }),
    dropSilent: () => {}
  }
}

/** The events of all workers as one sequence: the first process numbers them, and passes each on to every worker. */
import type { Worker } from "node:cluster"
import type { EventLink, EventType } from "../../gateway/events/hub.js"
import type { ServerAction } from "../../gateway/events/serverActions.js"
import type { WorkerChannel } from "./workerRpc.js"

type Published = EventType | "action"

type Message =
  | { readonly type: "event:publish"; readonly event: Published; readonly data: string }
  | { readonly type: "event:watched"; readonly on: boolean }
  | { readonly type: "event:given"; readonly number: number; readonly event: EventType; readonly data: string }
  | { readonly type: "event:action"; readonly data: string }
  | { readonly type: "event:needed"; readonly on: boolean; readonly sequence: string; readonly last: number }

const isMessage = (value: unknown): value is Message =>
  typeof value === "object" && value !== null && "type" in value && String(value.type).startsWith("event:")

/** The first process's part: it hears each worker that is handed to it. */
export const makeRelay = (): ((worker: Worker) => void) => {
  const workers = new Map<Worker, boolean>()
  const sequence = Date.now().toString(36)
  /** The servers that are drained, for workers that start later. */
  const drained = new Map<string, string>()
  let last = 0
  let needed = false
  const send = (worker: Worker, message: Message) => {
    if (worker.isConnected()) worker.send(message, () => {})
  }
  const all = (message: Message) => {
    for (const worker of workers.keys()) send(worker, message)
  }
  const state = (): Message => ({ type: "event:needed", on: needed, sequence, last })
  const look = () => {
    const now = [...workers.values()].includes(true)
    if (now === needed) return
    needed = now
    all(state())
  }
  return (worker) => {
    worker.on("message", (message: unknown) => {
      if (!isMessage(message)) return
      if (message.type === "event:watched") {
        const isNew = !workers.has(worker)
        workers.set(worker, message.on)
        if (isNew) {
          send(worker, state())
          for (const data of drained.values()) send(worker, { type: "event:action", data })
        }
        look()
      } else if (message.type === "event:publish") {
        const { data, event } = message
        if (event === "action") {
          const { action, url } = JSON.parse(data) as ServerAction
          if (action === "drain") drained.set(url, data)
          else if (action === "wake") drained.delete(url)
          all({ type: "event:action", data })
        } else all({ type: "event:given", number: ++last, event, data })
      }
    })
    worker.once("exit", () => {
      workers.delete(worker)
      look()
    })
  }
}

/** A worker's part. */
export const link = (end: WorkerChannel): EventLink => {
  let sequence = "0"
  const send = (message: Message) => {
    end.send?.(message as never, () => {})
  }
  return {
    sequence: () => sequence,
    send: (event, data) => send({ type: "event:publish", event, data }),
    watched: (on) => send({ type: "event:watched", on }),
    attach: (received, needed, act) => {
      end.on("message", (message) => {
        if (!isMessage(message)) return
        if (message.type === "event:given") {
          received({ number: message.number, type: message.event, data: message.data })
        } else if (message.type === "event:action") act(message.data)
        else if (message.type === "event:needed") {
          sequence = message.sequence
          needed(message.on, message.last)
        }
      })
      send({ type: "event:watched", on: false })
    }
  }
}

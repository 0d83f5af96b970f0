/** The events of all workers as one sequence: the first process numbers them, and passes each on to every worker. */
import type { Worker } from "node:cluster"
import type { EventLink, EventType, Owner, Question } from "../../gateway/events/hub.js"
import { FleetViews } from "../../gateway/events/mergeFleet.js"
import type { ServerView } from "../../gateway/events/views.js"
import type { WorkerChannel } from "./workerRpc.js"

type Message =
  | { readonly type: "event:publish"; readonly event: EventType; readonly data: string; readonly owner?: Owner }
  | { readonly type: "event:watched"; readonly on: boolean }
  | {
      readonly type: "event:given"
      readonly number: number
      readonly event: EventType
      readonly data: string
      readonly owner?: Owner
    }
  | { readonly type: "event:needed"; readonly on: boolean; readonly sequence: string; readonly last: number }
  | { readonly type: "event:ask"; readonly id: number; readonly question: Question }
  | { readonly type: "event:question"; readonly id: number; readonly question: Question }
  | { readonly type: "event:answer"; readonly id: number; readonly text: string }
  | { readonly type: "event:answers"; readonly id: number; readonly texts: ReadonlyArray<string> }

/** How long the other workers may take to answer, in milliseconds. */
const answerTimeout = 2_000

const isMessage = (value: unknown): value is Message =>
  typeof value === "object" && value !== null && "type" in value && String(value.type).startsWith("event:")

/** The first process's part: it receives events of each worker that is added to it. */
export const makeRelay = (): ((worker: Worker) => void) => {
  const workers = new Map<Worker, boolean>()
  const sequence = Date.now().toString(36)
  const views = new FleetViews<Worker>()
  /** Questions that a worker has not answered yet. */
  const open = new Map<number, { readonly worker: Worker; readonly settle: (text?: string) => void }>()
  let last = 0
  let questions = 0
  let needed = false
  const send = (worker: Worker, message: Message) => {
    if (worker.isConnected()) worker.send(message, () => {})
  }
  const all = (message: Message) => {
    for (const worker of workers.keys()) send(worker, message)
  }
  const give = (event: EventType, data: string, owner?: Owner) =>
    all({ type: "event:given", number: ++last, event, data, owner })
  const asked = (worker: Worker, question: Question): Promise<string | undefined> =>
    new Promise((resolve) => {
      const id = questions++
      const settle = (text?: string) => {
        clearTimeout(timer)
        open.delete(id)
        resolve(text)
      }
      const timer = setTimeout(settle, answerTimeout)
      open.set(id, { worker, settle })
      send(worker, { type: "event:question", id, question })
    })
  const askOthers = async (from: Worker, id: number, question: Question): Promise<void> => {
    const others = [...workers.keys()].filter((worker) => worker !== from && worker.isConnected())
    const texts = await Promise.all(others.map((worker) => asked(worker, question)))
    send(from, { type: "event:answers", id, texts: texts.filter((text) => text !== undefined) })
  }
  /**
   * An event tells only of servers that have changed: what each worker has on the others is known from the beginning.
   */
  const lookAtFleet = async (worker: Worker): Promise<void> => {
    const text = await asked(worker, { type: "fleet" })
    if (text === undefined || !needed || !workers.has(worker)) return
    for (const view of (JSON.parse(text) as ReadonlyArray<ServerView> | null) ?? []) views.note(worker, view)
  }
  const state = (): Message => ({ type: "event:needed", on: needed, sequence, last })
  const look = () => {
    const now = [...workers.values()].includes(true)
    if (now === needed) return
    needed = now
    views.clear()
    all(state())
    if (needed) for (const worker of workers.keys()) void lookAtFleet(worker)
  }
  return (worker) => {
    worker.on("message", (message: unknown) => {
      if (!isMessage(message)) return
      if (message.type === "event:watched") {
        const isNew = !workers.has(worker)
        workers.set(worker, message.on)
        if (isNew) send(worker, state())
        look()
      } else if (message.type === "event:publish") {
        const { data, event, owner } = message
        if (event === "fleet") {
          const { at, ...view } = JSON.parse(data) as ServerView & { readonly at: number }
          give(event, JSON.stringify({ at, ...views.note(worker, view) }))
        } else give(event, data, owner)
      } else if (message.type === "event:ask") void askOthers(worker, message.id, message.question)
      else if (message.type === "event:answer") {
        const asked = open.get(message.id)
        if (asked?.worker === worker) asked.settle(message.text)
      }
    })
    worker.once("exit", () => {
      workers.delete(worker)
      for (const { settle, worker: asked } of [...open.values()]) if (asked === worker) settle()
      for (const view of views.forget(worker)) give("fleet", JSON.stringify({ at: Date.now(), ...view }))
      look()
    })
  }
}

/** A worker's part. */
export const link = (end: WorkerChannel): EventLink => {
  let sequence = "0"
  let questions = 0
  const waiting = new Map<number, (texts: ReadonlyArray<string>) => void>()
  const send = (message: Message) => {
    end.send?.(message as never, () => {})
  }
  return {
    sequence: () => sequence,
    send: (event, data, owner) => send({ type: "event:publish", event, data, owner }),
    watched: (on) => send({ type: "event:watched", on }),
    ask: (question) =>
      new Promise((resolve) => {
        const id = questions++
        const settle = (texts: ReadonlyArray<string>) => {
          clearTimeout(timer)
          waiting.delete(id)
          resolve(texts)
        }
        const timer = setTimeout(() => settle([]), 2 * answerTimeout)
        waiting.set(id, settle)
        send({ type: "event:ask", id, question })
      }),
    attach: (received, needed, answer) => {
      end.on("message", (message) => {
        if (!isMessage(message)) return
        if (message.type === "event:given") {
          received({ number: message.number, type: message.event, data: message.data, owner: message.owner })
        } else if (message.type === "event:needed") {
          sequence = message.sequence
          needed(message.on, message.last)
        } else if (message.type === "event:question") {
          const { id, question } = message
          // A worker that cannot answer is left out in time.
          answer(question).then(
            (text) => send({ type: "event:answer", id, text }),
            () => {}
          )
        } else if (message.type === "event:answers") waiting.get(message.id)?.(message.texts)
      })
      send({ type: "event:watched", on: false })
    }
  }
}

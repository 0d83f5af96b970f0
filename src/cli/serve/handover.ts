/**
 * Connections on their way to a worker. The first process accepts them and hands each to a worker, which says that it
 * has it; Node forgets one whose worker ends before, and its client waits for ever. Such a connection goes to another
 * worker.
 */
import type { Worker } from "node:cluster"

interface Handle {
  readonly close: () => void
}

/** What Node's cluster sends in addition to the messages of programs. */
interface Internal {
  readonly cmd?: string
  readonly act?: string
  readonly seq?: number
  readonly ack?: number
}

/** Keeps track of the connections that are sent to this worker. `others` tells whether there is any other worker when it ends. */
export const watch = (worker: Worker, others: () => boolean): void => {
  const { process: child } = worker
  const pending = new Map<number, Handle>()
  const send = child.send.bind(child) as (...args: ReadonlyArray<unknown>) => boolean
  child.send = (...args: ReadonlyArray<unknown>): boolean => {
    const [message, handle] = args as readonly [Internal | undefined, Handle | undefined]
    if (message?.cmd === "NODE_CLUSTER" && message.act === "newconn" && message.seq !== undefined && handle) {
      pending.set(message.seq, handle)
    }
    return send(...args)
  }
  child.on("internalMessage", ({ ack }: Internal) => {
    if (ack !== undefined) pending.delete(ack)
  })
  const ended = () => {
    // Node still hands to a worker whose channel is open.
    if (worker.isConnected()) return
    for (const [ack, handle] of pending) {
      // What a worker answers that does not take a connection.
      if (others()) child.emit("internalMessage", { cmd: "NODE_CLUSTER", ack, accepted: false })
      else handle.close()
    }
    pending.clear()
  }
  // After a kill, either may be missing or come too early.
  worker.once("disconnect", ended)
  worker.once("exit", ended)
}

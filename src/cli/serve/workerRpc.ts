/**
 * RPC from a worker to the first process, over their IPC channel. The number of open calls per worker is bounded; what
 * the first process holds for a worker is released when the worker says so, or exits.
 */

/** Maximum number of open calls of a worker, and as many that wait for something. */
const maxOpen = 1_024

/** Timeout of a call in milliseconds, unless it waits for something. */
export const callTimeout = 10_000

type Message =
  | { readonly type: "call"; readonly id: number; readonly name: string; readonly args: ReadonlyArray<unknown> }
  | { readonly type: "release"; readonly id: number }
  | { readonly type: "returned"; readonly id: number; readonly value: unknown }
  | { readonly type: "refused"; readonly id: number; readonly reason: string }

const isMessage = (value: unknown): value is Message => typeof value === "object" && value !== null && "type" in value

/** One end of the channel: a worker as seen by the first process, or the process of a worker. */
export interface WorkerChannel {
  readonly on: (event: "message", listener: (message: unknown) => void) => unknown
  readonly send?: ((message: Message, sent: (error: Error | null) => void) => unknown) | undefined
}

export interface WorkerEnd extends WorkerChannel {
  readonly once: (event: "disconnect" | "exit", listener: () => void) => unknown
  readonly isConnected: () => boolean
}

/**
 * Calls `release` when the worker gives back what it was given, or exits. Must be called before anything is awaited.
 */
export type HoldResource = (release: () => void) => void

/** The handlers of the first process by name. */
export interface CallHandlers {
  // biome-ignore lint/suspicious/noExplicitAny: each answer has its own arguments, which `Arguments` tells.
  readonly [name: string]: (hold: HoldResource, ...args: any) => unknown
}

type Arguments<F> = F extends (hold: HoldResource, ...args: infer A) => unknown ? A : never
type HandledCall<F> = F extends (...args: never) => infer R ? Awaited<R> : never

// =============================================================================
// The first process
// =============================================================================

/** Answers the calls of a worker until it exits. */
export const serveCalls = (worker: WorkerEnd, answers: CallHandlers): void => {
  const held = new Map<number, () => void>()
  const send = (message: Message) => {
    // A worker that has exited meanwhile waits for nothing.
    if (worker.isConnected()) worker.send?.(message, () => {})
  }
  const run = async (id: number, name: string, args: ReadonlyArray<unknown>) => {
    try {
      const known = answers[name]
      if (known === undefined) throw new Error(`the first process does not know '${name}'`)
      const value = await known((release) => held.set(id, release), ...args)
      send({ type: "returned", id, value })
    } catch (error) {
      held.get(id)?.()
      held.delete(id)
      send({ type: "refused", id, reason: error instanceof Error ? error.message : String(error) })
    }
  }
  worker.on("message", (message: unknown) => {
    if (!isMessage(message)) return
    if (message.type === "call") void run(message.id, message.name, message.args)
    else if (message.type === "release") {
      held.get(message.id)?.()
      held.delete(message.id)
    }
  })
  const ended = () => {
    for (const release of held.values()) release()
    held.clear()
  }
  worker.once("disconnect", ended)
  worker.once("exit", ended)
}

// =============================================================================
// A worker
// =============================================================================

/**
 * An open or answered call. `result` rejects with an `Error` that says why there is no answer; `release` cancels the
 * call, or gives back its result, and may be called more than once.
 */
export interface WorkerCall<A> {
  readonly result: Promise<A>
  readonly release: () => void
}

interface Open {
  readonly resolve: (value: unknown) => void
  readonly reject: (error: Error) => void
  readonly timer: ReturnType<typeof setTimeout> | undefined
}

/** The RPC client of a worker. */
export class WorkerRpcClient<A extends CallHandlers> {
  private count = 0
  /** The number of open calls that wait for something: they must not block the others. */
  private waiting = 0
  private readonly open = new Map<number, Open>()

  constructor(private readonly first: WorkerChannel) {
    first.on("message", (message: unknown) => {
      if (!isMessage(message)) return
      if (message.type === "returned") this.settle(message.id, (open) => open.resolve(message.value))
      else if (message.type === "refused") this.fail(message.id, message.reason)
    })
  }

  private settle(id: number, how: (open: Open) => void): void {
    const open = this.open.get(id)
    if (open === undefined) return
    this.open.delete(id)
    if (open.timer === undefined) this.waiting--
    clearTimeout(open.timer)
    how(open)
  }
  private fail(id: number, reason: string): void {
    this.settle(id, ({ reject }) => reject(new Error(reason)))
  }
  private send(id: number, message: Message): void {
    const failed = (error: Error | null) => {
      if (error !== null) this.fail(id, error.message)
    }
    try {
      if (this.first.send === undefined) this.fail(id, "there is no first process")
      else this.first.send(message, failed)
    } catch (error) {
      failed(error instanceof Error ? error : new Error(String(error)))
    }
  }

  /** A call that may take its time (no `limit`, in milliseconds), or whose result must be released. */
  begin<N extends keyof A & string>(name: N, args: Arguments<A[N]>, limit?: number): WorkerCall<HandledCall<A[N]>> {
    const id = this.count++
    const waits = limit === undefined
    if ((waits ? this.waiting : this.open.size - this.waiting) >= maxOpen) {
      const reason = `${maxOpen} calls to the first process are open already`
      return { result: Promise.reject(new Error(reason)), release: () => {} }
    }
    if (waits) this.waiting++
    const result = new Promise<unknown>((resolve, reject) => {
      const late = () => {
        this.fail(id, `the first process gave no answer within ${limit} ms`)
        release()
      }
      this.open.set(id, { resolve, reject, timer: waits ? undefined : setTimeout(late, limit) })
    })
    let released = false
    const release = () => {
      if (released) return
      released = true
      this.fail(id, "it is no longer waited for")
      this.send(id, { type: "release", id })
    }
    this.send(id, { type: "call", id, name, args })
    return { result: result as Promise<HandledCall<A[N]>>, release }
  }

  /** A call that is answered immediately. */
  call<N extends keyof A & string>(name: N, ...args: Arguments<A[N]>): Promise<HandledCall<A[N]>> {
    return this.begin(name, args, callTimeout).result
  }
}

/**
 * Calls from a worker to the first process, over the channel between the two. A worker has a bounded number of them
 * open; what the first process holds for a worker is given back when the worker says so, or ends.
 *
 * @since 0.1.0
 */

/** So many calls of one worker may be open, and so many besides that wait for something. */
const maxOpen = 1_024

/**
 * How long an answer may take, in milliseconds, unless it is one that has to be waited for.
 *
 * @since 0.1.0
 * @category constants
 */
export const callTimeout = 10_000

type Message =
  | { readonly type: "call"; readonly id: number; readonly name: string; readonly args: ReadonlyArray<unknown> }
  | { readonly type: "release"; readonly id: number }
  | { readonly type: "returned"; readonly id: number; readonly value: unknown }
  | { readonly type: "refused"; readonly id: number; readonly reason: string }

const isMessage = (value: unknown): value is Message => typeof value === "object" && value !== null && "type" in value

/**
 * One end of the channel: a worker as the first process sees it, or the process of a worker.
 *
 * @since 0.1.0
 * @category models
 */
export interface WorkerChannel {
  readonly on: (event: "message", listener: (message: unknown) => void) => unknown
  readonly send?: ((message: Message, sent: (error: Error | null) => void) => unknown) | undefined
}

/**
 * @since 0.1.0
 * @category models
 */
export interface WorkerEnd extends WorkerChannel {
  readonly once: (event: "disconnect" | "exit", listener: () => void) => unknown
  readonly isConnected: () => boolean
}

/**
 * Has `release` called when the worker gives back what it was given, or ends. To be called before anything is waited for.
 *
 * @since 0.1.0
 * @category models
 */
export type HoldResource = (release: () => void) => void

/**
 * What the first process answers, by its names.
 *
 * @since 0.1.0
 * @category models
 */
export interface CallHandlers {
  // biome-ignore lint/suspicious/noExplicitAny: each answer has its own arguments, which `Arguments` tells.
  readonly [name: string]: (hold: HoldResource, ...args: any) => unknown
}

type Arguments<F> = F extends (hold: HoldResource, ...args: infer A) => unknown ? A : never
type HandledCall<F> = F extends (...args: never) => infer R ? Awaited<R> : never

// =============================================================================
// the first process
// =============================================================================

/**
 * Answers the calls of a worker until it ends.
 *
 * @since 0.1.0
 * @category constructors
 */
export const serveCalls = (worker: WorkerEnd, answers: CallHandlers): void => {
  const held = new Map<number, () => void>()
  const send = (message: Message) => {
    // Who has ended meanwhile waits for nothing.
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
// a worker
// =============================================================================

/**
 * A call that is open or was answered. `result` rejects with an `Error` that says why there is no answer;
 * `release` gives up the call, or gives back what it was answered with, and may come more than once.
 *
 * @since 0.1.0
 * @category models
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

/**
 * Calls the first process.
 *
 * @since 0.1.0
 * @category models
 */
export class WorkerRpcClient<A extends CallHandlers> {
  private count = 0
  /** How many of those that are open wait for something: they must not keep others from being answered. */
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

  /** A call whose answer may take its time (no `limit`, in milliseconds), or is something to be given back. */
  begin<N extends keyof A & string>(name: N, args: Arguments<A[N]>, limit?: number): WorkerCall<HandledCall<A[N]>> {
    const id = this.count++
    const waits = limit === undefined
    if ((waits ? this.waiting : this.open.size - this.waiting) >= maxOpen) {
      const reason = `${maxOpen} questions to the first process are open already`
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

  /** A call that is answered at once. */
  call<N extends keyof A & string>(name: N, ...args: Arguments<A[N]>): Promise<HandledCall<A[N]>> {
    return this.begin(name, args, callTimeout).result
  }
}

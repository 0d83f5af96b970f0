/** What wakes machines that sleep. */
import type { Host } from "../Server.js"

/** What wakes machines, for all calls. */
export interface Waking {
  /** Whether a server is known to be off, can be woken, and may have the model. */
  readonly asleep: (host: Host) => boolean
  /** Has its machine woken; returns what ends the wait. */
  readonly wake: (
    host: Host,
    waiter: { readonly woken: () => void; readonly failed: (reason: string) => void }
  ) => () => void
}

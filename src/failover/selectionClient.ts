/** What a server selection needs of the call that it serves. */
import type { ServerFailure } from "../Backend.js"
import type { Attempt, Unsupported } from "../Errors.js"
import type { Host, Protocol } from "../Server.js"
import type { Call } from "./call.js"

/** The call that the selection serves. */
export interface SelectionClient {
  /** The failed ones. */
  readonly attempts: ReadonlyArray<Attempt>
  readonly call: Pick<Call, "began" | "limits">
  /** Whether a server says that the request itself is invalid. */
  readonly claimed: boolean
  /** Whether no server is tried twice, because another model follows. */
  readonly once: boolean
  /** The options of the request that a protocol cannot express, each with the reason. */
  unsupported(protocol: Protocol): ReadonlyArray<Unsupported>
  /** This server is to be asked; it already counts in `tries`. */
  found(at: number): void
  /** This server does not support the request. */
  unable(host: Host, failure: ServerFailure): void
  /** No server is being asked for the time being. */
  delayed(queued: boolean): void
  /** The call has left the queue. */
  dequeued(): void
  /** No server is left. */
  exhausted(): void
  /** All are busy, and the queue is full. */
  overloaded(ticket: { readonly retryAfter: number; readonly queued: number }): void
  /** A bug. */
  defect(error: unknown): void
}

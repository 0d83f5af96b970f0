/** The events about attempts, and the record of those that failed. */
import type { ServerFailure } from "../Backend.js"
import type { ErrorEvent, Meta } from "../ChatEvent.js"
import type { Decision } from "../Decision.js"
import type { Attempt, Phase } from "../Errors.js"
import type { Host } from "../Server.js"
import { CallDecision } from "./decision.js"
import { EventBuffer } from "./eventBuffer.js"
import { failedAttempt, remember } from "./failedAttempt.js"

/** The event of an attempt that begins; `loads`: the server has to load the model first. */
export const metaEvent = (
  server: string,
  attempt: number,
  hedge: boolean,
  loads: boolean,
  timestamp: number,
  decision: Decision
): Meta => ({
  type: "meta",
  meta: {
    type: "attempt",
    server,
    attempt,
    ...(hedge ? { hedge } : {}),
    ...(loads ? { loads } : {}),
    decision
  },
  timestamp
})

/** An event buffer that holds the error event of a failed attempt back until the next server is known. */
export abstract class FailureEvents extends EventBuffer {
  /** The attempts that failed. */
  readonly attempts: Array<Attempt> = []
  /** The failure of the last attempt, until the next server is known. */
  private pendingError: ErrorEvent | undefined

  /** The time, in milliseconds since the epoch. */
  abstract now(): number

  /** Why this one of the servers of the model is asked. */
  protected decide(hosts: ReadonlyArray<Host>, host: Host): Decision {
    return new CallDecision(this.call, hosts, host, this.attempts)
  }

  /** Records a failed attempt that began then, in milliseconds since the epoch. */
  protected recordAttempt(host: Host, phase: Phase, failure: ServerFailure, began: number): void {
    remember(this.attempts, failedAttempt(host, phase, failure, this.now() - began))
  }

  /** Prepares the error event of the attempt that was recorded last. */
  protected recordFailure(server: string, failure: ServerFailure): void {
    const attempt = this.attempts[this.attempts.length - 1]
    if (!this.call.events || attempt === undefined) return
    const content = `${server} failed: ${failure.message}`
    this.pendingError = { type: "error", content, attempt, timestamp: this.now() }
  }

  /** Emits the pending error event, with the next server if it is known by now. */
  protected flushError(next: string | undefined): void {
    const event = this.pendingError
    if (event === undefined) return
    this.pendingError = undefined
    this.batch.push(next === undefined ? event : { ...event, next })
  }

  protected override drop(): void {
    super.drop()
    this.pendingError = undefined
  }
}

/** A call that has a listener in addition to being recorded. */
import type { Span } from "effect/Tracer"
import type { Usage } from "../ChatEvent.js"
import type { FailureReason, Phase } from "../Errors.js"
import type { Host } from "../Server.js"
import type { TraceContext } from "../Transport.js"
import type { AnswerEnd, AttemptObserver, AttemptWatch, CallListener, CallObserver, Resumption } from "./observer.js"

class WatchedAttempt implements AttemptObserver {
  readonly context: TraceContext | undefined

  constructor(
    private readonly record: AttemptObserver,
    private readonly watch: AttemptWatch
  ) {
    this.context = record.context
  }

  phase(phase: Phase): void {
    this.watch.phase(phase)
  }
  resumes(how: Resumption): void {
    this.record.resumes(how)
    this.watch.resumes(how)
  }
  succeeded(firstTokenTime: number | undefined, tokensPerSecond: number | undefined): void {
    this.record.succeeded(firstTokenTime, tokensPerSecond)
    this.watch.succeeded(firstTokenTime, tokensPerSecond)
  }
  failed(reason: FailureReason, phase: Phase, status: number | undefined): void {
    this.record.failed(reason, phase, status)
    this.watch.failed(reason, phase, status)
  }
  cancelled(phase: Phase): void {
    this.record.cancelled(phase)
    this.watch.cancelled(phase)
  }
  overtaken(phase: Phase): void {
    this.record.overtaken(phase)
    this.watch.overtaken(phase)
  }
}

export class ListenedCall implements CallObserver {
  readonly span: Span | undefined

  constructor(
    private readonly record: CallObserver,
    private readonly listener: CallListener
  ) {
    this.span = record.span
  }

  attempt(host: Host, loads: boolean, hedge: boolean): AttemptObserver {
    return new WatchedAttempt(this.record.attempt(host, loads, hedge), this.listener.attempt(host, loads, hedge))
  }
  queued(): void {
    this.record.queued()
    this.listener.queued()
  }
  dequeued(): void {
    this.record.dequeued()
    this.listener.dequeued()
  }
  used(usage: Usage): void {
    this.record.used(usage)
    this.listener.used(usage)
  }
  answered(ending: AnswerEnd): void {
    this.record.answered(ending)
    this.listener.answered(ending)
  }
  failed(error: unknown): void {
    this.record.failed(error)
    this.listener.failed(error)
  }
  closed(): void {
    this.record.closed()
    this.listener.closed()
  }
}

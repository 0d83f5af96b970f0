/**
 * Whether it is the request that fails, or the servers: what one call's failures come to when they are held side by side.
 *
 * A server that refuses a request is believed when a second one agrees, or where there is no other one to ask. Errors that
 * may be the request's count against their servers only until every server has failed alike.
 *
 * @since 0.1.0
 */
import type { ServerFailure } from "../Backend.js"
import { failedMidway } from "../backend/errorText.js"
import { InvalidRequest } from "../Errors.js"
import { classifyFailure } from "../fleet/failureClass.js"
import type { Lease } from "../fleet/lease.js"

interface BlamedFailure {
  readonly server: string
  readonly lease: Lease
  readonly failure: ServerFailure
}

const isClaim = ({ failure }: BlamedFailure): boolean => classifyFailure(failure).fault === "request"

const invalid = ({ failure, server }: BlamedFailure): InvalidRequest =>
  new InvalidRequest({
    field: "request",
    reason: failure.message,
    server,
    ...(failure.reason === "context-length" ? { code: "context_length_exceeded" as const } : {})
  })

/**
 * @since 0.1.0
 * @category models
 */
export class FaultAttribution {
  private failures: Array<BlamedFailure> = []
  /** A server that was reached failed in a way that says nothing about the request. */
  private serverAtFault = false

  /** `known`: whether servers have agreed before that this request is wrong. */
  constructor(private readonly known: () => boolean) {}

  /** A server has failed before anything of its answer was given out. */
  failed(server: string, lease: Lease, failure: ServerFailure): void {
    const { retryable: again, fault: culprit, provisional, unreachable } = classifyFailure(failure)
    if (culprit === "request" || provisional) this.failures.push({ server, lease, failure })
    else if (culprit === "server" && again && !unreachable) this.serverAtFault = true
  }

  /** What the call fails with at once: two servers say that it is the request, or have said so of the same before. */
  get agreed(): InvalidRequest | undefined {
    const claims = this.failures.filter(isClaim)
    const [first] = claims
    if (first === undefined) return undefined
    if (!claims.some(({ server }) => server !== first.server) && !this.known()) return undefined
    // Of several words the most telling ones.
    return invalid(claims.find(({ failure }) => failure.reason === "context-length") ?? first)
  }

  /** A server says that it is the request, and nobody has confirmed it yet. */
  get claimed(): boolean {
    return this.failures.some(isClaim)
  }

  /** Nobody is left to ask: what the call fails with, if it is the request; what is held against servers is settled. */
  ended(): InvalidRequest | undefined {
    const { failures } = this
    const claim = failures.find(isClaim)
    const servers = new Set(failures.map(({ server }) => server)).size
    const alike = claim !== undefined || (servers > 1 && !this.serverAtFault)
    const broken = servers > 1 && !this.serverAtFault && failures.every(({ failure }) => failedMidway(failure.message))
    const [first] = failures
    if (alike) {
      for (const { lease } of failures) lease.pardon()
      this.reset()
    } else this.abandoned()
    if (claim !== undefined) return invalid(claim)
    return broken && first !== undefined ? invalid(first) : undefined
  }

  /** A server has answered it: whoever refused it was wrong, and whoever failed has failed. */
  answered(): void {
    for (const { lease } of this.failures) lease.contradicted()
    this.reset()
  }

  /** Nobody will know any more. */
  abandoned(): void {
    for (const failure of this.failures) isClaim(failure) ? failure.lease.pardon() : failure.lease.contradicted()
    this.reset()
  }

  private reset(): void {
    this.failures = []
    this.serverAtFault = false
  }
}

/** How long, in milliseconds, and how many agreements are remembered. */
const rememberedFor = 60_000
const maxRemembered = 256

/** A short name for a request: two requests of one name would have to be equally long, too. */
const nameOf = (request: object): string => {
  const text = JSON.stringify(request)
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return `${text.length} ${hash >>> 0}`
}

/**
 * Requests that servers have agreed about: a client that repeats one of them costs one server one request each time, and
 * not two. Nothing of a request is kept but a number made of it.
 *
 * @since 0.1.0
 * @category models
 */
export class RejectedRequests {
  private readonly until = new Map<string, number>()

  constructor(private readonly now: () => number) {}

  has(request: object): boolean {
    if (this.until.size === 0) return false
    const until = this.until.get(nameOf(request))
    const now = this.now()
    return until !== undefined && until > now && until <= now + rememberedFor
  }

  /** An agreement is checked anew after its time, however often it was used. */
  add(request: object): void {
    if (this.has(request)) return
    const name = nameOf(request)
    this.until.delete(name)
    this.until.set(name, this.now() + rememberedFor)
    const [oldest] = this.until.keys()
    if (this.until.size > maxRemembered && oldest !== undefined) this.until.delete(oldest)
  }
}

/**
 * Fault attribution: compares the failures of one call to decide whether the request or the servers are at fault.
 *
 * A rejection is believed when a second server agrees, or when there is no other server. Errors that may be caused by
 * the request count against their servers only until every server has failed alike.
 */
import { LRUCache } from "lru-cache"
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
    field: failure.option ?? "request",
    reason: failure.message,
    server,
    ...(failure.reason === "context-length" ? { code: "context_length_exceeded" as const } : {})
  })

export class FaultAttribution {
  private failures: Array<BlamedFailure> = []
  /** A reachable server failed in a way that says nothing about the request. */
  private serverAtFault = false

  /** `known`: whether servers have agreed on rejecting this request before. */
  constructor(private readonly known: () => boolean) {}

  /** Records a failure before anything of the answer was emitted. */
  failed(server: string, lease: Lease, failure: ServerFailure): void {
    const { retryable, fault, provisional, unreachable } = classifyFailure(failure)
    if (fault === "request" || provisional) this.failures.push({ server, lease, failure })
    else if (fault === "server" && retryable && !unreachable) this.serverAtFault = true
  }

  /** Records the failure of an answer that had begun: the request is valid, its continuation is another one. */
  interrupted(lease: Lease, failure: ServerFailure): void {
    this.answered()
    if (classifyFailure(failure).fault !== "request") lease.contradicted()
  }

  /** The error of the call, if two servers reject the request, or have rejected the same one before. */
  get agreed(): InvalidRequest | undefined {
    const claims = this.failures.filter(isClaim)
    const [first] = claims
    if (first === undefined) return undefined
    if (!claims.some(({ server }) => server !== first.server) && !this.known()) return undefined
    // The most specific message wins.
    return invalid(claims.find(({ failure }) => failure.reason === "context-length") ?? first)
  }

  /** A server rejects the request, and none has confirmed it yet. */
  get claimed(): boolean {
    return this.failures.some(isClaim)
  }

  /** No server is left: returns the error if the request is at fault, and settles what counts against servers. */
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

  /** A server has answered: those that rejected the request were wrong, and those that failed were at fault. */
  answered(): void {
    for (const { lease } of this.failures) lease.contradicted()
    this.reset()
  }

  /** The call was abandoned: nothing more will be known. */
  abandoned(): void {
    for (const failure of this.failures) isClaim(failure) ? failure.lease.pardon() : failure.lease.contradicted()
    this.reset()
  }

  private reset(): void {
    this.failures = []
    this.serverAtFault = false
  }
}

/** How long (in milliseconds) and how many rejected requests are remembered. */
const rememberedFor = 60_000
const maxRemembered = 256

/** A hash of a request. A collision would also require equal lengths. */
const nameOf = (request: object): string => {
  const text = JSON.stringify(request)
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return `${text.length} ${hash >>> 0}`
}

/**
 * Requests that servers have agreed to reject: repeating one costs one server one request, not two. Only a hash of each
 * is kept.
 */
export class RejectedRequests {
  private readonly until = new LRUCache<string, number>({ max: maxRemembered })

  constructor(private readonly now: () => number) {}

  has(request: object): boolean {
    if (this.until.size === 0) return false
    const until = this.until.peek(nameOf(request))
    const now = this.now()
    return until !== undefined && until > now && until <= now + rememberedFor
  }

  /** The entry expires after its time, however often it was used, and is then verified again. */
  add(request: object): void {
    if (this.has(request)) return
    this.until.set(nameOf(request), this.now() + rememberedFor)
  }
}

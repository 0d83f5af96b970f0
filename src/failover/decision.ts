/** Why one attempt went where it went: created for each attempt, computed only when it is read. */
import type * as Decision from "../Decision.js"
import { unknown } from "../Decision.js"
import type { Attempt } from "../Errors.js"
import { type Host, isLocal } from "../Server.js"
import type { Call } from "./call.js"

const inspect = Symbol.for("nodejs.util.inspect.custom")

const isUnable = ({ reason, status }: Attempt): boolean =>
  reason === "remote-limit" || (reason === "unsupported" && status === undefined)

export class CallDecision implements Decision.Decision {
  readonly #call: Pick<Call, "request" | "candidate" | "routing" | "private">
  readonly #hosts: ReadonlyArray<Host>
  readonly #host: Host
  readonly #attempts: ReadonlyArray<Attempt>
  readonly #count: number
  /** Worked out once: the reason, the candidates and those left out each need it. */
  #excluded: ReadonlyArray<Decision.Excluded> | undefined

  /** `hosts` are the servers of the model; of `attempts` those count that there are now. */
  constructor(
    call: Pick<Call, "request" | "candidate" | "routing" | "private">,
    hosts: ReadonlyArray<Host>,
    host: Host,
    attempts: ReadonlyArray<Attempt>
  ) {
    this.#call = call
    this.#hosts = hosts
    this.#host = host
    this.#attempts = attempts
    this.#count = attempts.length
  }

  get asked(): string {
    const { candidate, request } = this.#call
    return candidate?.selection?.asked ?? candidate?.name ?? request.model
  }

  get chosen(): Decision.Pair {
    return { model: this.#host.model, server: this.#host.server.url }
  }

  get reason(): string {
    const { candidate, routing } = this.#call
    const failed = this.#before.findLast((attempt) => !isUnable(attempt))
    const only = this.candidates.length === 1 ? "the only server that may be asked" : `routing ${routing ?? "random"}`
    const chosen = candidate?.reason ?? only
    return failed === undefined ? chosen : `${chosen}; failover after ${failed.reason}`
  }

  get candidates(): ReadonlyArray<Decision.Candidate> {
    const { selection } = this.#call.candidate ?? {}
    if (selection !== undefined) return selection.candidates
    const excluded = new Set(this.excluded.map(({ server }) => server))
    return this.#hosts.flatMap(({ certain, model, server }) =>
      excluded.has(server.url)
        ? []
        : [{ model, server: server.url, reason: certain ? "" : "it could not be asked whether it has the model" }]
    )
  }

  get excluded(): ReadonlyArray<Decision.Excluded> {
    this.#excluded ??= this.#leftOut()
    return this.#excluded
  }

  #leftOut(): ReadonlyArray<Decision.Excluded> {
    const { candidate, private: localOnly } = this.#call
    const unable = new Map(this.#before.filter(isUnable).map(({ message, server }) => [server, message]))
    const here = this.#hosts.flatMap((host) => {
      const { model, server } = host
      const reason =
        localOnly === true && !isLocal(server)
          ? "the call is private, and the server is remote"
          : candidate?.accepts?.(host) === false
            ? `it does not speak ${candidate.protocol ?? "what was asked for"}`
            : unable.get(server.url)
      return reason === undefined ? [] : [{ model, server: server.url, reason }]
    })
    const before = candidate?.selection?.excluded ?? []
    if (before.length === 0) return here
    const known = new Set(before.map(({ model, server }) => `${server} ${model}`))
    return [...before, ...here.filter(({ model, server }) => !known.has(`${server} ${model}`))]
  }

  get conditions(): Decision.Conditions {
    return this.#call.candidate?.selection?.conditions ?? unknown
  }

  get #before(): ReadonlyArray<Attempt> {
    return this.#attempts.slice(0, this.#count)
  }

  toJSON(): Decision.Decision {
    const { asked, candidates, chosen, conditions, excluded, reason } = this
    return { asked, chosen, reason, candidates, excluded, conditions }
  }

  [inspect](): Decision.Decision {
    return this.toJSON()
  }
}

/**
 * Who may use the gateway, and how much.
 *
 * @since 0.1.0
 */
import { createHash, timingSafeEqual } from "node:crypto"
import type { IncomingMessage } from "node:http"
import * as Redacted from "effect/Redacted"
import { make, type Problem } from "./problem.js"
import { type Access, isLoopback, type Settings } from "./settings.js"

// =============================================================================
// keys
// =============================================================================

const digest = (text: string): Buffer => createHash("sha256").update(text).digest()

const given = (request: IncomingMessage): string | undefined => {
  const { authorization } = request.headers
  if (authorization !== undefined) return /^bearer /i.test(authorization) ? authorization.slice(7).trim() : undefined
  const other = request.headers["x-api-key"] ?? request.headers["api-key"]
  return typeof other === "string" ? other : undefined
}

/**
 * Finds the key of a request. How long that takes says nothing about the keys: digests are compared, and always all.
 *
 * @since 0.1.0
 * @category constructors
 */
export const authenticator = (
  keys: ReadonlyArray<Access>
): ((request: IncomingMessage) => Access | undefined | Problem) => {
  const known = keys.map((access) => ({ access, hash: digest(Redacted.value(access.secret)) }))
  const missing = make(
    401,
    "No API key was given. Send it as 'Authorization: Bearer YOUR_KEY' or 'x-api-key: YOUR_KEY'.",
    "missing_api_key"
  )
  const wrong = make(401, "The API key is wrong.", "invalid_api_key")
  return (request) => {
    if (known.length === 0) return undefined
    const key = given(request)
    if (key === undefined) return missing
    const hash = digest(key)
    let found: Access | undefined
    for (const one of known) if (timingSafeEqual(hash, one.hash)) found = one.access
    return found ?? wrong
  }
}

// =============================================================================
// web pages
// =============================================================================

/** A name says the same in capitals, and with the dot of the root behind it. */
const hostOf = (text: string): string => text.toLowerCase().replace(/:\d+$/, "").replace(/\.$/, "")

/**
 * Whether a web page of this origin may use the gateway: one of this machine, of the gateway itself, or one that the
 * user named. Any page that a user visits can send requests to his own machine.
 *
 * @since 0.1.0
 * @category guards
 */
export const allowsOrigin = (settings: Settings, origin: string, host: string | undefined): boolean => {
  if (settings.cors.includes("*") || settings.cors.includes(origin)) return true
  let url: URL
  try {
    url = new URL(origin)
  } catch {
    return false
  }
  return isLoopback(url.hostname) || (host !== undefined && url.host === host && settings.keys.length > 0)
}

/**
 * Whether the name by which the gateway was called is its own. Without a key, a page whose name was made to point at
 * this machine would otherwise be taken for one of it.
 *
 * @since 0.1.0
 * @category guards
 */
export const allowsHost = (settings: Settings, host: string | undefined): boolean =>
  settings.keys.length > 0 ||
  !isLoopback(settings.host) ||
  host === undefined ||
  host === "" ||
  isLoopback(hostOf(host)) ||
  hostOf(host) === settings.host.toLowerCase() ||
  hostOf(host).endsWith(".localhost")

// =============================================================================
// limits
// =============================================================================

const minute = 60_000

/** What may be used within a minute, given back steadily. It may be overdrawn, as tokens are counted afterwards. */
class Bucket {
  private left: number
  private at: number

  constructor(
    private size: number,
    now: number
  ) {
    this.left = size
    this.at = now
  }

  resize(size: number): void {
    this.left = Math.min(this.left, size)
    if (this.size < size) this.left += size - this.size
    this.size = size
  }
  /** How long until `amount` is there, in milliseconds: 0 where it is. */
  wait(amount: number, now: number): number {
    if (this.size === Number.POSITIVE_INFINITY) return 0
    this.left = Math.min(this.size, this.left + ((now - this.at) / minute) * this.size)
    this.at = now
    return this.left >= amount ? 0 : ((amount - this.left) / this.size) * minute
  }
  take(amount: number): void {
    this.left -= amount
  }
}

interface Use {
  requests: Bucket
  tokens: Bucket
  active: number
}

/**
 * How much a key may use, by its name; without the key itself.
 *
 * @since 0.1.0
 * @category models
 */
export type Allowance = Pick<Access, "name" | "requestsPerMinute" | "tokensPerMinute" | "concurrency">

/**
 * @since 0.1.0
 * @category accessors
 */
export const allowance = ({ concurrency, name, requestsPerMinute, tokensPerMinute }: Access): Allowance => ({
  name,
  requestsPerMinute,
  tokensPerMinute,
  concurrency
})

/**
 * @since 0.1.0
 * @category accessors
 */
export const isLimited = ({ concurrency, requestsPerMinute, tokensPerMinute }: Allowance): boolean =>
  Math.min(concurrency, requestsPerMinute, tokensPerMinute) < Number.POSITIVE_INFINITY

/**
 * What holds keys to their limits: those of one process, or of several together.
 *
 * - `enter`: lets a request in, which must `leave` again, or says why not; later where another process has to be asked
 * - `spend`: counts tokens that were used
 *
 * @since 0.1.0
 * @category models
 */
export interface Limiter {
  readonly enter: (access: Access) => Problem | undefined | Promise<Problem | undefined>
  readonly leave: (access: Access) => void
  readonly spend: (access: Access, tokens: number) => void
}

/**
 * Holds each key to its limits in this process. What was used is remembered over changes of the settings.
 *
 * @since 0.1.0
 * @category models
 */
export class Limits implements Limiter {
  private readonly uses = new Map<string, Use>()

  /** `now` is in milliseconds. */
  constructor(private readonly now: () => number) {}

  private of(access: Allowance): Use {
    let use = this.uses.get(access.name)
    const { requestsPerMinute: requests, tokensPerMinute: tokens } = access
    if (use === undefined) {
      use = { requests: new Bucket(requests, this.now()), tokens: new Bucket(tokens, this.now()), active: 0 }
      this.uses.set(access.name, use)
    } else {
      use.requests.resize(requests)
      use.tokens.resize(tokens)
    }
    return use
  }

  enter(access: Allowance): Problem | undefined {
    const use = this.of(access)
    const now = this.now()
    const full = (what: string, code: string, wait: number) =>
      make(429, `The API key '${access.name}' has reached its limit of ${what}.`, code, null, Math.max(wait, 1))
    if (use.active >= access.concurrency) {
      return full(`${access.concurrency} requests at once`, "concurrency_limit_exceeded", 1_000)
    }
    const requests = use.requests.wait(1, now)
    if (requests > 0) return full(`${access.requestsPerMinute} requests per minute`, "rate_limit_exceeded", requests)
    const tokens = use.tokens.wait(1, now)
    if (tokens > 0) return full(`${access.tokensPerMinute} tokens per minute`, "rate_limit_exceeded", tokens)
    use.requests.take(1)
    use.active++
    return undefined
  }
  // How much is allowed is learned from who enters: who leaves may have come under older settings.
  leave({ name }: Pick<Allowance, "name">): void {
    const use = this.uses.get(name)
    if (use !== undefined) use.active--
  }
  spend({ name }: Pick<Allowance, "name">, tokens: number): void {
    this.uses.get(name)?.tokens.take(tokens)
  }
}

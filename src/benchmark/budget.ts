/** What a benchmark may spend: tokens and requests are reserved before they are sent. */

/** Which part of a budget is used up. */
export type Exhausted = "time" | "requests" | "tokens"

export class Budget {
  requests = 0
  tokens = 0
  private reserved = 0
  /** When the present share of the time ends. */
  private shareEnd = Number.POSITIVE_INFINITY

  /** Times are in milliseconds, `end` since the epoch. */
  constructor(
    private readonly now: () => number,
    private readonly end: number,
    private readonly maxRequests: number,
    private readonly maxTokens: number
  ) {}

  /** One of so many that are still to come begins: a slow one must not use up the time of the others. */
  share(parts: number): void {
    const now = this.now()
    this.shareEnd = now + Math.max(0, this.end - now) / parts
  }

  /** How long is left of the share, in milliseconds. */
  get timeLeft(): number {
    return Math.max(0, Math.min(this.end, this.shareEnd) - this.now())
  }

  /** What of it does not suffice for so many requests of so many tokens each; `undefined` if all does. */
  lacks(requests: number, tokens: number): Exhausted | undefined {
    if (this.timeLeft <= 0) return "time"
    if (this.requests + requests > this.maxRequests) return "requests"
    return this.tokens + this.reserved + requests * tokens > this.maxTokens ? "tokens" : undefined
  }

  /** Reserves about so many tokens for a request. The function that it returns takes how many the request had. */
  reserve(tokens: number): (used: number) => void {
    this.requests++
    this.reserved += tokens
    let open = true
    return (used) => {
      if (!open) return
      open = false
      this.reserved -= tokens
      this.tokens += Math.ceil(used)
    }
  }
}

/** Reads `GET /events` of a gateway. */
export interface SeenEvent {
  readonly id: string
  readonly type: string
  // biome-ignore lint/suspicious/noExplicitAny: events are read freely.
  readonly data: any
}

export interface EventStream extends AsyncDisposable {
  readonly events: ReadonlyArray<SeenEvent>
  /** All that was sent. */
  readonly text: () => string
  /** Waits for an event. */
  readonly next: (fits: (event: SeenEvent) => boolean, what: string) => Promise<SeenEvent>
  readonly stop: () => Promise<void>
}

export const watchEvents = async (
  get: (path: string, init?: RequestInit) => Promise<Response>,
  query = "",
  headers: Record<string, string> = {}
): Promise<EventStream> => {
  const leaving = new AbortController()
  const response = await get(`/events${query}`, { headers, signal: leaving.signal })
  if (response.status !== 200 || response.body === null) throw new Error(`/events answers ${response.status}`)
  const events: Array<SeenEvent> = []
  const waiting = new Set<() => void>()
  let all = ""
  let rest = ""
  const over = (async () => {
    for await (const part of response.body as unknown as AsyncIterable<Uint8Array>) {
      const text = Buffer.from(part).toString("utf8")
      all += text
      rest += text
      const blocks = rest.split("\n\n")
      rest = blocks.pop() ?? ""
      for (const block of blocks) {
        const field = (name: string) => new RegExp(`^${name}: (.*)$`, "m").exec(block)?.[1]
        const [type, data] = [field("event"), field("data")]
        if (type !== undefined && data !== undefined)
          events.push({ id: field("id") ?? "", type, data: JSON.parse(data) })
      }
      for (const look of waiting) look()
    }
  })().catch(() => {})
  const stop = async () => {
    leaving.abort()
    await over
  }
  return {
    events,
    text: () => all,
    next: (fits, what) =>
      new Promise((resolve, reject) => {
        const timer = setTimeout(() => {
          waiting.delete(look)
          reject(new Error(`never happened: ${what}; there were ${JSON.stringify(events.slice(-20))}`))
        }, 25_000)
        const look = () => {
          const found = events.find(fits)
          if (found === undefined) return
          clearTimeout(timer)
          waiting.delete(look)
          resolve(found)
        }
        waiting.add(look)
        look()
      }),
    stop,
    [Symbol.asyncDispose]: stop
  }
}

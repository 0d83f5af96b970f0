/** Keeps what is known of a gateway up to date, over broken connections too. */
import { type Client, GatewayError } from "./client.js"
import type { TopState } from "./state.js"

/** Loads and unloads that others cause are no events, in milliseconds. */
const readInterval = 5_000

/** Pauses before a lost gateway is asked again, in milliseconds. */
const pauses = [500, 1_000, 2_000, 4_000, 5_000]

const messageOf = (error: unknown): GatewayError =>
  error instanceof GatewayError ? error : new GatewayError(0, error instanceof Error ? error.message : String(error))

export class Feed {
  readonly #stop = new AbortController()
  #isReading = false

  /** `changed` is called whenever something is known that was not. */
  constructor(
    private readonly client: Client,
    private readonly state: TopState,
    private readonly changed: () => void
  ) {}

  start(): void {
    void this.#run()
  }
  stop(): void {
    this.#stop.abort()
  }

  /** Reads all again. */
  async read(): Promise<void> {
    const { client, state } = this
    const [fleet, requests] = await Promise.all([client.fleet(), client.requests()])
    state.setFleet(fleet)
    state.setRequests(requests)
    this.changed()
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop
    let failures = 0
    while (!signal.aborted) {
      const began = Date.now()
      const why = await this.#watch(() => {
        failures = 0
      })
      if (signal.aborted) return
      // The stream of a gateway that reads its settings again ends and comes back at once.
      if (why === undefined && Date.now() - began > 1_000) continue
      const pause = pauses[Math.min(failures++, pauses.length - 1)] ?? 5_000
      this.state.connection = { state: "lost", why: why ?? "it closed the connection", retryAt: Date.now() + pause }
      this.changed()
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, pause)
        signal.addEventListener(
          "abort",
          () => {
            clearTimeout(timer)
            resolve()
          },
          { once: true }
        )
      })
    }
  }

  /** Follows the events until they end; why, if it was a failure. */
  async #watch(known: () => void): Promise<string | undefined> {
    const { client, state } = this
    const leaving = new AbortController()
    const leave = () => leaving.abort()
    this.#stop.signal.addEventListener("abort", leave, { once: true })
    /** Events that come while the state is read: they hold after it. */
    let early: Array<readonly [type: string, data: unknown]> | undefined
    let problem: string | undefined
    const readAll = async () => {
      early = []
      try {
        await this.read()
        const events = early
        early = undefined
        for (const [type, data] of events) state.take(type, data)
        state.connection = { state: "live" }
        known()
        this.changed()
      } catch (error) {
        problem = messageOf(error).message
        leave()
      }
    }
    const poll = setInterval(() => {
      if (early === undefined) void this.#readFleet()
    }, readInterval)
    try {
      await client.events(
        leaving.signal,
        () => void readAll(),
        (type, data) => {
          if (early !== undefined) early.push([type, data])
          else if (!state.take(type, data)) void readAll()
          else this.changed()
        }
      )
      return problem
    } catch (error) {
      return problem ?? messageOf(error).message
    } finally {
      clearInterval(poll)
      this.#stop.signal.removeEventListener("abort", leave)
    }
  }

  /** A failure here is one of the events too, which tell it. */
  async #readFleet(): Promise<void> {
    if (this.#isReading) return
    this.#isReading = true
    try {
      this.state.setFleet(await this.client.fleet())
      this.changed()
    } catch {
      // The stream of events says what is wrong.
    } finally {
      this.#isReading = false
    }
  }
}

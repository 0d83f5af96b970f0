/** Reads a gateway, and acts on it. */
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import * as Sse from "../../internal/sse.js"
import * as Wire from "./wire.js"

/** Where the gateway is, and the key to use there. */
export interface GatewayAddress {
  readonly url: string
  readonly key: string | undefined
}

/** How long an answer is waited for, in milliseconds. */
const timeout = 10_000

/** A gateway sends something at least every 15 seconds: after this time, in milliseconds, the line is dead. */
const maxSilence = 45_000

/** The largest answer that is read, in characters. */
const maxAnswer = 64 * 1024 * 1024

/** Why the gateway could not be read. `status` 0: there was no answer. */
export class GatewayError extends Error {
  override readonly name = "GatewayError"
  constructor(
    readonly status: number,
    message: string
  ) {
    super(message)
  }
}

const causes: { readonly [code: string]: string } = {
  ECONNREFUSED: "nothing listens there",
  ENOTFOUND: "its name cannot be resolved",
  EAI_AGAIN: "its name cannot be resolved",
  ECONNRESET: "it closed the connection",
  UND_ERR_SOCKET: "it closed the connection",
  EHOSTUNREACH: "its host cannot be reached",
  ENETUNREACH: "its network cannot be reached",
  ETIMEDOUT: "no connection within the time limit",
  UND_ERR_CONNECT_TIMEOUT: "no connection within the time limit"
}

const reasonOf = (error: unknown): string => {
  if (!(error instanceof Error)) return String(error)
  if (error.name === "TimeoutError") return "it does not answer"
  const { cause } = error
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : ""
  return causes[code] ?? (cause instanceof Error ? cause.message : error.message)
}

/** What is wrong, in the words of the gateway if it has any. */
const refusal = async (response: Response): Promise<GatewayError> => {
  const text = (await response.text().catch(() => "")).slice(0, 4_096)
  const { status } = response
  let message = ""
  try {
    message = String((JSON.parse(text) as { error?: { message?: unknown } }).error?.message ?? "")
  } catch {
    // It is no gateway of ours, or a proxy answers for it.
  }
  if (status === 404 && message === "") return new GatewayError(status, "it is not a gateway of aicortex")
  return new GatewayError(status, message === "" ? `it answers with HTTP ${status}` : message)
}

export class Client {
  constructor(readonly place: GatewayAddress) {}

  async #fetch(path: string, init: RequestInit = {}): Promise<Response> {
    const { key, url } = this.place
    const headers = new Headers(init.headers)
    if (key !== undefined) headers.set("authorization", `Bearer ${key}`)
    let response: Response
    try {
      response = await fetch(`${url}${path}`, {
        redirect: "error",
        signal: AbortSignal.timeout(timeout),
        ...init,
        headers
      })
    } catch (error) {
      throw new GatewayError(0, reasonOf(error))
    }
    if (!response.ok) throw await refusal(response)
    return response
  }

  /** An answer as it is. */
  async read(path: "/fleet" | "/requests"): Promise<unknown> {
    const response = await this.#fetch(path, { headers: { accept: "application/json" } })
    try {
      const text = await response.text()
      if (text.length > maxAnswer) throw new Error("too long")
      return JSON.parse(text)
    } catch {
      throw new GatewayError(response.status, "it is not a gateway of aicortex: its answer cannot be read")
    }
  }

  async #decoded<A, I>(path: "/fleet" | "/requests", schema: Schema.Schema<A, I>): Promise<A> {
    const decoded = Schema.decodeUnknownEither(schema)(await this.read(path))
    if (Either.isLeft(decoded)) {
      throw new GatewayError(200, `it is not a gateway of aicortex, or of another version: ${path} cannot be read`)
    }
    return decoded.right
  }

  fleet(): Promise<Wire.Fleet> {
    return this.#decoded("/fleet", Wire.Fleet)
  }
  requests(): Promise<Wire.Requests> {
    return this.#decoded("/requests", Wire.Requests)
  }

  async act(server: string, action: "rest" | "drain" | "wake"): Promise<void> {
    const response = await this.#fetch(`/servers/${encodeURIComponent(server)}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ action })
    })
    await response.body?.cancel()
  }
  async cancel(request: string): Promise<void> {
    const response = await this.#fetch(`/requests/${encodeURIComponent(request)}`, { method: "DELETE" })
    await response.body?.cancel()
  }

  /**
   * Reads the events until the stream ends or `signal` aborts it; `opened` runs when they begin to come. Rejects with
   * `GatewayError` where they cannot be read.
   */
  async events(signal: AbortSignal, opened: () => void, take: (type: string, data: unknown) => void): Promise<void> {
    const leaving = new AbortController()
    const leave = () => leaving.abort()
    signal.addEventListener("abort", leave, { once: true })
    let alarm = setTimeout(leave, timeout)
    try {
      const response = await this.#fetch("/events?types=fleet,request", {
        headers: { accept: "text/event-stream" },
        signal: leaving.signal
      })
      if (response.body === null) throw new GatewayError(200, "it sends no events")
      opened()
      const lines = Sse.make((data, _, type) => take(type, JSON.parse(data)))
      const reader = response.body.getReader()
      for (;;) {
        clearTimeout(alarm)
        alarm = setTimeout(leave, maxSilence)
        const { done, value } = await reader.read()
        if (done) return
        lines.feed(value)
      }
    } catch (error) {
      if (signal.aborted) return
      if (error instanceof GatewayError) {
        throw leaving.signal.aborted ? new GatewayError(0, "it does not answer") : error
      }
      throw new GatewayError(0, leaving.signal.aborted ? "it does not answer" : reasonOf(error))
    } finally {
      clearTimeout(alarm)
      signal.removeEventListener("abort", leave)
      leaving.abort()
    }
  }
}

/**
 * Gets an address, over redirects, and hands back the body as it comes. A token goes to the host that it is for, and to no
 * other that is redirected to.
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { isLoopback } from "../server/address.js"
import type { Exchange, Service as Transport, TransportFailure, TransportHandler } from "../Transport.js"
import { ofStatus, retryAfter, Trouble } from "./trouble.js"

const maxRedirects = 10

/** How much may wait to be taken, in bytes, before the server is held back. */
const highWater = 1024 * 1024

/** The secret of a host: `origin` is the only one that gets it. */
export interface Token {
  readonly origin: string
  readonly value: Redacted.Redacted
}

export interface Request {
  readonly url: string
  readonly headers?: { readonly [name: string]: string } | undefined
  readonly token?: Token | undefined
  /** How long nothing may come, in milliseconds. */
  readonly stallTimeout: number
}

/** What the hub says of a file when it redirects to where that lies. */
export interface Linked {
  readonly sha256?: string | undefined
  readonly size?: number | undefined
}

export interface Answer {
  readonly status: number
  readonly header: (name: string) => string | undefined
  /** Whose it is. */
  readonly host: string
  readonly linked: Linked
  readonly body: Body
}

const ofFailure = ({ message, reason }: TransportFailure, host: string): Trouble =>
  new Trouble({
    reason: "network",
    detail: `${host} cannot be reached, or broke off: ${message}`,
    // A certificate that is not trusted, and a protocol that is not spoken, stay so.
    passing: reason !== "tls" && reason !== "malformed" && reason !== "blocked"
  })

/** A body as it comes: what is not taken holds the server back. */
class Body implements TransportHandler {
  exchange: Exchange | undefined
  private parts: Array<Uint8Array> = []
  private bytes = 0
  private paused = false
  private done: "end" | Trouble | undefined
  private started: { readonly status: number; readonly headers: Headers } | undefined
  private wake: (() => void) | undefined

  constructor(
    private readonly host: string,
    private readonly stallTimeout: number
  ) {}

  connected(): void {}

  head(status: number, given: { readonly [name: string]: string | ReadonlyArray<string> | undefined }): void {
    const headers = new Headers()
    for (const [name, value] of Object.entries(given)) {
      for (const one of typeof value === "string" ? [value] : (value ?? [])) headers.append(name, one)
    }
    this.started = { status, headers }
    this.wake?.()
  }

  data(bytes: Uint8Array): void {
    // Copied, because the reader may reuse its buffer.
    this.parts.push(new Uint8Array(bytes))
    this.bytes += bytes.length
    if (this.bytes >= highWater && !this.paused) {
      this.paused = true
      this.exchange?.pause()
    }
    this.wake?.()
  }

  end(): void {
    this.done ??= "end"
    this.wake?.()
  }

  error(failure: TransportFailure): void {
    this.done ??= ofFailure(failure, this.host)
    this.wake?.()
  }

  private until(ready: () => boolean): Effect.Effect<void, Trouble> {
    return Effect.async<void>((resume) => {
      const check = () => {
        if (!ready()) return
        this.wake = undefined
        resume(Effect.void)
      }
      this.wake = check
      check()
      return Effect.sync(() => {
        this.wake = undefined
      })
    }).pipe(
      Effect.timeoutFail({
        duration: this.stallTimeout,
        onTimeout: () =>
          new Trouble({
            reason: "stalled",
            detail: `${this.host} sent nothing for ${Math.round(this.stallTimeout / 100) / 10} s`,
            passing: true
          })
      })
    )
  }

  readonly answered = Effect.suspend(() =>
    Effect.flatMap(
      this.until(() => this.started !== undefined || this.done !== undefined),
      () =>
        this.started !== undefined
          ? Effect.succeed(this.started)
          : Effect.fail(
              this.done instanceof Trouble
                ? this.done
                : new Trouble({ reason: "network", detail: `${this.host} did not answer`, passing: true })
            )
    )
  )

  /** The next bytes; `undefined` at the end. What came before a failure is handed out before it. */
  readonly take: Effect.Effect<ReadonlyArray<Uint8Array> | undefined, Trouble> = Effect.suspend(() =>
    Effect.flatMap(
      this.parts.length > 0 ? Effect.void : this.until(() => this.parts.length > 0 || this.done !== undefined),
      () => {
        const { done, parts } = this
        if (parts.length === 0) return done instanceof Trouble ? Effect.fail(done) : Effect.succeed(undefined)
        this.parts = []
        this.bytes = 0
        if (this.paused) {
          this.paused = false
          this.exchange?.resume()
        }
        return Effect.succeed(parts)
      }
    )
  )
}

/** One request, without redirects. It is given up when the scope closes. */
const once = (
  transport: Transport,
  { headers, stallTimeout, token, url }: Request & { readonly url: string }
): Effect.Effect<{ readonly status: number; readonly headers: Headers; readonly body: Body }, Trouble, Scope.Scope> =>
  Effect.gen(function* () {
    const { host, origin } = new URL(url)
    const body = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const body = new Body(host, stallTimeout)
        body.exchange = transport.send(
          {
            method: "GET",
            url,
            headers: {
              accept: "*/*",
              // Compressed files have other lengths and ranges.
              "accept-encoding": "identity",
              "user-agent": "aicortex",
              ...headers,
              ...(token?.origin === origin ? { authorization: `Bearer ${Redacted.value(token.value)}` } : {})
            },
            body: undefined
          },
          body
        )
        return body
      }),
      (body) => Effect.sync(() => body.exchange?.abort())
    )
    return { ...(yield* body.answered), body }
  })

const linkedOf = (headers: Headers): Linked => {
  const etag = /^(?:W\/)?"?([0-9a-f]{64})"?$/i.exec(headers.get("x-linked-etag") ?? "")?.[1]
  const size = headers.get("x-linked-size")
  return {
    sha256: etag?.toLowerCase(),
    size: size !== null && /^\d+$/.test(size) ? Number(size) : undefined
  }
}

const bareHost = (hostname: string) => hostname.replace(/^\[|\]$/g, "")

/** Whether a redirect may be followed. */
const refusal = (from: URL, to: URL): string | undefined => {
  if (to.protocol !== "http:" && to.protocol !== "https:") return `an address of ${to.protocol}`
  if (from.protocol === "https:" && to.protocol === "http:") return "an address without encryption"
  if (to.username !== "" || to.password !== "") return "an address with a password"
  const inward = isLoopback(bareHost(to.hostname)) && !isLoopback(bareHost(from.hostname))
  return inward ? "an address of this machine" : undefined
}

/** Gets an address, over redirects. The request is given up when the scope closes. */
export const get = Effect.fnUntraced(function* (
  transport: Transport,
  request: Request
): Effect.fn.Return<Answer, Trouble, Scope.Scope> {
  let url = new URL(request.url)
  let linked: Linked = {}
  for (let hops = 0; hops <= maxRedirects; hops++) {
    const { body, headers, status } = yield* once(transport, { ...request, url: url.href })
    const { host } = url
    // What is said of the file counts only where the hub itself says it.
    if (request.token === undefined || url.origin === request.token.origin || hops === 0) {
      const said = linkedOf(headers)
      linked = { sha256: linked.sha256 ?? said.sha256, size: linked.size ?? said.size }
    }
    const location = headers.get("location")
    if (![301, 302, 303, 307, 308].includes(status) || location === null) {
      if (status >= 200 && status < 300) {
        return { status, header: (name) => headers.get(name) ?? undefined, host, linked, body }
      }
      const now = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
      return yield* ofStatus({
        status,
        code: headers.get("x-error-code") ?? undefined,
        after: retryAfter(headers.get("retry-after") ?? undefined, now),
        host,
        token: request.token?.origin === url.origin
      })
    }
    const to = URL.canParse(location, url.href) ? new URL(location, url) : undefined
    const refused = to === undefined ? "something that is no address" : refusal(url, to)
    if (to === undefined || refused !== undefined) {
      return yield* new Trouble({
        reason: "redirect",
        detail: `${host} redirects to ${refused}`,
        status,
        passing: false
      })
    }
    url = to
  }
  return yield* new Trouble({
    reason: "redirect",
    detail: `${new URL(request.url).host} redirects more than ${maxRedirects} times`,
    passing: false
  })
})

/** A short text, whole. */
export const text = (transport: Transport, request: Request, maxBytes: number) =>
  Effect.scoped(
    Effect.gen(function* () {
      const { body, host } = yield* get(transport, request)
      const decoder = new TextDecoder()
      let whole = ""
      let bytes = 0
      while (true) {
        const parts = yield* body.take
        if (parts === undefined) return whole + decoder.decode()
        for (const part of parts) {
          bytes += part.length
          whole += decoder.decode(part, { stream: true })
        }
        if (bytes > maxBytes) {
          const detail = `the answer of ${host} is longer than ${maxBytes} bytes`
          return yield* new Trouble({ reason: "invalid-response", detail, passing: false })
        }
      }
    })
  )

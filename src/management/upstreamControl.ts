/** Calls a server's own API for a client: small requests whose answers are read completely, and streams of lines. */
import type { ServerFailure } from "../Backend.js"
import { errorText, headers as headersOf, statusFailure } from "../backend/http.js"
import * as Misaddressed from "../backend/wrongAddress.js"
import * as Lines from "../internal/lines.js"
import type { Server } from "../Server.js"
import type { Exchange, TraceContext, Service as Transport } from "../Transport.js"

/** A complete reply of a server. */
export interface UpstreamReply {
  readonly status: number
  readonly retryAfter: string | undefined
  readonly text: string
}

/** A server that could not be reached, or that returned an error. */
export class UpstreamFailed extends Error {
  override readonly name = "ControlFailed"
  constructor(readonly failure: ServerFailure) {
    super(failure.message)
  }
}

export interface UpstreamRequest {
  readonly method: "GET" | "HEAD" | "POST" | "DELETE"
  readonly path: string
  readonly body?: object | undefined
  /** A streamed body, and its length if known. */
  readonly upload?: { readonly parts: AsyncIterable<Uint8Array>; readonly length: string | undefined } | undefined
  /** Timeout in milliseconds: total, or idle for line streams and uploads. */
  readonly timeout: number
  /** The trace context that the request carries. */
  readonly context?: TraceContext | undefined
  /** Called when the request starts to be written. */
  readonly connected?: (() => void) | undefined
  /** Called with each line of a successful reply. */
  readonly line?: ((line: string) => void) | undefined
  /** Receives a function that cancels the request. */
  readonly stop?: ((stop: () => void) => void) | undefined
}

const maxReply = 256 * 1024 * 1024

/** The base address of a server, without the path of its OpenAI API. */
export const base = (server: Server): string => (server.api ?? server.url).replace(/\/v1$/, "")

const joined = (parts: ReadonlyArray<Uint8Array>): string => {
  const decoder = new TextDecoder()
  return parts.map((part) => decoder.decode(part, { stream: true })).join("") + decoder.decode()
}

async function* heard(parts: AsyncIterable<Uint8Array>, hear: () => void): AsyncGenerator<Uint8Array> {
  for await (const part of parts) {
    hear()
    yield part
  }
}

/** With a wrong address, the status does not answer the request. */
const explained = (
  failure: ServerFailure,
  failed: Parameters<typeof Misaddressed.explainWrongAddress>[1],
  method: UpstreamRequest["method"]
): ServerFailure => {
  // An answer without a body gives no reason.
  const { message, reason } = method === "HEAD" ? failure : Misaddressed.explainWrongAddress(failure, failed)
  return message === failure.message ? failure : { reason, message }
}

/** Sends a request to a server. Rejects with `UpstreamFailed` if it does not answer with a success status. */
export const send = (transport: Transport, server: Server, request: UpstreamRequest): Promise<UpstreamReply> =>
  new Promise((resolve, reject) => {
    const { upload } = request
    const url = `${base(server)}${request.path}`
    let status = 0
    let location: string | undefined
    let retryAfter: string | undefined
    let bytes = 0
    const parts: Array<Uint8Array> = []
    let lines: Lines.Lines | undefined
    let context: Exchange | undefined
    const fail = (failure: ServerFailure) => {
      clearTimeout(timer)
      context?.abort()
      reject(new UpstreamFailed(failure))
    }
    const timer = setTimeout(
      () => fail({ reason: "first-token-timeout", message: `no answer within ${request.timeout} ms` }),
      request.timeout
    )
    context = transport.send(
      {
        method: request.method,
        url,
        headers: {
          ...headersOf(server, "application/json"),
          ...(upload === undefined ? {} : { "content-type": "application/octet-stream" }),
          ...(upload?.length === undefined ? {} : { "content-length": upload.length }),
          ...request.context
        },
        body:
          upload !== undefined
            ? heard(upload.parts, () => timer.refresh())
            : request.body === undefined
              ? undefined
              : JSON.stringify(request.body)
      },
      {
        connected: () => request.connected?.(),
        head(code, headers) {
          status = code
          const after = headers["retry-after"]
          retryAfter = typeof after === "string" ? after : after?.[0]
          const to = headers["location"]
          location = typeof to === "string" ? to : to?.[0]
          if (code < 300 && request.line !== undefined) lines = Lines.make(request.line)
        },
        data(read) {
          if (lines !== undefined) {
            timer.refresh()
            try {
              lines.feed(read)
            } catch (error) {
              if (error instanceof UpstreamFailed) fail(error.failure)
              else fail({ reason: "malformed", message: error instanceof Error ? error.message : String(error) })
            }
            return
          }
          bytes += read.length
          if (bytes > maxReply) fail({ reason: "malformed", message: `an answer longer than ${maxReply} bytes` })
          else parts.push(new Uint8Array(read))
        },
        end() {
          clearTimeout(timer)
          lines?.end()
          const text = joined(parts)
          if (status >= 200 && status < 300) resolve({ status, retryAfter, text })
          else {
            const failed = { address: server.url, url, body: text, text: errorText(text), location }
            const failure = statusFailure(status, text, retryAfter, Date.now())
            reject(new UpstreamFailed(explained(failure, failed, request.method)))
          }
        },
        error: (failure) => fail(failure)
      }
    )
    request.stop?.(() => {
      clearTimeout(timer)
      context?.abort()
      reject(new UpstreamFailed({ reason: "network", message: "given up" }))
    })
  })

/** The same, parsed as JSON. */
export const json = async (
  transport: Transport,
  server: Server,
  request: UpstreamRequest
): Promise<{ readonly [name: string]: unknown }> => {
  const { text } = await send(transport, server, request)
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === "object" && value !== null) return value as { readonly [name: string]: unknown }
  } catch {
    // Reported below.
  }
  throw new UpstreamFailed({ reason: "malformed", message: "not a JSON object" })
}

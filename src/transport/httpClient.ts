/**
 * Effect's `HttpClient` over a `Transport`: requests other than chats (lists of models, loaded models) take the same
 * way, with the same connections.
 *
 * @internal
 */
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientError from "@effect/platform/HttpClientError"
import type * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import * as HttpIncomingMessage from "@effect/platform/HttpIncomingMessage"
import * as UrlParams from "@effect/platform/UrlParams"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { type Service, Transport, type TransportRequest } from "../Transport.js"
import * as PlainRequests from "./plainRequests.js"
import * as Transfers from "./transfer.js"

/** Default maximum length of an answer, in bytes; `HttpIncomingMessage.MaxBodySize` sets another. */
const defaultMaxBytes = 64 * 1024 * 1024

const text = new TextDecoder()

interface NodeHeaders {
  readonly [name: string]: string | ReadonlyArray<string> | undefined
}

/** Headers are read by name. */
const toHeaders = (given: NodeHeaders): Headers => {
  const headers = new Headers()
  for (const [name, value] of Object.entries(given)) {
    for (const one of typeof value === "string" ? [value] : (value ?? [])) headers.append(name, one)
  }
  return headers
}

/** What is read of a complete response; a `Response` with its streams costs more than all else. */
class BufferedResponse {
  constructor(
    readonly status: number,
    private readonly received: NodeHeaders,
    private readonly parts: ReadonlyArray<Uint8Array>
  ) {}

  private madeHeaders: Headers | undefined
  get headers(): Headers {
    this.madeHeaders ??= toHeaders(this.received)
    return this.madeHeaders
  }
  private get response(): Response {
    const { headers, parts, status } = this
    const content = status === 204 || status === 304 ? null : new Blob(parts as Array<Uint8Array<ArrayBuffer>>)
    return new Response(content, { status, headers })
  }
  get body(): ReadableStream<Uint8Array> | null {
    return this.response.body
  }
  async text(): Promise<string> {
    const [first] = this.parts
    if (first === undefined) return ""
    return text.decode(
      this.parts.length === 1 ? first : await new Blob(this.parts as Array<Uint8Array<ArrayBuffer>>).arrayBuffer()
    )
  }
  arrayBuffer(): Promise<ArrayBuffer> {
    return this.response.arrayBuffer()
  }
  formData(): Promise<FormData> {
    return this.response.formData()
  }
}

/** The stack of a socket's event says nothing, and costs as much as the rest of a refused request. */
const withoutStack = <A>(make: () => A): A => {
  const { stackTraceLimit } = Error
  Error.stackTraceLimit = 0
  try {
    return make()
  } finally {
    Error.stackTraceLimit = stackTraceLimit
  }
}

const methods: ReadonlySet<string> = new Set(["GET", "POST", "DELETE"] satisfies Array<TransportRequest["method"]>)

const send = (
  transport: Service,
  request: HttpClientRequest.HttpClientRequest,
  url: URL,
  maxBytes: number
): Effect.Effect<HttpClientResponse.HttpClientResponse, HttpClientError.HttpClientError> =>
  Effect.async((resume) => {
    const { body, headers, method } = request
    const bodyText = body._tag === "Empty" ? undefined : body._tag === "Uint8Array" ? text.decode(body.body) : null
    if (!methods.has(method) || bodyText === null) {
      const description = "only GET, POST and DELETE, with a body of bytes, are sent"
      resume(Effect.fail(new HttpClientError.RequestError({ request, reason: "Encode", description })))
      return
    }
    const contentType = body.contentType === undefined ? {} : { "content-type": body.contentType }
    let head: { readonly status: number; readonly headers: NodeHeaders } | undefined
    const parts: Array<Uint8Array> = []
    let bytes = 0
    const meter = new Transfers.TransferMeter()
    const response = (whole: boolean) => {
      const { headers = {}, status = 0 } = head ?? {}
      const source = new BufferedResponse(status, headers, whole ? parts : [])
      return HttpClientResponse.fromWeb(request, source as unknown as Response)
    }
    const broken = (cause: unknown): HttpClientError.HttpClientError =>
      withoutStack(() =>
        head === undefined
          ? new HttpClientError.RequestError({ request, reason: "Transport", cause })
          : new HttpClientError.ResponseError({ request, response: response(false), reason: "Decode", cause })
      )
    const exchange = transport.send(
      {
        method: method as TransportRequest["method"],
        url: url.href,
        headers: { ...headers, ...contentType },
        body: bodyText
      },
      {
        connected: () => meter.sent(),
        head: (status, headers) => {
          head = { status, headers }
        },
        data: (read) => {
          bytes += read.length
          meter.read(read.length)
          if (bytes <= maxBytes) {
            // Copied, because the reader may reuse its buffer.
            parts.push(new Uint8Array(read))
            return
          }
          exchange.abort()
          const cause = new Error(`the answer is longer than ${maxBytes} bytes`)
          resume(Effect.fail(broken(Object.assign(cause, { code: PlainRequests.tooLong }))))
        },
        end: () => {
          Transfers.remember(request, meter.transfer)
          resume(Effect.succeed(response(true)))
        },
        error: (failure) => resume(Effect.fail(broken(failure)))
      }
    )
    return Effect.sync(() => exchange.abort())
  })

/**
 * Not `HttpClient.make`, which makes spans, an `AbortController` and a finalizer for each request: these requests are
 * not traced, and are aborted by interruption.
 *
 * @internal
 */
export const layer: Layer.Layer<HttpClient.HttpClient, never, Transport> = Layer.effect(
  HttpClient.HttpClient,
  Effect.map(Transport, (transport) => {
    const client = HttpClient.makeWith<never, never, HttpClientError.HttpClientError, never>(
      Effect.flatMap((request) =>
        Effect.withFiberRuntime<HttpClientResponse.HttpClientResponse, HttpClientError.HttpClientError>((fiber) => {
          const url = UrlParams.makeUrl(request.url, request.urlParams, request.hash)
          if (Either.isLeft(url)) {
            return Effect.fail(new HttpClientError.RequestError({ request, reason: "InvalidUrl", cause: url.left }))
          }
          const size = Context.get(fiber.currentContext, HttpIncomingMessage.MaxBodySize)
          return send(
            transport,
            request,
            url.right,
            Option.match(size, { onNone: () => defaultMaxBytes, onSome: Number })
          )
        })
      ),
      Effect.succeed
    )
    PlainRequests.register(client, transport)
    return client
  })
)

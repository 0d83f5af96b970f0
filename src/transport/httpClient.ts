/**
 * Effect's `HttpClient` over a `Transport`: requests besides answers (lists of models, loaded models) take the same
 * way, with the same connections.
 *
 * @internal
 */
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientError from "@effect/platform/HttpClientError"
import type * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { type Service, Transport, type TransportRequest } from "../Transport.js"
import * as Transfers from "./transfer.js"

/** Maximum length of an answer, in bytes. */
const maxBytes = 64 * 1024 * 1024

const text = new TextDecoder()

/** Headers are read by name. */
const toHeaders = (given: { readonly [name: string]: string | ReadonlyArray<string> | undefined }): Headers => {
  const headers = new Headers()
  for (const [name, value] of Object.entries(given)) {
    for (const one of typeof value === "string" ? [value] : (value ?? [])) headers.append(name, one)
  }
  return headers
}

const methods: ReadonlySet<string> = new Set(["GET", "POST", "DELETE"] satisfies Array<TransportRequest["method"]>)

const send = (
  transport: Service,
  request: HttpClientRequest.HttpClientRequest,
  url: URL
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
    let head: { readonly status: number; readonly headers: Headers } | undefined
    const parts: Array<Uint8Array> = []
    let bytes = 0
    const meter = new Transfers.TransferMeter()
    const response = (whole: boolean) => {
      const { headers = new Headers(), status = 0 } = head ?? {}
      const content =
        whole && status !== 204 && status !== 304 ? new Blob(parts as Array<Uint8Array<ArrayBuffer>>) : null
      return HttpClientResponse.fromWeb(request, new Response(content, { status, headers }))
    }
    const broken = (cause: unknown): HttpClientError.HttpClientError =>
      head === undefined
        ? new HttpClientError.RequestError({ request, reason: "Transport", cause })
        : new HttpClientError.ResponseError({ request, response: response(false), reason: "Decode", cause })
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
          head = { status, headers: toHeaders(headers) }
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
          resume(Effect.fail(broken(new Error(`the answer is longer than ${maxBytes} bytes`))))
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

/** @internal */
export const layer: Layer.Layer<HttpClient.HttpClient, never, Transport> = Layer.effect(
  HttpClient.HttpClient,
  Effect.map(Transport, (transport) => HttpClient.make((request, url) => send(transport, request, url)))
)

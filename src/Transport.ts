/**
 * Sends a chat request to one server and hands back its bytes as they come. Plain callbacks, because this is the
 * token path; `transport/undici.ts` is the implementation for Node, `transport/fetch.ts` that for browsers and Bun.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type { FailureReason } from "./Errors.js"

/**
 * One request. `url` is absolute; `body` is complete, or comes in parts that are read as fast as they can be sent.
 *
 * @since 0.1.0
 * @category models
 */
export interface TransportRequest {
  /** The HTTP method. */
  readonly method: "GET" | "HEAD" | "POST" | "DELETE"
  /** The absolute address. */
  readonly url: string
  /** The headers, by lower-case name. */
  readonly headers: { readonly [name: string]: string }
  /** Complete, or in parts that are read as fast as they can be sent. */
  readonly body: string | AsyncIterable<Uint8Array> | undefined
}

/**
 * The place of a request in its trace, as W3C Trace Context writes it into headers.
 *
 * @since 0.1.0
 * @category models
 */
export interface TraceContext {
  /** The header `traceparent`. */
  readonly traceparent: string
  /** The header `tracestate`. */
  readonly tracestate?: string
}

/**
 * Why an exchange failed; `malformed` is a body that is not compressed as its head says, or in a way that is not read.
 * `code` is the system's or the HTTP client's name for it, where it has one.
 *
 * @since 0.1.0
 * @category models
 */
export interface TransportFailure {
  /** What went wrong. */
  readonly reason: Extract<
    FailureReason,
    "refused" | "dns" | "reset" | "tls" | "network" | "blocked" | "connect-timeout" | "malformed"
  >
  /** The same in words. It holds no secret. */
  readonly message: string
  /** The name that the system or the HTTP client has for it, such as `ECONNREFUSED`. */
  readonly code?: string | undefined
  /** The address of the proxy that could not be reached, or could not reach the server. */
  readonly proxy?: string | undefined
}

/**
 * Told what happens, in this order: `connected` once the request is being written, `head` once, `data` per
 * network read, then `end`. `error` may come at any point, once, and nothing comes after it, nor after an abort.
 *
 * @since 0.1.0
 * @category models
 */
export interface TransportHandler {
  /** The request is being written. */
  connected(): void
  /** The response begins. */
  head(status: number, headers: { readonly [name: string]: string | ReadonlyArray<string> | undefined }): void
  /** The next bytes of the body, decompressed. */
  data(bytes: Uint8Array): void
  /** The body is complete. */
  end(): void
  /** The exchange failed. */
  error(failure: TransportFailure): void
}

/**
 * A request under way. All three are safe to call at any time, also after its end.
 *
 * @since 0.1.0
 * @category models
 */
export interface Exchange {
  /** Stops the request at once, in every phase: the server sees its connection close. */
  abort(): void
  /** Stops reading, so that the server is held back. */
  pause(): void
  /** Reads on after `pause`. */
  resume(): void
}

/**
 * How a body arrived that its server sent as a whole.
 *
 * @since 0.2.0
 * @category models
 */
export interface Transfer {
  /** Its bytes without those of the first read, which had come before the clock ran. */
  readonly bytes: number
  /** From the first read to the last, in milliseconds. */
  readonly milliseconds: number
  /** From the request to the first read, in milliseconds; `undefined`: not measured. */
  readonly wait?: number | undefined
}

/**
 * How requests to servers are sent.
 *
 * @since 0.1.0
 * @category models
 */
export interface Service {
  /** Sends a request and tells the handler what happens. */
  readonly send: (request: TransportRequest, handler: TransportHandler) => Exchange
}

/**
 * The tag of the service.
 *
 * @since 0.1.0
 * @category tags
 */
export class Transport extends Context.Tag("aicortex/Transport")<Transport, Service>() {}

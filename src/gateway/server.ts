/** The gateway's HTTP server: its limits, timeouts, and handling of malformed requests. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http"
import { type AddressInfo, Server as NetServer, type Socket } from "node:net"
import * as Effect from "effect/Effect"
import { InvalidConfig } from "../Errors.js"
import { make, openAI } from "./http/errorResponse.js"
import * as Upload from "./http/upload.js"

/** Timeouts for receiving the headers, and the whole request, in milliseconds. */
const headersTimeout = 20_000
const requestTimeout = 120_000

/** How long a client may send nothing of a body, or read nothing of an answer, in milliseconds. */
const idleTimeout = 30_000

/** For how long a connection without a request stays open, and what Node adds to it, in milliseconds. */
const keepAliveTimeout = 75_000
const keepAliveBuffer = 1_000

/**
 * So many requests may wait on a connection behind the one that is being answered; so many and `uncounted` more may come
 * on it in one turn of the event loop. No usual client sends more than one.
 */
const maxPipelined = 16

/** After so many requests in a row from one connection the turn's end is waited for: for each it would cost a lone client. */
const uncounted = 8

/**
 * Client timeouts in milliseconds: for the headers (default 20,000), the whole request (120,000), and inactivity while
 * sending the request or reading the answer (30,000).
 */
export interface ClientTimeouts {
  readonly headersTimeout?: number | undefined
  readonly requestTimeout?: number | undefined
  readonly idleTimeout?: number | undefined
}

const parseErrors: { readonly [code: string]: ReturnType<typeof make> } = {
  HPE_HEADER_OVERFLOW: { ...make(431, "The headers are too long."), code: "headers_too_long" },
  ERR_HTTP_REQUEST_TIMEOUT: make(408, "The request did not come in time.", "request_timeout")
}

const reasonPhrases: { readonly [status: number]: string } = {
  400: "Bad Request",
  408: "Request Timeout",
  431: "Request Header Fields Too Large"
}

const onClientError = (error: NodeJS.ErrnoException, socket: Socket): void => {
  // An upload has no total timeout, only an idle timeout.
  if (error.code === "ERR_HTTP_REQUEST_TIMEOUT" && Upload.isUnderWay(socket)) return
  // A response has already begun: no error can be sent.
  const busy = (socket as Socket & { _httpMessage?: ServerResponse | null })._httpMessage
  if (!socket.writable || error.code === "ECONNRESET" || busy?.headersSent === true) {
    socket.destroy()
    return
  }
  const errorResponse = parseErrors[error.code ?? ""] ?? make(400, "The request is not HTTP.", "bad_request")
  const body = JSON.stringify(openAI(errorResponse))
  socket.end(
    `HTTP/1.1 ${errorResponse.status} ${reasonPhrases[errorResponse.status]}\r\nContent-Type: application/json; charset=utf-8\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
    () => socket.destroy()
  )
}

/**
 * Beyond `max` connections, closes the newest one of the address that has the most: an address below its equal share
 * loses none to another.
 */
const limitConnections = (server: Server, max: () => number): void => {
  const addresses = new Map<string, Set<Socket>>()
  let count = 0
  server.on("connection", (socket: Socket) => {
    const address = socket.remoteAddress ?? ""
    let sockets = addresses.get(address)
    if (sockets === undefined) {
      sockets = new Set()
      addresses.set(address, sockets)
    }
    const own = sockets
    own.add(socket)
    count++
    socket.once("close", () => {
      own.delete(socket)
      count--
      if (own.size === 0 && addresses.get(address) === own) addresses.delete(address)
    })
    if (count <= max()) return
    let most = own
    for (const other of addresses.values()) if (other.size > most.size) most = other
    let newest = socket
    for (const one of most) newest = one
    newest.destroy()
  })
}

/** Node's parser would continue with data that was already read, which takes 30 ms for a thousand requests. */
const stopParsing = (socket: Socket): void => {
  const { parser } = socket as Socket & { readonly parser?: { onIncoming?: unknown } | null }
  // As for an upgrade, the bytes that follow are not HTTP.
  if (typeof parser?.onIncoming === "function") parser.onIncoming = () => 2
}

/**
 * Closes connections with more than `maxPipelined` waiting or simultaneous requests: a few reads may contain thousands,
 * which would all be handled before other clients. Also emits `close` on waiting responses when their connection closes;
 * Node does that only for the response that currently has the socket.
 */
const unpipelined = (
  handle: (request: IncomingMessage, response: ServerResponse) => void
): ((request: IncomingMessage, response: ServerResponse) => void) => {
  const waiting = new WeakMap<Socket, Set<ServerResponse>>()
  const waitingOn = (socket: Socket): Set<ServerResponse> => {
    const known = waiting.get(socket)
    if (known !== undefined) return known
    const responses = new Set<ServerResponse>()
    waiting.set(socket, responses)
    socket.once("close", () => {
      for (const response of responses) {
        if (response.socket !== null) continue
        response.destroy()
        response.emit("close")
      }
    })
    return responses
  }
  const close = (socket: Socket): void => {
    socket.destroy()
    stopParsing(socket)
  }
  // Pipelined requests are parsed one right after the other.
  let latest: Socket | undefined
  let atOnce = 0
  const nextTurn = (): void => {
    latest = undefined
    atOnce = 0
  }
  return (request, response) => {
    const { socket } = request
    if (socket !== latest) {
      latest = socket
      atOnce = 0
    } else if (socket.destroyed) {
      return
    } else {
      if (++atOnce === uncounted) setImmediate(nextTurn)
      if (atOnce > uncounted + maxPipelined) {
        close(socket)
        return
      }
    }
    // A pipelined response gets its socket when the responses before it have ended.
    if (response.socket === null) {
      const responses = waitingOn(socket)
      if (responses.size >= maxPipelined) {
        close(socket)
        return
      }
      responses.add(response)
      response.once("close", () => responses.delete(response))
    }
    handle(request, response)
  }
}

/**
 * Node keeps the timers of one duration in a list, which it makes for the first one and drops with the last. A client
 * that asks alone would have it do that for each timer of each request; where one timer always waits, it does not.
 */
const keepTimerLists = (server: Server, durations: () => ReadonlyArray<number>): void => {
  let timers: ReadonlyArray<NodeJS.Timeout> = []
  server.on("listening", () => {
    const long = [...new Set(durations())].filter((duration) => duration >= 1_000)
    timers = long.map((duration) => setInterval(() => {}, duration).unref())
  })
  server.on("close", () => timers.forEach(clearInterval))
}

/** Sets how long clients that connect from now on may be idle, in milliseconds; default: 30,000. */
export const limitIdle = (server: Server, time: number | undefined): void => {
  server.timeout = time ?? idleTimeout
}

/**
 * `maxBody` and `maxConnections` are functions, because settings change. `callTimers`: the durations of the timers that
 * each request has besides those of the server, in milliseconds.
 */
export const create = (
  each: (request: IncomingMessage, response: ServerResponse) => void,
  maxBody: () => number,
  maxConnections: () => number,
  timeouts: ClientTimeouts = {},
  callTimers: ReadonlyArray<number> = []
): Server => {
  const handle = unpipelined(each)
  const headers = timeouts.headersTimeout ?? headersTimeout
  const server = createServer(
    {
      noDelay: true,
      keepAlive: true,
      keepAliveTimeout,
      headersTimeout: headers,
      requestTimeout: Math.max(headers, timeouts.requestTimeout ?? requestTimeout),
      connectionsCheckingInterval: Math.min(2_000, headers),
      maxHeaderSize: 32 * 1024
    },
    handle
  )
  limitIdle(server, timeouts.idleTimeout)
  limitConnections(server, maxConnections)
  keepTimerLists(server, () => [keepAliveTimeout + keepAliveBuffer, server.timeout, ...callTimers])
  server.on("clientError", onClientError)
  // `Expect: 100-continue`: an oversized body is rejected before it is sent.
  server.on("checkContinue", (request: IncomingMessage, response: ServerResponse) => {
    if (!(Number(request.headers["content-length"] ?? 0) > maxBody())) response.writeContinue()
    handle(request, response)
  })
  return server
}

/** How long a gateway that stops leaves idle connections open, in milliseconds: a request may be on its way on one. */
export const lingerTime = 100

/** Accepts no more connections. `Server.close` of HTTP would also close the idle ones at once. */
export const stopAccepting = (server: Server): void => {
  NetServer.prototype.close.call(server)
}

/** Listens, and returns the port. */
export const listen = (server: Server, host: string, port: number): Effect.Effect<number, InvalidConfig> =>
  Effect.async((resume) => {
    const failed = (error: NodeJS.ErrnoException) => {
      const reason =
        error.code === "EADDRINUSE"
          ? `port ${port} of ${host} is in use; choose another with --port`
          : error.code === "EACCES"
            ? `port ${port} of ${host} may not be used; choose one above 1023`
            : `cannot listen on ${host}:${port}: ${error.message}`
      resume(Effect.fail(new InvalidConfig({ source: "the options of the gateway", field: "port", reason })))
    }
    server.once("error", failed)
    server.listen(port, host, () => {
      server.off("error", failed)
      resume(Effect.succeed((server.address() as AddressInfo).port))
    })
  })

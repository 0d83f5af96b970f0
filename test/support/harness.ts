import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from "node:http"
import { type AddressInfo, Server as NetServer, type Socket } from "node:net"
import { type Fault, type FaultOn, type FaultPlan, faultFor, type Phase, refusesAlways, type Strike } from "./faults.js"
import { canonical, type FakeModel } from "./models.js"
import type { Continuation, Json, Reply } from "./script.js"

/** What a fake server does; all of it can be changed while it runs, with `setBehaviour`. */
export interface FakeOptions {
  readonly models?: ReadonlyArray<string | FakeModel> | undefined
  readonly reply?: Reply | undefined
  /** Milliseconds between tokens; "each" (default): one write and one read per token; "burst": a single write. */
  readonly perToken?: number | "burst" | "each" | undefined
  /** Milliseconds before the first token of every answer. */
  readonly firstToken?: number | undefined
  /** Milliseconds that the first request for a model waits until the model is in memory. */
  readonly loadDelay?: number | undefined
  /** Models that are in memory from the start. */
  readonly loaded?: ReadonlyArray<string> | undefined
  readonly apiKey?: string | undefined
  /** Extra headers on every response. */
  readonly headers?: Readonly<Record<string, string>> | undefined
  /** Chat requests served at a time; the next one gets 503 (Ollama) or 429. */
  readonly capacity?: number | undefined
  /** How a trailing assistant message is treated; the default is that of the server being faked. */
  readonly continuation?: Continuation | undefined
  /** Whether white space at the end of such a message is lost. */
  readonly trims?: boolean | undefined
  readonly faults?: FaultPlan | undefined
  readonly faultOn?: FaultOn | undefined
  /** The port; any that is free unless given. */
  readonly port?: number | undefined
  /** Told of every request that a strike hits, once per strike. */
  readonly onStruck?: ((strike: Strike, phase: Phase, request: RecordedRequest) => void) | undefined
}

/** One request as the fake saw it. */
export interface RecordedRequest {
  readonly method: string
  /** The path without its query. */
  readonly path: string
  readonly query: string
  readonly headers: IncomingHttpHeaders
  readonly kind: EndpointKind
  /** The parsed body; undefined where there is none or it is not JSON. */
  body: Json
  rawBody: string
  /** `Date.now()` when its headers were read. */
  readonly at: number
  /** The status answered, once it is. */
  status: number | undefined
  /** Tokens (or pieces of tool calls) written so far. */
  tokensSent: number
  /** How many its stream has in all, once it has begun. */
  tokensTotal: number | undefined
  /** The whole response was handed to the network. */
  finished: boolean
  /** The client closed the connection before the response was finished. */
  aborted: boolean
  /** `Date.now()` when the exchange ended, however it did. */
  closedAt: number | undefined
  /** Settles when the exchange ends: the time at which the client closed it, or undefined if the server ended it. */
  readonly closedByClient: Promise<number | undefined>
}

/** What an endpoint is for. */
export type EndpointKind = "chat" | "tags" | "discovery" | "other"

/** A fake server on loopback. */
export interface FakeServer<O extends FakeOptions = FakeOptions> extends AsyncDisposable {
  readonly url: string
  readonly port: number
  readonly protocol: "ollama" | "openai" | "anthropic"
  readonly requests: ReadonlyArray<RecordedRequest>
  readonly chatRequests: ReadonlyArray<RecordedRequest>
  /** Chats and embeddings being answered now. */
  readonly inFlight: () => number
  /** The most of them that were answered at the same time. */
  readonly maxInFlight: number
  /** Connections accepted so far. */
  readonly connections: number
  /** Settles when so many chat requests have arrived. */
  readonly waitForChats: (count: number) => Promise<void>
  /** Changes what it does from the next request on. New `faults` or `reply` start counting from 0 again. */
  readonly setBehaviour: (patch: Partial<O>) => Promise<void>
  /** Forgets the requests recorded so far. */
  readonly clear: () => void
  /** From now on this befalls every request, also those under way; `undefined` restores the server. */
  readonly strike: (strike: Strike | undefined) => Promise<void>
  /** Stops listening and destroys every connection. */
  readonly stop: () => Promise<void>
  /** Stops and listens again on the same port; loaded models are forgotten. */
  readonly restart: () => Promise<void>
}

/** One request being answered. */
export interface Exchange<O extends FakeOptions = FakeOptions> {
  readonly req: IncomingMessage
  readonly res: ServerResponse
  readonly record: RecordedRequest
  readonly options: O
  readonly fault: Fault | undefined
  /** The number of this chat request, for the scripted reply. */
  readonly n: number
  /** Models in memory: name to the promise of having been loaded. */
  readonly memory: Map<string, Promise<void>>
  readonly isClosed: () => boolean
  /** What befalls the server now. */
  readonly strike: () => Strike | undefined
  /** What befell it when the request came. */
  readonly cameUnder: Strike | undefined
  /** The strike hits this request here. */
  readonly struck: (phase: Phase) => void
  /** Settles when the server is restored, or something else befalls it. */
  readonly restored: () => Promise<void>
  /** Drops the connection from the server's side. */
  readonly drop: (how?: "fin" | "rst") => void
}

/** What makes a fake a server of one of the APIs. */
export interface Dialect<O extends FakeOptions> {
  readonly protocol: "ollama" | "openai" | "anthropic"
  readonly kindOf: (method: string, path: string) => EndpointKind
  readonly handle: (x: Exchange<O>) => void | Promise<void>
  /** Answers with the server's own error body. */
  readonly fail: (x: Exchange<O>, status: number, headers?: Readonly<Record<string, string>>) => void
  readonly modelNotFound: (x: Exchange<O>) => void
}

/** Waits; false when the exchange ended meanwhile. */
export const sleep = (x: Exchange, ms: number): Promise<boolean> =>
  new Promise((resolve) => {
    if (x.isClosed()) return resolve(false)
    const done = () => {
      clearTimeout(timer)
      x.res.off("close", done)
      resolve(!x.isClosed())
    }
    const timer = setTimeout(done, ms)
    x.res.once("close", done)
  })

/** Writes the status and headers. */
export function head(x: Exchange, status: number, headers: Readonly<Record<string, string | number>>): void {
  if (x.isClosed() || x.res.headersSent) return
  x.record.status = status
  const { origin } = x.req.headers
  // Servers let pages read all that they answer; a page that Ollama does not let in learns nothing.
  const cors = origin === undefined || status === 403 ? {} : { "access-control-allow-origin": origin }
  x.res.writeHead(status, { ...cors, ...headers, ...x.options.headers })
}

/** Starts a server that speaks a dialect. */
export async function startServer<O extends FakeOptions>(dialect: Dialect<O>, initial: O): Promise<FakeServer<O>> {
  let options = initial
  let port = initial.port ?? 0
  let strike: Strike | undefined
  let restored: () => void = () => {}
  let restoration = Promise.resolve()
  const underWay = new Set<Exchange<O>>()
  const hits = new WeakMap<RecordedRequest, Strike>()
  let stopped = false
  let refusing = false
  let chats = 0
  let arrived = 0
  let faultable = 0
  let active = 0
  let maxInFlight = 0
  let connections = 0
  let requests: Array<RecordedRequest> = []
  const sockets = new Map<Socket, ServerResponse | undefined>()
  const memory = new Map<string, Promise<void>>()
  const preload = (names: FakeOptions["loaded"]) =>
    names?.forEach((name) => memory.set(canonical(name), Promise.resolve()))
  preload(initial.loaded)
  const waiters = new Set<() => void>()

  const server = createServer({ noDelay: true, keepAliveTimeout: 0, requestTimeout: 0, headersTimeout: 0 })
  server.on("connection", (socket) => {
    connections++
    sockets.set(socket, undefined)
    socket.on("error", () => {})
    socket.on("close", () => sockets.delete(socket))
  })
  server.on("request", (req, res) => {
    if (refusing || stopped) return void req.socket.destroy()
    void serve(req, res)
  })

  async function serve(req: IncomingMessage, res: ServerResponse) {
    const socket = req.socket
    const method = req.method ?? "GET"
    const [path = "/", query = ""] = (req.url ?? "/").split("?", 2)
    let closed = false
    let dropped = false
    let settle: (at: number | undefined) => void = () => {}
    const record: RecordedRequest = {
      method,
      path,
      query,
      headers: req.headers,
      kind: dialect.kindOf(method, path),
      body: undefined,
      rawBody: "",
      at: Date.now(),
      status: undefined,
      tokensSent: 0,
      tokensTotal: undefined,
      finished: false,
      aborted: false,
      closedAt: undefined,
      closedByClient: new Promise((resolve) => {
        settle = resolve
      })
    }
    const isChat = record.kind === "chat"
    const works = isChat || /\/embed/.test(record.path)
    const n = isChat ? chats++ : chats
    const given = options
    const number = covers(given.faultOn ?? "chat", record.kind) ? faultable++ : undefined
    sockets.set(socket, res)
    if (works) maxInFlight = Math.max(maxInFlight, ++active)
    requests.push(record)
    res.on("error", () => {})
    res.on("close", () => {
      closed = true
      record.closedAt = Date.now()
      record.finished = res.writableFinished && !dropped
      record.aborted = !record.finished && !dropped && !stopped
      if (works) active--
      if (refusing) socket.destroy()
      settle(record.aborted ? record.closedAt : undefined)
    })
    const cameUnder = strike

    const raw = await readBody(req)
    if (raw === undefined) return
    record.rawBody = raw
    try {
      record.body = raw === "" ? undefined : JSON.parse(raw)
    } catch {
      record.body = undefined
    }
    if (isChat) arrived++
    for (const wake of waiters) wake()
    const x: Exchange<O> = {
      req,
      res,
      record,
      options: given,
      n,
      memory,
      fault: number === undefined ? undefined : faultFor(given.faults, number, record.body),
      isClosed: () => closed,
      strike: () => strike,
      cameUnder,
      struck: (phase) => {
        if (strike === undefined || hits.get(record) === strike) return
        hits.set(record, strike)
        given.onStruck?.(strike, phase, record)
      },
      restored: () => restoration,
      drop: (how) => {
        dropped = true
        if (how === "rst") socket.resetAndDestroy()
        else socket.destroy()
      }
    }
    underWay.add(x)
    res.on("close", () => underWay.delete(x))
    try {
      if (!(await answerStrike(x)) && !answerFault(x)) {
        const full = isChat && given.capacity !== undefined && active > given.capacity
        if (full) dialect.fail(x, { ollama: 503, openai: 429, anthropic: 529 }[dialect.protocol])
        else await dialect.handle(x)
      }
    } catch (error) {
      head(x, 500, { "content-type": "text/plain" })
      res.end(`fake server: ${error instanceof Error ? error.stack : String(error)}`)
    }
  }

  /** The strikes that need no knowledge of the answer. True where the request is over with it. */
  async function answerStrike(x: Exchange<O>): Promise<boolean> {
    if (x.cameUnder === undefined || x.cameUnder !== strike) return false
    switch (strike.kind) {
      case "stall":
        x.struck("connect")
        await x.restored()
        return x.isClosed()
      case "status": {
        x.struck("connect")
        const { code, retryAfter } = strike
        dialect.fail(x, code, retryAfter === undefined ? {} : { "retry-after": String(retryAfter) })
        return true
      }
      case "garbage":
        x.struck("connect")
        garbage(x)
        return true
      case "notFound":
        // Its list says otherwise, as where a model was removed after it was listed.
        if (x.record.kind !== "chat") return false
        x.struck("connect")
        dialect.modelNotFound(x)
        return true
      default:
        return false
    }
  }

  /** The faults that need no knowledge of the answer. */
  function answerFault(x: Exchange<O>): boolean {
    const fault = x.fault
    switch (fault?.kind) {
      case "refuse":
        void refuse()
        x.drop("rst")
        return true
      case "reset":
        x.drop("rst")
        return true
      case "hang":
        return true
      case "status": {
        const headers = {
          ...fault.headers,
          ...(fault.retryAfter === undefined ? {} : { "retry-after": String(fault.retryAfter) })
        }
        if (fault.then !== undefined) {
          const text = JSON.stringify({ error: "try again later" })
          head(x, fault.code, { "content-type": "application/json", "content-length": text.length, ...headers })
          x.res.write(text.slice(0, text.length >> 1), () => {
            if (fault.then === "reset") x.drop("rst")
          })
        } else if (fault.body === undefined) {
          dialect.fail(x, fault.code, headers)
        } else {
          const type = typeof fault.body === "string" ? "text/plain; charset=utf-8" : "application/json; charset=utf-8"
          head(x, fault.code, { "content-type": type, ...headers })
          x.res.end(typeof fault.body === "string" ? fault.body : JSON.stringify(fault.body))
        }
        return true
      }
      case "garbage":
        garbage(x)
        return true
      case "notFound":
        dialect.modelNotFound(x)
        return true
      case "empty":
        head(x, 200, { "content-type": dialect.protocol === "ollama" ? "application/x-ndjson" : "text/event-stream" })
        x.res.end()
        return true
      default:
        return false
    }
  }

  async function listen() {
    for (let tries = 0; ; tries++) {
      try {
        await new Promise<void>((resolve, reject) => {
          server.once("error", reject)
          server.listen(port, "127.0.0.1", () => {
            server.off("error", reject)
            resolve()
          })
        })
        port = (server.address() as AddressInfo).port
        return
      } catch (error) {
        if (tries > 40) throw error
        await new Promise((resolve) => setTimeout(resolve, 25))
      }
    }
  }

  /**
   * Stops listening (without `http.Server.close`, which destroys idle connections) and ends the idle connections.
   * Settles when their clients have closed them too, so that no client in this process has a dead one in its pool.
   */
  async function refuse() {
    refusing = true
    if (server.listening) NetServer.prototype.close.call(server)
    await Promise.all([...sockets].map(([socket, res]) => (isIdle(res) ? hangUp(socket) : undefined)))
  }

  async function stop() {
    stopped = true
    const gone = server.listening
      ? new Promise((resolve) => NetServer.prototype.close.call(server, resolve))
      : undefined
    const ended = [...sockets].map(([socket, res]) => {
      if (isIdle(res)) return hangUp(socket)
      const end = new Promise((resolve) => socket.once("close", resolve))
      socket.destroy()
      return end
    })
    await Promise.all([gone, ...ended])
  }

  /** As if its process were killed: nobody is told good-bye. */
  async function kill(how: "fin" | "rst") {
    stopped = true
    const gone = server.listening
      ? new Promise((resolve) => NetServer.prototype.close.call(server, resolve))
      : undefined
    for (const x of underWay) x.struck(phaseOf(x.record))
    for (const socket of sockets.keys()) {
      if (how === "rst") socket.resetAndDestroy()
      else socket.destroy()
    }
    await gone
  }

  await listen()
  if (refusesAlways(options.faults)) await refuse()

  return {
    url: `http://127.0.0.1:${port}`,
    port,
    protocol: dialect.protocol,
    get requests() {
      return requests
    },
    get chatRequests() {
      return requests.filter((request) => request.kind === "chat")
    },
    inFlight: () => active,
    get maxInFlight() {
      return maxInFlight
    },
    get connections() {
      return connections
    },
    waitForChats: (count) =>
      new Promise((resolve) => {
        const check = () => {
          if (arrived < count) return
          waiters.delete(check)
          resolve()
        }
        waiters.add(check)
        check()
      }),
    setBehaviour: async (patch) => {
      options = { ...options, ...patch }
      preload(patch.loaded)
      if ("reply" in patch) chats = 0
      if (!("faults" in patch)) return
      faultable = 0
      if (refusesAlways(options.faults)) {
        await refuse()
      } else if (refusing) {
        refusing = false
        if (!stopped) await listen()
      }
    },
    clear: () => {
      requests = []
      arrived = 0
      maxInFlight = active
    },
    strike: async (next) => {
      const before = strike
      strike = next
      restored()
      restoration = new Promise((resolve) => {
        restored = resolve
      })
      if (before?.kind === "kill") {
        memory.clear()
        stopped = false
        await listen()
      }
      if (next?.kind === "kill") await kill(next.how)
    },
    stop,
    restart: async () => {
      await stop()
      memory.clear()
      stopped = false
      refusing = false
      await listen()
      if (refusesAlways(options.faults)) await refuse()
    },
    [Symbol.asyncDispose]: stop
  }
}

function garbage(x: Exchange): void {
  head(x, 200, { "content-type": "text/html" })
  x.res.end("<html>\r\n<head><title>Welcome to nginx!</title></head>\r\n<body>It works.</body>\r\n</html>\r\n")
}

/** Where a request is: `tokensTotal` is known once its answer has begun. */
export const phaseOf = ({ tokensSent, tokensTotal }: RecordedRequest): Phase =>
  tokensSent === 0
    ? "first token"
    : tokensTotal !== undefined && tokensSent >= tokensTotal
      ? "last chunk"
      : "mid-stream"

const isIdle = (res: ServerResponse | undefined) => res === undefined || res.writableEnded

/** Ends a connection and waits for the other side to close it; not for long. */
const hangUp = (socket: Socket) =>
  new Promise<void>((resolve) => {
    const timer = setTimeout(() => socket.destroy(), 100)
    socket.once("close", () => {
      clearTimeout(timer)
      resolve()
    })
    socket.end()
  })

const covers = (on: FaultOn, kind: EndpointKind) =>
  on === "all" || on === kind || (on === "discovery" && kind === "tags")

const readBody = (req: IncomingMessage): Promise<string | undefined> =>
  new Promise((resolve) => {
    const parts: Array<Buffer> = []
    req.on("data", (part: Buffer) => parts.push(part))
    req.on("end", () => resolve(Buffer.concat(parts).toString("utf8")))
    req.on("error", () => resolve(undefined))
    req.on("close", () => resolve(undefined))
  })

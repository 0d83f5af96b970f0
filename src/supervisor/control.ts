/**
 * The control socket of the supervisor: HTTP over a unix socket that only its user may use. There is no other way to
 * stop it from outside but a signal.
 */
import { chmodSync, renameSync, rmSync } from "node:fs"
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http"
import { createConnection } from "node:net"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { InvalidRequest } from "../Errors.js"
import {
  decodeStartOptions,
  type Operation,
  OperationError,
  type PullTask,
  type StartError,
  type Status
} from "../LocalModels.js"
import type { Paths } from "./paths.js"

/** Longer bodies hold no request of ours, in bytes. */
const maxBody = 1024 * 1024

interface Body {
  readonly [name: string]: unknown
}

/** What the socket offers. */
export interface Operations {
  readonly status: Effect.Effect<Status>
  /** `lasting`: it outlives the gateway that had it started. */
  readonly start: (model: string, options: unknown, lasting: boolean) => Effect.Effect<string, StartError>
  /** Whether it ran. */
  readonly stop: (model: string) => Effect.Effect<boolean>
  readonly want: (model: string) => Effect.Effect<void>
  readonly touch: (model: string) => Effect.Effect<void>
  /** Reads the store again. */
  readonly refresh: Effect.Effect<void>
  readonly shutdown: Effect.Effect<void>
  /** What gateways have done; the names are those of `Operation`. */
  readonly run: { readonly [name in Operation]: (body: Body) => Effect.Effect<unknown, OperationError> }
  /** Tells what happens from now on; returns what ends that. */
  readonly follow: (id: string, tell: (event: Event) => void) => () => void
  /** A follower goes. Whether the supervisor ends with it. */
  readonly leave: (id: string) => boolean
}

/** What followers receive, at the start and at each change: the models and the downloads. */
export type Event =
  | { readonly type: "models"; readonly models: Status["models"] }
  | { readonly type: "task"; readonly task: PullTask }

/** Checks the options of a start. */
export const checked = (options: unknown) =>
  decodeStartOptions(typeof options === "object" && options !== null ? options : {})

const encodeError = Schema.encodeSync(OperationError)

const bodyOf = (request: IncomingMessage): Promise<{ readonly [name: string]: unknown }> =>
  new Promise((resolve, reject) => {
    const parts: Array<Buffer> = []
    let bytes = 0
    request.on("data", (part: Buffer) => {
      bytes += part.length
      if (bytes > maxBody) reject(new Error("the request is too long"))
      else parts.push(part)
    })
    request.on("error", reject)
    request.on("end", () => {
      try {
        const value: unknown = parts.length === 0 ? {} : JSON.parse(Buffer.concat(parts).toString("utf8"))
        resolve(typeof value === "object" && value !== null ? (value as { [name: string]: unknown }) : {})
      } catch (error) {
        reject(error)
      }
    })
  })

const answer = (response: ServerResponse, status: number, value: unknown): void => {
  if (response.destroyed) return
  response.writeHead(status, { "content-type": "application/json" })
  response.end(JSON.stringify(value))
}

/** One event a line, until either side ends it. */
const stream = (response: ServerResponse, { follow }: Operations, id: string): void => {
  response.writeHead(200, { "content-type": "application/x-ndjson" })
  const end = follow(id, (event) => {
    response.write(`${JSON.stringify(event)}\n`)
  })
  response.on("close", end)
}

const handler = (ready: () => Operations | undefined) => (request: IncomingMessage, response: ServerResponse) => {
  const serve = async () => {
    const body = await bodyOf(request)
    const operations = ready()
    if (operations === undefined) return answer(response, 503, { message: "the supervisor is starting" })
    const model = typeof body["model"] === "string" ? body["model"] : ""
    const respond = <A>(effect: Effect.Effect<A, OperationError>) => {
      const controller = new AbortController()
      response.once("close", () => controller.abort())
      return Effect.runPromiseExit(effect, { signal: controller.signal }).then((exit) => {
        if (Exit.isSuccess(exit)) return answer(response, 200, exit.value === undefined ? {} : exit.value)
        const error = Cause.failureOption(exit.cause)
        if (error._tag === "Some") return answer(response, 422, encodeError(error.value))
        return answer(response, 500, { message: Cause.pretty(exit.cause) })
      })
    }
    const operation = /^\/run\/(\w+)$/.exec(request.url ?? "")?.[1]
    if (request.method === "POST" && operation !== undefined && Object.hasOwn(operations.run, operation)) {
      return respond(operations.run[operation as Operation](body))
    }
    switch (`${request.method} ${request.url}`) {
      case "GET /status":
        return respond(operations.status)
      case "POST /start":
        if (model === "") return respond(new InvalidRequest({ field: "model", reason: "is missing" }))
        return respond(operations.start(model, body["options"], body["lasting"] !== false))
      case "POST /stop":
        return respond(Effect.map(operations.stop(model), (stopped) => ({ stopped })))
      case "POST /want":
        return respond(operations.want(model))
      case "POST /touch":
        return respond(operations.touch(model))
      case "POST /refresh":
        return respond(operations.refresh)
      case "POST /shutdown":
        return respond(operations.shutdown)
      case "POST /follow":
        return stream(response, operations, String(body["id"]))
      case "POST /leave":
        return answer(response, 200, { ends: operations.leave(String(body["id"])) })
      default:
        return answer(response, 404, { message: "there is no such operation" })
    }
  }
  serve().catch((error: unknown) => answer(response, 400, { message: String(error) }))
}

/** Whether anybody answers at a socket. */
export const isServed = (socket: string): Promise<boolean> =>
  new Promise((resolve) => {
    const connection = createConnection(socket)
    connection.once("connect", () => {
      connection.destroy()
      resolve(true)
    })
    connection.once("error", () => resolve(false))
  })

const listen = (server: Server, socket: string): Promise<NodeJS.ErrnoException | undefined> =>
  new Promise((resolve) => {
    // No other user may use it, not even until its mode is set.
    const mask = process.umask(0o077)
    const settled = (error?: NodeJS.ErrnoException) => {
      process.umask(mask)
      server.removeAllListeners("error")
      resolve(error)
    }
    server.once("error", settled)
    server.listen(socket, () => settled())
  })

/** Binds the socket: the one that holds it is the supervisor of this user. `false` if another one does. */
const bind = async (server: Server, socket: string): Promise<boolean> => {
  for (let attempt = 0; ; attempt++) {
    const error = await listen(server, socket)
    if (error === undefined) {
      if (process.platform !== "win32") chmodSync(socket, 0o600)
      return true
    }
    if (error.code !== "EADDRINUSE" || attempt > 5) throw error
    if (await isServed(socket)) return false
    // It was left behind. Another process may be about to do the same: whose it is, shows once it is out of the way.
    const aside = `${socket}.${process.pid}`
    try {
      renameSync(socket, aside)
    } catch {
      continue
    }
    if (await isServed(aside)) {
      renameSync(aside, socket)
      return false
    }
    rmSync(aside, { force: true })
  }
}

/**
 * Serves the control socket until the scope closes; `operations` are there once the supervisor has started. Fails if
 * there is another supervisor, or no socket can be made.
 */
export const serve = (
  paths: Paths,
  operations: () => Operations | undefined
): Effect.Effect<void, { readonly reason: string; readonly taken: boolean }, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.tryPromise({
      try: async () => {
        const server = createServer(handler(operations))
        return (await bind(server, paths.socket)) ? server : undefined
      },
      catch: (cause) => ({
        reason: `the control socket ${paths.socket} cannot be made: ${String(cause)}`,
        taken: false
      })
    }).pipe(
      Effect.flatMap((server) =>
        server === undefined
          ? Effect.fail({ reason: "a supervisor runs already", taken: true })
          : Effect.succeed(server)
      )
    ),
    (server) =>
      Effect.async<void>((resume) => {
        server.close(() => resume(Effect.void))
        server.closeAllConnections()
      })
  ).pipe(Effect.asVoid)

import { once } from "node:events"
import { connect } from "node:net"
import * as NodeContext from "@effect/platform-node/NodeContext"
import { type Cortex, Gateway } from "aicortex"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"

const run = async <A, E>(effect: Effect.Effect<A, E>): Promise<A> => {
  const exit = await Effect.runPromiseExit(effect)
  if (Exit.isSuccess(exit)) return exit.value
  throw Cause.squash(exit.cause)
}

/** A gateway on loopback, in this process. */
export interface TestGateway extends AsyncDisposable {
  readonly url: string
  readonly port: number
  readonly log: ReadonlyArray<string>
  readonly reload: () => Promise<void>
  readonly post: (path: string, body: unknown, init?: RequestInit) => Promise<Response>
  readonly get: (path: string, init?: RequestInit) => Promise<Response>
  readonly close: () => Promise<void>
}

/** Serves these servers on a free port; neither environment nor configuration file is read unless `cortex` says so. */
export const startGateway = async (
  servers: ReadonlyArray<string | { readonly url: string }>,
  gateway: Gateway.Options = {},
  options: Omit<Gateway.ServeOptions, "gateway"> = {}
): Promise<TestGateway> => {
  const log: Array<string> = []
  const scope = await run(Scope.make())
  const cortex: Cortex.Options = { servers, configFile: false, ...options.cortex }
  const running = await run(
    Gateway.serve({
      ...options,
      gateway: { port: 0, drain: 2_000, ...gateway },
      cortex,
      log: (text) => log.push(text)
    }).pipe(Effect.provide(NodeContext.layer), Scope.extend(scope))
  )
  const close = () => run(Scope.close(scope, Exit.void))
  const get = (path: string, init?: RequestInit) => fetch(`${running.url}${path}`, init)
  return {
    url: running.url,
    port: running.port,
    log,
    reload: () => run(running.reload),
    get,
    post: (path, body, init = {}) =>
      get(path, {
        method: "POST",
        ...init,
        headers: { "content-type": "application/json", ...init.headers },
        body: typeof body === "string" ? body : JSON.stringify(body)
      }),
    close,
    [Symbol.asyncDispose]: close
  }
}

/** Sends bytes as they are, and gives all that comes back until the connection closes or `until` is seen. */
export const rawRequest = async (
  port: number,
  bytes: string | Uint8Array | ReadonlyArray<string | Uint8Array>,
  until?: RegExp
): Promise<string> => {
  const socket = connect(port, "127.0.0.1")
  await once(socket, "connect")
  let text = ""
  socket.setEncoding("utf8")
  const done = new Promise<void>((resolve) => {
    socket.on("data", (part: string) => {
      text += part
      if (until?.test(text) === true) resolve()
    })
    socket.on("close", () => resolve())
    socket.on("error", () => resolve())
  })
  for (const part of Array.isArray(bytes) ? bytes : [bytes]) socket.write(part as string | Uint8Array)
  await done
  socket.destroy()
  return text
}

/** A POST as raw HTTP/1.1, whose connection closes after the answer. */
export const rawPost = (path: string, body: string): string =>
  `POST ${path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n` +
  `content-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`

/** The body of a chunked response. */
export const unchunk = (response: string): string => {
  let rest = response.slice(response.indexOf("\r\n\r\n") + 4)
  let body = ""
  for (;;) {
    const end = rest.indexOf("\r\n")
    const size = Number.parseInt(rest.slice(0, end), 16)
    if (!(size > 0)) return body
    // Sizes are in bytes; what tests send is ASCII.
    body += rest.slice(end + 2, end + 2 + size)
    rest = rest.slice(end + 2 + size + 2)
  }
}

/** Waits until something is so. */
export const eventually = async (condition: () => boolean | Promise<boolean>, what: string): Promise<void> => {
  // Within the time limit of a test, which then says what did not happen.
  const until = performance.now() + 60_000
  while (performance.now() < until) {
    if (await condition()) return
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  throw new Error(`never happened: ${what}`)
}

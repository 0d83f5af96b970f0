import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"

/** A request that a registry host got. */
export interface HostRequest {
  readonly path: string
  readonly headers: IncomingHttpHeaders
}

/** A host of registries: answers as it is told, and records what it is asked. */
export interface RegistryHost extends AsyncDisposable {
  readonly url: string
  readonly requests: ReadonlyArray<HostRequest>
  /** How the next requests are answered. */
  readonly answers: (answer: (request: HostRequest, response: ServerResponse) => void) => void
  /** Answers with this content and an entity tag, and with 304 to whoever has it. */
  readonly holds: (text: string, etag?: string) => void
  /** Settles when so many requests have come in all. */
  readonly asked: (count: number) => Promise<void>
  /** Stops listening, and destroys every connection. */
  readonly stop: () => Promise<void>
}

export const startRegistryHost = async (): Promise<RegistryHost> => {
  const requests: Array<HostRequest> = []
  const waiting = new Set<{ readonly count: number; readonly go: () => void }>()
  let answer = (_: HostRequest, response: ServerResponse): void => {
    response.writeHead(404).end()
  }
  const server = createServer((request, response) => {
    const one = { path: request.url ?? "", headers: request.headers }
    requests.push(one)
    answer(one, response)
    for (const wait of waiting) if (requests.length >= wait.count) wait.go()
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const stop = () =>
    new Promise<void>((resolve) => {
      server.closeAllConnections()
      server.close(() => resolve())
    })
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    answers: (next) => {
      answer = next
    },
    holds: (text, etag = `"${text.length}"`) => {
      answer = ({ headers }, response) => {
        if (headers["if-none-match"] === etag) response.writeHead(304).end()
        else response.writeHead(200, { etag, "content-type": "application/json" }).end(text)
      }
    },
    asked: (count) =>
      requests.length >= count
        ? Promise.resolve()
        : new Promise((resolve) => waiting.add({ count, go: () => resolve() })),
    stop,
    [Symbol.asyncDispose]: stop
  }
}

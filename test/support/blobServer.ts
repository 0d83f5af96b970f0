import { createHash } from "node:crypto"
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"

/** As much of an Ollama server as makes models of files. */
export interface BlobServer extends AsyncDisposable {
  readonly url: string
  /** Method and path of each request about files and models, in their order. */
  readonly requests: ReadonlyArray<string>
  /** The digests of the files that it has. */
  readonly files: Set<string>
  /** The bodies of `/api/create`. */
  readonly created: ReadonlyArray<unknown>
  /** How many bytes of files it has read. */
  readonly received: () => number
  /** The headers of the last upload. */
  readonly headers: () => IncomingMessage["headers"]
  /** Settles when an upload is given up by the other side. */
  readonly aborted: Promise<void>
}

/** `read` is awaited between two pieces of a file; `answer` takes the place of the answer to an upload. */
export const startBlobServer = async (
  options: {
    readonly read?: () => Promise<unknown>
    readonly answer?: (request: IncomingMessage, response: ServerResponse) => void
  } = {}
): Promise<BlobServer> => {
  const requests: Array<string> = []
  const created: Array<unknown> = []
  const files = new Set<string>()
  let received = 0
  let headers: IncomingMessage["headers"] = {}
  let gone = () => {}
  const aborted = new Promise<void>((resolve) => {
    gone = resolve
  })
  const json = (response: ServerResponse, status: number, value: object) =>
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value))

  const upload = async (request: IncomingMessage, response: ServerResponse, digest: string) => {
    headers = request.headers
    if (options.answer !== undefined) return options.answer(request, response)
    if (files.has(digest)) return void response.writeHead(200).end()
    const hash = createHash("sha256")
    try {
      for await (const part of request as AsyncIterable<Buffer>) {
        hash.update(part)
        received += part.length
        await options.read?.()
      }
    } catch {
      gone()
      return
    }
    const got = `sha256:${hash.digest("hex")}`
    if (got !== digest) return json(response, 400, { error: `digest mismatch, expected "${digest}", got "${got}"` })
    files.add(digest)
    response.writeHead(201).end()
  }

  const server = createServer({ requestTimeout: 0 }, (request, response) => {
    const path = request.url ?? ""
    const [, digest] = /^\/api\/blobs\/(.+)$/.exec(path) ?? []
    if (digest !== undefined || path === "/api/create") requests.push(`${request.method} ${path}`)
    if (digest !== undefined && request.method === "HEAD") {
      response.writeHead(files.has(digest) ? 200 : 404).end()
    } else if (digest !== undefined) {
      void upload(request, response, digest)
    } else if (path === "/api/create") {
      let text = ""
      request.on("data", (part) => {
        text += part
      })
      request.on("end", () => {
        const body = JSON.parse(text)
        created.push(body)
        const missing = Object.values(body.files ?? {}).some((one) => !files.has(String(one)))
        response.writeHead(200, { "content-type": "application/x-ndjson" })
        response.end(
          missing
            ? `${JSON.stringify({ error: "file does not exist" })}\n`
            : `${JSON.stringify({ status: "writing manifest" })}\n${JSON.stringify({ status: "success" })}\n`
        )
      })
    } else if (path === "/api/tags") json(response, 200, { models: [{ name: "base:latest", model: "base:latest" }] })
    else if (path === "/api/version") json(response, 200, { version: "0.33.0" })
    else if (path === "/api/ps") json(response, 200, { models: [] })
    else response.writeHead(404, { "content-type": "text/plain" }).end("404 page not found")
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    files,
    created,
    received: () => received,
    headers: () => headers,
    aborted,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    }
  }
}

/** Manages the models of a server over Ollama's API: pull, create, push, copy, delete, lists, versions. */
import { isObject } from "../internal/isObject.js"
import { apiOf, type Server } from "../Server.js"
import type { Service as Transport } from "../Transport.js"
import { base, json, send, UpstreamFailed, type UpstreamRequest } from "./upstreamControl.js"

/** The fields of a JSON object. */
export interface Fields {
  readonly [name: string]: unknown
}

/** How long a download may stall, in milliseconds. */
export const stallTimeout = 300_000

/** Timeout of a list request, in milliseconds: a dead server must not delay the others. */
export const listTimeout = 3_000

/** Timeout of a removal or a copy, in milliseconds. */
export const changeTimeout = 60_000

const parse = (line: string): unknown => {
  try {
    return JSON.parse(line)
  } catch {
    return undefined
  }
}

/** A long operation: its path, body, progress callback and cancellation. */
export interface LongOperation extends Pick<UpstreamRequest, "body" | "stop"> {
  readonly path: "/api/pull" | "/api/create" | "/api/push"
  /** Called with each line of progress except the last and consecutive duplicates. */
  readonly progress: (line: Fields) => void
}

/**
 * Runs a long operation to its end. Rejects with `UpstreamFailed` if it fails, also in the middle, if it stalls, or if
 * the server ends it without saying that it succeeded.
 */
export const follow = async (
  transport: Transport,
  server: Server,
  { body, path, progress, stop }: LongOperation
): Promise<void> => {
  let last = ""
  let succeeded = false
  await send(transport, server, {
    method: "POST",
    path,
    body: { ...body, stream: true },
    timeout: stallTimeout,
    stop,
    line: (line) => {
      const item = parse(line)
      if (!isObject(item)) return
      if (item["error"] !== undefined) {
        throw new UpstreamFailed({ reason: "server-error", status: 500, message: String(item["error"]) })
      }
      if (item["status"] === "success") succeeded = true
      else if (line !== last) progress(item)
      last = line
    }
  })
  if (!succeeded) throw new UpstreamFailed({ reason: "cut", message: "the server stopped too early" })
}

/** Removes a model from a server. */
export const remove = (transport: Transport, server: Server, model: string): Promise<unknown> =>
  send(transport, server, { method: "DELETE", path: "/api/delete", body: { model }, timeout: changeTimeout })

const listOf = (body: Fields): ReadonlyArray<Fields> =>
  (Array.isArray(body["models"]) ? (body["models"] as ReadonlyArray<unknown>) : []).filter(isObject)

/** The servers to query: only Ollama has such lists. */
export interface Listed {
  readonly server: Server
  readonly ollama: boolean
}

/**
 * Queries every Ollama server for a list: `/api/tags` (its models) or `/api/ps` (the loaded ones). A server that fails has
 * a `problem` instead of `models`; servers of other protocols are not queried and have neither.
 */
export const listAll = <K extends Listed>(transport: Transport, all: ReadonlyArray<K>, path: "/api/tags" | "/api/ps") =>
  Promise.all(
    all.map(async (known) => {
      if (!known.ollama) return { known, models: undefined, problem: undefined }
      try {
        const body = await json(transport, known.server, { method: "GET", path, timeout: listTimeout })
        return { known, models: listOf(body), problem: undefined }
      } catch (error) {
        if (error instanceof UpstreamFailed) return { known, models: undefined, problem: error.message }
        throw error
      }
    })
  )

/** A server's description of a model (`/api/show`); `body` names it and may have more fields. */
export const show = (transport: Transport, server: Server, body: Fields): Promise<Fields> =>
  json(transport, server, { method: "POST", path: "/api/show", body, timeout: listTimeout })

/** The version of an Ollama server; `undefined` if it does not report one. */
export const version = async (transport: Transport, server: Server): Promise<string | undefined> => {
  try {
    const body = await json(transport, server, { method: "GET", path: "/api/version", timeout: listTimeout })
    return typeof body["version"] === "string" ? body["version"] : undefined
  } catch (error) {
    if (error instanceof UpstreamFailed) return undefined
    throw error
  }
}

/** The latency of a small request in milliseconds, and the server's version if its protocol reports it. */
export interface Measured {
  readonly latency: number | undefined
  readonly version: string | undefined
}

/** Measures a server with a request for its version (Ollama) or its list of models (others). */
export const measure = async (transport: Transport, { ollama, server }: Listed): Promise<Measured> => {
  const api = apiOf(server, server.protocol ?? "openai")
  const path = ollama ? "/api/version" : `${api.slice(base(server).length)}/models`
  const began = performance.now()
  try {
    const { text } = await send(transport, server, { method: "GET", path, timeout: listTimeout })
    const latency = performance.now() - began
    const body = ollama ? parse(text) : undefined
    const version = isObject(body) && typeof body["version"] === "string" ? body["version"] : undefined
    return { latency, version }
  } catch (error) {
    if (error instanceof UpstreamFailed) return { latency: undefined, version: undefined }
    throw error
  }
}

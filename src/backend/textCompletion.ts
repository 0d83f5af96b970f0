/** Text completion over HTTP: failures of servers that do not support it. */
import type { ServerFailure, Sink } from "../Backend.js"
import type { ChatRequest } from "../ChatRequest.js"
import * as Unsupported from "../internal/unsupported.js"
import type { Listener } from "./http.js"

const infill = /\b(suffix|insert|infill|fill[- ]in)/i
const chatModel = /\bchat model\b|chat\/completions/i

/**
 * The failure of a text completion. A server without the endpoint (`path`, if not every server has it), without suffix
 * support, or with a chat-only model is healthy and the request is valid: it only cannot do this, and the next one may.
 */
export const completionFailure = (
  { suffix }: ChatRequest,
  failure: ServerFailure,
  path: string | undefined
): ServerFailure => {
  const { message, status } = failure
  // An error reported inside an answer says nothing about support.
  if (status === undefined) return failure
  const unable = (reason: string): ServerFailure =>
    Unsupported.failure([{ field: suffix === undefined ? "raw" : "suffix", reason }])
  if (suffix !== undefined && status !== 404 && infill.test(message)) return unable(message)
  if (status === 501) return unable(message)
  if (path === undefined || (status !== 404 && status !== 405)) return failure
  if (chatModel.test(message)) return unable(message)
  return failure.reason === "model-not-found" ? failure : unable(`the server has no ${path} (${message})`)
}

/** Passes on the events of such a request. */
export class CompletionGuard implements Listener {
  readonly context: Sink["context"]

  constructor(
    private readonly sink: Listener,
    private readonly request: ChatRequest,
    private readonly path?: string
  ) {
    this.context = sink.context
  }

  connected(): void {
    this.sink.connected()
  }
  read(): void {
    this.sink.read()
  }
  flush(): void {
    this.sink.flush()
  }
  fail(failure: ServerFailure): void {
    this.sink.fail(completionFailure(this.request, failure, this.path))
  }
}

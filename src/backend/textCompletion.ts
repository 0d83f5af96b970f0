/**
 * A text that is gone on with or filled in, over HTTP: what it means where a server does not do that.
 *
 * @since 0.1.0
 */
import type { ServerFailure, Sink } from "../Backend.js"
import type { ChatRequest } from "../ChatRequest.js"
import type { Listener } from "./http.js"

const infill = /\b(suffix|insert|infill|fill[- ]in)/i
const chatModel = /\bchat model\b|chat\/completions/i

/**
 * The failure of a request that completes a text. That a server has no such endpoint (`path`, where it is one that not
 * every server has), knows no suffix, or has the model for chats only, says nothing of its health, of the model or of the
 * request: it cannot do this, and the next one may.
 *
 * @since 0.1.0
 * @category constructors
 */
export const completionFailure = (
  { suffix }: ChatRequest,
  failure: ServerFailure,
  path: string | undefined
): ServerFailure => {
  const { message, status } = failure
  // What a server reports inside its answer is no word about what it can do.
  if (status === undefined) return failure
  const unable = (words: string): ServerFailure => ({
    reason: "unsupported",
    message: `${suffix === undefined ? "raw" : "suffix"}: ${words}`
  })
  if (suffix !== undefined && status !== 404 && infill.test(message)) return unable(message)
  if (status === 501) return unable(message)
  if (path === undefined || (status !== 404 && status !== 405)) return failure
  if (chatModel.test(message)) return unable(message)
  return failure.reason === "model-not-found" ? failure : unable(`the server has no ${path} (${message})`)
}

/**
 * Passes on what becomes of such a request.
 *
 * @since 0.1.0
 * @category models
 */
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

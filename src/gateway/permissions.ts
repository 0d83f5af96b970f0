/**
 * Administrator rights: changing models on servers, and loading a model with other options or keeping it loaded longer
 * than others could wait.
 */
import type { IncomingMessage } from "node:http"
import type { ChatRequest } from "../ChatRequest.js"
import type { Settings } from "../config/gatewaySettings.js"
import * as Duration from "../internal/duration.js"
import { isLoopback } from "../server/address.js"
import * as ErrorResponse from "./http/errorResponse.js"

const forwardingHeaders = ["forwarded", "x-forwarded-for", "x-real-ip"] as const

/**
 * Without API keys, whether a request has administrator rights: only if it comes from this machine and not through a
 * proxy.
 */
export const isLocal = ({ headers, socket }: IncomingMessage): boolean =>
  isLoopback((socket.remoteAddress ?? "").replace(/^::ffff:/, "")) &&
  forwardingHeaders.every((name) => headers[name] === undefined)

/** The rejection of a request that only another key may send; `name` is the key's, if the gateway has keys. */
export const notAllowed = (name: string | undefined, managesModels: boolean): ErrorResponse.ErrorResponse => {
  const may = managesModels ? '"admin", or the role manage' : '"admin"'
  const message =
    name === undefined
      ? 'Without API keys, models and servers can be changed from this machine only. Give the gateway a key with "admin": true.'
      : `The API key '${name}' may not do this: it has no ${may}.`
  return ErrorResponse.make(403, message, "not_admin")
}

/** Ollama options that reload the model, which affects everybody. */
const loadOptions: ReadonlySet<string> = new Set([
  "num_gpu",
  "main_gpu",
  "num_thread",
  "num_batch",
  "use_mmap",
  "use_mlock",
  "low_vram",
  "numa",
  "f16_kv",
  "vocab_only"
])

const rejectDenied = (param: string, reason: string): never => {
  throw new ErrorResponse.RequestRejected(
    ErrorResponse.make(403, `'${param}' ${reason}: only a key with "admin" may ask for that.`, "not_admin", param)
  )
}

const milliseconds = (keepAlive: number | string): number =>
  typeof keepAlive === "number" ? keepAlive * 1_000 : (Duration.parse(keepAlive) ?? Number(keepAlive) * 1_000)

/** Rejects what a request that may not change models asks of a server's memory. */
export const check = (
  { maxContext, maxKeepAlive }: Pick<Settings, "maxContext" | "maxKeepAlive">,
  manages: boolean,
  { keepAlive, options }: Pick<ChatRequest, "keepAlive" | "options">
): void => {
  if (manages) return
  if (keepAlive !== undefined) {
    const requested = milliseconds(keepAlive)
    if (requested === 0) rejectDenied("keep_alive", "must not be 0, which unloads the model for everybody")
    if (requested < 0 || requested > maxKeepAlive) {
      rejectDenied("keep_alive", `must not be longer than ${maxKeepAlive / 1_000} s (gateway.maxKeepAlive)`)
    }
  }
  if (options === undefined) return
  for (const name in options) {
    if (loadOptions.has(name)) rejectDenied(`options.${name}`, "changes how the model is loaded for everybody")
  }
  const context = options["num_ctx"]
  if (typeof context === "number" && context > maxContext) {
    rejectDenied("options.num_ctx", `must not be more than ${maxContext} (gateway.maxContext)`)
  }
}

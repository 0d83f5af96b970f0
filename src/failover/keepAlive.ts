import type { ChatRequest } from "../ChatRequest.js"
import { defaultKeepAlive } from "../Fleet.js"
import * as Duration from "../internal/duration.js"

/**
 * How long a server will hold the model in memory after this request, in milliseconds. A duration is written as Ollama
 * reads it: seconds, `5m`, `1h30m`; below 0 is for ever.
 *
 * @internal
 */
export const keepAliveOf = ({ keepAlive }: Pick<ChatRequest, "keepAlive">): number => {
  if (keepAlive === undefined) return defaultKeepAlive
  if (typeof keepAlive === "number") return keepAlive < 0 ? Number.POSITIVE_INFINITY : keepAlive * 1_000
  const time = Duration.parse(keepAlive) ?? defaultKeepAlive
  return time < 0 ? Number.POSITIVE_INFINITY : time
}

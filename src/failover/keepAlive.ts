import type { ChatRequest } from "../ChatRequest.js"
import { defaultKeepAlive } from "../Fleet.js"
import * as Duration from "../internal/duration.js"

/**
 * How long a server keeps the model loaded after this request, in milliseconds. Durations are written as for Ollama:
 * seconds, `5m`, `1h30m`; negative means forever.
 *
 * @internal
 */
export const keepAliveOf = ({ keepAlive }: Pick<ChatRequest, "keepAlive">): number => {
  if (keepAlive === undefined) return defaultKeepAlive
  if (typeof keepAlive === "number") return keepAlive < 0 ? Number.POSITIVE_INFINITY : keepAlive * 1_000
  const time = Duration.parse(keepAlive) ?? defaultKeepAlive
  return time < 0 ? Number.POSITIVE_INFINITY : time
}

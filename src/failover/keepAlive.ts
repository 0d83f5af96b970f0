import type { ChatRequest } from "../ChatRequest.js"
import { defaultKeepAlive } from "../Fleet.js"

const units: { readonly [unit: string]: number } = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 }

/**
 * How long a server will hold the model in memory after this request, in milliseconds. A duration is written as Ollama
 * reads it: seconds, `5m`, `1h30m`; below 0 is for ever.
 *
 * @internal
 */
export const keepAliveOf = ({ keepAlive }: Pick<ChatRequest, "keepAlive">): number => {
  if (keepAlive === undefined) return defaultKeepAlive
  if (typeof keepAlive === "number") return keepAlive < 0 ? Number.POSITIVE_INFINITY : keepAlive * 1_000
  if (keepAlive.trim().startsWith("-")) return Number.POSITIVE_INFINITY
  let total = 0
  for (const [, amount, unit = "s"] of keepAlive.matchAll(/([\d.]+)(ms|s|m|h)?/g))
    total += Number(amount) * (units[unit] ?? 0)
  return total
}

/** Whether a model fits into the memory of the machine that it would run on. */
import * as Context from "effect/Context"
import type { ModelInfo } from "../Model.js"
import type { Host } from "../Server.js"
import { isLoopback } from "../server/address.js"

/**
 * How many bytes of memory a server on this machine could still use; `undefined` where that cannot be told, as in a
 * browser, which is the default. It is asked each time that a model is chosen.
 *
 * @since 0.2.0
 * @category tags
 */
export class LocalMemory extends Context.Reference<LocalMemory>()("aicortex/ModelSelection/LocalMemory", {
  defaultValue: (): (() => number | undefined) => () => undefined
}) {}

/** The memory that a model needs in addition to its weights: context and buffers. */
const overhead = 1.2

/**
 * How many bytes of this machine's memory a server needs to load a model; 0 where it runs on another machine, of which
 * nobody knows how much memory there is, or where its size is not known.
 */
export const memoryFor = ({ size }: ModelInfo, { protocol, server }: Host): number =>
  size === undefined || protocol !== "ollama" || !isLoopback(hostnameOf(server.url)) ? 0 : size * overhead

const hostnameOf = (url: string): string => (URL.canParse(url) ? new URL(url).hostname : "")

/** Bytes in words. */
export const gigabytes = (bytes: number): string => {
  const value = bytes / 1e9
  return `${value >= 10 ? Math.round(value) : value.toFixed(1)} GB`
}

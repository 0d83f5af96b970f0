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

/** What a model needs besides its weights: its context, and buffers. */
const overhead = 1.2

/**
 * Whether a model fits on a server that has not loaded it. Only of this machine is it known how much memory there is:
 * everywhere else it is assumed to.
 */
export const fits = ({ size }: ModelInfo, { server }: Host, available: number | undefined): boolean =>
  size === undefined || available === undefined || size * overhead <= available || !isLoopback(hostnameOf(server.url))

const hostnameOf = (url: string): string => (URL.canParse(url) ? new URL(url).hostname : "")

/**
 * The Promise facade for web pages: the same functions over your servers or a gateway, reached by `fetch`.
 *
 * ```ts
 * import { createCortex } from "aicortex/browser"
 *
 * const cortex = createCortex({ servers: ["http://gpu-1:11434"], model: "llama3.2:3b" })
 * for await (const event of await cortex.chat("Why is the sky blue?", { stream: true })) {
 *   if (event.type === "token") document.body.append(event.content)
 * }
 * ```
 *
 * Nothing comes from an environment or a file, and no server is asked that the page does not name. Servers must allow
 * the page: the failure `blocked` says how.
 *
 * @since 0.2.0
 */
import type * as Layer from "effect/Layer"
import * as Wiring from "./browser/wiring.js"
import { withoutNulls } from "./internal/optionSchemas.js"
import { type Cortex, cortexOver, Session } from "./promise/cortex.js"

export type { KeyValueStorage } from "./browser/store.js"
export { Session } from "./promise/cortex.js"
export * from "./promise/exports.js"
export type * from "./promise/localErrors.js"

/**
 * The settings of a fleet in a page: those of `aicortex/promise` that need no files. `registry` are addresses of registry
 * files.
 *
 * @since 0.2.0
 * @category models
 */
export interface CortexOptions extends Wiring.BrowserOptions {
  /** A layer of Effect that sets a tracer. Default: none. */
  readonly tracing?: Layer.Layer<never> | undefined
}

/**
 * A fleet of a page's own. An option that cannot be used, such as a file, makes every call reject with `InvalidConfig`.
 * Conversations are kept in memory.
 *
 * @example
 * import { createCortex } from "aicortex/browser"
 *
 * const cortex = createCortex({ servers: ["https://llm.example.com"], model: "auto" })
 * console.log(await cortex.chat("Hello!"))
 *
 * @since 0.2.0
 * @category constructors
 */
export const createCortex = (userOptions?: CortexOptions): Cortex => {
  const { tracing, ...options } = withoutNulls(userOptions ?? {})
  return cortexOver(Wiring.layer(options), tracing, Session)
}

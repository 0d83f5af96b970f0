/**
 * `_debug_render_only`: the prompt that a server would give its model. Only Ollama's servers tell it.
 *
 * @since 0.1.0
 */

import type { House } from "../../GatewayContext.js"
import type * as Fields from "../../http/body.js"
import { make, Refusal } from "../../http/errorResponse.js"
import type { Exchange } from "../../http/RequestContext.js"
import * as Rights from "../../permissions.js"
import type { Ask } from "../../pipeline/gatewayRequest.js"
import * as Selection from "../../pipeline/modelSelection.js"
import * as Control from "../../pipeline/upstreamControl.js"
import * as Lists from "./listings.js"
import { failed } from "./servers.js"

/** How long a server may take to render a prompt, in milliseconds: it may have to load the model first. */
const timeout = 120_000

/**
 * Asks an Ollama server for the prompt, and sends what it says.
 *
 * @since 0.1.0
 * @category handlers
 */
export const only = async (
  house: House,
  exchange: Exchange,
  ask: Ask,
  body: Fields.Fields,
  generates: boolean
): Promise<void> => {
  Rights.check(house.settings, exchange.admin, ask.request)
  const named = ask.model ?? Selection.defaultModel(house)
  const hosts = await house.library.run(house.library.locate(await Lists.meant(house, named))).result
  const host = hosts.find(({ protocol }) => protocol === "ollama")
  if (host === undefined) {
    throw new Refusal(
      make(
        400,
        `'_debug_render_only' is not supported: '${named}' is on no Ollama server, and no other tells the prompt`,
        "unsupported_parameter",
        "_debug_render_only"
      )
    )
  }
  try {
    const reply = await Control.json(house.library.transport, host.server, {
      method: "POST",
      path: generates ? "/api/generate" : "/api/chat",
      body: { ...body, model: host.model, stream: false },
      timeout,
      stop: (stop) => exchange.onLeave(stop)
    })
    exchange.headers["x-aicortex-server"] = house.labels.label(host.server.url)
    exchange.json({ ...reply, model: named })
  } catch (error) {
    throw error instanceof Control.ControlFailed ? new Refusal(failed(house, error)) : error
  }
}

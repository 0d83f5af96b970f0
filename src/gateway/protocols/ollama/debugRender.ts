/** `_debug_render_only`: the prompt as the server's chat template renders it. Only Ollama servers support it. */

import * as UpstreamControl from "../../../management/upstreamControl.js"
import type { GatewayContext } from "../../GatewayContext.js"
import type * as BodyFields from "../../http/body.js"
import { make, RequestRejected } from "../../http/errorResponse.js"
import type { RequestContext } from "../../http/RequestContext.js"
import * as ModelAccess from "../../keys/modelAccess.js"
import * as Permissions from "../../permissions.js"
import type { GatewayRequest } from "../../pipeline/gatewayRequest.js"
import * as ModelSelection from "../../pipeline/modelSelection.js"
import * as Listings from "./listings.js"
import { serverError } from "./servers.js"

/** Timeout for rendering a prompt, in milliseconds: the server may have to load the model first. */
const timeout = 120_000

/** Gets the rendered prompt from an Ollama server, and sends it. */
export const renderOnly = async (
  gateway: GatewayContext,
  context: RequestContext,
  gatewayRequest: GatewayRequest,
  body: BodyFields.Fields,
  generates: boolean
): Promise<void> => {
  Permissions.check(gateway.settings, context.manages, gatewayRequest.request)
  const named = gatewayRequest.model ?? ModelSelection.defaultModel(gateway)
  ModelAccess.check(gateway, context, named)
  const hosts = await gateway.library.run(gateway.library.locate(await Listings.resolveModel(gateway, named))).result
  const host = hosts.find(({ protocol }) => protocol === "ollama")
  if (host === undefined) {
    throw new RequestRejected(
      make(
        400,
        `'_debug_render_only' is not supported: '${named}' is on no Ollama server, and no other tells the prompt`,
        "unsupported_parameter",
        "_debug_render_only"
      )
    )
  }
  try {
    const reply = await UpstreamControl.json(gateway.library.transport, host.server, {
      method: "POST",
      path: generates ? "/api/generate" : "/api/chat",
      body: { ...body, model: host.model, stream: false },
      timeout,
      stop: (stop) => context.onDisconnect(stop)
    })
    context.headers["x-aicortex-server"] = gateway.labels.label(host.server.url)
    context.json({ ...reply, model: named })
  } catch (error) {
    throw error instanceof UpstreamControl.UpstreamFailed ? new RequestRejected(serverError(gateway, error)) : error
  }
}

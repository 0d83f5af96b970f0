/** Sends a request to the fleet and its answer to the client, complete or as a stream. */
import * as CallDefaults from "../../CallDefaults.js"
import { type ChatRequest, completes, defaults } from "../../ChatRequest.js"
import { InvalidRequest } from "../../Errors.js"
import * as Direct from "../../internal/direct.js"
import * as StructuredOutput from "../../StructuredOutput.js"
import type { GatewayContext } from "../GatewayContext.js"
import * as ErrorResponse from "../http/errorResponse.js"
import type { RequestContext } from "../http/RequestContext.js"
import * as ModelAccess from "../keys/modelAccess.js"
import * as Permissions from "../permissions.js"
import type { Codec } from "./codec.js"
import * as Complete from "./complete.js"
import { demandOf, type GatewayRequest } from "./gatewayRequest.js"
import * as ImageUrls from "./imageUrls.js"
import { candidates, requestedModel } from "./modelSelection.js"
import * as OptionNames from "./optionNames.js"
import { RequestExecution } from "./requestExecution.js"
import { Stream } from "./stream.js"

const reportFailure = ({ context, gateway, gatewayRequest }: RequestExecution, codec: Codec, error: unknown): void => {
  const errorResponse = ErrorResponse.fromError(error, gateway.labels, OptionNames.of(gatewayRequest))
  if (errorResponse.code === "internal_error") {
    gateway.log(`${context.id}: ${error instanceof Error ? error.stack : String(error)}`)
  }
  if (!context.headersSent) {
    delete context.headers["x-aicortex-session"]
    context.sendError(errorResponse)
    return
  }
  if (errorResponse.attempts !== undefined) context.record.attempts = errorResponse.attempts.length
  gateway.metrics.streamAborted()
  context.record.error = errorResponse.code ?? errorResponse.type
  context.end(codec.failure(context.forClient(errorResponse)))
}

/** A session has one answer per turn, as text. */
const checkSession = ({ n, prompts, request, session }: GatewayRequest): void => {
  if (session === undefined) return
  if (n > 1) ErrorResponse.reject("n", "must be 1 in a session")
  if (prompts !== undefined) ErrorResponse.reject("prompt", "must be one text in a session")
  if (request.format !== "text") ErrorResponse.reject("response_format", "cannot be JSON in a session")
  if (request.template !== undefined) ErrorResponse.reject("template", "cannot be used in a session")
  if (request.logprobs !== undefined) ErrorResponse.reject("logprobs", "cannot be told in a session")
  if (request.logitBias !== undefined) ErrorResponse.reject("logit_bias", "cannot be used in a session")
  if (completes(request)) {
    const name = request.raw === true ? "raw" : "suffix"
    const reason = `cannot be given together with ${name}: the model gets the text alone, without a chat template`
    throw new InvalidRequest({ field: "session", reason })
  }
}

/** A session that was begun for a request that failed holds nothing. */
const forgetSession = ({ library, log }: GatewayContext, { createdSession, id }: RequestContext): void => {
  if (createdSession === undefined) return
  library.run(library.sessions.remove(createdSession)).result.catch((error: unknown) => {
    log(
      `${id}: the session ${createdSession} was not removed: ${error instanceof Error ? error.message : String(error)}`
    )
  })
}

type Filled = { -readonly [K in keyof ChatRequest]: ChatRequest[K] }

/**
 * The request with the fleet's defaults where its client says nothing. Ollama's API
 * leaves to the server what neither names.
 */
const withDefaults = (
  { library }: GatewayContext,
  { protocol: surface }: RequestContext,
  gatewayRequest: GatewayRequest
): GatewayRequest => {
  const original = gatewayRequest.request
  const request = CallDefaults.forRequest(original, library.settings.defaults)
  if (surface !== "ollama") {
    // The request was decoded for this call only, so it is changed in place: a copy is the largest cost here.
    const filled: Filled = request
    if (filled.temperature === undefined) {
      filled.temperature = defaults.temperature
      filled.defaultTemperature = true
    }
    filled.topP ??= defaults.topP
  }
  return request === original ? gatewayRequest : { ...gatewayRequest, request, original }
}

/** Answers a request. */
export const dispatch = async (
  gateway: GatewayContext,
  context: RequestContext,
  received: GatewayRequest,
  codec: Codec
): Promise<void> => {
  const started = performance.now()
  const gatewayRequest = withDefaults(gateway, context, received)
  context.record.streamed = gatewayRequest.stream
  context.record.model = gatewayRequest.model
  const execution = new RequestExecution(gateway, context, gatewayRequest)
  const stream = gatewayRequest.stream ? new Stream(execution, codec) : undefined
  context.onDisconnect(() => {
    execution.stop()
    stream?.stop()
  })
  try {
    checkSession(gatewayRequest)
    if (!gateway.settings.privateImages) ImageUrls.check(gatewayRequest.request.messages)
    Permissions.check(gateway.settings, context.manages, received.request)
    const reserved = context.reserve(() => demandOf(gatewayRequest))
    if (reserved !== undefined) await reserved
    if (context.disconnected) return
    stream?.startHeartbeat()
    const { format, tools } = gatewayRequest.request
    const bound = { maxBytes: gateway.library.settings.maxSchemaBytes }
    for (const [i, { parameters }] of tools.entries()) {
      const wrong = StructuredOutput.checkSize(parameters, `tools[${i}].parameters`, bound)
      if (wrong !== undefined) throw wrong
    }
    if (format === "json") execution.decoder = StructuredOutput.any
    else if (format !== "text") execution.decoder = await execution.run(StructuredOutput.fromJsonSchema(format, bound))
    const found = candidates(gateway, gatewayRequest, context.private)
    const selected = Direct.valueOf(found) ?? (await execution.run(found))
    execution.candidates =
      context.models === undefined
        ? selected
        : ModelAccess.permitted(gateway, context, requestedModel(gateway, gatewayRequest), selected)
    context.ownTime += performance.now() - started
    if (stream === undefined) await Complete.sendComplete(execution, codec)
    else await stream.send()
  } catch (error) {
    // Cancels what is still running.
    execution.stop()
    forgetSession(gateway, context)
    if (context.disconnected) return
    reportFailure(execution, codec, error)
  } finally {
    stream?.stop()
  }
}

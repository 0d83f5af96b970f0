/**
 * Takes what was asked to the fleet, and what it answers to the client, whole or as it comes.
 *
 * @since 0.1.0
 */
import * as CallDefaults from "../../CallDefaults.js"
import { defaults } from "../../ChatRequest.js"
import * as Direct from "../../internal/direct.js"
import * as StructuredOutput from "../../StructuredOutput.js"
import type { House } from "../GatewayContext.js"
import * as Problem from "../http/errorResponse.js"
import type { Exchange } from "../http/RequestContext.js"
import * as Rights from "../permissions.js"
import type { Codec } from "./codec.js"
import * as Whole from "./complete.js"
import { type Ask, demandOf } from "./gatewayRequest.js"
import * as ImageUrls from "./imageUrls.js"
import { candidates } from "./modelSelection.js"
import { Errand } from "./requestExecution.js"
import { Stream } from "./stream.js"

const failed = ({ exchange, house }: Errand, codec: Codec, error: unknown): void => {
  const problem = Problem.of(error, house.labels)
  if (problem.code === "internal_error") {
    house.log(`${exchange.id}: ${error instanceof Error ? error.stack : String(error)}`)
  }
  if (!exchange.headSent) {
    exchange.problem(problem)
    return
  }
  if (problem.attempts !== undefined) exchange.account.attempts = problem.attempts.length
  house.metrics.streamBroke()
  exchange.account.error = problem.code ?? problem.type
  exchange.end(codec.failure(exchange.leaves(problem)))
}

/** A session goes on with one answer, and as a conversation does. */
const mayGoOn = ({ n, prompts, request, session }: Ask): void => {
  if (session === undefined) return
  if (n > 1) Problem.refuse("n", "must be 1 in a session")
  if (prompts !== undefined) Problem.refuse("prompt", "must be one text in a session")
  if (request.format !== "text") Problem.refuse("response_format", "cannot be JSON in a session")
}

/**
 * The request with the fleet's defaults where its client says nothing; in a session the library adds them. Ollama's API
 * leaves to the server what neither names.
 */
const complete = ({ library }: House, { surface }: Exchange, ask: Ask): Ask => {
  if (ask.session !== undefined) return ask
  const request = CallDefaults.forRequest(ask.request, library.settings.defaults)
  const own = request === ask.request ? ask : { ...ask, request, asked: ask.request }
  if (surface === "ollama" || (request.temperature !== undefined && request.topP !== undefined)) return own
  const { temperature = defaults.temperature, topP = defaults.topP } = request
  return { ...own, request: { ...request, temperature, topP } }
}

/**
 * Answers a request.
 *
 * @since 0.1.0
 * @category constructors
 */
export const relay = async (house: House, exchange: Exchange, asked: Ask, codec: Codec): Promise<void> => {
  const started = performance.now()
  const ask = complete(house, exchange, asked)
  const errand = new Errand(house, exchange, ask)
  const stream = ask.stream ? new Stream(errand, codec) : undefined
  exchange.account.streamed = ask.stream
  exchange.account.model = ask.model
  exchange.onLeave(() => {
    errand.stop()
    stream?.stop()
  })
  try {
    mayGoOn(ask)
    if (!house.settings.privateImages) ImageUrls.check(ask.request.messages)
    Rights.check(house.settings, exchange.admin, asked.request)
    const reserved = exchange.reserve(() => demandOf(ask))
    if (reserved !== undefined) await reserved
    if (exchange.left) return
    stream?.beat()
    const { format, tools } = ask.request
    const bound = { maxBytes: house.library.settings.maxSchemaBytes }
    for (const [i, { parameters }] of tools.entries()) {
      const wrong = StructuredOutput.checkSize(parameters, `tools[${i}].parameters`, bound)
      if (wrong !== undefined) throw wrong
    }
    if (format === "json") errand.decoder = StructuredOutput.any
    else if (format !== "text") errand.decoder = await errand.run(StructuredOutput.fromJsonSchema(format, bound))
    const found = candidates(house, ask)
    errand.models = Direct.valueOf(found) ?? (await errand.run(found))
    exchange.own += performance.now() - started
    if (stream === undefined) await Whole.answer(errand, codec)
    else await stream.answer()
  } catch (error) {
    // What runs on has nobody to run for.
    errand.stop()
    if (exchange.left) return
    failed(errand, codec, error)
  } finally {
    stream?.stop()
  }
}

/** Complete (non-streamed) answers. */
import { SchemaMismatch } from "../../Errors.js"
import type { Result } from "../../Failover.js"
import { addUsage } from "../../failover/usage.js"
import { tokensOf } from "../../modelSelection/needs.js"
import type * as StructuredOutput from "../../StructuredOutput.js"
import type { Codec, Counted } from "./codec.js"
import { choices } from "./gatewayRequest.js"
import { jsonOnly, mustMatchFormat } from "./jsonReply.js"
import { shown } from "./modelSelection.js"
import type { RequestExecution } from "./requestExecution.js"
import * as Warnings from "./warnings.js"

/** Estimates the tokens that a model has written from the length of the text. */
const estimatedTokens = ({ text, thinking, toolCalls }: Result): number =>
  tokensOf(text.length + thinking.length + (toolCalls.length === 0 ? 0 : JSON.stringify(toolCalls).length))

/** After JSON that does not match, the model answers again: both replies count as usage of this request. */
const withRepair = async (
  execution: RequestExecution,
  decoder: StructuredOutput.Decoder<unknown>,
  choice: number
): Promise<Result> => {
  const usageOf: Array<Counted> = []
  const counted = () => usageOf.reduce((before: Counted, one) => addUsage(before, one))
  try {
    const result = await execution.structured(choice, decoder, (reply) =>
      usageOf.push(execution.usage(choice, reply.usage, estimatedTokens(reply)))
    )
    const text = mustMatchFormat(result) || usageOf.length > 1 ? jsonOnly(result.text) : result.text
    return { ...result, text, ...(usageOf.length > 1 ? { usage: counted() } : {}) }
  } catch (error) {
    if (error instanceof SchemaMismatch && usageOf.length > 0) execution.countUsage(choice, counted())
    throw error
  }
}

const oneToolCall = (result: Result): Result =>
  result.toolCalls.length > 1 ? { ...result, toolCalls: result.toolCalls.slice(0, 1) } : result

const completeChoice = (execution: RequestExecution, choice: number): Result | Promise<Result> => {
  const { decoder } = execution
  return decoder === undefined ? execution.complete(choice) : withRepair(execution, decoder, choice)
}

/** Gets all answers, and sends them. */
export const sendComplete = async (execution: RequestExecution, codec: Codec): Promise<void> => {
  const { gatewayRequest, context, gateway } = execution
  const length = choices(gatewayRequest)
  const received =
    length === 1
      ? [await completeChoice(execution, 0)]
      : await Promise.all(Array.from({ length }, (_, choice) => completeChoice(execution, choice)))
  const all = gatewayRequest.oneTool ? received.map(oneToolCall) : received
  const [first] = all
  if (context.disconnected || first === undefined) return
  const started = performance.now()
  const { attempts, cached, model, server } = first
  execution.reportServer(0, server, attempts.length + 1, cached, attempts.at(-1)?.reason)
  context.record.model = model
  const { firstTokenTime, warnings } = first
  Warnings.tell(context, warnings)
  if (firstTokenTime !== undefined) {
    const before = cached || execution.openedAt === undefined ? 0 : execution.openedAt - context.began
    // The two clocks differ by up to a millisecond.
    context.record.firstToken = Math.min(before + firstTokenTime, started - context.began)
  }
  // A server may report the prompt tokens with only one of the answers.
  if (gatewayRequest.n > 1) all.forEach((result, choice) => execution.usage(choice, result.usage, 0))
  const answers = all.map((result, choice) => {
    const usage = execution.usage(choice, result.usage, estimatedTokens(result))
    execution.countUsage(choice, usage)
    return usage === result.usage ? result : { ...result, usage }
  })
  const body = codec.complete(shown(gateway, execution.candidate(0), model, server), answers)
  context.sendJson(typeof body === "string" ? body : await body)
  context.ownTime += performance.now() - started
}
